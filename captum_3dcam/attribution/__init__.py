"""The Captum classes: 3DCAM over layers, its counterfactual, the what-where rule, the baselines.

Each class is one layer rule of :mod:`captum_3dcam.functional` over a list of layers.
"""

from captum_3dcam._layerwise_cam import LayerwiseCAM
from captum_3dcam.attribution.activation import LayerwiseEigenCAM, LayerwiseFEM, LayerwiseKPCACAM
from captum_3dcam.attribution.extent import ExtentCAM
from captum_3dcam.attribution.full_gradient import FullGradCAM
from captum_3dcam.attribution.gradient import (
    LayerwiseEigenGradCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMElementWise,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseLeGrad,
    LayerwiseShapleyCAM,
    LayerwiseXGradCAM,
)
from captum_3dcam.attribution.paper import (
    CounterfactualCAM,
    CounterfactualCAM2D,
    CounterfactualCAM3D,
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    LayerwiseGlobalLocalCAM,
)
from captum_3dcam.attribution.perturbation import LayerwiseAblationCAM, LayerwiseScoreCAM
from captum_3dcam.attribution.rival import RivalCAM
from captum_3dcam.attribution.what_where import LayerwiseWhatWhereCAM
from captum_3dcam.attribution.wrappers import AugmentedCAM, GuidedCAM

__all__ = [
    "METHODS",
    "AugmentedCAM",
    "CounterfactualCAM",
    "CounterfactualCAM2D",
    "CounterfactualCAM3D",
    "ExtentCAM",
    "FullGradCAM",
    "GlobalLocalCAM2D",
    "GlobalLocalCAM3D",
    "GuidedCAM",
    "LayerwiseAblationCAM",
    "LayerwiseCAM",
    "LayerwiseEigenCAM",
    "LayerwiseEigenGradCAM",
    "LayerwiseFEM",
    "LayerwiseGlobalLocalCAM",
    "LayerwiseGradCAM",
    "LayerwiseGradCAMElementWise",
    "LayerwiseGradCAMPlusPlus",
    "LayerwiseHiResCAM",
    "LayerwiseKPCACAM",
    "LayerwiseLayerCAM",
    "LayerwiseLeGrad",
    "LayerwiseScoreCAM",
    "LayerwiseShapleyCAM",
    "LayerwiseWhatWhereCAM",
    "LayerwiseXGradCAM",
    "RivalCAM",
]

METHODS: dict[str, type[LayerwiseCAM]] = {
    "WhatWhere": LayerwiseWhatWhereCAM,
    "GlobalLocal": LayerwiseGlobalLocalCAM,
    "Counterfactual": CounterfactualCAM,
    "GradCAM": LayerwiseGradCAM,
    "GradCAM++": LayerwiseGradCAMPlusPlus,
    "LayerCAM": LayerwiseLayerCAM,
    "HiResCAM": LayerwiseHiResCAM,
    "XGradCAM": LayerwiseXGradCAM,
    "GradCAMElementWise": LayerwiseGradCAMElementWise,
    "EigenCAM": LayerwiseEigenCAM,
    "EigenGradCAM": LayerwiseEigenGradCAM,
    "KPCACAM": LayerwiseKPCACAM,
    "FEM": LayerwiseFEM,
    "ScoreCAM": LayerwiseScoreCAM,
    "AblationCAM": LayerwiseAblationCAM,
    "ShapleyCAM": LayerwiseShapleyCAM,
    "Extent": ExtentCAM,
    "Rival": RivalCAM,
}
"""The classes by the short names of ``explain`` and the command line."""
