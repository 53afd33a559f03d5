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

from captum_3dcam._validation import check_flag, describe, show
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
    check_flag("multi_contour", multi_contour)
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
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"contour_boxes expects a NumPy image (H, W) of uint8; received {show(image)}. Convert "
            "a tensor with .cpu().numpy()."
        )
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"contour_boxes expects one image (H, W) of uint8; received {describe(image)} of "
            f"{image.dtype}. Quantise a map first; give a mask as mask.astype(np.uint8)."
        )
    try:
        cuts = np.asarray(thresholds)
    except (TypeError, ValueError, RuntimeError):  # of ragged lists, and of tensors on a GPU
        cuts = np.empty(0)
    is_list = cuts.ndim == 1 and len(cuts) and cuts.dtype.kind in "iu"
    if not is_list or (cuts[1:] <= cuts[:-1]).any():
        raise ValueError(
            f"contour_boxes expects a list of strictly increasing integer thresholds; received "
            f"{show(thresholds)}. Sort them and drop duplicates with np.unique."
        )
    return cuts


def _parts(levels: Ints, masks: int) -> list[tuple[int, int]]:
    """Ranges of masks with at most :data:`_MAX_RUNS` runs or so each."""
    runs = levels.size * masks  # an upper bound, and most often far too high
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
    pixel_area = _area_of_pixels(components.rows)
    area = components.sum_over(pixel_area)
    largest = _last_largest(components, area)
    # The polygon of a component's contour includes its holes. Their area is computed only if it
    # could matter, judged by the boxes of the components, and then by those of the holes.
    if _may_be_exceeded(components, area, largest, _box_areas(components.box)):
        holes = _find_holes(levels, masks)
        outer = components.component_at(holes.first_pixel - 1, masks - 1 - holes.mask)
        outer[~_is_enclosed(holes, levels)] = -1
        inside = np.flatnonzero(outer >= 0)
        bound = area.copy()
        np.add.at(bound, outer.take(inside), _box_areas(_outlines(holes)[inside]))
        if _may_be_exceeded(components, area, largest, bound):
            hole = holes.component_at(components.first_pixel - 1, masks - 1 - components.mask)
            area = _filled_areas(area, holes.sum_over(pixel_area), hole, outer)
            largest = _last_largest(components, area)
    return components.box[largest], components.mask[largest]


def _box_areas(boxes: Ints) -> Ints:
    """The doubled areas between the centres of the boxes' corner pixels."""
    x0, y0, x1, y1 = boxes.T
    areas: Ints = 2 * (x1 - x0 - 1) * (y1 - y0 - 1)
    return areas


def _may_be_exceeded(components: ComponentTree, area: Ints, largest: Ints, bound: Ints) -> bool:
    """Whether the largest component of a mask could be another one, if areas reach the bound."""
    reaches = bound >= area[largest].take(components.mask)
    reaches[largest] = False
    return bool(reaches.any())


def _last_largest(components: ComponentTree, area: Ints) -> Ints:
    """Each mask's component of largest area, the last in raster order on ties."""
    order = np.lexsort((components.first_pixel, area, components.mask))
    last: Ints = order[np.flatnonzero(np.diff(components.mask[order], append=-1))]
    return last


# ------------------------------------------------------------------------------------------ areas

# The corners of a contour's polygon are the centres of pixels. Take the square between four
# neighbouring centres: a component has all of it if all four pixels are set, half of it if three
# are, and else nothing; the rest belongs to the component's holes. So half of the square goes with
# each of its two lowest pixels: to the component of that pixel in the masks in which it is set, to
# its hole in the others. Areas are doubled, to be integers.


def _area_of_pixels(rows: Rows) -> Ints:
    """In how many of its four squares each pixel is one of the two lowest."""
    a, b, c, d = rows.corners(rows.level)
    # The lower one of each diagonal, unless a diagonal lies above both pixels of the other.
    is_low = np.stack([a < d, b < c, b >= c, a >= d])
    falling, rising = rows.saddles
    is_low[:, falling] = [[False], [True], [True], [False]]
    is_low[:, rising] = [[True], [False], [False], [True]]
    area = np.zeros(len(rows.level), dtype=np.int8)
    for corner, low in zip(rows.corners(area), is_low, strict=True):
        corner += low  # a view
    return area


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
