"""The published class activation maps of one gradient, per layer."""

from typing import Any

from captum_3dcam import functional
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.recording import Recording
from captum_3dcam._capture.reduction import Parts, Reduction
from captum_3dcam._layerwise_cam import Geometry, LayerwiseCAM


class LayerwiseGradCAM(LayerwiseCAM):
    """Grad-CAM per layer, max-normalised and fused; with one layer, Captum's ``LayerGradCam``.

    norm(↑ relu Σ_c mean(G_c) A_c) (Selvaraju et al., 2017, arXiv 1610.02391).
    """

    rule = staticmethod(functional.grad_cam)

    @property
    def reduction(self) -> Reduction:
        return _reduction.whole_tensors(self.rule, _reduction.gradient_over_positions)


class LayerwiseGradCAMPlusPlus(LayerwiseCAM):
    """Grad-CAM++ per layer, max-normalised and fused.

    norm(↑ relu Σ_c w_c A_c), w_c = Σ_s relu(G_cs) / (2 + G_cs Σ A_c), for the score exp(y)
    (Chattopadhay et al., 2018, arXiv 1710.11063). It depends on the scale of the score.
    """

    rule = staticmethod(functional.grad_cam_plus_plus)


class LayerwiseLayerCAM(LayerwiseCAM):
    """LayerCAM per layer, norm(↑ relu Σ_c relu(G_c) A_c), fused (Jiang et al., 2021)."""

    rule = staticmethod(functional.layer_cam)


class LayerwiseHiResCAM(LayerwiseCAM):
    """HiResCAM per layer, norm(↑ relu Σ_c G_c A_c), fused (Draelos, Carin, 2020)."""

    rule = staticmethod(functional.hi_res_cam)

    @property
    def reduction(self) -> Reduction:
        return _reduction.whole_tensors(self.rule, _reduction.product_over_channels)


class LayerwiseXGradCAM(LayerwiseCAM):
    """XGrad-CAM per layer, max-normalised and fused.

    norm(↑ relu Σ_c w_c A_c), w_c = Σ_s G_cs A_cs / Σ_s A_cs (Fu et al., 2020, arXiv 2008.02312).
    """

    rule = staticmethod(functional.x_grad_cam)

    @property
    def reduction(self) -> Reduction:
        return _reduction.whole_tensors(self.rule, _reduction.product_over_positions)


class LayerwiseGradCAMElementWise(LayerwiseCAM):
    """Element-wise Grad-CAM per layer, norm(↑ Σ_c relu(G_c A_c)), fused."""

    rule = staticmethod(functional.element_wise_grad_cam)


class LayerwiseEigenGradCAM(LayerwiseCAM):
    """Eigen-CAM of G ⊙ A per layer, max-normalised and fused.

    norm(↑ relu of the first principal component over positions); see
    :func:`captum_3dcam.functional.eigen_cam` for its sign.
    """

    rule = staticmethod(functional.eigen_grad_cam)
    _is_differentiable = False


class LayerwiseShapleyCAM(LayerwiseCAM):
    """Shapley-CAM per layer, max-normalised and fused.

    norm(↑ relu Σ_c w_c A_c), w = mean(G − ½ H A), with the Hessian H of the score, by a second
    backward pass (Cai, 2025, arXiv 2501.06261). Of a network that is linear from the layer on
    except for ReLU and max-pooling, H is zero and the map that of :class:`LayerwiseGradCAM`.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.GELU(), nn.AvgPool3d(4), nn.Flatten())
    >>> LayerwiseShapleyCAM(model, "1").attribute(torch.rand(2, 1, 6, 6, 6), target=2).shape
    torch.Size([2, 1, 6, 6, 6])
    """

    rule = staticmethod(functional.grad_cam)

    @property
    def reduction(self) -> Reduction:
        def adjusted(activation: Parts, gradient: Parts) -> _reduction.LayerFactors:
            first, curvature = gradient
            half = (first - curvature / 2,)
            return _reduction.whole_tensors(self.rule).join(activation, half)

        return _reduction.whole_tensors(self.rule)._replace(join=adjusted, second_order=True)


class LayerwiseLeGrad(LayerwiseCAM):
    """LeGrad per layer of attention weights, norm(↑ mean over heads and queries of relu(G)), fused.

    The layers are those that return attention weights (N, heads, queries, keys), arranged by
    :func:`~captum_3dcam.attention_to_grid`; the gradient is that of the model's own score
    (Bousselham et al., 2024, arXiv 2404.03214, take a score of each block). timm's blocks have
    them at ``attn.attn_drop`` once ``attn.fused_attn = False``.

    >>> import torch
    >>> from torch import nn
    >>> from captum_3dcam import Layer, attention_to_grid
    >>> class Attention(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weights = nn.Softmax(dim=-1)
    ...     def forward(self, x):
    ...         tokens = x.flatten(2).mT
    ...         weights = self.weights((tokens @ tokens.mT)[:, None])
    ...         return (weights @ tokens[:, None])[:, 0].mean(dim=1)
    >>> layer = Layer("weights", reshape=attention_to_grid((4, 4)))
    >>> LayerwiseLeGrad(Attention(), layer).attribute(torch.rand(2, 3, 4, 4), target=1).shape
    torch.Size([2, 1, 4, 4])
    """

    rule = staticmethod(functional.le_grad)

    def _record(self, *call: Any, **options: Any) -> tuple[Recording, Geometry]:
        others = [layer.name for layer in self.layers if layer.reshape is None]
        if others or not self.layers:
            raise ValueError(
                "LayerwiseLeGrad explains attention weights (N, heads, queries, keys), whose keys "
                "reshape=attention_to_grid(...) lays on a grid; without it: "
                f"{', '.join(map(repr, others)) or 'layers=auto'}. See choose_a_method in the docs."
            )
        return super()._record(*call, **options)

    @property
    def reduction(self) -> Reduction:
        return _reduction.whole_tensors(self.rule)._replace(over_all_uses=True)
