"""Is the explanation about the model? Randomised parameters, deletion and insertion, other labels.

Maps are compared per sample, over channels and all of space-time, in any number of axes. What
is randomised is a copy of the model; results are tensors on the CPU.
"""

from captum_3dcam.sanity.labels import (
    LabelSensitivity,
    ModelComparison,
    compare_models,
    label_sensitivity,
)
from captum_3dcam.sanity.perturbation import PerturbationCurve, perturbation_curve
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
    "ModelComparison",
    "ParameterRandomization",
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
