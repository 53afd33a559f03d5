"""Boxes of the contours of thresholded images, for all thresholds at once.

The boxes are those of OpenCV's ``findContours(RETR_TREE)`` and ``boundingRect``, without OpenCV
and without a loop over pixels, masks or contours. As the threshold T falls, a region of the mask
``image > T`` appears at a *peak*, grows, and joins others at *saddles*. So the image is reduced
to its peaks and the saddles between them, of which a smooth map has few: merged from the highest
saddle to the lowest, they are the regions of all masks. A hole is a region of the inverted image.

Here the masks are numbered 0, 1, ..., and a pixel's *level* is the number of masks that it is set
in: those before its level. A peak in one of its masks is a *node*.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.signedinteger[Any]]
Bools = npt.NDArray[np.bool_]

# Runs of set pixels in all masks together; more are done in several parts. A node has one at
# least, and takes some 100 bytes.
_RUNS_AT_ONCE = 8_000_000


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
    levels = _levels(cuts).take(image)
    boxes_of = _all_boxes if multi_contour else _largest_boxes
    found = [np.empty((0, 5), dtype=np.int64)]
    for first, last in _parts(levels, len(cuts)):
        boxes, masks = boxes_of(np.clip(levels, first, last) - first, last - first)
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


def _levels(cuts: npt.NDArray[Any]) -> Ints:
    """The level of each value 0, ..., 255: how many cuts, from the lowest on, it is above."""
    dtype = np.int16 if len(cuts) < 2**15 else np.int32
    return np.searchsorted(cuts, np.arange(256)).astype(dtype)


def _parts(levels: Ints, count: int) -> list[tuple[int, int]]:
    """The masks in as few parts as keep to the number of runs that fit in memory."""
    runs = levels.size * count  # at most, and seldom near it
    if runs > _RUNS_AT_ONCE:
        runs = int(levels[:, 0].sum() + np.diff(levels, axis=1).clip(0).sum())
    parts = min(count, 1 + runs // _RUNS_AT_ONCE)
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


# ------------------------------------------------------------------------------------------ lines


class _Line(NamedTuple):
    """The pixels' levels in one line, row after row, with a 0 before the first and after each.

    A *hill* is a stretch that rises and then falls, so that in each mask its set pixels are one
    run.
    """

    level: Ints
    stride: int
    begin: Ints
    """Each hill's first pixel."""
    peak: Ints
    """The level of each hill's top."""
    rise: Ints
    """The pixels that are above the one before, where runs start: in order, hill after hill."""
    rises: Ints
    """How many of them each hill has."""
    fall: Ints
    """The pixels that are above the one after, where runs end."""
    falls: Ints

    def spread(self, values: Ints) -> Ints:
        """A value of each hill, given to its pixels; 0 to those before the first."""
        sizes = np.diff(self.begin, prepend=0, append=len(self.level))
        return np.repeat(np.append(np.zeros(1, dtype=values.dtype), values), sizes)


def _find_hills(levels: Ints) -> _Line:
    height, width = levels.shape
    level = np.zeros(1 + height * (width + 1), dtype=levels.dtype)
    level[1:].reshape(height, width + 1)[:, :-1] = levels
    step = np.flatnonzero(level[1:] != level[:-1])
    is_rise = (level[1:] > level[:-1]).take(step)
    # The first step is a rise, and the last one a fall.
    top = np.flatnonzero(is_rise[:-1] > is_rise[1:])
    begin = np.flatnonzero(is_rise[1:] > is_rise[:-1]) + 1
    begin = np.concatenate([np.arange(min(len(step), 1)), begin])
    return _Line(
        level=level,
        stride=width + 1,
        begin=step.take(begin) + 1,
        peak=level.take(step.take(top) + 1).astype(np.int64),
        rise=np.compress(is_rise, step) + 1,
        rises=top - begin + 1,
        fall=np.compress(~is_rise, step),
        falls=np.append(begin[1:], len(step)) - top - 1,
    )


