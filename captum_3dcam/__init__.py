"""Where, and when, a convolutional network looked: 3DCAM for Captum, in 1, 2 or 3 dimensions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_3dcam.attribution import (
    CounterfactualCAM,
    CounterfactualCAM2D,
    CounterfactualCAM3D,
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.layer_survey import LayerInfo, suggest_layers, survey_layers
from captum_3dcam.layers import Layer, frames_to_clip, tokens_to_grid
from captum_3dcam.sliding import SlidingWindowCAM

if TYPE_CHECKING:
    from captum_3dcam.explanation import Explanation, explain

__version__ = "0.1.0"

__all__ = [
    "CounterfactualCAM",
    "CounterfactualCAM2D",
    "CounterfactualCAM3D",
    "Explanation",
    "FrameTimes",
    "GlobalLocalCAM2D",
    "GlobalLocalCAM3D",
    "Layer",
    "LayerInfo",
    "LayerwiseGlobalLocalCAM",
    "LayerwiseGradCAM",
    "LayerwiseGradCAMPlusPlus",
    "LayerwiseHiResCAM",
    "LayerwiseLayerCAM",
    "LayerwiseWhatWhereCAM",
    "LayerwiseXGradCAM",
    "SlidingWindowCAM",
    "explain",
    "frames_to_clip",
    "suggest_layers",
    "survey_layers",
    "tokens_to_grid",
]


def __getattr__(name: str) -> Any:
    """Import ``explain`` and ``Explanation`` when they are first used: readers and figures too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("captum_3dcam.explanation"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
