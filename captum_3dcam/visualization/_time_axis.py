"""The time of a clip's frames, in seconds or in frames of its video."""

from dataclasses import dataclass
from typing import Any

from captum_3dcam._validation import check_positive


@dataclass(frozen=True)
class TimeAxis:
    """``fps`` is None for times in frames; ``start`` is the clip's first frame in its video."""

    fps: float | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_positive("fps", self.fps)

    def at(self, frame: Any) -> Any:
        """The time of a frame of the clip, or of an array of them."""
        return (self.start + frame) / (self.fps or 1)

    def format(self, frame: int) -> str:
        return f"{self.at(frame):.2f} s" if self.fps else str(self.start + frame)

    @property
    def label(self) -> str:
        return "time (s)" if self.fps else "frame"