class _Edges(NamedTuple):
    """Hills or peaks ``a`` and ``b`` that are connected in the masks before a level."""

    a: Ints
    b: Ints
    level: Ints

    def where(self, chosen: Bools) -> "_Edges":
        index = np.flatnonzero(chosen)
        return _Edges(self.a.take(index), self.b.take(index), self.level.take(index))


def _touching_hills(line: _Line, diagonal: bool) -> _Edges:
    level, stride, begin = line.level, line.stride, line.begin
    hill = line.spread(np.arange(len(begin)))
    # One after the other in a row; and one above the other, as high as the highest two of their
    # pixels.
    beside = begin[1:] - 1
    common = np.minimum(level[:-stride], level[stride:])
    above = np.sort(np.concatenate([begin, begin - stride]))
    above = above[np.searchsorted(above, 0) : np.searchsorted(above, len(common))]
    first, second = [beside, above], [beside + 1, above + stride]
    joined = [level.take(beside), np.maximum.reduceat(common, above)]
    if diagonal:
        # Without a saddle, one of the two pixels beside a diagonal connects its ends as well.
        saddles = _find_saddles(line)
        first.append(saddles.first)
        second.append(saddles.second)
        joined.append(saddles.top)
    a, b = hill.take(np.concatenate(first)), hill.take(np.concatenate(second))
    edges = _Edges(a, b, np.concatenate(joined).astype(np.int64))
    return edges.where(edges.level > 0)


class _Quads(NamedTuple):
    """The squares of four pixels from each pixel on to the right and down."""

    falling: Ints
    """The level of the lower end of the diagonal from the pixel itself."""
    rising: Ints
    """That of the other diagonal."""
    falling_top: Ints
    """The level of the higher end."""
    rising_top: Ints


def _quads(line: _Line) -> _Quads:
    level, stride = line.level, line.stride
    a, b, c, d = level[: -stride - 1], level[1:-stride], level[stride:-1], level[stride + 1 :]
    return _Quads(np.minimum(a, d), np.minimum(b, c), np.maximum(a, d), np.maximum(b, c))


class _Saddles(NamedTuple):
    """Diagonals of squares that are set in some masks in which the other two pixels are not."""

    first: Ints
    """The upper pixel of each."""
    second: Ints
    """The lower one."""
    top: Ints
    """Both are set in the masks before this level."""
    bottom: Ints
    """Neither of the other two is set in the masks from this one on."""


def _find_saddles(line: _Line) -> _Saddles:
    quads = _quads(line)
    falling = np.flatnonzero(quads.falling > quads.rising_top)
    rising = np.flatnonzero(quads.rising > quads.falling_top)
    return _Saddles(
        np.concatenate([falling, rising + 1]),
        np.concatenate([falling + (line.stride + 1), rising + line.stride]),
        np.concatenate([quads.falling.take(falling), quads.rising.take(rising)]),
        np.concatenate([quads.rising_top.take(falling), quads.falling_top.take(rising)]),
    )


# ---------------------------------------------------------------------------------------- regions


class _Peaks(NamedTuple):
    """The peaks, each of some hills that are connected wherever they are set."""

    of_hill: Ints
    height: Ints
    """The level of each peak."""
    start: Ints
    """The node of each peak in mask 0; the next masks' follow, as many as its height."""
    saddles: _Edges


def _find_peaks(line: _Line, diagonal: bool) -> _Peaks:
    edges = _touching_hills(line, diagonal)
    count = len(line.peak)
    order = line.peak * count + np.arange(count)
    swap = order.take(edges.a) > order.take(edges.b)
    low, high = np.where(swap, edges.b, edges.a), np.where(swap, edges.a, edges.b)
    # A hill that touches a higher one with its top is a slope of that. Of two as high as each
    # other the second is the higher here, so that no hill is uphill of itself.
    slope = np.flatnonzero(edges.level == line.peak.take(low))
    uphill = np.arange(count)
    uphill[low.take(slope)] = high.take(slope)
    while len(np.flatnonzero(uphill.take(uphill) != uphill)):
        uphill = uphill.take(uphill)
    top = np.flatnonzero(uphill == np.arange(count))
    peak = np.empty(count, dtype=np.int64)
    peak[top] = np.arange(len(top))
    of_hill = peak.take(uphill)
    height = line.peak.take(top)
    start = np.cumsum(height) - height
    a, b = of_hill.take(low), of_hill.take(high)
    saddles = _highest(_Edges(np.minimum(a, b), np.maximum(a, b), edges.level), len(top))
    return _Peaks(of_hill, height, start, saddles)


