"""Does a map change when the model's parameters are randomised?"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_3dcam._capture import Inputs
from captum_3dcam.layers import resolve_layers
from captum_3dcam.sanity._plotting import (
    MARKERS,
    FigureAxis,
    draw_mean,
    figure_and_axes,
    finished,
    include_heights,
    label_steps,
    line_style,
)
from captum_3dcam.sanity._seeded_request import (
    Question,
    check_choice,
    kept_target,
    modules_of,
    randomness_kept,
    seed_generators,
    tracker,
)
from captum_3dcam.sanity.similarity import SIMILARITIES, Metric, compare, stack_steps

MODES = ("cascading", "independent")


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
        fig, ax = figure_and_axes(
            plt_fig_axis, fig_size or (max(7.5, 4.5 + 0.3 * len(self.steps)), 4.5)
        )
        for i, (name, values) in enumerate(self.similarities.items()):
            label = name.replace("_", " ").replace("ssim", "SSIM")
            # Hollow and ever smaller, for metrics that agree: those of ranks, if no value is
            # negative.
            style = line_style(i, marker=MARKERS[i % len(MARKERS)], markersize=max(10 - 2 * i, 4))
            style |= {"markerfacecolor": "none"}
            style |= {"linestyle": "none"} if self.mode == "independent" else {}
            draw_mean(ax, range(len(self.steps)), values, label, style)
        label_steps(ax, self.steps)
        ax.set_xlabel(
            "randomised from the output down to"
            if self.mode == "cascading"
            else "the only module randomised (left: output)"
        )
        ax.set_ylabel("similarity to the model's map")
        ax.axhline(0, color="grey", linewidth=0.8)
        include_heights(ax, 0, 1)  # how far from alike is seen at a glance
        return finished(fig, ax, title, loc="center left", bbox_to_anchor=(1.0, 0.5))


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
    check_choice("mode", mode, MODES)
    track = tracker(progress, f"{mode} randomisation")
    with randomness_kept(modules_of(model)):
        question = Question.of(inputs, additional_forward_args, attribute_kwargs, seed)
        subject = copy_of(model)
        output, began = trace(subject, question)
        question.target = kept_target(output, target)
        steps = _steps(model, layers, began)
        original = question.map_of(make_attribution, subject, model)
        found = []
        for index, members in enumerate(track(list(steps.values()))):
            subject = subject if mode == "cascading" else copy_of(model)
            # Each step has its own numbers, the same ones in both modes.
            seed_generators(subject.modules(), seed + 1 + index)
            _randomize([subject.get_submodule(name) for name in members])
            randomized = question.map_of(make_attribution, subject, model)
            found.append(compare(metrics, original, randomized))
    return ParameterRandomization(mode, tuple(steps), stack_steps(found), question.target)


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


def trace(model: nn.Module, question: "Question") -> tuple[Any, dict[str, int]]:
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


def copy_of(model: nn.Module) -> nn.Module:
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
