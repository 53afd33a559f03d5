"""Whether a tensor can be made of the original that its map is drawn on."""

import math
from itertools import product

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import warn

_CELLS = 32  # along each side
_BACKGROUND = 5  # cells, whose mean is taken off: shading is alike in most images
_MIN_RATIO = 0.4
_MIN_CELLS = 100


def check_resemblance(inputs: Tensor, original: Tensor) -> None:
    """Warn if a tensor (C, [T,] h, w) does not follow from its original (3, [T,] H, W).

    Brightness, contrast, colour and size may differ; what is cropped or mirrored does not follow.
    """
    if len(inputs) not in (1, 3):  # such as optical flow
        return
    sides = [
        min(_CELLS, *pair) for pair in zip(inputs.shape[-2:], original.shape[-2:], strict=True)
    ]
    pairs = product(_details(inputs, sides), _details(original, sides))
    ratio = max(correlation_ratio(*pair) for pair in pairs)
    if ratio < _MIN_RATIO:
        warn(
            f"original: the input does not resemble it (a correlation ratio of {ratio:.2f}, where "
            "1 is the same image): it seems to be cropped or mirrored, or another image. The "
            "map is stretched over the whole original, and may be at the wrong position. Pass the "
            "original as the model sees it, cropped likewise; or the raw values as input, with a "
            "preprocessing."
        )


def _details(x: Tensor, sides: list[int]) -> NDArray[np.float64]:
    """What differs from its surroundings in each channel and their mean, on a coarse grid."""
    x = x.detach().float().cpu()
    frames = torch.cat([x, x.mean(dim=0, keepdim=True)]).flatten(0, -3)
    grid = F.interpolate(frames[None], sides, mode="area")[0].unflatten(0, (-1, *x.shape[1:-2]))
    values = grid.double().numpy()
    size = (*[1] * (values.ndim - 2), _BACKGROUND, _BACKGROUND)
    details: NDArray[np.float64] = values - scipy.ndimage.uniform_filter(
        values, size, mode="nearest"
    )
    return details


def correlation_ratio(values: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    r"""How much of the variance of values is explained by other values: 1 - E[Var(v | g)] / Var(v).

    In [0, 1], over ranges of equal count of ``given`` (Roche et al., MICCAI 1998, equation 7); 1 if
    nothing varies, or there are too few values to tell.

    >>> x = np.linspace(-1, 1, 400)
    >>> round(correlation_ratio(x**2, x), 2), round(correlation_ratio(x, np.cos(40 * x)), 2)
    (0.99, 0.0)
    """
    values, given = values.ravel(), given.ravel()
    if values.size < _MIN_CELLS or not np.isfinite(values).all() or not np.ptp(given):
        return 1.0
    groups = np.array_split(values[np.argsort(given, kind="stable")], math.isqrt(values.size))
    within = sum(group.size * group.var() for group in groups) / values.size
    total = float(values.var())
    return 1.0 if total <= 1e-12 else float(1 - within / total)
