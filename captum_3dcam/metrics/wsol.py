"""MaxBoxAcc and PxAP: scores of weakly supervised localisation that search over thresholds.

The protocol and its conventions are those of Choe et al., *Evaluating Weakly Supervised Object
Localization Methods Right* (CVPR 2020, arXiv 2001.07437). Its boxes hold their last pixel, and
those of contours are a pixel larger than the contour, where the image goes on.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_3dcam.metrics._contours import contour_boxes
from captum_3dcam.metrics._inputs import Boxes, check_truth, drop_channel, to_exclusive
from captum_3dcam.metrics.overlap import best_iou, box_iou, paired_iou, tube_iou

_SELECT: dict[str, Callable[[Tensor], Tensor]] = {
    # What becomes of one sample's counts (D, K), before they are summed over samples.
    "dataset": lambda correct: correct,
    "per_sample": lambda correct: correct.amax(dim=1, keepdim=True),
}
THRESHOLD_SELECTIONS = tuple(_SELECT)
_SELECTIONS = {
    "dataset": "one threshold for the dataset",
    "per_sample": "each sample its own threshold",
}


def cam_thresholds(interval: float = 0.01) -> Tensor:
    """The thresholds τ = 0, interval, 2 interval, ... below 1, in float64.

    Raises ValueError for an interval that is not in (0, 1].

    >>> cam_thresholds(0.25)
    tensor([0.0000, 0.2500, 0.5000, 0.7500], dtype=torch.float64)
    """
    if not 0 < interval <= 1:
        raise ValueError(
            f"interval={interval!r} is not in (0, 1]. It is the step between thresholds that are "
            "fractions of a map's maximum; 0.01 gives the usual 100."
        )
    return torch.from_numpy(np.arange(0, 1, interval))


def normalize_scoremaps(maps: Tensor) -> Tensor:
    """Shift each map by its minimum, then divide by its maximum: (N, *S) -> (N, *S) in [0, 1].

    A constant map becomes zeros, as does one with NaN or Inf. In float32 at least.

    >>> normalize_scoremaps(torch.tensor([[-1.0, 0.0, 3.0], [5.0, 5.0, 5.0]]))
    tensor([[0.0000, 0.2500, 1.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    maps = maps.detach().to(torch.promote_types(maps.dtype, torch.float32))
    axes = tuple(range(1, maps.ndim))
    shifted = maps - maps.amin(dim=axes, keepdim=True)
    peak = shifted.amax(dim=axes, keepdim=True)
    usable = (peak > 0) & (peak < torch.inf)  # NaN is neither
    return torch.where(usable, shifted / torch.where(usable, peak, 1), 0)


def quantize(maps: Tensor) -> Tensor:
    """Each map normalised, times 255, rounded down to uint8: (N, *S) -> (N, *S).

    >>> quantize(torch.tensor([[-1.0, 0.0, 3.0]]))
    tensor([[  0,  63, 255]], dtype=torch.uint8)
    """
    return (normalize_scoremaps(maps) * 255).to(torch.uint8)


# -------------------------------------------------------------------------------------- MaxBoxAcc


def scoremap_boxes(scoremap: Tensor, thresholds: Tensor, multi_contour: bool) -> list[Tensor]:
    """The boxes of a map at each threshold: (H, W) and K -> K tensors (B_k, 4).

    The map is quantised, and a pixel set where it is above int(τ · its maximum). The boxes are
    those of all contours or of the largest, as (x, y, min(x + w, W - 1), min(y + h, H - 1)), in
    the reference's ``"xyxy_inclusive"``; (0, 0, 0, 0) where nothing is set.

    >>> corner = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> scoremap_boxes(corner, torch.tensor([0.0, 0.5]), multi_contour=False)
    [tensor([[0, 0, 2, 1]]), tensor([[0, 0, 2, 1]])]
    """
    image = quantize(scoremap[None])[0].cpu().numpy()
    cuts, place = _distinct_cuts(image, thresholds)
    boxes, index = _inclusive_boxes(image, cuts, multi_contour)
    of_cut = [torch.from_numpy(boxes[index == number]) for number in range(len(cuts))]
    return [of_cut[number] for number in place]


def _distinct_cuts(
    image: npt.NDArray[np.uint8], thresholds: Tensor
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Several τ may be one integer: the different ones, and the place of each τ's among them."""
    cuts = (thresholds.cpu().double().numpy() * float(image.max())).astype(np.int64)
    distinct, place = np.unique(cuts, return_inverse=True)
    return distinct, place


def _inclusive_boxes(
    image: npt.NDArray[np.uint8], cuts: npt.NDArray[np.int64], multi_contour: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    boxes, index = contour_boxes(image, cuts, multi_contour)
    height, width = image.shape
    boxes = np.minimum(boxes, [width - 1, height - 1, width - 1, height - 1])
    empty = np.setdiff1d(np.arange(len(cuts)), index)
    none = np.zeros((len(empty), 4), dtype=np.int64)
    return np.concatenate([boxes, none]), np.concatenate([index, empty])


def scoremap_ious(
    maps: Tensor,
    boxes: Boxes,
    thresholds: Tensor,
    multi_contour: bool = False,
    box_format: str = "xyxy_inclusive",
) -> Tensor:
    """Each map's best IoU at each threshold, over its boxes and the true ones: (N, K), float64.

    Args:
        maps: (N, H, W) or (N, 1, H, W).
        boxes: N tensors (B_i, 4), the true boxes.
        thresholds: K fractions of the maximum; see :func:`cam_thresholds`.
        multi_contour: the boxes of all contours, or that of the largest.
        box_format: of the true boxes, ``"xyxy_inclusive"`` or ``"xyxy"``.

    Raises ValueError for shapes and formats that do not fit, and a sample without a true box.

    >>> maps = torch.zeros(1, 8, 8)
    >>> maps[0, 2:5, 2:5] = 1
    >>> scoremap_ious(maps, [torch.tensor([[2, 2, 4, 4]])], torch.tensor([0.5]))
    tensor([[0.5625]], dtype=torch.float64)
    """
    maps = drop_channel(maps, rank=2)
    check_truth(boxes, len(maps))
    found = torch.zeros(len(maps), len(thresholds), dtype=torch.float64)
    for row, image, truth in zip(found, quantize(maps).cpu().numpy(), boxes, strict=True):
        cuts, place = _distinct_cuts(image, thresholds)
        candidates, index = map(torch.from_numpy, _inclusive_boxes(image, cuts, multi_contour))
        true_boxes = to_exclusive(truth.cpu(), box_format)
        ious = box_iou(to_exclusive(candidates, "xyxy_inclusive"), true_boxes).amax(dim=1)
        best = torch.zeros(len(cuts), dtype=torch.float64).scatter_reduce_(0, index, ious, "amax")
        row.copy_(best[torch.from_numpy(place)])
    return found


def clip_ious(
    clip: Tensor,
    boxes: Tensor,
    thresholds: Tensor,
    box_format: str = "xyxy_inclusive",
) -> tuple[Tensor, Tensor]:
    """A clip's IoUs at each threshold: of each annotated frame (F, K), and of the tube (1, K).

    The clip is normalised and thresholded as a whole; each frame's box is that of its largest
    contour, in :func:`scoremap_boxes`'s convention. A frame with nothing above the threshold has
    no box, and IoU 0. With several true tubes it is the best one's, in each frame and as a tube.

    Args:
        clip: (T, H, W).
        boxes: (T, 4) or (B, T, 4), one box a frame, NaN where the tube is absent.
        thresholds: K fractions of the clip's maximum.
        box_format: of the true boxes, ``"xyxy_inclusive"`` or ``"xyxy"``.

    Raises ValueError for boxes of another number of frames, or absent from all of them.

    >>> clip = torch.zeros(2, 4, 4)
    >>> clip[:, 2:, 2:] = torch.tensor([1.0, 0.5])[:, None, None]
    >>> truth = torch.tensor([[2, 2, 3, 3], [2, 2, 3, 3]])
    >>> frames, tube = clip_ious(clip, truth, torch.tensor([0.25, 0.75]))
    >>> frames.tolist(), tube.tolist()
    ([[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.5]])
    """
    truth = _true_tubes(boxes, len(clip), box_format)
    images = quantize(clip[None])[0].cpu().numpy()
    cuts, place = _distinct_cuts(images, thresholds)
    found = torch.full((len(cuts), 1, *truth.shape[1:]), torch.nan, dtype=torch.float64)
    limits = np.array([images.shape[2] - 1, images.shape[1] - 1] * 2)
    for frame, image in enumerate(images):
        largest, index = contour_boxes(image, cuts, multi_contour=False)
        clipped = torch.from_numpy(np.minimum(largest, limits))
        found[torch.from_numpy(index), 0, frame] = to_exclusive(clipped, "xyxy_inclusive")
    annotated = ~truth.isnan().any(dim=-1).all(dim=0)
    frames = paired_iou(found, truth).amax(dim=1)[:, annotated].T
    tube = tube_iou(found, truth).amax(dim=1)[None]
    return frames[:, torch.from_numpy(place)], tube[:, torch.from_numpy(place)]


def _true_tubes(boxes: Tensor, frames: int, box_format: str) -> Tensor:
    if boxes.ndim not in (2, 3) or boxes.shape[-2:] != (frames, 4):
        raise ValueError(
            f"The true boxes of a clip of {frames} frames are (T, 4), or (B, T, 4) for several "
            f"tubes, one box a frame; got {tuple(boxes.shape)}. Fill absent frames with NaN."
        )
    truth = to_exclusive(boxes.cpu(), box_format).reshape(-1, frames, 4)
    if truth.isnan().any(dim=-1).all():
        raise ValueError(
            f"The true boxes {tuple(boxes.shape)} of a clip are NaN, absent, in every frame. "
            "Leave clips without a truth out."
        )
    return truth


def count_correct(
    ious: Tensor, iou_thresholds: Sequence[float], threshold_selection: str = "dataset"
) -> Tensor:
    """How many of one sample's IoUs reach each δ: (F, K) -> (D, K), to be summed over samples.

    With ``"per_sample"`` the sample chooses its own threshold for each δ: (D, 1).

    >>> count_correct(torch.tensor([[0.2, 0.5], [0.6, 0.5]]), [0.5])
    tensor([[1, 2]])
    """
    check_threshold_selection(threshold_selection)
    deltas = torch.tensor(iou_thresholds, dtype=torch.float64, device=ious.device)
    return _SELECT[threshold_selection]((ious >= deltas[:, None, None]).sum(dim=1))


def max_box_acc(
    ious: Tensor, iou_thresholds: Sequence[float] = (0.5,), threshold_selection: str = "dataset"
) -> Tensor:
    """MaxBoxAcc at each δ, in [0, 1]: the IoUs of :func:`scoremap_ious` (N, K) -> (D,).

    ``"dataset"``: max_τ mean_n [IoU_n(τ) >= δ], one τ for all samples, as in the reference.
    ``"per_sample"``: mean_n max_τ [IoU_n(τ) >= δ], which is never lower.

    Raises ValueError for an unknown selection.

    >>> ious = torch.tensor([[0.6, 0.2], [0.1, 0.7]])
    >>> max_box_acc(ious), max_box_acc(ious, threshold_selection="per_sample")
    (tensor([0.5000]), tensor([1.]))
    """
    counts = [count_correct(row[None], iou_thresholds, threshold_selection) for row in ious]
    return reduce(torch.add, counts).amax(dim=1) / len(ious)


def check_threshold_selection(threshold_selection: str) -> str:
    """The name itself if it is known; else a ValueError that lists the names."""
    if threshold_selection not in _SELECT:
        raise ValueError(
            f"threshold_selection={threshold_selection!r} is not known. Choose 'dataset', one "
            "threshold for all samples, or 'per_sample', the best one for each."
        )
    return threshold_selection


def check_iou_thresholds(iou_thresholds: Sequence[float]) -> tuple[float, ...]:
    """The thresholds as floats, if there is one at least and each is in (0, 1]."""
    if isinstance(iou_thresholds, (int, float)):
        raise TypeError(f"iou_thresholds is a sequence; got {iou_thresholds!r}. Write it (0.5,).")
    deltas = tuple(map(float, iou_thresholds))
    if not deltas or not all(0 < delta <= 1 for delta in deltas):
        raise ValueError(
            f"iou_thresholds={iou_thresholds!r} is empty or not in (0, 1]. Give fractions, as "
            "(0.3, 0.5, 0.7), not per cent."
        )
    return deltas


def protocol_name(
    iou_thresholds: Sequence[float], multi_contour: bool, threshold_selection: str
) -> str:
    """A protocol in words, with the reference's name where it is the reference's.

    >>> protocol_name((0.5,), False, "dataset")
    'MaxBoxAcc V1: largest contour, IoU 0.5, one threshold for the dataset'
    >>> protocol_name((0.5,), False, "per_sample")
    'MaxBoxAcc: largest contour, IoU 0.5, each sample its own threshold'
    """
    deltas = tuple(iou_thresholds)
    references = {
        ((0.5,), False, "dataset"): "MaxBoxAcc V1",
        ((0.3, 0.5, 0.7), True, "dataset"): "MaxBoxAcc V2",
    }
    name = references.get((deltas, multi_contour, threshold_selection), "MaxBoxAcc")
    contours = "all contours" if multi_contour else "largest contour"
    return f"{name}: {contours}, {_in_words(deltas, _SELECTIONS[threshold_selection])}"


def clip_protocol_name(iou_thresholds: Sequence[float], threshold_selection: str) -> str:
    """The same for clips with a box a frame.

    >>> clip_protocol_name((0.2, 0.5), "per_sample")
    'MaxBoxAcc of clips: largest contour of each frame, IoU 0.2, 0.5, each clip its own threshold'
    """
    selection = _SELECTIONS[threshold_selection].replace("sample", "clip")
    return (
        f"MaxBoxAcc of clips: largest contour of each frame, {_in_words(iou_thresholds, selection)}"
    )


def _in_words(iou_thresholds: Sequence[float], selection: str) -> str:
    return f"IoU {', '.join(map(str, iou_thresholds))}, {selection}"


def box_accuracy(
    predicted: Boxes | Tensor, truth: Boxes, iou_thresholds: Sequence[float] = (0.5,)
) -> Tensor:
    """The fraction of samples with a predicted box that has IoU >= δ with a true one: (D,).

    The boxes are as in :func:`~captum_3dcam.metrics.overlap.best_iou`, inclusive-exclusive.

    >>> box_accuracy(torch.tensor([[0, 0, 2, 2]]), [torch.tensor([[0, 0, 4, 2]])], (0.5, 0.7))
    tensor([1., 0.])
    """
    ious = best_iou(predicted, truth)
    return count_correct(ious[:, None], iou_thresholds)[:, 0] / len(ious)


# ------------------------------------------------------------------------------------------- PxAP


def px_ap_counts(
    maps: Tensor, masks: Tensor, ignore: Tensor | None = None, interval: float = 0.01
) -> Tensor:
    """How many pixels have their score between each two thresholds: (2, K + 1), int64.

    Row 0 counts pixels outside the truth, row 1 those inside; the last bin holds the score 1.
    Counts of parts of a dataset add up. Arguments and errors as for :func:`px_ap`.

    >>> maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    >>> px_ap_counts(maps, maps >= 0.5, interval=0.5)
    tensor([[2, 0, 0],
            [0, 1, 1]])
    """
    for name, given in {"masks": masks, "ignore": ignore}.items():
        if given is not None and (given.shape != maps.shape or given.dtype != torch.bool):
            raise ValueError(
                f"{name} must be bool and of the maps' shape {tuple(maps.shape)}; got "
                f"{tuple(given.shape)} of {given.dtype}. Resize it to the maps, and compare: > 0."
            )
    edges = torch.cat([cam_thresholds(interval), torch.ones(1, dtype=torch.float64)])
    scores = normalize_scoremaps(maps).cpu().double()
    bins = torch.bucketize(scores, edges, right=True) - 1
    counted = masks.new_ones(()).expand_as(masks).cpu() if ignore is None else ~ignore.cpu()
    index = (bins + len(edges) * masks.cpu())[counted]
    return torch.bincount(index, minlength=2 * len(edges)).reshape(2, -1)


def px_ap_from_counts(counts: Tensor) -> Tensor:
    """PxAP in [0, 1] of the summed counts (2, K + 1) of :func:`px_ap_counts`.

    Raises ValueError if no pixel is inside the truth.
    """
    false_positives, true_positives = counts.cpu().flip(1).cumsum(dim=1).double()
    if not true_positives[-1] > 0:
        raise ValueError(
            "PxAP needs a pixel inside the truth; all masks were empty or ignored. Check the masks."
        )
    positives = (true_positives + false_positives).clamp(min=1)
    gained = true_positives.diff(prepend=true_positives.new_zeros(1))
    average: Tensor = (true_positives / positives * gained / true_positives[-1]).sum()
    return average


def px_ap(
    maps: Tensor, masks: Tensor, ignore: Tensor | None = None, interval: float = 0.01
) -> Tensor:
    """Pixel average precision Σ_l Prec(τ_l) (Rec(τ_l) - Rec(τ_{l-1})) (Choe et al., eq. 4).

    Precision and recall are over all pixels of the dataset with score >= τ, from the highest
    threshold down. In [0, 1], float64.

    Args:
        maps: (N, *S) or (N, 1, *S); each is normalised as in :func:`normalize_scoremaps`.
        masks: the truth, bool, of the maps' shape.
        ignore: pixels not to count, bool, of the maps' shape.
        interval: the step between thresholds.

    Raises:
        ValueError: for masks of another shape or dtype, or without a pixel inside the truth.

    >>> maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    >>> px_ap(maps, torch.tensor([[[False, True], [False, True]]]))
    tensor(0.8333, dtype=torch.float64)
    """
    return px_ap_from_counts(px_ap_counts(maps, masks, ignore, interval))
