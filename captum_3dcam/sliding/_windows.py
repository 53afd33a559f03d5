"""The windows of a stream: their positions, how they are cut, and how their maps are blended.

A stream is an iterable of chunks (C, t, *S), cut along the first spatial axis, which is called
time here; an input in one piece is a stream of one chunk.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby, pairwise, product
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor

Position = tuple[int, ...]
"""A number for each spatial axis."""


class Window(NamedTuple):
    """Where one window lies, and what the model predicts in it."""

    start: Position
    """Its first index along each spatial axis."""
    stop: Position
    """One past its last index; what exceeds the input is not counted."""
    predicted: int | None
    """The model's highest class there; None where the output is not (N, classes)."""
    target: Any
    """What was explained: a class, or an index into the output; None for a model of one score."""
    score: float
    """The score that was explained, as the model returns it."""
    factor: float
    """What the window's map was multiplied by; see ``scale`` of :class:`SlidingWindowCAM`."""


class Patch(NamedTuple):
    """One window of the input."""

    start: Position
    stop: Position
    values: Tensor
    """(C, *window), padded after ``stop``."""


class BlendedChunk(NamedTuple):
    """A part of the blended map that no later window reaches, and the windows that start it."""

    start: int
    values: Tensor
    """(M, t, *S)"""
    windows: list[Window]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Every stride-th index, and the last window that fits, so that nothing is left out.

    >>> window_starts(35, 16, 8), window_starts(9, 16, 8)
    ([0, 8, 16, 19], [0])
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


# ---------------------------------------------------------------------------------- cutting


def scene_parts(
    chunks: Iterable[Tensor], boundaries: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """The chunks, cut where scenes begin; each part with the first frame of its scene.

    >>> parts = scene_parts([torch.zeros(3, 4, 2, 2)] * 2, [3, 4])
    >>> [(start, part.shape[1]) for start, part in parts]
    [(0, 3), (3, 1), (4, 4)]
    """
    first = 0
    for chunk in chunks:
        end = first + chunk.shape[1]
        inside = [boundary for boundary in boundaries if first < boundary < end]
        for start, stop in pairwise([first, *inside, end]):
            begun = bisect_right(boundaries, start)
            scene = boundaries[begun - 1] if begun else 0
            yield scene, chunk[:, start - first : stop - first]
        first = end


def rows(chunks: Iterable[Tensor], window: int, stride: int) -> Iterator[tuple[int, Tensor]]:
    """The windows in time, (start, (C, window, *S)), holding one window and one chunk at most.

    They lie at :func:`window_starts`, though the length is not known until the end. What is
    shorter than a window comes as it is.
    """
    held: Tensor | None = None
    first = start = 0
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        end = first + held.shape[1]
        while start + window <= end:
            yield start, held[:, start - first : start - first + window]
            start += stride
        # The last window, which is known as such only at the end, may need all of these.
        held = held[:, -window:]
        first = end - held.shape[1]
    if held is not None and (start == 0 or start - stride < first):
        yield first, held


def patches(chunks: Iterable[Tensor], window: Position, stride: Position) -> Iterator[Patch]:
    """All windows, row by row in time, those that are longer than the input padded."""
    for first, row in rows(chunks, window[0], stride[0]):
        axes = zip(row.shape[2:], window[1:], stride[1:], strict=True)
        for others in product(*(window_starts(*axis) for axis in axes)):
            region = [slice(a, a + size) for a, size in zip(others, window[1:], strict=True)]
            index: tuple[Any, ...] = (..., *region)
            values = row[index]
            start = (first, *others)
            stop = tuple(a + size for a, size in zip(start, values.shape[1:], strict=True))
            yield Patch(start, stop, _padded(values, window))


def _padded(values: Tensor, window: Position) -> Tensor:
    """(C, *S) -> (C, *window), the last entry along each axis repeated."""
    for axis, size in enumerate(window, start=1):
        if values.shape[axis] < size:
            indices = torch.arange(size, device=values.device).clamp(max=values.shape[axis] - 1)
            values = values.index_select(axis, indices)
    return values


# --------------------------------------------------------------------------------- blending


def taper(window: Position) -> Tensor:
    """The weight of a window's map at each position: high in its middle, low at its edges.

    The product over the axes of the distance to just beyond the window's nearer edge.

    >>> taper((5,)), taper((2, 4))
    (tensor([1., 2., 3., 2., 1.]), tensor([[1., 2., 2., 1.], [1., 2., 2., 1.]]))
    """
    sides = [torch.arange(1.0, size + 1) for size in window]
    tents = [torch.minimum(side, side.flip(0)) for side in sides]
    return reduce(lambda weights, tent: weights[..., None] * tent, tents)


def blend(
    maps: Iterable[tuple[Window, Tensor]], window: Position, rest: Position
) -> Iterator[BlendedChunk]:
    """M maps (M, *window) of windows that come row by row -> Σ taper · map / Σ taper, in chunks.

    ``rest`` is the input's size without time. Only the chunk in progress is held, as long as a
    window.
    """
    mean: _RunningMean | None = None
    start, windows = 0, list[Window]()
    for first, members in groupby(maps, key=lambda pair: pair[0].start[0]):
        if mean is not None:
            yield BlendedChunk(start, mean.take(first - start), windows)
        start, windows = first, []
        for record, values in members:
            if mean is None:
                zeros = values.new_zeros(len(values), window[0], *rest)
                mean = _RunningMean(zeros, taper(window))
            mean.add(record, values)
            windows.append(record)
    if mean is not None:
        yield BlendedChunk(start, mean.take(windows[-1].stop[0] - start), windows)


class _RunningMean:
    """Of the maps of windows that start with it or later: mean += (map - mean) · w / Σ w.

    Where all maps agree it is bitwise equal to them, and so to a single map.
    """

    def __init__(self, zeros: Tensor, weights: Tensor) -> None:
        self.mean, self.total = zeros, zeros[:1].clone()
        self.weights = weights.to(zeros)

    def add(self, record: Window, values: Tensor) -> None:
        """The maps of a window of the row that the mean starts with."""
        extents = [b - a for a, b in zip(record.start, record.stop, strict=True)]
        starts = (0, *record.start[1:])
        region: tuple[Any, ...] = (..., *map(slice, starts, map(add, starts, extents)))
        inside: tuple[Any, ...] = (..., *map(slice, extents))
        weights = self.weights[inside]
        self.total[region] += weights
        mean = self.mean[region]
        mean += (values[inside] - mean) * (weights / self.total[region])

    def take(self, count: int) -> Tensor:
        """The first ``count`` frames, which are finished; the mean then starts after them."""
        taken = self.mean[:, :count].clone()
        for part in (self.mean, self.total):
            part[:, :-count] = part[:, count:].clone()
            part[:, -count:] = 0
        return taken