def _highest(edges: _Edges, count: int) -> _Edges:
    """The highest edge between each two of the ``count`` peaks."""
    edges = edges.where(edges.a != edges.b)
    size = int(edges.level.max(initial=0)) + 1
    key = np.sort((edges.a * count + edges.b) * size + edges.level)
    pair = key // size
    last = np.flatnonzero(np.diff(pair, append=-1))
    pair, level = pair.take(last), key.take(last) % size
    return _Edges(pair // count, pair % count, level)


class _Regions(NamedTuple):
    """The connected regions of the set pixels of all masks."""

    line: _Line
    peaks: _Peaks
    label: Ints
    """The region of each node."""
    mask: Ints
    """The mask of each region."""
    first: Ints
    """The place in the line of the first pixel of each region in raster order."""
    box: Ints


def _find_regions(levels: Ints, diagonal: bool) -> _Regions:
    line = _find_hills(levels)
    peaks = _find_peaks(line, diagonal)
    same = _merge(peaks)
    is_first = same == np.arange(len(same))
    label = (np.cumsum(is_first) - 1).take(same)
    mask = np.compress(is_first, np.arange(len(same)) - np.repeat(peaks.start, peaks.height))
    first, x0, y1, x1 = _extents(line, peaks, label, len(mask))
    box = np.stack([x0, (first - 1) // line.stride, x1 + 1, y1 + 1], axis=1)
    return _Regions(line, peaks, label, mask, first, box)


def _merge(peaks: _Peaks) -> Ints:
    """For each node one of its region, the same for all of them.

    The one loop here is over saddles, from the highest to the lowest: the peaks' sets that are
    not connected yet become one (union-find), in the masks before the saddle's level.
    """
    order = np.argsort(-peaks.saddles.level, kind="stable")
    parent, joined = list(range(len(peaks.height))), []
    for a, b, level in zip(*(end[order].tolist() for end in peaks.saddles), strict=True):
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b:
            parent[a] = b
            joined.append((a, b, level))
    same, start = np.arange(int(peaks.height.sum())), peaks.start.tolist()
    # Last joined first: by then it is known what b itself has joined.
    for a, b, level in reversed(joined):
        same[start[a] : start[a] + level] = same[start[b] : start[b] + level]
    return same


def _extents(line: _Line, peaks: _Peaks, label: Ints, regions: int) -> Ints:
    """Of each region the first pixel, first column, last row and last column: (4, regions)."""
    # A run that starts or ends at a pixel does so in the masks just before its level.
    node, row = (peaks.start - 1).take(peaks.of_hill), (line.begin - 1) // line.stride
    rise = np.repeat(node, line.rises) + line.level.take(line.rise)
    fall = np.repeat(node, line.falls) + line.level.take(line.fall)
    left = row * line.stride + 1
    limit = len(line.level)
    table = np.full((4, len(label)), limit)
    np.minimum.at(table[0], rise, line.rise)
    np.minimum.at(table[1], rise, line.rise - np.repeat(left, line.rises))
    np.minimum.at(table[2], node + line.peak, -row)
    np.minimum.at(table[3], fall, np.repeat(left, line.falls) - line.fall)
    # From each peak down: what is before a peak is larger than all of its own.
    apart = np.repeat(np.arange(len(peaks.height)) * (2 * limit + 1), peaks.height)
    table += apart
    np.minimum.accumulate(table[:, ::-1], axis=1, out=table[:, ::-1])
    table -= apart
    extents = np.full(4 * regions, limit)
    index = label + np.arange(4)[:, None] * regions
    np.minimum.at(extents, index.ravel(), table.ravel())
    extents[2 * regions :] *= -1  # the last are those of least negative
    return extents.reshape(4, regions)


# ------------------------------------------------------------------------------------------ boxes


def _all_boxes(levels: Ints, count: int) -> tuple[Ints, Ints]:
    components, holes = _find_regions(levels, diagonal=True), _find_holes(levels, count)
    inside = np.flatnonzero(_is_inside(holes, levels))
    boxes = np.concatenate([components.box, _hole_outlines(holes)[inside]])
    masks = np.concatenate([components.mask, holes.mask[inside]])
    # In each mask the components in raster order, then the holes.
    size = len(components.line.level)
    first = np.concatenate([components.first, holes.first[inside] + size])
    order = np.argsort(masks * (2 * size) + first)
    return boxes[order], masks[order]


def _hole_outlines(holes: _Regions) -> Ints:
    """The boxes of the holes' contours, which run through the pixels around them."""
    boxes: Ints = holes.box + np.array([-1, -1, 1, 1])
    return boxes


def _find_holes(levels: Ints, count: int) -> _Regions:
    """The regions of unset pixels, those included that reach the image's border."""
    regions = _find_regions(levels.dtype.type(count) - levels, diagonal=False)
    return regions._replace(mask=count - 1 - regions.mask)


def _is_inside(regions: _Regions, levels: Ints) -> Bools:
    height, width = levels.shape
    x0, y0, x1, y1 = regions.box.T
    inside: Bools = (x0 > 0) & (y0 > 0) & (x1 < width) & (y1 < height)
    return inside


def _largest_boxes(levels: Ints, count: int) -> tuple[Ints, Ints]:
    components = _find_regions(levels, diagonal=True)
    area = _areas(components)
    largest = _last_largest(components, area)
    # To these areas those of the holes are added, only if that could make another one largest.
    if _may_be_largest(components, area, largest, _box_areas(components.box)):
        holes = _find_holes(levels, count)
        around = _surroundings(components, holes, _is_inside(holes, levels), count)
        inside = np.flatnonzero(around.of_hole >= 0)
        bound = area.copy()
        np.add.at(bound, around.of_hole.take(inside), _box_areas(_hole_outlines(holes)[inside]))
        if _may_be_largest(components, area, largest, bound):
            area = _filled_areas(area, _hole_areas(holes), around)
            largest = _last_largest(components, area)
    return components.box[largest], components.mask[largest]


def _box_areas(boxes: Ints) -> Ints:
    """The doubled areas of the boxes' outlines, which go through the centres of pixels."""
    x0, y0, x1, y1 = boxes.T
    doubled: Ints = 2 * (x1 - x0 - 1) * (y1 - y0 - 1)
    return doubled


def _may_be_largest(components: _Regions, area: Ints, largest: Ints, bound: Ints) -> bool:
    """Whether a component's bound reaches the area of the one that is largest in its mask."""
    to_reach = np.empty(int(components.mask.max(initial=-1)) + 1, dtype=area.dtype)
    to_reach[components.mask[largest]] = area[largest]
    reaches = bound >= to_reach.take(components.mask)
    reaches[largest] = False
    return bool(reaches.any())


def _last_largest(components: _Regions, area: Ints) -> Ints:
    """Each mask's component of largest area, the last in raster order of equals."""
    order = np.lexsort((components.first, area, components.mask))
    last: Ints = order[np.flatnonzero(np.diff(components.mask[order], append=-1))]
    return last


# ------------------------------------------------------------------------------------------ areas

# Outlines go through the centres of set pixels. Of the square between four centres all is set, half
# of it where three of the four are, or nothing. Areas are doubled, to be integers: what is set is
# 1 for each diagonal with both ends set, less 1 at a saddle; and what is not set, the area of
# holes, is 1 for each diagonal with an end not set, and 1 more at a saddle.


def _areas(components: _Regions) -> Ints:
    """The area of each component's outline, less that of its holes' outlines."""
    quads, saddles = _quads(components.line), _find_saddles(components.line)
    place = _places(components)
    before, after = place[: len(quads.falling)], place[1 : len(quads.falling) + 1]
    table = _count(components, before + quads.falling) + _count(components, after + quads.rising)
    place = place.take(saddles.first)
    table += _count(components, place + saddles.bottom) - _count(components, place + saddles.top)
    return _sum(components, table)


def _hole_areas(holes: _Regions) -> Ints:
    """The area of each hole's outline, less that of the components within."""
    line, place = holes.line, _places(holes)
    quads, saddles = _quads(line), _find_saddles(line)
    level, stride, size = line.level, line.stride, len(quads.falling)
    a, b, c, d = (place[at : at + size] for at in (0, 1, stride, stride + 1))
    falling = np.where(level[:size] < quads.falling_top, d, a) + quads.falling_top
    rising = np.where(level[1 : size + 1] < quads.rising_top, c, b) + quads.rising_top
    # A saddle's two ends may be in different holes, which have 1 each: the lower one had none yet.
    is_lower = level.take(saddles.second) == saddles.top
    lower = place.take(np.where(is_lower, saddles.second, saddles.first))
    table = _count(holes, falling) + _count(holes, rising)
    table += _count(holes, lower + saddles.top) - _count(holes, lower + saddles.bottom)
    return _sum(holes, table)


def _places(regions: _Regions) -> Ints:
    """For each pixel where in a table of all peaks' levels 0, 1, ..., height its peak's begin."""
    peaks = regions.peaks
    place = peaks.start + np.arange(len(peaks.start))
    return regions.line.spread(place.take(peaks.of_hill))


def _count(regions: _Regions, places: Ints) -> Ints:
    size = len(regions.label) + len(regions.peaks.start)
    return np.bincount(places, minlength=size)[:size]


def _sum(regions: _Regions, table: Ints) -> Ints:
    """Of each region the sum over its peaks' levels that are set in its mask."""
    peaks = regions.peaks
    zero = peaks.start + np.arange(len(peaks.start))
    total = np.cumsum(table[::-1])[::-1]  # from each peak down
    beyond = np.append(total, 0).take(zero + (peaks.height + 1))
    total = np.delete(total, zero) - np.repeat(beyond, peaks.height)
    weights = np.bincount(regions.label, weights=total, minlength=len(regions.mask))
    areas: Ints = weights.astype(np.int64)
    return areas


class _Surroundings(NamedTuple):
    of_component: Ints
    """The hole that each component is in, or -1."""
    of_hole: Ints
    """The component that each hole is in, or -1 if it reaches the image's border and is none."""


def _surroundings(
    components: _Regions, holes: _Regions, inside: Bools, count: int
) -> _Surroundings:
    # Left of a region's first pixel is what surrounds it.
    of_component = _region_at(holes, components.first - 1, count - 1 - components.mask)
    of_hole = _region_at(components, holes.first - 1, holes.mask)
    return _Surroundings(of_component, np.where(inside, of_hole, -1))


def _filled_areas(areas: Ints, hole_areas: Ints, around: _Surroundings) -> Ints:
    """The area of each component's outline: its own, and that of all that is within."""
    hole = around.of_component
    outward = np.concatenate([np.where(hole < 0, -1, hole + len(areas)), around.of_hole])
    own = np.concatenate([areas, hole_areas])
    total, at = own.copy(), outward
    # Each adds its own to what it is in, to what that is in, and so on.
    while len(within := np.flatnonzero(at >= 0)):
        np.add.at(total, at.take(within), own.take(within))
        at = np.where(at < 0, -1, outward.take(at, mode="clip"))
    filled: Ints = total[: len(areas)]
    return filled


def _region_at(regions: _Regions, pixel: Ints, mask: Ints) -> Ints:
    """The region of each pixel in a mask, or -1 where it is not set."""
    peaks, line = regions.peaks, regions.line
    is_set = np.flatnonzero(line.level.take(pixel) > mask)
    node = line.spread(peaks.start.take(peaks.of_hill)).take(pixel.take(is_set))
    region = np.full(len(pixel), -1)
    region[is_set] = regions.label.take(node + mask.take(is_set))
    return region
