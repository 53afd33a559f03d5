"""Scores of weakly supervised object localisation (WSOL): MaxBoxAcc and PxAP.

The protocol and its conventions are those of Choe et al., *Evaluating Weakly Supervised Object
Localization Methods Right* (CVPR 2020, arXiv 2001.07437). In these a box includes its last pixel,
and the box of a contour is a pixel larger than the contour, up to the border of the image.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_3dcam._validation import check_choice, check_flag, check_number, check_tensor, describe
from captum_3dcam.metrics._contours import contour_boxes
from captum_3dcam.metrics._inputs import (
    BOX_FORMATS,
    check_boxes,
    check_fractions,
    check_iou_thresholds,
    check_masks,
    drop_channel,
    to_exclusive,
)
from captum_3dcam.metrics.overlap import best_iou, box_iou, paired_iou, tube_iou

_MIN_INTERVAL = 1e-6  # a million thresholds; more would fill the memory
THRESHOLD_SELECTIONS = ("dataset", "per_sample")


def cam_thresholds(interval: float = 0.01) -> Tensor:
    """The thresholds τ = 0, interval, 2 interval, ... below 1, in float64.

    Raises TypeError or ValueError for an interval that is not in [1e-6, 1].

    >>> cam_thresholds(0.25)
    tensor([0.0000, 0.2500, 0.5000, 0.7500], dtype=torch.float64)
    """
    interval = check_number("interval", interval)
    if not _MIN_INTERVAL <= interval <= 1:
        raise ValueError(
            f"interval={interval!r} is not in [{_MIN_INTERVAL}, 1]. It is the step between "
            "thresholds that are fractions of a map's maximum; 0.01 gives the usual 100."
        )
    return torch.from_numpy(np.arange(0, 1, interval))


def normalize_scoremaps(maps: Tensor) -> Tensor:
    """Shift each map by its minimum, then divide by its maximum: (N, *S) -> (N, *S) in [0, 1].

    A constant map becomes zeros, as does one with NaN or Inf. In float64, as in the reference, and
    on the CPU, because some devices have no float64.
    """
    maps = maps.detach().cpu().double()
    axes = tuple(range(1, maps.ndim))
    shifted = maps - maps.amin(dim=axes, keepdim=True)
    peak = shifted.amax(dim=axes, keepdim=True)
    usable = (peak > 0) & (peak < torch.inf)  # NaN is neither
    return torch.where(usable, shifted / torch.where(usable, peak, 1), 0)


def quantize(maps: Tensor) -> Tensor:
    """Each map normalised, times 255, rounded down to uint8: (N, *S) -> (N, *S)."""
    return (normalize_scoremaps(maps) * 255).to(torch.uint8)


# -------------------------------------------------------------------------------------- MaxBoxAcc


def scoremap_boxes(
    scoremap: Tensor, thresholds: Tensor | Sequence[float], multi_contour: bool
) -> list[Tensor]:
    """The boxes of a map at each threshold: (H, W) and K thresholds -> K tensors (B_k, 4).

    The map is quantised; a pixel is set if it is above int(τ · the map's maximum). The boxes are
    those of all contours, or of the largest, as (x, y, min(x + w, W - 1), min(y + h, H - 1)), in
    the reference's ``"xyxy_inclusive"``; (0, 0, 0, 0) where no pixel is set.

    >>> corner = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> scoremap_boxes(corner, torch.tensor([0.0, 0.5]), multi_contour=False)
    [tensor([[0, 0, 2, 1]]), tensor([[0, 0, 2, 1]])]
    """
    check_flag("multi_contour", multi_contour)
    taus = _check_thresholds(thresholds)
    image = quantize(drop_channel(check_tensor("scoremap", scoremap)[None], rank=2))[0].numpy()
    cuts, cut_of = _integer_thresholds(image, taus)
    boxes, cut = _inclusive_boxes(image, cuts, multi_contour, fallback=True)
    return [boxes[cut == number] for number in cut_of]


def _check_thresholds(thresholds: Tensor | Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(check_fractions("thresholds", thresholds), dtype=np.float64)


def _integer_thresholds(
    images: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], Tensor]:
    """The distinct cuts int(τ · maximum), and the index of each τ's cut among them."""
    cuts = (thresholds * float(images.max())).astype(np.int64)
    distinct, index = np.unique(cuts, return_inverse=True)
    return distinct, torch.from_numpy(index)


def _inclusive_boxes(
    image: npt.NDArray[np.uint8], cuts: npt.NDArray[np.int64], multi_contour: bool, fallback: bool
) -> tuple[Tensor, Tensor]:
    """Boxes (B, 4) and the index of each one's cut; a cut without any may fall back to zeros."""
    boxes, index = contour_boxes(image, cuts, multi_contour)
    height, width = image.shape
    boxes = np.minimum(boxes, [width - 1, height - 1, width - 1, height - 1])
    if fallback:
        empty = np.setdiff1d(np.arange(len(cuts)), index)
        boxes = np.concatenate([boxes, np.zeros((len(empty), 4), dtype=np.int64)])
        index = np.concatenate([index, empty])
    return torch.from_numpy(boxes), torch.from_numpy(index)


def scoremap_ious(
    maps: Tensor,
    boxes: Sequence[Tensor],
    thresholds: Tensor | Sequence[float],
    multi_contour: bool = False,
    box_format: str = "xyxy_inclusive",
) -> Tensor:
    """The best IoU of each map at each threshold, over its boxes and the ground truth's: (N, K).

    Args:
        maps: (N, H, W) or (N, 1, H, W).
        boxes: N tensors (B_i, 4), the ground truth.
        thresholds: K fractions of the maximum, in [0, 1]; see :func:`cam_thresholds`.
        multi_contour: the boxes of all contours, or that of the largest.
        box_format: of ``boxes``: ``"xyxy_inclusive"`` or ``"xyxy"``.

    In float64. Raises ValueError for shapes and formats that do not fit.

    >>> maps = torch.zeros(1, 8, 8)
    >>> maps[0, 2:5, 2:5] = 1
    >>> scoremap_ious(maps, [torch.tensor([[2, 2, 4, 4]])], torch.tensor([0.5]))
    tensor([[0.5625]], dtype=torch.float64)
    """
    check_flag("multi_contour", multi_contour)
    check_choice("box_format", box_format, BOX_FORMATS)
    taus = _check_thresholds(thresholds)
    maps = drop_channel(maps, rank=2)
    check_boxes(boxes, len(maps))
    best = torch.zeros(len(maps), len(taus), dtype=torch.float64)
    for row, image, ground_truth in zip(best, quantize(maps).numpy(), boxes, strict=True):
        cuts, cut_of = _integer_thresholds(image, taus)
        candidates, cut = _inclusive_boxes(image, cuts, multi_contour, fallback=True)
        target = to_exclusive(ground_truth.cpu(), box_format)
        ious = box_iou(to_exclusive(candidates, "xyxy_inclusive"), target).amax(dim=1)
        row.copy_(row.new_zeros(len(cuts)).scatter_reduce_(0, cut, ious, "amax")[cut_of])
    return best


def clip_ious(
    clip: Tensor,
    boxes: Tensor,
    thresholds: Tensor | Sequence[float],
    box_format: str = "xyxy_inclusive",
) -> tuple[Tensor, Tensor]:
    """A clip's IoUs at each threshold: of each annotated frame (F, K), and of the tube (1, K).

    The clip is normalised and thresholded as a whole; each frame's box is that of its largest
    contour, in the convention of :func:`scoremap_boxes`. A frame with no pixel above the threshold
    has no box, and IoU 0. Of several ground-truth tubes the best counts, in each frame and as a
    tube.

    Args:
        clip: (T, H, W).
        boxes: (T, 4) or (B, T, 4), one box per frame, NaN where the tube is absent.
        thresholds: K fractions of the clip's maximum.
        box_format: of ``boxes``: ``"xyxy_inclusive"`` or ``"xyxy"``.

    Raises ValueError for boxes of another number of frames, or absent from all of them.

    >>> clip = torch.zeros(2, 4, 4)
    >>> clip[:, 2:, 2:] = torch.tensor([1.0, 0.5])[:, None, None]
    >>> boxes = torch.tensor([[2, 2, 3, 3], [2, 2, 3, 3]])
    >>> frames, tube = clip_ious(clip, boxes, torch.tensor([0.25, 0.75]))
    >>> frames.tolist(), tube.tolist()
    ([[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.5]])
    """
    taus = _check_thresholds(thresholds)
    clip = drop_channel(check_tensor("clip", clip)[None], rank=3)[0]
    target = _ground_truth_tubes(boxes, len(clip), box_format)
    images = quantize(clip[None])[0].numpy()
    cuts, cut_of = _integer_thresholds(images, taus)
    tubes = torch.full((len(cuts), 1, *target.shape[1:]), torch.nan, dtype=torch.float64)
    for frame, image in enumerate(images):
        largest, cut = _inclusive_boxes(image, cuts, multi_contour=False, fallback=False)
        tubes[cut, 0, frame] = to_exclusive(largest, "xyxy_inclusive")
    annotated = ~target.isnan().any(dim=-1).all(dim=0)
    frames = paired_iou(tubes, target).amax(dim=1)[:, annotated].T
    return frames[:, cut_of], tube_iou(tubes, target).amax(dim=1)[None, cut_of]


def _ground_truth_tubes(boxes: Tensor, frames: int, box_format: str) -> Tensor:
    check_tensor("boxes", boxes)
    if boxes.ndim not in (2, 3) or boxes.shape[-2:] != (frames, 4):
        raise ValueError(
            f"A clip of {frames} frames needs ground-truth boxes (T, 4), or (B, T, 4) for several "
            f"tubes; received {describe(boxes)}. Fill absent frames with NaN."
        )
    tubes = to_exclusive(boxes.cpu(), box_format).reshape(-1, frames, 4)
    if tubes.isnan().any(dim=-1).all():
        raise ValueError(
            f"The ground-truth boxes of a clip, {describe(boxes)}, are NaN (absent) in all frames. "
            "Leave clips without a ground truth out."
        )
    return tubes


def count_correct(ious: Tensor, iou_thresholds: Sequence[float]) -> Tensor:
    """How many IoUs (N, K) reach each IoU threshold δ, at each map threshold: (D, K).

    >>> count_correct(torch.tensor([[0.2, 0.5], [0.6, 0.5]]), [0.5])
    tensor([[1, 2]])
    """
    _check_ious(ious)
    iou_thresholds = check_iou_thresholds(iou_thresholds)
    deltas = torch.tensor(iou_thresholds, dtype=torch.float64, device=ious.device)
    return (ious >= deltas[:, None, None]).sum(dim=1)


def _check_ious(ious: Tensor) -> None:
    if check_tensor("ious", ious).ndim != 2 or not ious.shape[1]:
        raise ValueError(
            f"Expected ious (N, K), at K map thresholds; received {describe(ious)}. Of one "
            "threshold they are ious[:, None]."
        )


def max_box_acc(
    ious: Tensor, iou_thresholds: Sequence[float] = (0.5,), threshold_selection: str = "dataset"
) -> Tensor:
    """MaxBoxAcc at each δ, in [0, 1]: the IoUs of :func:`scoremap_ious` (N, K) -> (D,).

    ``"dataset"``: max_τ mean_n [IoU_n(τ) >= δ], one τ for all samples, as in the reference.
    ``"per_sample"``: mean_n max_τ [IoU_n(τ) >= δ], which is never lower.

    >>> ious = torch.tensor([[0.6, 0.2], [0.1, 0.7]])
    >>> max_box_acc(ious), max_box_acc(ious, threshold_selection="per_sample")
    (tensor([0.5000]), tensor([1.]))
    """
    check_choice("threshold_selection", threshold_selection, THRESHOLD_SELECTIONS)
    _check_ious(ious)
    if threshold_selection == "per_sample":
        ious = ious.amax(dim=1, keepdim=True)
    return count_correct(ious, iou_thresholds).amax(dim=1) / len(ious)


def protocol_name(
    iou_thresholds: Sequence[float],
    threshold_selection: str,
    multi_contour: bool = False,
    clips: bool = False,
) -> str:
    """Describe a protocol of MaxBoxAcc, with the name that the reference has for it.

    >>> protocol_name((0.5,), "dataset")
    'MaxBoxAcc V1: largest contour, IoU 0.5, one threshold for the dataset'
    >>> protocol_name((0.2, 0.5), "per_sample", clips=True)
    'MaxBoxAcc of clips: largest contour of each frame, IoU 0.2, 0.5, one threshold per clip'
    """
    iou_thresholds = check_iou_thresholds(iou_thresholds)
    check_choice("threshold_selection", threshold_selection, THRESHOLD_SELECTIONS)
    check_flag("multi_contour", multi_contour)
    check_flag("clips", clips)
    name, unit = ("MaxBoxAcc of clips", "clip") if clips else ("MaxBoxAcc", "sample")
    contours = "all contours" if multi_contour else "largest contour"
    if clips:
        contours += " of each frame"
    elif threshold_selection == "dataset":
        versions = {((0.5,), False): " V1", ((0.3, 0.5, 0.7), True): " V2"}
        name += versions.get((iou_thresholds, multi_contour), "")
    ious = ", ".join(map(str, iou_thresholds))
    scope = "for the dataset" if threshold_selection == "dataset" else f"per {unit}"
    return f"{name}: {contours}, IoU {ious}, one threshold {scope}"


def box_accuracy(
    preds: Sequence[Tensor] | Tensor,
    target: Sequence[Tensor],
    iou_thresholds: Sequence[float] = (0.5,),
) -> Tensor:
    """The fraction of samples whose :func:`~captum_3dcam.metrics.best_iou` is >= δ: (D,).

    >>> box_accuracy(torch.tensor([[0, 0, 2, 2]]), [torch.tensor([[0, 0, 4, 2]])], (0.5, 0.7))
    tensor([1., 0.])
    """
    return max_box_acc(best_iou(preds, target)[:, None], iou_thresholds)


# ------------------------------------------------------------------------------------------- PxAP


def px_ap_counts(
    maps: Tensor, masks: Tensor, ignore: Tensor | None = None, interval: float = 0.01
) -> Tensor:
    """How many pixels have their score between each two thresholds: (2, K + 1), int64.

    Row 0 counts pixels outside the ground truth, row 1 those inside; the last column counts those
    of score 1. Arguments and errors as for :func:`px_ap`.
    """
    check_masks(maps, masks, ignore)
    edges = torch.cat([cam_thresholds(interval), torch.ones(1, dtype=torch.float64)])
    bins = torch.bucketize(normalize_scoremaps(maps), edges, right=True) - 1
    index = bins + len(edges) * masks.cpu()
    if ignore is not None:
        index = index[~ignore.cpu()]
    return torch.bincount(index.flatten(), minlength=2 * len(edges)).reshape(2, -1)


def px_ap_from_counts(counts: Tensor) -> Tensor:
    """PxAP from the counts (2, K + 1) of :func:`px_ap_counts`, summed over a dataset."""
    false_positives, true_positives = counts.cpu().flip(1).cumsum(dim=1).double()
    if not true_positives[-1] > 0:
        raise ValueError(
            "PxAP needs a pixel inside the ground truth: all masks are empty or ignored."
        )
    precision = true_positives / (true_positives + false_positives).clamp(min=1)
    recall = true_positives / true_positives[-1]
    average: Tensor = (precision * recall.diff(prepend=recall.new_zeros(1))).sum()
    return average


def px_ap(
    maps: Tensor, masks: Tensor, ignore: Tensor | None = None, interval: float = 0.01
) -> Tensor:
    """Pixel average precision Σ_l Prec(τ_l) (Rec(τ_l) - Rec(τ_{l-1})) (Choe et al., eq. 4).

    Precision and recall are over all pixels of the dataset with score >= τ, from the highest
    threshold down. In [0, 1], float64.

    Args:
        maps: (N, *S) or (N, 1, *S); from each its minimum is subtracted, and it is divided by its
            maximum.
        masks: the ground truth, bool, of the maps' shape.
        ignore: pixels not to count, bool, of the maps' shape.
        interval: the step between thresholds.

    Raises ValueError for masks of another shape or dtype, or without a pixel inside.

    >>> maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    >>> px_ap(maps, torch.tensor([[[False, True], [False, True]]]))
    tensor(0.8333, dtype=torch.float64)
    """
    return px_ap_from_counts(px_ap_counts(maps, masks, ignore, interval))
