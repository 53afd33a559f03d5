"""The formulas of the methods, written again from the papers in double precision.

Each sum is accompanied by the sum of its terms' magnitudes: what rounding may change is a multiple
of that, so a map whose peak is not far above it cannot be compared.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

ROUNDINGS = 100  # by how many times eps * magnitude a sum may differ
TOO_UNCERTAIN = 0.02  # a map with a larger tolerance is not compared


class Sum(NamedTuple):
    """What a method normalises and upsamples, both (N, 1, *S_k)."""

    value: Tensor
    magnitude: Tensor
    is_rectified: bool = False
    """Whether ReLU comes before upsampling too."""


class Drawn(NamedTuple):
    """A map (N, 1, *S), and by how much each sample of another may differ from it, (N,)."""

    values: Tensor
    tolerance: Tensor


def _summed(terms: Tensor, magnitudes: Tensor | None = None, is_rectified: bool = False) -> Sum:
    magnitudes = terms.abs() if magnitudes is None else magnitudes
    return Sum(terms.sum(1, keepdim=True), magnitudes.sum(1, keepdim=True), is_rectified)


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_local(a: Tensor, g: Tensor) -> list[Sum]:
    return [_summed(g), _summed(a)]


def _counterfactual(a: Tensor, g: Tensor) -> list[Sum]:
    return [_summed(-g), _summed(a)]


def _grad_cam(a: Tensor, g: Tensor) -> list[Sum]:
    weight, bound = (x.mean(_space(x), keepdim=True) for x in (g, g.abs()))
    return [_summed(weight * a, bound * a.abs(), True)]


def _grad_cam_plus_plus(a: Tensor, g: Tensor) -> list[Sum]:
    total, bound = (x.sum(_space(x), keepdim=True) for x in (a, a.abs()))
    denominator = 2 + g * total
    alphas = torch.where((g > 0) & (denominator != 0), g / denominator, 0)
    # The denominator's own rounding, which matters where it cancels.
    relative = (2 + g.abs() * bound) / denominator.abs()
    weight, weight_bound = (
        x.nan_to_num(posinf=torch.inf).sum(_space(x), keepdim=True)
        for x in (alphas, alphas.abs() * relative)
    )
    return [_summed(weight * a, weight_bound * a.abs(), True)]


def _x_grad_cam(a: Tensor, g: Tensor) -> list[Sum]:
    total, bound = (x.sum(_space(x), keepdim=True) for x in (a, a.abs()))
    moment, moment_bound = ((x).sum(_space(x), keepdim=True) for x in (g * a, (g * a).abs()))
    weight = torch.where(total == 0, 0, moment / total)
    # Where the total cancels, a rounded one is not zero, and the weight is anything.
    weight_bound = torch.where(bound == 0, 0, moment_bound * bound / total.square())
    return [_summed(weight * a, weight_bound * a.abs(), True)]


def _layer_cam(a: Tensor, g: Tensor) -> list[Sum]:
    return [_summed(g.clamp(min=0) * a, is_rectified=True)]


def _hi_res_cam(a: Tensor, g: Tensor) -> list[Sum]:
    return [_summed(g * a, is_rectified=True)]


RULES: dict[str, Callable[[Tensor, Tensor], list[Sum]]] = {
    "global_local": _global_local,
    "counterfactual": _counterfactual,
    "grad_cam": _grad_cam,
    "grad_cam_plus_plus": _grad_cam_plus_plus,
    "x_grad_cam": _x_grad_cam,
    "layer_cam": _layer_cam,
    "hi_res_cam": _hi_res_cam,
}
"""By the names of :mod:`captum_3dcam.functional`."""


def sums_of(rule: str, activation: Tensor, gradient: Tensor) -> list[Sum]:
    return RULES[rule](activation.double(), gradient.double())


# --------------------------------------------------------------------------------------- maps


def _upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    return interpolate(x, tuple(size), mode=mode)


def _peak(x: Tensor) -> Tensor:
    return x.flatten(1).amax(1)


def _per_sample(x: Tensor, like: Tensor) -> Tensor:
    return x.reshape(-1, *[1] * (like.ndim - 1))


def drawn(sums: Sequence[Sum], size: Sequence[int], eps: float) -> Drawn:
    """norm(Σ_i ↑x_i) over the calls of a layer."""
    rectified = [s.value.clamp(min=0) if s.is_rectified else s.value for s in sums]
    upsampled = torch.stack([_upsampled(x, size) for x in rectified]).sum(0)
    peak = _peak(upsampled)
    values = upsampled.clamp(min=0) / _per_sample(peak.where(peak > 0, 1), upsampled)
    # Below zero, the highest value before ReLU says how surely the map is zero.
    below = torch.stack([_peak(s.value) for s in sums]).amax(0)
    height = peak.where((peak != 0) | (below > 0) | (not sums[0].is_rectified), below)
    # The positions that are interpolated at round too, by the length of the axis.
    roundings = ROUNDINGS + 4 * max(max(s.value.shape[2:]) for s in sums)
    noise = roundings * eps * sum(_peak(s.magnitude) for s in sums)
    tolerance = torch.where(noise == 0, 0, noise / height.abs())
    tolerance = tolerance.where(height >= 0, torch.where(tolerance < 1, 0, torch.inf))
    return Drawn(values, _settled(tolerance + ROUNDINGS * eps))


def _settled(tolerance: Tensor) -> Tensor:
    # NaN too.
    return tolerance.where(tolerance < TOO_UNCERTAIN, torch.inf)


def multiplied(factors: Sequence[Drawn]) -> Drawn:
    """A layer map: the product of its factors' maps. A factor that is zero makes it zero."""
    values = math.prod(f.values for f in factors[1:]) * factors[0].values
    tolerance = torch.stack([f.tolerance for f in factors]).sum(0)
    surely_zero = torch.stack([(_peak(f.values) == 0) & f.tolerance.isfinite() for f in factors])
    return Drawn(values, tolerance.where(~surely_zero.any(0), 0))


