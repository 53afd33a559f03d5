"""The score of the target for inputs that are changed where a map says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._targets import per_sample_targets, select_scores
from captum_3dcam._validation import check_choice, check_integer, describe
from captum_3dcam.sanity._seeded_request import as_tuple, explicit_target, scores_in

Output = str | Callable[[Tensor], Tensor]
"""How a score is read from the model's output: a name, or a function of the output."""


def check_attribution(inputs: Tensor, attribution: Tensor) -> None:
    """ValueError unless there is one number per position of the inputs."""
    if not isinstance(inputs, Tensor) or inputs.ndim < 3:
        raise ValueError(
            f"Expected inputs as one tensor (N, C, *S); got {describe(inputs)}. Pass other "
            "arguments of the model as additional_forward_args."
        )
    expected = (len(inputs), 1, *inputs.shape[2:])
    if not isinstance(attribution, Tensor) or attribution.shape != expected:
        raise ValueError(
            f"Expected attribution of shape {expected}, one value per position of the inputs; got "
            f"{describe(attribution)}. Sum over channels with attribution.sum(1, keepdim=True); "
            "resize the map of a layer with captum_3dcam.functional.upsample."
        )
    if attribution.isnan().any():
        raise ValueError("attribution holds NaN, so its positions cannot be ranked.")


def check_batch_size(batch_size: int | None, samples: int) -> int:
    """The maximum number of inputs per forward pass, by default all samples."""
    return samples if batch_size is None else check_integer("batch_size", batch_size)


def importance_rank(attribution: Tensor, seed: int) -> Tensor:
    """Rank of each position in descending order, ties at random: integers (N, 1, *S)."""
    flat = attribution.detach().flatten(1)
    # One permutation for all samples, and a stable sort after it.
    permutation = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    permutation = permutation.to(flat.device)
    order = permutation[flat[:, permutation].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks).view(attribution.shape)


def batches(steps: int, samples: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """(step, sample) of every input, in batches: all samples of a step, then the next step."""
    pairs = torch.arange(steps * samples).split(size)
    return [(pair // samples, pair % samples) for pair in pairs]


def output_name(output: Output) -> str:
    """What the score is called."""
    return output if isinstance(output, str) else getattr(output, "__name__", "output")


@dataclass
class Scorer:
    """The target's score of changed samples: (B, C, *S) -> (B,), on the CPU."""

    forward_func: Callable[..., Any]
    transform: Callable[[Tensor], Tensor]
    arguments: tuple[Any, ...]
    num_samples: int = 0
    target: Any = None

    @classmethod
    def from_options(
        cls, forward_func: Callable[..., Any], output: Output, additional_forward_args: Any
    ) -> "Scorer":
        if isinstance(output, str):
            check_choice("output", output, OUTPUTS)
        transform = OUTPUTS[output] if isinstance(output, str) else output
        return cls(forward_func, transform, as_tuple(additional_forward_args))

    def fix_target(self, inputs: Tensor, target: Any, size: int) -> Any:
        """Set the target, by default what the model predicts for the inputs, and return it."""
        self.num_samples = len(inputs)
        parts = batches(1, len(inputs), size)
        output = torch.cat([self._output(inputs[samples], samples) for _, samples in parts])
        target = explicit_target(output, target)
        select_scores(output, target)  # validates the target before it is split into samples
        is_shared = target is None or callable(target)
        self.target = target if is_shared else per_sample_targets(target, len(inputs))
        return target

    def score_all(self, change: Callable[[Tensor], Tensor], size: int) -> Tensor:
        """The scores (N,) of all samples, changed by a function of their indices."""
        parts = batches(1, self.num_samples, size)
        return torch.cat([self(change(samples), samples) for _, samples in parts])

    def __call__(self, inputs: Tensor, samples: Tensor) -> Tensor:
        target = self.target
        if isinstance(target, list):
            target = [target[i] for i in samples.tolist()]
        return select_scores(self._output(inputs, samples), target).double()

    def _output(self, inputs: Tensor, samples: Tensor) -> Tensor:
        arguments = (self._select(argument, samples) for argument in self.arguments)
        output = scores_in(self.forward_func(inputs, *arguments))
        if output.shape[:1] != samples.shape:
            raise ValueError(
                f"The model must return scores (N, ...), batch first; it returned shape "
                f"{tuple(output.shape)} for {len(samples)} samples."
            )
        return self.transform(output.cpu())

    def _select(self, argument: Any, samples: Tensor) -> Any:
        is_per_sample = isinstance(argument, Tensor) and argument.shape[:1] == (self.num_samples,)
        return argument[samples] if is_per_sample else argument


def _probability(output: Tensor) -> Tensor:
    if output.ndim < 2 or output.shape[1] < 2:
        raise ValueError(
            "Expected scores (N, classes, ...) for output='probability', a softmax over classes; "
            f"the model returned {tuple(output.shape)}. Pass output='score', or "
            "output=torch.sigmoid for one logit."
        )
    return output.double().softmax(dim=1)


OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": _probability,
    "score": lambda output: output,
}
