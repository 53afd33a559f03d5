"""3DCAM over layers, and its counterfactual (Yudistira, Kavitha, Kurita, IJCV 2022)."""

from captum_3dcam import functional
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.reduction import Reduction
from captum_3dcam._layerwise_cam import LayerwiseCAM


class _ChannelSumCAM(LayerwiseCAM):
    """The rules that sum channels apart from each other: no more than the sums is ever held."""

    @property
    def reduction(self) -> Reduction:
        return _reduction.channel_sums(self.rule)


class LayerwiseGlobalLocalCAM(_ChannelSumCAM):
    """3DCAM and Sum3DCAM: where, and when, the network looked to give a score.

    Per layer, 3DCAM_k = norm(↑β) · norm(↑α) with β = Σ_c ∂y/∂A_c, α = Σ_c A_c and norm(x) =
    relu(x) / max relu(x); over the layers, Sum3DCAM = Σ_k 3DCAM_k, in [0, K] (Yudistira,
    Kavitha, Kurita, IJCV 2022, arXiv 2012.09542, eqs. 1-6). Any number of spatial axes.

    The class enters where the gradient varies over space. Under global average pooling and a
    linear head it is constant at the last layer, whose map is then the same for every class
    with a positive sum of weights: choose layers before it.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    >>> clip = torch.rand(2, 3, 4, 8, 8)
    >>> _ = model(clip)
    >>> LayerwiseGlobalLocalCAM(model, layers=["0", model[1]]).attribute(clip).shape
    torch.Size([2, 1, 4, 8, 8])
    """

    rule = staticmethod(functional.global_local)


class GlobalLocalCAM2D(LayerwiseGlobalLocalCAM):
    """:class:`LayerwiseGlobalLocalCAM` for images (N, C, H, W); ValueError for another rank."""

    rank = 2


class GlobalLocalCAM3D(LayerwiseGlobalLocalCAM):
    """:class:`LayerwiseGlobalLocalCAM` for clips (N, C, T, H, W) and volumes (N, C, D, H, W).

    Raises ValueError for an input of another rank.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> GlobalLocalCAM3D(model, "1").attribute(torch.rand(1, 1, 8, 8, 8)).shape
    torch.Size([1, 1, 8, 8, 8])
    """

    rank = 3


class CounterfactualCAM(_ChannelSumCAM):
    """Where, and when, the network saw evidence against a score.

    3DCAM with the gradient negated, β̂ = −β, renormalised by its own maximum, and the same α
    (Yudistira, Kavitha, Kurita, IJCV 2022, eq. 7). Layer by layer its support is disjoint from
    that of :class:`LayerwiseGlobalLocalCAM`. In [0, K]; any number of spatial axes.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten())
    >>> CounterfactualCAM(model, "0").attribute(torch.rand(1, 3, 8, 8), target=2).shape
    torch.Size([1, 1, 8, 8])
    """

    rule = staticmethod(functional.counterfactual)
    _evidence = "against"


class CounterfactualCAM2D(CounterfactualCAM):
    """:class:`CounterfactualCAM` for images (N, C, H, W); ValueError for another rank."""

    rank = 2


class CounterfactualCAM3D(CounterfactualCAM):
    """:class:`CounterfactualCAM` for clips and volumes; ValueError for another rank."""

    rank = 3
