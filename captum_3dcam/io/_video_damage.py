"""What is missing from a damaged video, and where."""

from dataclasses import dataclass

_MAX_SHOWN = 5
_MIN_GAP = 1.5  # frames, between the end of the frames and that of a header that counts them
_MIN_UNCOUNTED_GAP = 3.5  # of a header that does not


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
        self._frames = 0
        self._end = 0.0
        self._duration = 0.0
        self._holes: list[_Hole] = []
        self._corrupt: list[_Hole] = []
        self.is_suspect = False
        """Whether frames up to the next key frame may refer to a lost one."""

    def add_frame(self, start: float, end: float, is_corrupt: bool, is_key: bool) -> None:
        self._frames, self._end, self._duration = self._frames + 1, end, end - start
        self.is_suspect = self.is_suspect and not is_key
        if is_corrupt or self.is_suspect:
            self._add(self._corrupt, start)

    def add_lost(self, time: float | None) -> None:
        """A packet that gave no frame; without a time, it follows the latest frame."""
        self._add(self._holes, self._end if time is None else time)

    def add_end(self, expected_end: float | None, uncounted: int) -> None:
        """The end of the video by its header, and how many more packets than were read it counts.

        A count alone proves nothing: an edit list leaves packets out.
        """
        gap = 0.0 if expected_end is None else expected_end - self._end
        least = _MIN_GAP if uncounted > 0 else _MIN_UNCOUNTED_GAP
        if expected_end is None or gap <= least * self._duration:
            return
        known = sum(hole.count for hole in self._holes if hole.start >= self._end)
        missing = uncounted if uncounted > 0 else round(gap / self._duration) - known
        if missing > 0:
            self._holes.append(_Hole(missing, self._end, expected_end))

    def describe(self) -> str | None:
        """What is missing or damaged, and where; None if nothing is."""
        parts = []
        if count := sum(hole.count for hole in self._holes):
            total = f"{count} of {self._frames + count} frames"
            parts.append(f"{total} {'is' if count == 1 else 'are'} missing, {_join(self._holes)}")
        if count := sum(hole.count for hole in self._corrupt):
            frames = "frame" if count == 1 else "frames"
            parts.append(f"{count} {frames} may be damaged, {_join(self._corrupt)}")
        return "; ".join(parts) or None

    def _add(self, holes: list[_Hole], time: float) -> None:
        if holes and 0 <= time - holes[-1].end <= 2 * self._duration:
            holes[-1].count, holes[-1].end = holes[-1].count + 1, time
        else:
            holes.append(_Hole(1, time, time))


def _join(holes: list[_Hole]) -> str:
    # A hole at the end may enclose one that its packets gave.
    holes = [
        hole
        for hole in holes
        if not any(o.start <= hole.start and hole.end <= o.end for o in holes if o is not hole)
    ]
    more = len(holes) - _MAX_SHOWN
    return ", ".join(map(str, holes[:_MAX_SHOWN])) + (f" and {more} more" if more > 0 else "")
