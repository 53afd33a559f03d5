"""The tensor maths of class activation maps, for any number of spatial axes.

A *layer rule* takes a layer's activation A and gradient G, both (N, C, *S_k), and returns
its factors, each (N, 1, *S_k). A *layer map* is the product of the factors, each upsampled
and normalised; fusion joins the maps of several layers. Equation numbers are those of
Yudistira, Kavitha, Kurita (IJCV 2022, arXiv 2012.09542).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._functional_inputs import (
    check_calls,
    check_effects,
    check_factors,
    check_features,
    check_layer_maps,
    check_pair,
    check_size,
    check_sizes,
)
from captum_3dcam._validation import (
    check_flag,
    check_floats,
    check_integer,
    describe,
    show,
)

Factors = tuple[Tensor, ...]
LayerRule = Callable[[Tensor, Tensor], Factors]
Fusion = str | Callable[[Tensor], Tensor]

LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MODE_RANKS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
INTERPOLATE_MODES = ("nearest", "nearest-exact", "area", "bicubic", *LINEAR_MODES.values())
_ALIGNABLE_MODES = ("bicubic", *LINEAR_MODES.values())

_FUSIONS: dict[str, tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    # name: (what is done to each of the K maps, how it is joined to the others, in place). They
    # take one map at a time, so that K maps are never in memory together.
    "sum": (lambda layer_map, count: layer_map, Tensor.add_),
    "mean": (lambda layer_map, count: layer_map / count, Tensor.add_),
    "max": (lambda layer_map, count: layer_map, lambda fused, x: _maximum_(fused, x)),
    "product": (lambda layer_map, count: layer_map, Tensor.mul_),
    "geometric_mean": (lambda layer_map, count: _root(layer_map, count), Tensor.mul_),
}
FUSIONS = tuple(_FUSIONS)


def _maximum_(fused: Tensor, x: Tensor) -> Tensor:
    in_place = not (fused.requires_grad or x.requires_grad)
    return torch.maximum(fused, x, out=fused if in_place else None)


def _root(x: Tensor, degree: int) -> Tensor:
    """The root of x >= 0; its derivative is 0 where x is 0, instead of infinite."""
    if not x.requires_grad:
        return x.pow(1 / degree)
    is_zero = x == 0
    return x.masked_fill(is_zero, 1).pow(1 / degree).masked_fill(is_zero, 0)


def _logarithm_(x: Tensor) -> Tensor:
    """The logarithm of x >= 0, in place; its derivative is 0 where x is 0, instead of infinite."""
    if not x.requires_grad:
        return x.log_()
    is_zero = x == 0
    return x.masked_fill(is_zero, 1).log().masked_fill(is_zero, -torch.inf)


def _accumulation_dtype(x: Tensor) -> torch.dtype:
    """At least float32: a sum over hundreds of channels overflows half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def _spatial_axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def channel_sum(x: Tensor) -> Tensor:
    """Sum over channels, Σ_c x_c: (N, C, *S) -> (N, 1, *S), in float32 at least.

    >>> channel_sum(torch.ones(1, 5, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    check_features("x", x, axes=2)
    return x.sum(dim=1, keepdim=True, dtype=_accumulation_dtype(x))


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
    norm: Tensor = torch.linalg.vector_norm(x, dim=axes, dtype=_accumulation_dtype(x))
    return norm * (margin * torch.finfo(precision).eps)


def upsample(
    x: Tensor, size: Sequence[int], mode: str | None = None, align_corners: bool = False
) -> Tensor:
    """Interpolate (N, C, *S_k) to (N, C, *size), linearly along each axis by default (eqs. 3-5).

    Raises ValueError if ``size`` has another number of axes than ``x``, or more than three.

    >>> upsample(torch.tensor([[[0.0, 1.0]]]), (4,))
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    check_features("x", x, axes=2)
    check_size(size)
    rank = x.ndim - 2
    if len(size) != rank or rank not in LINEAR_MODES:
        raise ValueError(
            f"upsample expects as many sizes as x has spatial axes, from 1 to 3; got size "
            f"{tuple(size)} for x of shape {tuple(x.shape)}."
        )
    mode = check_interpolation(mode, align_corners, rank) or LINEAR_MODES[rank]
    corners = align_corners if mode in _ALIGNABLE_MODES else None
    if mode != "trilinear":
        return F.interpolate(x, tuple(size), mode=mode, align_corners=corners)
    # One axis after the other is the same, and on a CPU takes a third of PyTorch's time.
    x = _linear_along_first(x, size[0], align_corners)
    channels, planes = x.shape[1:3]
    x = F.interpolate(x.flatten(1, 2), tuple(size[1:]), mode="bilinear", align_corners=corners)
    return x.reshape(-1, channels, planes, *size[1:])


