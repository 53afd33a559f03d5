"""When: hits in time, and the average precision of detected segments at a temporal IoU."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_3dcam.metrics._inputs import Boxes
from captum_3dcam.metrics.overlap import segment_iou
from captum_3dcam.metrics.pointing import hit_point

Detections = Mapping[str, Tensor]


def temporal_hit(profiles: Tensor, segments: Boxes, tolerance: float = 0.0) -> Tensor:
    """Whether each temporal profile is highest within a true segment: bool (N,).

    :func:`~captum_3dcam.metrics.pointing.hit_point` in one dimension: the highest frame, the
    first of equals, is in a segment, or less than ``tolerance`` frames from one of its frames.

    Args:
        profiles: (N, T), as of :func:`captum_3dcam.functional.temporal_profile`.
        segments: N tensors (B_i, 2) of frames [start, end).
        tolerance: frames.

    >>> profiles = torch.tensor([[0.0, 1.0, 5.0, 0.0]])
    >>> temporal_hit(profiles, [torch.tensor([[2, 4]])])
    tensor([True])
    """
    return hit_point(profiles, segments, "argmax", tolerance=tolerance)


def match_detections(
    predicted: Sequence[Detections], truth: Sequence[Detections], label: int, tiou: float
) -> tuple[Tensor, int]:
    """Which detections of a class are true, by falling score: bool (M,); and how many truths.

    Over all videos, the highest score first (the first given of equals), each takes the true
    segment of its video with the highest tIoU that is not taken yet, if that reaches ``tiou``.
    The arguments are those of :func:`temporal_average_precision`.
    """
    scores, matches, videos = [], [], []
    free = {}
    for video, (found, true) in enumerate(zip(predicted, truth, strict=True)):
        segments = true["segments"][true["labels"] == label]
        free[video] = torch.ones(len(segments), dtype=torch.bool)
        chosen = found["labels"] == label
        ious = segment_iou(found["segments"][chosen].cpu(), segments.cpu())
        scores.append(found["scores"][chosen].cpu())
        matches += list(ious)
        videos += [video] * len(ious)
    truths = sum(map(len, free.values()))
    hits = torch.zeros(len(videos), dtype=torch.bool)
    order = torch.cat(scores).argsort(descending=True, stable=True).tolist()
    for rank, number in enumerate(order):
        ious = torch.where(free[videos[number]], matches[number], -1)
        if len(ious) and ious.max() >= tiou:
            free[videos[number]][ious.argmax()] = False
            hits[rank] = True
    return hits, truths


def average_precision(hits: Tensor, truths: int) -> Tensor:
    """All-point interpolated average precision of detections by falling score, in [0, 1].

    Σ over the hits of the highest precision at that recall or above, / the number of truths.

    Args:
        hits: bool (M,), whether each detection is true.
        truths: how many there are to find.

    Raises ValueError if there are none.

    >>> average_precision(torch.tensor([True, False, True]), 2)  # (1 + 2/3) / 2
    tensor(0.8333, dtype=torch.float64)
    """
    if truths < 1:
        raise ValueError(f"Average precision needs a truth at least; got {truths}.")
    precision = hits.cumsum(0).double() / torch.arange(1, len(hits) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return envelope[hits].sum() / truths


def temporal_average_precision(
    predicted: Sequence[Detections], truth: Sequence[Detections], tiou_thresholds: Sequence[float]
) -> dict[int, Tensor]:
    """Each true class's average precision at each tIoU: label -> (D,), in [0, 1].

    ActivityNet's protocol: greedy by score, all-point interpolation. A class without detections
    has 0; detections of a class that no video has do not count.

    Args:
        predicted: for each video a mapping with ``segments`` (M, 2), ``scores`` (M,) and
            ``labels`` (M,).
        truth: for each video a mapping with ``segments`` (B, 2) and ``labels`` (B,).
        tiou_thresholds: D numbers in (0, 1].

    Raises:
        ValueError: for missing keys, shapes that do not fit, and a truth without a segment.

    >>> truth = [{"segments": torch.tensor([[0.0, 4.0]]), "labels": torch.tensor([7])}]
    >>> found = [{"segments": torch.tensor([[0.0, 3.0]]), "labels": torch.tensor([7]),
    ...           "scores": torch.tensor([0.9])}]
    >>> temporal_average_precision(found, truth, (0.5, 0.8))
    {7: tensor([1., 0.], dtype=torch.float64)}
    """
    check_detections(predicted, truth)
    labels = sorted({int(label) for true in truth for label in true["labels"]})
    if not labels:
        raise ValueError("Temporal average precision needs a true segment; the truth has none.")
    return {
        label: torch.stack(
            [
                average_precision(*match_detections(predicted, truth, label, tiou))
                for tiou in tiou_thresholds
            ]
        )
        for label in labels
    }


def temporal_map(
    predicted: Sequence[Detections],
    truth: Sequence[Detections],
    tiou_thresholds: Sequence[float] = (0.5,),
) -> Tensor:
    """mAP at each tIoU: the mean of :func:`temporal_average_precision` over classes, (D,).

    >>> truth = [{"segments": torch.tensor([[0, 4], [6, 9]]), "labels": torch.tensor([0, 1])}]
    >>> found = [truth[0] | {"labels": torch.tensor([0, 0]), "scores": torch.tensor([0.9, 0.8])}]
    >>> temporal_map(found, truth)
    tensor([0.5000], dtype=torch.float64)
    """
    found = temporal_average_precision(predicted, truth, tiou_thresholds)
    return torch.stack(list(found.values())).mean(dim=0)


def check_detections(predicted: Sequence[Detections], truth: Sequence[Detections]) -> None:
    """ValueError unless there is one well-formed mapping a video on both sides."""
    if len(predicted) != len(truth):
        raise ValueError(
            f"Expected predictions and truth of the same videos; got {len(predicted)} and "
            f"{len(truth)}. A video without any has tensors of length 0."
        )
    for name, videos, keys in (
        ("predicted", predicted, ("segments", "scores", "labels")),
        ("truth", truth, ("segments", "labels")),
    ):
        for number, video in enumerate(videos):
            shapes = {key: tuple(video[key].shape) if key in video else None for key in keys}
            count = len(video["segments"]) if shapes["segments"] else 0
            if any(shapes[key] != ((count, 2) if key == "segments" else (count,)) for key in keys):
                raise ValueError(
                    f"{name}[{number}] should have segments (M, 2) and {' and '.join(keys[1:])} "
                    f"(M,); got {shapes}. Without segments: torch.zeros(0, 2) and torch.zeros(0)."
                )
