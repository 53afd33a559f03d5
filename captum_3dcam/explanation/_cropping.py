"""Where the input lies in the original that a preprocessing function makes it of."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import warn
from captum_3dcam.models import FlowPreprocessing, Preprocessing

_STRIPS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # their middles; each is 1/16 of the side wide
_MIN_RATIO = 2  # of the change in a strip to that elsewhere, such as by another mean
_FEW = 8  # frames or pixels, each of which is a strip
_SHORT = 3  # frames or pixels, of an axis on which each strip is at an edge
_ADVICE = (
    "Pass Preprocessing(mean, std, size, crop) instead of the function, or call the function "
    "before explain() and pass its result as a tensor."
)


class _Span(NamedTuple):
    """Along one axis of the original, in pixels: where the input's first and last edge are."""

    first: float
    last: float

    def is_whole(self, size: int) -> bool:
        return max(abs(self.first), abs(self.last - size)) <= _tolerance(size)


def find_placement(
    preprocess: Callable[[Tensor], Tensor] | None, frame: Tensor
) -> Callable[[Tensor], Tensor]:
    """What puts maps (..., h, w) of the model's input over the whole of a frame (C, [T,] H, W).

    Of a function, what it crops, pads or mirrors is seen by where its result changes with strips of
    the frame. If that is on no line, it turns, rolls or shuffles, is random, or looks for what it
    crops, and a warning says that the map may be at the wrong position.

    >>> def crop(frame):
    ...     return frame[..., 2:6] / 255
    >>> put_over_frame = find_placement(crop, torch.zeros(3, 4, 8, dtype=torch.uint8))
    >>> put_over_frame(torch.ones(4, 4))[0]
    tensor([0., 0., 1., 1., 1., 1., 0., 0.])
    """
    height, width = frame.shape[-2:]
    if isinstance(preprocess, (Preprocessing, FlowPreprocessing)):
        return partial(preprocess.maps_to_frame, frame_size=(height, width))
    if preprocess is None:
        return lambda maps: maps
    *time, vertical, horizontal = _find_spans(preprocess, frame)
    if vertical is None or horizontal is None or None in time:
        warn(
            "Where the preprocessing function puts the parts of a frame cannot be seen: it turns, "
            "rolls or shuffles, is random, keeps little of the frame, or what it keeps depends on "
            "the content. The map is stretched over the whole frame, and may be at the wrong "
            f"position. {_ADVICE}"
        )
        return lambda maps: maps
    if not all(span and span.is_whole(frame.shape[1]) for span in time):
        warn(f"The preprocessing function reorders frames, which the map does not. {_ADVICE}")
    return partial(_put_over_frame, spans=(vertical, horizontal), size=(height, width))


def check_grid(function: Callable[[Tensor], Tensor], volume: Tensor) -> None:
    """Warn of a function that moves the content of a volume (C, D, H, W)."""
    spans = _find_spans(function, volume)
    named = zip("DHW", spans, volume.shape[1:], strict=True)
    moved = [axis for axis, span, size in named if span is None or not span.is_whole(size)]
    if moved:
        warn(
            f"The preprocessing function moves content along {', '.join(moved)}, or is random: the "
            "map may be at the wrong position. Keep each voxel where it is; orientation, spacing "
            "and size of VolumePreprocessing move voxels and their map."
        )


def _put_over_frame(maps: Tensor, spans: tuple[_Span, _Span], size: tuple[int, int]) -> Tensor:
    for axis, span, side in zip((-2, -1), spans, size, strict=True):
        maps = _put_over_axis(maps, axis, span, side)
    return maps


def _put_over_axis(maps: Tensor, axis: int, span: _Span, size: int) -> Tensor:
    """Zeros where the input has nothing of the frame; without what lies outside of it."""
    if span.first > span.last:
        maps, span = maps.flip(axis), _Span(span.last, span.first)
    if span.is_whole(size):
        return maps
    count = maps.shape[axis]
    scale = count / (span.last - span.first)
    before = round(span.first * scale)
    pads: Any = [before, round(size * scale) - before - count]
    return F.pad(maps, pads if axis == -1 else [0, 0, *pads])


