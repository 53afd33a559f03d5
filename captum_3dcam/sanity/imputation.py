"""Noisy linear imputation: removed positions get the weighted mean of their neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_3dcam._validation import check_floats, check_integer, check_number, describe

_TOLERANCE = 1e-8  # of the residual's norm, as a fraction of the right-hand side's
_MAX_STEPS = 1000  # of conjugate gradients; a few dozen suffice
_DAMPING = 2 / 3  # of the Jacobi smoother


def impute(inputs: Tensor, removed: Tensor, noise: float = 0.01, seed: int = 0) -> Tensor:
    """Replace removed positions by the weighted mean of their neighbours, plus noise.

    The imputation of ROAD (Rong et al., ICML 2022, arXiv 2202.00449): per channel, the new values
    solve the sparse linear system Σ_j w_ij (x_j - x_i) = 0 over the neighbours j of each removed
    position i, kept ones with their own value and removed ones with their new one. A neighbour that
    is one step away on k of the D spatial axes has w_ij = 2^-k / (2^D - 1): 1/6 and, on a diagonal,
    1/12 in two dimensions, as in the paper; 1/14, 1/28 and 1/56 in three; 1/2 in one.

    Args:
        inputs: (N, C, *S), floating-point.
        removed: bool (N, 1, *S); at least one position of each sample is kept.
        noise: the standard deviation of Gaussian noise that is added, in the unit of the inputs.
        seed: of the noise, which is the same for each sample.

    Returns the imputed inputs (N, C, *S). The system is solved in float64 by conjugate gradients
    with multigrid. Raises TypeError or ValueError for arguments that do not fit.

    >>> x = torch.tensor([[[1.0, 9.0, 9.0, 4.0]]])
    >>> impute(x, torch.tensor([[[False, True, True, False]]]), noise=0)
    tensor([[[1., 2., 3., 4.]]])
    """
    _check(inputs, removed, noise)
    generator = torch.Generator().manual_seed(check_integer("seed", seed, minimum=None))
    # Not every device has float64.
    device = torch.device("cpu") if inputs.device.type == "mps" else inputs.device
    filled = _fill(inputs.detach().to(device, torch.float64), removed.to(device)).to(inputs)
    errors = torch.randn(1, *inputs.shape[1:], generator=generator).to(inputs)
    return torch.where(removed.to(inputs.device), filled + noise * errors, inputs.detach())


def _check(inputs: Tensor, removed: Tensor, noise: float) -> None:
    shape = tuple(check_floats("inputs", inputs).shape)
    expected = (*shape[:1], 1, *shape[2:])
    is_mask = isinstance(removed, Tensor) and removed.dtype == torch.bool
    if len(shape) < 3 or not is_mask or removed.shape != expected:
        kind = f", {removed.dtype}" if isinstance(removed, Tensor) else ""
        raise ValueError(
            f"impute expects inputs (N, C, *S) and removed, bool (N, 1, *S); received inputs of "
            f"{describe(inputs)} and removed of {describe(removed)}{kind}. Compare with a "
            "threshold: attribution > 0.5."
        )
    if removed.flatten(1).all(dim=1).any():
        raise ValueError(
            "All positions of a sample are removed, so there is nothing to impute them from. Keep "
            "at least one."
        )
    if not 0 <= check_number("noise", noise) < torch.inf:
        raise ValueError(f"noise={noise!r}: expected a standard deviation, finite and 0 or more.")


def _fill(x: Tensor, removed: Tensor) -> Tensor:
    """The solution without noise, computed relative to the mean of what is kept."""
    axes = tuple(range(2, x.ndim))
    kept = x.masked_fill(removed, 0).sum(dim=axes, keepdim=True)
    mean = kept / (~removed).sum(dim=axes, keepdim=True)
    known = (x - mean).masked_fill(removed, 0)
    system = _System.from_unknown(removed)
    right = _neighbour_sum(known).masked_fill(~removed, 0)
    return mean + known + _conjugate_gradients(system, right)


def _neighbour_sum(x: Tensor) -> Tensor:
    """Σ_j w_ij x_j over the neighbours j of each position i, up to the factor 1 / (2^D - 1).

    The weights are the product of (1/2, 1, 1/2) along each axis, without the position itself.
    """
    total = x
    for axis in range(2, x.ndim):
        shorter = x.shape[axis] - 1
        first, last = total.narrow(axis, 0, shorter), total.narrow(axis, 1, shorter)
        total = total.clone()
        total.narrow(axis, 1, shorter).add_(first, alpha=0.5)
        total.narrow(axis, 0, shorter).add_(last, alpha=0.5)
    return total - x


# ---------------------------------------------------------------------------- conjugate gradients


@dataclass
class _System:
    """The linear system of the unknown positions, and the one on a grid that is half as fine."""

    unknown: Tensor
    """bool (N, 1, *S)"""
    degree: Tensor
    """(1, 1, *S): the sum of the weights of each position's neighbours."""
    coarse: "_System | None"

    @classmethod
    def from_unknown(cls, unknown: Tensor) -> "_System":
        degree = _neighbour_sum(unknown.new_ones(1, 1, *unknown.shape[2:], dtype=torch.float64))
        coarse = None
        if max(unknown.shape[2:]) > 1:
            within = _pool((~unknown).double()) == 0  # of cells without a known position
            coarse = cls.from_unknown(within) if within.any() else None
        return cls(unknown, degree, coarse)

    def apply(self, x: Tensor) -> Tensor:
        """The matrix times x, which is zero at known positions."""
        return (self.degree * x - _neighbour_sum(x)).masked_fill_(~self.unknown, 0)

    def precondition(self, right: Tensor) -> Tensor:
        """An approximate solution, symmetric in the right-hand side: a V-cycle of multigrid."""
        x = self._smooth(right)
        if self.coarse is not None:
            size = right.shape[2:]
            residual = _pool(right - self.apply(x)).masked_fill_(~self.coarse.unknown, 0)
            halved = sum(length > 1 for length in size)
            # A face of a cell has 2^(halved - 1) edges. With piecewise constant corrections the
            # coarse grid is too stiff by a factor of 2.
            correction = self.coarse.precondition(residual) * 2.0 ** (2 - halved)
            x = x + _expand(correction, size).masked_fill_(~self.unknown, 0)
        return x + self._smooth(right - self.apply(x))

    def _smooth(self, right: Tensor) -> Tensor:
        return _DAMPING * right / self.degree.clamp(min=0.5)


