"""Boxes of the contours of thresholded images, for all thresholds at once.

The boxes are those of OpenCV's ``findContours(RETR_TREE)`` and ``boundingRect``, without OpenCV
and without a loop over pixels. Each mask ``image > T`` is a sorted list of *runs*: stretches of
set pixels in a row. A pixel step from a to b starts (or ends) a run in every mask with T between
a and b, so one pass over the image lists the runs of all masks; two searches in the sorted lists
find the runs that touch in consecutive rows; and one graph over all of them has the components.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# int32 where the pixels of all masks can be counted with it, which halves the time; else int64.
Ints = npt.NDArray[np.signedinteger[Any]]
Bools = npt.NDArray[np.bool_]

# Runs that lie in memory together, some 100 bytes each; more are done in several parts.
_RUNS_AT_ONCE = 4_000_000
_INT32_PIXELS = 2**31


def contour_boxes(
    image: npt.NDArray[np.uint8], thresholds: npt.ArrayLike, multi_contour: bool = True
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Boxes of the contours of ``image > T`` for each threshold T, as OpenCV finds them.

    Contours are the outlines of the 8-connected components and of the 4-connected holes inside
    them. With ``multi_contour=False`` each mask gives the box of its contour of largest polygon
    area, the last in raster order on ties. A mask that is empty gives no box.

    Args:
        image: (H, W), uint8.
        thresholds: K strictly increasing integers.
        multi_contour: all contours, or the largest.

    Returns:
        Boxes (B, 4) as x0, y0, x1, y1, inclusive-exclusive; and (B,) the index of each one's
        threshold, in increasing order.

    Raises:
        ValueError: for another dtype or rank, or thresholds that do not increase.

    >>> ring = np.array([[9, 9, 9, 0], [9, 0, 9, 0], [9, 9, 9, 0], [0, 0, 0, 5]], dtype=np.uint8)
    >>> boxes, index = contour_boxes(ring, [0, 5])
    >>> boxes.tolist(), index.tolist()
    ([[0, 0, 4, 4], [0, 0, 3, 3], [0, 0, 3, 3], [0, 0, 3, 3]], [0, 0, 1, 1])
    """
    cuts = _check(image, thresholds)
    # The masks in which a pixel is set are those before its level.
    levels = np.searchsorted(cuts, np.arange(256)).astype(np.int16)[image]
    boxes_of = _all_boxes if multi_contour else _largest_boxes
    found = [np.empty((0, 5), dtype=np.int64)]
    for first, last in _parts(levels, len(cuts)):
        boxes, masks = boxes_of(_label(_find_runs(levels, first, last)))
        found.append(np.column_stack([boxes, masks + first]))
    table = np.concatenate(found)
    return table[:, :4], table[:, 4]


def _check(image: npt.NDArray[np.uint8], thresholds: npt.ArrayLike) -> npt.NDArray[Any]:
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(
            f"contour_boxes expects one image (H, W) of uint8; got shape {image.shape} of "
            f"{image.dtype}. Quantise a map first; give a mask as mask.astype(np.uint8)."
        )
    cuts = np.asarray(thresholds)
    if (
        cuts.ndim != 1
        or not len(cuts)
        or cuts.dtype.kind not in "iu"
        or (cuts[1:] <= cuts[:-1]).any()
    ):
        raise ValueError(
            f"contour_boxes expects a list of strictly increasing integer thresholds; got "
            f"{thresholds!r}. Sort them and drop duplicates with np.unique."
        )
    return cuts


