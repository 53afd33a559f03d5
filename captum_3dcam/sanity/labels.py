"""Label sensitivity: do the maps of different classes differ?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_3dcam._inputs import Inputs
from captum_3dcam._targets import per_sample_targets, simplest_target
from captum_3dcam.sanity._seeded_request import (
    SeededRequest,
    explicit_target,
    scores_in,
    stack_steps,
)
from captum_3dcam.sanity.comparison import MapComparison


@dataclass(frozen=True, eq=False)
class LabelSensitivity:
    """Similarity of the target's map to the maps of other targets.

    ``similarities`` has a tensor (K, N) for each metric, one row for each of ``other_targets``.
    """

    similarities: dict[str, Tensor]
    target: Any
    other_targets: tuple[Any, ...]


def label_sensitivity(
    attribution: Any,
    inputs: Inputs,
    target: Any = None,
    other_targets: int | Sequence[Any] = 3,
    *,
    comparison: MapComparison | None = None,
    progress: bool = False,
) -> LabelSensitivity:
    """Compare the map of the target with the maps of other targets; 1 means class-agnostic.

    Args:
        attribution: a Captum attribution, or a function of (inputs, target=...).
        inputs: a tensor (N, ...) or a tuple of them.
        target: in any of Captum's forms; None takes the predicted class of each sample.
        other_targets: a sequence of targets, each in one of Captum's forms; or how many other
            classes to draw for each sample, all different.
        comparison: the metrics, the seed, and further arguments of the attribution.
        progress: show a progress bar.

    Raises TypeError or ValueError for maps that are not valid, for more classes to draw than
    there are, and for targets to be predicted or drawn with a plain function, whose model is not
    known.

    >>> from captum.attr import Saliency
    >>> nn = torch.nn
    >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    >>> result = label_sensitivity(Saliency(model), torch.rand(2, 1, 8), target=[0, 3])
    >>> result.similarities["ssim"].shape
    torch.Size([3, 2])
    """
    request = SeededRequest.from_inputs(inputs, comparison)
    model = getattr(attribution, "forward_func", None)
    if target is None or isinstance(other_targets, int):
        if model is None:
            raise ValueError(
                "The model of a plain function is not known. Pass target and a sequence of "
                "other_targets, or a Captum attribution."
            )
        output = request.output_of(model)
        target = explicit_target(output, target)
        if isinstance(other_targets, int):
            seed = request.comparison.seed
            other_targets = _other_classes(scores_in(output), target, other_targets, seed)
    others = list(other_targets)
    if not others:
        raise ValueError("other_targets is empty. Pass at least one target, or how many to draw.")
    request.target = target
    first = request.map_of(attribution, model)
    similarities = []
    for other in tqdm(others, desc="other targets", disable=not progress):
        request.target = other
        similarities.append(request.comparison.compare(first, request.map_of(attribution, model)))
    return LabelSensitivity(stack_steps(similarities), target, tuple(others))


def _other_classes(output: Tensor, target: Any, number: int, seed: int) -> list[Any]:
    """``number`` targets, none of them the target, all different for each sample."""
    labels = per_sample_targets(target, len(output))
    if output.ndim != 2 or not all(isinstance(label, int) for label in labels):
        raise ValueError(
            "Classes can be drawn for scores (N, classes) and an int target per sample; got an "
            f"output of shape {tuple(output.shape)} and target={target!r}. Pass other_targets as "
            "a sequence of targets."
        )
    classes = output.shape[1]
    if not 1 <= number < classes:
        raise ValueError(
            f"other_targets={number}: expected from 1 to {classes - 1}, the number of other "
            "classes."
        )
    generator = torch.Generator().manual_seed(seed)
    shifts = 1 + torch.randperm(classes - 1, generator=generator)[:number]
    return [
        simplest_target([(label + shift) % classes for label in labels])
        for shift in shifts.tolist()
    ]
