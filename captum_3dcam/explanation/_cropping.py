"""Where in a frame the input lies that a preprocessing makes of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import warn
from captum_3dcam.models import Preprocessing

_MAX_DEVIATION = 0.02  # of the frame's side, from a line: rounding to bytes, and blurred edges
_MAX_STRETCH = 0.05  # of the aspect ratio, of a function that may keep the whole frame


class _Span(NamedTuple):
    """Along one axis of the frame, in pixels: where the input's first and last edge are."""

    first: float
    last: float


def find_placement(
    preprocess: Callable[[Tensor], Tensor] | None, frame: Tensor
) -> Callable[[Tensor], Tensor]:
    """What puts maps (..., h, w) of the model's input over the whole of a frame (C, [T,] H, W).

    Of a function, what it crops, pads or flips is seen by what it makes of ramps; if that is not
    to be seen, and it changes the aspect ratio, a warning says that the map is stretched.

    >>> def crop(frame):
    ...     return frame[..., 2:6] / 255
    >>> put_over_frame = find_placement(crop, torch.zeros(3, 4, 8, dtype=torch.uint8))
    >>> put_over_frame(torch.ones(4, 4))[0]
    tensor([0., 0., 1., 1., 1., 1., 0., 0.])
    """
    height, width = frame.shape[-2:]
    if isinstance(preprocess, Preprocessing):
        return partial(preprocess.maps_to_frame, frame_size=(height, width))
    spans = None if preprocess is None else _find_spans(preprocess, frame)
    if preprocess is not None and spans is None:
        _warn_of_stretching(preprocess(frame), frame)
    return partial(_put_over_frame, spans=spans, size=(height, width))


def _warn_of_stretching(inputs: Tensor, frame: Tensor) -> None:
    (h, w), (height, width) = inputs.shape[-2:], frame.shape[-2:]
    if abs((h / w) / (height / width) - 1) > _MAX_STRETCH:
        warn(
            f"The preprocessing function turns frames of {height} x {width} into {h} x {w}, and it "
            "cannot be seen what it crops: the map is stretched over the whole frame. Pass "
            "Preprocessing(mean, std, size, crop) instead of a function."
        )


def _put_over_frame(maps: Tensor, spans: Any, size: tuple[int, int]) -> Tensor:
    for axis, span, side in zip((-2, -1), spans or (), size, strict=False):
        maps = _put_over_axis(maps, axis, span, side)
    return maps


def _find_spans(
    preprocess: Callable[[Tensor], Tensor], frame: Tensor
) -> tuple[_Span, _Span] | None:
    """Along H and W; None if ramps do not show them."""
    high = 1.0 if frame.is_floating_point() else 255.0
    try:
        low_end = preprocess(torch.zeros_like(frame)).double()
        scale = preprocess(torch.full_like(frame, high)).double() - low_end
        ramps = [
            (preprocess(_ramp(frame, axis, high)).double() - low_end) / scale for axis in (-2, -1)
        ]
    except Exception:  # the user's code may raise anything
        return None
    pairs = zip(ramps, (-2, -1), strict=True)
    spans = [_fit(ramp, axis, frame.shape[axis]) for ramp, axis in pairs]
    return None if None in spans else (spans[0], spans[1])  # type: ignore[return-value]


def _ramp(frame: Tensor, axis: int, high: float) -> Tensor:
    shape = [1] * frame.ndim
    shape[axis] = frame.shape[axis]
    ramp = torch.linspace(0, high, frame.shape[axis]).reshape(shape)
    ramp = ramp.round() if not frame.is_floating_point() else ramp
    return ramp.to(frame).expand(frame.shape).contiguous()


def _fit(response: Tensor, axis: int, size: int) -> _Span | None:
    """The line through the frame's positions that are seen along an axis of the input."""
    position = response.movedim(axis, -1).flatten(0, -2) * (size - 1)
    count = position.shape[-1]
    if not position.isfinite().all() or count < 2:
        return None
    mean = position.mean(dim=0)
    index = torch.arange(count, dtype=mean.dtype)
    slope = (mean[-1] - mean[0]) / (count - 1)
    line = mean[0] + slope * index
    tolerance = max(_MAX_DEVIATION * size, 1.0)
    if (position - line).abs().max() > tolerance or slope == 0:
        return None
    return _Span(float(line[0] - slope / 2 + 0.5), float(line[-1] + slope / 2 + 0.5))


def _put_over_axis(maps: Tensor, axis: int, span: _Span, size: int) -> Tensor:
    """Zeros where the input has nothing of the frame; without what lies outside of it."""
    if span.first > span.last:
        maps, span = maps.flip(axis), _Span(span.last, span.first)
    tolerance = max(_MAX_DEVIATION * size, 1.0)
    if abs(span.first) <= tolerance and abs(span.last - size) <= tolerance:
        return maps
    count = maps.shape[axis]
    scale = count / (span.last - span.first)
    before = round(span.first * scale)
    pads: Any = [before, round(size * scale) - before - count]
    return F.pad(maps, pads if axis == -1 else [0, 0, *pads])
