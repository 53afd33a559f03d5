"""Sanity checks: does an attribution map depend on the model, its output and the class?

Parameters are randomised, important positions are deleted or inserted, and maps of other models
and labels are compared, per sample, over channels and all of space-time, in any number of axes.
Models are copied or restored; results are tensors on the CPU.
"""

from captum_3dcam.sanity.comparison import MapComparison
from captum_3dcam.sanity.labels import LabelSensitivity, label_sensitivity
from captum_3dcam.sanity.model_comparison import ModelComparison, compare_models
from captum_3dcam.sanity.perturbation import Perturbation, PerturbationCurve, perturbation_curve
from captum_3dcam.sanity.randomization import ParameterRandomization, parameter_randomization
from captum_3dcam.sanity.similarity import (
    SIMILARITIES,
    absolute_rank_correlation,
    normalized_structural_similarity,
    rank_correlation,
    structural_similarity,
)

__all__ = [
    "SIMILARITIES",
    "LabelSensitivity",
    "MapComparison",
    "ModelComparison",
    "ParameterRandomization",
    "Perturbation",
    "PerturbationCurve",
    "absolute_rank_correlation",
    "compare_models",
    "label_sensitivity",
    "normalized_structural_similarity",
    "parameter_randomization",
    "perturbation_curve",
    "rank_correlation",
    "structural_similarity",
]
