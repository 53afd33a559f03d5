"""Is the explanation about the model? Randomised parameters, deletion and insertion, other labels.

Maps are compared per sample, over channels and all of space-time, in any number of axes. What
is randomised is a copy of the model; results are tensors on the CPU.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from inspect import Parameter, signature
from itertools import count
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_3dcam.capture import Inputs, format_inputs, select_scores
from captum_3dcam.layers import resolve_layers
from captum_3dcam.preserve import all_modules, modules_behind, unchanged

Metric = Callable[[Tensor, Tensor], Tensor]
FigureAxis = tuple[Figure | SubFigure, Axes]
Baseline = str | float | Tensor | Callable[[Tensor], Tensor]

MODES = ("cascading", "independent")
_WINDOW, _SIGMA = 11, 1.5  # of SSIM, as in its paper
_BLUR = 0.1  # the blurred baseline's standard deviation, as a share of each axis
# Okabe and Ito's colours: told apart in every kind of colour blindness.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES, _MARKERS = ("-", "--", "-.", ":"), "osD^vP*"
_MOST_LABELS = 40


# --------------------------------------------------------------------------- how alike maps are


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps, (N, ...) twice -> (N,) in [-1, 1].

    ρ = Σ (r - r̄)(q - q̄) / √(Σ (r - r̄)² Σ (q - q̄)²) over the ranks r and q of all values of a
    sample, ties sharing their mean rank. A constant map has no ranking: NaN, without a warning.

    Raises ValueError for maps of two shapes, and for NaN or Inf in them.

    >>> rank_correlation(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 7.0, 5.0]]))
    tensor([0.5000], dtype=torch.float64)
    """
    _check_maps(first, second)
    pairs = zip(first.cpu().flatten(1), second.cpu().flatten(1), strict=True)
    return torch.stack([_spearman(a, b) for a, b in pairs])


def absolute_rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """:func:`rank_correlation` of |first| and |second|: where, whatever the sign.

    >>> absolute_rank_correlation(torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -2.0]]))
    tensor([1.], dtype=torch.float64)
    """
    return rank_correlation(first.abs(), second.abs())


def structural_similarity(
    first: Tensor, second: Tensor, data_range: float | Tensor = 1.0
) -> Tensor:
    """Mean SSIM of (N, C, *S) twice, over channels and windows -> (N,), 1 for equal maps.

    (2 μ_a μ_b + c₁)(2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁)(σ_a² + σ_b² + c₂)), c₁ = (.01 L)² and
    c₂ = (.03 L)², in Gaussian windows (σ = 1.5, 11 places along each axis) that lie wholly in
    the map (Wang et al., 2004, doi 10.1109/TIP.2003.819861). Along an axis shorter than 11 the
    window has the largest odd length that fits. ``data_range`` is L, one or (N,).

    Raises ValueError for maps of two shapes or without a spatial axis, and for NaN or Inf.

    >>> x = torch.rand(2, 1, 4, 16, 16)
    >>> structural_similarity(x, x)
    tensor([1., 1.], dtype=torch.float64)
    """
    _check_maps(first, second)
    if first.ndim < 3:
        raise ValueError(
            f"SSIM needs maps with a spatial axis, (N, C, *S); got shape {tuple(first.shape)}. "
            "Leave it out of the metrics, or compare maps of an earlier layer."
        )
    a, b = first.cpu().double(), second.cpu().double()  # on the CPU: not every device has it
    span = torch.as_tensor(data_range, dtype=a.dtype).cpu()
    span = span.reshape(-1, *[1] * (a.ndim - 1))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def normalized_structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """:func:`structural_similarity` of maps each divided by its own largest absolute value.

    L = 2 for a sample with a negative value in either map, else 1. A zero map stays zero: two of
    them are equal, 1.

    >>> x = torch.rand(1, 1, 8, 8)
    >>> normalized_structural_similarity(x, 64 * x)
    tensor([1.], dtype=torch.float64)
    """
    signed = (first.flatten(1) < 0).any(dim=1) | (second.flatten(1) < 0).any(dim=1)
    return structural_similarity(_to_unit(first), _to_unit(second), 1.0 + signed.double())


SIMILARITIES: Mapping[str, Metric] = {
    "rank_correlation": rank_correlation,
    "absolute_rank_correlation": absolute_rank_correlation,
    "ssim": normalized_structural_similarity,
}
"""What maps are compared by unless ``metrics`` says otherwise."""


