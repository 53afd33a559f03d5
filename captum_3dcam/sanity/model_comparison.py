"""Data randomisation test: do the maps of two models differ?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_3dcam._inputs import Inputs
from captum_3dcam.sanity._seeded_request import SeededRequest, copy_model, explicit_target
from captum_3dcam.sanity.comparison import MapComparison


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Similarity of two models' maps: a tensor (N,) for each metric; and the explained target."""

    similarities: dict[str, Tensor]
    target: Any


def compare_models(
    make_attribution: Callable[[nn.Module], Any],
    model: nn.Module,
    other_model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    *,
    comparison: MapComparison | None = None,
) -> ModelComparison:
    """Compare the maps of two models for the same inputs and target.

    With ``other_model`` trained on randomly permuted labels this is the data randomisation test
    (Adebayo et al., 2018, arXiv 1810.03292): similar maps do not show what relates the inputs to
    their labels. ``target=None`` takes the classes that ``model`` predicts.

    The other arguments and errors are those of :func:`parameter_randomization`. The maps are
    computed on copies, so neither model changes.

    >>> import torch
    >>> from captum.attr import InputXGradient
    >>> nets = [nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(24, 3)) for _ in "ab"]
    >>> result = compare_models(InputXGradient, *nets, torch.rand(2, 1, 8))
    >>> result.similarities["rank_correlation"].shape
    torch.Size([2])
    """
    request = SeededRequest.from_inputs(inputs, comparison)
    copies = [copy_model(each) for each in (model, other_model)]
    request.target = explicit_target(request.output_of(copies[0]), target)
    first, second = (
        request.map_on_copy(make_attribution, copy, original)
        for copy, original in zip(copies, (model, other_model), strict=True)
    )
    return ModelComparison(request.comparison.compare(first, second), request.target)
