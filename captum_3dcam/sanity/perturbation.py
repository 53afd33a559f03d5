"""Does the score follow when what a map marks is deleted, or inserted?"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam._model_state import preserved_state
from captum_3dcam._targets import select_scores
from captum_3dcam.sanity._plotting import (
    FigureAxis,
    draw_mean,
    figure_and_axes,
    finished,
    include_heights,
    line_style,
)
from captum_3dcam.sanity._seeded_request import (
    as_arguments,
    check_choice,
    check_scores,
    kept_target,
    shape_of,
    target_of_each,
    tracker,
)

Baseline = str | float | Tensor | Callable[[Tensor], Tensor]
_BLUR = 0.1  # the blurred baseline's standard deviation, as a share of each axis


@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """The score as ever more of space-time is deleted or inserted, the most important first.

    ``fractions`` (steps + 1,) is the share of places changed, ``scores`` (N, steps + 1) the
    score there; ``output`` says which score it is, ``target`` of what.
    """

    mode: str
    output: str
    fractions: Tensor
    scores: Tensor
    target: Any = None

    @property
    def auc(self) -> Tensor:
        """The area under each curve, by the trapezoidal rule: (N,), in the score's unit."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)

    @property
    def normalized_scores(self) -> Tensor:
        """(s - b) / (f - b): 1 at the score f of the input, 0 at the score b of the baseline.

        NaN for a sample whose f and b are equal but for rounding: there is nothing to explain.
        """
        ends = self.scores[:, [0, -1]].unbind(dim=1)
        full, bare = ends if self.mode == "deletion" else ends[::-1]
        rounding = 1e-6 * torch.maximum(full.abs(), bare.abs())
        span = torch.where((full - bare).abs() > rounding, full - bare, torch.nan)
        return (self.scores - bare[:, None]) / span[:, None]

    @property
    def normalized_auc(self) -> Tensor:
        """The area under :attr:`normalized_scores`, (N,): low is good for deletion, high for
        insertion, and half is what a straight line has.

        It compares samples and models whose scores differ in scale. It may leave [0, 1], and NaN
        stands for a sample whose score the baseline does not change.
        """
        return torch.trapezoid(self.normalized_scores, self.fractions, dim=1)

    def plot(
        self,
        plt_fig_axis: FigureAxis | None = None,
        title: str | None = None,
        label: str | None = None,
        fig_size: tuple[float, float] | None = None,
    ) -> FigureAxis:
        """Draw the mean over samples and its quartiles, the AUC in the legend; show nothing.

        Give the figure and axis that it returns to the ``plot`` of another curve, and each a
        ``label``, to compare methods.
        """
        fig, ax = figure_and_axes(plt_fig_axis, fig_size or (6, 4.5))
        drawn = len([line for line in ax.lines if line.get_gid() == "curve"])
        name = f"{label or self.mode}, AUC {self.auc.mean():.3f}"
        style = line_style(drawn, gid="curve")
        draw_mean(ax, self.fractions.tolist(), self.scores.T, name, style)
        done = "deleted" if self.mode == "deletion" else "inserted"
        ax.set_xlabel(f"share of space-time {done}")
        ax.set_ylabel(f"{self.output} of the target")
        ax.set_xlim(0, 1)
        if self.output == "probability":
            include_heights(ax, 0)
        return finished(fig, ax, title)


