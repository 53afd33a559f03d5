"""Which classes to explain, and the model's scores and probabilities for them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_3dcam._input_range import check_input_range
from captum_3dcam._targets import select_scores, top_classes
from captum_3dcam._validation import describe, warn
from captum_3dcam.cli._errors import FailedError, UsageError, one_line, usage_errors
from captum_3dcam.cli._model import input_channels
from captum_3dcam.cli._parser import CHANNELS, Target
from captum_3dcam.cli._score_check import check_scores
from captum_3dcam.sliding import Window


class Prediction(NamedTuple):
    """One class with its score."""

    target: Any
    """The class index; None for the highest class of each window, or a model of a single score."""
    name: str
    score: float
    """As the model returns it; over windows, the mean."""
    probability: float
    windows: list[Window]
    """Empty if the input was explained in one pass."""


@dataclass(frozen=True)
class Classifier:
    """A model whose output is scores."""

    model: nn.Module
    class_names: list[str]
    """Empty if they are not known."""
    returns_logits: bool
    """Otherwise the model returns probabilities."""
    explains_volumes: bool = False
    """Their channels are chosen by other options than those of frames."""

    def _channel_advice(self, received: int) -> str:
        expected = input_channels(self.model)
        if expected is None or expected == received:
            return ""
        advice = ""
        if not self.explains_volumes:
            advice = f" Pass --channels {expected}." if expected in CHANNELS else ""
        elif expected == 1:
            advice = " Pass --index N to choose one of them."
        elif expected > received:
            advice = " Pass the files of all channels: INPUT and --channel-files."
        return (
            f" Its first convolution takes {expected} channels; the input has {received}.{advice}"
        )

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> Tensor:
        """The model's output for inputs (N, C, *S), checked."""
        shape = tuple(inputs.shape)
        try:
            output = self.model(inputs)
        except Exception as error:  # the user's code may raise anything
            raise FailedError(
                f"The model failed on an input of shape {shape}: {one_line(error)}"
                f"{self._channel_advice(inputs.shape[1])}"
            ) from error
        if not isinstance(output, Tensor) or output.ndim < 1 or len(output) != len(inputs):
            raise UsageError(
                "The model must return a tensor of scores, one row per sample; for an input of "
                f"shape {shape} it returned {describe(output)}. Wrap it in a module that does."
            )
        return output.to(torch.promote_types(output.dtype, torch.float32))

    def checked_scores(self, inputs: Tensor) -> Tensor:
        """The scores, with a warning if the inputs or the scores are absurd."""
        scores = self.scores(inputs)
        message = check_input_range(self.model, inputs)
        message = message or check_scores(scores, self.returns_logits)
        if message is not None:
            warn(message)
        return scores

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities from scores (N, ...)."""
        if not self.returns_logits:
            return scores
        several = scores.ndim > 1 and scores.shape[1] > 1
        return scores.softmax(dim=1) if several else scores.sigmoid()

    def targets(self, scores: Tensor, target: Target) -> list[Any]:
        """The targets to explain, given scores (1, ...)."""
        with usage_errors("--target: ", IndexError, TypeError):
            if target.index is not None:
                select_scores(scores, target.index)
                return [target.index]
            if scores.numel() == 1 and target.top == 1:
                return [None]
            return list(top_classes(scores, target.top)[0].tolist())

    def prediction(self, scores: Tensor, target: Any) -> Prediction:
        """The prediction for one target, given scores (1, ...)."""
        score = select_scores(scores, target).item()
        probability = select_scores(self.probabilities(scores), target).item()
        return Prediction(target, self.class_name(target), score, probability, [])

    def class_name(self, target: Any) -> str:
        """The name of the class, or its index if the name is not known."""
        if target is None:
            return "score"
        known = isinstance(target, int) and target < len(self.class_names)
        return self.class_names[target] if known else f"class {target}"


def read_class_names(path: Path | None) -> list[str]:
    """The lines of the file of ``--classes``."""
    if path is None:
        return []
    if not path.is_file():
        raise UsageError(f"--classes: there is no file {str(path)!r}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FailedError(f"--classes: {str(path)!r} is not UTF-8 text: {error}") from error
    return [line.strip() for line in text.rstrip().splitlines()]


def resolve_name(target: Target, class_names: list[str]) -> Target:
    """The target with its class name replaced by the index."""
    if target.name is None:
        return target
    if target.name in class_names:
        return replace(target, index=class_names.index(target.name), name=None)
    known = f"--classes: {', '.join(class_names[:5])}, ..." if class_names else "--classes"
    raise UsageError(
        f"--target {target.name}: expected a class index, top3 or another count, each, an index "
        f"such as 1,4,8, or a class name ({known})."
    )
