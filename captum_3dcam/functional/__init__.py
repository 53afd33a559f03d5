"""The tensor maths of class activation maps, for any number of spatial axes.

A *layer rule* takes a layer's activation A and gradient G, both (N, C, *S_k), and returns
its factors, each (N, 1, *S_k). A *layer map* is the product of the factors, each upsampled
and normalised; fusion joins the maps of several layers. Equation numbers are those of
Yudistira, Kavitha, Kurita (IJCV 2022, arXiv 2012.09542).
"""

from collections.abc import Callable

from torch import Tensor

from captum_3dcam.functional.activation_rules import eigen_cam, eigen_grad_cam, fem, kpca_cam
from captum_3dcam.functional.contrast import Rival, check_rival, contrast
from captum_3dcam.functional.extent import effect_for, extent
from captum_3dcam.functional.fusion import FUSIONS, Fusion, check_fusion, fuse
from captum_3dcam.functional.gradient_rules import (
    counterfactual,
    element_wise_grad_cam,
    global_local,
    grad_cam,
    grad_cam_plus_plus,
    hi_res_cam,
    layer_cam,
    le_grad,
    x_grad_cam,
)
from captum_3dcam.functional.maps import (
    INTERPOLATE_MODES,
    LINEAR_MODES,
    check_interpolation,
    layer_map,
    normalize,
    scale_channels,
    shared_layer_map,
    temporal_profile,
    upsample,
)
from captum_3dcam.functional.sums import channel_sum, rounding_noise
from captum_3dcam.functional.what_where import Effect, coarsest_grid, effect, what_where

Factors = tuple[Tensor, ...]
"""What a layer rule returns; the layer map is the product of their normalised upsamplings."""
LayerRule = Callable[..., Factors]
"""From a layer's activation, and gradient if the rule takes one, to its factors."""

__all__ = [
    "FUSIONS",
    "INTERPOLATE_MODES",
    "LINEAR_MODES",
    "Effect",
    "Factors",
    "Fusion",
    "LayerRule",
    "Rival",
    "channel_sum",
    "check_fusion",
    "check_interpolation",
    "check_rival",
    "coarsest_grid",
    "contrast",
    "counterfactual",
    "effect",
    "effect_for",
    "eigen_cam",
    "eigen_grad_cam",
    "element_wise_grad_cam",
    "extent",
    "fem",
    "fuse",
    "global_local",
    "grad_cam",
    "grad_cam_plus_plus",
    "hi_res_cam",
    "kpca_cam",
    "layer_cam",
    "layer_map",
    "le_grad",
    "normalize",
    "rounding_noise",
    "scale_channels",
    "shared_layer_map",
    "temporal_profile",
    "upsample",
    "what_where",
    "x_grad_cam",
]
