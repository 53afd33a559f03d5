"""Drop and increase in confidence: the score of the part of the input that a map leaves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._validation import check_floats
from captum_3dcam.functional import normalize
from captum_3dcam.sanity._scoring import (
    Output,
    Scorer,
    check_attribution,
    check_batch_size,
    output_name,
)


@dataclass(frozen=True, eq=False)
class ConfidenceChange:
    """The scores of the inputs, ``original`` (N,), and of what the map leaves, ``masked`` (N,).

    ``output`` names the kind of score, ``target`` is the explained target.
    """

    output: str
    original: Tensor
    masked: Tensor
    target: Any = None

    @property
    def drop(self) -> Tensor:
        """max(0, original - masked) / original: (N,), in [0, 1] for probabilities; low is good.

        Its mean is the average drop. NaN for a sample whose original score is not positive.
        """
        loss = (self.original - self.masked).clamp(min=0)
        return loss / torch.where(self.original > 0, self.original, torch.nan)

    @property
    def increase(self) -> Tensor:
        """masked > original: bool (N,). Its mean is the increase in confidence; high is good."""
        return self.masked > self.original


def confidence_change(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attribution: Tensor,
    target: Any = None,
    *,
    output: Output = "probability",
    additional_forward_args: Any = None,
    batch_size: int | None = None,
) -> ConfidenceChange:
    """Average drop and increase in confidence (Chattopadhay et al., 2018, arXiv 1710.11063).

    The input is multiplied by the map, which is relu(map) / max relu(map), at each position and in
    all channels; the model scores the product. A map of ones has no drop: compare with that.

    Args:
        forward_func: the model, or a function of the inputs that returns scores. It runs without
            gradients, in the train or eval mode that it has, and its state is restored.
        inputs: (N, C, *S), with any number of spatial axes, preprocessed so that 0 is neutral.
        attribution: (N, 1, *S).
        target: in any of Captum's forms; None takes the class predicted for each input.
        output: "probability", the softmax over classes; "score", the model's output; or a
            function of the output, e.g. ``torch.sigmoid``.
        additional_forward_args: passed to the model after the inputs; a tensor whose first axis
            is N is split into samples.
        batch_size: the maximum number of inputs per forward pass, by default N.

    Raises TypeError or ValueError for shapes or targets that do not fit, and for NaN in the
    attribution; IndexError for a target out of range.

    >>> x = torch.tensor([[[2.0, 6.0]]])
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> change = confidence_change(total, x, torch.tensor([[[1.0, 2.0]]]), output="score")
    >>> change.masked, change.drop, change.increase
    (tensor([7.], dtype=torch.float64), tensor([0.1250], dtype=torch.float64), tensor([False]))
    """
    check_attribution(inputs, attribution)
    size = check_batch_size(batch_size, len(inputs))
    scorer = Scorer.from_options(forward_func, output, additional_forward_args)
    masked = mask_inputs(inputs, attribution)
    with preserved_state(tensors=[inputs]), torch.no_grad(), interruptible():
        target = scorer.fix_target(inputs, target, size)
        original = scorer.score_all(lambda samples: inputs[samples], size)
        left = scorer.score_all(lambda samples: masked[samples], size)
    return ConfidenceChange(output_name(output), original, left, target)


def mask_inputs(inputs: Tensor, attribution: Tensor) -> Tensor:
    """Inputs (N, C, *S) times maps (N, 1, *S), each relu(map) / max relu(map).

    >>> mask_inputs(torch.tensor([[[2.0, 6.0, 4.0]]]), torch.tensor([[[1.0, 2.0, -3.0]]]))
    tensor([[[1., 6., 0.]]])
    """
    x = check_floats("inputs", inputs).detach()
    return x * normalize(attribution.detach().float()).to(x)
