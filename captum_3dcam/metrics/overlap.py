"""Intersection over union of boxes, masks, tubes and segments.

A box is (x0, y0, x1, y1) in pixels, inclusive-exclusive: x1 - x0 is the width. In D dimensions it
is the D lower bounds and then the D upper ones: (start, end) for a segment, (x0, y0, t0, x1, y1,
t1) in a clip.
"""

import torch
from torch import Tensor

from captum_3dcam.localization import iou
from captum_3dcam.metrics._inputs import Boxes, check_truth, to_exclusive


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU = |a ∩ b| / |a ∪ b| of each pair: boxes (N, 2D) and (M, 2D) -> (N, M), in [0, 1].

    Inclusive-exclusive, in float64. Zero where a box is empty or NaN.

    Raises ValueError for boxes of different dimensions, or not (N, 2D).

    >>> box_iou(torch.tensor([[2, 2, 5, 5]]), torch.tensor([[2, 2, 6, 6], [5, 5, 6, 6]]))
    tensor([[0.5625, 0.0000]], dtype=torch.float64)
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"box_iou expects boxes (N, 2D) and (M, 2D) of one D; got {tuple(a.shape)} and "
            f"{tuple(b.shape)}. A single box is box[None]."
        )
    return paired_iou(a[:, None], b[None])


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 2D) with the boxes (..., 2D) at the same places; the shapes broadcast.

    >>> boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 4, 1]])
    >>> paired_iou(boxes, torch.tensor([0, 0, 4, 2]))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return iou(to_exclusive(a, "xyxy"), to_exclusive(b, "xyxy").to(a.device))


def segment_iou(a: Tensor, b: Tensor) -> Tensor:
    """Temporal IoU of each pair of segments [start, end): (N, 2) and (M, 2) -> (N, M).

    :func:`box_iou` in one dimension; in frames, seconds, or any other unit.

    >>> segment_iou(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 6.0], [4.0, 5.0]]))
    tensor([[0.3333, 0.0000]], dtype=torch.float64)
    """
    return box_iou(a, b)


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each sample's two masks: bool (N, *S) twice -> (N,). Two empty masks have 0.

    Raises ValueError for masks that are not bool or differ in shape.

    >>> mask_iou(torch.tensor([[True, True, False]]), torch.tensor([[False, True, True]]))
    tensor([0.3333], dtype=torch.float64)
    """
    if a.shape != b.shape or a.ndim < 2 or a.dtype != torch.bool or b.dtype != torch.bool:
        raise ValueError(
            f"mask_iou expects two bool masks (N, *S); got {tuple(a.shape)} of {a.dtype} and "
            f"{tuple(b.shape)} of {b.dtype}. Threshold maps first: maps > 0.5."
        )
    common = (a & b).flatten(1).sum(dim=1).double()
    union = (a | b).flatten(1).sum(dim=1)
    return torch.where(union > 0, common / union, 0)


def tube_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of two tubes of per-frame boxes (..., T, 4) -> (...); the shapes broadcast.

    Σ_t IoU(a_t, b_t) over the frames of both, / the number of frames of either: temporal IoU
    times the mean spatial IoU. In a frame where a tube is absent its box is NaN. Zero if both
    are absent everywhere. Boxes are inclusive-exclusive.

    >>> box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    >>> a = torch.stack([box, box, box * torch.nan])
    >>> b = torch.stack([box * torch.nan, box * 2, box])
    >>> tube_iou(a, b)  # one shared frame of IoU 1/4, in three
    tensor(0.0833, dtype=torch.float64)
    """
    present = ~(a.isnan().any(-1) & b.isnan().any(-1))
    frames = present.sum(dim=-1)
    total = paired_iou(a, b).sum(dim=-1)
    return torch.where(frames > 0, total / frames.clamp(min=1), 0)


def best_iou(predicted: Boxes | Tensor, truth: Boxes, box_format: str = "xyxy") -> Tensor:
    """Each sample's highest IoU between a predicted and a true box: (N,).

    Args:
        predicted: N tensors (P_i, 2D), or one tensor (N, 2D) or (N, P, 2D).
        truth: N tensors (B_i, 2D) with a box at least.
        box_format: of all of them, ``"xyxy"`` or ``"xyxy_inclusive"``.

    A sample without a predicted box has 0. Raises ValueError for lists of different lengths, and
    for a sample without a true box.

    >>> best_iou([torch.tensor([[0, 0, 2, 2]])], [torch.tensor([[0, 0, 4, 2], [3, 3, 4, 4]])])
    tensor([0.5000], dtype=torch.float64)
    """
    check_truth(truth, len(predicted))
    best = []
    for found, boxes in zip(predicted, truth, strict=True):
        ious = box_iou(
            to_exclusive(found.reshape(-1, found.shape[-1]), box_format),
            to_exclusive(boxes, box_format),
        )
        best.append(ious.amax() if ious.numel() else ious.new_zeros(()))
    return torch.stack(best) if best else torch.zeros(0, dtype=torch.float64)


def best_tube_iou(predicted: Boxes, truth: Boxes, box_format: str = "xyxy") -> Tensor:
    """Each clip's highest :func:`tube_iou` between a predicted and a true tube: (N,).

    Args:
        predicted: N tensors (T, 4), or (P_i, T, 4) for several tubes; NaN where absent.
        truth: N tensors (T, 4) or (B_i, T, 4), with a tube at least.
        box_format: of all of them, ``"xyxy"`` or ``"xyxy_inclusive"``.

    A clip without a predicted tube has 0. Raises ValueError for shapes that do not fit.

    >>> tube = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    >>> best_tube_iou([tube], [torch.stack([tube * 2, tube])])
    tensor([1.], dtype=torch.float64)
    """
    if len(predicted) != len(truth):
        raise ValueError(
            f"Expected predicted and true tubes of the same clips; got {len(predicted)} and "
            f"{len(truth)}. A clip without a predicted tube has shape (0, T, 4)."
        )
    best = []
    for number, (found, true) in enumerate(zip(predicted, truth, strict=True)):
        if (
            found.shape[-2:] != true.shape[-2:]
            or not {found.ndim, true.ndim} <= {2, 3}
            or not len(true)
        ):
            raise ValueError(
                f"Clip {number} has predicted tubes {tuple(found.shape)} and true ones "
                f"{tuple(true.shape)}; expected (T, 4) or (B, T, 4) over the same frames, and one "
                "true tube at least. Fill absent frames with NaN."
            )
        a, b = (to_exclusive(t, box_format).reshape(-1, *t.shape[-2:]) for t in (found, true))
        ious = tube_iou(a[:, None], b[None])
        best.append(ious.amax() if ious.numel() else ious.new_zeros(()))
    return torch.stack(best) if best else torch.zeros(0, dtype=torch.float64)
