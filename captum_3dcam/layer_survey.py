"""Which layers of a model are worth explaining, with their shapes, receptive fields and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam._captum import format_additional_forward_args
from captum_3dcam._capture.layer_output import select_tensor
from captum_3dcam._inputs import Inputs, format_inputs, run_model
from captum_3dcam._layer_choice.choice import LayerChoice, SurveyedLayer, choose_layers, own_layers
from captum_3dcam._layout import Layout
from captum_3dcam._model_state import ModelState
from captum_3dcam._restoration import Restoration, interruptible
from captum_3dcam.layers import Layer, find_module

_CONSTANT_GRADIENT = (
    "the score's gradient is the same at every position, as under average pooling and a linear "
    "head. The map is the same for every class, or empty: do not rely on this layer alone."
)
_SIGNED = (
    "the output has negative values, so channels can cancel in their sum. If the map is poor, "
    "choose a layer inside that ends in a ReLU."
)
_UNREACHED = "the highest score does not depend on this layer. Leave it out."
_CANCELS = (
    "the sum over channels of the output, or of its gradient, is rounding noise, as beside a layer "
    "normalisation. Choose a layer between two of them."
)


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a model, as :func:`survey_layers` describes it."""

    name: str
    """The dotted name in ``model.named_modules()``."""
    type: str
    """The name of the module's class."""
    output_shape: tuple[int, ...]
    """(C, *S_k)"""
    rectified: bool
    """Whether the output has no negative value."""
    receptive_field: tuple[int, ...] = ()
    """Size along each axis of the input; empty if the output does not depend on the input, or if
    it was not asked for."""
    receptive_field_clipped: bool = False
    """Whether the field reaches an edge of the input, so that it may be larger."""
    reaches_score: bool = True
    """Whether the highest score depends on the layer."""
    gradient_is_constant: bool = False
    """Whether the score's gradient is the same at every position."""
    sums_cancel: bool = False
    """Whether a sum over channels, of the output or of its gradient, is rounding noise."""
    recommended: bool = False
    reason: str = "not on the main path"
    """Why the layer is recommended, or not."""
    layout: str | None = None
    """As in :class:`Layer`, where the output is not (N, C, *S)."""
    index: int | None = None
    """Which tensor of a list that the layer returns; as in :class:`Layer`."""
    calls: str | int | None = None
    """As in :class:`Layer`, of a layer that runs several times."""

    @property
    def layer(self) -> Layer:
        """What to pass to explain it."""
        return Layer(self.name, index=self.index, calls=self.calls, layout=self.layout)

    @property
    def warnings(self) -> list[str]:
        """What to know before explaining the layer."""
        conditions = {
            _CONSTANT_GRADIENT: self.gradient_is_constant,
            _SIGNED: not self.rectified,
            _UNREACHED: not self.reaches_score,
            _CANCELS: self.sums_cancel,
        }
        return [text for text, applies in conditions.items() if applies]


def suggest_layers(
    model: Callable[..., Any],
    inputs: Inputs,
    additional_forward_args: Any = None,
    *,
    output: str | int | Callable[[Any], Tensor] | None = None,
    input_layout: str | None = None,
) -> list[Layer]:
    """The layers worth explaining: one at the end of each resolution.

    They are on the main path and after their activation; layers of tokens and of channels last
    bring their layout. Left out is what would give an empty map or noise: layers whose sums over
    channels cancel, as beside a layer normalisation; whose gradient is the same at every position,
    as before global average pooling; that do not reach the score; and the scores of the classes.
    If nothing else is there, a layer with the least of these is returned. ``model.LAYERS``, names
    or layers, is returned as it is.

    It takes six forward passes, three of them with the input changed at one position, and one
    backward pass, and leaves the model as it was. This is what
    ``layers="auto"`` does at the first call; :func:`survey_layers` gives the reasons.

    Args:
        model: the model, in eval mode, or a function of its inputs.
        inputs: as in ``attribute``. Sizes matter: layers of a single position are left out.
        additional_forward_args: as in ``attribute``.
        output, input_layout: as in the classes. A clip (N, T, C, H, W) needs no ``input_layout``
            where the first convolution tells it from (N, C, T, H, W).

    Returns:
        The layers, in order of execution.

    Raises:
        ValueError: if no layer lies on a grid of several positions.

    >>> from torch import nn
    >>> model = nn.Sequential(
    ...     nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.Flatten()
    ... )
    >>> [layer.module for layer in suggest_layers(model, torch.rand(1, 3, 16, 16))]
    ['1', '3']
    """
    layout = None if input_layout is None else Layout.from_text(input_layout)
    choice = choose_layers(
        model, inputs, additional_forward_args, output=output, input_layout=layout
    )
    return list(choice.layers)


