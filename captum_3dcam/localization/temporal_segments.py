"""Temporal segments of profiles."""

from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from torch import Tensor

from captum_3dcam._validation import check_integer, check_number, check_tensor, describe
from captum_3dcam.frame_times import FrameRate
from captum_3dcam.localization._inputs import (
    Array,
    check_fps,
    check_values,
    mask_arrays,
    to_arrays,
    to_seconds,
)
from captum_3dcam.localization.thresholds import binarize


@dataclass(frozen=True)
class Segment:
    """The frames [start, end) of a clip.

    Raises TypeError or ValueError for what is no number, start >= end and fps <= 0.

    >>> Segment(start=5, end=10, score=0.9, fps=25).seconds
    (0.2, 0.4)
    """

    start: int
    end: int
    score: float
    fps: FrameRate | None = None

    def __post_init__(self) -> None:
        check_fps(self.fps)
        for name in ("start", "end", "score"):
            check_number(name, getattr(self, name))
        if not self.start < self.end:
            raise ValueError(
                "Expected a segment [start, end) of at least one frame; got "
                f"[{self.start}, {self.end})."
            )

    @property
    def seconds(self) -> tuple[float, float]:
        """The start of the first frame and the end of the last one; ValueError without fps."""
        return to_seconds(self.start, self.end, self.fps)


def segments(
    profile: Tensor,
    high: float = 0.5,
    low: float = 0.25,
    min_length: int = 1,
    max_gap: int = 0,
    fps: FrameRate | None = None,
) -> list[list[Segment]]:
    """Temporal segments of profiles (N, T), by hysteresis thresholding.

    A segment is a maximal run of frames strictly above low · max that contains a frame strictly
    above high · max, where max is the sample's own. Then segments at most ``max_gap`` frames
    apart are merged, and those shorter than ``min_length`` frames are dropped. The score is the
    maximum of the profile in the segment. A profile without positive values has no segments.

    Args:
        profile: (N, T), as :func:`captum_3dcam.functional.temporal_profile` returns it.
        high, low: fractions of the maximum, 0 <= low <= high < 1.
        min_length, max_gap: in frames.
        fps: frames per second, or their ``FrameTimes``, for :attr:`Segment.seconds`.

    Raises TypeError or ValueError for arguments that are not as described.

    >>> import torch
    >>> profile = torch.tensor([[0.0, 3.0, 8.0, 4.0, 0.0, 3.0, 0.0, 6.0]])
    >>> for segment in segments(profile, fps=2)[0]:
    ...     print(segment, segment.seconds)
    Segment(start=1, end=4, score=8.0, fps=2) (0.5, 2.0)
    Segment(start=7, end=8, score=6.0, fps=2) (3.5, 4.0)
    """
    max_gap = check_integer("max_gap", max_gap, minimum=0)
    min_length = check_integer("min_length", min_length)
    high, low = check_number("high", high), check_number("low", low)
    if not 0 <= low <= high < 1:
        raise ValueError(
            f"high={high}, low={low}: expected fractions of the maximum, 0 <= low <= high < 1."
        )
    _check_profile(profile)
    fps = check_fps(fps, profile.shape[1])
    profiles = profile[:, None]
    masks = (mask_arrays(binarize(profiles, "relative", level)) for level in (low, high))
    results = []
    for values, *above in zip(to_arrays(profiles), *masks, strict=True):
        kept = [
            Segment(start, end, float(values[start:end].max()), fps)
            for start, end in _merge(_hysteresis(*above), max_gap)
            if end - start >= min_length
        ]
        results.append(sorted(kept, key=attrgetter("score"), reverse=True))
    return results


def _hysteresis(above_low: Array, above_high: Array) -> list[tuple[int, int]]:
    """Maximal runs [start, end) above the low threshold that reach the high one."""
    edges = np.flatnonzero(np.diff(np.pad(above_low, 1).astype(int)))
    runs = edges.reshape(-1, 2).tolist()
    return [(start, end) for start, end in runs if above_high[start:end].any()]


def _merge(runs: list[tuple[int, int]], max_gap: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in runs:
        if merged and start - merged[-1][1] <= max_gap:
            start, _ = merged.pop()
        merged.append((start, end))
    return merged


def _check_profile(profile: Tensor) -> None:
    check_tensor("profile", profile)
    if profile.ndim != 2 or not profile.shape[1]:
        raise ValueError(
            f"Expected a profile (N, T) of at least one frame; got {describe(profile)}. "
            "captum_3dcam.functional.temporal_profile(maps) computes it from maps."
        )
    check_values(profile, "profile")
