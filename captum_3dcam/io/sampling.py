"""Which frames of a video to read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from captum_3dcam._validation import check_integer, check_number


@dataclass(frozen=True)
class Sampling:
    """The frames that are first shown within [start, end) seconds, all of them or some.

    Args:
        frames: how many; without a stride, evenly spaced in time over the interval, else from its
            start on.
        stride: every n-th frame of the interval; None with ``frames`` means evenly spaced.
        start, end: in seconds; by default the whole video.

    Raises TypeError or ValueError for other values.

    >>> Sampling(stride=4, start=10.0, end=20.0)
    Sampling(frames=None, stride=4, start=10.0, end=20.0)
    """

    frames: int | None = None
    stride: int | None = None
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "stride"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        start = check_number("start", self.start)
        end = np.inf if self.end is None else check_number("end", self.end)
        if not 0 <= start < end:
            raise ValueError(
                f"start={self.start}, end={self.end}: expected 0 <= start < end, in seconds."
            )

    @property
    def is_spread(self) -> bool:
        """Whether the frames are evenly spaced, so that all times must be known first."""
        return self.frames is not None and self.stride is None

    @property
    def interval(self) -> str:
        """For messages."""
        return f"from {self.start:g} s to {'the end' if self.end is None else f'{self.end:g} s'}"

    def spread(self, edges: Sequence[float]) -> list[int]:
        """Evenly spaced frames out of those with these edges.

        >>> Sampling(frames=2).spread([0, 1, 2, 3, 4])
        [1, 3]
        """
        count, length = self.frames or 1, len(edges) - 1
        if count > length:
            raise ValueError(
                f"frames={count}: there are {length} frames {self.interval}. Request fewer frames, "
                "or a longer interval."
            )
        order = np.arange(count)
        instants = edges[0] + (order + 0.5) * (edges[-1] - edges[0]) / count
        shown = np.searchsorted(edges, instants, side="right") - 1
        # No frame twice, though one may be shown for several of the instants.
        shown = np.maximum.accumulate(shown - order) + order
        chosen: list[int] = np.minimum(shown, length - count + order).tolist()
        return chosen
