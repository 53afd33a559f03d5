"""The connected components of an image at all thresholds at once: its component tree (max-tree).

For one threshold, the usual algorithm finds the runs of set pixels in each row and joins the runs
that touch in neighbouring rows (union-find). This is the same for all thresholds together:

1. The thresholds give masks 0, 1, ..., each inside the one before. A pixel's *level* is the number
   of masks in which it is set: masks 0, ..., level - 1.
2. A *hill* is a stretch of a row that rises and then falls. It has at most one run in each mask, so
   it stands for a stack of runs.
3. An *edge* between two hills has the level up to which they touch: in masks 0, ..., level - 1.
4. A hill that touches a higher one in all of its masks is never a component of its own. Going
   uphill from there leads to a *peak*. A smooth image has few peaks.
5. Union-find over the edges between peaks, from the highest level to the lowest, joins the peaks
   that are connected in each mask.

A *node* is a peak in one of its masks. Nodes are numbered peak after peak, and in each from mask 0
on. A component is a set of nodes of one mask. Values of pixels (bounding boxes, counts) are first
collected for each pixel's *top node*, its peak in the last mask that has the pixel, then passed on
to the lower masks of the peak, and then joined to components.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.signedinteger[Any]]
Edges = tuple[Ints, Ints, Ints]  # between hills or peaks a and b, up to a level


@dataclass(frozen=True)
class Rows:
    """The levels of an image row after row, with a 0 before the first row and after each."""

    level: Ints
    stride: int  # from a pixel to the one below

    @classmethod
    def from_image(cls, levels: Ints) -> "Rows":
        height, width = levels.shape
        level = np.zeros(1 + height * (width + 1), dtype=levels.dtype)
        level[1:].reshape(height, width + 1)[:, :-1] = levels
        return cls(level, width + 1)

    def corners(self, values: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Pixels' values in each 2x2 square: upper left, upper right, lower left, lower right."""
        stride = self.stride
        return values[: -stride - 1], values[1:-stride], values[stride:-1], values[stride + 1 :]

    @cached_property
    def saddles(self) -> tuple[Ints, Ints]:
        """The squares with a diagonal above both pixels of the other: falling, and rising ones."""
        a, b, c, d = self.corners(self.level)
        falling = np.flatnonzero(np.minimum(a, d) > np.maximum(b, c))
        rising = np.flatnonzero(np.minimum(b, c) > np.maximum(a, d))
        return falling, rising


class _Hills(NamedTuple):
    start: Ints  # the first pixel of each hill
    height: Ints  # the highest level of each hill
    of_pixel: Ints  # the hill of each pixel; 0 for those before the first hill
    rises: Ints  # all pixels above the one to the left, where runs start
    falls: Ints  # all pixels above the one to the right, where runs end


class ComponentTree(NamedTuple):
    """The R components of all masks."""

    mask: Ints  # (R,): the mask of each component
    first_pixel: Ints  # (R,): its first pixel in raster order, as an index into rows.level
    box: Ints  # (R, 4): its bounding box x0, y0, x1, y1, inclusive-exclusive
    rows: Rows
    hill: Ints  # the hill of each pixel
    base: Ints  # for each hill the number before its peak's first node: + level = the top node
    component: Ints  # the component of each node
    height: Ints  # the number of nodes of each peak

    def component_at(self, pixels: Ints, masks: Ints) -> Ints:
        """The component of each pixel in a mask, or -1 where the pixel is not set."""
        is_set = np.flatnonzero(self.rows.level.take(pixels) > masks)
        base = self.base.take(self.hill.take(pixels.take(is_set)))
        components = np.full(len(pixels), -1)
        components[is_set] = self.component.take(base + masks.take(is_set) + 1)
        return components

    def sum_over(self, values: Ints) -> Ints:
        """The sum of the pixels' values in each component."""
        if not len(self.mask):
            return np.zeros(0, dtype=np.int64)
        nodes = len(self.component)
        top_node = self.base.take(self.hill) + self.rows.level
        np.copyto(top_node, nodes, where=self.rows.level == 0)  # pixels in no mask
        sums = np.bincount(top_node, weights=values, minlength=nodes + 1)[:nodes]
        # From each node on to the last of all, less what is beyond its own peak.
        totals = np.append(np.cumsum(sums[::-1])[::-1], 0)
        beyond = np.repeat(totals.take(np.cumsum(self.height)), self.height)
        sums = np.bincount(self.component, weights=totals[:-1] - beyond, minlength=len(self.mask))
        return sums.astype(np.int64)


def component_tree(levels: Ints, diagonal: bool) -> ComponentTree:
    """The components of all masks of an image of levels (H, W).

    With ``diagonal`` a pixel has 8 neighbours, else 4.
    """
    rows = Rows.from_image(levels)
    hills = _find_hills(rows)
    edges = _find_edges(rows, hills, diagonal)
    peak_of_hill, height = _find_peaks(hills.height, edges)
    first_node = np.cumsum(height) - height
    representative = _merge_peaks(height, first_node, _highest_edges(peak_of_hill, edges))
    nodes = np.arange(len(representative))
    is_first = representative == nodes
    component = (np.cumsum(is_first) - 1).take(representative)
    mask = (nodes - np.repeat(first_node, height)).compress(is_first)
    base = (first_node - 1).take(peak_of_hill)
    first_pixel, box = _bounding_boxes(rows, hills, base, height, component)
    return ComponentTree(mask, first_pixel, box, rows, hills.of_pixel, base, component, height)


