"""How alike two maps are: rank correlation and SSIM, per sample, in any number of axes."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from captum_3dcam.sanity._seeded_request import shape_of

Metric = Callable[[Tensor, Tensor], Tensor]
_WINDOW, _SIGMA = 11, 1.5  # of SSIM, as in its paper


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps, (N, ...) twice -> (N,) in [-1, 1].

    ρ = Σ (r - r̄)(q - q̄) / √(Σ (r - r̄)² Σ (q - q̄)²) over the ranks r and q of all values of a
    sample, ties sharing their mean rank. A constant map has no ranking: NaN, without a warning.

    Raises ValueError for maps of two shapes, and for NaN or Inf in them.

    >>> rank_correlation(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 7.0, 5.0]]))
    tensor([0.5000], dtype=torch.float64)
    """
    _check_maps(first, second)
    pairs = zip(first.cpu().flatten(1), second.cpu().flatten(1), strict=True)
    return torch.stack([_spearman(a, b) for a, b in pairs])


def absolute_rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """:func:`rank_correlation` of |first| and |second|: where, whatever the sign.

    >>> absolute_rank_correlation(torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -2.0]]))
    tensor([1.], dtype=torch.float64)
    """
    return rank_correlation(first.abs(), second.abs())


def structural_similarity(
    first: Tensor, second: Tensor, data_range: float | Tensor = 1.0
) -> Tensor:
    """Mean SSIM of (N, C, *S) twice, over channels and windows -> (N,), 1 for equal maps.

    (2 μ_a μ_b + c₁)(2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁)(σ_a² + σ_b² + c₂)), c₁ = (.01 L)² and
    c₂ = (.03 L)², in Gaussian windows (σ = 1.5, 11 places along each axis) that lie wholly in
    the map (Wang et al., 2004, doi 10.1109/TIP.2003.819861). Along an axis shorter than 11 the
    window has the largest odd length that fits. ``data_range`` is L, one or (N,).

    Raises ValueError for maps of two shapes or without a spatial axis, and for NaN or Inf.

    >>> x = torch.rand(2, 1, 4, 16, 16)
    >>> structural_similarity(x, x)
    tensor([1., 1.], dtype=torch.float64)
    """
    _check_maps(first, second)
    if first.ndim < 3:
        raise ValueError(
            f"SSIM needs maps with a spatial axis, (N, C, *S); got shape {tuple(first.shape)}. "
            "Leave it out of the metrics, or compare maps of an earlier layer."
        )
    a, b = first.cpu().double(), second.cpu().double()  # on the CPU: not every device has it
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
    """:func:`structural_similarity` of maps each divided by its own largest absolute value.

    L = 2 for a sample with a negative value in either map, else 1. A zero map stays zero: two of
    them are equal, 1.

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
"""What maps are compared by unless ``metrics`` says otherwise."""


def _spearman(a: Tensor, b: Tensor) -> Tensor:
    ranks = torch.stack([_centred_ranks(a), _centred_ranks(b)])
    powers = ranks.square().sum(dim=1)
    # 0 / 0 is NaN: a constant map.
    rho: Tensor = (ranks[0] @ ranks[1]) / powers.prod().sqrt()
    return rho.clamp(-1, 1)


def _centred_ranks(x: Tensor) -> Tensor:
    """Ranks minus their mean, exactly: ties share theirs, so the mean is always (V + 1) / 2."""
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2.0)[inverse]
    return ranks - (x.numel() + 1) / 2.0


def _window_mean(x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        x = _weighted_along(x, axis, _gaussian_window(x.shape[axis]))
    return x


def _gaussian_window(length: int) -> list[float]:
    radius = (min(_WINDOW, length) - 1) // 2
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(places**2) / (2 * _SIGMA**2))
    return (weights / weights.sum()).tolist()


def _weighted_along(x: Tensor, axis: int, weights: list[float]) -> Tensor:
    size = x.shape[axis] - len(weights) + 1
    return reduce(torch.add, (weight * x.narrow(axis, i, size) for i, weight in enumerate(weights)))


def _to_unit(x: Tensor) -> Tensor:
    x = x.cpu().double()
    peak = x.abs().amax(dim=tuple(range(1, x.ndim)), keepdim=True)
    return x / torch.where(peak > 0, peak, 1)


def _check_maps(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"Two maps of one shape (N, ...) are compared; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}. Give both the same size, e.g. by output_size."
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError(
            "A map holds NaN or Inf, so it cannot be compared. Look at what the attribution "
            "gives; in half precision, use bfloat16 or float32."
        )


def compare(metrics: Mapping[str, Metric], first: Tensor, second: Tensor) -> dict[str, Tensor]:
    found = {name: metric(first, second) for name, metric in metrics.items()}
    for name, values in found.items():
        if not isinstance(values, Tensor) or values.shape != first.shape[:1]:
            raise ValueError(
                f"A metric takes two maps (N, ...) and returns a tensor (N,), here "
                f"({len(first)},); {name!r} returned {shape_of(values)}."
            )
    return found


def stack_steps(steps: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
