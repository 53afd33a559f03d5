"""Binarize attribution maps, with one threshold per sample."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from captum_3dcam._validation import check_choice, check_number, show
from captum_3dcam.localization._inputs import Array, check_maps, to_arrays

_OTSU_BINS = 256


def binarize(maps: Tensor, method: str = "relative", value: float | None = None) -> Tensor:
    """Mask of the values strictly above a threshold: (N, 1, *S) -> bool (N, 1, *S).

    Each sample has one threshold for all of its space-time:

    - ``"relative"``: value · max, with 0 <= value < 1, by default 0.5;
    - ``"quantile"``: the value-quantile, with 0 <= value < 1, by default 0.9;
    - ``"mean"``: value · mean, with value >= 0, by default 1;
    - ``"otsu"``: of 256 bins between minimum and maximum, the centre of the one that maximises
      the variance between the two classes (Otsu, 1979, eq. 18). It takes no value;
    - ``"effective"``: the highest (Σ m)² / Σ m² positions, m the positive part of the map: as many
      as a constant map of the same concentration has. It takes no value.

    A negative threshold is replaced by zero, so a map without positive values has an empty mask.
    A constant positive map has a full mask with "relative" and "effective" and an empty one
    otherwise. The threshold is rounded to the precision of the maps.

    Raises TypeError or ValueError for arguments that are not as described, and for NaN or Inf.

    >>> maps = torch.tensor([[[0.0, 1.0, 2.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]])
    >>> binarize(maps).int().tolist()
    [[[0, 0, 0, 1]], [[0, 0, 0, 0]]]
    >>> binarize(maps, "mean").int().tolist()
    [[[0, 0, 1, 1]], [[0, 0, 0, 0]]]
    """
    threshold = _threshold_function(method, value)
    check_maps(maps)
    mask = np.zeros(maps.shape, dtype=bool)
    for sample, values in zip(mask[:, 0], to_arrays(maps), strict=True):
        # In the precision of the map, so that 0.6 in float32 is not above the threshold 0.6.
        sample[...] = values > values.dtype.type(max(threshold(values), 0.0))
    return torch.from_numpy(mask).to(maps.device)


def _quantile(values: Array, value: float) -> float:
    # No value lies between two neighbours, so interpolation would change nothing but precision.
    return float(np.quantile(values, value, method="lower"))


def _mean(values: Array, value: float) -> float:
    # Relative to the minimum: rounding of the sum must not put a constant map above its mean.
    low = values.min()
    return value * float(low + np.subtract(values, low, dtype=np.float64).mean())


def _otsu(values: Array) -> float:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high
    scaled = np.subtract(values, low, dtype=np.float64) / (high - low)
    bins = np.minimum((scaled * _OTSU_BINS).astype(int), _OTSU_BINS - 1)
    counts = np.bincount(bins.ravel(), minlength=_OTSU_BINS).astype(float)
    # Sums of integers are exact: across empty bins the variances are equal, and argmax takes
    # the first bin, not one that rounding chose.
    below, moment = counts.cumsum()[:-1], (counts * np.arange(_OTSU_BINS)).cumsum()
    variance = (moment[-1] * below - values.size * moment[:-1]) ** 2
    variance /= below * (values.size - below)
    return low + (float(variance.argmax()) + 0.5) / _OTSU_BINS * (high - low)


def _effective(values: Array) -> float:
    """The highest value that is left out; equal ones are left out with it."""
    positive = np.maximum(values, 0).ravel()
    peak = positive.max()
    if not peak:
        return 0.0
    shares = positive.astype(np.float64) / peak  # whose squares neither overflow nor vanish
    left_out = positive.size - round(float(shares.sum()) ** 2 / float(shares @ shares))
    return float(np.partition(positive, left_out - 1)[left_out - 1]) if left_out > 0 else 0.0


# For each method its threshold, the default value, and the exclusive upper limit of the value.
_METHODS: dict[str, tuple[Callable[[Array, float], float], float, float]] = {
    "relative": (lambda values, value: value * float(values.max()), 0.5, 1.0),
    "quantile": (_quantile, 0.9, 1.0),
    "mean": (_mean, 1.0, math.inf),
}
_AUTOMATIC: dict[str, Callable[[Array], float]] = {"otsu": _otsu, "effective": _effective}
THRESHOLDS = (*_METHODS, *_AUTOMATIC)


def _threshold_function(method: str, value: float | None) -> Callable[[Array], float]:
    check_choice("method", method, THRESHOLDS)
    if method in _AUTOMATIC:
        if value is not None:
            raise ValueError(
                f"method={method!r} takes no value, it computes one; got {show(value)}."
            )
        return _AUTOMATIC[method]
    threshold, default, limit = _METHODS[method]
    factor = default if value is None else check_number("value", value)
    if not 0 <= factor < limit:
        raise ValueError(f"value={value}: method={method!r} takes 0 <= value < {limit:g}.")
    return lambda values: threshold(values, factor)
