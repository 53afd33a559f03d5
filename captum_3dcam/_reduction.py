"""What is kept of a layer in the two passes, and what a rule makes of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from captum_3dcam import functional

Parts = tuple[Tensor, ...]
"""Tensors with an entry per sample: on a grid, (N, C, *S_k), or one number for each, (N,)."""


class LayerFactors(NamedTuple):
    """What a layer rule gives for one call of a layer."""

    factors: Parts
    """Each (N, 1, *S_k); the layer map is the product of their normalised upsamplings."""
    cancellations: Parts = ()
    """(N,) for the activation and (N,) for the gradient: at most 1 where their sum over channels
    is rounding noise. Empty for rules that do not sum channels apart from each other."""


class Reduction(NamedTuple):
    """How a layer's activation A and gradient G, both (N, C, *S_k), become its factors.

    The first part of A, and of G, is finite if and only if A, or G, is.
    """

    of_activation: Callable[[Tensor], Parts]
    """What is held of A. No view of it: the model may write to A later."""
    of_gradient: Callable[[Tensor], Parts]
    join: Callable[[Parts, Parts], LayerFactors]


def whole_tensors(rule: functional.LayerRule) -> Reduction:
    """For any layer rule: A is held as it is."""
    return Reduction(
        of_activation=lambda activation: (activation.clone(),),
        of_gradient=lambda gradient: (gradient,),
        join=lambda activation, gradient: LayerFactors(rule(*activation, *gradient)),
    )


def channel_sums(rule: functional.LayerRule) -> Reduction:
    """For rules that sum the channels of A and G apart from each other: only the sums are held."""

    def join(activation: Parts, gradient: Parts) -> LayerFactors:
        # To such a rule, the sum over channels is as good as the channels.
        factors = rule(activation[0], gradient[0])
        return LayerFactors(factors, (_cancellation(*activation), _cancellation(*gradient)))

    return Reduction(_sum_and_noise, _sum_and_noise, join)


def _sum_and_noise(x: Tensor) -> Parts:
    return functional.channel_sum(x), functional.rounding_noise(x)


def _cancellation(total: Tensor, noise: Tensor) -> Tensor:
    ratio: Tensor = torch.linalg.vector_norm(total.flatten(1), dim=1) / noise
    return ratio


def stack_calls(calls: list[Parts]) -> Parts:
    """The parts of several calls as those of one, the calls on a new first spatial axis.

    >>> grids, numbers = stack_calls([(torch.zeros(2, 1, 3, 3), torch.ones(2))] * 4)
    >>> grids.shape, numbers
    (torch.Size([2, 1, 4, 3, 3]), tensor([4., 4.]))
    """
    return tuple(
        torch.stack(parts, dim=2) if parts[0].ndim > 1 else torch.stack(parts).sum(dim=0)
        for parts in zip(*calls, strict=True)
    )
