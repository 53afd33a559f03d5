"""What a map that is empty, noise, or of misread axes is said to be; and no false alarms."""

import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import CONV, NORM, conv_net, random_input
from torch import nn

import captum_3dcam
from captum_3dcam import (
    CounterfactualCAM,
    ExtentCAM,
    GlobalLocalCAM2D,
    Layer,
    LayerwiseEigenGradCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMElementWise,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseShapleyCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
    RivalCAM,
    frames_to_clip,
    tokens_to_grid,
)

METHODS = [
    LayerwiseGlobalLocalCAM,
    CounterfactualCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseXGradCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseGradCAMElementWise,
    LayerwiseShapleyCAM,
    LayerwiseEigenGradCAM,
    RivalCAM,
    ExtentCAM,
]
each_method = pytest.mark.parametrize("method", METHODS)

NO_GRADIENT = (
    "At layer '{}' the gradient is zero everywhere: the score does not depend on it there (a "
    "saturated softmax: explain the logits; a class that no position is predicted as; tokens of "
    "the last block beside the class token; a dead ReLU)"
)
NOTHING_FOR = (
    "At layer '{}' nothing speaks for the score (its gradient, weighed as this method does, is "
    "positive nowhere): see CounterfactualCAM, or explain another class"
)
NOTHING_AGAINST = (
    "At layer '{}' nothing speaks against the score (its gradient, weighed as this method does, is "
    "negative nowhere): see LayerwiseGlobalLocalCAM, or explain another class"
)
UNDER_POOLING = (
    "; it is constant over space, as before global average pooling, where the layer's map does not "
    "depend on the class: choose layers before it"
)
NOT_ACTIVE = (
    "At layer '{}' the sum of the activation over channels is positive nowhere: take the layer "
    "after its ReLU"
)
NOWHERE_TOGETHER = (
    "At layer '{}' the factors of the map are positive, but nowhere together, or not with other "
    "layers'"
)
TRAINING = " The model is in train mode; call model.eval() to explain it as it predicts."


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught]


def no_map(samples, *reasons, training=False):
    return (
        f"The map of sample(s) {samples} is zero everywhere. {'; '.join(reasons)}."
        f"{TRAINING if training else ''}"
    )


def pooled_net(weights, rank=2):
    """Rectified channels, global average pooling, and a linear layer: scores (N, rows)."""
    head = nn.Linear(2, len(weights), bias=False)
    head.weight.data = torch.tensor(weights)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), pool, head).eval()


X = random_input(2, (8, 8))


# ---------------------------------------------------------------------------- maps that are empty


@each_method
def test_a_saturated_softmax_has_no_gradient(method):
    net = conv_net(2)
    saturated = nn.Sequential(net, Times(1e6), nn.Softmax(1)).eval()
    cam = method(saturated, ["0.0", "0.1"])
    said = warnings_of(lambda: cam.attribute(X))
    assert said == [no_map("0, 1", NO_GRADIENT.format("0.0"), NO_GRADIENT.format("0.1"))]
    assert not warnings_of(lambda: cam.attribute_with_output(X))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@each_method
