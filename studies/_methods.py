"""The attribution methods that the studies compare, by the names in their tables."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from captum_3dcam import (
    CounterfactualCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
)
from captum_3dcam.attribution import LayerwiseCAM

Method = Callable[[nn.Module, Sequence[Any]], Any]
"""Makes an attribution from (network, layers)."""

METHODS: dict[str, type[LayerwiseCAM]] = {
    "GlobalLocal": LayerwiseGlobalLocalCAM,
    "GradCAM": LayerwiseGradCAM,
    "GradCAM++": LayerwiseGradCAMPlusPlus,
    "LayerCAM": LayerwiseLayerCAM,
    "HiResCAM": LayerwiseHiResCAM,
    "XGradCAM": LayerwiseXGradCAM,
    "Counterfactual": CounterfactualCAM,
    "WhatWhere": LayerwiseWhatWhereCAM,
}
WITHOUT_FUSION = {"WhatWhere"}
"""Those that combine layers in their own way and take no ``fusion``."""
