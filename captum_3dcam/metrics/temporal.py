"""Hits in time, and the average precision of detected segments at a temporal IoU."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_3dcam._validation import (
    check_integer,
    check_number,
    check_sequence,
    check_tensor,
    describe,
    show,
)
from captum_3dcam.metrics._inputs import check_iou_thresholds
from captum_3dcam.metrics.overlap import segment_iou
from captum_3dcam.metrics.pointing import hit_point

Detections = Mapping[str, Tensor]


def temporal_hit(profiles: Tensor, segments: Sequence[Tensor], tolerance: float = 0.0) -> Tensor:
    """Whether each temporal profile is highest within a ground-truth segment: bool (N,).

    :func:`~captum_3dcam.metrics.hit_point` in one dimension: the highest frame (the first of
    equals) is in a segment, or less than ``tolerance`` frames from one of its frames.

    Args:
        profiles: (N, T), as from :func:`captum_3dcam.functional.temporal_profile`.
        segments: N tensors (B_i, 2) of frames [start, end).
        tolerance: frames.

    >>> profiles = torch.tensor([[0.0, 1.0, 5.0, 0.0]])
    >>> temporal_hit(profiles, [torch.tensor([[2, 4]])])
    tensor([True])
    """
    return hit_point(profiles, segments, "argmax", tolerance=tolerance)


def match_detections(
    preds: Sequence[Detections],
    target: Sequence[Detections],
    label: int,
    tiou: float,
    ignored: Sequence[Tensor] | None = None,
) -> tuple[Tensor, int]:
    """Match detections of a class: true positives, bool (M,), and the number of ground truths.

    From the highest score to the lowest (the first of equals first), each detection takes the free
    ground-truth segment of its video with the highest tIoU, if that is at least ``tiou``. The
    result is in the order of scores, without the detections that do not count because of
    ``ignored``. Arguments as for :func:`temporal_average_precision`.
    """
    check_detections(preds, target)
    label = check_integer("label", label, minimum=None)
    ignored = _check_ignored(ignored, len(target))
    return _match_detections(preds, target, label, check_number("tiou", tiou), ignored)


def _match_detections(
    preds: Sequence[Detections],
    target: Sequence[Detections],
    label: int,
    tiou: float,
    ignored: Sequence[Tensor],
) -> tuple[Tensor, int]:
    scores, ious, videos, is_free = [torch.zeros(0)], [], [], []
    may_be_right: list[bool] = []
    for video, (detected, ground_truth, unsure) in enumerate(
        zip(preds, target, ignored, strict=True)
    ):
        segments = ground_truth["segments"][ground_truth["labels"] == label].cpu()
        of_class = detected["labels"] == label
        scores.append(detected["scores"][of_class].cpu())
        proposed = detected["segments"][of_class].cpu()
        ious += list(segment_iou(proposed, segments))
        may_be_right += (segment_iou(proposed, unsure.cpu()) > 0).any(dim=1).tolist()
        videos += [video] * len(scores[-1])
        is_free.append(torch.ones(len(segments), dtype=torch.bool))
    hits = torch.zeros(len(videos), dtype=torch.bool)
    order = torch.cat(scores).argsort(descending=True, stable=True).tolist()
    for rank, number in enumerate(order):
        free = is_free[videos[number]]
        candidates = torch.where(free, ious[number], -1)
        if len(candidates) and candidates.max() >= tiou:
            free[candidates.argmax()] = False
            hits[rank] = True
    counts = hits | ~torch.tensor(may_be_right, dtype=torch.bool)[order]
    return hits[counts], sum(map(len, is_free))


def average_precision(hits: Tensor, num_ground_truths: int) -> Tensor:
    """All-point interpolated average precision of detections by falling score, in [0, 1].

    The sum over true positives, bool (M,), of the highest precision at that recall or above,
    divided by the number of ground truths. Raises ValueError if that is 0.

    >>> average_precision(torch.tensor([True, False, True]), 2)  # (1 + 2/3) / 2
    tensor(0.8333, dtype=torch.float64)
    """
    check_tensor("hits", hits)
    if hits.ndim != 1 or hits.dtype != torch.bool:
        raise ValueError(
            f"Expected hits, bool (M,), by falling score; received {describe(hits)} of "
            f"{hits.dtype}."
        )
    if check_integer("num_ground_truths", num_ground_truths, minimum=0) < 1:
        raise ValueError(
            f"Average precision needs at least one ground truth; received {num_ground_truths}."
        )
    precision = hits.cumsum(0).double() / torch.arange(1, len(hits) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return envelope[hits].sum() / num_ground_truths


def temporal_average_precision(
    preds: Sequence[Detections],
    target: Sequence[Detections],
    tiou_thresholds: Sequence[float],
    ignored: Sequence[Tensor] | None = None,
) -> dict[int, Tensor]:
    """Average precision of each ground-truth class at each tIoU: label -> (D,), in [0, 1].

    ActivityNet's protocol: greedy by score, all-point interpolation. A class without detections
    has 0; detections of a class that no video has do not count.

    Args:
        preds: for each video ``segments`` (M, 2), ``scores`` (M,) and ``labels`` (M,) in a dict.
        target: for each video ``segments`` (B, 2) and ``labels`` (B,) in a dict.
        tiou_thresholds: D numbers in (0, 1].
        ignored: for each video segments (A, 2) of unknown class, such as THUMOS14's ambiguous
            ones. A detection that matches no ground truth and overlaps one does not count.

    Raises ValueError for missing keys, shapes that do not fit, and a target without a segment.

    >>> target = [{"segments": torch.tensor([[0.0, 4.0]]), "labels": torch.tensor([7])}]
    >>> preds = [{"segments": torch.tensor([[0.0, 3.0]]), "labels": torch.tensor([7]),
    ...           "scores": torch.tensor([0.9])}]
    >>> temporal_average_precision(preds, target, (0.5, 0.8))
    {7: tensor([1., 0.], dtype=torch.float64)}
    """
    check_detections(preds, target)
    tiou_thresholds = check_iou_thresholds(tiou_thresholds, "tiou_thresholds")
    ignored = _check_ignored(ignored, len(target))
    labels = sorted({int(label) for video in target for label in video["labels"]})
    if not labels:
        raise ValueError("Temporal average precision needs a ground-truth segment; there is none.")
    return {
        label: torch.stack(
            [
                average_precision(*_match_detections(preds, target, label, tiou, ignored))
                for tiou in tiou_thresholds
            ]
        )
        for label in labels
    }


def temporal_map(
    preds: Sequence[Detections],
    target: Sequence[Detections],
    tiou_thresholds: Sequence[float] = (0.5,),
    ignored: Sequence[Tensor] | None = None,
) -> Tensor:
    """mAP at each tIoU: the mean of :func:`temporal_average_precision` over classes, (D,).

    >>> target = [{"segments": torch.tensor([[0, 4], [6, 9]]), "labels": torch.tensor([0, 1])}]
    >>> preds = [target[0] | {"labels": torch.tensor([0, 0]), "scores": torch.tensor([0.9, 0.8])}]
    >>> temporal_map(preds, target)
    tensor([0.5000], dtype=torch.float64)
    """
    per_class = temporal_average_precision(preds, target, tiou_thresholds, ignored)
    return torch.stack(list(per_class.values())).mean(dim=0)


def _check_ignored(ignored: Sequence[Tensor] | None, videos: int) -> Sequence[Tensor]:
    """One tensor (A, 2) for each video; empty ones for None."""
    if ignored is None:
        return [torch.zeros(0, 2)] * videos
    check_sequence("ignored", ignored, of="tensors (A, 2), one per video")
    if len(ignored) != videos:
        raise ValueError(
            f"Expected ignored segments of {videos} videos; received {len(ignored)}. A video "
            "without any has torch.zeros(0, 2)."
        )
    for number, segments in enumerate(ignored):
        check_tensor(f"ignored[{number}]", segments)
        if segments.ndim != 2 or segments.shape[1] != 2:
            raise ValueError(
                f"ignored[{number}]: expected segments (A, 2); received {describe(segments)}."
            )
    return ignored


def check_detections(preds: Sequence[Detections], target: Sequence[Detections]) -> None:
    """An error unless both have one well-formed mapping per video."""
    check_sequence("preds", preds, of="dicts of tensors, one per video")
    check_sequence("target", target, of="dicts of tensors, one per video")
    if len(preds) != len(target):
        raise ValueError(
            f"Expected preds and target of the same videos; received {len(preds)} and "
            f"{len(target)}. A video without segments has tensors of length 0."
        )
    for name, videos, keys in (
        ("preds", preds, ("segments", "scores", "labels")),
        ("target", target, ("segments", "labels")),
    ):
        for number, video in enumerate(videos):
            _check_video(f"{name}[{number}]", video, keys)


def _check_video(name: str, video: Detections, keys: tuple[str, ...]) -> None:
    if not isinstance(video, Mapping):
        raise TypeError(
            f"{name} is {show(video)}; expected a dict of the tensors {', '.join(keys)}."
        )
    tensors = {key: check_tensor(f"{name}[{key!r}]", video[key]) for key in keys if key in video}
    shapes = {key: tuple(tensors[key].shape) if key in tensors else None for key in keys}
    count = len(tensors["segments"]) if shapes["segments"] else 0
    if any(shapes[key] != ((count, 2) if key == "segments" else (count,)) for key in keys):
        raise ValueError(
            f"{name}: expected segments (M, 2) and {' and '.join(keys[1:])} (M,); received "
            f"{shapes}. Without segments: torch.zeros(0, 2), torch.zeros(0)."
        )
    for key in keys[1:]:
        if not tensors[key].isfinite().all():
            raise ValueError(f"{name}: expected finite {key}; received NaN or Inf.")
