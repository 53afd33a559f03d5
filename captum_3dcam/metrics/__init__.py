"""Scores of maps, boxes, tubes and segments against the truth.

The functions are pure, from tensors to tensors; the classes accumulate them over a dataset, on
``torchmetrics.Metric`` (``pip install 'captum_3dcam[metrics]'``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_3dcam.metrics._contours import contour_boxes
from captum_3dcam.metrics._inputs import BOX_FORMATS, to_exclusive
from captum_3dcam.metrics.overlap import (
    best_iou,
    best_tube_iou,
    box_iou,
    mask_iou,
    paired_iou,
    segment_iou,
    tube_iou,
)
from captum_3dcam.metrics.pointing import (
    HIT_MODES,
    acc2,
    boxes_to_mask,
    energy_inside,
    hit_point,
)
from captum_3dcam.metrics.temporal import (
    average_precision,
    temporal_average_precision,
    temporal_hit,
    temporal_map,
)
from captum_3dcam.metrics.wsol import (
    THRESHOLD_SELECTIONS,
    box_accuracy,
    cam_thresholds,
    clip_ious,
    max_box_acc,
    px_ap,
    scoremap_boxes,
    scoremap_ious,
)

if TYPE_CHECKING:
    from captum_3dcam.metrics.modular import (
        Acc2,
        BoxAccuracy,
        EnergyInside,
        HitPoint,
        MaxBoxAcc,
        MaxBoxAcc3D,
        PxAP,
        TemporalHit,
        TemporalMAP,
        TubeIoU,
    )

__all__ = [
    "BOX_FORMATS",
    "HIT_MODES",
    "THRESHOLD_SELECTIONS",
    "Acc2",
    "BoxAccuracy",
    "EnergyInside",
    "HitPoint",
    "MaxBoxAcc",
    "MaxBoxAcc3D",
    "PxAP",
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
    "energy_inside",
    "hit_point",
    "mask_iou",
    "max_box_acc",
    "paired_iou",
    "px_ap",
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
    """The accumulating classes, when they are first asked for: torchmetrics is an extra."""
    if name not in __all__:  # the functions are here, and never come this way
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        accumulators = import_module("captum_3dcam.metrics.modular")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torchmetrics":
            raise
        raise ImportError(
            f"captum_3dcam.metrics.{name} needs torchmetrics, which is not installed. Install it "
            "with pip install 'captum_3dcam[metrics]'; the functions do without it."
        ) from error
    return getattr(accumulators, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