def _linear_along_first(x: Tensor, size: int, align_corners: bool) -> Tensor:
    """Linear interpolation along the first spatial axis: (N, C, n, *S) -> (N, C, size, *S)."""
    length = x.shape[2]
    if length == size:
        return x
    positions = torch.arange(size, dtype=_accumulation_dtype(x), device=x.device)
    if align_corners:
        positions *= (length - 1) / max(size - 1, 1)
    else:
        positions = ((positions + 0.5) * (length / size) - 0.5).clamp_(0, length - 1)
    before = positions.long()
    after = (before + 1).clamp_(max=length - 1)
    weights = (positions - before).to(x.dtype).reshape(-1, *[1] * (x.ndim - 3))
    return x.index_select(2, before).lerp_(x.index_select(2, after), weights)


def normalize(x: Tensor) -> Tensor:
    """Divide the positive part by its maximum (eq. 2): relu(x) / max relu(x), in [0, 1].

    The maximum is each sample's own, over all of space-time. A sample without a positive
    value becomes zero: dividing by its maximum would flip the sign and light up everything.

    >>> normalize(torch.tensor([[[2.0, -1.0, 4.0]], [[-2.0, -1.0, 0.0]]]))
    tensor([[[0.5000, 0.0000, 1.0000]],
    <BLANKLINE>
            [[0.0000, 0.0000, 0.0000]]])
    """
    return _over_peak_(check_features("x", x, axes=2).relu())


def _over_peak_(positive: Tensor) -> Tensor:
    """In place, unless a derivative needs what is overwritten."""
    peak = positive.amax(dim=tuple(range(1, positive.ndim)), keepdim=True)
    peak = peak.masked_fill(peak == 0, 1)
    return positive / peak if positive.requires_grad else positive.div_(peak)


def _drawn(x: Tensor, size: Sequence[int], mode: str | None, align_corners: bool) -> Tensor:
    """norm(↑x): the same as upsampling and then :func:`normalize`, in one buffer."""
    return _over_peak_(upsample(x, size, mode, align_corners).relu_())


def layer_map(
    factors: Factors, size: Sequence[int], mode: str | None = None, align_corners: bool = False
) -> Tensor:
    """Π norm(↑factor): factors (N, 1, *S_k) -> one map (N, 1, *size) in [0, 1].

    ReLU comes after upsampling: the two do not commute. For the factors of
    :func:`global_local` this is 3DCAM_k = norm(↑β) · norm(↑α) (eqs. 2-5).

    >>> beta = torch.tensor([[[[2.0, -1.0], [1.0, 4.0]]]])
    >>> alpha = torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])
    >>> layer_map((beta, alpha), (2, 2))
    tensor([[[[0.1250, 0.0000],
              [0.1250, 1.0000]]]])
    """
    check_factors("factors", factors)
    return reduce(Tensor.mul_, (_drawn(factor, size, mode, align_corners) for factor in factors))


