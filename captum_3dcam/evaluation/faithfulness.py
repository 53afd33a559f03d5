"""Faithfulness of maps: scores of the model as the input is changed where a map says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_3dcam._digest import digest
from captum_3dcam._validation import check_choice, check_integer, check_sequence
from captum_3dcam.evaluation._types import Array, Attribution
from captum_3dcam.sanity import (
    ADCCScores,
    ConfidenceChange,
    Perturbation,
    confidence_change,
    mask_inputs,
    perturbation_curve,
    road,
)


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Which scores of faithfulness :func:`evaluate` adds, and how they are computed.

    Args:
        scores: names of :data:`FAITHFULNESS`.
        steps: of deletion and insertion, at most one for each position.
        output: what the score is: "probability", the softmax over classes; "score", the model's
            output; or a function of the output, e.g. ``torch.sigmoid`` for one logit.
        batch_size: the maximum number of inputs per forward pass.
        forward_func: the model of the attributions that have no ``forward_func`` themselves.

    Raises ValueError for other names, and for numbers below 1.

    >>> Faithfulness(("deletion", "road"), steps=20).scores
    ('deletion', 'road')
    """

    scores: Sequence[str] = ()
    steps: int = 50
    output: str | Callable[[Tensor], Tensor] = "probability"
    batch_size: int = 16
    forward_func: Callable[..., Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        names = check_sequence("faithfulness", self.scores, of="names")
        for name in names:
            check_choice("faithfulness", name, FAITHFULNESS)
        object.__setattr__(self, "scores", tuple(dict.fromkeys(names)))
        check_integer("steps", self.steps)
        check_integer("batch_size", self.batch_size)

    def models(self, attributions: Mapping[str, Attribution]) -> list[Callable[..., Any]]:
        """The distinct models of the attributions, on which baselines are scored.

        Raises ValueError for an attribution whose model is not known, and without any model.
        """
        if not self.scores:
            return []
        models = {name: self.model_of(each) for name, each in attributions.items()}
        models = models or {"chance": self.forward_func}
        for name, model in models.items():
            if model is None:
                raise ValueError(
                    f"Faithfulness needs the model, and {name!r} has no forward_func. Pass "
                    "faithfulness=Faithfulness(scores, forward_func=model)."
                )
        return list({id(model): model for model in models.values()}.values())

    def model_of(self, attribution: Attribution) -> Any:
        """The attribution's model, else the one given for all."""
        return getattr(attribution, "forward_func", None) or self.forward_func

    def measure(
        self, attribution: Attribution, inputs: Tensor, target: Any, heatmap: Tensor
    ) -> Array:
        """The scores of the attribution's map (1, 1, *S) of inputs (1, C, *S), in their order."""
        model = self.model_of(attribution)
        explained = _Explained(self, attribution, inputs, target, heatmap, model)
        values = [_MEASURES[name](explained) for name in self.scores]
        return np.array([float(value) for value in values], dtype=np.float64)

    def describe(self) -> dict[str, Any] | None:
        """What the scores depend on, as JSON; None without scores."""
        if not self.scores:
            return None
        model = self.forward_func
        return {
            "scores": list(self.scores),
            "steps": self.steps,
            "output": getattr(self.output, "__qualname__", str(self.output)),
            "model": digest(model.state_dict().values()) if isinstance(model, nn.Module) else None,
        }


@dataclass(eq=False)
class _Explained:
    """One map of one sample, and what several scores are computed from."""

    options: Faithfulness
    attribution: Attribution
    inputs: Tensor
    target: Any
    heatmap: Tensor
    model: Callable[..., Any]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.model, self.inputs, self.heatmap, self.target

    @property
    def keywords(self) -> dict[str, Any]:
        return {"output": self.options.output, "batch_size": self.options.batch_size}

    def auc(self, mode: str) -> Tensor:
        perturbation = Perturbation(
            mode, steps=min(self.options.steps, prod(self.inputs.shape[2:]))
        )
        arguments = (*self.arguments, perturbation)
        return perturbation_curve(*arguments, **self.keywords).auc

    @cached_property
    def change(self) -> ConfidenceChange:
        return confidence_change(*self.arguments, **self.keywords)

    @cached_property
    def adcc(self) -> ADCCScores:
        masked = mask_inputs(self.inputs, self.heatmap)
        again = self.attribution.attribute(masked, target=self.target)
        return ADCCScores.from_maps(self.heatmap, again, self.change.drop)


_MEASURES: Mapping[str, Callable[[_Explained], Tensor]] = {
    "deletion": lambda explained: explained.auc("deletion"),
    "insertion": lambda explained: explained.auc("insertion"),
    "road": lambda explained: road(*explained.arguments, **explained.keywords).combined,
    "average_drop": lambda explained: explained.change.drop,
    "increase_in_confidence": lambda explained: explained.change.increase,
    "coherency": lambda explained: explained.adcc.coherency,
    "complexity": lambda explained: explained.adcc.complexity,
    "adcc": lambda explained: explained.adcc.adcc,
}
FAITHFULNESS = tuple(_MEASURES)
"""The names of the scores of faithfulness.

``deletion`` (low is good) and ``insertion``: the area under the curve of
:func:`~captum_3dcam.sanity.perturbation_curve`. ``road``: ``combined`` of
:func:`~captum_3dcam.sanity.road`. ``average_drop`` (low is good) and ``increase_in_confidence``:
those of :func:`~captum_3dcam.sanity.confidence_change`. ``coherency``, ``complexity`` (low is good)
and ``adcc``: those of :func:`~captum_3dcam.sanity.adcc`, for which the attribution explains the
masked input too.
"""


# -------------------------------------------------------------------------------------- baselines


class _SameMap:
    """A map that does not depend on the input."""

    def __init__(self, heatmap: Tensor) -> None:
        self.heatmap = heatmap

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        return self.heatmap


class _RandomMaps:
    """Another random map at each call."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        return torch.rand(1, 1, *inputs.shape[2:], generator=self.generator)


def measure_baselines(
    options: Faithfulness,
    models: Iterable[Callable[..., Any]],
    inputs: Tensor,
    target: Any,
    centre: Tensor,
    index: int,
) -> list[Array]:
    """The scores of a random map, a map of ones, and one of ones in the centre box ``centre``.

    Each is the mean over the models.
    """
    if not options.scores:
        return [np.empty(0)] * 3
    ones = torch.ones(1, 1, *inputs.shape[2:])
    box = centre.expand(ones.shape[2:]).reshape(ones.shape).float()
    of_models = [replace(options, forward_func=model) for model in models]
    scores = []
    for baseline in (_RandomMaps(index), _SameMap(ones), _SameMap(box)):
        heatmap = baseline.attribute(inputs)
        each = [of_model.measure(baseline, inputs, target, heatmap) for of_model in of_models]
        scores.append(np.mean(each, axis=0))
    return scores
