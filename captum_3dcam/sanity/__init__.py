"""Sanity checks: does an attribution map depend on the model, its output and the class?

Parameters are randomised, important positions are deleted, inserted, or removed and imputed, and
maps of other models and labels are compared, per sample, over channels and all of space-time, in
any number of axes. Models are copied or restored; results are tensors on the CPU.
"""

from captum_3dcam.sanity.adcc import ADCCScores, adcc
from captum_3dcam.sanity.comparison import MapComparison
from captum_3dcam.sanity.confidence import ConfidenceChange, confidence_change, mask_inputs
from captum_3dcam.sanity.imputation import impute
from captum_3dcam.sanity.labels import LabelSensitivity, label_sensitivity
from captum_3dcam.sanity.model_comparison import ModelComparison, compare_models
from captum_3dcam.sanity.perturbation import Perturbation, PerturbationCurve, perturbation_curve
from captum_3dcam.sanity.randomization import ParameterRandomization, parameter_randomization
from captum_3dcam.sanity.road import Removal, RoadScores, road
from captum_3dcam.sanity.similarity import (
    SIMILARITIES,
    absolute_rank_correlation,
    normalized_structural_similarity,
    rank_correlation,
    structural_similarity,
)

__all__ = [
    "SIMILARITIES",
    "ADCCScores",
    "ConfidenceChange",
    "LabelSensitivity",
    "MapComparison",
    "ModelComparison",
    "ParameterRandomization",
    "Perturbation",
    "PerturbationCurve",
    "Removal",
    "RoadScores",
    "absolute_rank_correlation",
    "adcc",
    "compare_models",
    "confidence_change",
    "impute",
    "label_sensitivity",
    "mask_inputs",
    "normalized_structural_similarity",
    "parameter_randomization",
    "perturbation_curve",
    "rank_correlation",
    "road",
    "structural_similarity",
]