def perturbation_curve(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attribution: Tensor,
    target: Any = None,
    mode: str = "deletion",
    *,
    baseline: Baseline | None = None,
    steps: int = 50,
    output: str | Callable[[Tensor], Tensor] = "probability",
    batch_size: int | None = None,
    additional_forward_args: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> PerturbationCurve:
    """Delete the most important places first, or insert them, and follow the score.

    Places are those of all of space-time; ``steps`` times an equal share of them is exchanged,
    in all channels (Petsiuk et al., 2018, arXiv 1806.07421). Deletion goes from the input to the
    baseline, insertion from the baseline to the input. Equal attributions come in random order:
    in raster order, a constant map would sweep from one corner and look like a finding.

    Args:
        forward_func: the model, or a function of the inputs that returns scores. It runs with
            the train or eval flags that it has, without gradients, and stays as it is.
        inputs: (N, C, *S), any number of spatial axes.
        attribution: (N, 1, *S), the higher the more important.
        target: in any of Captum's forms; None takes each sample's highest class for the input.
        mode: "deletion" or "insertion".
        baseline: "zero"; "mean", of each sample and channel; "blur", a Gaussian over space-time
            with a tenth of each axis as its standard deviation; a number or a tensor that
            broadcasts to the inputs; or a function of the inputs that returns one. By default
            zero for deletion and blur for insertion, as in the paper.
        steps: how many, at most one a place.
        output: "probability", the softmax over classes; "score", what the model gives; or a
            function of its output, as ``torch.sigmoid``.
        batch_size: inputs to a forward; by default as many as there are samples.
        additional_forward_args: passed on after the inputs; a tensor in it whose first axis is N
            goes with the samples.
        seed: of the order of ties. A sample's order does not depend on the rest of the batch.
        progress: show a bar, by tqdm.

    Raises:
        ValueError: for shapes, baselines, steps or targets that do not fit, or NaN in the
            attribution; IndexError for a target out of range; ImportError for a bar without tqdm.

    >>> x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> curve = perturbation_curve(total, x, attribution=x, steps=4, output="score")
    >>> curve.scores, curve.auc, curve.normalized_auc
    (tensor([[10., 6., 3., 1., 0.]], dtype=torch.float64), tensor([3.7500], dtype=torch.float64),
     tensor([0.3750], dtype=torch.float64))
    """
    check_choice("mode", mode, ("deletion", "insertion"))
    _check_attribution(inputs, attribution)
    places = prod(inputs.shape[2:])
    if not 1 <= steps <= places:
        raise ValueError(f"steps must be from 1 to the {places} places of the map; got {steps}.")
    track = tracker(progress, mode)
    score = _Scores(forward_func, _output_function(output), as_arguments(additional_forward_args))
    roots = [forward_func] if isinstance(forward_func, nn.Module) else []
    with preserved_state(*roots, tensors=[inputs]), torch.no_grad():
        target = score.fix_target(inputs, target, _batches(1, len(inputs), batch_size))
        default = "zero" if mode == "deletion" else "blur"
        bare = _baseline(default if baseline is None else baseline, inputs)
        ends = (inputs, bare) if mode == "deletion" else (bare, inputs)
        counts = (torch.arange(steps + 1) * places + steps // 2) // steps
        rank = _importance_rank(attribution, seed).to(inputs.device)
        scores = torch.cat(
            [
                score(_exchanged(*ends, rank, counts, step, samples), samples)
                for step, samples in track(_batches(steps + 1, len(inputs), batch_size))
            ]
        )
    name = output if isinstance(output, str) else getattr(output, "__name__", "output")
    scores = scores.reshape(steps + 1, -1).T.contiguous()
    return PerturbationCurve(mode, name, counts.double() / places, scores, target)


def _check_attribution(inputs: Tensor, attribution: Tensor) -> None:
    if not isinstance(inputs, Tensor) or inputs.ndim < 3:
        raise ValueError(
            f"inputs must be one tensor (N, C, *S); got {shape_of(inputs)}. What else the model "
            "takes goes into additional_forward_args."
        )
    expected = (len(inputs), 1, *inputs.shape[2:])
    if not isinstance(attribution, Tensor) or attribution.shape != expected:
        raise ValueError(
            f"attribution must be a tensor of shape {expected}, one value for each place of the "
            f"inputs; got {shape_of(attribution)}. Sum over channels, attribution.sum(1, "
            "keepdim=True); bring a layer's map to the inputs' size with "
            "captum_3dcam.functional.upsample."
        )
    if attribution.isnan().any():
        raise ValueError("attribution holds NaN, so its places have no order.")


def _importance_rank(attribution: Tensor, seed: int) -> Tensor:
    """The position of each place in descending order, ties at random: (N, 1, *S) integers."""
    flat = attribution.detach().flatten(1)
    # One shuffle for all samples, and a stable sort after it.
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffle = shuffle.to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    positions = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions).view(attribution.shape)


def _baseline(baseline: Baseline, inputs: Tensor) -> Tensor:
    """What stands for no information: a tensor of the inputs' shape."""
    if isinstance(baseline, str):
        check_choice("baseline", baseline, tuple(_BASELINES))
        return _BASELINES[baseline](inputs)
    bare = torch.as_tensor(baseline(inputs) if callable(baseline) else baseline).to(inputs)
    try:
        return bare.detach().expand_as(inputs)
    except RuntimeError as error:
        raise ValueError(
            f"baseline has shape {tuple(bare.shape)}, which does not broadcast to the inputs' "
            f"{tuple(inputs.shape)}."
        ) from error


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True).expand_as(x)


