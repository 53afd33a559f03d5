"""Guided maps are Captum's product, augmented ones a mean of maps; the class is the input's."""

import copy

import pytest
import torch
from captum.attr import GuidedBackprop, GuidedGradCam
from networks import conv_net, random_input

from captum_3dcam import AugmentedCAM, GuidedCAM, LayerwiseGradCAM, LayerwiseLayerCAM
from captum_3dcam.attribution import mirrored_and_scaled

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
    assert len(mirrored_and_scaled((1.0,))) == 2


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
