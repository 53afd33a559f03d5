"""Weights & Biases."""

from io import BytesIO
from math import isnan
from typing import Any

import numpy as np

from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation.exporters._shared import encode_overlay, import_library

_HEIGHT = 480  # of the frames in an MP4


def to_wandb(explanation: Explanation) -> dict[str, list[Any]]:
    """What ``run.log`` takes: "explanation", of all samples, and of images "regions".

    "explanation" has a ``wandb.Video`` (MP4) of each sample and class, or a ``wandb.Image`` of each
    sample's figure. "regions" has the images alone, with the boxes and masks of where each map is
    above half of its maximum, which W&B draws.

    Raises ImportError without wandb, or of a video without PyAV (extra ``video``), and
    ArgumentError for a video that was loaded without its frames.
    """
    wandb = import_library("wandb", "to_wandb")
    samples = [explanation[number] for number in range(len(explanation))]
    if explanation.kind == "video":
        return {"explanation": [each for part in samples for each in _videos(wandb, part)]}
    figures = [wandb.Image(part.figure(), caption=_caption(part)) for part in samples]
    regions = [_regions(wandb, part) for part in samples if isinstance(part.originals[0], _Pixels)]
    return {"explanation": figures, **({"regions": regions} if regions else {})}


_Pixels = np.ndarray  # a volume's original is none


def _caption(explanation: Explanation) -> str:
    return ", ".join(explanation.captions[0])


def _videos(wandb: Any, explanation: Explanation) -> list[Any]:
    return [
        wandb.Video(
            BytesIO(encode_overlay(explanation, rank, ".mp4", _HEIGHT)),
            caption=caption,
            format="mp4",
        )
        for rank, caption in enumerate(explanation.captions[0])
    ]


def _regions(wandb: Any, explanation: Explanation) -> Any:
    """The image with its boxes and masks, in which class 0 is the background."""
    (pixels,), names = explanation.originals, explanation.class_names[0]
    labels = dict(enumerate(names, start=1))
    boxes = [box for rank in range(len(names)) for box in _boxes(explanation, rank)]
    masks = {
        f"class {rank}": {"mask_data": _mask(explanation, rank), "class_labels": labels}
        for rank in range(len(names))
    }
    return wandb.Image(
        pixels,
        caption=_caption(explanation),
        boxes={"boxes": {"box_data": boxes, "class_labels": labels}},
        masks=masks,
    )


def _boxes(explanation: Explanation, rank: int) -> list[dict[str, Any]]:
    probability = float(explanation.probabilities[0, rank])
    known = {} if isnan(probability) else {"probability": probability}
    boxes = explanation.boxes(rank)
    return [
        {
            "position": dict(zip(("minX", "minY", "maxX", "maxY"), corners, strict=True)),
            "domain": "pixel",
            "class_id": rank + 1,
            "box_caption": explanation.captions[0][rank],
            "scores": {**known, "attribution": score},
        }
        for corners, score in zip(boxes.boxes.tolist(), boxes.scores.tolist(), strict=True)
    ]


def _mask(explanation: Explanation, rank: int) -> Any:
    """The class number where the map is above half of its maximum, at the size of the image."""
    heat_map = explanation.heat_map(rank).numpy()
    rows, columns = (
        np.arange(size) * own // size
        for size, own in zip(explanation.size, heat_map.shape, strict=True)
    )
    is_inside = heat_map > max(heat_map.max() / 2, 0)
    return is_inside[np.ix_(rows, columns)].astype(np.uint8) * (rank + 1)
