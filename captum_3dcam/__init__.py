"""Where, and when, a convolutional network looked: 3DCAM for Captum, in 1, 2 or 3 dimensions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from captum_3dcam.explanation import Explanation, explain, explain_many
    from captum_3dcam.frame_times import FrameTimes
    from captum_3dcam.layer_survey import LayerInfo, suggest_layers, survey_layers
    from captum_3dcam.layers import Layer, frames_to_clip, tokens_to_grid
    from captum_3dcam.sliding import SlidingWindowCAM

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
    "explain_many",
    "frames_to_clip",
    "suggest_layers",
    "survey_layers",
    "tokens_to_grid",
]

# PyTorch and Captum take seconds to import: ``captum-3dcam --help`` needs neither.
_MODULES = {
    "CounterfactualCAM": "attribution",
    "CounterfactualCAM2D": "attribution",
    "CounterfactualCAM3D": "attribution",
    "Explanation": "explanation",
    "FrameTimes": "frame_times",
    "GlobalLocalCAM2D": "attribution",
    "GlobalLocalCAM3D": "attribution",
    "Layer": "layers",
    "LayerInfo": "layer_survey",
    "LayerwiseGlobalLocalCAM": "attribution",
    "LayerwiseGradCAM": "attribution",
    "LayerwiseGradCAMPlusPlus": "attribution",
    "LayerwiseHiResCAM": "attribution",
    "LayerwiseLayerCAM": "attribution",
    "LayerwiseWhatWhereCAM": "attribution",
    "LayerwiseXGradCAM": "attribution",
    "SlidingWindowCAM": "sliding",
    "explain": "explanation",
    "explain_many": "explanation",
    "frames_to_clip": "layers",
    "suggest_layers": "layer_survey",
    "survey_layers": "layer_survey",
    "tokens_to_grid": "layers",
}
_SUBMODULES = (
    "attribution",
    "datasets",
    "evaluation",
    "explanation",
    "functional",
    "io",
    "localization",
    "metrics",
    "models",
    "sanity",
    "visualization",
)


def __getattr__(name: str) -> Any:
    """Import a public class, function or submodule when it is first used, with what it needs."""
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
