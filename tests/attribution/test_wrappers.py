"""Guided maps are Captum's product, augmented ones a mean of maps; the class is the input's."""

import copy

import pytest
import torch
from captum.attr import GuidedBackprop, GuidedGradCam
from networks import FramesFirst, conv_net, random_input
from torch import nn

from captum_3dcam import AugmentedCAM, GuidedCAM, LayerwiseGradCAM, LayerwiseLayerCAM, margin
from captum_3dcam.attribution.wrappers import _mirrored_and_scaled

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks")  # Captum's own
SIZES = {1: (12,), 2: (9, 8), 3: (4, 8, 7)}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_guided_is_guided_backpropagation_times_the_map(rank):
    net, x = conv_net(rank), random_input(2, SIZES[rank])
    cam = LayerwiseLayerCAM(net, ["0", "1"])
    guided = GuidedBackprop(net).attribute(x.clone().requires_grad_(), target=2)
    expected = guided * cam.attribute(x, target=2)
    torch.testing.assert_close(GuidedCAM(cam).attribute(x, target=2), expected.detach())


def test_with_one_layer_it_is_captums_up_to_the_map_s_scale_and_interpolation():
    net, x = conv_net(2, depth=1), random_input(1, (8, 8))
    theirs = GuidedGradCam(net, net[0]).attribute(x.clone().requires_grad_(), target=1).detach()
    ours = GuidedCAM(LayerwiseGradCAM(net, "0")).attribute(x, target=1)
    scale = theirs.abs().sum() / ours.abs().sum()
    torch.testing.assert_close(ours * scale, theirs)


def test_the_class_of_both_is_that_of_the_input():
    net, x = conv_net(2), random_input(3, (8, 8))
    highest = net(x).argmax(1).tolist()
    cam = LayerwiseGradCAM(net, ["0", "1"])
    for wrapped in (GuidedCAM(cam), AugmentedCAM(cam)):
        torch.testing.assert_close(wrapped.attribute(x), wrapped.attribute(x, target=highest))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_augmented_is_the_mean_over_mirror_images_and_factors(rank):
    net, x = conv_net(rank), random_input(2, SIZES[rank])
    cam = LayerwiseGradCAM(net, ["0", "1"])
    total = 0
    for factor in (0.9, 1.0, 1.1):
        total = total + cam.attribute(x * factor, target=1)
        total = total + cam.attribute(x.flip(-1) * factor, target=1).flip(-1)
    torch.testing.assert_close(AugmentedCAM(cam).attribute(x, target=1), total / 6)


def test_augmentations_of_ones_own():
    net, x = conv_net(3), random_input(1, SIZES[3])
    cam = LayerwiseGradCAM(net, "1")
    reverse = (lambda x: x.flip(2), lambda x: x.flip(2))
    found = AugmentedCAM(cam, [reverse]).attribute(x, target=1)
    torch.testing.assert_close(found, cam.attribute(x.flip(2), target=1).flip(2))
    assert len(_mirrored_and_scaled((1.0,))) == 2


def test_guided_takes_the_targets_and_outputs_of_the_map():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            return {"features": x, "logits": self.net(x)}

    model, x = Named().eval(), random_input(2, (8, 8))
    expected = GuidedCAM(LayerwiseGradCAM(model.net, "1")).attribute(x, target=1)
    cam = LayerwiseGradCAM(model, "net.1", output="logits")
    torch.testing.assert_close(GuidedCAM(cam).attribute(x, target=1), expected)
    torch.testing.assert_close(GuidedCAM(cam).attribute(x, lambda y: y[:, 1]), expected)
    segment = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    assert GuidedCAM(LayerwiseGradCAM(segment, "1")).attribute(x, target=1).shape == x.shape


def test_guided_frames_first():
    net, x = conv_net(3), random_input(2, (4, 8, 7))
    expected = GuidedCAM(LayerwiseGradCAM(net, "1")).attribute(x, target=1)
    cam = LayerwiseGradCAM(FramesFirst(net).eval(), "net.1", input_layout="N T C H W")
    found = GuidedCAM(cam).attribute(x.transpose(1, 2), target=1)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_guided_without_relu_modules_is_warned_of():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.AvgPool2d(6), nn.Flatten()).eval()
    with pytest.warns(UserWarning, match="no ReLU modules"):
        GuidedCAM(LayerwiseGradCAM(net, "1")).attribute(random_input(1, (8, 8)))


def test_augmented_takes_a_margin_of_the_input():
    net, x = conv_net(2, classes=8), random_input(2, (8, 8))
    output = net(x)
    classes = output.argmax(1)
    nearest = [(output - output.gather(1, classes[:, None])).abs().argsort(1)[:, 1].tolist()]
    cam = LayerwiseGradCAM(net, ["0", "1"])
    for sample in range(2):
        named = margin(int(classes[sample]), nearest[0][sample])
        own = AugmentedCAM(cam).attribute(x[[sample]], named)
        found = AugmentedCAM(cam).attribute(x, margin(count=1))
        torch.testing.assert_close(found[[sample]], own)


def test_the_model_and_the_inputs_are_as_before():
    net, x = conv_net(2, norm=True).train(), random_input(2, (8, 8))
    before, inputs = copy.deepcopy(net.state_dict()), x.clone()
    cam = LayerwiseGradCAM(net, "1")
    for wrapped in (GuidedCAM(cam), AugmentedCAM(cam)):
        wrapped.attribute(x, target=0)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(x, inputs)
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_what_is_refused():
    net, x = conv_net(2), random_input(1, (8, 8))
    cam = LayerwiseGradCAM(net, "1")
    with pytest.raises(TypeError, match="Expected a class activation map .* received GuidedBack"):
        AugmentedCAM(GuidedBackprop(net))
    with pytest.raises(TypeError, match=r"needs the ReLUs of a torch\.nn\.Module"):
        GuidedCAM(LayerwiseGradCAM(lambda x: net(x), net[1]))
    with pytest.raises(TypeError, match=r"augmentations\[0\] must be two functions"):
        AugmentedCAM(cam, [lambda x: x])
    with pytest.raises(ValueError, match="augmentations is empty"):
        AugmentedCAM(cam, [])
    with pytest.raises(TypeError, match=r"one tensor \(N, C, \*S\); received tuple"):
        GuidedCAM(cam).attribute((x,))
    crop = (lambda x: x[..., :4], lambda x: x)
    with pytest.raises(ValueError, match=r"augmentations\[0\] gives .* undo the first"):
        AugmentedCAM(cam, [crop]).attribute(x)
