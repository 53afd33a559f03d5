"""A score that contrasts classes, as a function that ``target=`` of any attribution takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._targets import normalize_target
from captum_3dcam._validation import check_integer, check_number, show


def margin(
    target: Any = None,
    rivals: int | Sequence[int] | None = None,
    *,
    alpha: float = 1.0,
    count: int = 3,
) -> "_Margin":
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
    named = None if rivals is None else _class_list("rivals", rivals)
    return _Margin(
        None if target is None else _class_list("target", target),
        None if named is None else [named],
        check_number("alpha", alpha),
        check_integer("count", count),
    )


@dataclass(frozen=True)
class _Margin:
    """What :func:`margin` returns: a function from an output (N, classes) to scores (N,).

    ``targets`` and ``rivals`` have an entry for each sample, or one for all.
    """

    targets: list[int] | None
    rivals: list[list[int]] | None
    alpha: float
    count: int

    def __call__(self, output: Tensor) -> Tensor:
        classes, rivals = self._classes_and_rivals(output)
        others = output.gather(1, rivals)
        weighted = (others.softmax(dim=1) * others).sum(dim=1)
        return output.gather(1, classes)[:, 0] - self.alpha * weighted

    def pinned(self, output: Tensor) -> "_Margin":
        """The same with the class and rivals of this output, for each of its samples."""
        classes, rivals = self._classes_and_rivals(output.detach())
        return replace(self, targets=classes[:, 0].tolist(), rivals=rivals.tolist())

    def repeated(self, copies: int) -> "_Margin":
        """That of so many copies of the batch; ``self`` has to be pinned."""
        assert self.targets is not None
        assert self.rivals is not None
        return replace(self, targets=self.targets * copies, rivals=self.rivals * copies)

    def _classes_and_rivals(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1) and (N, R)."""
        _check_output(output)
        if self.targets is None:
            classes = output.argmax(dim=1, keepdim=True)
        else:
            classes = _rows("target", [[each] for each in self.targets], output)
        if self.rivals is None:
            return classes, _nearest(output, classes, self.count)
        rivals = _rows("rivals", self.rivals, output)
        if bool((rivals == classes).any()):
            raise ValueError(
                f"rivals={show(self.rivals)} has the explained class itself. Name other classes."
            )
        return classes, rivals


def _nearest(output: Tensor, classes: Tensor, count: int) -> Tensor:
    """The classes whose scores are the nearest to those of ``classes``, (N, count)."""
    distances = (output - output.gather(1, classes)).detach().abs().scatter(1, classes, torch.inf)
    return distances.argsort(dim=1, stable=True)[:, : min(count, output.shape[1] - 1)]


def _rows(name: str, classes: list[list[int]], output: Tensor) -> Tensor:
    """The classes of each sample, (N, R)."""
    if len(classes) not in (1, len(output)):
        raise ValueError(
            f"{name} has {len(classes)} entries for a batch of {len(output)}; pass one for each "
            "sample, or one for all."
        )
    rows = torch.tensor(classes, device=output.device).expand(len(output), -1)
    _check_range(rows, output)
    return rows


def _class_list(name: str, classes: Any) -> list[int]:
    classes = normalize_target(classes)
    listed = list(classes) if isinstance(classes, (list, tuple)) else [classes]
    if not listed or not all(type(each) is int for each in listed):
        raise TypeError(f"{name}={show(classes)}: expected classes, integers from 0 on.")
    return listed


def _check_output(output: Tensor) -> None:
    if output.ndim != 2 or output.shape[1] < 2:
        raise ValueError(
            "margin compares classes, scores of shape (N, classes) of two or more; the output has "
            f"{tuple(output.shape)}. A single score needs no margin; reduce others in forward_func."
        )


def _check_range(classes: Tensor, output: Tensor) -> None:
    if bool(((classes < 0) | (classes >= output.shape[1])).any()):
        raise IndexError(
            f"Classes {sorted(set(classes.flatten().tolist()))} are out of range: the output has "
            f"{output.shape[1]} classes, 0 to {output.shape[1] - 1}."
        )