def _blur(x: Tensor) -> Tensor:
    """Gaussian weights along each axis, made to sum to one also at its ends."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        places = torch.arange(length, dtype=torch.float64)
        distance = (places[:, None] - places) / (_BLUR * length)
        weights = torch.exp(-(distance**2) / 2)
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(x)
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x


_BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "mean": _mean,
    "blur": _blur,
}


def _batches(steps: int, samples: int, batch_size: int | None) -> list[tuple[Tensor, Tensor]]:
    """(step, sample) of every forward, a batch at a time: all samples of a step, then the next."""
    size = samples if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size must be at least 1; got {size}.")
    pairs = torch.arange(steps * samples).split(size)
    return [(pair // samples, pair % samples) for pair in pairs]


def _exchanged(
    old: Tensor, new: Tensor, rank: Tensor, counts: Tensor, step: Tensor, samples: Tensor
) -> Tensor:
    """The samples, each with its step's number of places taken from ``new``, in all channels."""
    changed = counts[step].to(rank.device).view(-1, *[1] * (rank.ndim - 1))
    return torch.where(rank[samples] < changed, new[samples], old[samples])


@dataclass
class _Scores:
    """The target's score of some of the samples, changed: (B, C, *S) -> (B,) on the CPU."""

    forward_func: Callable[..., Any]
    transform: Callable[[Tensor], Tensor]
    arguments: tuple[Any, ...]
    size: int = 0
    target: Any = None

    def fix_target(self, inputs: Tensor, target: Any, batches: list[tuple[Tensor, Tensor]]) -> Any:
        """Keep the target, or what the model gives for the inputs as they are."""
        self.size = len(inputs)
        output = torch.cat([self._output(inputs[samples], samples) for _, samples in batches])
        target = kept_target(output, target)
        select_scores(output, target)  # what is wrong with it is said before it is taken apart
        self.target = target if target is None else target_of_each(target, self.size)
        return target

    def __call__(self, inputs: Tensor, samples: Tensor) -> Tensor:
        output = self._output(inputs, samples)
        target = self.target and [self.target[i] for i in samples.tolist()]
        return select_scores(output, target).double()

    def _output(self, inputs: Tensor, samples: Tensor) -> Tensor:
        arguments = [self._of(samples, argument) for argument in self.arguments]
        output = self.forward_func(inputs, *arguments)
        check_scores(output)
        if output.shape[:1] != samples.shape:
            raise ValueError(
                f"The model must return scores batch first, (N, ...); an output of shape "
                f"{tuple(output.shape)} came for {len(samples)} samples."
            )
        return self.transform(output.cpu())

    def _of(self, samples: Tensor, argument: Any) -> Any:
        per_sample = isinstance(argument, Tensor) and argument.shape[:1] == (self.size,)
        return argument[samples] if per_sample else argument


def _output_function(output: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if callable(output):
        return output
    check_choice("output", output, tuple(_OUTPUTS))
    return _OUTPUTS[output]


def _probability(output: Tensor) -> Tensor:
    if output.ndim < 2 or output.shape[1] < 2:
        raise ValueError(
            f"The probability is a softmax over classes, (N, classes, ...); the model gives "
            f"{tuple(output.shape)}. Pass output='score', or output=torch.sigmoid for one logit."
        )
    return output.double().softmax(dim=1)


_OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": _probability,
    "score": lambda output: output,
}
