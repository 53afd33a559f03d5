"""What x where: the effects of several layers -> one map."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam.functional._inputs import check_effects, check_pair, check_size, check_sizes
from captum_3dcam.functional.maps import drawn
from captum_3dcam.functional.sums import channel_sum, largest_magnitude, spatial_axes, widen


class Effect(NamedTuple):
    """What each position of a layer does to the score, both (N, 1, *S_k); see :func:`effect`."""

    net: Tensor
    energy: Tensor


def effect(activation: Tensor, gradient: Tensor) -> Effect:
    """The first-order effect on the score of setting a position to the mean of all positions.

    R = G ⊙ (A − Ā), with Ā each channel's mean over the positions. A constant added to a channel
    and subtracted from the next layer's bias changes neither the network nor R, unlike G ⊙ A.
    ``net`` is Σ_c R_c. ``energy`` is Σ_c R_c², averaged over the 3^rank neighbourhood of each
    position, because a gradient through max-pooling is zero at most positions. Both are in float32
    at least, and up to a positive factor: R is divided by its largest magnitude in each sample.

    >>> a, g = torch.tensor([[[4.0, 0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, 1.0, -1.0, 0.0]]])
    >>> effect(a, g).net
    tensor([[[ 1., -1.,  0.,  0.]]])
    >>> effect(a, g).energy
    tensor([[[1.0000, 0.6667, 0.3333, 0.0000]]])
    """
    removed = removal_effect(activation, gradient)
    return Effect(channel_sum(removed), local_mean(channel_sum(removed.square())))


def removal_effect(activation: Tensor, gradient: Tensor) -> Tensor:
    """R = G ⊙ (A − Ā) over its largest magnitude in each sample: (N, C, *S_k), float32 at least.

    >>> a, g = torch.tensor([[[4.0, 0.0, 2.0]]]), torch.tensor([[[1.0, 1.0, -1.0]]])
    >>> removal_effect(a, g)
    tensor([[[ 1., -1., -0.]]])
    """
    check_pair(activation, gradient)
    activation, gradient = widen(activation), widen(gradient)
    mean = activation.mean(dim=spatial_axes(activation), keepdim=True)
    removed = gradient * (activation - mean)
    # Of activations without differences, rounding is all that is left.
    rounding = 32 * torch.finfo(removed.dtype).eps * largest_magnitude(gradient * activation)
    largest = largest_magnitude(removed)
    is_noise = (largest <= rounding) & rounding.isfinite()
    return removed / torch.where(is_noise, torch.inf, largest)


def what_where(
    effects: Sequence[Effect],
    size: Sequence[int],
    mode: str | None = None,
    align_corners: bool = False,
) -> Tensor:
    """What x where: the effects of K layers -> one map (N, 1, *size) in [0, 1].

    what = 1/K Σ_k norm(↑ pool(net_k)), each pooled to :func:`coarsest_grid`, because on a fine
    grid the net effects of neighbours cancel; where = (Π_k norm(↑ energy_k))^(1/K), over the
    layers that have any energy. norm is :func:`normalize`.

    >>> net, energy = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 0.25]]])
    >>> what_where([Effect(net, energy)], (2,))
    tensor([[[1., 0.]]])
    """
    check_effects(effects)
    check_size(size)
    grid = coarsest_grid([tuple(each.net.shape[2:]) for each in effects])
    like = effects[0].net
    dtype = reduce(torch.promote_types, (each.net.dtype for each in effects))
    what = like.new_zeros(len(like), 1, *size, dtype=dtype)
    for net, _ in effects:
        what += drawn(F.interpolate(net, grid, mode="area"), size, mode, align_corners)
    energies = [each.energy for each in effects]
    where, _ = geometric_mean(energies, size, mode, align_corners)
    return what.div_(len(effects)).mul_(where)


def geometric_mean(
    energies: Sequence[Tensor], size: Sequence[int], mode: str | None, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """(Π_k norm(↑ energy_k))^(1/K) over the layers that have any energy: (N, 1, *size).

    Also how many layers that are, of each sample; the mean over none is 1.

    >>> mean, count = geometric_mean([torch.tensor([[[4.0, 1.0]]]), torch.zeros(1, 1, 2)], (2,),
    ...                              None, False)
    >>> mean, count.flatten()
    (tensor([[[1.0000, 0.2500]]]), tensor([1.]))
    """
    like = energies[0]
    dtype = reduce(torch.promote_types, (energy.dtype for energy in energies))
    logs = like.new_zeros(len(like), 1, *size, dtype=dtype)
    counts = like.new_zeros(len(like), *[1] * (like.ndim - 1))
    for energy in energies:
        counts += _add_logarithm(logs, drawn(energy, size, mode, align_corners))
    return logs.div_(counts.clamp(min=1)).exp_(), counts


def _add_logarithm(logs: Tensor, local: Tensor) -> Tensor:
    """Add log(local) to ``logs`` for samples whose ``local`` is not zero; which they are."""
    informed = local.detach().amax(dim=tuple(range(1, local.ndim)), keepdim=True) > 0
    # A sum of logarithms: the product of many small energies would underflow.
    logs += _logarithm_(local.masked_fill_(~informed, 1))
    return informed


def coarsest_grid(sizes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Along each axis, the smallest size above 1 of any layer.

    >>> coarsest_grid([(8, 28, 28), (1, 4, 4), (2, 7, 1)])
    (2, 4, 4)
    """
    check_sizes(sizes)
    return tuple(min((n for n in axis if n > 1), default=1) for axis in zip(*sizes, strict=True))


_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def local_mean(x: Tensor) -> Tensor:
    """The mean over each position and its neighbours inside the grid, (N, 1, *S)."""
    pool, around = _AVERAGE_POOL[x.ndim - 2], [1, 1] * (x.ndim - 2)
    present = torch.ones_like(x[:1])
    # Padded by hand: the padding of avg_pool3d refuses inputs smaller than its window.
    return pool(F.pad(x, around), 3, stride=1) / pool(F.pad(present, around), 3, stride=1)


def _logarithm_(x: Tensor) -> Tensor:
    """The logarithm of x >= 0, in place; its derivative is 0 where x is 0, instead of infinite."""
    if not x.requires_grad:
        return x.log_()
    is_zero = x == 0
    return x.masked_fill(is_zero, 1).log().masked_fill(is_zero, -torch.inf)
