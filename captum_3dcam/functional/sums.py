"""Sums, means and largest values over channels and positions, in float32 at least."""

import torch
from torch import Tensor

from captum_3dcam.functional._inputs import check_features


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """At least float32: a sum over hundreds of channels overflows half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def spatial_axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def channel_sum(x: Tensor) -> Tensor:
    """Sum over channels, Σ_c x_c: (N, C, *S) -> (N, 1, *S), in float32 at least.

    >>> channel_sum(torch.ones(1, 5, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    check_features("x", x, axes=2)
    return x.sum(dim=1, keepdim=True, dtype=accumulation_dtype(x))


def rounding_noise(x: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """The norm that rounding alone would leave of a sum over x that cancels: (N, C, *S) -> (N,).

    A sum that is no larger is noise, and normalising it would show its sign as a map. The gradient
    of whatever only layer normalisations read sums to noise over channels: they take the mean over
    channels out. ``precision`` is that of the numbers that x was computed from, by default its own.

    >>> x = torch.randn(1, 64, 5, 5)
    >>> noise, centred = rounding_noise(x), x - x.mean(dim=1, keepdim=True)
    >>> channel_sum(x).norm() > noise, channel_sum(centred).norm() > noise
    (tensor([True]), tensor([False]))
    """
    # What normalisation layers leave was at most 1.5 eps in 16 bits and 12 eps in 32 and 64.
    precision = precision or x.dtype
    margin = 2 if precision.itemsize == 2 else 32
    # Over all axes at once: one after the other is slow in one memory format or the other.
    axes = tuple(range(1, x.ndim))
    norm: Tensor = torch.linalg.vector_norm(x, dim=axes, dtype=accumulation_dtype(x))
    return norm * (margin * torch.finfo(precision).eps)


def widen(x: Tensor) -> Tensor:
    return x.to(accumulation_dtype(x))


def spatial_mean(x: Tensor) -> Tensor:
    return widen(x).mean(dim=spatial_axes(x), keepdim=True)


def largest_magnitude(x: Tensor) -> Tensor:
    """Of each sample, (N, 1, ...)."""
    return x.abs().amax(dim=tuple(range(1, x.ndim)), keepdim=True)


def weighted_sum(activation: Tensor, weights: Tensor) -> Tensor:
    """relu Σ_c w_c A_c: (N, C, *S) and weights that broadcast to it -> (N, 1, *S).

    The published baselines take the ReLU at the layer's own size, before upsampling.

    >>> weighted_sum(torch.tensor([[[1.0, 2.0], [4.0, 1.0]]]), torch.tensor([[[1.0], [-1.0]]]))
    tensor([[[0., 1.]]])
    """
    return channel_sum(widen(weights) * widen(activation)).relu()
