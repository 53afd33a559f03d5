"""Networks that are run in unusual ways: explained as they are, or an error says why not."""

import gc
import subprocess
import sys
import textwrap
import weakref
from contextlib import nullcontext

import pytest
import torch
from captum.attr import LayerGradCam
from networks import calls_by_hand, conv_net, random_input
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from captum_3dcam import (
    GlobalLocalCAM2D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    functional,
    tokens_to_grid,
)

X = random_input(2, (7, 8))


def grad_cam_by_captum(model, layer, x, target, layer_input=False):
    theirs = LayerGradCam(model, model.get_submodule(layer)).attribute(
        x, target, attribute_to_layer_input=layer_input, relu_attributions=True
    )
    return functional.layer_map((theirs.detach(),), x.shape[2:])


def map_by_hand(tensor, scores, size, target=1, rule=functional.grad_cam):
    """The map of a tensor (N, C, *S) that requires a gradient, of which the scores are made."""
    (gradient,) = torch.autograd.grad(scores[:, target].sum(), tensor)
    return functional.layer_map(rule(tensor.detach(), gradient), size)


# ------------------------------------------------------------------------- subclasses of Tensor


class MetaTensor(torch.Tensor):
    """Stays what it is in all operations, as MONAI's and torchvision's do."""


class Jealous(torch.Tensor):
    """Counts the operations on it, and has an idea of its own of sums."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls += 1
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result * 0 if func is torch.Tensor.sum else result


@pytest.mark.parametrize("options", [{}, {"attribute_to_layer_input": True}])
@pytest.mark.parametrize("subclass", [MetaTensor, Jealous])
@pytest.mark.parametrize("method", [LayerwiseGlobalLocalCAM, LayerwiseGradCAM])
def test_a_subclass_of_tensor_has_the_same_map(method, subclass, options):
    cam = method(conv_net(2), ["0", "1"])
    expected = cam.attribute(X, target=1, **options)
    attribution = cam.attribute(X.as_subclass(subclass), target=1, **options)
    assert expected.any()
    assert type(attribution) is torch.Tensor
    torch.testing.assert_close(attribution, expected)
    differentiable = cam.attribute(X.as_subclass(subclass), target=1, create_graph=True, **options)
    torch.testing.assert_close(differentiable.detach(), expected)


# -------------------------------------------------------------- layers that give back their input


class OverAView(nn.Module):
    """A layer in eval mode that returns its input, which is a view of some kind."""

    def __init__(self, layer, view, inputs=2):
        super().__init__()
        self.conv, self.layer, self.view = nn.Conv2d(inputs, 4, 3), layer, view
        self.wide, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.view(self.conv(x))
        return self.fc((self.wide(self.layer(x)) + x).tanh().mean((2, 3)))


VIEWS = {
    "transpose": lambda x: x.transpose(2, 3),
    "chunk": lambda x: torch.cat([x, x], dim=1).chunk(2, dim=1)[1],
    "split and index": lambda x: torch.stack([x, 2 * x]).unbind(0)[0],
    "narrow": lambda x: x[:, :, 1:-1],
    "expand": lambda x: x.mean(0, keepdim=True).expand(len(x), -1, -1, -1),
    "of a view": lambda x: x.transpose(2, 3).flip(2).transpose(2, 3)[..., 1:],
    "no view": lambda x: x * 1,
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("layer", [nn.Dropout(), nn.Identity(), nn.Sequential(nn.Identity())])
@pytest.mark.parametrize("view", VIEWS)
def test_an_identity_over_a_view(view, layer, several, frozen):
    model = OverAView(layer, VIEWS[view]).eval()
    with torch.no_grad():
        seen = model.view(model.conv(X))
    seen = seen.clone().requires_grad_()
    scores = model.fc((model.wide(seen) + seen).tanh().mean((2, 3)))
    expected = map_by_hand(seen, scores, (7, 8), rule=functional.hi_res_cam)
    model.requires_grad_(not frozen)
    layers = ["conv", "layer", "wide"] if several else ["layer"]
    maps = LayerwiseHiResCAM(model, layers).attribute(X, target=1, per_layer=True)
    assert expected.any()
    torch.testing.assert_close(maps[several], expected)


@pytest.mark.parametrize("view", VIEWS)
def test_an_identity_over_a_view_of_what_the_model_detaches(view):
    model = OverAView(nn.Dropout(), lambda x: VIEWS[view](x.detach())).eval()
    seen = model.view(model.conv(X)).clone().requires_grad_()
    scores = model.fc((model.wide(seen) + seen).tanh().mean((2, 3)))
    expected = map_by_hand(seen, scores, (7, 8), rule=functional.hi_res_cam)
    attribution = LayerwiseHiResCAM(model, "layer").attribute(X, target=1)
    torch.testing.assert_close(attribution, expected)


@pytest.mark.parametrize("layers", [["same"], ["stem", "same"], ["same", "wide"]])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_shortcut_has_the_gradient_of_all_uses_of_its_tensor_as_in_captum(frozen, layers):
    """Also of those before the layer that gives it back."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3, padding=1)
            self.same, self.fc = nn.Identity(), nn.Linear(3, 3)

        def forward(self, x):
            x = self.stem(x)
            y = self.wide(x).tanh()
            return self.fc((y + self.same(x)).tanh().mean((2, 3)))

    model = Residual().eval()
    expected = grad_cam_by_captum(model, "same", X, 1)
    model.requires_grad_(not frozen)
    maps = LayerwiseGradCAM(model, layers).attribute(X, target=1, per_layer=True)
    torch.testing.assert_close(maps[layers.index("same")], expected)


