"""Bounding boxes of the contours of a thresholded image, for all thresholds at once.

The boxes are those of OpenCV's ``findContours(RETR_TREE)`` and ``boundingRect``. A contour is the
outline of

- a *component*, an 8-connected set of pixels above the threshold; or
- a *hole*, a 4-connected set of the other pixels that does not reach the image's border. Its
  contour runs through the pixels around it, so its box is a pixel larger on each side.

Holes are components of the inverted image with the other connectivity. So both come from
:func:`~captum_3dcam.metrics._component_tree.component_tree`, which has all thresholds at once.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_3dcam.metrics._component_tree import ComponentTree, Ints, Rows, component_tree

Bools = npt.NDArray[np.bool_]

# Runs of set pixels in all masks together; more are processed in several parts. A run has at most
# one node of the component tree, which takes some 100 bytes.
_MAX_RUNS = 8_000_000


def contour_boxes(
    image: npt.NDArray[np.uint8], thresholds: npt.ArrayLike, multi_contour: bool = True
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bounding boxes of the contours of ``image > T`` for each threshold T, as OpenCV finds them.

    Contours are the outlines of the 8-connected components and of the 4-connected holes inside
    them. With ``multi_contour=False`` each mask gives the box of its contour of largest polygon
    area, the last in raster order on ties. An empty mask has no box.

    Args:
        image: (H, W), uint8.
        thresholds: K strictly increasing integers.
        multi_contour: all contours, or the largest.

    Returns:
        Boxes (B, 4) as x0, y0, x1, y1, inclusive-exclusive; and (B,) the index of the threshold
        of each box, in increasing order.

    Raises ValueError for another dtype or rank, or thresholds that do not increase.

    >>> ring = np.array([[9, 9, 9, 0], [9, 0, 9, 0], [9, 9, 9, 0], [0, 0, 0, 5]], dtype=np.uint8)
    >>> boxes, index = contour_boxes(ring, [0, 5])
    >>> boxes.tolist(), index.tolist()
    ([[0, 0, 4, 4], [0, 0, 3, 3], [0, 0, 3, 3], [0, 0, 3, 3]], [0, 0, 1, 1])
    """
    cuts = _check(image, thresholds)
    dtype = np.int16 if len(cuts) < 2**15 else np.int32
    # A pixel's level is the number of thresholds that it is above.
    levels = np.searchsorted(cuts, np.arange(256)).astype(dtype).take(image)
    find_boxes = _all_boxes if multi_contour else _largest_boxes
    tables = [np.empty((0, 5), dtype=np.int64)]
    for first, last in _parts(levels, len(cuts)):
        boxes, masks = find_boxes(np.clip(levels, first, last) - first, last - first)
        tables.append(np.column_stack([boxes, masks + first]))
    table = np.concatenate(tables)
    return table[:, :4], table[:, 4]


def _check(image: npt.NDArray[np.uint8], thresholds: npt.ArrayLike) -> npt.NDArray[Any]:
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(
            f"contour_boxes expects one image (H, W) of uint8; received shape {image.shape} of "
            f"{image.dtype}. Quantise a map first; give a mask as mask.astype(np.uint8)."
        )
    cuts = np.asarray(thresholds)
    is_list = cuts.ndim == 1 and len(cuts) and cuts.dtype.kind in "iu"
    if not is_list or (cuts[1:] <= cuts[:-1]).any():
        raise ValueError(
            f"contour_boxes expects a list of strictly increasing integer thresholds; received "
            f"{thresholds!r}. Sort them and drop duplicates with np.unique."
        )
    return cuts


