"""Deletion and insertion curves: does the score follow when important positions are changed?"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._validation import check_choice, check_integer
from captum_3dcam.sanity._plotting import (
    FigureAxis,
    draw_mean,
    figure_and_axes,
    finish,
    include_heights,
    line_style,
)
from captum_3dcam.sanity._scoring import (
    Output,
    Scorer,
    batches,
    check_attribution,
    check_batch_size,
    importance_rank,
    output_name,
)

Baseline = str | float | Tensor | Callable[[Tensor], Tensor]
_MODES = ("deletion", "insertion")
_BLUR = 0.1  # standard deviation of the blurred baseline, as a fraction of each axis


@dataclass(frozen=True, eq=False)
class Perturbation:
    """How positions are changed: deleted from the input, or inserted into the baseline.

    Args:
        mode: "deletion", from the input to the baseline, or "insertion", from the baseline to
            the input.
        baseline: "zero"; "mean", of each sample and channel; "blur", a Gaussian over space-time
            whose standard deviation is a tenth of each axis; a number or a tensor that broadcasts
            to the inputs; or a function of the inputs that returns one. By default zero for
            deletion and blur for insertion (Petsiuk et al., 2018).
        steps: the number of steps, each over an equal share of the positions.
        seed: of the order of positions with equal attributions. The order does not depend on the
            rest of the batch.

    >>> Perturbation("insertion", baseline="mean", steps=20)
    Perturbation(mode='insertion', baseline='mean', steps=20, seed=0)
    """

    mode: str = "deletion"
    baseline: Baseline | None = None
    steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, _MODES)
        check_integer("steps", self.steps)


@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """The score as positions are deleted or inserted, the most important first.

    ``fractions`` (steps + 1,) are the fractions of positions changed, ``scores`` (N, steps + 1)
    the scores at them. ``output`` names the kind of score, ``target`` is the explained target.
    """

    mode: str
    output: str
    fractions: Tensor
    scores: Tensor
    target: Any = None

    @property
    def auc(self) -> Tensor:
        """The area under each curve by the trapezoidal rule: (N,), in the unit of the score."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)

    @property
    def normalized_scores(self) -> Tensor:
        """(s - b) / (f - b): 1 at the score f of the input, 0 at the score b of the baseline.

        NaN for a sample whose f and b are equal up to rounding.
        """
        ends = self.scores[:, [0, -1]].unbind(dim=1)
        full, baseline = ends if self.mode == "deletion" else ends[::-1]
        rounding = 1e-6 * torch.maximum(full.abs(), baseline.abs())
        span = torch.where((full - baseline).abs() > rounding, full - baseline, torch.nan)
        return (self.scores - baseline[:, None]) / span[:, None]

    @property
    def normalized_auc(self) -> Tensor:
        """The area under :attr:`normalized_scores`: (N,), low is good for deletion, high for
        insertion; a straight line has 0.5.

        It makes samples and models comparable whose scores differ in scale. It may be outside
        [0, 1], and is NaN for a sample whose score the baseline does not change.
        """
        return torch.trapezoid(self.normalized_scores, self.fractions, dim=1)

    def plot(
        self,
        plt_fig_axis: FigureAxis | None = None,
        title: str | None = None,
        label: str | None = None,
        fig_size: tuple[float, float] | None = None,
    ) -> FigureAxis:
        """Draw the mean and quartiles over samples, with the AUC in the legend.

        The figure is returned, not shown. To compare methods, pass the returned figure and axis
        to the ``plot`` of another curve, and a ``label`` to each.
        """
        fig, ax = figure_and_axes(plt_fig_axis, fig_size or (6, 4.5))
        curves = len([line for line in ax.lines if line.get_gid() == "curve"])
        name = f"{label or self.mode}, AUC {self.auc.mean():.3f}"
        style = line_style(curves, gid="curve")
        draw_mean(ax, self.fractions.tolist(), self.scores.T, name, style)
        verb = "deleted" if self.mode == "deletion" else "inserted"
        ax.set_xlabel(f"fraction of space-time {verb}")
        ax.set_ylabel(f"{self.output} of the target")
        ax.set_xlim(0, 1)
        if self.output == "probability":
            include_heights(ax, 0)
        return finish(fig, ax, title)