class Kept(nn.Module):
    """Continues with what it keeps beside a layer's output: the same view."""

    def __init__(self, layer):
        super().__init__()
        self.conv, self.layer, self.fc = nn.Conv2d(2, 4, 3), layer, nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).transpose(2, 3)
        self.layer(x)
        return self.fc(x.tanh().mean((2, 3)))


@pytest.mark.parametrize("layers", [["layer"], ["conv", "layer"]])
def test_an_in_place_layer_on_a_view_is_followed_under_its_other_name(layers):
    model = Kept(nn.ReLU(inplace=True)).eval()
    seen = model.conv(X).transpose(2, 3).relu().detach().requires_grad_()
    scores = model.fc(seen.tanh().mean((2, 3)))
    expected = map_by_hand(seen, scores, (7, 8))
    maps = LayerwiseGradCAM(model, layers).attribute(X, target=1, per_layer=True)
    torch.testing.assert_close(maps[-1], expected)


def test_a_view_that_another_hook_keeps_is_followed():
    model, kept = Kept(nn.Identity()).eval(), []
    model.turn = nn.Unflatten(1, (4,))
    model.turn.register_forward_hook(lambda module, args, output: kept.append(output))

    def forward_func(x):
        model.turn(model.conv(x))
        return model.fc(kept.pop().tanh().mean((2, 3)))

    seen = model.conv(X).detach().requires_grad_()
    expected = map_by_hand(seen, model.fc(seen.tanh().mean((2, 3))), (7, 8))
    for layers in ([model.turn], [model.conv, model.turn]):
        maps = LayerwiseGradCAM(forward_func, layers).attribute(X, target=1, per_layer=True)
        torch.testing.assert_close(maps[-1], expected)


def test_one_identity_called_on_two_parts_of_a_tensor():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop, self.fc = nn.Conv2d(2, 8, 3), nn.Dropout(), nn.Linear(4, 3)

        def forward(self, x):
            first, second = self.conv(x).chunk(2, dim=1)
            return self.fc((self.drop(first) * self.drop(second)).tanh().mean((2, 3)))

    model = Parts().eval()
    layers = [Layer("drop", calls=0), Layer("drop", calls=1)]
    maps = LayerwiseHiResCAM(model, layers).attribute(X, target=1, per_layer=True)
    parts = [part.clone().requires_grad_() for part in model.conv(X).detach().chunk(2, dim=1)]
    scores = model.fc((parts[0] * parts[1]).tanh().mean((2, 3)))
    for part, attribution in zip(parts, maps, strict=True):
        (gradient,) = torch.autograd.grad(scores[:, 1].sum(), part, retain_graph=True)
        factors = functional.hi_res_cam(part.detach(), gradient)
        torch.testing.assert_close(attribution, functional.layer_map(factors, (7, 8)))


# ------------------------------------------------------------------------------ gradient modes


class Modes(nn.Module):
    """Sets the gradient mode by itself, in some way."""

    def __init__(self, how):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(2, 2, 3, padding=1), conv_net(2)[0], conv_net(2)
        self.fold, self.how = nn.Conv2d(3, 2, 1), how

    def forward(self, x):
        x = self.stem(x)
        with self.how():
            x = self.body(x)
        return self.head(self.fold(x))