def test_a_class_that_no_position_of_a_sample_is_predicted_as(method):
    """Only that sample is named, and its reason is its own."""
    net = nn.Sequential(conv_net(2)[0], nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())
    x = random_input(3, (8, 8))

    class Segmentation(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            y = self.net(x)
            offset = torch.zeros(3, 3, 1, 1)
            offset[1, 0] = -5
            return y + offset

    said = warnings_of(lambda: method(Segmentation().eval(), "net.0").attribute(x, target=0))
    assert [message for message in said if "sample(s) 1 " in message] == [
        no_map("1", NO_GRADIENT.format("net.0"))
    ]
    assert NO_GRADIENT.format("net.0") not in "".join(m for m in said if "sample(s) 1 " not in m)


class LastBlock(nn.Module):
    """Patches beside a class token, of which alone the scores are read."""

    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(2, 6, 2, stride=2), nn.Parameter(torch.randn(1, 1, 6))
        self.fc, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        return self.head(self.fc(tokens).relu()[:, 0])


@pytest.mark.parametrize("grid", [{"layout": "N L C"}, {"reshape": tokens_to_grid((4, 4), 1)}])
@each_method
def test_the_last_block_of_a_class_token(method, grid):
    cam = method(LastBlock().eval(), Layer("fc", **grid))
    said = warnings_of(lambda: cam.attribute(X, target=1))
    assert said == [no_map("0, 1", NO_GRADIENT.format("fc"))]


def test_nothing_speaks_for_a_class_and_nothing_against_another():
    """Both under global average pooling, where the gradient is constant over space."""
    net = pooled_net([[1.0, 0.5], [-1.0, -0.5]])
    for method, target, reason in (
        (LayerwiseGlobalLocalCAM, 1, NOTHING_FOR + UNDER_POOLING),
        (LayerwiseGradCAM, 1, NOTHING_FOR),
        (LayerwiseHiResCAM, 1, NOTHING_FOR),
        (LayerwiseLayerCAM, 1, NOTHING_FOR),
        (CounterfactualCAM, 0, NOTHING_AGAINST + UNDER_POOLING),
    ):
        said = warnings_of(lambda m=method, t=target: m(net, "1").attribute(X, target=t))
        assert said == [no_map("0, 1", reason.format("1"))], method
        assert not warnings_of(lambda m=method, t=target: m(net, "1").attribute(X, target=1 - t))


def test_a_gradient_that_varies_is_not_said_to_be_constant():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)).eval()
    net[3].weight.data = -net[3].weight.data.abs()
    said = warnings_of(lambda: LayerwiseGlobalLocalCAM(net, "1").attribute(X, target=0))
    assert said == [no_map("0, 1", NOTHING_FOR.format("1"))]


def test_a_layer_without_differences_is_not_said_to_be_pooled():
    net = pooled_net([[1.0, 0.5]])
    net[0].weight.data.zero_()
    net[0].bias.data.uniform_(0.1, 1)
    said = warnings_of(lambda: LayerwiseWhatWhereCAM(net, "1").attribute(X, target=0))
    assert said == [no_map("0, 1", NOTHING_FOR.format("1"))]


def test_an_activation_that_is_positive_nowhere():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(108, 2)).eval()
    net[0].bias.data.fill_(-10)
    net[3].weight.data.abs_()
    said = warnings_of(lambda: LayerwiseGlobalLocalCAM(net, "0").attribute(X, target=0))
    assert said == [no_map("0, 1", NOT_ACTIVE.format("0"))]
    assert not warnings_of(lambda: LayerwiseGlobalLocalCAM(net, "1").attribute(X, target=0))


LEFT = (torch.arange(8) < 4).float()


def test_factors_that_do_not_meet():
    """The activation is positive in one half of the image, its gradient in the other."""
    layer = nn.Identity().eval()

    def forward_func(x):
        return (layer(x.abs() * (2 * LEFT - 1)) * (1 - 2 * LEFT)).sum((1, 2, 3))

    cam = LayerwiseGlobalLocalCAM(forward_func, layer, interpolate_mode="nearest")
    said = warnings_of(lambda: cam.attribute(X))
    assert said == [no_map("0, 1", NOWHERE_TOGETHER.format("layers[0] (Identity)"))]


def test_layers_that_have_no_position_in_common():
    layers = [nn.Identity().eval(), nn.Identity().eval()]

    def forward_func(x):
        return (layers[0](x.abs()) * LEFT + layers[1](x.abs()) * (1 - LEFT)).sum((1, 2, 3))

    cam = LayerwiseLayerCAM(forward_func, layers, fusion="product")
    said = warnings_of(lambda: cam.attribute(X))
    names = ["layers[0] (Identity)", "layers[1] (Identity)"]
    assert said == [no_map("0, 1", *map(NOWHERE_TOGETHER.format, names))]
    assert not warnings_of(lambda: cam.attribute(X, per_layer=True))


