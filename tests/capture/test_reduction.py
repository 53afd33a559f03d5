"""What is held of the two passes, the factors made of it, and the sums that may cancel."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam import functional
from captum_3dcam._capture import reduction as reductions
from captum_3dcam._capture.reduction import channel_sums, stack_calls, whole_tensors

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
SUMS = {
    # the reduction, and by name the numbers of one sample that are summed
    "3DCAM": (
        lambda: channel_sums(functional.global_local),
        {
            "activation over channels": (lambda a, g: a, 0),
            "gradient over channels": (lambda a, g: g, 0),
        },
    ),
    "Grad-CAM": (
        lambda: whole_tensors(functional.grad_cam, reductions.gradient_over_positions),
        {"gradient over positions": (lambda a, g: g, (1, 2))},
    ),
    "XGrad-CAM": (
        lambda: whole_tensors(functional.x_grad_cam, reductions.product_over_positions),
        {"gradient times activation over positions": (lambda a, g: a * g, (1, 2))},
    ),
    "HiResCAM": (
        lambda: whole_tensors(functional.hi_res_cam, reductions.product_over_channels),
        {"gradient times activation over channels": (lambda a, g: a * g, 0)},
    ),
    "LayerCAM": (lambda: whole_tensors(functional.layer_cam), {}),
}
each_rule = pytest.mark.parametrize("name", SUMS)


def pair(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 5, 6, generator=generator).to(dtype) for _ in range(2)]


def reduced(reduction, activation, gradient):
    return reduction.join(reduction.of_activation(activation), reduction.of_gradient(gradient))


@pytest.mark.parametrize("dtype", EPS)
@each_rule
def test_a_sum_is_measured_by_what_rounding_would_leave_of_it(name, dtype):
    """|Σ x| / (32 eps |x|), sample by sample."""
    make, sums = SUMS[name]
    activation, gradient = pair(dtype=dtype)
    _, cancellations = reduced(make(), activation, gradient)
    assert cancellations.keys() == sums.keys()
    for of_sum, (summands, axes) in sums.items():
        for sample, ratio in enumerate(cancellations[of_sum].tolist()):
            x = summands(activation[sample].double(), gradient[sample].double()).numpy()
            expected = (x.sum(axis=axes) ** 2).sum() ** 0.5 / (x**2).sum() ** 0.5
            assert ratio == pytest.approx(expected / (32 * EPS[dtype]), rel=1e-4)


@each_rule
def test_the_factors_are_those_of_the_rule(name):
    make, _ = SUMS[name]
    rules = {
        "3DCAM": functional.global_local,
        "Grad-CAM": functional.grad_cam,
        "XGrad-CAM": functional.x_grad_cam,
        "HiResCAM": functional.hi_res_cam,
        "LayerCAM": functional.layer_cam,
    }
    activation, gradient = pair()
    factors, _ = reduced(make(), activation, gradient)
    torch.testing.assert_close(factors, rules[name](activation, gradient))


@each_rule
def test_what_is_held_of_an_activation_is_no_view_of_it(name):
    make, _ = SUMS[name]
    activation, gradient = pair()
    reduction = make()
    held = reduction.of_activation(activation)
    expected = reduction.join(held, reduction.of_gradient(gradient))
    held = reduction.of_activation(activation)
    activation.zero_()
    torch.testing.assert_close(reduction.join(held, reduction.of_gradient(gradient)), expected)


def test_what_is_measured_has_no_gradient():
    for make, _ in SUMS.values():
        activation, gradient = [x.requires_grad_() for x in pair()]
        factors, cancellations = reduced(make(), activation, gradient)
        assert all(factor.requires_grad for factor in factors)
        assert not any(ratio.requires_grad for ratio in cancellations.values())


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_stacked_calls_have_an_axis_of_calls_before_the_others(calls, samples, channels):
    grids = torch.randn(calls, samples, channels, 2, 5)
    noises = torch.rand(calls, samples)
    stacked, noise = stack_calls(list(zip(grids, noises, strict=True)))
    assert stacked.shape == (samples, channels, calls, 2, 5)
    for call in range(calls):
        assert torch.equal(stacked[:, :, call], grids[call])
    torch.testing.assert_close(noise, noises.square().sum(0).sqrt())


def test_the_noise_of_stacked_calls_is_that_of_all_their_entries():
    calls = [pair(seed)[0] for seed in range(4)]
    reduction = channel_sums(functional.global_local)
    _, noise = stack_calls([reduction.of_activation(call) for call in calls])
    torch.testing.assert_close(noise, functional.rounding_noise(torch.stack(calls, dim=2)))