@pytest.mark.parametrize("layer", ["stem", "body", "fold", "head.0"])
@pytest.mark.parametrize("how", [nullcontext, torch.enable_grad])
def test_a_model_that_switches_gradients_on(how, layer):
    model = Modes(how).eval()
    expected = grad_cam_by_captum(model, layer, X, 1)
    torch.testing.assert_close(LayerwiseGradCAM(model, layer).attribute(X, target=1), expected)
    frozen = LayerwiseGradCAM(model.requires_grad_(False), layer).attribute(X, target=1)
    torch.testing.assert_close(frozen, expected)


@pytest.mark.parametrize(
    "how", [torch.no_grad, lambda: torch.set_grad_enabled(False), torch.inference_mode]
)
def test_a_model_that_switches_gradients_off(how):
    """Layers inside are explained as if it did not; layers before it do not reach the score."""
    model, plain = Modes(how).eval(), Modes(nullcontext).eval()
    plain.load_state_dict(model.state_dict())
    for layer in ("body", "fold", "head.0"):
        if how is torch.inference_mode and layer != "head.0":
            continue
        expected = LayerwiseGradCAM(plain, layer).attribute(X, target=1)
        if layer != "head.0" or how is not torch.inference_mode:
            torch.testing.assert_close(LayerwiseGradCAM(model, layer).attribute(X, 1), expected)
    if how is torch.inference_mode:
        with pytest.raises(RuntimeError, match=r"No gradient can be recorded under torch.infer"):
            LayerwiseGradCAM(model, "body").attribute(X, target=1)


def test_a_layer_before_a_part_without_gradients():
    model = Modes(torch.no_grad).eval()
    with pytest.raises(RuntimeError, match=r"layer\(s\) 'stem' does not reach the score"):
        LayerwiseGradCAM(model, "stem").attribute(X, target=1)


def test_a_model_that_is_left_without_gradients():
    """It sets the mode for the whole process, and does not set it back."""

    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            torch.set_grad_enabled(False)
            return self.net(x)

    model = Left().eval()
    expected = LayerwiseGradCAM(model.net, "0").attribute(X, target=1)
    assert torch.equal(LayerwiseGradCAM(model, "net.0").attribute(X, target=1), expected)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("freeze", [False, True])
def test_a_part_with_a_mode_of_its_own_before_functions(freeze):
    """No module runs after it whose hook could see that gradients are off."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.weight = conv_net(2)[0], nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            with torch.set_grad_enabled(not freeze):
                x = self.body(x)
            return x.tanh().mean((2, 3)) @ self.weight

    model = Functional().eval()
    seen = model.body(X).detach().requires_grad_()
    expected = map_by_hand(seen, seen.tanh().mean((2, 3)) @ model.weight, (7, 8))
    attribution = LayerwiseGradCAM(model, "body").attribute(X, target=1)
    torch.testing.assert_close(attribution, expected)


class Saliency(nn.Module):
    """Weighs its input by a gradient of its own, which is taken inside of its forward."""

    def __init__(self):
        super().__init__()
        self.stem, self.net = nn.Conv2d(2, 2, 3, padding=1), conv_net(2)

    def forward(self, x):
        x = self.stem(x)
        with torch.enable_grad():
            own = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                self.net(own.tanh()).square().sum(), own, create_graph=torch.is_grad_enabled()
            )
        return self.net(x * gradient.detach())


@pytest.mark.filterwarnings("ignore:Layer .* ran . times")
@pytest.mark.parametrize("layer", ["stem", "net.0", "net.1"])
def test_a_model_that_differentiates_inside_its_forward(layer):
    model = Saliency().eval()
    expected = grad_cam_by_captum(model, layer, X, 1)
    torch.testing.assert_close(LayerwiseGradCAM(model, layer).attribute(X, target=1), expected)


def test_a_model_that_needs_the_graph_before_the_layer():
    class Guided(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.net = nn.Conv2d(2, 2, 3, padding=1), conv_net(2)

        def forward(self, x):
            y = self.stem(x)
            (gradient,) = torch.autograd.grad(y.square().sum(), self.stem.weight, retain_graph=True)
            return self.net(y * gradient.detach().norm())

    model = Guided().eval()
    expected = grad_cam_by_captum(model, "net.0", X, 1)
    torch.testing.assert_close(LayerwiseGradCAM(model, "net.0").attribute(X, target=1), expected)


# ----------------------------------------------------------------------- in-place operations


class Detector(nn.Module):
    """Writes into what its sigmoid's derivative needs, as the heads of YOLO do."""

    def __init__(self, in_place=True):
        super().__init__()
        self.body, self.detect = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()), nn.Conv2d(4, 6, 1)
        self.in_place = in_place

    def forward(self, x):
        y = self.detect(self.body(x)).sigmoid()
        if self.in_place:
            y[:, :2] = y[:, :2] * 2 - 0.5
        else:
            y = torch.cat([y[:, :2] * 2 - 0.5, y[:, 2:]], dim=1)
        return (y[:, 1:4] * y[:, 5:]).amax((2, 3))


