"""When each frame of a video is shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._validation import check_integer, check_positive, show


class FrameTimes:
    """When each of T frames is shown, in seconds: frame t from ``edges[t]`` to ``edges[t + 1]``.

    Functions that take a frame rate ``fps`` also take these, as the time of a frame of a video with
    a variable frame rate, or of frames sampled from one, is not its number / fps.

    Args:
        edges: T + 1 finite, strictly ascending times; the last is the end of the last frame.

    Raises TypeError or ValueError for other edges.

    >>> times = FrameTimes([0.0, 0.1, 0.5, 1.0])
    >>> len(times), times.fps, times.at(1), times.at(2.5)
    (3, 3.0, 0.1, 0.75)
    """

    def __init__(self, edges: Sequence[float] | NDArray[Any]) -> None:
        try:
            self.edges: NDArray[np.float64] = np.array(edges, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"edges={show(edges)}: expected numbers, in seconds.") from error
        steps = np.diff(self.edges) if self.edges.ndim == 1 else np.zeros(0)
        if not len(steps) or not np.isfinite(self.edges).all() or not (steps > 0).all():
            raise ValueError(
                f"edges={show(edges)}: expected T + 1 finite, strictly ascending times in seconds, "
                "the starts of T frames and the end of the last one."
            )
        self.edges.flags.writeable = False

    @classmethod
    def from_rate(cls, length: int, fps: float) -> "FrameTimes":
        """The times of ``length`` frames at a constant rate, from 0.

        >>> FrameTimes.from_rate(2, fps=4)
        FrameTimes(2 frames, 0 to 0.5 s)
        """
        length = check_integer("length", length)
        return cls(np.arange(length + 1) / check_positive("fps", fps))

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __repr__(self) -> str:
        frames = "frame" if len(self) == 1 else "frames"
        return f"FrameTimes({len(self)} {frames}, {self.edges[0]:g} to {self.edges[-1]:g} s)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameTimes) and np.array_equal(self.edges, other.edges)

    def __hash__(self) -> int:
        return hash(self.edges.tobytes())

    @property
    def fps(self) -> float:
        """The mean frame rate."""
        return float(len(self) / (self.edges[-1] - self.edges[0]))

    def at(self, frame: Any) -> Any:
        """The start of a frame, or of an array of them; between frames interpolated linearly.

        Before the first edge and after the last one, with the duration of the frame nearest to it.

        Raises ValueError for a frame that is not finite.
        """
        number, frame = frame, np.asarray(frame, np.float64)
        if not np.isfinite(frame).all():
            raise ValueError(f"frame={show(number)}: expected finite numbers of frames.")
        whole = np.clip(np.floor(frame), 0, len(self) - 1).astype(int)
        start, end = self.edges[whole], self.edges[whole + 1]
        times = start + (frame - whole) * (end - start)
        # Not by the sum: rounding could move it from the edge of the next frame.
        times = np.where(frame == whole + 1, end, times)
        return times if times.ndim else float(times)

    def take(self, frames: Sequence[int] | NDArray[Any]) -> "FrameTimes":
        """The times of some of the frames, in ascending order, each shown until the next one.

        The last one is shown for as many of the frames as the one before it.

        Args:
            frames: their numbers, or a mask of T bools.

        Raises ValueError for other frames.

        >>> FrameTimes.from_rate(8, fps=2).take([0, 3]).edges.tolist()
        [0.0, 1.5, 3.0]
        """
        if (mask := np.asarray(frames)).dtype == bool and mask.shape == (len(self),):
            frames = np.flatnonzero(mask)
        elif mask.dtype == bool:
            raise ValueError(f"frames={show(frames)}: expected a mask of {len(self)} bools.")
        indices = np.asarray(frames, int)
        if not len(indices) or indices[0] < 0 or indices[-1] >= len(self):
            raise ValueError(f"frames={show(frames)}: expected frames from 0 to {len(self) - 1}.")
        step = indices[-1] - indices[-2] if len(indices) > 1 else 1
        edges = [*self.edges[indices], self.edges[min(indices[-1] + step, len(self))]]
        return FrameTimes(edges)


FrameRate = float | FrameTimes
"""Frames per second, or the time of each frame."""


def check_rate(fps: Any, length: int | None = None) -> FrameRate:
    """The frame rate itself; an error unless it is positive, or the times of ``length`` frames.

    >>> check_rate(25.0)
    25.0
    """
    if not isinstance(fps, FrameTimes):
        return check_positive("fps", fps)
    if length is not None and len(fps) != length:
        raise ValueError(
            f"fps holds the times of {len(fps)} frames, and there are {length}. Pass those of the "
            "clip: times.take(frames)."
        )
    return fps


def frame_time(fps: FrameRate, frame: Any) -> Any:
    """The start in seconds of a frame, or of an array of them.

    >>> frame_time(25, 10), frame_time(FrameTimes([0.0, 0.5, 2.0]), 1)
    (0.4, 0.5)
    """
    return fps.at(frame) if isinstance(fps, FrameTimes) else frame / fps
