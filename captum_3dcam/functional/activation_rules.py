"""Layer rules from a layer's activation alone, or from principal directions: (N, C, *S_k).

The maps of activations do not depend on a class. Each rule returns one factor (N, 1, *S_k).
"""

import torch
from torch import Tensor

from captum_3dcam.functional._inputs import check_features, check_pair
from captum_3dcam.functional.maps import Factors
from captum_3dcam.functional.sums import largest_magnitude, spatial_axes, weighted_sum, widen

_MAX_DECOMPOSED = 256  # positions; of more, only the component that is needed is computed
_MAX_KERNEL_POSITIONS = 8192  # the kernel matrix of KPCA-CAM is then 512 MiB


def eigen_cam(activation: Tensor) -> Factors:
    """Eigen-CAM (Muhammad, Yeasin, 2020, arXiv 2008.00299): the first principal component.

    relu of Σ_c v_c (A_c − Ā_c), with Ā the mean over positions and v the direction of largest
    variance of the positions' C channels. The sign, which a principal component leaves open, is the
    one that makes its entry of largest magnitude positive.

    >>> ramp = torch.tensor([[[0.0, 1.0, 5.0], [0.0, 2.0, 10.0]]])
    >>> (component,) = eigen_cam(ramp)
    >>> component / component.amax()
    tensor([[[0., 0., 1.]]])
    """
    return (_first_component(check_features("activation", activation)),)


def eigen_grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """Eigen-CAM of gradient times activation, G ⊙ A, which depends on the class."""
    check_pair(activation, gradient)
    return (_first_component(widen(gradient) * widen(activation)),)


def kpca_cam(activation: Tensor) -> Factors:
    """KPCA-CAM (Karmani et al., 2024, arXiv 2410.00267): the first kernel principal component.

    As :func:`eigen_cam`, with the kernel tanh(x · y / C + 1) of the centred positions x, y.
    Raises ValueError for more than 8192 positions, whose kernel matrix would be too large.

    >>> kpca_cam(torch.rand(1, 8, 4, 4))[0].shape
    torch.Size([1, 1, 4, 4])
    """
    x = _centred(check_features("activation", activation))
    positions, channels = x.shape[1:]
    if positions > _MAX_KERNEL_POSITIONS:
        raise ValueError(
            f"kpca_cam compares all positions of a layer with each other, at most "
            f"{_MAX_KERNEL_POSITIONS}; the activation of shape {tuple(activation.shape)} has "
            f"{positions}. Choose a deeper layer, or Eigen-CAM."
        )
    kernel = (x @ x.mT / channels + 1).tanh()
    mean = kernel.mean(dim=1, keepdim=True)
    # The mean over rows of a symmetric matrix is that over columns, transposed.
    centred = kernel - mean - mean.mT + mean.mean(dim=2, keepdim=True)
    largest, vectors = _largest_eigenpairs(centred)
    # Of positions that are all alike, rounding is all that is left of the kernel.
    is_noise = largest <= 32 * torch.finfo(x.dtype).eps * positions
    component = vectors * largest.masked_fill(is_noise, 0).sqrt()
    return (_as_map(component, activation),)


def fem(activation: Tensor) -> Factors:
    """FEM (Fuad et al., 2020, doi 10.1109/IPTA50016.2020.9286629): relu Σ_c w_c A_c.

    w_c is the share of positions where A_c exceeds its mean by two standard deviations.

    >>> fem(torch.tensor([[[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 0.0]]]))[0]
    tensor([[[0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.7500, 0.0000]]])
    """
    x = widen(check_features("activation", activation))
    axes = spatial_axes(x)
    deviation, mean = torch.std_mean(x, dim=axes, correction=0, keepdim=True)
    weights = (x > mean + 2 * deviation).to(x.dtype).mean(dim=axes, keepdim=True)
    return (weighted_sum(x, weights),)


def _centred(x: Tensor) -> Tensor:
    """The positions and their channels, less the mean over positions: (N, S, C), in float64."""
    rows = x.double().flatten(2).mT.nan_to_num(0, 0, 0)  # a decomposition refuses others
    centred = rows - rows.mean(dim=1, keepdim=True)
    # Of activations without differences, rounding is all that is left.
    rounding = 32 * torch.finfo(x.dtype).eps * largest_magnitude(rows)
    return centred.masked_fill(largest_magnitude(centred) <= rounding, 0)


def _first_component(x: Tensor) -> Tensor:
    rows = _centred(x)
    positions, channels = rows.shape[1:]
    if channels <= positions:
        direction = torch.linalg.eigh(rows.mT @ rows)[1][..., -1:]
        component = (rows @ direction)[..., 0]
    else:
        values, vectors = torch.linalg.eigh(rows @ rows.mT)
        component = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    return _as_map(component, x)


def _largest_eigenpairs(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Of symmetric matrices (N, S, S) the largest eigenvalues (N, 1) and their vectors (N, S)."""
    if matrices.shape[-1] <= _MAX_DECOMPOSED:
        values, vectors = torch.linalg.eigh(matrices)
        return values[:, -1:], vectors[..., -1]
    from scipy.sparse.linalg import eigsh

    # Not constant, as the vectors of a centred matrix have a mean of zero.
    start = torch.linspace(-1, 1, matrices.shape[-1], dtype=torch.float64).square().numpy()
    pairs = [eigsh(matrix.cpu().numpy(), k=1, which="LA", v0=start) for matrix in matrices]
    values, vectors = (
        torch.stack([torch.as_tensor(p) for p in part]) for part in zip(*pairs, strict=True)
    )
    return values.to(matrices), vectors[..., 0].to(matrices)


def _as_map(component: Tensor, like: Tensor) -> Tensor:
    """(N, S) -> the positive part (N, 1, *S), with the largest magnitude positive."""
    largest = component.take_along_dim(component.abs().argmax(dim=1, keepdim=True), dim=1)
    positive = (component * largest.sign()).relu().to(widen(like[:0]).dtype)
    is_finite = like.flatten(1).isfinite().all(dim=1, keepdim=True)
    positive = positive.masked_fill(~is_finite, torch.nan)
    return positive.reshape(len(like), 1, *like.shape[2:])