@pytest.mark.parametrize("options", [{}, {"attribute_to_layer_input": True}])
@pytest.mark.parametrize("method", [LayerwiseGlobalLocalCAM, LayerwiseGradCAM, LayerwiseLayerCAM])
def test_a_model_that_writes_into_what_its_backward_pass_needs(method, options):
    model = Detector().eval()
    cam = method(model, ["body", "detect"])
    model.in_place = False
    expected = cam.attribute_classes(X, [0, 2], **options)
    assert expected.any()
    model.in_place = True
    torch.testing.assert_close(cam.attribute_classes(X, [0, 2], **options), expected)


# --------------------------------------------------------------------- transformers and others


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_transformer_encoder_with_a_padding_mask(masked, norm_first):
    """In eval mode its layers have a fused path of their own, for nested tensors too."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
            self.patch, self.head = nn.Conv2d(2, 8, 2, 2), nn.Linear(8, 3)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
            mask[:, -2:] = masked
            return self.head(self.encoder(tokens, src_key_padding_mask=mask).tanh().mean(1))

    model, fastpath = Encoder().eval(), torch.backends.mha.get_fastpath_enabled()
    x, grid = random_input(2, (8, 6)), tokens_to_grid((4, 3))
    for name in ("encoder.layers.0.linear1", "encoder.layers.1.linear1"):
        ((hidden, gradient),) = calls_by_hand(model, model.get_submodule(name), x, target=1)
        factors = functional.hi_res_cam(grid(hidden), grid(gradient))
        expected = functional.layer_map(factors, (8, 6))
        attribution = LayerwiseHiResCAM(model, Layer(name, layout="N L C")).attribute(x, target=1)
        torch.testing.assert_close(attribution, expected, atol=1e-5, rtol=1e-4)
    assert torch.backends.mha.get_fastpath_enabled() == fastpath


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_network_after_the_layer(recurrent):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(2, 4, 3, padding=1), nn.Linear(5, 3)
            self.rnn = recurrent(4, 5, 2, batch_first=True, dropout=0.5)

        def forward(self, x):
            return self.head(self.rnn(self.conv(x).relu().transpose(1, 2))[0][:, -1])

    model, x = Recurrent().eval(), random_input(2, (9,))
    enabled = torch.backends.cudnn.enabled
    expected = grad_cam_by_captum(model, "conv", x, 1)
    torch.testing.assert_close(LayerwiseGradCAM(model, "conv").attribute(x, target=1), expected)
    assert torch.backends.cudnn.enabled == enabled


class Remembers(nn.Module):
    """A recurrent network over the calls, whose state is an attribute."""

    def __init__(self):
        super().__init__()
        self.conv, self.cell = nn.Conv2d(2, 4, 3), nn.GRUCell(4, 4)
        self.head, self.state, self.frames = nn.Linear(4, 3), None, 0

    def forward(self, x):
        self.state = self.cell(self.conv(x).relu().mean((2, 3)), self.state)
        self.frames += 1
        return self.head(self.state)


def test_a_state_that_the_model_remembers_is_the_one_before():
    model, cam_of = Remembers().eval(), LayerwiseGradCAM
    with torch.no_grad():
        model(X)
    state, values = model.state, model.state.clone()
    first, second = [cam_of(model, "conv").attribute(X, target=1) for _ in range(2)]
    assert torch.equal(first, second)
    assert model.state is state
    assert torch.equal(model.state, values)
    assert model.frames == 1


def test_a_lazy_module_is_to_be_run_once_before():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    message = (
        "LazyConv2d has parameters that are not initialized yet. Run the model once on a sample "
        "before it is explained."
    )
    with pytest.raises(RuntimeError, match=message):
        GlobalLocalCAM2D(model, "0").attribute(X)
    with pytest.raises(RuntimeError, match="LazyConv2d has parameters that are not initialized"):
        GlobalLocalCAM2D(lambda x: model(x), model[1]).attribute(X)
    model(X)
    assert LayerwiseGradCAM(model, "0").attribute(X).any()


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("cached", [False, True])
def test_weights_that_are_computed(cached):
    """A cached weight of a training step is not taken, and ours not left there."""
    plain = conv_net(2)
    net = conv_net(2)
    for layer in (net[0][0], net[1][0]):
        layer.weight.data /= 2
        parametrize.register_parametrization(layer, "weight", Doubled())
    expected = LayerwiseHiResCAM(plain, ["0", "1"]).attribute(X, target=1)
    with parametrize.cached() if cached else nullcontext():
        weight = net[1][0].weight
        attribution = LayerwiseHiResCAM(net, ["0", "1"]).attribute(X, target=1)
        torch.testing.assert_close(attribution, expected)
        assert net[1][0].weight.requires_grad
        assert not cached or net[1][0].weight is weight
        net(X).sum().backward()
    assert net[0][0].parametrizations.weight.original.grad.any()


@pytest.mark.parametrize("norm", ["spectral", "weight"])
def test_weights_that_old_hooks_compute(norm):
    net = conv_net(2).train()
    wrap = {"spectral": nn.utils.spectral_norm, "weight": nn.utils.parametrizations.weight_norm}
    wrap[norm](net[1][0])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first, second = [LayerwiseHiResCAM(net, ["0", "1"]).attribute(X, target=1) for _ in range(2)]
    assert torch.equal(first, second)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    net(X).sum().backward()


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)
        self.block = nn.Sequential(
            *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        )
        self.use_reentrant = use_reentrant

    def forward(self, x):
        x = self.stem(x)
        if self.use_reentrant is None:
            return self.fc(self.block(x).mean((2, 3)))
        x = checkpoint(self.block, x, use_reentrant=self.use_reentrant)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", ["stem", "block"])
def test_a_checkpoint_runs_a_part_of_the_model_again(layer, training):
    """In train mode its batch normalisation would count twice, and its dropout draw again."""
    model = Checkpointed(use_reentrant=False).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    explain = [Layer(layer, calls="last")] if layer == "block" else [layer]
    attribution = LayerwiseLayerCAM(model, explain).attribute(X, target=1)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), generator)
    model.use_reentrant = None
    assert attribution.any()
    torch.testing.assert_close(LayerwiseLayerCAM(model, explain).attribute(X, 1), attribution)


def test_what_a_checkpoint_counts_in_eval_mode():
    """Its second run, in the backward pass, is restored as the first one is."""

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x

    model = Checkpointed(use_reentrant=False).eval()
    model.block.insert(0, Counter())
    counts = []
    model.block[0].register_forward_hook(lambda module, *_: counts.append(int(module.count)))
    LayerwiseLayerCAM(model, "stem").attribute(X, target=1)
    assert counts == [1, 1]
    assert model.block[0].count == 0


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_a_reentrant_checkpoint_is_named():
    model = Checkpointed(use_reentrant=True).eval()
    with pytest.raises(RuntimeError, match="you can either set use_reentrant=False"):
        LayerwiseLayerCAM(model, "stem").attribute(X, target=1)
    with pytest.raises(RuntimeError, match="does not reach the score: .* a reentrant checkpoint"):
        LayerwiseLayerCAM(model, Layer("block.0", calls=0)).attribute(X, target=1)


# ------------------------------------------------------------------------- inputs of other kinds


def test_an_input_of_bytes_and_one_with_channels_last():
    image = torch.randint(0, 256, (1, 2, 8, 8), dtype=torch.uint8)
    cam = GlobalLocalCAM2D(conv_net(2), "0")
    advice = (
        r"The first input has dtype torch.uint8; networks take floating-point numbers, scaled as "
        r"in training: e.g. inputs.float\(\) / 255."
    )
    with pytest.raises(RuntimeError, match=advice):
        cam.attribute(image)
    with pytest.raises(RuntimeError, match="dtype torch.int64"):
        GlobalLocalCAM2D(nn.Sequential(nn.Linear(8, 3), conv_net(2)), "0").attribute(image.long())
    advice = (
        r"The first input has shape \(1, 8, 8, 2\); \(N, C, \*S\) is usual. Move the channels, "
        r"e.g. inputs.movedim\(-1, 1\) if they are last, or inputs.movedim\(2, 1\) if frames"
    )
    with pytest.raises(RuntimeError, match=advice):
        cam.attribute(image.float().movedim(1, -1))


def test_errors_of_the_model_stay_as_they_are():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of paper")

    model = nn.Sequential(conv_net(2)[0], Fails())
    with pytest.raises(RuntimeError, match="^out of paper$"):
        GlobalLocalCAM2D(model, "0").attribute(X)
    with pytest.raises(RuntimeError, match="^out of paper$"):
        GlobalLocalCAM2D(model, "0").attribute(X, attribute_to_layer_input=True)


# ----------------------------------------------------------------------- distributed training

DISTRIBUTED = """
    import os, sys
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from captum_3dcam import LayerwiseGlobalLocalCAM

    rank, path = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", store=dist.FileStore(path, 2), rank=rank, world_size=2)
    torch.manual_seed(rank)
    x = torch.randn(2, 3, 12, 12)
    for options in ({}, {"static_graph": True}, {"find_unused_parameters": True}):
        ends = []
        for explained in (False, True):
            torch.manual_seed(0)
            net = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
            )
            model = DistributedDataParallel(net, **options)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(3):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
                if explained:
                    for create_graph in (False, True):
                        LayerwiseGlobalLocalCAM(model, "1").attribute(
                            x, 0, create_graph=create_graph
                        )
            assert model.require_backward_grad_sync
            ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
        assert torch.equal(*ends), options
        every = [torch.zeros_like(ends[0]) for _ in range(2)]
        dist.all_gather(every, ends[0])
        assert torch.equal(*every), options
    dist.barrier()
    os._exit(0)  # the threads of the process group may end the process with an error