def _find_spans(function: Callable[[Tensor], Tensor], x: Tensor) -> list[_Span | None]:
    """Along each spatial axis of x (C, *S); None if they are not to be seen."""
    axes = range(1 - x.ndim, 0)
    try:
        reference = function(x.clone())
        return [_find_span(function, x, axis, reference) for axis in axes]
    except Exception:  # the user's code may raise anything for an input of another content
        return [None for _ in axes]


def _find_span(
    function: Callable[[Tensor], Tensor], x: Tensor, axis: int, reference: Tensor
) -> _Span | None:
    """The line through where the strips are in x, and where the function's result changes."""
    size, count = x.shape[axis], reference.shape[axis]
    if size == count == 1:
        return _Span(0, 1)
    seen: dict[_Span, float] = {}
    for strip in _strips(size):
        changed = function(_with_strip(x, axis, strip))
        if changed.shape != reference.shape:
            return None
        middle = _find_change((changed.float() - reference.float()).abs(), axis, size)
        if middle is not None:
            seen[strip] = middle
    span = _fit(seen, size, count)
    if span is None:
        return None
    margin = max(_tolerance(size), 2 * abs(span.last - span.first) / count)
    low, high = min(span) + margin, max(span) - margin
    within = [strip for strip in _strips(size) if low < strip.first and strip.last < high]
    # A random function shows some strips, here and there.
    return span if all(strip in seen for strip in within) else None


def _strips(size: int) -> list[_Span]:
    width = max(1, round(size / 16))
    starts: Collection[int] = range(size)
    if size > _FEW:
        starts = sorted({round(part * size - width / 2) for part in _STRIPS})
    return [_Span(n, n + width) for n in starts]


def _with_strip(x: Tensor, axis: int, strip: _Span) -> Tensor:
    """A copy with the lowest or highest value in a strip, whichever differs more from its own."""
    low, high = (float(each) for each in x[x.isfinite()].aminmax())
    if low == high:
        low, high = (low, low + 1) if x.is_floating_point() else (0, 255)
    copy = x.clone()
    values = copy.narrow(axis, int(strip.first), int(strip.last - strip.first))
    values.fill_(low if float(values.double().nanmean()) > (low + high) / 2 else high)
    return copy


def _find_change(change: Tensor, axis: int, size: int) -> float | None:
    """The middle, along an axis, of what is changed; None if nothing is, or up to an edge."""
    profile = change.nan_to_num().movedim(axis, -1).flatten(0, -2).mean(dim=0)
    highest, elsewhere = profile.max(), profile.median()
    if highest <= _MIN_RATIO * elsewhere:
        return None
    level = (highest + elsewhere) / 2
    inside = [False, *(profile > level).tolist(), False]
    peak = int(profile.argmax()) + 1
    first = next(n for n in range(peak, -1, -1) if not inside[n])
    last = next(n for n in range(peak, len(inside)) if not inside[n]) - 1
    if size > _SHORT and (first == 0 or last == len(profile)):
        return None
    return (_crossing(profile, first, level) + _crossing(profile, last, level)) / 2


def _crossing(profile: Tensor, edge: int, level: Tensor) -> float:
    """Where the profile, of values at the middles of pixels, crosses the level near an edge."""
    if edge in (0, len(profile)):
        return edge
    before, after = profile[edge - 1], profile[edge]
    return edge - 0.5 + float((level - before) / (after - before))


def _fit(seen: Mapping[_Span, float], size: int, count: int) -> _Span | None:
    """The least-squares line; None if a strip is not on it."""
    if len(seen) < 2:
        return None
    here = torch.tensor(list(seen.values()), dtype=torch.float64)
    there = torch.tensor([sum(strip) / 2 for strip in seen], dtype=torch.float64)
    centred = here - here.mean()
    slope = (centred * there).sum() / (centred**2).sum()
    start = there.mean() - slope * here.mean()
    tolerance = max(_tolerance(size), float(slope.abs()))  # a pixel of the input
    if not slope or not (start + slope * here - there).abs().max() <= tolerance:
        return None
    return _Span(float(start), float(start + slope * count))


def _tolerance(size: int) -> float:
    """Rounding to pixels, and blurred edges."""
    return max(0.02 * size, 1.0)
