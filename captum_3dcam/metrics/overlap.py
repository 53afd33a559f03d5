"""Intersection over union of boxes, masks, tubes and segments.

A box is (x0, y0, x1, y1) in pixels, inclusive-exclusive: x1 - x0 is the width. In D dimensions it
has D lower bounds and then D upper ones: (start, end) for a segment, (x0, y0, t0, x1, y1, t1) in a
clip.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_3dcam._validation import check_sequence, check_tensor, describe
from captum_3dcam.localization import iou
from captum_3dcam.metrics._inputs import check_boxes, to_exclusive


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU = |a ∩ b| / |a ∪ b| of each pair: boxes (N, 2D) and (M, 2D) -> (N, M), in [0, 1].

    In float64. Zero where a box is empty or NaN. Raises ValueError for other shapes.

    >>> box_iou(torch.tensor([[2, 2, 5, 5]]), torch.tensor([[2, 2, 6, 6], [5, 5, 6, 6]]))
    tensor([[0.5625, 0.0000]], dtype=torch.float64)
    """
    check_tensor("boxes1", boxes1)
    check_tensor("boxes2", boxes2)
    if boxes1.ndim != 2 or boxes2.ndim != 2 or boxes1.shape[1] != boxes2.shape[1]:
        raise ValueError(
            f"box_iou expects boxes (N, 2D) and (M, 2D) of the same D; received "
            f"{describe(boxes1)} and {describe(boxes2)}. A single box is box[None]."
        )
    return paired_iou(boxes1[:, None], boxes2[None])


def paired_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of boxes (..., 2D) with the corresponding boxes (..., 2D); the shapes broadcast.

    >>> boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 4, 1]])
    >>> paired_iou(boxes, torch.tensor([0, 0, 4, 2]))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return iou(to_exclusive(boxes1, "xyxy"), to_exclusive(boxes2, "xyxy").to(boxes1.device))


def segment_iou(segments1: Tensor, segments2: Tensor) -> Tensor:
    """:func:`box_iou` of segments [start, end) in any unit: (N, 2) and (M, 2) -> (N, M).

    >>> segment_iou(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 6.0], [4.0, 5.0]]))
    tensor([[0.3333, 0.0000]], dtype=torch.float64)
    """
    return box_iou(segments1, segments2)


def mask_iou(masks1: Tensor, masks2: Tensor) -> Tensor:
    """IoU of each sample's two masks: bool (N, *S) twice -> (N,). Two empty masks have 0.

    Raises ValueError for masks of another dtype or of different shapes.

    >>> mask_iou(torch.tensor([[True, True, False]]), torch.tensor([[False, True, True]]))
    tensor([0.3333], dtype=torch.float64)
    """
    check_tensor("masks1", masks1)
    check_tensor("masks2", masks2)
    are_bool = masks1.dtype == masks2.dtype == torch.bool
    if masks1.shape != masks2.shape or masks1.ndim < 2 or not are_bool:
        raise ValueError(
            f"mask_iou expects two bool masks (N, *S); received {describe(masks1)} of "
            f"{masks1.dtype} and {describe(masks2)} of {masks2.dtype}. Threshold maps first: "
            "maps > 0.5."
        )
    common = (masks1 & masks2).flatten(1).sum(dim=1).double()
    union = (masks1 | masks2).flatten(1).sum(dim=1)
    return torch.where(union > 0, common / union, 0)


def tube_iou(tubes1: Tensor, tubes2: Tensor) -> Tensor:
    """IoU of two tubes of per-frame boxes (..., T, 4) -> (...); the shapes broadcast.

    Σ_t IoU(a_t, b_t) over the frames of both tubes, divided by the number of frames of either:
    temporal IoU times the mean spatial IoU. A tube is absent from a frame where its box is NaN.
    Zero if both are absent everywhere.

    >>> box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    >>> a = torch.stack([box, box, box * torch.nan])
    >>> b = torch.stack([box * torch.nan, box * 2, box])
    >>> tube_iou(a, b)  # one shared frame of IoU 1/4, in three
    tensor(0.0833, dtype=torch.float64)
    """
    check_tensor("tubes1", tubes1)
    check_tensor("tubes2", tubes2)
    if min(tubes1.ndim, tubes2.ndim) < 2 or tubes1.shape[-2:] != tubes2.shape[-2:]:
        raise ValueError(
            "tube_iou expects tubes (..., T, 4) over the same frames; received "
            f"{describe(tubes1)} and {describe(tubes2)}. Fill absent frames with NaN."
        )
    ious = paired_iou(tubes1, tubes2)
    present = ~(tubes1.isnan().any(-1) & tubes2.isnan().any(-1))
    frames = present.sum(dim=-1)
    return torch.where(frames > 0, ious.sum(dim=-1) / frames.clamp(min=1), 0)


