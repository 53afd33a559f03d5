"""Connected components of masks, and their bounding boxes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_3dcam._validation import check_choice, check_tensor, describe
from captum_3dcam.localization._inputs import (
    Array,
    check_clips,
    check_connectivity,
    check_maps,
    check_mask,
    mask_arrays,
    to_arrays,
    to_tensor,
)
from captum_3dcam.localization._regions import label_components, measure_regions
from captum_3dcam.localization.thresholds import binarize

SELECTIONS = ("largest", "all", "union")


class Boxes(NamedTuple):
    """Boxes (B, 2R) float32 over R axes, and their scores (B,) in descending order."""

    boxes: Tensor
    scores: Tensor


def components(mask: Tensor, connectivity: int | None = None) -> tuple[Tensor, Tensor]:
    """Connected components of each mask: labels (N, 1, *S) and counts (N,), both int64.

    Labels run from 1 to the sample's count, in raster order (the last axis fastest); 0 is outside
    the mask. Neighbours differ by at most one step along at most ``connectivity`` axes. The
    default is all axes: 8 neighbours in 2D, 26 in 3D; 1 means 4 and 6.

    Raises TypeError or ValueError for a mask or connectivity that is not as described.

    >>> mask = torch.tensor([[[[True, False], [False, True]]]])
    >>> labels, counts = components(mask)
    >>> labels.tolist(), counts.tolist()
    ([[[[1, 0], [0, 1]]]], [1])
    >>> components(mask, connectivity=1)[0].tolist()
    [[[[1, 0], [0, 2]]]]
    """
    check_mask(mask)
    connectivity = check_connectivity(connectivity, mask.ndim - 2)
    labels = np.zeros(mask.shape, dtype=np.int64)
    counts = np.zeros(len(mask), dtype=np.int64)
    for i, sample in enumerate(mask_arrays(mask)):
        labels[i, 0], counts[i] = label_components(sample, connectivity)
    return torch.from_numpy(labels).to(mask.device), torch.from_numpy(counts).to(mask.device)


def boxes(
    maps: Tensor,
    mask: Tensor | None = None,
    select: str = "largest",
    connectivity: int | None = None,
) -> list[Boxes]:
    """Bounding boxes of each sample's mask; a score is the map's maximum in the component.

    Args:
        maps: (N, 1, *S), over R axes.
        mask: bool (N, 1, *S); by default ``binarize(maps)``, above half the maximum.
        select: ``"largest"``, the component with the most pixels (ties: the highest score, then
            the first in raster order); ``"all"``, one box per component; ``"union"``, one box
            around the whole mask.
        connectivity: as in :func:`components`.

    Returns:
        For each sample boxes (B, 2R) and scores (B,); an empty mask has B = 0.

    Raises TypeError or ValueError for arguments that are not as described.

    >>> maps = torch.zeros(1, 1, 4, 6)
    >>> maps[0, 0, 0, 5], maps[0, 0, 1:3, 1:4] = 4.0, 3.0
    >>> boxes(maps)[0].boxes.tolist()
    [[1.0, 1.0, 4.0, 3.0]]
    >>> boxes(maps, select="all")[0]
    Boxes(boxes=tensor([[5., 0., 6., 1.],
            [1., 1., 4., 3.]]), scores=tensor([4., 3.]))
    """
    check_choice("select", select, SELECTIONS)
    check_maps(maps)
    connectivity = check_connectivity(connectivity, maps.ndim - 2)
    mask = binarize(maps) if mask is None else check_mask(mask, maps)
    samples = zip(to_arrays(maps), mask_arrays(mask), strict=True)
    selected = (_select(values, inside, select, connectivity) for values, inside in samples)
    return [Boxes(to_tensor(b, maps.device), to_tensor(s, maps.device)) for b, s in selected]


def frame_boxes(
    maps: Tensor,
    mask: Tensor | None = None,
    select: str = "largest",
    connectivity: int | None = None,
) -> list[list[Boxes]]:
    """The :func:`boxes` of each frame of clips (N, 1, T, *S): for each sample a list of T Boxes.

    The default threshold is that of the clip, so frames with low values have no boxes.
    ``connectivity`` counts the axes of a frame. Raises as :func:`boxes`.

    >>> maps = torch.zeros(1, 1, 3, 4, 4)
    >>> maps[0, 0, 1, 1:3, 2:4], maps[0, 0, 2, 0, 0] = 1.0, 0.4
    >>> [frame.boxes.tolist() for frame in frame_boxes(maps)[0]]
    [[], [[2.0, 1.0, 4.0, 3.0]], []]
    """
    check_clips(maps)
    mask = binarize(maps) if mask is None else check_mask(mask, maps)
    return [
        boxes(clip.transpose(0, 1), inside.transpose(0, 1), select, connectivity)
        for clip, inside in zip(maps, mask, strict=True)
    ]


def _select(values: Array, mask: Array, select: str, connectivity: int) -> tuple[Array, Array]:
    """Boxes (B, 2R) and scores (B,) of one sample."""
    union = select == "union"
    labels = mask.astype(np.int32) if union else label_components(mask, connectivity)[0]
    corners, scores = measure_regions(values, labels)
    order = np.argsort(-scores, kind="stable")
    if select == "largest" and len(order):
        pixels = np.bincount(labels.ravel())[1:]
        order = order[[pixels[order].argmax()]]
    return corners[order], scores[order]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 2R), elementwise after broadcasting.

    Zero for two boxes without extent, and for a box with NaN. Raises TypeError or ValueError for
    what are no boxes, and shapes that do not broadcast.

    >>> iou(torch.tensor([2.0, 2.0, 5.0, 5.0]), torch.tensor([2.0, 2.0, 6.0, 6.0]))
    tensor(0.5625)
    """
    a, b = _as_boxes("a", a), _as_boxes("b", b)
    try:
        torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
        fits = a.shape[-1] == b.shape[-1]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            "Expected boxes (..., 2R) of the same R, with shapes that broadcast; received "
            f"{describe(a)} and {describe(b)}. For all pairs: iou(a[:, None], b[None])."
        )
    (low_a, high_a), (low_b, high_b) = a.chunk(2, dim=-1), b.chunk(2, dim=-1)
    common = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = (high_a - low_a).prod(-1) + (high_b - low_b).prod(-1) - common
    return torch.where(union > 0, common / union, 0)


def _as_boxes(name: str, boxes: Tensor) -> Tensor:
    check_tensor(name, boxes)
    if not boxes.ndim or not boxes.shape[-1] or boxes.shape[-1] % 2:
        raise ValueError(f"Expected {name} as boxes (..., 2R); received {describe(boxes)}.")
    # Differences of unsigned integers would wrap around.
    return boxes if boxes.is_floating_point() else boxes.long()
