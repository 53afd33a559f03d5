"""Layer rules from a layer's activation and gradient: 3DCAM, its counterfactual, the baselines.

A rule takes the activation A and the gradient G of the score with respect to A, both
(N, C, *S_k), and returns the layer's factors, each (N, 1, *S_k).
"""

import torch
from torch import Tensor

from captum_3dcam.functional._inputs import check_pair
from captum_3dcam.functional.maps import Factors
from captum_3dcam.functional.sums import (
    channel_sum,
    spatial_axes,
    spatial_mean,
    weighted_sum,
    widen,
)


def global_local(activation: Tensor, gradient: Tensor) -> Factors:
    """3DCAM (eqs. 1-2): β = Σ_c G_c and α = Σ_c A_c, summed apart from each other."""
    check_pair(activation, gradient)
    return channel_sum(gradient), channel_sum(activation)


def counterfactual(activation: Tensor, gradient: Tensor) -> Factors:
    """Counterfactual 3DCAM (eq. 7): β̂ = −Σ_c G_c, and the same α."""
    check_pair(activation, gradient)
    return -channel_sum(gradient), channel_sum(activation)


def grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """Grad-CAM (Selvaraju et al., 2017, arXiv 1610.02391): relu Σ_c mean(G_c) A_c."""
    check_pair(activation, gradient)
    return (weighted_sum(activation, spatial_mean(gradient)),)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Factors:
    """Grad-CAM++ (Chattopadhay et al., 2018, arXiv 1710.11063), for the score exp(y).

    relu Σ_c w_c A_c with w_c = Σ_s relu(G_cs) / (2 + G_cs Σ_s' A_cs'). The paper's
    G² / (2 G² + G³ ΣA), as 1 / (2 / G + ΣA), so that neither small nor large gradients are lost;
    where a gradient is not positive or the denominator is zero, the weight is zero.
    """
    check_pair(activation, gradient)
    gradient, activation = widen(gradient), widen(activation)
    axes = spatial_axes(activation)
    is_positive = gradient > 0
    total = activation.sum(dim=axes, keepdim=True)
    denominator = 2 / torch.where(is_positive, gradient, 1) + total
    weights = is_positive / torch.where(denominator == 0, torch.inf, denominator)
    return (weighted_sum(activation, weights.sum(dim=axes, keepdim=True)),)


def x_grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """XGrad-CAM (Fu et al., 2020, arXiv 2008.02312): relu Σ_c w_c A_c.

    w_c = Σ_s G_cs A_cs / Σ_s A_cs; a channel whose activations sum to zero has no weight.
    """
    check_pair(activation, gradient)
    gradient, activation = widen(gradient), widen(activation)
    axes = spatial_axes(activation)
    total = activation.sum(dim=axes, keepdim=True)
    weights = (gradient * activation).sum(dim=axes, keepdim=True)
    return (weighted_sum(activation, weights / torch.where(total == 0, torch.inf, total)),)


def layer_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """LayerCAM (Jiang et al., 2021, doi 10.1109/TIP.2021.3089943): relu Σ_c relu(G_c) A_c."""
    check_pair(activation, gradient)
    return (weighted_sum(activation, gradient.relu()),)


def hi_res_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """HiResCAM (Draelos, Carin, 2020, arXiv 2011.08891): relu Σ_c G_c A_c."""
    check_pair(activation, gradient)
    return (weighted_sum(activation, gradient),)


def element_wise_grad_cam(activation: Tensor, gradient: Tensor) -> Factors:
    """Element-wise Grad-CAM, a name of pytorch-grad-cam: Σ_c relu(G_c A_c)."""
    check_pair(activation, gradient)
    return (channel_sum((widen(gradient) * widen(activation)).relu()),)


def le_grad(attention: Tensor, gradient: Tensor) -> Factors:
    """LeGrad (Bousselham et al., 2024, arXiv 2404.03214): the mean over channels of relu(G_c).

    The channels are pairs of a head and a query, the positions those of the keys, as
    :func:`~captum_3dcam.attention_to_grid` arranges a layer's attention weights.
    """
    check_pair(attention, gradient)
    return (widen(gradient).relu().mean(dim=1, keepdim=True),)
