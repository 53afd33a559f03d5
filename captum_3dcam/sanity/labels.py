"""Does a map differ for another model, and for another class?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam._capture import Inputs
from captum_3dcam.sanity._seeded_request import (
    Question,
    check_scores,
    held_modules,
    kept_target,
    modules_of,
    randomness_kept,
    simplest_target,
    target_of_each,
    tracker,
)
from captum_3dcam.sanity.randomization import copy_of, trace
from captum_3dcam.sanity.similarity import SIMILARITIES, Metric, compare, stack_steps


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """How alike the maps of two models are: a tensor (N,) for each metric, and the target."""

    similarities: dict[str, Tensor]
    target: Any


def compare_models(
    make_attribution: Callable[[nn.Module], Any],
    model: nn.Module,
    other_model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    *,
    additional_forward_args: Any = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] = SIMILARITIES,
    seed: int = 0,
) -> ModelComparison:
    """Compare the maps of two models for the same inputs and the same target.

    With ``other_model`` trained on randomly permuted labels this is the data randomisation test
    (Adebayo et al., 2018, arXiv 1810.03292): maps that are alike do not show what
    relates the inputs to their labels. ``target=None`` takes the classes that ``model`` gives.

    The arguments are those of :func:`parameter_randomization`, and so is what it raises. The
    maps are made on copies, so both models stay as they are.

    >>> from captum.attr import InputXGradient
    >>> nets = [nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(24, 3)) for _ in "ab"]
    >>> result = compare_models(InputXGradient, *nets, torch.rand(2, 1, 8))
    >>> result.similarities["rank_correlation"].shape
    torch.Size([2])
    """
    with randomness_kept([*modules_of(model), *modules_of(other_model)]):
        question = Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        subject = copy_of(model)
        question.target = kept_target(trace(subject, question)[0], target)
        first = question.map_of(make_attribution, subject, model)
        second = question.map_of(make_attribution, copy_of(other_model), other_model)
    return ModelComparison(compare(metrics, first, second), question.target)


@dataclass(frozen=True, eq=False)
class LabelSensitivity:
    """How alike the maps of a target and of other labels are.

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
    additional_forward_args: Any = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] = SIMILARITIES,
    seed: int = 0,
    progress: bool = False,
) -> LabelSensitivity:
    """Compare the map of the target with the maps of random other labels: 1 is class-agnostic.

    Args:
        attribution: a Captum attribution, or a function of (inputs, target=...).
        target: in any of Captum's forms; None takes each sample's highest class.
        other_targets: how many other classes to draw for each sample, all different; or a
            sequence of targets, each in one of Captum's forms.
        seed: of the draw, and of random numbers in the attribution, the same for every label.

    The other arguments are those of :func:`parameter_randomization`.

    Raises:
        ValueError: for maps that do not fit, too few classes to draw from, or a plain function
            without the targets, since only a Captum attribution says what its model is.

    >>> from captum.attr import Saliency
    >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    >>> result = label_sensitivity(Saliency(model), torch.rand(2, 1, 8), target=[0, 3])
    >>> result.similarities["ssim"].shape
    torch.Size([3, 2])
    """
    track = tracker(progress, "other labels")
    modules = held_modules(attribution)
    with randomness_kept(modules):
        question = Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        if target is None or isinstance(other_targets, int):
            output = _output_of(attribution, question, modules)
            target = kept_target(output, target)
            if isinstance(other_targets, int):
                other_targets = _other_classes(output, target, other_targets, seed)
        question.target = target
        first = question.explain(attribution, modules)
        found = []
        for other in track(list(other_targets)):
            question.target = other
            found.append(compare(metrics, first, question.explain(attribution, modules)))
    if not found:
        raise ValueError("other_targets is empty. Give at least one label, or how many to draw.")
    return LabelSensitivity(stack_steps(found), target, tuple(other_targets))


def _output_of(attribution: Any, question: "Question", modules: Sequence[nn.Module]) -> Any:
    forward_func = getattr(attribution, "forward_func", None)
    if forward_func is None:
        raise ValueError(
            "A plain function does not say what its model is. Pass target and the sequence "
            "other_targets, or a Captum attribution."
        )
    with question.asked(modules) as inputs, torch.no_grad():
        return forward_func(*inputs, *question.arguments)


def _other_classes(output: Any, target: Any, number: int, seed: int) -> list[Any]:
    """``number`` targets, none of them the target, all different for each sample."""
    check_scores(output)
    labels = target_of_each(target, len(output))
    if output.ndim != 2 or not all(isinstance(label, int) for label in labels):
        raise ValueError(
            f"Labels can be drawn for scores (N, classes) and a class per sample; got an output "
            f"of shape {tuple(output.shape)} and target={target!r}. Pass other_targets as a "
            "sequence of targets."
        )
    classes = output.shape[1]
    if not 1 <= number < classes:
        raise ValueError(
            f"other_targets must be from 1 to the {classes - 1} other classes; got {number}."
        )
    generator = torch.Generator().manual_seed(seed)
    shifts = 1 + torch.randperm(classes - 1, generator=generator)[:number]
    return [
        simplest_target([(label + shift) % classes for label in labels])
        for shift in shifts.tolist()
    ]
