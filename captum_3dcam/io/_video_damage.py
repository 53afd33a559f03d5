"""What is missing from a damaged video, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_MAX_SHOWN = 5
# Frames between their end and that of the header: if it counts them, at a constant rate, at others
_MIN_COUNTED_GAP, _MIN_GAP, _MIN_VARIABLE_GAP = 1.5, 2.5, 3.5
_MIN_STEPS = 8  # from which a rate is known to be constant
_MIN_EQUAL = 0.9  # of the steps at a constant rate, where some frames are missing
_MAX_DEVIATION = 0.25  # steps, of a multiple of the constant one


@dataclass
class _Hole:
    """A number of missing frames, and where they were expected, in seconds."""

    count: int
    start: float
    end: float

    def __str__(self) -> str:
        if self.start == self.end:
            return f"at {self.start:.2f} s"
        return f"from {self.start:.2f} to {self.end:.2f} s"


class Damage:
    """Collects what one pass over a video shows, for one warning."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        """Of the frames, in seconds."""
        self._lost: list[float] = []
        self._corrupt: list[float] = []
        self._ending: list[_Hole] = []
        self._is_estimate = False
        self.untimed = 0
        """How many frames have an invalid time."""
        self.is_suspect = False
        """Whether frames up to the next key frame may refer to a lost one."""

    @property
    def step(self) -> float:
        """The median distance of the frames in seconds: one of a variable rate may be any."""
        return float(np.median(np.diff(self.starts))) if len(self.starts) > 1 else 0.0

    @property
    def count(self) -> int:
        """Of the frames and those known to be lost."""
        return len(self.starts) + len(self._lost)

    def add_frame(self, start: float, is_corrupt: bool, is_key: bool) -> None:
        self.starts.append(start)
        self.is_suspect = self.is_suspect and not is_key
        if is_corrupt or self.is_suspect:
            self._corrupt.append(start)

    def add_lost(self, time: float | None) -> None:
        """A packet that gave no frame; without a time, it follows the latest frame."""
        if time is None:
            time = self.starts[-1] + self.step if self.starts else 0.0
        self._lost.append(time)

    def add_end(self, duration: float, expected: float | None, unread: int | None) -> None:
        """The end of the video.

        Args:
            duration: of the last frame, in seconds.
            expected: the end by the header; None if it does not know.
            unread: how many more packets than were read it counts; None if it has no count. This
                alone proves nothing: an edit list leaves packets out.
        """
        if expected is None or not self.starts or (unread is not None and unread <= 0):
            return
        end, constant = self.starts[-1] + duration, _constant_step(self.starts)
        unit = constant or self.step or duration
        if unread is not None:
            least = _MIN_COUNTED_GAP * unit
        elif constant is not None:
            least = _MIN_GAP * unit
        else:
            least = _MIN_VARIABLE_GAP * max(unit, duration)
        if expected - end <= least:
            return
        if unread is None and constant is not None:
            # Those that the last frames in the order of decoding would have come before.
            earlier = [time for time in self._lost if time < self.starts[0]]
            self._lost = earlier + _gaps(self.starts, constant)
        known = sum(time >= end for time in self._lost) if unread is None else 0
        missing = round((expected - end) / unit) - known if unread is None else unread
        if missing > 0:
            self._ending.append(_Hole(missing, end, expected))
            self._is_estimate = unread is None and constant is None

    def describe(self) -> str | None:
        """What is missing or damaged, and where; None if nothing is."""
        parts = []
        holes = _group(self._lost, self.step) + self._ending
        if count := sum(hole.count for hole in holes):
            about = "about " if self._is_estimate else ""
            total = f"{about}{count} of {len(self.starts) + count} frames"
            parts.append(f"{total} {'is' if count == 1 else 'are'} missing, {_join(holes)}")
        if count := len(self._corrupt):
            frames = "frame" if count == 1 else "frames"
            where = _join(_group(self._corrupt, self.step))
            parts.append(f"{count} {frames} may be damaged, {where}")
        if count := self.untimed:
            frames = "frame has" if count == 1 else "frames have"
            parts.append(f"{count} {frames} an invalid time (shown one after another)")
        return "; ".join(parts) or None


def _constant_step(starts: Sequence[float]) -> float | None:
    """The distance of frames of which only some are missing; None at a variable rate."""
    steps = np.diff(starts)
    if len(steps) < _MIN_STEPS:
        return None
    median = np.median(steps)
    near = steps[np.abs(steps - median) <= _MAX_DEVIATION * median]
    if len(near) < _MIN_EQUAL * len(steps):
        return None
    step = float(near.mean())  # timestamps may be rounded to milliseconds
    multiples = np.maximum(np.round(steps / step), 1)
    is_constant = np.abs(steps - multiples * step).max() <= _MAX_DEVIATION * step
    return step if is_constant else None


def _gaps(starts: Sequence[float], step: float) -> list[float]:
    """When the frames missing between others at a constant rate were expected."""
    return [
        before + number * step
        for before, after in pairwise(starts)
        for number in range(1, round((after - before) / step))
    ]


def _group(times: Sequence[float], step: float) -> list[_Hole]:
    """Times of neighbouring frames as one hole."""
    holes: list[_Hole] = []
    for time in sorted(times):
        if holes and time - holes[-1].end <= 2 * step:
            holes[-1].count, holes[-1].end = holes[-1].count + 1, time
        else:
            holes.append(_Hole(1, time, time))
    return holes


def _join(holes: list[_Hole]) -> str:
    # A hole at the end may enclose one that its packets gave.
    holes = [
        hole
        for hole in holes
        if not any(o.start <= hole.start and hole.end <= o.end for o in holes if o is not hole)
    ]
    more = len(holes) - _MAX_SHOWN
    return ", ".join(map(str, holes[:_MAX_SHOWN])) + (f" and {more} more" if more > 0 else "")