def test_samples_that_differ_have_reasons_of_their_own():
    """The first has a map, the second no gradient, the third nothing for the score."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()).eval()

    def forward_func(x):
        return net(x).sum((1, 2, 3)) * torch.tensor([1.0, 0.0, -1.0])

    cam = LayerwiseHiResCAM(forward_func, net[1])
    said = warnings_of(lambda: cam.attribute(random_input(3, (8, 8))))
    name = "layers[0] (ReLU)"
    assert said == [no_map("1", NO_GRADIENT.format(name)), no_map("2", NOTHING_FOR.format(name))]


def test_train_mode_is_told_of_a_map_that_is_empty():
    net = pooled_net([[1.0, 0.5], [-1.0, -0.5]]).train()
    said = warnings_of(lambda: LayerwiseGradCAM(net, "1").attribute(X, target=1))
    assert said == [no_map("0, 1", NOTHING_FOR.format("1"), training=True)]
    net[2].eval()
    assert TRAINING in warnings_of(lambda: LayerwiseGradCAM(net, "1").attribute(X, target=1))[0]
    assert not warnings_of(lambda: LayerwiseGradCAM(net, "1").attribute(X, target=0))


def test_of_several_classes_each_empty_map_is_told_once():
    net = pooled_net([[1.0, 0.5], [-1.0, -0.5], [-2.0, -1.0]])
    cam = LayerwiseGradCAM(net, "1")
    expected = [no_map("0, 1", NOTHING_FOR.format("1"))]
    assert warnings_of(lambda: cam.attribute_classes(X, [0, 1, 2])) == expected
    assert warnings_of(lambda: cam.attribute_top_k(X, 3)) == expected


def test_one_layer_of_several_may_be_empty():
    net = pooled_net([[1.0, 0.5], [-1.0, -0.5]])
    cam = LayerwiseGradCAM(net, ["0", "1"])
    maps = cam.attribute(X, target=1, per_layer=True)
    assert maps[0].any()
    assert not maps[1].any()
    assert not warnings_of(lambda: cam.attribute(X, target=1))


# --------------------------------------------------------------------------- numbers too large


@each_method
@pytest.mark.parametrize("scale", [1e10, 1e18, 1e19, 1e20])
def test_products_of_finite_numbers_are_finite_or_an_error(method, scale):
    net = pooled_net([[1.0, 1.0]])
    net[0].weight.data = net[0].weight.data.abs() * scale
    net[3].weight.data *= scale
    x, attribution, message = X.abs(), None, ""
    try:
        attribution = method(net, "1").attribute(x, target=0)
    except RuntimeError as error:
        message = str(error)
    if attribution is None:
        assert scale > 1e18
        assert message == (
            "NaN or Inf in the map, though activations and gradients are finite: their products "
            "are too large for the precision. Explain the model in double precision, or scale its "
            "input or score down."
        )
    else:
        expected = method(net.double(), "1").attribute(x.double(), target=0)
        torch.testing.assert_close(attribution.double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-15, 1e-24])
def test_products_that_are_too_small_are_told_from_a_score_that_does_not_depend(scale):
    net = pooled_net([[1.0, 1.0]])
    net[0].weight.data = net[0].weight.data.abs() * scale
    net[0].bias.data.zero_()
    net[3].weight.data *= scale
    caught = warnings_of(lambda: LayerwiseHiResCAM(net, "1").attribute(X.abs(), target=0))
    if scale == 1e-15:
        assert not caught
    else:
        assert "its products are too small for the precision: explain the model" in caught[-1]


class NoDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize("layer_input", [False, True])
def test_an_undefined_gradient_is_an_error(layer_input):
    net = conv_net(2)

    def forward_func(x):
        return net[1:](NoDerivative.apply(net[0](x)))

    cam = GlobalLocalCAM2D(forward_func, net[0])
    with pytest.raises(RuntimeError, match="does not reach the score: the model detaches it"):
        cam.attribute(X, attribute_to_layer_input=layer_input)
    layers = [net[0], net[1]]
    with pytest.raises(RuntimeError, match=r"layer\(s\) 'layers\[0\] \(Sequential\)' does not"):
        GlobalLocalCAM2D(forward_func, layers).attribute(X)


# ------------------------------------------------------------- gradients that are truly zero


class ConstantScore(nn.Module):
    """The mean of what an instance normalisation returns is its bias, whatever the input."""

    def __init__(self, bias=1.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.head = nn.InstanceNorm2d(8, affine=True), nn.Linear(8, 5)
        nn.init.normal_(self.norm.bias, std=bias)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class Branch(nn.Module):
    """A layer of little influence on a large score, as at the initial values of a ConvNeXt."""

    def __init__(self, scale, bias=100.0):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.scale, self.bias, self.head = scale, bias, nn.Linear(8, 5)

    def forward(self, x):
        y = self.stem(x).relu()
        return self.head((y + self.scale * self.conv(y).relu()).mean((2, 3))) + self.bias


CANCELS = "At layer 'conv' the sum of the {} cancels, so its map is zero or rounding noise."
NOISE = (
    "is rounding noise, and so is the map: the gradient is another one if the last digits of the "
    "input are. The score does not depend on the layer there."
)


@each_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_only_rounding_leaves(method, dtype):
    for seed in range(3):
        torch.manual_seed(seed)
        net, x = ConstantScore().to(dtype).eval(), torch.rand(3, 3, 16, 16, dtype=dtype)
        said = warnings_of(lambda: method(net, "conv").attribute(x, target=0))  # noqa: B023
        cancels = CANCELS.format("gradient over positions")  # Grad-CAM's weights, beforehand
        assert any(cancels in each or (NOISE in each and "'conv'" in each) for each in said)


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
@each_method
def test_a_small_gradient_is_no_noise(method, scale):
    torch.manual_seed(0)
    net, x = Branch(scale).eval(), torch.rand(3, 3, 16, 16)
    said = warnings_of(lambda: method(net, "conv").attribute(x, target=0))
    assert not [message for message in said if "noise" in message]


def test_a_layer_of_influence_is_not_explained_again():
    calls = []
    net = Branch(1.0, bias=0.0).eval()
    net.stem.register_forward_hook(lambda *given: calls.append(1))
    LayerwiseGlobalLocalCAM(net, "conv").attribute(torch.rand(3, 3, 16, 16), target=0)
    assert len(calls) == 1


def test_the_gradient_of_a_network_in_train_mode_may_change():
    """Its dropout draws again in each run."""
    net = nn.Sequential(Branch(1e-9), nn.Dropout(0.9)).train()
    said = warnings_of(
        lambda: LayerwiseGradCAM(net, "0.conv").attribute(torch.rand(3, 3, 16, 16), 0)
    )
    assert not [message for message in said if "noise" in message]


# ------------------------------------------------------------------------ sums that cancel


class BeforeNorm(nn.Module):
    """A convolution that only a normalisation reads, over channels or over positions."""

    def __init__(self, norm, scale):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 16, 3), nn.Linear(16, 4)
        self.conv.weight.data *= scale
        self.norm = nn.LayerNorm(16) if norm == "layer" else nn.InstanceNorm2d(16)

    def forward(self, x):
        x = self.conv(x)
        if isinstance(self.norm, nn.LayerNorm):
            x = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        else:
            x = self.norm(x)
        return self.fc(x.relu().mean((2, 3)))


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("norm", "method", "sums"),
    [
        ("layer", LayerwiseGlobalLocalCAM, "gradient over channels"),
        ("layer", CounterfactualCAM, "gradient over channels"),
        ("instance", LayerwiseGradCAM, "gradient over positions"),
    ],
)
def test_a_normalisation_cancels_the_gradient_of_what_it_reads(norm, method, sums, dtype, scale):
    model, x = BeforeNorm(norm, scale).eval().to(dtype), random_input(2, (9, 9)).to(dtype)
    said = warnings_of(lambda: method(model, "conv").attribute(x, target=0))
    assert any(message.startswith(CANCELS.format(sums)) for message in said)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("norm", "method", "sums"),
    [
        ("layer", LayerwiseHiResCAM, "gradient times activation over channels"),
        ("instance", LayerwiseXGradCAM, "gradient times activation over positions"),
    ],
)
def test_a_normalisation_cancels_the_products_too(norm, method, sums, dtype):
    """Where its epsilon is small beside the variance: it does not depend on the scale either."""
    model, x = BeforeNorm(norm, 300.0).eval().to(dtype), random_input(2, (9, 9)).to(dtype)
    model.norm.eps = 0.0
    said = warnings_of(lambda: method(model, "conv").attribute(x, target=0))
    assert any(message.startswith(CANCELS.format(sums)) for message in said)


@pytest.mark.parametrize(
    ("norm", "method"),
    [
        ("layer", LayerwiseGradCAM),
        ("layer", LayerwiseLayerCAM),
        ("layer", LayerwiseWhatWhereCAM),
        ("instance", LayerwiseGlobalLocalCAM),
        ("instance", LayerwiseHiResCAM),
        ("instance", LayerwiseWhatWhereCAM),
    ],
)
def test_other_sums_do_not_cancel(norm, method):
    model = BeforeNorm(norm, 1.0).eval()
    said = warnings_of(lambda: method(model, "conv").attribute(random_input(2, (9, 9)), target=0))
    assert not [message for message in said if "cancels" in message]


class ResidualNet(nn.Module):
    def __init__(self, rank, width=8, classes=5):
        super().__init__()
        conv, norm = CONV[rank], NORM[rank]
        self.stem = nn.Sequential(conv(2, width, 3, 2, 1), norm(width), nn.ReLU())
        self.blocks, self.skips = nn.ModuleList(), nn.ModuleList()
        for level in range(2):
            inputs, outputs = width * 2**level, width * 2 ** (level + 1)
            self.blocks.append(
                nn.Sequential(
                    *(conv(inputs, outputs, 3, 2, 1), norm(outputs), nn.ReLU()),
                    *(conv(outputs, outputs, 3, 1, 1), norm(outputs)),
                )
            )
            self.skips.append(conv(inputs, outputs, 1, 2))
        self.relus = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        self.head = nn.Linear(outputs, classes)

    def forward(self, x):
        x = self.stem(x)
        for block, skip, relu in zip(self.blocks, self.skips, self.relus, strict=True):
            x = relu(block(x) + skip(x))
        return self.head(x.flatten(2).mean(2))


RESIDUAL_LAYERS = ["stem.0", "stem.1", "stem", "relus.0", "blocks.1.0", "blocks.1.2", "relus.1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(37,), (16, 16), (33, 18), (4, 12, 16), (7, 9, 15)])
@each_method
def test_ordinary_networks_are_not_warned_of(method, size, dtype):
    for seed in range(3):
        torch.manual_seed(seed)
        model = ResidualNet(len(size)).eval().to(dtype)
        x = random_input(2, size, seed=seed).to(dtype)
        cam, call = method(model, RESIDUAL_LAYERS), {"inputs": x, "target": seed}
        said = warnings_of(lambda cam=cam, call=call: cam.attribute(**call))
        assert not [message for message in said if not message.startswith("The map of sample")]


# ------------------------------------------------------------------------------ misread axes


CHANNELS_LAST = "which fits a map of .* as channels last, and was read as channels first"


class ChannelsLast(nn.Module):
    """Blocks on (N, *S, C) after a patch embedding of some stride."""

    def __init__(self, rank, channels, stride):
        super().__init__()
        self.patch = CONV[rank](2, channels, stride, stride)
        self.block, self.head = nn.Linear(channels, channels), nn.Linear(channels, 3)

    def forward(self, x):
        return self.head(self.block(self.patch(x).movedim(1, -1)).relu().flatten(1, -2).mean(1))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(
    ("size", "layout"), [((36,), "N T C"), ((32, 40), "N H W C"), ((8, 32, 40), "N T H W C")]
)
def test_a_channels_last_layer_is_noticed(size, layout, stride):
    model, x = ChannelsLast(len(size), 48, stride), random_input(2, size)
    grid = [length // stride for length in size]
    said = warnings_of(lambda: LayerwiseGradCAM(model, "block").attribute(x, target=0))
    (message,) = [m for m in said if "axes in their order" in m]
    assert message.startswith(
        f"Layer 'block' gives shape {(2, *grid, 48)}, which fits a map of {size} as channels last, "
        f"and was read as channels first, a grid of {(*grid[1:], 48)}. Name its axes in their "
        "order: Layer(..., layout='N H W C'), or layout='N C H W' if that is right."
    )
    named = LayerwiseGradCAM(model, Layer("block", layout=layout))
    assert not [m for m in warnings_of(lambda: named.attribute(x, 0)) if "axes" in m]


def test_the_warning_is_silenced_as_it_advises():
    model, x = ChannelsLast(2, 48, 4), random_input(2, (32, 40))
    for layer in (Layer("block", layout="N C H W"), Layer("block", reshape=lambda t: t)):
        said = warnings_of(lambda la=layer: LayerwiseGradCAM(model, la).attribute(x, target=0))
        assert not [m for m in said if "channels last" in m]


class Reordered(nn.Module):
    """Takes axes in another order than its convolutions do."""

    def __init__(self, order, rank=3, fold=False, stride=2):
        super().__init__()
        self.order, self.fold = order, fold
        self.convs = nn.Sequential(
            *(CONV[rank](3, 6, 3, stride, 1), nn.ReLU(), CONV[rank](6, 6, 3, stride, 1), nn.ReLU())
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        rows, x = len(x), x.permute(self.order)
        x = self.convs(x.flatten(0, 1) if self.fold else x).flatten(2).mean(2)
        return self.head(x.unflatten(0, (rows, -1)).mean(1))


@pytest.mark.parametrize("layer", ["convs.1", "convs.3"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("shape", "order", "rank", "fold", "names"),
    [
        ((2, 8, 3, 16, 18), (0, 2, 1, 3, 4), 3, False, "N T C H W"),
        ((2, 2, 3, 16, 18), (0, 2, 1, 3, 4), 3, False, "N T C H W"),
        ((2, 8, 3, 16, 18), (0, 1, 2, 3, 4), 2, True, "N T C H W"),
        ((2, 8, 16, 18, 3), (0, 4, 1, 2, 3), 3, False, "N T H W C"),
        ((2, 16, 18, 3), (0, 3, 1, 2), 2, False, "N H W C"),
        ((2, 20, 3), (0, 2, 1), 1, False, "N W C"),
    ],
)
def test_an_input_of_other_axes_is_noticed(shape, order, rank, fold, names, stride, layer):
    """At any depth, also where the grid is shorter than the map on each axis."""
    model, x = Reordered(order, rank, fold, stride), torch.randn(shape)
    layout = {"layout": "(N T) C H W"} if fold else {}
    cam = LayerwiseGradCAM(model, Layer(layer, **layout))
    taken = (16, 3, 16, 18) if fold else tuple(shape[i] for i in order)
    said = warnings_of(lambda: cam.attribute(x, target=0))
    (message,) = [m for m in said if "input_layout" in m]
    spatial = " ".join(name for name in names.split() if name not in "NC")
    assert message == (
        f"The model turns an input of shape {shape} into {taken} before its first convolution, so "
        f"a map of {shape[2:]} mixes channels and positions. Pass input_layout={names!r}, or "
        f"'N C {spatial}' if that is right."
    )
    for chosen in (names, f"N C {spatial}"):
        cam = LayerwiseGradCAM(model, Layer(layer, **layout), input_layout=chosen)
        said = warnings_of(lambda cam=cam: cam.attribute(x, target=0))
        assert not [m for m in said if "input_layout" in m]


def test_a_grid_that_is_longer_than_the_map_on_one_axis():
    """Where no convolution shows it: the model resizes first."""
    model = Reordered((0, 2, 1, 3, 4))

    def forward_func(x):
        return model(nn.functional.interpolate(x, (3, 20, 20)))

    cam = LayerwiseGradCAM(forward_func, model.convs[1])
    said = warnings_of(lambda: cam.attribute(torch.randn(2, 16, 3, 20, 30), target=0))
    assert said == [
        "Layer 'layers[0] (ReLU)' has a grid of (8, 10, 10), longer on an axis than the map, "
        "(3, 20, 30). For inputs with frames first, pass input_layout='N T C H W', or 'N C T H W' "
        "if that is right; for layers with other axes, Layer(..., layout=...)."
    ]
    for options in ({"input_layout": "N T C H W"}, {"input_layout": "N C T H W"}):
        cam = LayerwiseGradCAM(forward_func, model.convs[1], **options)
        assert not warnings_of(lambda cam=cam: cam.attribute(torch.randn(2, 16, 3, 20, 30), 0))


def test_a_size_that_was_chosen_is_not_questioned():
    model = Reordered((0, 2, 1, 3, 4))
    cam = LayerwiseGradCAM(model, "convs.1")
    said = warnings_of(
        lambda: cam.attribute(torch.randn(2, 16, 3, 20, 30), 0, output_size=(9, 9, 9))
    )
    assert not said


@st.composite
def convolutional_networks(draw):
    """Convolutions, pooling and upsampling of any strides and paddings, and an input for them."""
    rank = draw(st.integers(1, 3))
    size = draw(st.lists(st.integers(1, 24), min_size=rank, max_size=rank))
    channels, modules = draw(st.integers(1, 9)), []
    x = torch.zeros(1, channels, *size)
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, 32))
        kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
        stride = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
        padding = [k // 2 for k in kernel] if draw(st.booleans()) else 0
        if padding == 0:
            kernel = [min(k, n) for k, n in zip(kernel, x.shape[2:], strict=True)]
        block = [CONV[rank](x.shape[1], width, kernel, stride, padding)]
        if draw(st.booleans()):
            block.append(NORM[rank](width))
        block.append(nn.ReLU())
        if draw(st.booleans()):
            block.append(nn.Upsample(scale_factor=2))
        modules.append(nn.Sequential(*block).eval())
        with torch.no_grad():
            x = modules[-1](x)
        assume(x[0, 0].numel() < 20_000)
    head = nn.Sequential(Mean(), nn.Linear(x.shape[1], 3))
    return nn.Sequential(*modules, head), torch.randn(2, channels, *size)


class Mean(nn.Module):
    def forward(self, x):
        return x.flatten(2).mean(2)


@settings(max_examples=80)
@given(convolutional_networks())
def test_no_axes_of_a_convolutional_network_are_questioned(case):
    net, x = case
    for layer in (name for name, _ in net[:-1].named_modules() if name):
        said = warnings_of(lambda la=layer: LayerwiseGradCAM(net, la).attribute(x, target=0))
        assert not [m for m in said if "axes" in m or "input_layout" in m]


@pytest.mark.parametrize(
    ("size", "channels"), [((9, 9), 3), ((3, 8, 8), 3), ((8, 8, 8), 8), ((7,), 7), ((3,), 3)]
)
def test_sizes_that_coincide_are_not_questioned(size, channels):
    rank = len(size)
    net = nn.Sequential(CONV[rank](channels, channels, 3, 1, 1), nn.ReLU(), Mean())
    x = torch.randn(2, channels, *size)
    said = warnings_of(lambda: LayerwiseGradCAM(net, "1").attribute(x, target=0))
    assert not [m for m in said if "axes" in m or "input_layout" in m]


def test_a_2d_network_on_the_frames_of_clips_is_not_questioned():
    net = conv_net(2, inputs=3)
    cam = LayerwiseGradCAM(
        lambda x: net(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, -1)).mean(1),
        Layer(net[0], reshape=frames_to_clip(3)),
    )
    said = warnings_of(lambda: cam.attribute(torch.randn(2, 3, 3, 8, 8), target=0))
    assert not [m for m in said if "input_layout" in m]


def test_all_methods_are_tested():
    values = [getattr(captum_3dcam, name) for name in captum_3dcam.__all__]
    classes = {value for value in values if isinstance(value, type)}
    methods = {c for c in classes if issubclass(c, captum_3dcam.attribution.LayerwiseCAM)}
    without_gradient = {
        captum_3dcam.LayerwiseAblationCAM,
        captum_3dcam.LayerwiseEigenCAM,
        captum_3dcam.LayerwiseFEM,
        captum_3dcam.LayerwiseKPCACAM,
        captum_3dcam.LayerwiseScoreCAM,
    }
    others = {captum_3dcam.FullGradCAM, captum_3dcam.LayerwiseLeGrad}
    tested = {*METHODS, *without_gradient, *others}
    assert {m for m in methods if not m.__name__.endswith(("2D", "3D"))} == tested
