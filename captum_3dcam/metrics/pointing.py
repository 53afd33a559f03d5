"""Does a map point at the ground truth? Hit points, and the share of energy inside."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_3dcam._validation import (
    check_choice,
    check_integers,
    check_number,
    check_tensor,
    describe,
    show,
)
from captum_3dcam.metrics._inputs import (
    check_boxes,
    check_masks,
    check_samples,
    drop_channel,
    to_exclusive,
)

HIT_MODES = ("intersect", "argmax")


def hit_point(
    maps: Tensor,
    boxes: Sequence[Tensor],
    mode: str = "argmax",
    *,
    tolerance: float | None = None,
    threshold: float | None = None,
    box_format: str = "xyxy",
) -> Tensor:
    """Whether each map points at one of its ground-truth boxes: bool (N,).

    A constant map has no hit, nor has one without a positive value or with NaN or Inf. A pixel is
    in a box if its centre is.

    Args:
        maps: (N, *S) or (N, 1, *S), with as many axes as the boxes have: with (T, H, W) a box is
            (x0, y0, t0, x1, y1, t1).
        boxes: N tensors (B_i, 2D), the ground truth.
        mode: ``"argmax"``, the pointing game (Zhang et al., 2018, doi 10.1007/s11263-017-1059-x):
            the highest pixel (the first of equals) is in a box, or near one. ``"intersect"``: the
            bounding box of the highest values shares a pixel with a box.
        tolerance: for ``"argmax"``: near is less than so many pixels away (Euclidean; default 15).
        threshold: for ``"intersect"``: the highest values are above this fraction of the maximum
            (default 0.5).
        box_format: ``"xyxy"`` or ``"xyxy_inclusive"``.

    Raises ValueError for an unknown mode, an option of the other mode, and shapes that do not fit.

    >>> maps = torch.zeros(1, 40, 40)
    >>> maps[0, 5, 20] = 1  # y, x
    >>> boxes = [torch.tensor([[0, 0, 10, 10]])]  # the last x is 9: a distance of 11
    >>> hit_point(maps, boxes), hit_point(maps, boxes, tolerance=11)
    (tensor([True]), tensor([False]))
    >>> hit_point(maps, boxes, "intersect")
    tensor([False])
    """
    tolerance, threshold = check_hit_options(mode, tolerance, threshold)
    check_boxes(boxes, check_samples(maps))
    if not len(boxes):
        return torch.zeros(0, dtype=torch.bool)
    maps = drop_channel(maps, rank=boxes[0].shape[-1] // 2)
    hits = []
    for number, (heatmap, ground_truth) in enumerate(zip(maps, boxes, strict=True)):
        if ground_truth.shape[-1] != 2 * heatmap.ndim:
            raise ValueError(
                f"Sample {number} has boxes of {describe(ground_truth)}; a map of "
                f"{describe(heatmap)} needs {2 * heatmap.ndim} bounds per box."
            )
        highest = heatmap.amax()
        if mode == "argmax":
            pixels = torch.stack(torch.unravel_index(heatmap.argmax(), heatmap.shape))[None]
        else:
            pixels = (heatmap > threshold * highest).nonzero()
        limits = to_exclusive(ground_truth.to(heatmap.device), box_format)
        has_peak = heatmap.isfinite().all() and highest > max(heatmap.amin(), 0)
        hits.append(bool(has_peak) and _is_near(pixels.flip(1), limits, tolerance))
    return torch.tensor(hits)


def _is_near(pixels: Tensor, boxes: Tensor, tolerance: float) -> bool:
    """Whether the bounding box of pixels (P, D) meets a box, or is nearer than the tolerance."""
    first, last = _pixel_range(boxes)
    gap = torch.maximum(first - pixels.amax(dim=0), pixels.amin(dim=0) - last).clamp(min=0)
    distance = torch.linalg.vector_norm(gap, dim=-1)
    has_pixels = (first <= last).all(dim=-1)
    return bool((has_pixels & ((distance == 0) | (distance < tolerance))).any())


def _pixel_range(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last pixels with their centres in inclusive-exclusive boxes (B, 2D)."""
    low, high = (boxes - 0.5).ceil().chunk(2, dim=-1)
    return low, high - 1