def survey_layers(
    model: nn.Module,
    inputs: Inputs,
    additional_forward_args: Any = None,
    *,
    nested: bool = False,
    all_receptive_fields: bool = False,
    progress: bool = False,
) -> list[LayerInfo]:
    """Describe the layers of a model, and say which :func:`suggest_layers` recommends, and why.

    The main path is the layers at the nesting depth at which the resolution changes most often: in
    a ResNet the stem and ``layer1`` to ``layer4``. A receptive field is the extent of the non-zero
    input gradient of a layer's central position, an estimate from below; it is joined over
    samples.

    Args:
        model: in eval mode. Its state is left unchanged.
        inputs: (N, C, *S), or several. Shapes and gradients are those of the first sample.
        additional_forward_args: as in ``attribute``.
        nested: also describe the layers inside and around those of the main path.
        all_receptive_fields: compute those of all layers that are described, and not only of the
            recommended ones: a backward pass for each layer and sample.
        progress: show a progress bar.

    Returns:
        The layers on a grid with several positions, in order of execution.

    Raises:
        ValueError: for inputs without a spatial axis, and if there is no such layer.
        RuntimeError: if the model fails on the inputs.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten())
    >>> for layer in survey_layers(model, torch.rand(1, 3, 8, 8)):
    ...     print(layer.name, layer.output_shape, layer.receptive_field, layer.recommended)
    0 (4, 6, 6) () False
    1 (4, 6, 6) (3, 3) True
    2 (4, 3, 3) (4, 4) True
    """
    if isinstance(inputs, Tensor) and (inputs.ndim < 3 or not len(inputs)):
        raise ValueError(
            "inputs: expected one sample or more, (N, C, *S), with a spatial axis; received shape "
            f"{tuple(inputs.shape)}."
        )
    samples = list(inputs.split(1)) if isinstance(inputs, Tensor) else [inputs]
    try:
        choice = choose_layers(model, samples[0], additional_forward_args, honour_own=False)
    except ValueError:
        raise
    except Exception as error:  # the model's code may raise anything
        shape = tuple(samples[0].shape) if isinstance(samples[0], Tensor) else "this shape"
        raise RuntimeError(
            f"The model failed on an input of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    surveyed = _with_own(choice.surveyed, own_layers(model))
    rows = [each for each in surveyed if nested or each.on_main_path or each.recommended]
    deep = [each for each in rows if all_receptive_fields or each.recommended]
    fields: dict[int, dict[str, Any]] = {}
    runs = [_run(model, sample, additional_forward_args, deep, choice) for sample in samples]
    for each in tqdm(deep, "receptive fields", unit="layer", disable=not progress):
        fields[id(each)] = _receptive_field(runs, each)
    return [replace(_info(each), **fields.get(id(each), {})) for each in rows]


def _with_own(surveyed: Sequence[SurveyedLayer], own: Sequence[Layer]) -> list[SurveyedLayer]:
    """The layers, with the recommendation of the model itself, if it has one."""
    if not own:
        return list(surveyed)
    names = {layer.module for layer in own}
    return [
        replace(
            each,
            recommended=each.name in names,
            reason="in the model's LAYERS" if each.name in names else "not in the model's LAYERS",
        )
        for each in surveyed
    ]


def _info(row: SurveyedLayer) -> LayerInfo:
    layer, statistics = row.grid_layer, row.statistics
    return LayerInfo(
        layer.name,
        layer.call.type,
        (layer.channels, *layer.grid),
        statistics.rectified,
        reaches_score=statistics.reaches_score,
        gradient_is_constant=statistics.gradient_is_constant,
        sums_cancel=statistics.activation_cancels or statistics.gradient_cancels,
        recommended=row.recommended,
        reason=row.reason,
        layout=layer.layer.layout,
        index=layer.call.index,
        calls=layer.layer.calls,
    )


# ------------------------------------------------------------------------------ receptive fields


@dataclass(frozen=True)
class _Run:
    """A forward pass with its graph from the first input on."""

    x: Tensor
    outputs: dict[tuple[str, int | None], Tensor]
    """The layers' tensors, (N, C, *S_k), by name and index."""
    layout: Layout | None


def _run(
    model: nn.Module,
    inputs: Inputs,
    additional_forward_args: Any,
    rows: Sequence[SurveyedLayer],
    choice: LayerChoice,
) -> _Run:
    tensors = [tensor.detach().clone() for tensor in format_inputs(inputs)]
    x = tensors[0].requires_grad_()
    tensors[0] = x.clone()  # the model may write into its input
    outputs: dict[tuple[str, int | None], Tensor] = {}

    def keep(row: SurveyedLayer) -> Callable[..., None]:
        layer = row.grid_layer

        def after(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output if isinstance(output, Tensor) else select_tensor(output, layer.layer)[1]
            if layer.layer.calls != "stack":
                outputs[layer.name, layer.call.index] = layer.arrange(tensor)

        return after

    arguments = format_additional_forward_args(additional_forward_args)
    with Restoration() as restoration:
        ModelState(tensors).preserve(restoration, model)
        for row in rows:
            module = find_module(row.name, model)
            if module is not None:
                restoration.add(module.register_forward_hook(keep(row)).remove)
        with torch.enable_grad(), interruptible():
            run_model(model, tuple(tensors), arguments, isinstance(inputs, list))
    text = choice.input_layout
    return _Run(x, outputs, None if text is None else Layout.from_text(text))


def _receptive_field(runs: Sequence[_Run], row: SurveyedLayer) -> dict[str, Any]:
    """``receptive_field`` and ``receptive_field_clipped``, of the layer's central position."""
    # Joined over runs: in one, a ReLU or a maximum may hide an edge of the field.
    key = (row.name, row.grid_layer.call.index)
    gradients = [_central_gradient(run, run.outputs[key]) for run in runs if key in run.outputs]
    if not gradients:
        return {}
    inside = torch.cat(gradients).ne(0).flatten(0, 1).any(dim=0)
    if not inside.any():
        return {}
    indices = inside.nonzero()
    low, high = indices.amin(dim=0), indices.amax(dim=0) + 1
    clipped = (low == 0) | (high == torch.tensor(inside.shape, device=high.device))
    field = tuple((high - low).tolist())
    return {"receptive_field": field, "receptive_field_clipped": bool(clipped.any())}


def _central_gradient(run: _Run, output: Tensor) -> Tensor:
    """The gradient in the inputs of a weighted channel sum at the output's central position."""
    channels = output[0]
    for size in output.shape[2:]:
        channels = channels[:, size // 2]
    # Distinct weights, because a plain sum of channels that cancel does not depend on the inputs.
    weights = torch.linspace(1, 2, len(channels), device=channels.device)
    if not channels.requires_grad:
        return torch.zeros_like(run.x)
    (gradient,) = torch.autograd.grad(
        (channels * weights).sum(), run.x, retain_graph=True, materialize_grads=True
    )
    if run.layout is None:
        return gradient
    batch_size, _ = run.layout.sizes(tuple(gradient.shape))
    return run.layout.arrange(gradient, batch_size)


# ---------------------------------------------------------------------------------------- words


def format_table(layers: Sequence[LayerInfo]) -> list[str]:
    """The lines of a table, with a star before each recommended layer."""
    rows = [["", "layer", "type", "output", "receptive field", "why"]]
    for layer in layers:
        field = (">= " if layer.receptive_field_clipped else "") + _by(layer.receptive_field)
        output = _by(layer.output_shape) + (f" of {layer.layout}" if layer.layout else "")
        star = "*" if layer.recommended else ""
        rows.append([star, layer.name, layer.type, output, field, layer.reason])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def format_advice(layers: Sequence[LayerInfo]) -> list[str]:
    """What to pass as ``--layers``, and the warnings about it, one line each."""
    recommended = [layer for layer in layers if layer.recommended]
    names_by_warning: dict[str, list[str]] = {}
    for layer in recommended:
        for warning in layer.warnings:
            names_by_warning.setdefault(warning, []).append(layer.name)
    return [
        *_arguments(recommended),
        *(f"{', '.join(names)}: {warning}" for warning, names in names_by_warning.items()),
    ]


def _arguments(recommended: Sequence[LayerInfo]) -> list[str]:
    """The recommended layers, for the command line and, if a name does not suffice, in Python."""
    layers = [layer.layer for layer in recommended]
    if all(layer == Layer(layer.module) for layer in layers):
        return [f"--layers {' '.join(layer.name for layer in recommended)}"]
    return ["--layers auto", f"layers=[{', '.join(map(_code, layers))}]"]


def _code(layer: Layer) -> str:
    """The layer as an expression of Python."""
    options = {"layout": layer.layout, "index": layer.index, "calls": layer.calls}
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"Layer({', '.join([repr(layer.module), *given])})" if given else repr(layer.module)


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "-"
