"""Confidence intervals by a percentile bootstrap over samples."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captum_3dcam._validation import check_integer


class Interval(NamedTuple):
    """A score and its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Bootstrap:
    """Quantiles of a score over resamples: samples drawn with replacement.

    All rows and scores use the same resamples.

    Args:
        resamples: how many there are.
        confidence: the probability inside an interval.
        seed: of the random draws.
        group_size: so many consecutive samples are drawn together, for samples that depend on each
            other, as several actors of one clip.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    group_size: int = 1

    def __post_init__(self) -> None:
        check_integer("resamples", self.resamples)
        check_integer("group_size", self.group_size)
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"confidence={self.confidence!r}: expected a fraction in (0, 1), such as 0.95."
            )

    def check(self, samples: int) -> None:
        """ValueError unless the number of samples is a multiple of the group size."""
        if samples % self.group_size:
            raise ValueError(
                f"group_size={self.group_size} does not divide the {samples} samples into groups."
            )

    def counts(self, samples: int) -> npt.NDArray[np.float64]:
        """How often each resample has each sample: (resamples, samples)."""
        groups = samples // self.group_size
        drawn = np.random.default_rng(self.seed).integers(groups, size=(self.resamples, groups))
        counts = np.zeros((self.resamples, groups))
        np.add.at(counts, (np.arange(self.resamples)[:, None], drawn), 1)
        return counts.repeat(self.group_size, axis=1)

    def quantiles(self) -> tuple[float, float]:
        """The quantiles at the ends of an interval."""
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2
