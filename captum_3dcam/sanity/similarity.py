"""Similarity of two maps per sample, in any number of axes: rank correlation and SSIM."""

from collections.abc import Callable, Mapping

import scipy  # loads scipy.stats and scipy.ndimage when they are first used
import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]
_WINDOW, _SIGMA = 11, 1.5  # of SSIM's Gaussian window, as in its paper


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps (N, ...): (N,) in [-1, 1].

    ρ = Σ (r - r̄)(q - q̄) / √(Σ (r - r̄)² Σ (q - q̄)²) over the ranks r and q of all values of a
    sample; ties have their mean rank. NaN, without a warning, for a constant map.

    Raises ValueError for maps of different shapes, and for NaN or Inf.

    >>> rank_correlation(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 7.0, 5.0]]))
    tensor([0.5000], dtype=torch.float64)
    """
    _check_maps(first, second)
    a, b = _centred_ranks(first), _centred_ranks(second)
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return ((a * b).sum(dim=1) / scale).clamp(-1, 1)  # 0 / 0 is NaN for a constant map


def absolute_rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """:func:`rank_correlation` of |first| and |second|, which ignores signs.

    >>> absolute_rank_correlation(torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -2.0]]))
    tensor([1.], dtype=torch.float64)
    """
    return rank_correlation(first.abs(), second.abs())


def structural_similarity(
    first: Tensor, second: Tensor, data_range: float | Tensor = 1.0
) -> Tensor:
    """Structural similarity (SSIM) of two maps (N, C, *S): (N,), 1 for equal maps.

    The mean over channels and windows of
    (2 μ_a μ_b + c₁)(2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁)(σ_a² + σ_b² + c₂)), c₁ = (.01 L)² and
    c₂ = (.03 L)² (Wang et al., 2004, doi 10.1109/TIP.2003.819861). The windows are Gaussian,
    σ = 1.5, of length 11 along each axis, without padding; along a shorter axis they have the
    largest odd length that fits. ``data_range`` is L, a number or (N,).

    Raises ValueError for maps of different shapes or without a spatial axis, and for NaN or Inf.

    >>> x = torch.rand(2, 1, 4, 16, 16)
    >>> structural_similarity(x, x)
    tensor([1., 1.], dtype=torch.float64)
    """
    _check_maps(first, second)
    if first.ndim < 3:
        raise ValueError(
            f"SSIM needs maps (N, C, *S) with a spatial axis; got shape {tuple(first.shape)}. "
            "Leave SSIM out of the metrics, or compare maps of an earlier layer."
        )
    a, b = (x.detach().cpu().double() for x in (first, second))  # not every device has float64
    span = torch.as_tensor(data_range, dtype=a.dtype).cpu()
    span = span.reshape(-1, *[1] * (a.ndim - 1))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def normalized_structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """:func:`structural_similarity` of maps divided by their maximum absolute value.

    L is 2 for a sample with a negative value in either map, else 1. Two zero maps are equal: 1.

    >>> x = torch.rand(1, 1, 8, 8)
    >>> normalized_structural_similarity(x, 64 * x)
    tensor([1.], dtype=torch.float64)
    """
    signed = (first.flatten(1) < 0).any(dim=1) | (second.flatten(1) < 0).any(dim=1)
    return structural_similarity(_to_unit(first), _to_unit(second), 1.0 + signed.double())


SIMILARITIES: Mapping[str, Metric] = {
    "rank_correlation": rank_correlation,
    "absolute_rank_correlation": absolute_rank_correlation,
    "ssim": normalized_structural_similarity,
}
"""The metrics by which maps are compared by default."""


def _centred_ranks(x: Tensor) -> Tensor:
    """Ranks (N, V) minus their mean, which is exactly (V + 1) / 2, since ties have their mean."""
    ranks = torch.from_numpy(scipy.stats.rankdata(x.detach().cpu().double().flatten(1), axis=1))
    return ranks - (ranks.shape[1] + 1) / 2


def _window_mean(x: Tensor) -> Tensor:
    """Gaussian means over the windows that lie within the map."""
    for axis in range(2, x.ndim):
        radius = (min(_WINDOW, x.shape[axis]) - 1) // 2
        blurred = scipy.ndimage.gaussian_filter1d(x.numpy(), _SIGMA, axis=axis, radius=radius)
        x = torch.from_numpy(blurred).narrow(axis, radius, x.shape[axis] - 2 * radius)
    return x


def _to_unit(x: Tensor) -> Tensor:
    x = x.cpu().double()
    peak = x.abs().amax(dim=tuple(range(1, x.ndim)), keepdim=True)
    return x / torch.where(peak > 0, peak, 1)


def _check_maps(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"Expected two maps (N, ...) of the same shape; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}. Bring them to the same size, e.g. with output_size."
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError(
            "A map holds NaN or Inf, so it cannot be compared. Check what the attribution "
            "returns; instead of float16, use bfloat16 or float32."
        )