def _spearman(a: Tensor, b: Tensor) -> Tensor:
    ranks = torch.stack([_centred_ranks(a), _centred_ranks(b)])
    powers = ranks.square().sum(dim=1)
    # 0 / 0 is NaN: a constant map.
    rho: Tensor = (ranks[0] @ ranks[1]) / powers.prod().sqrt()
    return rho.clamp(-1, 1)


def _centred_ranks(x: Tensor) -> Tensor:
    """Ranks minus their mean, exactly: ties share theirs, so the mean is always (V + 1) / 2."""
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2.0)[inverse]
    return ranks - (x.numel() + 1) / 2.0


def _window_mean(x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        x = _weighted_along(x, axis, _gaussian_window(x.shape[axis]))
    return x


def _gaussian_window(length: int) -> list[float]:
    radius = (min(_WINDOW, length) - 1) // 2
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(places**2) / (2 * _SIGMA**2))
    return (weights / weights.sum()).tolist()


def _weighted_along(x: Tensor, axis: int, weights: list[float]) -> Tensor:
    size = x.shape[axis] - len(weights) + 1
    return reduce(torch.add, (weight * x.narrow(axis, i, size) for i, weight in enumerate(weights)))


def _to_unit(x: Tensor) -> Tensor:
    x = x.cpu().double()
    peak = x.abs().amax(dim=tuple(range(1, x.ndim)), keepdim=True)
    return x / torch.where(peak > 0, peak, 1)