"""


def test_between_two_steps_of_distributed_training(tmp_path):
    """Explained or not, training continues alike, and the replicas stay equal."""
    code = ["-W", "ignore", "-c", textwrap.dedent(DISTRIBUTED)]
    processes = [
        subprocess.Popen(
            [sys.executable, *code, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


# ----------------------------------------------------------------------------- what is kept alive


OUTPUTS = []


class Hoarder(nn.Module):
    """Keeps what it computed in itself and outside."""

    def __init__(self):
        super().__init__()
        self.net, self.last = conv_net(2), None

    def forward(self, x):
        self.last = self.net(x)
        OUTPUTS.append(self.last)
        return self.last


@pytest.mark.parametrize("options", [{}, {"attribute_to_layer_input": True}])
@pytest.mark.parametrize("layer", ["net.0", "net.1", "net.1.1"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_discarded_model_is_freed_though_its_outputs_are_kept(in_place, layer, options):
    """The graph of a kept output must not hold the model, as hooks or closures in it would."""
    model = Hoarder().eval()
    model.net[1][1].inplace = in_place
    references = [weakref.ref(model), weakref.ref(model.net)]
    cam = LayerwiseGradCAM(model, layer)
    cam.attribute(X, target=1, **options)
    del model, cam
    gc.collect()
    assert OUTPUTS[-1].requires_grad
    assert [reference() for reference in references] == [None, None]
    OUTPUTS.clear()


@pytest.mark.parametrize("error", [None, IndexError])
@pytest.mark.parametrize(
    "options", [{}, {"attribute_to_layer_input": True}, {"create_graph": True}]
)
def test_what_a_call_holds_goes_without_the_collector(options, error):
    """Python's collector runs seldom, and tensors are large."""
    net, alive = conv_net(2), []

    def watch(module, args, output):
        alive.append(weakref.ref(output))

    for module in net.modules():
        module.register_forward_hook(watch)
    cam = GlobalLocalCAM2D(net, ["0", "1"])
    gc.collect()
    gc.disable()
    try:
        with nullcontext() if error is None else pytest.raises(error):
            cam.attribute(X, target=1 if error is None else 99, **options)
        assert alive
        assert not any(reference() is not None for reference in alive)
    finally:
        gc.enable()
