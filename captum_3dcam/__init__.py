"""Where, and when, a convolutional network looked: 3DCAM for Captum, in 1, 2 or 3 dimensions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_3dcam.attribution import (
        AugmentedCAM,
        CounterfactualCAM,
        CounterfactualCAM2D,
        CounterfactualCAM3D,
        ExtentCAM,
        FullGradCAM,
        GlobalLocalCAM2D,
        GlobalLocalCAM3D,
        GuidedCAM,
        LayerwiseAblationCAM,
        LayerwiseEigenCAM,
        LayerwiseEigenGradCAM,
        LayerwiseFEM,
        LayerwiseGlobalLocalCAM,
        LayerwiseGradCAM,
        LayerwiseGradCAMElementWise,
        LayerwiseGradCAMPlusPlus,
        LayerwiseHiResCAM,
        LayerwiseKPCACAM,
        LayerwiseLayerCAM,
        LayerwiseLeGrad,
        LayerwiseScoreCAM,
        LayerwiseShapleyCAM,
        LayerwiseWhatWhereCAM,
        LayerwiseXGradCAM,
        RivalCAM,
    )
    from captum_3dcam.explanation import Explanation, explain, explain_many
    from captum_3dcam.frame_times import FrameTimes
    from captum_3dcam.layer_survey import LayerInfo, suggest_layers, survey_layers
    from captum_3dcam.layers import Layer, attention_to_grid, frames_to_clip, tokens_to_grid
    from captum_3dcam.sliding import SlidingWindowCAM
    from captum_3dcam.targets import margin

__version__ = "0.1.0"

__all__ = [
    "AugmentedCAM",
    "CounterfactualCAM",
    "CounterfactualCAM2D",
    "CounterfactualCAM3D",
    "Explanation",
    "ExtentCAM",
    "FrameTimes",
    "FullGradCAM",
    "GlobalLocalCAM2D",
    "GlobalLocalCAM3D",
    "GuidedCAM",
    "Layer",
    "LayerInfo",
    "LayerwiseAblationCAM",
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
    "SlidingWindowCAM",
    "attention_to_grid",
    "explain",
    "explain_many",
    "frames_to_clip",
    "margin",
    "suggest_layers",
    "survey_layers",
    "tokens_to_grid",
]

# PyTorch and Captum take seconds to import: ``captum-3dcam --help`` needs neither.
_MODULES = {
    "AugmentedCAM": "attribution",
    "CounterfactualCAM": "attribution",
    "CounterfactualCAM2D": "attribution",
    "CounterfactualCAM3D": "attribution",
    "Explanation": "explanation",
    "ExtentCAM": "attribution",
    "FrameTimes": "frame_times",
    "FullGradCAM": "attribution",
    "GlobalLocalCAM2D": "attribution",
    "GlobalLocalCAM3D": "attribution",
    "GuidedCAM": "attribution",
    "Layer": "layers",
    "LayerInfo": "layer_survey",
    "LayerwiseAblationCAM": "attribution",
    "LayerwiseEigenCAM": "attribution",
    "LayerwiseEigenGradCAM": "attribution",
    "LayerwiseFEM": "attribution",
    "LayerwiseGlobalLocalCAM": "attribution",
    "LayerwiseGradCAM": "attribution",
    "LayerwiseGradCAMElementWise": "attribution",
    "LayerwiseGradCAMPlusPlus": "attribution",
    "LayerwiseHiResCAM": "attribution",
    "LayerwiseKPCACAM": "attribution",
    "LayerwiseLayerCAM": "attribution",
    "LayerwiseLeGrad": "attribution",
    "LayerwiseScoreCAM": "attribution",
    "LayerwiseShapleyCAM": "attribution",
    "LayerwiseWhatWhereCAM": "attribution",
    "LayerwiseXGradCAM": "attribution",
    "RivalCAM": "attribution",
    "SlidingWindowCAM": "sliding",
    "attention_to_grid": "layers",
    "explain": "explanation",
    "explain_many": "explanation",
    "frames_to_clip": "layers",
    "margin": "targets",
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
    "targets",
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