def _check_maps(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"Two maps of one shape (N, ...) are compared; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}. Give both the same size, e.g. by output_size."
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError(
            "A map holds NaN or Inf, so it cannot be compared. Look at what the attribution "
            "gives; in half precision, use bfloat16 or float32."
        )


def _similarities(
    metrics: Mapping[str, Metric], first: Tensor, second: Tensor
) -> dict[str, Tensor]:
    found = {name: metric(first, second) for name, metric in metrics.items()}
    for name, values in found.items():
        if not isinstance(values, Tensor) or values.shape != first.shape[:1]:
            raise ValueError(
                f"A metric takes two maps (N, ...) and returns a tensor (N,), here "
                f"({len(first)},); {name!r} returned {_shape(values)}."
            )
    return found


def _stacked(steps: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}


# --------------------------------------------------------------------- parameter randomisation


@dataclass(frozen=True, eq=False)
class ParameterRandomization:
    """How alike the maps of the model and of its randomised copies are.

    ``steps`` names the module randomised at each step, from the output to the input;
    ``similarities`` has a tensor (steps, N) for each metric; ``target`` is what was explained.
    """

    mode: str
    steps: tuple[str, ...]
    similarities: dict[str, Tensor]
    target: Any

    def plot(
        self,
        plt_fig_axis: FigureAxis | None = None,
        title: str | None = None,
        fig_size: tuple[float, float] | None = None,
    ) -> FigureAxis:
        """Draw each metric's mean over samples, and its quartiles, at every step; show nothing.

        NaN, the correlation of a constant map, is left out of both.
        """
        fig, ax = _axes(plt_fig_axis, fig_size or (max(7.5, 4.5 + 0.3 * len(self.steps)), 4.5))
        for i, (name, values) in enumerate(self.similarities.items()):
            label = name.replace("_", " ").replace("ssim", "SSIM")
            # Hollow and ever smaller, for metrics that agree: those of ranks, if no value is
            # negative.
            style = _look(i, marker=_MARKERS[i % len(_MARKERS)], markersize=max(10 - 2 * i, 4))
            style |= {"markerfacecolor": "none"}
            style |= {"linestyle": "none"} if self.mode == "independent" else {}
            _draw(ax, range(len(self.steps)), values, label, style)
        _label_steps(ax, self.steps)
        ax.set_xlabel(
            "randomised from the output down to"
            if self.mode == "cascading"
            else "the only module randomised (left: output)"
        )
        ax.set_ylabel("similarity to the model's map")
        ax.axhline(0, color="grey", linewidth=0.8)
        _include(ax, 0, 1)  # how far from alike is seen at a glance
        return _finished(fig, ax, title, loc="center left", bbox_to_anchor=(1.0, 0.5))


def parameter_randomization(
    model: nn.Module,
    make_attribution: Callable[[nn.Module], Any],
    inputs: Inputs,
    target: Any = None,
    mode: str = "cascading",
    layers: Any = None,
    *,
    additional_forward_args: Any = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] = SIMILARITIES,
    seed: int = 0,
    progress: bool = False,
) -> ParameterRandomization:
    """Compare the model's maps with those of copies whose parameters are randomised.

    A map that stays alike does not depend on what the model has learned (Adebayo et al., 2018,
    arXiv 1810.03292). "cascading" randomises one module after the other, from the output to the
    input, and keeps what came before; "independent" randomises one at a time. The order is that
    in which the modules last began to run on ``inputs``; what is not called itself, as a weight
    in a parametrisation may be, goes with the module that holds it.

    A module is randomised by its own ``reset_parameters()``: batch normalisation then also
    forgets its statistics. Parameters that this leaves alone have their values permuted, which
    keeps their scale and sign; a constant one stays as it is. Frozen parameters are no exception.

    Args:
        model: it is copied, and stays as it is, also when something raises.
        make_attribution: from a model to a Captum attribution of it, or to a function of
            (inputs, target=...), e.g. ``lambda m: LayerwiseGlobalLocalCAM(m, ["layer1"])``.
            Layers are best given by name; a module would have to be the copy's.
        inputs: a tensor (N, ...) or a tuple of them, as the model and the attribution take it.
        target: in any of Captum's forms. None: each sample's highest class, in the model as it
            is, kept at every step.
        layers: names or modules, each one step with all that it holds; in any order. By default
            every module with parameters of its own is a step.
        attribute_kwargs: further arguments of the attribution, e.g. ``{"n_steps": 20}``.
        metrics: from names to functions of two maps that return a value per sample, (N,).
        seed: of the new parameters, and of any random numbers in the attribution, which are the
            same at every step.
        progress: show a bar, by tqdm.

    Raises:
        TypeError, ValueError: for models, modes, layers or maps that do not fit, and for an
            attribution of the original instead of the copy; ImportError for a bar without tqdm.

    >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    >>> from captum.attr import Saliency
    >>> result = parameter_randomization(model, Saliency, torch.rand(2, 1, 8))
    >>> result.steps, result.similarities["ssim"].shape
    (('3', '0'), torch.Size([2, 2]))
    """
    _check_choice("mode", mode, MODES)
    track = _tracker(progress, f"{mode} randomisation")
    with _randomness_kept(_modules_of(model)):
        question = _Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        subject = _copy(model)
        output, began = _run(subject, question)
        question.target = _kept_target(output, target)
        steps = _steps(model, layers, began)
        original = question.map_of(make_attribution, subject, model)
        found = []
        for index, members in enumerate(track(list(steps.values()))):
            subject = subject if mode == "cascading" else _copy(model)
            # Each step has its own numbers, the same ones in both modes.
            _seed(subject.modules(), seed + 1 + index)
            _randomize([subject.get_submodule(name) for name in members])
            randomized = question.map_of(make_attribution, subject, model)
            found.append(_similarities(metrics, original, randomized))
    return ParameterRandomization(mode, tuple(steps), _stacked(found), question.target)


def _steps(model: nn.Module, layers: Any, began: Mapping[str, int]) -> dict[str, list[str]]:
    """What to randomise at each step, from the output to the input: {name: modules' names}."""
    named = dict(model.named_modules())
    learned = [name for name, module in named.items() if _is_learned(module)]
    if layers is None:
        blocks = {name: [name] for name in learned}
    else:
        blocks = {name: _inside(name, named, learned) for name in _names(layers, model)}
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no parameters, so nothing can be randomised.")
    empty = [name for name, members in blocks.items() if not members]
    if empty:
        raise ValueError(
            f"layers has {', '.join(map(repr, empty))}, without parameters. Choose layers that "
            f"have some, as {', '.join(map(repr, learned[-3:]))}."
        )
    order = {name: position for position, name in enumerate(named)}
    ordered = sorted(blocks, key=lambda name: (began[name], order[name]), reverse=True)
    return {name or "(model)": blocks[name] for name in ordered}


def _names(layers: Any, model: nn.Module) -> list[str]:
    by_module = {module: name for name, module in model.named_modules()}
    resolved = resolve_layers(layers, model)
    strangers = [layer.name for layer in resolved if layer.module not in by_module]
    if strangers:
        raise ValueError(
            f"{', '.join(strangers)} does not belong to the model. Give the layers' dotted names."
        )
    return [by_module[layer.module] for layer in resolved]