def check_hit_options(
    mode: str, tolerance: float | None, threshold: float | None
) -> tuple[float, float]:
    """The tolerance and threshold of :func:`hit_point`, with its defaults; or a ValueError."""
    check_choice("mode", mode, HIT_MODES)
    options = {"intersect": ("tolerance", tolerance), "argmax": ("threshold", threshold)}
    name, value = options[mode]
    if value is not None:
        raise ValueError(f"{name}={show(value)} has no meaning for mode={mode!r}. Leave it out.")
    if tolerance is None:
        tolerance = 15.0 if mode == "argmax" else 0.0
    if threshold is None:
        threshold = 0.5
    tolerance, threshold = check_tolerance(tolerance), check_number("threshold", threshold)
    if not 0 <= threshold < 1:
        raise ValueError(
            f"threshold={threshold!r} is not in [0, 1). It is a fraction of the map's maximum."
        )
    return tolerance, threshold


def check_tolerance(tolerance: float) -> float:
    tolerance = check_number("tolerance", tolerance)
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance!r}: expected a distance in pixels, 0 or more.")
    return tolerance


def boxes_to_mask(
    boxes: Tensor, size: tuple[int, ...], box_format: str = "xyxy", tolerance: float = 0.0
) -> Tensor:
    """The bool mask of ``size`` (..., H, W) of the pixels with their centre in a box (B, 2D).

    With a ``tolerance`` also of those less than that from one inside (Euclidean). Raises
    ValueError if the boxes have another number of dimensions.

    >>> boxes_to_mask(torch.tensor([[1, 0, 3, 1]]), (2, 4)).int()
    tensor([[0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    size = check_integers("size", size)
    check_tensor("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 2 * len(size):
        raise ValueError(
            f"A mask of size {tuple(size)} needs boxes (B, {2 * len(size)}); received "
            f"{describe(boxes)}."
        )
    tolerance = check_tolerance(tolerance)
    first, last = (b.float() for b in _pixel_range(to_exclusive(boxes, box_format)))
    squared = torch.zeros(len(boxes), *[1] * len(size), device=boxes.device)
    for axis, length in enumerate(size):
        bound = len(size) - 1 - axis  # x, the last axis, has the first bound
        pixel = torch.arange(length, device=boxes.device)
        gap = torch.maximum(first[:, bound, None] - pixel, pixel - last[:, bound, None])
        squared = squared + gap.clamp(min=0).square().reshape(-1, *[1] * axis, length, *[1] * bound)
    has_pixels = (first <= last).all(dim=-1).reshape(-1, *[1] * len(size))
    return (has_pixels & ((squared == 0) | (squared < tolerance**2))).any(dim=0)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's positive part that lies inside the ground truth: (N,), in [0, 1].

    Σ_inside relu(map) / Σ relu(map), in float64: the energy-based pointing game (Wang et al.,
    Score-CAM, 2020, arXiv 1910.01279), which is relevance mass accuracy (Arras et al., 2022, arXiv
    2003.07258) of the positive part. A map without a positive value, or with NaN or Inf, has 0.

    Takes maps (N, *S) and bool masks of their shape; for boxes see :func:`boxes_to_mask`. Raises
    ValueError for others.

    >>> energy_inside(torch.tensor([[1.0, -5.0, 3.0]]), torch.tensor([[True, True, False]]))
    tensor([0.2500], dtype=torch.float64)
    """
    check_masks(maps, masks)
    positive = maps.detach().double().relu().flatten(1)
    finite = maps.isfinite().flatten(1).all(dim=1)
    total = positive.sum(dim=1)
    inside = torch.where(masks.flatten(1), positive, 0).sum(dim=1)
    return torch.where(finite & (total > 0), inside / total, 0)


def acc2(hits: Tensor, correct: Tensor) -> Tensor:
    """The fraction of all samples with both a hit and the right class, in [0, 1].

    Takes two tensors, bool (N,): of :func:`hit_point`, and whether the model's class is right.
    Raises ValueError for others.

    >>> acc2(torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False]))
    tensor(0.2500)
    """
    check_tensor("hits", hits)
    check_tensor("correct", correct)
    if hits.shape != correct.shape or hits.ndim != 1 or {hits.dtype, correct.dtype} != {torch.bool}:
        raise ValueError(
            f"acc2 expects hits and correct, both bool (N,); received {describe(hits)} of "
            f"{hits.dtype} and {describe(correct)} of {correct.dtype}. The second is "
            "preds == labels."
        )
    return (hits & correct.to(hits.device)).float().mean()