# Nine parameters: forward_func, inputs, target and additional_forward_args are Captum's own.
def perturbation_curve(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attribution: Tensor,
    target: Any = None,
    perturbation: str | Perturbation = "deletion",
    *,
    output: Output = "probability",
    additional_forward_args: Any = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> PerturbationCurve:
    """Delete or insert the most important positions first, and record the score.

    Positions are those of space-time; each is changed in all channels (Petsiuk et al., 2018, arXiv
    1806.07421). Positions with equal attributions are changed in random order: in raster order, a
    constant map would sweep from one corner, which may look like a localisation.

    Args:
        forward_func: the model, or a function of the inputs that returns scores. It runs without
            gradients, in the train or eval mode that it has, and its state is restored.
        inputs: (N, C, *S), with any number of spatial axes.
        attribution: (N, 1, *S), higher for more important positions.
        target: in any of Captum's forms; None takes the class predicted for each input.
        perturbation: "deletion", "insertion", or a :class:`Perturbation` for another baseline,
            number of steps or seed.
        output: "probability", the softmax over classes; "score", the model's output; or a
            function of the output, e.g. ``torch.sigmoid``.
        additional_forward_args: passed to the model after the inputs; a tensor whose first axis
            is N is split into samples.
        batch_size: the maximum number of inputs per forward pass, by default N.
        progress: show a progress bar.

    Raises TypeError or ValueError for shapes, baselines, steps or targets that do not fit, and for
    NaN in the attribution; IndexError for a target out of range.

    >>> x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> curve = perturbation_curve(total, x, x, None, Perturbation(steps=4), output="score")
    >>> curve.scores, curve.auc, curve.normalized_auc
    (tensor([[10., 6., 3., 1., 0.]], dtype=torch.float64), tensor([3.7500], dtype=torch.float64),
     tensor([0.3750], dtype=torch.float64))
    """
    if isinstance(perturbation, str):
        perturbation = Perturbation(perturbation)
    check_attribution(inputs, attribution)
    positions, steps = prod(inputs.shape[2:]), perturbation.steps
    if steps > positions:
        raise ValueError(f"steps={steps}: expected at most {positions}, the positions of the map.")
    size = check_batch_size(batch_size, len(inputs))
    scorer = Scorer.from_options(forward_func, output, additional_forward_args)
    with preserved_state(tensors=[inputs]), torch.no_grad(), interruptible():
        target = scorer.fix_target(inputs, target, size)
        baseline = _baseline_tensor(perturbation, inputs)
        ends = (inputs, baseline) if perturbation.mode == "deletion" else (baseline, inputs)
        counts = (torch.arange(steps + 1) * positions + steps // 2) // steps
        rank = importance_rank(attribution, perturbation.seed).to(inputs.device)
        pairs = batches(steps + 1, len(inputs), size)
        scores = [
            scorer(_exchange(*ends, rank[samples], counts[step], samples), samples)
            for step, samples in tqdm(pairs, desc=perturbation.mode, disable=not progress)
        ]
    name, curves = output_name(output), torch.cat(scores).reshape(steps + 1, -1).T.contiguous()
    return PerturbationCurve(perturbation.mode, name, counts.double() / positions, curves, target)


def _baseline_tensor(perturbation: Perturbation, inputs: Tensor) -> Tensor:
    """The baseline, with the inputs' shape, dtype and device."""
    baseline = perturbation.baseline
    if baseline is None:
        baseline = "zero" if perturbation.mode == "deletion" else "blur"
    if isinstance(baseline, str):
        check_choice("baseline", baseline, _BASELINES)
        return _BASELINES[baseline](inputs)
    tensor = torch.as_tensor(baseline(inputs) if callable(baseline) else baseline).to(inputs)
    try:
        return tensor.detach().expand_as(inputs)
    except RuntimeError as error:
        raise ValueError(
            f"baseline has shape {tuple(tensor.shape)}, which does not broadcast to the inputs' "
            f"{tuple(inputs.shape)}."
        ) from error


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True).expand_as(x)


def _blur(x: Tensor) -> Tensor:
    """Gaussian blur along each axis, with weights that sum to 1 also at the borders."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        positions = torch.arange(length, dtype=torch.float64)
        distance = (positions[:, None] - positions) / (_BLUR * length)
        weights = torch.exp(-(distance**2) / 2)
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(x)
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x


_BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "mean": _mean,
    "blur": _blur,
}


def _exchange(old: Tensor, new: Tensor, rank: Tensor, counts: Tensor, samples: Tensor) -> Tensor:
    """The samples with their ``counts`` highest ranked positions from ``new``, in all channels."""
    counts = counts.to(rank.device).view(-1, *[1] * (rank.ndim - 1))
    return torch.where(rank < counts, new[samples], old[samples])