def _inside(name: str, named: Mapping[str, nn.Module], learned: list[str]) -> list[str]:
    block = set(named[name].modules())
    return [member for member in learned if named[member] in block]


def _is_learned(module: nn.Module) -> bool:
    parameters = any(parameter is not None for parameter in module._parameters.values())
    # Batch normalisation without weights still learns its statistics.
    statistics = any(buffer is not None for buffer in module._buffers.values())
    return parameters or (statistics and _resets_itself(module))


def _resets_itself(module: nn.Module) -> bool:
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        return False
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    arguments = signature(reset).parameters.values()
    return all(a.default is not Parameter.empty or a.kind in variadic for a in arguments)


@torch.no_grad()
def _randomize(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        before = {
            name: parameter.clone()
            for name, parameter in module._parameters.items()
            if parameter is not None
        }
        if _resets_itself(module):
            module.reset_parameters()  # type: ignore[operator]
        for name, values in before.items():
            # Weight normalisation, for one, keeps parameters that no reset knows of.
            parameter = module._parameters[name]
            if parameter is not None and torch.equal(parameter, values):
                order = torch.randperm(values.numel(), device=values.device)
                parameter.copy_(values.flatten()[order].view_as(values))


def _run(model: nn.Module, question: "_Question") -> tuple[Any, dict[str, int]]:
    """What the model gives, and when each of its modules last began; or what holds it, if never."""
    began: dict[nn.Module, int] = {}
    clock = count()

    def note(module: nn.Module, args: Any) -> None:
        began[module] = next(clock)

    modules = list(model.modules())
    with ExitStack() as stack, question.asked(modules) as inputs, torch.no_grad():
        for module in modules:
            stack.callback(module.register_forward_pre_hook(note).remove)
        output = model(*inputs, *question.arguments)
    times: dict[str, int] = {}
    for name, module in model.named_modules():  # each after the one that holds it
        holder = name.rpartition(".")[0]
        times[name] = began.get(module, times.get(holder, 0))
    return output, times


def _copy(model: nn.Module) -> nn.Module:
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError("The model has lazy modules without parameters yet. Run it once first.")
    try:
        return deepcopy(model)
    except RuntimeError as error:
        raise TypeError(
            f"The parameters of a copy are randomised, but copy.deepcopy cannot copy this "
            f"{type(model).__name__}: {error} Older weight or spectral normalisation is the usual "
            "cause; use that of torch.nn.utils.parametrizations."
        ) from error


# ----------------------------------------------------------------- maps of other models, labels


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """How alike the maps of two models are: a tensor (N,) for each metric, and the target."""

    similarities: dict[str, Tensor]
    target: Any


def compare_models(
    make_attribution: Callable[[nn.Module], Any],
    model: nn.Module,
    other_model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    *,
    additional_forward_args: Any = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] = SIMILARITIES,
    seed: int = 0,
) -> ModelComparison:
    """Compare the maps of two models for the same inputs and the same target.

    With ``other_model`` trained on randomly permuted labels this is the data randomisation test
    (Adebayo et al., 2018, arXiv 1810.03292): maps that are alike do not show what
    relates the inputs to their labels. ``target=None`` takes the classes that ``model`` gives.

    The arguments are those of :func:`parameter_randomization`, and so is what it raises. The
    maps are made on copies, so both models stay as they are.

    >>> from captum.attr import InputXGradient
    >>> nets = [nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(24, 3)) for _ in "ab"]
    >>> result = compare_models(InputXGradient, *nets, torch.rand(2, 1, 8))
    >>> result.similarities["rank_correlation"].shape
    torch.Size([2])
    """
    with _randomness_kept([*_modules_of(model), *_modules_of(other_model)]):
        question = _Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        subject = _copy(model)
        question.target = _kept_target(_run(subject, question)[0], target)
        first = question.map_of(make_attribution, subject, model)
        second = question.map_of(make_attribution, _copy(other_model), other_model)
    return ModelComparison(_similarities(metrics, first, second), question.target)


@dataclass(frozen=True, eq=False)
class LabelSensitivity:
    """How alike the maps of a target and of other labels are.

    ``similarities`` has a tensor (K, N) for each metric, one row for each of ``other_targets``.
    """

    similarities: dict[str, Tensor]
    target: Any
    other_targets: tuple[Any, ...]


