"""The extent of what decides: what x where for masks and boxes, without the zeros of a ReLU."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam.functional._inputs import check_effects, check_size
from captum_3dcam.functional.maps import upsample
from captum_3dcam.functional.sums import channel_sum, largest_magnitude
from captum_3dcam.functional.what_where import (
    Effect,
    coarsest_grid,
    geometric_mean,
    local_mean,
    removal_effect,
)


def effect_for(activation: Tensor, gradient: Tensor) -> Effect:
    """:func:`~captum_3dcam.functional.effect`, with the energy of what speaks for the score alone.

    ``energy`` is Σ_c relu(R_c)², averaged over neighbours. An object that covers much of a layer
    draws the mean Ā to itself, and what is removed from the rest, R < 0, is as large as on the
    object: with the signs it would count as much.

    >>> a, g = torch.tensor([[[4.0, 0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, 1.0, -1.0, 0.0]]])
    >>> effect_for(a, g).energy
    tensor([[[0.5000, 0.3333, 0.0000, 0.0000]]])
    """
    removed = removal_effect(activation, gradient)
    return Effect(channel_sum(removed), local_mean(channel_sum(removed.relu().square())))


def extent(
    effects: Sequence[Effect],
    size: Sequence[int],
    mode: str | None = None,
    align_corners: bool = False,
) -> Tensor:
    """The extent of what decides: the effects of K layers -> one map (N, 1, *size) in [0, 1].

    what = 1/K Σ_k (1 + n_k / max |n_k|) / 2, with n_k = ↑ pool(net_k) on :func:`coarsest_grid`, and
    where = (Π_k norm(↑ energy_k))^(1/K) over the layers that have any energy; the map is what ·
    where. It is :func:`what_where` without the ReLU of *what*, which is 1/2 where nothing speaks
    for or against the score. ``effects`` are those of :func:`effect_for`.

    >>> net, energy = torch.tensor([[[1.0, 0.0, -1.0]]]), torch.tensor([[[1.0, 1.0, 1.0]]])
    >>> extent([Effect(net, energy)], (3,))
    tensor([[[1.0000, 0.5000, 0.0000]]])
    """
    check_effects(effects)
    check_size(size)
    grid = coarsest_grid([tuple(each.net.shape[2:]) for each in effects])
    like = effects[0].net
    dtype = reduce(torch.promote_types, (each.net.dtype for each in effects))
    what = like.new_full((len(like), 1, *size), 0.5, dtype=dtype)
    for net, _ in effects:
        pooled = F.interpolate(net, grid, mode="area")
        signed = upsample(pooled, size, mode, align_corners)
        peak = largest_magnitude(signed)
        what = what + signed / peak.masked_fill(peak == 0, torch.inf) / (2 * len(effects))
    energies = [each.energy for each in effects]
    where, counts = geometric_mean(energies, size, mode, align_corners)
    return where * what * (counts > 0)
