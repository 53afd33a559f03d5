"""Maps of activations alone: no gradient, and no class."""

from captum_3dcam import functional
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.reduction import Reduction
from captum_3dcam._layerwise_cam import LayerwiseCAM


class _ActivationCAM(LayerwiseCAM):
    """Needs no backward pass, so the model need not be differentiable."""

    _of_class = False

    @property
    def reduction(self) -> Reduction:
        return _reduction.activations_alone(self.rule)


class LayerwiseEigenCAM(_ActivationCAM):
    """Eigen-CAM per layer, max-normalised and fused: the same map for every class.

    norm(↑ relu of the activation's first principal component over positions) (Muhammad, Yeasin,
    2020, arXiv 2008.00299); see :func:`captum_3dcam.functional.eigen_cam` for its sign.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> LayerwiseEigenCAM(model, "1").attribute(torch.rand(2, 1, 8, 8, 8)).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    rule = staticmethod(functional.eigen_cam)


class LayerwiseKPCACAM(_ActivationCAM):
    """KPCA-CAM per layer: Eigen-CAM by a kernel, tanh(x · y / C + 1) of centred positions.

    Max-normalised and fused (Karmani et al., 2024, arXiv 2410.00267). ValueError for a layer of
    more than 8192 positions.
    """

    rule = staticmethod(functional.kpca_cam)


class LayerwiseFEM(_ActivationCAM):
    """FEM per layer, norm(↑ relu Σ_c w_c A_c), fused: the same map for every class.

    w_c is the share of positions where A_c exceeds its mean by two standard deviations (Fuad et
    al., 2020, for 3D networks).
    """

    rule = staticmethod(functional.fem)
