"""Scores of maps, boxes, tubes and segments against the ground truth.

The functions are pure, from tensors to tensors; the classes accumulate them over a dataset, on
``torchmetrics.Metric`` (``pip install 'captum_3dcam[metrics]'``). Maps are scored against
``boxes``, ``masks`` or ``segments``; where both sides are of one kind, the arguments are ``preds``
and ``target``, as in torchmetrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_3dcam._files import import_extra
from captum_3dcam.metrics._contours import contour_boxes
from captum_3dcam.metrics._inputs import to_exclusive
from captum_3dcam.metrics.overlap import (
    best_iou,
    best_tube_iou,
    box_iou,
    mask_iou,
    paired_iou,
    segment_iou,
    tube_iou,
)
from captum_3dcam.metrics.pointing import acc2, boxes_to_mask, energy_inside, hit_point
from captum_3dcam.metrics.ranking import pixel_average_precision, relevance_rank_accuracy
from captum_3dcam.metrics.temporal import (
    average_precision,
    match_detections,
    temporal_average_precision,
    temporal_hit,
    temporal_map,
)
from captum_3dcam.metrics.wsol import (
    box_accuracy,
    cam_thresholds,
    clip_ious,
    count_correct,
    max_box_acc,
    protocol_name,
    px_ap,
    scoremap_boxes,
    scoremap_ious,
)

if TYPE_CHECKING:
    from captum_3dcam.metrics.torchmetrics_classes import (
        Acc2,
        BoxAccuracy,
        EnergyInside,
        HitPoint,
        MaxBoxAcc,
        MaxBoxAcc3D,
        PixelAveragePrecision,
        PxAP,
        RelevanceRankAccuracy,
        TemporalHit,
        TemporalMAP,
        TubeIoU,
    )

__all__ = [
    "Acc2",
    "BoxAccuracy",
    "EnergyInside",
    "HitPoint",
    "MaxBoxAcc",
    "MaxBoxAcc3D",
    "PixelAveragePrecision",
    "PxAP",
    "RelevanceRankAccuracy",
    "TemporalHit",
    "TemporalMAP",
    "TubeIoU",
    "acc2",
    "average_precision",
    "best_iou",
    "best_tube_iou",
    "box_accuracy",
    "box_iou",
    "boxes_to_mask",
    "cam_thresholds",
    "clip_ious",
    "contour_boxes",
    "count_correct",
    "energy_inside",
    "hit_point",
    "mask_iou",
    "match_detections",
    "max_box_acc",
    "paired_iou",
    "pixel_average_precision",
    "protocol_name",
    "px_ap",
    "relevance_rank_accuracy",
    "scoremap_boxes",
    "scoremap_ious",
    "segment_iou",
    "temporal_average_precision",
    "temporal_hit",
    "temporal_map",
    "to_exclusive",
    "tube_iou",
]


def __getattr__(name: str) -> Any:
    """Import the classes when they are first used: torchmetrics is an optional dependency."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_extra("torchmetrics", f"captum_3dcam.metrics.{name} needs torchmetrics", "metrics")
    return getattr(import_module("captum_3dcam.metrics.torchmetrics_classes"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