def fused(maps: Sequence[Drawn], fusion: str) -> Drawn:
    stacked = torch.stack([m.values for m in maps])
    tolerance = torch.stack([m.tolerance for m in maps]).sum(0)
    if fusion == "geometric_mean":
        return Drawn(stacked.prod(0).pow(1 / len(maps)), tolerance.pow(1 / len(maps)))
    joined = {
        "sum": lambda: stacked.sum(0),
        "mean": lambda: stacked.mean(0),
        "max": lambda: stacked.amax(0),
        "product": lambda: stacked.prod(0),
    }
    return Drawn(joined[fusion](), tolerance)


# ------------------------------------------------------------------------------ what and where


class Effects(NamedTuple):
    """Of one layer: the net effect Σ_c R_c and the energy Σ_c R_c² over neighbours."""

    net: Sum
    energy: Sum
    is_noise: Tensor
    """(N,): samples whose R is no more than rounding, or not surely more."""


def effects_of(activation: Tensor, gradient: Tensor, eps: float) -> Effects:
    a, g = activation.double(), gradient.double()
    mean, bound = (x.mean(_space(x), keepdim=True) for x in (a, a.abs()))
    removed, magnitude = g * (a - mean), g.abs() * (a.abs() + bound)
    largest = _peak(removed.abs())
    scale = _per_sample(largest.where(largest > 0, 1), removed)
    removed, magnitude = removed / scale, magnitude / scale
    is_noise = (largest > 0) & (largest < ROUNDINGS * eps * _peak((g * a).abs()))
    squares, square_bounds = removed.square(), (removed.abs() * magnitude)
    energy = Sum(_local_mean(squares.sum(1, True)), _local_mean(square_bounds.sum(1, True)))
    return Effects(_summed(removed, magnitude), energy, is_noise)


def _local_mean(x: Tensor) -> Tensor:
    """The mean over each position and its neighbours inside the grid."""
    rank, size = x.ndim - 2, x.shape[2:]
    totals, counts = torch.zeros_like(x), torch.zeros_like(x)
    padded, inside = (pad(each, [1, 1] * rank) for each in (x, torch.ones_like(x)))
    for offsets in product(range(3), repeat=rank):
        shifted = tuple(slice(o, o + n) for o, n in zip(offsets, size, strict=True))
        totals += padded[(..., *shifted)]
        counts += inside[(..., *shifted)]
    return totals / counts


def what_where(layers: Sequence[Effects], size: Sequence[int], eps: float) -> Drawn:
    shapes = [effects.net.value.shape[2:] for effects in layers]
    grid = tuple(min((n for n in axis if n > 1), default=1) for axis in zip(*shapes, strict=True))
    whats = [drawn([_pooled(effects.net, grid)], size, eps) for effects in layers]
    wheres = [drawn([effects.energy], size, eps) for effects in layers]
    informed = torch.stack([_peak(where.values) > 0 for where in wheres])
    count = informed.sum(0).clamp(min=1)
    powers = _per_sample(1 / count, wheres[0].values)
    where = torch.ones_like(wheres[0].values)
    for each, is_informed in zip(wheres, informed, strict=True):
        where = where * torch.where(_per_sample(is_informed, where), each.values, 1).pow(powers)
    values = torch.stack([what.values for what in whats]).mean(0) * where
    what_tolerance = torch.stack([what.tolerance for what in whats]).mean(0)
    where_tolerance = torch.stack([each.tolerance for each in wheres]).sum(0).pow(1 / count)
    is_noise = torch.stack([effects.is_noise for effects in layers]).any(0)
    return Drawn(values, (what_tolerance + where_tolerance).where(~is_noise, torch.inf))


def _pooled(x: Sum, grid: tuple[int, ...]) -> Sum:
    return Sum(*(interpolate(each, grid, mode="area") for each in (x.value, x.magnitude)))


# --------------------------------------------------------------------------------- comparison


def difference(received: Tensor, expected: Drawn) -> str | None:
    """What is wrong with maps (N, 1, *S); None where they are as expected."""
    if received.shape != expected.values.shape:
        return f"shape {tuple(received.shape)} instead of {tuple(expected.values.shape)}"
    if not received.isfinite().all():
        return "NaN or Inf in the map"
    gaps = _peak((received.double() - expected.values).abs())
    wrong = (gaps > expected.tolerance).nonzero().flatten().tolist()
    if not wrong:
        return None
    sample = wrong[0]
    return (
        f"sample {sample} differs by {float(gaps[sample]):.2g}, more than "
        f"{float(expected.tolerance[sample]):.2g}"
    )
