"""Drop and increase in confidence against loops, and against pytorch-grad-cam."""

import numpy as np
import pytest
import torch
from networks import conv_net, random_input
from peer_metrics import peer_module
from sanity_helpers import SIZES, assert_same, state_of

from captum_3dcam.sanity import ConfidenceChange, confidence_change, mask_inputs


def test_drop_and_increase_by_hand():
    original = torch.tensor([0.8, 0.5, 0.5, 0.0, -1.0]).double()
    masked = torch.tensor([0.2, 0.5, 0.9, 0.1, -2.0]).double()
    change = ConfidenceChange("score", original, masked)
    np.testing.assert_allclose(change.drop, [0.75, 0, 0, np.nan, np.nan])
    assert change.increase.tolist() == [False, False, True, True, False]
    assert change.drop[:3].mean().item() == pytest.approx(0.25)  # the average drop


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_input_is_multiplied_by_the_map_over_its_maximum(rank):
    model, x = conv_net(rank), random_input(3, SIZES[rank])
    attribution = torch.randn(3, 1, *SIZES[rank], generator=torch.Generator().manual_seed(2))
    attribution[2] = -1  # a map without a positive value leaves nothing
    change = confidence_change(model, x, attribution, batch_size=2)
    targets = model(x).argmax(1).tolist()
    assert change.target == targets
    for n, target in enumerate(targets):
        heat = attribution[n, 0].numpy().clip(0)
        heat = heat / max(heat.max(), 1e-12)
        masked = torch.stack([channel * torch.from_numpy(heat) for channel in x[n]])[None]
        for scores, image in ((change.original, x[n : n + 1]), (change.masked, masked)):
            expected = model(image).softmax(1)[0, target].item()
            assert scores[n].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(mask_inputs(x, attribution)[2], torch.zeros_like(x[2]))


def test_differences_are_pytorch_grad_cams():
    """Its drop is a difference, not divided by the input's score; it takes maps as they are."""
    peer = peer_module("metrics.cam_mult_image")
    make_target = peer_module("utils.model_targets").ClassifierOutputSoftmaxTarget
    model, x, classes = conv_net(2), random_input(4, (9, 8)), [0, 1, 2, 3]
    maps = torch.rand(4, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    maps = maps / maps.amax(dim=(1, 2, 3), keepdim=True)
    change = confidence_change(model, x, maps, classes)
    arguments = (x, maps[:, 0].numpy(), [make_target(c) for c in classes], model)
    np.testing.assert_allclose(
        change.masked - change.original, peer.CamMultImageConfidenceChange()(*arguments), atol=1e-6
    )
    drop = peer.DropInConfidence()(*arguments)
    np.testing.assert_allclose(change.drop * change.original, drop, atol=1e-6)
    np.testing.assert_array_equal(change.increase, peer.IncreaseInConfidence()(*arguments))
    assert set(change.increase.tolist()) == {True, False}


def test_a_map_of_ones_has_no_drop_and_the_scale_does_not_matter():
    model, x = conv_net(2), random_input(2, (6, 6))
    ones = confidence_change(model, x, torch.ones(2, 1, 6, 6))
    assert torch.equal(ones.masked, ones.original)
    assert ones.drop.tolist() == [0, 0]
    attribution = torch.rand(2, 1, 6, 6)
    scaled = [confidence_change(model, x, s * attribution).masked for s in (1, 1000)]
    torch.testing.assert_close(*scaled)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_model_does_not_change(error):
    model, x = conv_net(2, norm=True).train(), random_input(3, (6, 6)).requires_grad_()
    before, calls = state_of(model), []

    def forward(inputs):
        calls.append(inputs)
        if error is not None and len(calls) == 2:
            raise error
        inputs.data.mul_(0)  # a model may write into its input
        return model(inputs) + torch.rand(())

    attribution = torch.ones(3, 1, 6, 6)
    values = x.detach().clone()
    if error is None:
        assert not confidence_change(forward, x, attribution).drop.requires_grad
    else:
        with pytest.raises(error):
            confidence_change(forward, x, attribution)
    assert_same(before, state_of(model))
    assert torch.equal(x, values)


def test_additional_arguments_and_outputs():
    x, factors = torch.rand(2, 1, 5), torch.tensor([1.0, 100.0])
    model = lambda x, factor: x.sum(dim=(1, 2)) * factor  # noqa: E731
    options = {"output": torch.sigmoid, "additional_forward_args": factors, "batch_size": 1}
    change = confidence_change(model, x, x, **options)
    assert change.output == "sigmoid"
    expected = (x.sum(dim=(1, 2)) * factors).double().sigmoid()
    torch.testing.assert_close(change.original, expected, atol=1e-6, rtol=1e-6)


def test_invalid_arguments():
    model, x = conv_net(2), random_input(2, (6, 6))
    with pytest.raises(ValueError, match=r"attribution of shape \(2, 1, 6, 6\)"):
        confidence_change(model, x, x)
    with pytest.raises(ValueError, match="attribution holds NaN"):
        confidence_change(model, x, x[:, :1] * torch.nan)
    with pytest.raises(TypeError, match="Expected inputs of floating-point numbers; got torch.ui"):
        confidence_change(model, x.byte(), x[:, :1])
    with pytest.raises(ValueError, match="batch_size=0"):
        confidence_change(model, x, x[:, :1], batch_size=0)
    with pytest.raises(ValueError, match="Pass output='score'"):
        confidence_change(lambda x: x.sum(dim=(1, 2, 3)), x, x[:, :1])