def _parts(levels: Ints, count: int) -> list[tuple[int, int]]:
    """The masks in as few parts as keep to the number of runs that fit in memory."""
    runs = levels.size * count  # at most, and seldom near it
    if runs > _RUNS_AT_ONCE:
        runs = int(levels[:, 0].sum() + np.diff(levels, axis=1).clip(0).sum())
    parts = min(count, 1 + runs // _RUNS_AT_ONCE)
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


# ------------------------------------------------------------------------------------------- runs


class _Runs(NamedTuple):
    """Half-open stretches [start, end) on the line of all masks' pixels, sorted.

    Mask k's pixel (y, x) is at k * block + y * stride + x + 1: an unset pixel lies before and
    after each row and an unset row after each mask, so that rows and masks do not touch.
    """

    start: Ints
    end: Ints
    above: Ints
    """How many runs end before the pixel under ``start``, or at it."""
    below: Ints
    """How many runs start before the pixel under ``end``, or at it."""
    stride: int
    block: int

    # By these counts, without another search: the runs that touch run n in the row below it, if
    # only by a corner, are above[n], ..., below[n] - 1. The gap before run n shares an edge with
    # the gaps before the runs below[n - 1], ..., above[n]. And of a part of the runs, they are
    # the counts within the part.


def _find_runs(levels: Ints, first: int, last: int) -> _Runs:
    height, width = levels.shape
    stride, block = width + 2, (height + 1) * (width + 2)
    dtype = np.int32 if (last - first + 2) * block < _INT32_PIXELS else np.int64
    padded = np.zeros((height + 1, stride), dtype=dtype)
    np.clip(levels, first, last, out=padded[:-1, 1:-1], casting="unsafe")
    padded[:-1, 1:-1] -= first
    line = padded.ravel()
    step = np.flatnonzero(line[1:] != line[:-1])
    before, after = line[step], line[step + 1]
    position = (step + 1).astype(dtype)
    start = _in_masks(position, before, after, block)
    end = _in_masks(position, after, before, block)
    # In the next row there mostly are as many runs before as in this one.
    line = start // stride
    rows = np.bincount(line, minlength=(last - first) * (height + 1) + 1)
    above = np.arange(len(start), dtype=dtype) + rows.astype(dtype)[line]
    above = _count_below(end, start + stride, above)
    below = _count_below(start, end + (stride + 1), above + 1)
    return _Runs(start, end, above, below, stride, block)


def _count_below(places: Ints, limit: Ints, guess: Ints) -> Ints:
    """How many of the sorted places are below each limit, found from a guess that is near."""
    ends = np.iinfo(places.dtype)
    fenced = np.concatenate([[ends.min], places, [ends.max]], dtype=places.dtype)
    count = np.minimum(guess, len(places))
    wrong = np.flatnonzero(fenced[count] >= limit)
    while len(wrong):
        count[wrong] -= 1
        wrong = wrong[fenced[count[wrong]] >= limit[wrong]]
    wrong = np.flatnonzero(fenced[count + 1] < limit)
    while len(wrong):
        count[wrong] += 1
        wrong = wrong[fenced[count[wrong] + 1] < limit[wrong]]
    return count


def _in_masks(position: Ints, first: Ints, last: Ints, block: int) -> Ints:
    """Each position in the masks from its ``first`` up to its ``last``, all of them sorted."""
    count = np.maximum(last - first, 0)
    total = np.cumsum(count, dtype=np.int64)
    # Each one, plus a block for each mask from the first of its own on.
    places = np.repeat(position + (first - (total - count)) * block, count)
    places += np.arange(0, len(places) * block, block)
    places = places.astype(position.dtype)
    places.sort()
    return places


class _Pairs(NamedTuple):
    """Each ``upper`` node in turn, with each of the ``lower`` ones that it is joined to."""

    upper: Ints
    lower: Ints
    offsets: Ints
    """Where each node's pairs begin, and where the last one's end."""


def _pairs(first: Ints, last: Ints) -> _Pairs:
    """Nodes n = 0, 1, ... joined to first[n], ..., last[n] - 1."""
    count = last - first
    offsets = np.zeros(len(count) + 1, dtype=np.int32)
    np.cumsum(count, out=offsets[1:])
    nodes = np.arange(len(count), dtype=np.int32)
    upper = np.repeat(nodes, count)
    return _Pairs(
        upper, np.arange(len(upper), dtype=np.int32) + (first - offsets[:-1])[upper], offsets
    )


def _counts(chosen: Bools, dtype: npt.DTypeLike) -> Ints:
    """How many are chosen among the first 0, 1, ..., all."""
    total = np.zeros(len(chosen) + 1, dtype=dtype)
    np.cumsum(chosen, out=total[1:])
    return total


def _connected(pairs: _Pairs) -> Ints:
    """The component of each node."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(pairs.offsets) - 1
    lower = pairs.lower.astype(np.int32, copy=False)
    graph = csr_matrix((np.ones(len(lower)), lower, pairs.offsets), shape=(size, size))
    label: Ints = connected_components(graph, directed=False)[1]
    return label


def _first_of(label: Ints) -> Ints:
    first = np.empty(int(label.max(initial=-1)) + 1, dtype=np.int64)
    first[label[::-1]] = np.arange(len(label))[::-1]  # of duplicates, the last one stays
    return first


# ------------------------------------------------------------------------------------- components


class _Components(NamedTuple):
    """The 8-connected components of all masks."""

    runs: _Runs
    pairs: _Pairs
    """The runs that touch."""
    label: Ints
    """The component of each run."""
    first: Ints
    """The first run of each component."""
    mask: Ints
    """The mask of each component."""
    has_hole: Bools
    """The graph of runs is planar, and each face of it is a hole: Euler's formula counts them."""


class _Gaps(NamedTuple):
    """The unset stretches around the runs of some components: gap n is before run n."""

    runs: _Runs
    label: Ints
    """The component of each run."""
    region: Ints
    """The 4-connected region of each gap."""
    outside: Bools
    """Whether each gap's region reaches the image's border."""


def _label(runs: _Runs) -> _Components:
    pairs = _pairs(runs.above, runs.below)
    label = _connected(pairs)
    first = _first_of(label)
    edges_less_nodes = np.bincount(label, weights=runs.below - runs.above - 1)
    mask = runs.start[first] // runs.block
    return _Components(runs, pairs, label, first, mask, edges_less_nodes >= 0)


def _find_gaps(components: _Components, chosen: Bools) -> _Gaps:
    """A component without holes need not be chosen: inside a hole it does not change its box."""
    kept = chosen[components.label]
    runs = _part(components.runs, kept, kept)
    # One gap more than runs: what is before the first and after the last is joined to all.
    first = np.append(np.zeros_like(runs.below[:1]), runs.below)
    last = np.append(runs.above, np.full_like(runs.above[:1], len(runs.start))) + 1
    region = _connected(_pairs(first, last))
    # A gap that goes on into another row is outside.
    wraps = np.ones(len(region), dtype=bool)
    wraps[1:-1] = runs.end[:-1] // runs.stride != runs.start[1:] // runs.stride
    reaches = np.zeros(int(region.max(initial=-1)) + 1, dtype=bool)
    reaches[region[wraps]] = True
    return _Gaps(runs, components.label[kept], region, reaches[region])


def _part(runs: _Runs, starts: Bools, ends: Bools) -> _Runs:
    """Of the runs' starts and ends those chosen, which alternate too."""
    dtype = runs.above.dtype
    above = _counts(ends, dtype)[runs.above[starts]]
    below = _counts(starts, dtype)[runs.below[ends]]
    return _Runs(runs.start[starts], runs.end[ends], above, below, runs.stride, runs.block)


# ------------------------------------------------------------------------------------------ boxes


def _all_boxes(components: _Components) -> tuple[Ints, Ints]:
    runs = components.runs
    boxes = _extent(runs, runs.start, runs.end, components.label, components.first)
    holes, hole_masks = _hole_boxes(components)
    masks = np.concatenate([components.mask, hole_masks])
    order = np.argsort(masks, kind="stable")
    return np.concatenate([boxes, holes])[order], masks[order]


def _hole_boxes(components: _Components) -> tuple[Ints, Ints]:
    """A hole's contour runs through the pixels around it: its box is one pixel wider."""
    gaps = _find_gaps(components, components.has_hole)
    inside = np.flatnonzero(~gaps.outside)
    start, end = gaps.runs.end[inside - 1], gaps.runs.start[inside]
    region = gaps.region[inside]
    found = np.zeros(len(gaps.region), dtype=bool)
    found[region] = True
    label = (np.cumsum(found) - 1)[region]
    first = _first_of(label)
    boxes = _extent(gaps.runs, start, end, label, first) + np.array([-1, -1, 1, 1])
    return boxes, start[first] // gaps.runs.block


def _largest_boxes(components: _Components) -> tuple[Ints, Ints]:
    runs, mask, has_hole = components.runs, components.mask, components.has_hole
    boxes = _extent(runs, runs.start, runs.end, components.label, components.first)
    area = _doubled_areas(runs, components.pairs, components.label, len(mask))
    # With its holes a component is larger than that, but not than its box. Only where another
    # one than the first by far could be the largest are the holes filled.
    leader = _last_largest(components, area)
    bound = 2 * (boxes[:, 2] - boxes[:, 0] - 1) * (boxes[:, 3] - boxes[:, 1] - 1)
    bound[leader] = -1
    lead = np.zeros(int(mask.max(initial=-1)) + 1, dtype=area.dtype)
    lead[mask[leader]] = area[leader]
    open_ = np.zeros(len(lead), dtype=bool)
    open_[mask[has_hole & (bound >= lead[mask])]] = True
    chosen = has_hole & open_[mask]
    if chosen.any():
        area = np.where(chosen, _filled_areas(components, chosen), area)
        leader = _last_largest(components, area)
    return boxes[leader], mask[leader]


def _last_largest(components: _Components, area: Ints) -> Ints:
    """Each mask's component of largest area, the last in raster order of equals."""
    order = np.lexsort((components.first, area, components.mask))
    masks = components.mask[order]
    last: Ints = order[np.append(masks[1:] != masks[:-1], np.ones_like(masks[:1], dtype=bool))]
    return last


def _extent(runs: _Runs, start: Ints, end: Ints, label: Ints, first: Ints) -> Ints:
    """The box around the sorted stretches [start, end) of each label, whose first is given."""
    line = start // runs.stride
    column = start - (line * runs.stride + 1)
    last = np.empty_like(first)
    last[label] = np.arange(len(label))  # of duplicates, the last one stays
    x0 = column[first]
    np.minimum.at(x0, label, column)
    x1 = np.zeros_like(x0)
    np.maximum.at(x1, label, column + (end - start))
    rows = runs.block // runs.stride
    return np.stack([x0, line[first] % rows, x1, line[last] % rows + 1], axis=1)


def _doubled_areas(runs: _Runs, pairs: _Pairs, label: Ints, count: int) -> Ints:
    """Twice the area of each component's outline, less that of its holes' outlines.

    Outlines go through pixel centres: a 2x2 window of pixels adds 1 where all four are set and
    1/2 where three are. Two runs one above the other, with n pixels in common, have n - 1
    windows of four, and one of three at each end where one of them is longer.
    """
    start, end = runs.start[pairs.upper], runs.end[pairs.upper]
    below_start = runs.start[pairs.lower] - runs.stride
    below_end = runs.end[pairs.lower] - runs.stride
    common = np.minimum(end, below_end) - np.maximum(start, below_start)
    area = 2 * (common - 1) + (start != below_start) + (end != below_end)
    area[common <= 0] = 0
    return np.bincount(label[pairs.upper], weights=area, minlength=count).astype(np.int64)


def _filled_areas(components: _Components, chosen: Bools) -> Ints:
    """The doubled areas of the chosen components, their holes and what is in them filled."""
    gaps = _find_gaps(components, chosen)
    starts, ends = gaps.outside[:-1], gaps.outside[1:]
    runs = _part(gaps.runs, starts, ends)
    pairs = _pairs(runs.above, runs.below)
    # What starts a filled run is of the outermost component: those inside have no area.
    return _doubled_areas(runs, pairs, gaps.label[starts], len(components.mask))
