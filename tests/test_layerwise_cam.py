"""Maps that one can differentiate: their derivative is that of finite differences."""

import pytest
import torch
from networks import FramesInALoop, Pyramid, Threaded, conv_net, random_input
from test_diagnosis import METHODS
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_3dcam import (
    GlobalLocalCAM3D,
    Layer,
    LayerwiseEigenGradCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseShapleyCAM,
    LayerwiseWhatWhereCAM,
    functional,
)

NOT_DIFFERENTIABLE = [LayerwiseShapleyCAM, LayerwiseEigenGradCAM]
DIFFERENTIABLE = [method for method in METHODS if method not in NOT_DIFFERENTIABLE]


class SmoothNet(nn.Module):
    """Batch normalisation, an in-place activation and pooling; no score is linear in a layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Softplus())
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.relu, self.fc = nn.LeakyReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.conv(self.stem(x)))
        return self.fc(nn.functional.max_pool2d(x.square(), 2).tanh().mean((2, 3)))


def smooth_net(seed=0):
    torch.manual_seed(seed)
    net = SmoothNet().eval().double()
    net.stem[1].running_mean.normal_()
    net.stem[1].running_var.uniform_(0.5, 2)
    return net


X = random_input(2, (9, 8)).double()


def loss_of(attribution):
    """A sum with fixed weights of both signs."""
    weights = torch.linspace(0, 40, attribution.numel(), dtype=attribution.dtype).sin()
    return (attribution.flatten() * weights).sum()


def check_derivative(explain, tensors, entries=5, step=1e-6, rtol=1e-5):
    """Of the loss, by a few entries of each tensor."""
    loss = loss_of(explain(create_graph=True))
    torch.testing.assert_close(loss.detach(), loss_of(explain()))
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    largest = 0.0
    for tensor, gradient in zip(tensors, gradients, strict=True):
        values = tensor.data.view(-1)
        for entry in range(0, len(values), -(-len(values) // entries)):
            value, losses = values[entry].item(), []
            for sign in (1, -1):
                values[entry] = value + sign * step
                losses.append(loss_of(explain()).item())
            values[entry] = value
            expected = (losses[0] - losses[1]) / (2 * step)
            computed = 0.0 if gradient is None else gradient.reshape(-1)[entry].item()
            assert computed == pytest.approx(expected, rel=rtol, abs=1e-6)
            largest = max(largest, abs(expected))
    assert largest > 1e-3


@pytest.mark.parametrize("layer_input", [False, True])
@pytest.mark.parametrize("method", DIFFERENTIABLE)
def test_the_derivative_of_a_map_by_the_parameters(method, layer_input):
    net = smooth_net()
    cam = method(net, ["stem", "conv"])

    def explain(**options):
        return cam.attribute(X, 1, attribute_to_layer_input=layer_input, **options)

    check_derivative(explain, list(net.parameters()))


@pytest.mark.parametrize("fusion", [*functional.FUSIONS, lambda maps: maps.square().sum(0)])
def test_the_derivative_of_each_fusion(fusion):
    net = smooth_net(seed=1)
    cam = LayerwiseLayerCAM(net, ["stem", "conv"], fusion=fusion)
    check_derivative(lambda **options: cam.attribute(X, 1, **options), list(net.parameters()))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"align_corners": True}, {"interpolate_mode": "nearest"}])
def test_the_derivative_in_any_rank(rank, options):
    net, x = conv_net(rank, seed=3).double(), random_input(1, (5, 6, 7)[:rank]).double()
    for block in net[:2]:
        block[1] = nn.Softplus()
    net[3] = nn.Sequential(nn.Flatten(), nn.Tanh())
    cam = LayerwiseHiResCAM(net, ["0", "1"], **options)

    def explain(**options):
        return cam.attribute(x, 1, output_size=9, **options)

    check_derivative(explain, list(net.parameters()))


@pytest.mark.parametrize("method", [LayerwiseGlobalLocalCAM, LayerwiseGradCAM])
@pytest.mark.parametrize("calls", ["stack", 1])
def test_the_derivative_of_layers_that_run_several_times(calls, method):
    model, clip = FramesInALoop().double(), random_input(1, (3, 9, 7)).double()
    model.cnn[1] = model.cnn[3] = nn.Softplus()
    size = (3, 9, 7) if calls == "stack" else (9, 7)
    cam = method(model, Layer("cnn", calls=calls))

    def explain(**options):
        return cam.attribute(clip, 1, output_size=size, **options)

    check_derivative(explain, list(model.cnn.parameters()))


def test_the_derivative_of_calls_that_are_added():
    model, x = Pyramid().double(), random_input(1, (17, 15)).double()
    model.head[1] = nn.Softplus()
    cam = LayerwiseGradCAM(model, Layer("head", calls="sum"))
    check_derivative(lambda **options: cam.attribute(x, 1, **options), list(model.parameters()))


@pytest.mark.filterwarnings("ignore:At layer .* cancels")
@pytest.mark.parametrize("kind", ["attention", "recurrent"])
@pytest.mark.parametrize("training", [False, True])
def test_the_derivative_through_attention_and_recurrent_layers(kind, training):
    """Whose fused kernels have no second derivative."""

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.fc = nn.Conv2d(2, 8, 3, stride=3), nn.Linear(8, 3)
            self.mlp = nn.Sequential(nn.Linear(8, 8), nn.Softplus())
            if kind == "attention":
                self.layer = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True)
            else:
                self.layer = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x):
            x = self.layer(self.mlp(self.patch(x).flatten(2).transpose(1, 2)))
            return self.fc((x[0] if isinstance(x, tuple) else x).tanh().mean(1))

    model = Sequence().double().train(training)
    cam = LayerwiseLayerCAM(model, Layer("mlp", layout="N L C"))
    check_derivative(lambda **options: cam.attribute(X, 1, **options), list(model.parameters()))


@pytest.mark.parametrize("frozen", ["stem", "fc"])
def test_the_derivative_by_the_parameters_that_are_not_frozen(frozen):
    net = smooth_net()
    net.get_submodule(frozen).requires_grad_(False)
    cam = LayerwiseLayerCAM(net, ["stem", "conv"])
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    check_derivative(lambda **options: cam.attribute(X, 1, **options), parameters)


@pytest.mark.parametrize("layers", ["stem", ["stem", "conv"]])
def test_the_derivative_by_the_input(layers):
    net, x = smooth_net().requires_grad_(False), X.clone().requires_grad_()
    cam = LayerwiseHiResCAM(net, layers)
    check_derivative(lambda **options: cam.attribute(x, 1, **options), [x])
    assert x.grad is None


def test_the_batch_statistics_of_train_mode_are_part_of_the_derivative():
    net = smooth_net().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    cam = LayerwiseLayerCAM(net, ["stem", "conv"])
    check_derivative(lambda **options: cam.attribute(X, 1, **options), list(net.parameters()))
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


@pytest.mark.parametrize("method", DIFFERENTIABLE)
def test_the_derivative_is_finite_where_a_map_is_zero(method):
    """Under ReLUs and max-pooling most of a gradient is zero, and a sample may have no map."""
    net, x = conv_net(2, seed=5), random_input(2, (12, 12))
    net[2] = nn.AdaptiveMaxPool2d(2)
    x[1] = 0
    has_none = issubclass(method, LayerwiseWhatWhereCAM)
    fusion = {} if has_none else {"fusion": "geometric_mean"}
    attribution = method(net, ["0", "1"], **fusion).attribute(x, 1, create_graph=True)
    loss_of(attribution).backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("is_checkpoint", [False, True])
def test_a_large_network_keeps_the_inputs_of_its_batch_normalisation(is_checkpoint):
    """Which are dropped, for memory, where no derivative is asked for."""
    first = nn.Conv2d(1, 2, 3).eval()
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Softplus(), nn.Conv2d(2, 2, 1)).eval()

    def forward_func(x):
        x = first(x)
        x = checkpoint(net, x, use_reentrant=False) if is_checkpoint else net(x)
        return x.square().sum((1, 2, 3))

    x = torch.randn(1, 1, 600, 600)
    cam = LayerwiseLayerCAM(forward_func, first)
    loss_of(cam.attribute(x, create_graph=True)).backward()
    assert net[0].weight.grad.any()
    assert first.weight.grad.any()


def test_a_model_learns_where_to_look():
    torch.manual_seed(0)
    net, x = smooth_net().float(), X.float()
    inside = torch.zeros(9, 8)
    inside[2:6, 1:4] = 1
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    cam, shares = LayerwiseLayerCAM(net, ["stem", "conv"]), []
    for _ in range(30):
        attribution = cam.attribute(x, 1, create_graph=True)
        share = (attribution * inside).sum() / attribution.sum()
        shares.append(share.item())
        optimizer.zero_grad()
        (-share).backward()
        optimizer.step()
    assert shares[-1] > shares[0] + 0.15


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("wrap", [lambda net: net, Threaded])
def test_only_where_it_is_asked_for_is_there_a_graph(per_layer, wrap):
    net = smooth_net()
    cam = LayerwiseGradCAM(wrap(net), [net.stem, net.conv])
    with torch.no_grad():
        maps = cam.attribute(X, 1, per_layer=per_layer, create_graph=True)
    plain = cam.attribute(X, 1, per_layer=per_layer)
    torch.testing.assert_close(maps, plain)
    for tensor, without in zip(maps, plain, strict=True):
        assert tensor.requires_grad
        assert not without.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_outputs_of_several_classes_are_not_differentiable():
    cam = GlobalLocalCAM3D(conv_net(3), "0")
    with pytest.raises(TypeError, match="create_graph"):
        cam.attribute_top_k(random_input(1, (4, 4, 4)), create_graph=True)


@pytest.mark.parametrize("method", NOT_DIFFERENTIABLE)
def test_methods_of_which_there_is_no_derivative_say_so(method):
    net, x = conv_net(2), random_input(1, (8, 8))
    with pytest.raises(ValueError, match=f"{method.__name__} is not differentiable; create_graph"):
        method(net, "1").attribute(x, create_graph=True)
