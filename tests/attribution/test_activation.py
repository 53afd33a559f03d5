"""Maps of activations alone: no backward pass, no class, any rank."""

import copy

import pytest
import torch
from networks import conv_net, random_input
from torch import nn

from captum_3dcam import (
    LayerwiseEigenCAM,
    LayerwiseFEM,
    LayerwiseGradCAM,
    LayerwiseKPCACAM,
    functional,
)
from captum_3dcam._joint_cam import JointCAM

METHODS = [LayerwiseEigenCAM, LayerwiseFEM, LayerwiseKPCACAM]
SIZES = {1: (12,), 2: (9, 8), 3: (4, 8, 7)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_fused_map_is_the_rule_layer_by_layer(method, rank):
    net, x = conv_net(rank), random_input(2, SIZES[rank])
    expected, activation = 0, x
    for block in net[:2]:
        activation = block(activation)
        expected = expected + functional.layer_map(method.rule(activation), SIZES[rank])
    found = method(net, ["0", "1"]).attribute(x)
    torch.testing.assert_close(found, expected.detach())
    assert not found.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_the_class_does_not_matter(method):
    net, x = conv_net(2), random_input(2, (8, 8))
    maps = method(net, ["0", "1"]).attribute_classes(x, [0, 3, None, lambda output: output[:, 1]])
    assert maps.shape == (2, 4, 8, 8)
    for k in range(1, 4):
        assert torch.equal(maps[:, 0], maps[:, k])


class Labels(nn.Module):
    """Returns the predicted labels: no gradient reaches its layers."""

    def __init__(self):
        super().__init__()
        self.net = conv_net(2)

    def forward(self, x):
        return self.net(x).argmax(dim=1)


def test_a_model_without_gradients_is_explained():
    model, x = Labels(), random_input(2, (8, 8))
    found = LayerwiseEigenCAM(model, "net.1").attribute(x)
    torch.testing.assert_close(found, LayerwiseEigenCAM(model.net, "1").attribute(x))
    with pytest.raises(RuntimeError, match="does not reach the score"):
        LayerwiseGradCAM(model, "net.1").attribute(x)


def test_no_graph_is_built():
    net, x = conv_net(2, norm=True), random_input(2, (8, 8))
    seen = []
    handle = net[1].register_forward_hook(lambda module, args, output: seen.append(output))
    LayerwiseEigenCAM(net, ["0", "1"]).attribute(x)
    handle.remove()
    assert not seen[0].requires_grad


def test_calls_on_a_new_axis_and_added():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn, self.head = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)

        def forward(self, clip):
            frames = [self.cnn(frame).relu() for frame in clip.unbind(2)]
            return self.head(torch.stack(frames).mean((0, 3, 4)))

    from captum_3dcam import Layer

    model, clip = Loop(), random_input(2, (4, 8, 8))
    frames = torch.stack([model.cnn(frame) for frame in clip.unbind(2)], dim=2)
    expected = functional.layer_map(functional.eigen_cam(frames), (4, 8, 8)).detach()
    found = LayerwiseEigenCAM(model, Layer("cnn", calls="stack")).attribute(clip)
    torch.testing.assert_close(found, expected)


def test_several_methods_from_one_forward_pass():
    net, x = conv_net(2), random_input(2, (8, 8))
    methods = [LayerwiseEigenCAM, LayerwiseGradCAM, LayerwiseFEM]
    for chosen in (methods, methods[::2], methods[:1]):
        joint = JointCAM([method(net, ["0", "1"]) for method in chosen])
        maps, _ = joint.explain(x, lambda output: [0, 3])
        for number, method in enumerate(chosen):
            for k, target in enumerate([0, 3]):
                own = method(net, ["0", "1"]).attribute(x, target=target)
                torch.testing.assert_close(maps[:, k, number], own[:, 0])


def test_a_target_is_checked_although_it_does_not_matter():
    net, x = conv_net(2), random_input(2, (8, 8))
    with pytest.raises(IndexError, match="target 9 is out of range"):
        LayerwiseEigenCAM(net, "1").attribute(x, target=9)


def test_activations_that_are_nan_are_named():
    net, x = conv_net(2), random_input(1, (8, 8))
    with torch.no_grad():
        net[1][0].bias[0] = torch.nan
    with pytest.raises(RuntimeError, match=r"NaN or Inf in the activation of '1'"):
        LayerwiseEigenCAM(net, ["0", "1"]).attribute(x)


def test_a_map_of_nothing_says_why():
    net, x = conv_net(2), torch.zeros(2, 2, 8, 8)
    with torch.no_grad():
        net[0][0].weight.zero_()
    with pytest.warns(
        UserWarning, match=r"sample\(s\) 0, 1 is zero .* activation is the same everywhere"
    ):
        found = LayerwiseEigenCAM(net, "0").attribute(x)
    assert not found.any()


def test_a_map_to_train_on_is_refused():
    net, x = conv_net(2), random_input(1, (8, 8))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="LayerwiseFEM is not differentiable; create_graph=True"):
        LayerwiseFEM(net, "1").attribute(x, create_graph=True)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not net._forward_hooks
    assert not net[1]._forward_hooks


def test_a_kernel_that_is_too_large_is_refused_with_the_layers_name():
    net, x = conv_net(2, depth=1), random_input(1, (100, 100))
    with pytest.raises(ValueError, match=r"Layer '0': kpca_cam compares .* at most 8192"):
        LayerwiseKPCACAM(net, "0").attribute(x)
