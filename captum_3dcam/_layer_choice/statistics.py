"""Whether a layer's sums cancel, and its gradient varies, in a trial run."""

from typing import NamedTuple

import torch
from torch import Tensor

from captum_3dcam import functional
from captum_3dcam._capture.layer_calls import LayerCalls
from captum_3dcam._capture.reduction import LayerFactors, Parts, Reduction, stack_calls

_CONSTANT = 1e-4  # rounding, relative to the gradient's largest magnitude


class Statistics(NamedTuple):
    """Of one layer, over all samples."""

    rectified: bool = False
    """The activation has no negative value."""
    reaches_score: bool = True
    """The gradient is not zero, for any sample."""
    gradient_is_constant: bool = False
    """The gradient is the same at every position."""
    activation_cancels: bool = False
    """The sum of the activation over channels is rounding noise, for some sample."""
    gradient_cancels: bool = False
    """The same of the gradient."""
    gradient_cancels_over_positions: bool = False
    """The sum of the gradient over positions is rounding noise."""
    uses_one_channel: bool = False
    """The gradient is zero in all channels but one."""


def _of_activation(x: Tensor) -> Parts:
    negative = (x < 0).flatten(1).any(dim=1).to(torch.float32)
    return functional.channel_sum(x), functional.rounding_noise(x), negative


def _of_gradient(x: Tensor) -> Parts:
    positions, noise = x.flatten(2), functional.rounding_noise(x)
    lowest, highest = positions.amin(dim=2), positions.amax(dim=2)
    peak = torch.maximum(highest, -lowest).amax(dim=1)
    varies = (highest - lowest).amax(dim=1) > _CONSTANT * peak
    used = ((lowest != 0) | (highest != 0)).sum(dim=1)
    over_positions = positions.sum(dim=2, dtype=noise.dtype)
    kept = torch.linalg.vector_norm(over_positions, dim=1) > noise
    numbers = (varies, used, kept)
    return functional.channel_sum(x), noise, *(number.to(torch.float32) for number in numbers)


def _join(activation: Parts, gradient: Parts) -> LayerFactors:
    return LayerFactors((*activation, *gradient), {})


STATISTICS = Reduction(_of_activation, _of_gradient, _join)


def statistics_of(layer: LayerCalls) -> Statistics:
    """The statistics of a layer that reaches the score, after the backward pass."""
    if layer.stacked:
        calls = [call for call in layer if call.gradient]
        activation = stack_calls([call.activation for call in calls])
        gradient = stack_calls([call.gradient for call in calls])
    else:
        factors = layer.factors(None)[0].factors
        activation, gradient = factors[:3], factors[3:]
    (alpha, alpha_noise, negative), (beta, beta_noise, varies, used, kept) = activation, gradient
    cancels = [
        torch.linalg.vector_norm(total.flatten(1), dim=1) <= noise
        for total, noise in ((alpha, alpha_noise), (beta, beta_noise))
    ]
    reached = used > 0
    checks = (
        ~negative.any(),
        reached.all(),
        (reached & (varies == 0)).any(),
        *(each.any() for each in cancels),
        (kept == 0).any(),
        (used <= 1).all(),
    )
    return Statistics(*torch.stack(checks).tolist())