def best_iou(
    preds: Sequence[Tensor] | Tensor, target: Sequence[Tensor], box_format: str = "xyxy"
) -> Tensor:
    """The highest IoU of each sample between a predicted and a ground-truth box: (N,).

    Args:
        preds: N tensors (P_i, 2D), or one tensor (N, 2D) or (N, P, 2D).
        target: N tensors (B_i, 2D) with at least one box.
        box_format: of all boxes, ``"xyxy"`` or ``"xyxy_inclusive"``.

    A sample without a predicted box has 0. Raises ValueError for shapes that do not fit.

    >>> best_iou([torch.tensor([[0, 0, 2, 2]])], [torch.tensor([[0, 0, 4, 2], [3, 3, 4, 4]])])
    tensor([0.5000], dtype=torch.float64)
    """
    if isinstance(preds, Tensor):
        preds = list(preds) if preds.ndim else [preds]
    check_sequence("preds", preds, of="tensors (P, 2D), one per sample")
    check_boxes(target, len(preds))
    ious = []
    for boxes, ground_truth in zip(preds, target, strict=True):
        a, b = to_exclusive(boxes, box_format), to_exclusive(ground_truth, box_format)
        ious.append(box_iou(a[None] if a.ndim == 1 else a, b))
    return _highest(ious)


def best_tube_iou(
    preds: Sequence[Tensor], target: Sequence[Tensor], box_format: str = "xyxy"
) -> Tensor:
    """The highest :func:`tube_iou` of each clip between a predicted and a ground-truth tube: (N,).

    Args:
        preds: N tensors (T, 4), or (P_i, T, 4) for several tubes; NaN where absent.
        target: N tensors (T, 4) or (B_i, T, 4), with at least one tube.
        box_format: of all boxes, ``"xyxy"`` or ``"xyxy_inclusive"``.

    A clip without a predicted tube has 0. Raises ValueError for shapes that do not fit.

    >>> tube = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    >>> best_tube_iou([tube], [torch.stack([tube * 2, tube])])
    tensor([1.], dtype=torch.float64)
    """
    check_sequence("preds", preds, of="tensors (P, T, 4), one per clip")
    check_sequence("target", target, of="tensors (B, T, 4), one per clip")
    if len(preds) != len(target):
        raise ValueError(
            f"Expected predicted and ground-truth tubes of the same clips; received {len(preds)} "
            f"and {len(target)}. A clip without a predicted tube has shape (0, T, 4)."
        )
    ious = []
    for number, (tubes, ground_truth) in enumerate(zip(preds, target, strict=True)):
        check_tensor(f"preds[{number}]", tubes)
        check_tensor(f"target[{number}]", ground_truth)
        if (
            tubes.shape[-2:] != ground_truth.shape[-2:]
            or not {tubes.ndim, ground_truth.ndim} <= {2, 3}
            or not len(ground_truth)
        ):
            raise ValueError(
                f"Clip {number} has predicted tubes of {describe(tubes)} and ground-truth tubes of "
                f"{describe(ground_truth)}; expected (T, 4) or (B, T, 4) over the same frames, and "
                "at least one ground-truth tube. Fill absent frames with NaN."
            )
        a, b = (
            to_exclusive(each, box_format).reshape(-1, *each.shape[-2:])
            for each in (tubes, ground_truth)
        )
        ious.append(tube_iou(a[:, None], b[None]))
    return _highest(ious)


def _highest(ious: Iterable[Tensor]) -> Tensor:
    """The highest IoU (P, B) of each sample, 0 without a pair."""
    best = [each.amax() if each.numel() else each.new_zeros(()) for each in ious]
    return torch.stack(best) if best else torch.zeros(0, dtype=torch.float64)
