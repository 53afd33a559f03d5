"""What is kept of a layer in the two passes, and what a rule makes of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from captum_3dcam import functional

Parts = tuple[Tensor, ...]
"""Tensors with an entry per sample: on a grid, (N, C, *S_k), or one number for each, (N,), which
is a norm."""


class LayerFactors(NamedTuple):
    """What a layer rule gives for one call of a layer."""

    factors: Parts
    """Each (N, 1, *S_k); the layer map is the product of their normalised upsamplings."""
    cancellations: dict[str, Tensor]
    """By name, sums that the rule takes: (N,), their norm over what rounding alone would leave.
    At most 1 where a sum is noise."""


class Reduction(NamedTuple):
    """How a layer's activation A and gradient G, both (N, C, *S_k), become its factors.

    The first part of A, and of G, is finite if and only if A, or G, is.
    """

    of_activation: Callable[[Tensor], Parts]
    """What is held of A. No view of it: the model may write to A later."""
    of_gradient: Callable[[Tensor], Parts]
    join: Callable[[Parts, Parts], LayerFactors]
    is_small: bool = False
    """Whether little is held of G too. The layers are then joined one after the other at the end:
    between two convolutions, whose data fill the processor's cache, it takes ten times as long."""
    uses_gradient: bool = True
    """Whether there is a backward pass at all."""
    second_order: bool = False
    """Whether of G is followed by H A, the second derivative of the score times the activation."""
    over_all_uses: bool = False
    """Whether G is that over all uses of the tensor, also those before the layer returned it."""


def whole_tensors(
    rule: functional.LayerRule, sums: Callable[[Tensor, Tensor], dict[str, Parts]] | None = None
) -> Reduction:
    """For any layer rule: A is held as it is.

    ``sums`` gives those that may cancel, by name, each as the sum and its rounding noise.
    """

    def join(activation: Parts, gradient: Parts) -> LayerFactors:
        detached = (part.detach() for part in (*activation, *gradient))
        pairs = sums(*detached) if sums is not None else {}
        cancellations = {name: _ratio(*pair) for name, pair in pairs.items()}
        return LayerFactors(rule(*activation, *gradient), cancellations)

    return Reduction(
        of_activation=lambda activation: (activation.clone(),),
        of_gradient=lambda gradient: (gradient,),
        join=join,
    )


def activations_alone(rule: Callable[[Tensor], Parts]) -> Reduction:
    """For rules that take no gradient."""
    return Reduction(
        of_activation=lambda activation: (activation.clone(),),
        of_gradient=lambda gradient: (gradient,),
        join=lambda activation, gradient: LayerFactors(rule(*activation), {}),
        uses_gradient=False,
    )


def channel_sums(rule: functional.LayerRule) -> Reduction:
    """For rules that sum the channels of A and G apart from each other: only the sums are held."""

    def join(activation: Parts, gradient: Parts) -> LayerFactors:
        # To such a rule, the sum over channels is as good as the channels.
        factors = rule(activation[0], gradient[0])
        ratios = {
            "activation over channels": _ratio(*activation),
            "gradient over channels": _ratio(*gradient),
        }
        return LayerFactors(factors, ratios)

    return Reduction(_sum_and_noise, _sum_and_noise, join, is_small=True)


def _sum_and_noise(x: Tensor) -> Parts:
    return functional.channel_sum(x), functional.rounding_noise(x.detach())


def _ratio(total: Tensor, noise: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(total.detach(), dim=tuple(range(1, total.ndim)))
    return norm / noise


def gradient_over_positions(activation: Tensor, gradient: Tensor) -> dict[str, Parts]:
    """The weights of Grad-CAM: zero where only an instance normalisation reads the layer."""
    total = gradient.flatten(2).sum(dim=2, dtype=torch.promote_types(gradient.dtype, torch.float32))
    return {"gradient over positions": (total, functional.rounding_noise(gradient))}


def product_over_positions(activation: Tensor, gradient: Tensor) -> dict[str, Parts]:
    """The weights of XGrad-CAM: zero where only an instance normalisation reads the layer."""
    product = _product(activation, gradient)
    noise = functional.rounding_noise(product, gradient.dtype)
    return {"gradient times activation over positions": (product.flatten(2).sum(dim=2), noise)}


def product_over_channels(activation: Tensor, gradient: Tensor) -> dict[str, Parts]:
    """HiResCAM's map: zero where only a layer normalisation reads the layer."""
    product = _product(activation, gradient)
    noise = functional.rounding_noise(product, gradient.dtype)
    return {"gradient times activation over channels": (functional.channel_sum(product), noise)}


def _product(activation: Tensor, gradient: Tensor) -> Tensor:
    return activation * gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def stack_calls(calls: list[Parts]) -> Parts:
    """The parts of several calls as those of one, the calls on a new first spatial axis.

    Numbers are norms over the call, and become that over all calls.

    >>> grids, numbers = stack_calls([(torch.zeros(2, 1, 3, 3), torch.ones(2))] * 4)
    >>> grids.shape, numbers
    (torch.Size([2, 1, 4, 3, 3]), tensor([2., 2.]))
    """
    return tuple(
        torch.stack(parts, dim=2) if parts[0].ndim > 1 else torch.stack(parts).norm(dim=0)
        for parts in zip(*calls, strict=True)
    )
