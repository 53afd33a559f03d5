"""ROAD, remove and debias: the score as positions are removed and imputed from their neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._validation import check_numbers, show
from captum_3dcam.sanity._scoring import (
    Output,
    Scorer,
    check_attribution,
    check_batch_size,
    importance_rank,
    output_name,
)
from captum_3dcam.sanity.imputation import impute


@dataclass(frozen=True, eq=False)
class Removal:
    """Which shares of the positions are removed, and how they are imputed.

    Args:
        fractions: of the positions, each in (0, 1).
        noise: the standard deviation of the noise; see :func:`impute`.
        seed: of the noise, and of the order of positions with equal attributions.

    >>> Removal((0.25, 0.5))
    Removal(fractions=(0.25, 0.5), noise=0.01, seed=0)
    """

    fractions: Sequence[float] = tuple(tenths / 10 for tenths in range(1, 10))
    noise: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        fractions = check_numbers("fractions", self.fractions)
        if not fractions or not all(0 < fraction < 1 for fraction in fractions):
            raise ValueError(
                f"fractions={show(self.fractions)} is empty or not in (0, 1). Give shares of the "
                "positions, as (0.1, 0.5, 0.9)."
            )


@dataclass(frozen=True, eq=False)
class RoadScores:
    """The scores as the most and the least relevant positions are removed.

    ``original`` (N,) are the scores of the inputs; ``most_relevant_first`` (MoRF) and
    ``least_relevant_first`` (LeRF), both (N, K), those after removing the ``fractions`` (K,) of
    the positions. ``output`` names the kind of score, ``target`` is the explained target.
    """

    output: str
    fractions: Tensor
    original: Tensor
    most_relevant_first: Tensor
    least_relevant_first: Tensor
    target: Any = None

    @property
    def combined(self) -> Tensor:
        """(LeRF - MoRF) / 2, the mean over the fractions: (N,).

        High is good. In [-0.5, 0.5] for probabilities, and about 0 for a random map.
        """
        return (self.least_relevant_first - self.most_relevant_first).mean(dim=1) / 2


# Nine parameters: forward_func, inputs, target and additional_forward_args are Captum's own.
def road(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attribution: Tensor,
    target: Any = None,
    removal: Removal | None = None,
    *,
    output: Output = "probability",
    additional_forward_args: Any = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> RoadScores:
    """Remove and debias (Rong et al., ICML 2022, arXiv 2202.00449).

    A share of the positions is removed in all channels, the most relevant first or the least
    relevant first, and imputed by :func:`impute`, so that the shape of the removed region tells the
    model little. A good map lowers the score in the first order, and keeps it in the second.
    Positions with equal attributions are removed in random order.

    Of n positions the fraction f removes the integer nearest to f·n, at most n - 1: with tenths and
    n a multiple of 10, those of the percentiles 100 (1 - f) of pytorch-grad-cam.

    Args:
        forward_func: the model, or a function of the inputs that returns scores. It runs without
            gradients, in the train or eval mode that it has, and its state is restored.
        inputs: (N, C, *S), with any number of spatial axes.
        attribution: (N, 1, *S), higher for more relevant positions.
        target: in any of Captum's forms; None takes the class predicted for each input.
        removal: the fractions, the noise and the seed, by default ``Removal()``.
        output: "probability", the softmax over classes; "score", the model's output; or a
            function of the output, e.g. ``torch.sigmoid``.
        additional_forward_args: passed to the model after the inputs; a tensor whose first axis
            is N is split into samples.
        batch_size: the maximum number of inputs that are imputed and scored at once, by default N.
        progress: show a progress bar.

    Raises TypeError or ValueError for shapes, fractions or targets that do not fit, and for NaN in
    the attribution; IndexError for a target out of range.

    >>> x = torch.tensor([[[0.0, 0.0, 8.0, 0.0]]])
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> result = road(total, x, x, None, Removal([0.25], noise=0), output="score")
    >>> result.original, result.most_relevant_first  # the 8 becomes 0, as its neighbours
    (tensor([8.], dtype=torch.float64), tensor([[0.]], dtype=torch.float64))
    """
    removal = removal or Removal()
    check_attribution(inputs, attribution)
    size = check_batch_size(batch_size, len(inputs))
    scorer = Scorer.from_options(forward_func, output, additional_forward_args)
    positions = prod(inputs.shape[2:])
    counts = [min(int(f * positions + 0.5), positions - 1) for f in removal.fractions]
    with preserved_state(tensors=[inputs]), torch.no_grad(), interruptible():
        target = scorer.fix_target(inputs, target, size)
        original = scorer.score_all(lambda samples: inputs[samples], size)
        rank = importance_rank(attribution, removal.seed).to(inputs.device)
        ranks = [rank, positions - 1 - rank]
        steps = [(order, count) for order in ranks for count in counts]

        def without(order: Tensor, count: int) -> Callable[[Tensor], Tensor]:
            return lambda samples: impute(
                inputs[samples], order[samples] < count, removal.noise, removal.seed
            )

        scores = [
            scorer.score_all(without(order, count), size)
            for order, count in tqdm(steps, desc="ROAD", disable=not progress)
        ]
    most, least = torch.stack(scores, dim=1).chunk(2, dim=1)
    fractions = torch.tensor(removal.fractions, dtype=torch.float64)
    return RoadScores(output_name(output), fractions, original, most, least, target)
