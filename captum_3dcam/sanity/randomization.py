"""Parameter randomisation test: does a map change when the model's parameters are randomised?"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam._inputs import Inputs
from captum_3dcam._validation import check_choice
from captum_3dcam.layers import resolve_layers
from captum_3dcam.sanity._plotting import (
    MARKERS,
    FigureAxis,
    draw_mean,
    figure_and_axes,
    finish,
    include_heights,
    label_steps,
    line_style,
)
from captum_3dcam.sanity._seeded_request import (
    SeededRequest,
    copy_model,
    explicit_target,
    seeded,
    stack_steps,
    tensors_of,
)
from captum_3dcam.sanity.comparison import MapComparison

_MODES = ("cascading", "independent")


@dataclass(frozen=True, eq=False)
class ParameterRandomization:
    """Similarity of the model's maps to those of its randomised copies.

    ``steps`` names the module randomised at each step, from the output to the input;
    ``similarities`` has a tensor (steps, N) for each metric; ``target`` is the explained target.
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
        """Draw each metric's mean and quartiles over samples at every step.

        NaN, the rank correlation of a constant map, is left out of both. The figure is returned,
        not shown.
        """
        fig, ax = figure_and_axes(
            plt_fig_axis, fig_size or (max(7.5, 4.5 + 0.3 * len(self.steps)), 4.5)
        )
        for i, (name, values) in enumerate(self.similarities.items()):
            label = name.replace("_", " ").replace("ssim", "SSIM")
            # Hollow markers of decreasing size, because metrics may agree: both rank correlations
            # do for maps without negative values.
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
        include_heights(ax, 0, 1)
        return finish(fig, ax, title, loc="center left", bbox_to_anchor=(1.0, 0.5))


def parameter_randomization(
    model: nn.Module,
    make_attribution: Callable[[nn.Module], Any],
    inputs: Inputs,
    target: Any = None,
    mode: str = "cascading",
    layers: Any = None,
    *,
    comparison: MapComparison | None = None,
    progress: bool = False,
) -> ParameterRandomization:
    """Compare the model's maps with those of copies whose parameters are randomised.

    A map that stays similar does not depend on what the model has learned (Adebayo et al., 2018,
    arXiv 1810.03292). "cascading" randomises the modules one after the other, from the output to
    the input, and keeps the earlier ones randomised; "independent" randomises one at a time. The
    order is that in which the modules last started to run on ``inputs``; a module that is not
    called itself, such as a parametrisation may be, goes with its parent.

    A module is randomised by its own ``reset_parameters()``, which also resets the statistics of
    batch normalisation. The values of parameters that it does not change are permuted, which
    keeps their scale and sign; constant ones stay as they are. Frozen parameters are included.

    Args:
        model: it is copied and not changed, also when an error is raised.
        make_attribution: a function of a model that returns a Captum attribution, or a function
            of (inputs, target=...), e.g. ``lambda m: LayerwiseGlobalLocalCAM(m, ["layer1"])``.
            Pass layers by name; a module would have to be the copy's.
        inputs: a tensor (N, ...) or a tuple of them, as the model and the attribution take it.
        target: in any of Captum's forms. None: the class that the model predicts for each sample,
            at every step.
        layers: names or modules, in any order. Each is one step, with all modules in it. By
            default every module with parameters of its own is a step.
        comparison: the metrics, the seed, and further arguments of the attribution.
        progress: show a progress bar.

    Raises TypeError or ValueError for models, modes, layers or maps that are not valid, and for
    an attribution of the original model instead of the copy.

    >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    >>> from captum.attr import Saliency
    >>> result = parameter_randomization(model, Saliency, torch.rand(2, 1, 8))
    >>> result.steps, result.similarities["ssim"].shape
    (('3', '0'), torch.Size([2, 2]))
    """
    check_choice("mode", mode, _MODES)
    request = SeededRequest.from_inputs(inputs, comparison)
    copy = copy_model(model)
    output, started = _run_order(copy, request)
    request.target = explicit_target(output, target)
    steps = _steps(model, layers, started)
    original = request.map_on_copy(make_attribution, copy, model)
    similarities = []
    bar = tqdm(steps.values(), desc=f"{mode} randomization", disable=not progress)
    for index, members in enumerate(bar):
        copy = copy if mode == "cascading" else copy_model(model)
        # Each step has its own random numbers, the same ones in both modes.
        with seeded(request.comparison.seed + 1 + index, tensors_of(copy)):
            _randomize([copy.get_submodule(name) for name in members])
        randomised = request.map_on_copy(make_attribution, copy, model)
        similarities.append(request.comparison.compare(original, randomised))
    return ParameterRandomization(mode, tuple(steps), stack_steps(similarities), request.target)


def _run_order(model: nn.Module, request: SeededRequest) -> tuple[Any, dict[str, int]]:
    """The model's output, and for each module when it last started, or else its parent."""
    started: dict[nn.Module, int] = {}
    clock = count()

    def note(module: nn.Module, args: Any) -> None:
        started[module] = next(clock)

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(note).remove)
        output = request.output_of(model)
    times: dict[str, int] = {}
    for name, module in model.named_modules():  # parents come before their children
        parent = name.rpartition(".")[0]
        times[name] = started.get(module, times.get(parent, 0))
    return output, times


def _steps(model: nn.Module, layers: Any, started: Mapping[str, int]) -> dict[str, list[str]]:
    """The modules randomised at each step, from the output to the input: {step: names}."""
    modules = dict(model.named_modules())
    learned = [name for name, module in modules.items() if _is_learned(module)]
    if layers is None:
        blocks = {name: [name] for name in learned}
    else:
        blocks = {}
        for name in _names(layers, model):
            members = set(modules[name].modules())
            blocks[name] = [member for member in learned if modules[member] in members]
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no parameters, so nothing can be randomised.")
    empty = [name for name, members in blocks.items() if not members]
    if empty:
        raise ValueError(
            f"layers has {', '.join(map(repr, empty))}, without parameters. Choose layers with "
            f"parameters, such as {', '.join(map(repr, learned[-3:]))}."
        )
    order = {name: position for position, name in enumerate(modules)}
    ordered = sorted(blocks, key=lambda name: (started[name], order[name]), reverse=True)
    return {name or "(model)": blocks[name] for name in ordered}


def _names(layers: Any, model: nn.Module) -> list[str]:
    by_module = {module: name for name, module in model.named_modules()}
    resolved = resolve_layers(layers, model)
    foreign = [layer.name for layer in resolved if layer.module not in by_module]
    if foreign:
        raise ValueError(
            f"{', '.join(foreign)} does not belong to the model. Pass the dotted names of layers."
        )
    return [by_module[layer.module] for layer in resolved]


def _is_learned(module: nn.Module) -> bool:
    has_parameters = any(parameter is not None for parameter in module._parameters.values())
    # Batch normalisation without weights still learns its statistics.
    has_statistics = any(buffer is not None for buffer in module._buffers.values())
    return has_parameters or (has_statistics and _has_reset(module))


def _has_reset(module: nn.Module) -> bool:
    """Whether ``reset_parameters()`` can be called without arguments."""
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
        if _has_reset(module):
            module.reset_parameters()  # type: ignore[operator]
        for name, values in before.items():
            # Weight normalisation, for example, has parameters that no reset changes.
            parameter = module._parameters[name]
            if parameter is not None and torch.equal(parameter, values):
                order = torch.randperm(values.numel(), device=values.device)
                parameter.copy_(values.flatten()[order].view_as(values))