def label_sensitivity(
    attribution: Any,
    inputs: Inputs,
    target: Any = None,
    other_targets: int | Sequence[Any] = 3,
    *,
    additional_forward_args: Any = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] = SIMILARITIES,
    seed: int = 0,
    progress: bool = False,
) -> LabelSensitivity:
    """Compare the map of the target with the maps of random other labels: 1 is class-agnostic.

    Args:
        attribution: a Captum attribution, or a function of (inputs, target=...).
        target: in any of Captum's forms; None takes each sample's highest class.
        other_targets: how many other classes to draw for each sample, all different; or a
            sequence of targets, each in one of Captum's forms.
        seed: of the draw, and of random numbers in the attribution, the same for every label.

    The other arguments are those of :func:`parameter_randomization`.

    Raises:
        ValueError: for maps that do not fit, too few classes to draw from, or a plain function
            without the targets, since only a Captum attribution says what its model is.

    >>> from captum.attr import Saliency
    >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    >>> result = label_sensitivity(Saliency(model), torch.rand(2, 1, 8), target=[0, 3])
    >>> result.similarities["ssim"].shape
    torch.Size([3, 2])
    """
    track = _tracker(progress, "other labels")
    modules = _held_modules(attribution)
    with _randomness_kept(modules):
        question = _Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        if target is None or isinstance(other_targets, int):
            output = _output_of(attribution, question, modules)
            target = _kept_target(output, target)
            if isinstance(other_targets, int):
                other_targets = _other_classes(output, target, other_targets, seed)
        question.target = target
        first = question.explain(attribution, modules)
        found = []
        for other in track(list(other_targets)):
            question.target = other
            found.append(_similarities(metrics, first, question.explain(attribution, modules)))
    if not found:
        raise ValueError("other_targets is empty. Give at least one label, or how many to draw.")
    return LabelSensitivity(_stacked(found), target, tuple(other_targets))


def _output_of(attribution: Any, question: "_Question", modules: Sequence[nn.Module]) -> Any:
    forward_func = getattr(attribution, "forward_func", None)
    if forward_func is None:
        raise ValueError(
            "A plain function does not say what its model is. Pass target and the sequence "
            "other_targets, or a Captum attribution."
        )
    with question.asked(modules) as inputs, torch.no_grad():
        return forward_func(*inputs, *question.arguments)


def _other_classes(output: Any, target: Any, number: int, seed: int) -> list[Any]:
    """``number`` targets, none of them the target, all different for each sample."""
    _check_scores(output)
    labels = _per_sample(target, len(output))
    if output.ndim != 2 or not all(isinstance(label, int) for label in labels):
        raise ValueError(
            f"Labels can be drawn for scores (N, classes) and a class per sample; got an output "
            f"of shape {tuple(output.shape)} and target={target!r}. Pass other_targets as a "
            "sequence of targets."
        )
    classes = output.shape[1]
    if not 1 <= number < classes:
        raise ValueError(
            f"other_targets must be from 1 to the {classes - 1} other classes; got {number}."
        )
    generator = torch.Generator().manual_seed(seed)
    shifts = 1 + torch.randperm(classes - 1, generator=generator)[:number]
    return [_simplest([(label + shift) % classes for label in labels]) for shift in shifts.tolist()]