def _parts(levels: Ints, masks: int) -> list[tuple[int, int]]:
    """Ranges of masks, as few as keep to the number of runs that fit in memory."""
    runs = levels.size * masks  # at most, and seldom near it
    if runs > _MAX_RUNS:
        runs = int(levels[:, 0].sum() + np.diff(levels, axis=1).clip(0).sum())
    parts = min(masks, 1 + runs // _MAX_RUNS)
    return list(pairwise(masks * part // parts for part in range(parts + 1)))


# ------------------------------------------------------------------------------------------ boxes


def _all_boxes(levels: Ints, masks: int) -> tuple[Ints, Ints]:
    components, holes = component_tree(levels, diagonal=True), _find_holes(levels, masks)
    enclosed = np.flatnonzero(_is_enclosed(holes, levels))
    boxes = np.concatenate([components.box, _outlines(holes)[enclosed]])
    mask = np.concatenate([components.mask, masks - 1 - holes.mask[enclosed]])
    # In each mask the components in raster order, then the holes.
    size = len(components.rows.level)
    position = np.concatenate([components.first_pixel, holes.first_pixel[enclosed] + size])
    order = np.argsort(mask * (2 * size) + position)
    return boxes[order], mask[order]


def _find_holes(levels: Ints, masks: int) -> ComponentTree:
    """The 4-connected components of unset pixels, those that reach the border included.

    The inverted masks run backwards: mask m is that of the image's mask ``masks - 1 - m``.
    """
    return component_tree(levels.dtype.type(masks) - levels, diagonal=False)


def _is_enclosed(holes: ComponentTree, levels: Ints) -> Bools:
    height, width = levels.shape
    x0, y0, x1, y1 = holes.box.T
    enclosed: Bools = (x0 > 0) & (y0 > 0) & (x1 < width) & (y1 < height)
    return enclosed


def _outlines(holes: ComponentTree) -> Ints:
    """The boxes of the holes' contours."""
    boxes: Ints = holes.box + np.array([-1, -1, 1, 1])
    return boxes


# ---------------------------------------------------------------------------------- largest boxes


def _largest_boxes(levels: Ints, masks: int) -> tuple[Ints, Ints]:
    """The box of each mask's contour of largest area, which is that of a component."""
    components = component_tree(levels, diagonal=True)
    area = _areas(components, components.rows)
    # The area of its holes belongs to a component's contour. It is computed only where it could
    # decide, going by the components' boxes, and then by the boxes of their holes.
    if not _is_decided(components, area, _box_areas(components.box)):
        holes = _find_holes(levels, masks)
        outer = components.component_at(holes.first_pixel - 1, masks - 1 - holes.mask)
        outer[~_is_enclosed(holes, levels)] = -1
        inside = np.flatnonzero(outer >= 0)
        bound = area.copy()
        np.add.at(bound, outer.take(inside), _box_areas(_outlines(holes)[inside]))
        if not _is_decided(components, area, bound):
            hole = holes.component_at(components.first_pixel - 1, masks - 1 - components.mask)
            area = _filled_areas(area, _areas(holes, components.rows), hole, outer)
    largest = _last_largest(components, area)
    return components.box[largest], components.mask[largest]


def _box_areas(boxes: Ints) -> Ints:
    """The doubled areas between the centres of the boxes' corner pixels."""
    x0, y0, x1, y1 = boxes.T
    areas: Ints = 2 * (x1 - x0 - 1) * (y1 - y0 - 1)
    return areas


def _is_decided(components: ComponentTree, area: Ints, bound: Ints) -> bool:
    """Whether each mask's component of largest area remains so, were the others of their bound."""
    largest = _last_largest(components, area)
    reaches = bound >= area[largest].take(components.mask)
    reaches[largest] = False
    return not reaches.any()


def _last_largest(components: ComponentTree, area: Ints) -> Ints:
    """Each mask's component of largest area, the last in raster order on ties."""
    order = np.lexsort((components.first_pixel, area, components.mask))
    last: Ints = order[np.flatnonzero(np.diff(components.mask[order], append=-1))]
    return last


# ------------------------------------------------------------------------------------------ areas

# The polygon of a contour has the centres of pixels for its corners. Of the square between four
# neighbouring centres a component has all where all four are set, half where three are, else
# nothing; what it has not belongs to its holes. Doubled to be integers, the areas are counts: of
# the two lowest pixels of each square, each adds 1 to its component in the masks in which it is
# set, and 1 to its hole in the masks in which it is not.


def _areas(tree: ComponentTree, rows: Rows) -> Ints:
    """The doubled area of each component, or hole, by the two lowest pixels of each square."""
    a, b, c, d = rows.corners(rows.level)
    upper_left, upper_right = a < d, b < c
    a, b, c, d = rows.corners(tree.top_nodes())
    # One of each diagonal, unless a diagonal lies above both pixels of the other.
    first, second = np.where(upper_left, a, d), np.where(upper_right, b, c)
    falling, rising = rows.saddles
    first[falling] = np.where(upper_right[falling], c[falling], b[falling])
    second[rising] = np.where(upper_left[rising], d[rising], a[rising])
    return tree.count_pixels(first, second)


def _filled_areas(area: Ints, hole_area: Ints, hole: Ints, outer: Ints) -> Ints:
    """The area of each component's contour: its own, and that of all that is inside it.

    ``hole`` is the hole that each component is in, ``outer`` the component that each hole is in;
    -1 for none.
    """
    own = np.concatenate([area, hole_area])
    parent = np.concatenate([np.where(hole < 0, -1, hole + len(area)), outer])
    total, ancestor = own.copy(), parent
    while len(inside := np.flatnonzero(ancestor >= 0)):
        np.add.at(total, ancestor.take(inside), own.take(inside))
        ancestor = np.where(ancestor < 0, -1, parent.take(ancestor, mode="clip"))
    filled: Ints = total[: len(area)]
    return filled
