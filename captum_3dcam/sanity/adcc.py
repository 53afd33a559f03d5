"""ADCC: average drop, coherency and complexity in one score."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from captum_3dcam.functional import normalize
from captum_3dcam.sanity._scoring import Output, check_attribution
from captum_3dcam.sanity._seeded_request import SeededRequest, explicit_target
from captum_3dcam.sanity.comparison import MapComparison
from captum_3dcam.sanity.confidence import confidence_change, mask_inputs


@dataclass(frozen=True, eq=False)
class ADCCScores:
    """The parts of ADCC, each (N,), in [0, 1] for probabilities.

    ``coherency`` is (1 + ρ) / 2, with Pearson's correlation ρ of the map and the map of what it
    leaves of the input; 0 if either is constant. ``complexity`` is the mean of the map, whose
    maximum is 1. ``drop`` is that of :class:`ConfidenceChange`.
    """

    coherency: Tensor
    complexity: Tensor
    drop: Tensor

    @classmethod
    def from_maps(cls, attribution: Tensor, again: Tensor, drop: Tensor) -> "ADCCScores":
        """From the maps (N, 1, *S) of the inputs, and of what these maps leave of them."""
        first, second = (
            normalize(each.detach().cpu().double()).flatten(1) for each in (attribution, again)
        )
        return cls(_coherency(first, second), first.mean(dim=1), drop)

    @property
    def adcc(self) -> Tensor:
        """3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)): (N,), high is good.

        The harmonic mean, 0 if one of the three is 0.
        """
        simplicity = (1 - self.complexity).clamp(min=0)  # a mean of ones may exceed 1
        return 3 / (1 / self.coherency + 1 / simplicity + 1 / (1 - self.drop))


def _coherency(first: Tensor, second: Tensor) -> Tensor:
    """(1 + ρ) / 2 of maps (N, V)."""
    a, b = (each - each.mean(dim=1, keepdim=True) for each in (first, second))
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    correlation = ((a * b).sum(dim=1) / scale).clamp(-1, 1)
    constant = (first.amax(dim=1) == first.amin(dim=1)) | (second.amax(dim=1) == second.amin(dim=1))
    return ((1 + correlation) / 2).masked_fill(constant, 0)


def adcc(
    attribution: Any,
    inputs: Tensor,
    target: Any = None,
    *,
    forward_func: Callable[..., Any] | None = None,
    output: Output = "probability",
    additional_forward_args: Any = None,
    batch_size: int | None = None,
) -> ADCCScores:
    """Average drop, coherency and complexity (Poppi et al., CVPRW 2021, arXiv 2104.10252).

    The inputs are explained, multiplied by their maps as in :func:`confidence_change`, and
    explained again for the same target: a good map keeps the score, is found again, and is small.

    Args:
        attribution: a Captum attribution, or a function of (inputs, target=...), whose maps are
            (N, 1, *S). Random numbers are seeded, and the model's state is restored.
        inputs: (N, C, *S), with any number of spatial axes, preprocessed so that 0 is neutral.
        target: in any of Captum's forms; None takes the class predicted for each input.
        forward_func: the model, by default the attribution's.
        output: "probability", the softmax over classes; "score", the model's output; or a
            function of the output, e.g. ``torch.sigmoid``.
        additional_forward_args: passed to the attribution and the model.
        batch_size: the maximum number of inputs per forward pass of the drop, by default N.

    Raises TypeError or ValueError for maps that do not fit, and for a function without a
    ``forward_func``, whose model is not known; IndexError for a target out of range.

    >>> import torch
    >>> left = lambda inputs, target=None: torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    >>> first = lambda x: x[:, 0, 0]  # the score is the first value, which the map keeps
    >>> scores = adcc(left, torch.ones(1, 1, 4), forward_func=first, output="score")
    >>> scores.coherency, scores.complexity, scores.drop, scores.adcc  # 3 / (1 + 4 / 3 + 1)
    (tensor([1.], dtype=torch.float64), tensor([0.2500], dtype=torch.float64),
     tensor([0.], dtype=torch.float64), tensor([0.9000], dtype=torch.float64))
    """
    model = forward_func or getattr(attribution, "forward_func", None)
    if model is None:
        raise ValueError(
            "The model of a plain function is not known. Pass it as forward_func, or pass a Captum "
            "attribution."
        )
    comparison = MapComparison(additional_forward_args=additional_forward_args)
    request = SeededRequest.from_inputs(inputs, comparison)
    request.target = explicit_target(request.output_of(model), target)
    first = request.map_of(attribution, model)
    check_attribution(inputs, first)
    change = confidence_change(
        model,
        inputs,
        first,
        request.target,
        output=output,
        additional_forward_args=additional_forward_args,
        batch_size=batch_size,
    )
    second = replace(request, inputs=(mask_inputs(inputs, first),)).map_of(attribution, model)
    check_attribution(inputs, second)
    return ADCCScores.from_maps(first, second, change.drop)
