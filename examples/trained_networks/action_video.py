"""A synthetic video of any length for ``action_net``, that is never in memory whole."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.datasets import SyntheticActionVideos
from trained_networks.action_net import HELD_OUT_SEED


class ActionSegment(NamedTuple):
    """The frames [start, end) show an action."""

    start: int
    end: int
    label: int


class LongActionVideo:
    """Scenes of four actions each, drawn anew at each pass; read like ``io.open_video``."""

    fps = 25.0

    def __init__(self, scenes: int, size: int = 112, seed: int = HELD_OUT_SEED) -> None:
        self.scenes = SyntheticActionVideos(scenes, seed, size=size)

    def chunks(self, length: int) -> Iterator[NDArray[np.uint8]]:
        """RGB frames (T, H, W, 3), at most ``length`` at once, never of two scenes."""
        for scene in self.scenes:
            for chunk in scene.video.movedim(0, -1).split(length):
                yield (255 * chunk).round().byte().numpy()

    @property
    def segments(self) -> list[ActionSegment]:
        """The actions, in the order of their starts."""
        segments, start = [], 0
        # The actions do not depend on the size of the frames: small ones are drawn faster.
        for scene in SyntheticActionVideos(len(self.scenes), self.scenes.seed, size=16):
            for (first, end), label in zip(scene.segments.tolist(), scene.labels, strict=True):
                segments.append(ActionSegment(start + first, start + end, int(label)))
            start += scene.video.shape[1]
        return segments
