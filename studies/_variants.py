"""What x where, and what was tried in its stead, as functions of the layers' (A, G)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam import functional
from captum_3dcam.functional import Effect

Pair = tuple[Tensor, Tensor]
"""Activation and gradient of a layer, (1, C, *S_k) each."""
Map = Callable[[Sequence[Pair], Sequence[int]], Tensor]
"""From the pairs of the layers to a map (1, 1, *size)."""
Rule = Callable[[Tensor, Tensor], Effect]
Join = Callable[[Sequence[Effect], Sequence[int]], Tensor]


def joined(pairs: Sequence[Pair], size: Sequence[int], rule: Rule, join: Join) -> Tensor:
    return join([rule(*pair) for pair in pairs], size)


def smoothed(effects: Sequence[Effect], size: Sequence[int]) -> Tensor:
    """What x where, with the net effect averaged over neighbours as the energy is."""
    grid = functional.coarsest_grid([tuple(each.net.shape[2:]) for each in effects])
    pooled = [F.interpolate(each.net, grid, mode="area") for each in effects]
    means = [local_mean(net) for net in pooled]
    pairs = zip(means, effects, strict=True)
    return functional.what_where([Effect(net, each.energy) for net, each in pairs], size)


def averaged(effects: Sequence[Effect], size: Sequence[int]) -> Tensor:
    """What x where, with the arithmetic instead of the geometric mean of the layers' energies."""
    grid = functional.coarsest_grid([tuple(each.net.shape[2:]) for each in effects])
    what, where = torch.zeros(1, 1, *size), torch.zeros(1, 1, *size)
    for net, energy in effects:
        what += functional.layer_map((F.interpolate(net, grid, mode="area"),), size)
        where += functional.layer_map((energy,), size)
    return what * where / len(effects) ** 2


def confident(effects: Sequence[Effect], size: Sequence[int]) -> Tensor:
    """The extent, with *what* the probability Φ(z) that the net effect has its sign not by chance.

    z = Σ R / (Σ R²)^(1/2) over a cell of the coarsest grid, and of the layers Σ_k z_k / K^(1/2).
    """
    grid = functional.coarsest_grid([tuple(each.net.shape[2:]) for each in effects])
    total = torch.zeros(1, 1, *size)
    for net, energy in effects:
        cell = float(torch.tensor(net.shape[2:]).prod() / torch.tensor(grid).prod())
        sums, squares = (F.interpolate(x, grid, mode="area") * cell for x in (net, energy))
        total = total + functional.upsample(sums / squares.clamp(min=1e-30).sqrt(), size)
    what = torch.special.ndtr(total / len(effects) ** 0.5)
    where = torch.stack([functional.layer_map((each.energy,), size) for each in effects])
    return what * where.log().mean(dim=0).exp()


def local_mean(x: Tensor) -> Tensor:
    """Over each position and its neighbours."""
    pool, around = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3], [1, 1] * (x.ndim - 2)
    padded, present = F.pad(x, around), F.pad(torch.ones_like(x), around)
    return pool(padded, 3, stride=1) / pool(present, 3, stride=1)


VARIANTS: dict[str, Map] = {
    "WhatWhere": partial(joined, rule=functional.effect, join=functional.what_where),
    "energy for": partial(joined, rule=functional.effect_for, join=functional.what_where),
    "no ReLU": partial(joined, rule=functional.effect, join=functional.extent),
    "arithmetic": partial(joined, rule=functional.effect, join=averaged),
    "smoothed": partial(joined, rule=functional.effect_for, join=smoothed),
    "confident": partial(joined, rule=functional.effect_for, join=confident),
    "Extent": partial(joined, rule=functional.effect_for, join=functional.extent),
}
