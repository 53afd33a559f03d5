"""FiftyOne."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._errors import ArgumentError
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation.exporters._shared import get_original, import_library
from captum_3dcam.io import Sampling, VideoFile

_ROUNDING = 1e-6  # seconds
Fields = dict[str, Any]


def to_fiftyone(explanation: Explanation) -> list[tuple[Fields, dict[int, Fields]]]:
    """FiftyOne's labels: of each sample its fields, and those of its frames by their numbers.

    The fields of a sample are "predictions", of an image "map_0" for the map of the first class,
    "map_1" and so on, and "boxes" of all classes; of a video "segments". The frames of a video have
    the maps and boxes, with an ``index`` for each tube. ``confidence`` is the class's probability,
    ``attribution`` the mean of the map in a box.

    Frames have their number in the whole video, from 1, also if some were sampled.

    Raises ImportError without fiftyone, and ArgumentError for a volume, which FiftyOne does not
    show, and for a video that was loaded without its frames.
    """
    if explanation.kind == "volume":
        raise ArgumentError(
            "FiftyOne shows images and videos, and this is of a volume. See to_napari and "
            "write_slicer_scene."
        )
    label = _label_video if explanation.kind == "video" else _label_image
    fo = import_library("fiftyone", "to_fiftyone")
    return [label(fo, explanation[number]) for number in range(len(explanation))]


def _label_image(fo: Any, explanation: Explanation) -> tuple[Fields, dict[int, Fields]]:
    fields = {"predictions": _predictions(fo, explanation)}
    boxes = []
    for rank in range(explanation.attribution.shape[1]):
        heat_map = explanation.heat_map(rank)
        fields[f"map_{rank}"] = _heat_map(fo, heat_map, heat_map)
        for box, score in zip(*explanation.boxes(rank), strict=True):
            boxes.append(_detection(fo, explanation, rank, box, float(score)))
    return {**fields, "boxes": fo.Detections(detections=boxes)}, {}


def _label_video(fo: Any, explanation: Explanation) -> tuple[Fields, dict[int, Fields]]:
    numbers = _frame_numbers(get_original(explanation))
    ranks = range(explanation.attribution.shape[1])
    frames: list[Fields] = [{} for _ in numbers]
    boxes: list[list[Any]] = [[] for _ in numbers]
    for rank in ranks:
        heat_map = explanation.heat_map(rank)
        for fields, heat in zip(frames, heat_map, strict=True):
            fields[f"map_{rank}"] = _heat_map(fo, heat, heat_map)
    tubes = [(rank, tube) for rank in ranks for tube in explanation.tubes(rank)]
    for index, (rank, tube) in enumerate(tubes, start=1):
        for frame, box in enumerate(tube.boxes, start=tube.start):
            boxes[frame].append(_detection(fo, explanation, rank, box, tube.score, index=index))
    for fields, detections in zip(frames, boxes, strict=True):
        fields["boxes"] = fo.Detections(detections=detections)
    of_video = {
        "predictions": _predictions(fo, explanation),
        "segments": _segments(fo, explanation, numbers),
    }
    return of_video, dict(zip(numbers, frames, strict=True))


def _frame_numbers(video: VideoFile) -> list[int]:
    """Of the frames that were explained, from 1."""
    starts = video.times.edges[:-1]
    if video.sampling != Sampling():
        whole = VideoFile(video.size, source=video.source).times.edges[:-1]
        return list(map(int, np.searchsorted(whole, starts - _ROUNDING) + 1))
    return list(range(1, len(starts) + 1))


def _predictions(fo: Any, explanation: Explanation) -> Any:
    return fo.Classifications(
        classifications=[
            fo.Classification(label=name, confidence=_confidence(explanation, rank))
            for rank, name in enumerate(explanation.class_names[0])
        ]
    )


def _confidence(explanation: Explanation, rank: int) -> float | None:
    probability = float(explanation.probabilities[0, rank])
    return None if isnan(probability) else probability


def _segments(fo: Any, explanation: Explanation, numbers: Sequence[int]) -> Any:
    ranks = range(explanation.attribution.shape[1])
    detections = [
        fo.TemporalDetection(
            label=explanation.class_names[0][rank],
            support=[numbers[segment.start], numbers[segment.end - 1]],
            confidence=_confidence(explanation, rank),
            attribution=segment.score,
        )
        for rank in ranks
        for segment in explanation.segments(rank)
    ]
    return fo.TemporalDetections(detections=detections)


def _heat_map(fo: Any, values: Tensor, whole: Tensor) -> Any:
    """On one scale for the whole map."""
    array: NDArray[np.float32] = values.float().numpy()
    return fo.Heatmap(map=array, range=[0.0, float(whole.max()) or 1.0])


def _detection(
    fo: Any, explanation: Explanation, rank: int, box: Tensor, score: float, **more: int
) -> Any:
    """A box, in fractions of the width and height."""
    height, width = explanation.frame_size
    x0, y0, x1, y1 = box.tolist()
    return fo.Detection(
        label=explanation.class_names[0][rank],
        bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
        confidence=_confidence(explanation, rank),
        attribution=score,
        **more,
    )
