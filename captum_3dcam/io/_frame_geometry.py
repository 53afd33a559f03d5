"""Decoded frames as players show them: upright, mirrored as the file says, with square pixels."""

import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np

from captum_3dcam._files import import_extra
from captum_3dcam.io._frame_source import Pixels, Size

_NEARLY_SQUARE = 0.01
_IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_Filters = list[tuple[str, str]]


def upright_size(frame: Any, aspect: Fraction) -> Size:
    """(H, W) of a frame as it is shown; ``aspect`` is that of its pixels."""
    size = _square_size(frame, aspect)
    return size[::-1] if _is_transposed(_display_matrix(frame)) else size


class FrameConverter:
    """Converts frames by libavfilter, as the ffmpeg command does: its autorotation, its scaling.

    One filter graph serves all frames of the same kind.
    """

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect
        self._key: Any = None
        self._graph: Any = None

    def to_rgb(self, frame: Any, size: Size) -> Pixels:
        """The frame as RGB (H, W, 3), upright and resized."""
        matrix = _display_matrix(frame)
        key = (frame.width, frame.height, frame.format.name, frame.color_range, matrix, size)
        if key != self._key:
            self._graph, self._key = self._make_graph(frame, matrix, size), key
        self._graph.push(frame)
        return np.ascontiguousarray(self._graph.pull().to_ndarray())

    def _make_graph(self, frame: Any, matrix: tuple[int, ...], size: Size) -> Any:
        graph = import_extra("av.filter", "Reading video needs PyAV", "video").Graph()
        filters = _autorotation(matrix)
        if any(name == "rotate" for name, _ in filters):  # by an angle between square pixels
            filters = [_scale(_square_size(frame, self._aspect)), *filters]
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
        nodes = [graph.add(*item) for item in [*filters, _scale(size), ("format", "rgb24")]]
        graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
        return graph


def _scale(size: Size) -> tuple[str, str]:
    return "scale", f"{size[1]}:{size[0]}:flags=bicubic"


def _square_size(frame: Any, aspect: Fraction) -> Size:
    # Nearly square pixels are left by resizing to integers; to resize again would only blur them.
    if abs(aspect - 1) < _NEARLY_SQUARE:
        return frame.height, frame.width
    return frame.height, max(round(frame.width * aspect), 1)


def _display_matrix(frame: Any) -> tuple[int, ...]:
    """The nine numbers, row by row."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("=9i", bytes(data)[:36])
    return _IDENTITY


def _angle(matrix: tuple[int, ...]) -> float:
    """The rotation in degrees, clockwise, from 0 to 360; flips are not in it."""
    a, b, _, c, d = matrix[:5]
    columns = math.hypot(a, c), math.hypot(b, d)
    if 0 in columns:
        return 0.0
    angle = round(math.degrees(math.atan2(b / columns[1], a / columns[0])))
    return angle - 360 * math.floor(angle / 360 + 0.9 / 360)


def _is_transposed(matrix: tuple[int, ...]) -> bool:
    return _angle(matrix) in (90, 270)


def _autorotation(matrix: tuple[int, ...]) -> _Filters:
    """The filters by which the ffmpeg command shows a frame upright."""
    angle = _angle(matrix)
    if angle == 90:
        return [("transpose", "cclock_flip" if matrix[3] > 0 else "clock")]
    if angle == 270:
        return [("transpose", "clock_flip" if matrix[3] < 0 else "cclock")]
    if angle == 180:
        flips = {"hflip": matrix[0] < 0, "vflip": matrix[4] < 0}
        return [(name, "") for name, needed in flips.items() if needed]
    if angle:
        return [("rotate", f"{angle}*PI/180")]
    return [("vflip", "")] if matrix[4] < 0 else []