def _find_hills(rows: Rows) -> _Hills:
    level = rows.level
    step = np.flatnonzero(level[1:] != level[:-1])
    is_rise = (level[1:] > level[:-1]).take(step)
    is_start = is_rise & np.append(True, ~is_rise[:-1])[: len(step)]  # a rise after a fall
    is_top = is_rise & np.append(~is_rise[1:], True)[: len(step)]  # a rise before a fall
    start = step.compress(is_start) + 1
    bounds = np.concatenate([[0], start[1:], [len(level)]])
    return _Hills(
        start=start,
        height=level.take(step.compress(is_top) + 1).astype(np.int64),
        of_pixel=np.repeat(np.arange(max(len(start), 1)), np.diff(bounds)),
        rises=step.compress(is_rise) + 1,
        falls=step.compress(~is_rise),
    )


def _find_edges(rows: Rows, hills: _Hills, diagonal: bool) -> Edges:
    """The hills that touch, and the level up to which they do."""
    level, stride, start = rows.level, rows.stride, hills.start
    # One after the other in a row: up to the level of the valley between them.
    before = start[1:] - 1
    # One above the other: up to the highest level that two of their neighbouring pixels share.
    shared = np.minimum(level[:-stride], level[stride:])
    above = np.sort(np.concatenate([start, start - stride]))
    above = above.compress((above >= 0) & (above < len(shared)))
    # Diagonally: only at a saddle, for elsewhere the two touch through the square's other pixels.
    falling, rising = rows.saddles if diagonal else (start[:0], start[:0])
    first = np.concatenate([before, falling, rising + 1])
    second = np.concatenate([before + 1, falling + stride + 1, rising + stride])
    touching = np.minimum(level.take(first), level.take(second))
    a = hills.of_pixel.take(np.concatenate([first, above]))
    b = hills.of_pixel.take(np.concatenate([second, above + stride]))
    levels = np.concatenate([touching, np.maximum.reduceat(shared, above)]).astype(np.int64)
    real = np.flatnonzero(levels)
    return a.take(real), b.take(real), levels.take(real)


def _find_peaks(height: Ints, edges: Edges) -> tuple[Ints, Ints]:
    """The peak that each hill leads up to, and the height of each peak."""
    hill = np.arange(len(height))
    a, b, level = edges
    # Of two hills of equal height the later one, b, counts as higher: so there are no cycles.
    swap = height.take(a) > height.take(b)
    low, high = np.where(swap, b, a), np.where(swap, a, b)
    slope = np.flatnonzero(level == height.take(low))
    uphill = hill.copy()
    uphill[low.take(slope)] = high.take(slope)
    while ((further := uphill.take(uphill)) != uphill).any():
        uphill = further
    is_peak = uphill == hill
    return (np.cumsum(is_peak) - 1).take(uphill), height.compress(is_peak)


def _highest_edges(peak_of_hill: Ints, edges: Edges) -> Edges:
    """The highest edge between each two peaks, from the highest to the lowest."""
    a, b, level = peak_of_hill.take(edges[0]), peak_of_hill.take(edges[1]), edges[2]
    between = np.flatnonzero(a != b)
    a, b, level = a.take(between), b.take(between), level.take(between)
    peaks, levels = int(peak_of_hill.max(initial=0)) + 1, int(level.max(initial=0)) + 1
    # Sorted, the last of each pair has the pair's highest level.
    key = np.sort((np.minimum(a, b) * peaks + np.maximum(a, b)) * levels + level)
    pair, level = np.divmod(key.compress(np.diff(key // levels, append=-1) != 0), levels)
    order = np.argsort(-level, kind="stable")
    return (pair // peaks).take(order), (pair % peaks).take(order), level.take(order)


def _merge_peaks(height: Ints, first_node: Ints, edges: Edges) -> Ints:
    """For each node one node of its component, the same for all nodes of the component."""
    parent, merges = list(range(len(height))), []
    for a, b, level in zip(*(values.tolist() for values in edges), strict=True):
        while parent[a] != a:  # find the root, halving the path
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b:
            parent[a] = b
            merges.append((a, b, level))
    representative, first = np.arange(int(height.sum())), first_node.tolist()
    # In reverse: then the nodes of b already have what b itself was merged into.
    for a, b, level in reversed(merges):
        representative[first[a] : first[a] + level] = representative[first[b] : first[b] + level]
    return representative


def _bounding_boxes(
    rows: Rows, hills: _Hills, base: Ints, height: Ints, component: Ints
) -> tuple[Ints, Ints]:
    """The first pixel and the bounding box of each component."""
    level, stride, rises, falls = rows.level, rows.stride, hills.rises, hills.falls
    rise_top = base.take(hills.of_pixel.take(rises)) + level.take(rises)
    fall_top = base.take(hills.of_pixel.take(falls)) + level.take(falls)
    row = (hills.start - 1) // stride
    column = np.tile(np.arange(-1, stride - 1), len(level) // stride + 1)
    # For each node the minimum of: first pixel, first column, -last row, -last column.
    limit = len(level)
    table = np.full((4, len(component)), limit)
    np.minimum.at(table[0], rise_top, rises)
    np.minimum.at(table[1], rise_top, column.take(rises))
    np.minimum.at(table[2], base + hills.height, -row)
    np.minimum.at(table[3], fall_top, -column.take(falls))
    # Passed on to the lower masks of a peak. The offset keeps the next peaks' values out.
    offset = np.repeat(np.arange(len(height)) * (2 * limit + 1), height)
    table += offset
    np.minimum.accumulate(table[:, ::-1], axis=1, out=table[:, ::-1])
    table -= offset
    minima = np.full((4, int(component.max(initial=-1)) + 1), limit)
    for values, minimum in zip(table, minima, strict=True):
        np.minimum.at(minimum, component, values)
    first_pixel, x0, y1, x1 = minima
    return first_pixel, np.stack([x0, (first_pixel - 1) // stride, 1 - x1, 1 - y1], axis=1)
