"""VideoClip, the sample of the video datasets."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from captum_3dcam.localization import Tube


class VideoClip(NamedTuple):
    """A clip of T frames with the ground truth of its A actors."""

    clip: Tensor
    """(3, T, H, W), RGB in [0, 1]."""
    label: int
    """An index into the dataset's ``classes``."""
    boxes: Tensor
    """(A, T, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive; nan where there is none."""
    masks: Tensor | None
    """(A, T, H, W), bool; None if the dataset has no masks."""
    video: str
    """The name of the video, one of the dataset's ``videos``."""
    frames: Tensor
    """(T,) indices of the frames in the video."""
    padded: Tensor
    """(T,) bool: after the end of the video. The last frame is repeated, without ground truth."""

    @property
    def tubes(self) -> list[Tube]:
        """A tube with a score of 1 for each run of consecutive boxes of an actor.

        Frames count from the clip's first.

        >>> boxes = torch.ones(1, 5, 4)
        >>> boxes[0, 2] = torch.nan
        >>> empty = torch.zeros(0)
        >>> clip = VideoClip(empty, 0, boxes, None, "", empty, empty)
        >>> [(tube.start, tube.end) for tube in clip.tubes]
        [(0, 2), (3, 5)]
        """
        return [
            Tube(start, boxes[start:stop], score=1.0)
            for boxes in self.boxes
            for start, stop in _runs(~boxes.isnan().any(dim=-1))
        ]


def _runs(present: Tensor) -> Iterable[tuple[int, int]]:
    """The [start, stop) of each run of True in (T,)."""
    outside = torch.zeros(1, dtype=torch.int8)
    steps = torch.diff(present.to(torch.int8), prepend=outside, append=outside)
    starts, stops = (steps == 1).nonzero(), (steps == -1).nonzero()
    return zip(starts.flatten().tolist(), stops.flatten().tolist(), strict=True)
