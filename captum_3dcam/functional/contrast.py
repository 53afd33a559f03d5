"""Scores against their rivals: why this class rather than another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._validation import check_floats, check_integer, describe, show
from captum_3dcam.functional.sums import widen

Rival = int | Sequence[int] | Tensor | None
"""A class, or one for each sample; None for all other classes."""


def contrast(scores: Tensor, rival: Rival = None) -> Tensor:
    """Each class's score against its rivals: (N, C, ...) -> (N, C, ...), in float32 at least.

    With a ``rival``, a class or one for each sample, the margin y_c − y_rival. Without, the
    log-odds against all other classes,

        y_c − log Σ_{k ≠ c} exp(y_k) = log(p_c / (1 − p_c)), with p the softmax of the scores.

    The log-odds have the gradient of the log-probability over 1 − p_c, so it does not vanish where
    the class is certain. A single score, (N,) or (N, 1, ...), is a logit, and its own log-odds.

    Raises ValueError or IndexError for a rival that is no class of the scores.

    >>> scores = torch.tensor([[2.0, 1.0, 0.0]])
    >>> contrast(scores, rival=1)
    tensor([[ 1.,  0., -1.]])
    >>> p = scores.softmax(1)
    >>> torch.allclose(contrast(scores), (p / (1 - p)).log(), atol=1e-6)
    True
    """
    check_floats("scores", scores)
    rivals = check_rival(rival)
    is_single = scores.ndim < 2 or scores.shape[1] == 1
    if rivals is None:
        return widen(scores) if is_single else _log_odds(widen(scores))
    if is_single:
        raise ValueError(
            f"rival={show(rival)}: expected scores (N, C, ...) of several classes; received "
            f"{describe(scores)}. Leave rival out: a single score is a logit."
        )
    return widen(scores) - widen(scores).take_along_dim(_index(rivals, scores), dim=1)


def check_rival(rival: Any) -> list[int] | None:
    """One class, or one for each sample, as a list; ValueError for what is no class.

    >>> check_rival(torch.tensor([3, 1])), check_rival(2), check_rival(None)
    ([3, 1], [2], None)
    """
    if rival is None:
        return None
    values = rival.tolist() if hasattr(rival, "tolist") else rival
    entries = values if isinstance(values, (list, tuple)) else [values]
    return [check_integer("rival", entry, minimum=0) for entry in entries]


def _index(rivals: list[int], scores: Tensor) -> Tensor:
    """The rival of each sample, (N, 1, ...)."""
    samples, classes = scores.shape[:2]
    if len(rivals) not in (1, samples):
        raise ValueError(
            f"rival={show(rivals)}: expected one class, or one for each of the {samples} samples."
        )
    if max(rivals) >= classes:
        raise IndexError(
            f"rival={show(rivals)} is out of range: the scores are {describe(scores)}, of classes "
            f"0 to {classes - 1}."
        )
    index = torch.tensor(rivals, device=scores.device).expand(samples)
    return index.reshape(-1, *[1] * (scores.ndim - 1))


def _log_odds(scores: Tensor) -> Tensor:
    highest = scores.argmax(dim=1, keepdim=True)
    is_highest = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, highest, True)
    of_others = scores.masked_fill(is_highest, -torch.inf).logsumexp(dim=1, keepdim=True)
    total = scores.logsumexp(dim=1, keepdim=True)
    # The others have a probability of at most a half, so that 1 − p loses no digits.
    probabilities = (scores - total).exp().masked_fill(is_highest, 0)
    return scores - torch.where(is_highest, of_others, total + torch.log1p(-probabilities))
