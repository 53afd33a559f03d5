"""Where a map is above half of its maximum: boxes, tubes and segments in units of the original."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam import localization
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Boxes, Segment, Tube

_CHUNK = 16  # frames at once
_MAX_TUBES = 20
_MIN_IOU, _MAX_GAP = 0.1, 2  # of boxes that are linked to a tube: maps flicker


def find_boxes(heat_map: Tensor, size: Sequence[int]) -> Boxes:
    """Around all components of a map (*S), in pixels or voxels of an original of that size."""
    (boxes,) = localization.boxes(heat_map[None, None], select="all")
    # A box has its axes in reverse.
    scale = [n / m for n, m in zip(reversed(size), reversed(heat_map.shape), strict=True)]
    return boxes._replace(boxes=boxes.boxes * torch.tensor(2 * scale))


def find_tubes(heat_map: Tensor, size: Sequence[int], times: FrameTimes | None) -> list[Tube]:
    """Of a map (T, H', W'), in pixels of frames of that size."""
    threshold = max(float(heat_map.max()) / 2, 0.0)
    boxes: list[Boxes] = []
    for part in heat_map.split(_CHUNK):  # the map need not fit in memory
        maps = part[None, None]
        boxes += localization.frame_boxes(maps, maps > threshold, select="all")[0]
    tubes = localization.link([boxes], _MIN_IOU, _MAX_GAP, fps=times)[0][:_MAX_TUBES]
    height, width = (n / m for n, m in zip(size, heat_map.shape[1:], strict=True))
    scale = torch.tensor([width, height, width, height])
    return [replace(tube, boxes=tube.boxes * scale) for tube in tubes]


def find_profile(heat_map: Tensor) -> Tensor:
    """The mean over space in each frame of a map (T, H', W'): (T,)."""
    parts = [temporal_profile(part[None, None])[0] for part in heat_map.split(_CHUNK)]
    return torch.cat(parts)


def find_segments(heat_map: Tensor, times: FrameTimes | None) -> list[Segment]:
    """Of a map (T, H', W')."""
    return localization.segments(find_profile(heat_map)[None], fps=times)[0]


def find_peak(heat_map: Tensor) -> tuple[int, ...] | None:
    """The index of the maximum; None if the map is zero."""
    index = np.unravel_index(int(heat_map.argmax()), tuple(heat_map.shape))
    return tuple(map(int, index)) if heat_map[index] > 0 else None


def list_boxes(boxes: Boxes) -> list[dict[str, Any]]:
    """For the report: corners of images; of volumes the voxels (d, h, w), instead of x, y, z."""
    if boxes.boxes.shape[-1] == 4:
        pairs = zip(boxes.boxes, boxes.scores.tolist(), strict=True)
        return [{"box": box, "score": score} for box, score in pairs]
    corners = boxes.boxes.round().int().tolist()
    return [
        {"start": box[2::-1], "stop": box[:2:-1], "score": score}
        for box, score in zip(corners, boxes.scores.tolist(), strict=True)
    ]
