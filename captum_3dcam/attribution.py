"""The Captum classes: 3DCAM over layers, its counterfactual, the what-where rule, the baselines.

Each class is one layer rule of :mod:`captum_3dcam.functional` over a list of layers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import Tensor

from captum_3dcam import functional
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.recording import Recording
from captum_3dcam._capture.reduction import Reduction
from captum_3dcam._layerwise_cam import Geometry, LayerSpec, LayerwiseCAM
from captum_3dcam._passes import Factors

__all__ = [
    "METHODS",
    "CounterfactualCAM",
    "CounterfactualCAM2D",
    "CounterfactualCAM3D",
    "GlobalLocalCAM2D",
    "GlobalLocalCAM3D",
    "LayerwiseCAM",
    "LayerwiseGlobalLocalCAM",
    "LayerwiseGradCAM",
    "LayerwiseGradCAMPlusPlus",
    "LayerwiseHiResCAM",
    "LayerwiseLayerCAM",
    "LayerwiseWhatWhereCAM",
    "LayerwiseXGradCAM",
]


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


class LayerwiseWhatWhereCAM(LayerwiseCAM):
    """What x where: this package's own map, which is neither 3DCAM nor from its paper.

    Per layer, R = G ⊙ (A − Ā) is the first-order effect on the score of setting a position to the
    layer's mean over positions. Over K layers,

        what = 1/K Σ_k norm(↑ pool Σ_c R_c),  where = (Π_k norm(↑ mean_3 Σ_c R_c²))^(1/K),

    with every layer's net effect pooled to the coarsest grid of them all, and the map is what ·
    where, in [0, 1]. Any number of spatial axes; one backward pass; no parameters. The fused map
    is not a function of the layer maps that ``per_layer=True`` returns, so there is no ``fusion``.

    A layer with a single position equals its own mean, and contributes nothing.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    >>> clip = torch.rand(2, 3, 4, 8, 8)
    >>> _ = model(clip)
    >>> LayerwiseWhatWhereCAM(model, ["0", "1"]).attribute(clip).shape
    torch.Size([2, 1, 4, 8, 8])
    """

    rule = staticmethod(functional.effect)

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layers: LayerSpec | Sequence[LayerSpec] | Literal["auto"],
        device_ids: list[int] | None = None,
        *,
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """As :class:`LayerwiseGlobalLocalCAM`, without ``fusion``."""
        super().__init__(
            forward_func,
            layers,
            device_ids,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
            output=output,
            input_layout=input_layout,
        )

    def _fused(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        device = recording.inputs[0].device
        for calls, of_layer in zip(recording.layers, factors, strict=True):
            if len(of_layer) > 1:
                raise ValueError(
                    f"LayerwiseWhatWhereCAM joins layers that ran once; Layer {calls.layer.name!r} "
                    f"is explained in {len(of_layer)} calls. Choose calls='stack', 'last' or one."
                )
        effects = [
            functional.Effect(*(part.to(device) for part in call.factors)) for (call,) in factors
        ]
        yield functional.what_where(
            effects, geometry.size, self.interpolate_mode, self.align_corners
        )


METHODS: dict[str, type[LayerwiseCAM]] = {
    "WhatWhere": LayerwiseWhatWhereCAM,
    "GlobalLocal": LayerwiseGlobalLocalCAM,
    "Counterfactual": CounterfactualCAM,
    "GradCAM": LayerwiseGradCAM,
    "GradCAM++": LayerwiseGradCAMPlusPlus,
    "LayerCAM": LayerwiseLayerCAM,
    "HiResCAM": LayerwiseHiResCAM,
    "XGradCAM": LayerwiseXGradCAM,
}
"""The classes by the short names of ``explain`` and the command line."""