# ------------------------------------------------------------------------ deletion and insertion


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
        fig, ax = _axes(plt_fig_axis, fig_size or (6, 4.5))
        drawn = len([line for line in ax.lines if line.get_gid() == "curve"])
        name = f"{label or self.mode}, AUC {self.auc.mean():.3f}"
        style = _look(drawn, gid="curve")
        _draw(ax, self.fractions.tolist(), self.scores.T, name, style)
        done = "deleted" if self.mode == "deletion" else "inserted"
        ax.set_xlabel(f"share of space-time {done}")
        ax.set_ylabel(f"{self.output} of the target")
        ax.set_xlim(0, 1)
        if self.output == "probability":
            _include(ax, 0)
        return _finished(fig, ax, title)


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
    _check_choice("mode", mode, ("deletion", "insertion"))
    _check_attribution(inputs, attribution)
    places = prod(inputs.shape[2:])
    if not 1 <= steps <= places:
        raise ValueError(f"steps must be from 1 to the {places} places of the map; got {steps}.")
    track = _tracker(progress, mode)
    score = _Scores(forward_func, _output_function(output), _arguments(additional_forward_args))
    with unchanged(all_modules(modules_behind(forward_func))), torch.no_grad():
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
            f"inputs must be one tensor (N, C, *S); got {_shape(inputs)}. What else the model "
            "takes goes into additional_forward_args."
        )
    expected = (len(inputs), 1, *inputs.shape[2:])
    if not isinstance(attribution, Tensor) or attribution.shape != expected:
        raise ValueError(
            f"attribution must be a tensor of shape {expected}, one value for each place of the "
            f"inputs; got {_shape(attribution)}. Sum over channels, attribution.sum(1, "
            "keepdim=True); bring a layer's map to the inputs' size with captum_3dcam.cam.upsample."
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
        _check_choice("baseline", baseline, tuple(_BASELINES))
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
        target = _kept_target(output, target)
        select_scores(output, target)  # what is wrong with it is said before it is taken apart
        self.target = target if target is None else _per_sample(target, self.size)
        return target

    def __call__(self, inputs: Tensor, samples: Tensor) -> Tensor:
        output = self._output(inputs, samples)
        target = self.target and [self.target[i] for i in samples.tolist()]
        return select_scores(output, target).double()

    def _output(self, inputs: Tensor, samples: Tensor) -> Tensor:
        arguments = [self._of(samples, argument) for argument in self.arguments]
        output = self.forward_func(inputs, *arguments)
        _check_scores(output)
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
    _check_choice("output", output, tuple(_OUTPUTS))
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


# ------------------------------------------------------------------------ asking for one map


@dataclass
class _Question:
    """What is asked of each attribution: the same inputs, target and random numbers."""

    inputs: tuple[Tensor, ...]
    wrapped: bool
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    seed: int
    target: Any = None

    @classmethod
    def of(
        cls, inputs: Inputs, arguments: Any, options: Mapping[str, Any] | None, seed: int
    ) -> "_Question":
        every = dict(options or {})
        if arguments is not None:
            every["additional_forward_args"] = arguments
        wrapped = isinstance(inputs, tuple)
        return cls(format_inputs(inputs), wrapped, _arguments(arguments), every, seed)

    @contextmanager
    def asked(self, modules: Sequence[nn.Module]) -> Iterator[tuple[Tensor, ...]]:
        """Fresh inputs, since a model may write into its own; state put back at the end."""
        with _randomness_kept(modules):
            _seed(modules, self.seed)
            yield tuple(tensor.detach().clone() for tensor in self.inputs)

    def map_of(
        self, make_attribution: Callable[[nn.Module], Any], subject: nn.Module, model: nn.Module
    ) -> Tensor:
        """The map that is made on ``subject``, a copy of ``model``."""
        attribution = make_attribution(subject)
        held = set(_held_modules(attribution))
        if held.intersection(model.modules()) and not held.intersection(subject.modules()):
            raise ValueError(
                "make_attribution gave an attribution of the original model. Build it on the "
                "model that it is passed, a copy: lambda m: Saliency(m)."
            )
        return self.explain(attribution, list(subject.modules()))

    def explain(self, attribution: Any, modules: Sequence[nn.Module]) -> Tensor:
        """One map (N, ...), without gradient, on the CPU."""
        attribute = getattr(attribution, "attribute", attribution)
        if not callable(attribute):
            raise TypeError(
                "An attribution is Captum's, with .attribute(), or a function of (inputs, "
                f"target=...); got {type(attribution).__name__}."
            )
        with self.asked(modules) as tensors, warnings.catch_warnings():
            # Captum's word on inputs that it sets to require gradients; these are our own.
            warnings.filterwarnings("ignore", ".*did not already require gradients")
            inputs = tensors if self.wrapped else tensors[0]
            found = attribute(inputs, target=self.target, **self.options)
        if isinstance(found, tuple) and len(found) == 1:
            found = found[0]
        if not isinstance(found, Tensor):
            raise TypeError(
                f"An attribution must give one tensor; this one gave {type(found).__name__}. "
                "Choose one in a function: lambda inputs, target: attribution.attribute(inputs, "
                "target=target)[0]."
            )
        return found.detach().cpu()


def _arguments(additional_forward_args: Any) -> tuple[Any, ...]:
    if additional_forward_args is None:
        return ()
    several = isinstance(additional_forward_args, tuple)
    return additional_forward_args if several else (additional_forward_args,)


def _modules_of(model: Any) -> list[nn.Module]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    return list(model.modules())


def _held_modules(attribution: Any) -> list[nn.Module]:
    forward_func = getattr(attribution, "forward_func", None)
    return all_modules([*modules_behind(attribution), *modules_behind(forward_func)])


def _check_scores(output: Any) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"The model must return a tensor of scores; it returned {type(output).__name__}. Pass "
            "a model that picks one."
        )


