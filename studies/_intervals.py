"""Bootstrap intervals of means and ratios of means."""

import math

import numpy as np
import numpy.typing as npt

from captum_3dcam.evaluation import Bootstrap, Interval

Array = npt.NDArray[np.float64]


def mean_interval(values: Array, bootstrap: Bootstrap) -> Interval:
    """The mean of values (N,) or (N, M), NaN left out. The bootstrap resamples the N rows.

    >>> mean_interval(np.array([[1.0, 3.0], [2.0, np.nan]]), Bootstrap()).value
    2.0
    """
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    known = ~np.isnan(rows)
    return ratio_interval(np.where(known, rows, 0).sum(axis=1), known.sum(axis=1), bootstrap)


def ratio_interval(numerators: Array, denominators: Array, bootstrap: Bootstrap) -> Interval:
    """Σ numerators / Σ denominators, (N,) each; NaN where the denominators are all zero."""
    counts = np.concatenate([np.ones((1, len(numerators))), bootstrap.counts(len(numerators))])
    with np.errstate(invalid="ignore"):
        ratios = (counts @ numerators) / (counts @ denominators)
    return quantile_interval(ratios, bootstrap)


def quantile_interval(scores: Array, bootstrap: Bootstrap) -> Interval:
    """From scores (1 + R,): that of the samples themselves, then those of R resamples.

    Resamples whose score is NaN are left out.
    """
    resampled = scores[1:][~np.isnan(scores[1:])]
    if not len(resampled):
        return Interval(float(scores[0]), math.nan, math.nan)
    low, high = np.quantile(resampled, bootstrap.quantiles())
    return Interval(float(scores[0]), float(low), float(high))
