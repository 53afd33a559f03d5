"""What all videos have in common, whether files, folders of images or arrays: timed frames."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Size = tuple[int, int]


class TimedFrame(NamedTuple):
    """A frame, not yet converted to RGB: most passes over a video need only some of its frames."""

    start: float
    """When it is shown, in seconds."""
    duration: float
    """In seconds."""
    pixels: Callable[[Size], Pixels]
    """The RGB frame (H, W, 3) of a size (H, W)."""


class FrameSource(Protocol):
    """All frames of a video, in the order of their times, which ascend strictly."""

    @property
    def path(self) -> Path:
        """The file or folder, for messages."""

    @property
    def size(self) -> Size:
        """(H, W) of the frames, upright and with square pixels."""

    @property
    def frame_count(self) -> int | None:
        """From the header, which may be slightly off; None if it has no count."""

    @property
    def fps(self) -> float:
        """The mean frame rate."""

    @property
    def damage(self) -> str | None:
        """What a complete pass has shown to be missing, and where."""

    def frames(self) -> Iterator[TimedFrame]:
        """Start a pass over the frames."""


def resize(pixels: Pixels, size: Size) -> Pixels:
    """An RGB image resized to (H, W); always a copy, to which the caller may write."""
    if pixels.shape[:2] == size:
        return np.array(pixels)
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
