"""The scores of the classes that are explained, and whether they can be what they should be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_3dcam._errors import argument_errors
from captum_3dcam._targets import select_probabilities, select_scores, top_classes
from captum_3dcam.explanation._target import Target
from captum_3dcam.sliding import Window

RETURNS = ("logits", "probabilities", "values")
_ROUNDING = 1e-2  # of probabilities in half precision
# Right inputs of trained classifiers have logits of 15 at most, and inputs that are 255 times too
# large have hundreds: where 2 is right they have 500.
_MAX_LOGIT = 500
_MIN_LABELS = 5  # whose logits are hardly all in [0, 1]


class Prediction(NamedTuple):
    """One class of one sample, with its score."""

    target: Any
    """The class index; None for the highest class of each window, or a model of a single score."""
    name: str
    score: float
    """As the model returns it; over windows, the mean."""
    probability: float
    """NaN where there is none: of a function of the output, and of values."""
    windows: tuple[Window, ...] = ()
    """Empty if the input was explained in one pass."""


@dataclass(frozen=True)
class Scores:
    """How the scores that a model returns are read."""

    class_names: Sequence[str]
    """Empty if they are not known."""
    returns: str
    """What the model returns: one of :data:`RETURNS`."""
    are_some: bool = False
    """Whether the names are those of some classes, as in a dict."""

    @property
    def scale(self) -> str:
        """That of the windows, of :class:`captum_3dcam.SlidingWindowCAM`."""
        return {"logits": "probability", "probabilities": "score", "values": "window"}[self.returns]

    def normalize(self, scores: Tensor) -> Tensor:
        """Scores (N, classes) that can be averaged over windows: probabilities, or values."""
        if self.returns != "logits":
            return scores
        several = scores.ndim > 1 and scores.shape[1] > 1
        return scores.softmax(dim=1) if several else scores.sigmoid()

    def probabilities(self, scores: Tensor, target: Any) -> Tensor:
        """(N,) of scores (N, ...)."""
        if self.returns == "logits" and not callable(target):
            return select_probabilities(scores, target)
        values = select_scores(scores, target)
        is_class = self.returns == "probabilities" and not callable(target) and scores.ndim <= 2
        return values if is_class else torch.full_like(values, math.nan)

    def mean_probability(self, target: Any, windows: Sequence[Window]) -> float:
        """That of a target over windows."""
        mean = fmean(window.factor for window in windows)
        is_known = self.returns != "values" and not callable(target) and mean <= 1 + _ROUNDING
        return mean if is_known else math.nan

    def targets(self, scores: Tensor, target: Target) -> list[Any]:
        """Targets in Captum's forms, for scores (N, ...): each is of all samples, or a list."""
        with argument_errors("target: ", IndexError, TypeError):
            for each in target.classes:
                select_scores(scores, each)
            if target.classes:
                return list(target.classes)
            if target.top == 1:
                select_scores(scores)  # what needs a target says so
                if scores.numel() == len(scores):
                    return [None]
            return [classes.tolist() for classes in top_classes(scores, target.top).unbind(dim=1)]

    def predictions(self, scores: Tensor, targets: Sequence[Any]) -> list[list[Prediction]]:
        """Of each sample, those of the targets."""
        columns = []
        for target in targets:
            several = target if isinstance(target, list) else [target] * len(scores)
            pair = select_scores(scores, target), self.probabilities(scores, target)
            values = (each.tolist() for each in pair)
            rows = zip(several, map(self.class_name, several), *values, strict=True)
            columns.append([Prediction(*row) for row in rows])
        return [list(row) for row in zip(*columns, strict=True)]

    def check_names(self, scores: Tensor) -> str | None:
        """Why the class names cannot be those of scores (N, C, ...); None if they may be."""
        classes = scores.shape[1] if scores.ndim > 1 else 1
        names = len(self.class_names)
        if names in (0, classes) or (self.are_some and names < classes):
            return None
        return f"There are {names} class names for {classes} classes: they may be shifted."

    def class_name(self, target: Any) -> str:
        """The name of the class, or its index if the name is not known."""
        if target is None:
            return "score"
        if callable(target):
            return str(getattr(target, "__name__", "score"))
        first = 0 if self.are_some else -len(self.class_names)  # -1 is the last class
        known = isinstance(target, int) and first <= target < len(self.class_names)
        return str(self.class_names[target]) if known else f"class {target}"


def check_scores(scores: Tensor, returns: str) -> str | None:
    """Why scores (N, C, ...) cannot be logits, or probabilities; None if they may be.

    Of a single score and of values nothing is known, and NaN is an error of the attribution.

    >>> import torch
    >>> print(check_scores(torch.tensor([[-1.0, 3.0]]), "logits"))
    None
    >>> check_scores(torch.tensor([[0.25, 0.75]]), "logits").split(".")[-2]
    ' Pass returns="probabilities"'
    """
    is_known = returns != "values" and scores.ndim > 1 and scores.shape[1] > 1
    if not is_known or not scores.isfinite().all():
        return None
    low, high = float(scores.min()), float(scores.max())
    in_range = low >= 0 and high <= 1 + _ROUNDING
    if returns == "probabilities":
        advice = 'If the model returns logits, leave out returns="probabilities".'
        return None if in_range else f"{_shown(low, high)}: these are no probabilities. {advice}"
    if in_range and ((scores.sum(dim=1) - 1).abs() < _ROUNDING).all():
        return (
            f"{_shown(low, high)}, and their sum over the classes is 1: these are probabilities "
            'already. Pass returns="probabilities".'
        )
    if in_range and scores.shape[1] >= _MIN_LABELS:
        return (
            f"{_shown(low, high)}: these seem to be probabilities of a multi-label network. If so, "
            'pass returns="probabilities"; as logits they would be normalized again.'
        )
    if max(-low, high) > _MAX_LOGIT:
        return (
            f"{_shown(low, high)}: no classifier is trained to such logits. Check the "
            "preprocessing (mean, standard deviation), and whether the weights are loaded."
        )
    return None


def _shown(low: float, high: float) -> str:
    return f"The model's scores are from {low:.3g} to {high:.3g}"
