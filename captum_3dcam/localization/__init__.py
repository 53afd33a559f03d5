"""Localize in space and time from attribution maps: masks, boxes, tubes and segments.

Maps are (N, 1, *S), as the attribution classes return them, with any number of axes. A box is
(x0, y0, x1, y1) in pixels, inclusive-exclusive as in torchvision: x1 - x0 is its width. Over R
axes a box has 2R numbers, the last axis first: a cuboid of a clip is (x0, y0, t0, x1, y1, t1).

Results are on the device of the maps, ordered by descending score, and empty where the mask is.
"""

from captum_3dcam.localization.bounding_boxes import (
    SELECTIONS,
    Boxes,
    boxes,
    components,
    frame_boxes,
    iou,
)
from captum_3dcam.localization.space_time_tubes import Tube, link, tubes
from captum_3dcam.localization.temporal_segments import Segment, segments
from captum_3dcam.localization.thresholds import THRESHOLDS, binarize

__all__ = [
    "SELECTIONS",
    "THRESHOLDS",
    "Boxes",
    "Segment",
    "Tube",
    "binarize",
    "boxes",
    "components",
    "frame_boxes",
    "iou",
    "link",
    "segments",
    "tubes",
]
