"""Whether a model's output is what ``--returns`` says."""

from torch import Tensor

_ROUNDING = 1e-2  # of probabilities in half precision
# Right inputs of trained classifiers have logits of 15 at most, and inputs that are 255 times too
# large have hundreds: where 2 is right they have 500.
_MAX_LOGIT = 500


def check_scores(scores: Tensor, returns_logits: bool) -> str | None:
    """Why scores (N, C, ...) cannot be logits, or probabilities; None if they may be.

    Of a single score nothing is known, and NaN is an error of the attribution.

    >>> import torch
    >>> print(check_scores(torch.tensor([[-1.0, 3.0]]), returns_logits=True))
    None
    >>> check_scores(torch.tensor([[0.25, 0.75]]), returns_logits=True).split(".")[-2]
    ' Pass --returns probabilities'
    """
    if scores.ndim < 2 or scores.shape[1] < 2 or not scores.isfinite().all():
        return None
    low, high = float(scores.min()), float(scores.max())
    in_range = low >= 0 and high <= 1 + _ROUNDING
    if not returns_logits:
        advice = "If the model returns logits, omit --returns probabilities."
        return None if in_range else f"{_shown(low, high)}: these are no probabilities. {advice}"
    if in_range and ((scores.sum(dim=1) - 1).abs() < _ROUNDING).all():
        return (
            f"{_shown(low, high)}, and their sum over the classes is 1: these are probabilities "
            "already. Pass --returns probabilities."
        )
    if max(-low, high) > _MAX_LOGIT:
        return (
            f"{_shown(low, high)}: no classifier is trained to such logits. Check the "
            "preprocessing (--preprocessing, --mean, --std), and whether the weights are loaded."
        )
    return None


def _shown(low: float, high: float) -> str:
    return f"The model's scores are from {low:.3g} to {high:.3g}"