def shared_layer_map(
    calls: Sequence[Factors],
    size: Sequence[int],
    mode: str | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Π norm(Σ_i ↑factor_i): the map (N, 1, *size) of a layer that runs several times.

    ``calls`` are the factors of each call i, on any grids. Of one call it is :func:`layer_map`.

    >>> fine, coarse = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> shared_layer_map([(fine,), (coarse,)], (4,))
    tensor([[[1.0000, 0.2500, 0.7500, 1.0000]]])
    """
    check_calls(calls)
    summed = (
        reduce(Tensor.add_, (upsample(x, size, mode, align_corners).clone() for x in factors))
        for factors in zip(*calls, strict=True)
    )
    return reduce(Tensor.mul_, (_over_peak_(x.relu_()) for x in summed))


def fuse(layer_maps: Iterable[Tensor], count: int, fusion: Fusion = "sum") -> Tensor:
    """Join the ``count`` layer maps, each (N, 1, *S), into one (N, 1, *S).

    ``"sum"`` is Sum3DCAM = Σ_k 3DCAM_k (eq. 6), in [0, count]; ``"mean"``, ``"max"``,
    ``"product"`` and ``"geometric_mean"`` stay in [0, 1]. Those take the maps one at a time.
    A callable is given all of them as one tensor (count, N, 1, *S) and returns (N, 1, *S).

    Raises ValueError for more or fewer maps than ``count``, maps of different shapes, an unknown
    name, or a callable that returns another shape.

    >>> maps = [torch.tensor([0.2, 1.0]), torch.tensor([0.6, 0.0])]
    >>> fuse(maps, 2, "sum"), fuse(maps, 2, lambda stacked: stacked.amin(0))
    (tensor([0.8000, 1.0000]), tensor([0.2000, 0.0000]))
    """
    count = check_integer("count", count)
    layer_maps = check_layer_maps(layer_maps, count)
    if callable(fusion):
        stacked = torch.stack(tuple(layer_maps))
        fused = fusion(stacked)
        if not isinstance(fused, Tensor) or fused.shape != stacked.shape[1:]:
            raise ValueError(
                f"A fusion callable takes the stacked maps {tuple(stacked.shape)} and returns one "
                f"map {tuple(stacked.shape[1:])}; this one returned {describe(fused)}. Reduce its "
                "first axis."
            )
        return fused
    prepare, join = _FUSIONS[check_fusion(fusion)]
    prepared = map(prepare, layer_maps, repeat(count))
    fused = next(prepared).clone()
    for layer_map in prepared:
        # A double map, of a layer of double precision, makes the sum one.
        fused = join(fused.to(torch.promote_types(fused.dtype, layer_map.dtype)), layer_map)
        del layer_map  # before the next map is made
    return fused


def temporal_profile(attribution: Tensor) -> Tensor:
    """When the network looked: the mean over space in each frame, (N, 1, T, *S) -> (N, T).

    The map of a time series, (N, 1, T), is its own profile.

    >>> temporal_profile(torch.tensor([[[[[0.0, 1.0]], [[3.0, 5.0]]]]]))
    tensor([[0.5000, 4.0000]])
    """
    check_floats("attribution", attribution)
    shape = attribution.shape
    if len(shape) < 3 or shape[1] != 1 or 0 in shape[2:]:
        raise ValueError(
            f"temporal_profile expects a map (N, 1, T, *S); received {describe(attribution)}."
        )
    return attribution[:, 0, :, None].flatten(2).mean(dim=2)


def check_fusion(fusion: str) -> str:
    """The name itself, if :func:`fuse` knows it; else a ValueError that lists the names."""
    if not isinstance(fusion, str) or fusion not in _FUSIONS:
        raise ValueError(
            f"fusion={show(fusion)} is not known. Choose one of {', '.join(map(repr, FUSIONS))}, "
            "or pass a callable from stacked maps (K, N, 1, *S) to one map (N, 1, *S)."
        )
    return fusion


def check_interpolation(
    mode: str | None, align_corners: bool, rank: int | None = None
) -> str | None:
    """The mode itself, if :func:`upsample` can use it so; else a ValueError that says why."""
    if mode is not None and (not isinstance(mode, str) or mode not in INTERPOLATE_MODES):
        raise ValueError(
            f"interpolate_mode={show(mode)} is not known. Choose None (linear along each axis) or "
            f"one of {', '.join(map(repr, INTERPOLATE_MODES))}."
        )
    check_flag("align_corners", align_corners)
    rank = None if rank is None else check_integer("rank", rank)
    if align_corners and mode not in (None, *_ALIGNABLE_MODES):
        raise ValueError(
            f"align_corners=True has no meaning for interpolate_mode={mode!r}; it is for "
            f"{', '.join(map(repr, _ALIGNABLE_MODES))}."
        )
    if mode is not None and rank is not None and _MODE_RANKS.get(mode, rank) != rank:
        raise ValueError(
            f"interpolate_mode={mode!r} is for {_MODE_RANKS[mode]} spatial axes; the map has "
            f"{rank}. Leave it None for linear interpolation in any number."
        )
    return mode


# ------------------------------------------------------------------------------- layer rules


def global_local(activation: Tensor, gradient: Tensor) -> Factors:
    """3DCAM (eqs. 1-2): β = Σ_c G_c and α = Σ_c A_c, summed apart from each other."""
    check_pair(activation, gradient)
    return channel_sum(gradient), channel_sum(activation)


def counterfactual(activation: Tensor, gradient: Tensor) -> Factors:
    """Counterfactual 3DCAM (eq. 7): β̂ = −Σ_c G_c, and the same α."""
    check_pair(activation, gradient)
    return -channel_sum(gradient), channel_sum(activation)


def grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """Grad-CAM (Selvaraju et al., 2017, arXiv 1610.02391): relu Σ_c mean(G_c) A_c."""
    check_pair(activation, gradient)
    return (_weighted(activation, _spatial_mean(gradient)),)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Factors:
    """Grad-CAM++ (Chattopadhay et al., 2018, arXiv 1710.11063), for the score exp(y).

    relu Σ_c w_c A_c with w_c = Σ_s relu(G_cs) / (2 + G_cs Σ_s' A_cs'). The paper's
    G² / (2 G² + G³ ΣA), as 1 / (2 / G + ΣA), so that neither small nor large gradients are lost;
    where a gradient is not positive or the denominator is zero, the weight is zero.
    """
    check_pair(activation, gradient)
    gradient, activation = _widen(gradient), _widen(activation)
    axes = _spatial_axes(activation)
    is_positive = gradient > 0
    total = activation.sum(dim=axes, keepdim=True)
    denominator = 2 / torch.where(is_positive, gradient, 1) + total
    weights = is_positive / torch.where(denominator == 0, torch.inf, denominator)
    return (_weighted(activation, weights.sum(dim=axes, keepdim=True)),)


def x_grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """XGrad-CAM (Fu et al., 2020, arXiv 2008.02312): relu Σ_c w_c A_c.

    w_c = Σ_s G_cs A_cs / Σ_s A_cs; a channel whose activations sum to zero has no weight.
    """
    check_pair(activation, gradient)
    gradient, activation = _widen(gradient), _widen(activation)
    axes = _spatial_axes(activation)
    total = activation.sum(dim=axes, keepdim=True)
    weights = (gradient * activation).sum(dim=axes, keepdim=True)
    return (_weighted(activation, weights / torch.where(total == 0, torch.inf, total)),)


def layer_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """LayerCAM (Jiang et al., 2021, doi 10.1109/TIP.2021.3089943): relu Σ_c relu(G_c) A_c."""
    check_pair(activation, gradient)
    return (_weighted(activation, gradient.relu()),)


def hi_res_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """HiResCAM (Draelos, Carin, 2020, arXiv 2011.08891): relu Σ_c G_c A_c."""
    check_pair(activation, gradient)
    return (_weighted(activation, gradient),)


def _widen(x: Tensor) -> Tensor:
    return x.to(_accumulation_dtype(x))


def _spatial_mean(x: Tensor) -> Tensor:
    return _widen(x).mean(dim=_spatial_axes(x), keepdim=True)


def _weighted(activation: Tensor, weights: Tensor) -> Tensor:
    # The published baselines are defined at the layer's own size, ReLU included, so theirs
    # comes before upsampling.
    return channel_sum(_widen(weights) * _widen(activation)).relu()


# ------------------------------------------------------------------------------ what and where


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
    check_pair(activation, gradient)
    activation, gradient = _widen(activation), _widen(gradient)
    mean = activation.mean(dim=_spatial_axes(activation), keepdim=True)
    removed = gradient * (activation - mean)
    # Of activations without differences, rounding is all that is left.
    rounding = 32 * torch.finfo(removed.dtype).eps * _largest(gradient * activation)
    largest = _largest(removed)
    is_noise = (largest <= rounding) & rounding.isfinite()
    removed = removed / torch.where(is_noise, torch.inf, largest)
    energy = channel_sum(removed.square())
    return Effect(channel_sum(removed), _local_mean(energy))


def _largest(x: Tensor) -> Tensor:
    """The largest magnitude in each sample, (N, 1, ...)."""
    return x.abs().amax(dim=tuple(range(1, x.ndim)), keepdim=True)


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
    what, logs = (like.new_zeros(len(like), 1, *size, dtype=dtype) for _ in range(2))
    counts = like.new_zeros(len(like), *[1] * (like.ndim - 1))
    for net, energy in effects:
        pooled = F.interpolate(net, grid, mode="area")
        what += _drawn(pooled, size, mode, align_corners)
        counts += _add_logarithm(logs, _drawn(energy, size, mode, align_corners))
    return what.div_(len(effects)).mul_(logs.div_(counts.clamp_(min=1)).exp_())


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


def _local_mean(x: Tensor) -> Tensor:
    """The mean over each position and its neighbours inside the grid, (N, 1, *S)."""
    pool, around = _AVERAGE_POOL[x.ndim - 2], [1, 1] * (x.ndim - 2)
    present = torch.ones_like(x[:1])
    # Padded by hand: the padding of avg_pool3d refuses inputs smaller than its window.
    return pool(F.pad(x, around), 3, stride=1) / pool(F.pad(present, around), 3, stride=1)
