"""The scores of one sample: of the map of each attribution, and of the baselines' boxes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_3dcam._validation import describe
from captum_3dcam.evaluation._types import Array, Attribution
from captum_3dcam.evaluation.faithfulness import Faithfulness, measure_baselines
from captum_3dcam.evaluation.samples import Sample, check_sample
from captum_3dcam.metrics import (
    boxes_to_mask,
    cam_thresholds,
    clip_ious,
    count_correct,
    energy_inside,
    hit_point,
    paired_iou,
    pixel_average_precision,
    tube_iou,
)

IOU_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""δ: the IoU that a frame's box must reach."""
BASELINES = ("chance", "whole frame", "centre box")

_CHANCE_BOXES = 100


class Scores(NamedTuple):
    """The scores of a row on one sample; or on all N samples, with an axis (N,) in front."""

    energy: Array
    """The share of the map inside the mask, or else inside the boxes."""
    hit: Array
    """Whether the map's highest pixel is inside its frame's box."""
    hit_intersect: Array
    """Whether the bounding box of the map above half its maximum meets a ground-truth box."""
    ap: Array
    """Average precision of the map's pixels as scores of being inside."""
    accuracy: Array
    """(D, K): the share of annotated frames whose box has IoU >= δ, at each threshold τ."""
    tube_iou: Array
    """(K,): IoU of the tube, at each threshold τ."""
    faithfulness: Array
    """(F,): the scores of :class:`Faithfulness`, in their order."""

    @classmethod
    def from_values(cls, *values: Any) -> "Scores":
        """Without scores of faithfulness."""
        arrays = [np.asarray(value, dtype=np.float64) for value in values]
        return cls._make([*arrays, np.empty(0)])


class _Annotation(NamedTuple):
    """Where a sample's class is, as frames; an image is one frame."""

    boxes: Tensor  # (B, T, 4)
    annotated: Tensor  # (F,): the frames with a box
    inside: Tensor  # (T, H, W): where energy counts as inside
    hits: Tensor  # (T, H, W): where a highest pixel is a hit

    @classmethod
    def from_sample(cls, sample: Sample, tolerance: float) -> "_Annotation":
        boxes = sample.boxes.detach().cpu().double().reshape(-1, *sample.boxes.shape[-2:])
        annotated = (~boxes.isnan().any(dim=-1)).any(dim=0).nonzero()[:, 0]
        size = tuple(sample.inputs.shape[-2:])
        inside, hits = (
            torch.stack([boxes_to_mask(frame, size, tolerance=t) for frame in boxes.unbind(dim=1)])
            for t in (0.0, tolerance)
        )
        if sample.mask is not None:
            inside = sample.mask.cpu().reshape(inside.shape)
        return cls(boxes, annotated, inside, hits)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        _, height, width = self.inside.shape
        return height, width

    def cuboids(self, frames: Tensor) -> Tensor:
        """The boxes in these frames as boxes in space and time: (F·B, 6)."""
        low, high = self.boxes[:, frames].chunk(2, dim=-1)
        time = frames[:, None].expand(len(self.boxes), -1, 1)
        return torch.cat([low, time, high, time + 1], dim=-1).flatten(0, 1)


def score_sample(
    attributions: Mapping[str, Attribution],
    sample: Sample,
    index: int,
    tolerance: float,
    device: torch.device | str | None,
    faithfulness: Faithfulness,
) -> dict[str, Scores]:
    """The scores of each attribution and baseline on a sample, by the name of the row."""
    check_sample(sample, index)
    annotation = _Annotation.from_sample(sample, tolerance)
    inputs = sample.inputs[None].to(device)
    expected = (1, 1, *inputs.shape[2:])
    scores = {}
    for name, attribution in attributions.items():
        heatmap = attribution.attribute(inputs, target=sample.target)
        if not isinstance(heatmap, Tensor) or tuple(heatmap.shape) != expected:
            raise ValueError(
                f"{name!r} returned {describe(heatmap)} for inputs of {describe(inputs)}; expected "
                f"one map {expected}. Sum over channels, and resize a layer's map to the inputs "
                "with captum_3dcam.functional.upsample."
            )
        values = faithfulness.measure(attribution, inputs, sample.target, heatmap.detach())
        frames = heatmap.detach().cpu().reshape(annotation.inside.shape)
        localized = _score_map(frames, annotation, tolerance)
        scores[name] = localized._replace(faithfulness=values)
    centre = boxes_to_mask(_centre_box(*annotation.size), annotation.size)
    models = faithfulness.models(attributions)
    measured = measure_baselines(faithfulness, models, inputs, sample.target, centre, index)
    baselines = _score_baselines(annotation, index).items()
    return scores | {
        name: localized._replace(faithfulness=values)
        for (name, localized), values in zip(baselines, measured, strict=True)
    }


def _score_map(heatmap: Tensor, annotation: _Annotation, tolerance: float) -> Scores:
    frames, tube = clip_ious(heatmap, annotation.boxes, cam_thresholds(), "xyxy")
    # The pointing game within the frame of the highest pixel: no hit if that has no box.
    highest = heatmap.flatten(1).amax(dim=1).argmax()[None]
    boxes, all_boxes = (annotation.cuboids(f) for f in (highest, annotation.annotated))
    return Scores.from_values(
        energy_inside(heatmap[None], annotation.inside[None])[0],
        hit_point(heatmap[None], [boxes], tolerance=tolerance)[0],
        hit_point(heatmap[None], [all_boxes], "intersect")[0],
        pixel_average_precision(heatmap[None], annotation.inside[None])[0],
        count_correct(frames, IOU_THRESHOLDS).double() / len(frames),
        tube[0],
    )


def _score_baselines(annotation: _Annotation, index: int) -> dict[str, Scores]:
    height, width = annotation.size
    side = torch.tensor([width, height] * 2, dtype=torch.float64)
    corners = np.sort(np.random.default_rng(index).random((_CHANCE_BOXES, 2, 2)), axis=1)
    chance = torch.from_numpy(corners.reshape(-1, 4)) * side
    frame, centre = torch.tensor([[0, 0, 1, 1]]) * side, _centre_box(height, width)
    return {
        # A point drawn from the frame may be anywhere in it, whatever the boxes are.
        "chance": _score_boxes(chance, frame, annotation),
        "whole frame": _score_boxes(frame, frame, annotation),
        "centre box": _score_boxes(centre, centre, annotation),
    }


def _centre_box(height: int, width: int) -> Tensor:
    sides = torch.tensor([width, height, width, height], dtype=torch.float64)
    return torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * sides


def _score_boxes(boxes: Tensor, area: Tensor, annotation: _Annotation) -> Scores:
    """The mean over boxes (P, 4), each the same in all frames; the others are of ``area``."""
    pixels = boxes_to_mask(area, annotation.size)
    uniform = pixels.expand_as(annotation.inside)[None].float()
    tubes = boxes[:, None, None].expand(-1, 1, annotation.boxes.shape[1], -1)
    ious = paired_iou(tubes, annotation.boxes).amax(dim=1)[:, annotation.annotated]
    return Scores.from_values(
        annotation.inside[:, pixels].double().mean(),
        annotation.hits[:, pixels].double().mean(),
        (ious > 0).any(dim=1).double().mean(),
        pixel_average_precision(uniform, annotation.inside[None])[0],
        count_correct(ious.reshape(-1, 1), IOU_THRESHOLDS).double() / ious.numel(),
        tube_iou(tubes, annotation.boxes).amax(dim=1).mean()[None],
    )