def _kept_target(output: Any, target: Any) -> Any:
    """The target, or each sample's highest class; None where there is one score per sample."""
    if target is not None:
        return target
    _check_scores(output)
    scores = select_scores(output)  # it says what else an output may need
    if output.numel() == scores.numel():
        return None
    return _simplest(output.argmax(dim=1).tolist())


def _simplest(classes: list[int]) -> int | list[int]:
    # Captum repeats a list for its steps only if it is longer than one.
    return classes[0] if len(classes) == 1 else classes


def _per_sample(target: Any, size: int) -> list[Any]:
    if hasattr(target, "tolist"):
        array = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
        target = array.item() if array.size == 1 else array.tolist()
    if not isinstance(target, list):
        return [target] * size
    return [entry.item() if hasattr(entry, "item") else entry for entry in target]


# ---------------------------------------------------------------- random numbers and progress


@contextmanager
def _randomness_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Buffers, torch's random generators and NumPy's, which Captum's GradientShap draws from."""
    before = np.random.get_state()
    try:
        with unchanged(modules):
            yield
    finally:
        np.random.set_state(before)


def _seed(modules: Iterable[nn.Module], seed: int) -> None:
    """Seed the generators that :func:`_randomness_kept` puts back, and no others."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    tensors = (t for m in modules for t in (*m._parameters.values(), *m._buffers.values()))
    devices = {tensor.device for tensor in tensors if tensor is not None}
    for device in devices:
        if device.type not in ("cpu", "meta"):
            backend = torch.get_device_module(device)
            with getattr(backend, "device", nullcontext)(device):
                backend.manual_seed(seed)


def _tracker(progress: bool, description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """What goes through a sequence, under a bar if one is wanted."""
    if not progress:
        return iter
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'captum_3dcam[progress]'."
        ) from error
    return lambda items: tqdm(items, desc=description)


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _check_choice(name: str, choice: str, known: tuple[str, ...]) -> None:
    if choice not in known:
        raise ValueError(f"{name}={choice!r} is not known. Choose one of {', '.join(known)}.")


# ---------------------------------------------------------------------------------- pictures


def _axes(plt_fig_axis: FigureAxis | None, fig_size: tuple[float, float]) -> FigureAxis:
    if plt_fig_axis is not None:
        return plt_fig_axis
    fig = Figure(figsize=fig_size, layout="constrained")
    return fig, fig.add_subplot()


def _look(position: int, **style: Any) -> dict[str, Any]:
    """A colour and a kind of line: either tells one series from another."""
    color, line = _COLORS[position % len(_COLORS)], _LINES[position % len(_LINES)]
    return {"color": color, "linestyle": line, **style}


def _draw(ax: Axes, x: Sequence[float], values: Tensor, label: str, style: dict[str, Any]) -> None:
    """The mean of (len(x), N) over samples, and the quartiles of more than one."""
    ax.plot(x, values.nanmean(dim=1), label=label, **style)
    if values.shape[1] == 1:
        return
    low, high = values.nanquantile(torch.tensor([0.25, 0.75], dtype=values.dtype), dim=1)
    if style["linestyle"] == "none":
        ax.vlines(x, low, high, color=style["color"], linewidth=1)
    else:
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _include(ax: Axes, *heights: float) -> None:
    """Show these heights too; unlike a limit that is set, this lets later curves widen it."""
    ax.update_datalim([(0, height) for height in heights])
    ax.autoscale_view()


def _label_steps(ax: Axes, steps: Sequence[str]) -> None:
    shown = range(0, len(steps), ceil(len(steps) / _MOST_LABELS))
    ax.set_xticks(list(shown), [steps[i] for i in shown], rotation=45, ha="right")


def _finished(fig: Figure | SubFigure, ax: Axes, title: str | None, **legend: Any) -> FigureAxis:
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, **legend)
    if title is not None:
        ax.set_title(title)
    return fig, ax
