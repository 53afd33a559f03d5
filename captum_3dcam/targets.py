"""A score that contrasts classes, as a function that ``target=`` of any attribution takes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._targets import normalize_target, per_sample_targets
from captum_3dcam._validation import check_integer, check_number, show

ScoreFunction = Callable[[Tensor], Tensor]
"""From an output (N, classes) to one score per sample, (N,)."""


def margin(
    target: Any = None,
    rivals: int | Sequence[int] | None = None,
    *,
    alpha: float = 1.0,
    count: int = 3,
) -> ScoreFunction:
    """Finer-CAM's score (Zhang et al., 2025, arXiv 2501.11309): why this class and not its rivals.

    y_t − α Σ_r w_r y_r, with w the softmax over the rivals' scores. It serves every method.

    Args:
        target: the class, or one for each sample; None for the highest one of each sample.
        rivals: a class or several, for all samples. None takes those whose scores are the nearest
            to the target's.
        alpha: how much the rivals count; 0 is the score of the class itself.
        count: how many rivals None takes, or all that there are.

    Raises ValueError for an output that is not (N, classes), TypeError and ValueError for other
    arguments, and IndexError for classes out of range, when the scores are computed.

    >>> logits = torch.tensor([[3.0, 1.0, 2.0]])
    >>> margin(0, 2)(logits), margin(0, [1, 2], alpha=0.0)(logits), margin(count=1)(logits)
    (tensor([1.]), tensor([3.]), tensor([1.]))
    """
    alpha, count = check_number("alpha", alpha), check_integer("count", count)
    target = normalize_target(target)
    named = None if rivals is None else _class_list("rivals", rivals)

    def score(output: Tensor) -> Tensor:
        _check_output(output)
        classes = _classes(target, output)
        own = output.gather(1, classes)
        if named is None:
            chosen = _nearest(output, classes, count)
        else:
            chosen = torch.tensor([named], device=output.device).expand(len(output), -1)
            _check_range(chosen, output)
            if bool((chosen == classes).any()):
                raise ValueError(
                    f"rivals={show(rivals)} has the explained class itself. Name other classes."
                )
        others = output.gather(1, chosen)
        return own[:, 0] - alpha * (others.softmax(dim=1) * others).sum(dim=1)

    return score


def _nearest(output: Tensor, classes: Tensor, count: int) -> Tensor:
    """The classes whose scores are the nearest to those of ``classes``, (N, count)."""
    distances = (output - output.gather(1, classes)).detach().abs().scatter(1, classes, torch.inf)
    return distances.argsort(dim=1, stable=True)[:, : min(count, output.shape[1] - 1)]


def _classes(target: Any, output: Tensor) -> Tensor:
    """The class of each sample, (N, 1)."""
    if target is None:
        return output.argmax(dim=1, keepdim=True)
    numbers = _class_list("target", per_sample_targets(target, len(output)))
    classes = torch.tensor(numbers, device=output.device)[:, None]
    _check_range(classes, output)
    return classes


def _class_list(name: str, classes: Any) -> list[int]:
    classes = normalize_target(classes)
    listed = list(classes) if isinstance(classes, (list, tuple)) else [classes]
    if not listed or not all(type(each) is int for each in listed):
        raise TypeError(f"{name}={show(classes)}: expected classes, integers from 0 on.")
    return listed


def _check_output(output: Tensor) -> None:
    if output.ndim != 2 or output.shape[1] < 2:
        raise ValueError(
            f"margin compares classes, scores of shape (N, classes); the output has "
            f"{tuple(output.shape)}."
        )


def _check_range(classes: Tensor, output: Tensor) -> None:
    if bool(((classes < 0) | (classes >= output.shape[1])).any()):
        raise IndexError(
            f"Classes {sorted(set(classes.flatten().tolist()))} are out of range: the output has "
            f"{output.shape[1]} classes, 0 to {output.shape[1] - 1}."
        )
