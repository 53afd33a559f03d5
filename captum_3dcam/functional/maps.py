"""Upsampling and normalisation: a layer's factors -> its map."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import check_flag, check_floats, check_integer, describe, show
from captum_3dcam.functional._inputs import (
    check_calls,
    check_factors,
    check_features,
    check_size,
)
from captum_3dcam.functional.sums import accumulation_dtype, spatial_axes

Factors = tuple[Tensor, ...]

LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MODE_RANKS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
INTERPOLATE_MODES = ("nearest", "nearest-exact", "area", "bicubic", *LINEAR_MODES.values())
_ALIGNABLE_MODES = ("bicubic", *LINEAR_MODES.values())


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
    positions = torch.arange(size, dtype=accumulation_dtype(x), device=x.device)
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
    return over_peak_(check_features("x", x, axes=2).relu())


def over_peak_(positive: Tensor) -> Tensor:
    """In place, unless a derivative needs what is overwritten."""
    peak = positive.amax(dim=tuple(range(1, positive.ndim)), keepdim=True)
    peak = peak.masked_fill(peak == 0, 1)
    return positive / peak if positive.requires_grad else positive.div_(peak)


def scale_channels(x: Tensor) -> Tensor:
    """Each channel's values over its own range: (x − min) / (max − min), in [0, 1].

    (N, C, *S) -> (N, C, *S). A channel that is the same at all positions becomes zero.

    >>> scale_channels(torch.tensor([[[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]]))
    tensor([[[0.0000, 1.0000, 0.5000],
             [0.0000, 0.0000, 0.0000]]])
    """
    axes = spatial_axes(check_features("x", x))
    shifted = x - x.amin(dim=axes, keepdim=True)
    span = shifted.amax(dim=axes, keepdim=True)
    return shifted / span.masked_fill(span == 0, torch.inf)


def drawn(
    x: Tensor, size: Sequence[int], mode: str | None = None, align_corners: bool = False
) -> Tensor:
    """norm(↑x): the same as upsampling and then :func:`normalize`, in one buffer."""
    return over_peak_(upsample(x, size, mode, align_corners).relu_())


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
    return reduce(Tensor.mul_, (drawn(factor, size, mode, align_corners) for factor in factors))


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
    return reduce(Tensor.mul_, (over_peak_(x.relu_()) for x in summed))


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