def _pool(x: Tensor) -> Tensor:
    """The sums over cells of two positions along each axis; the last one may have one."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        if length % 2 and length > 1:
            x = pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, 1])
        if length > 1:
            x = x.unflatten(axis, (-1, 2)).sum(dim=axis + 1)
    return x


def _expand(x: Tensor, size: torch.Size) -> Tensor:
    """The values of the cells, at each of their positions."""
    for axis, length in enumerate(size, start=2):
        if length > 1:
            x = x.repeat_interleave(2, dim=axis).narrow(axis, 0, length)
    return x


def _conjugate_gradients(system: _System, right: Tensor) -> Tensor:
    """The solution (N, C, *S) for each sample and channel, zero at known positions."""
    axes = tuple(range(2, right.ndim))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=axes, keepdim=True)

    enough = _TOLERANCE**2 * dot(right, right)
    solution, residual = torch.zeros_like(right), right
    direction = descent = system.precondition(residual)
    error = dot(residual, descent)
    for _ in range(_MAX_STEPS):
        if not (dot(residual, residual) > enough).any():
            return solution
        image = system.apply(direction)
        step = _ratio(error, dot(direction, image))
        solution, residual = solution + step * direction, residual - step * image
        descent = system.precondition(residual)
        previous, error = error, dot(residual, descent)
        direction = descent + _ratio(error, previous) * direction
    raise RuntimeError(
        f"The imputation did not converge in {_MAX_STEPS} steps. Scale the inputs to about 1, and "
        "check them for values that are far larger than the others."
    )


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 where both are 0, in a sample and channel that is solved."""
    return numerator / torch.where(denominator == 0, 1, denominator)
