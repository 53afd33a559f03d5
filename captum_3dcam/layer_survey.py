"""Which layers of a model are worth explaining, with their shapes, receptive fields and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam._model_state import preserved_state

_NEW_STAGE = 1.5  # a stride of 2 halves the size; padding changes it by less
_CONSTANT = 1e-4  # rounding, relative to the gradient's largest magnitude

_CONSTANT_GRADIENT = (
    "the score's gradient is the same at every position, as under average pooling and a linear "
    "head. The map is the same for every class, or empty: do not rely on this layer alone."
)
_SIGNED = (
    "the output has negative values, so channels can cancel in their sum. If the map is poor, "
    "choose a layer inside that ends in a ReLU."
)
_UNREACHED = "the highest score does not depend on this layer. Leave it out."


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
    """Size along each axis of the input; empty if the output does not depend on the input."""
    receptive_field_clipped: bool = False
    """Whether the field reaches an edge of the input, so that it may be larger."""
    reaches_score: bool = True
    """Whether the highest score depends on the layer."""
    gradient_is_constant: bool = False
    """Whether the score's gradient is the same at every position."""
    recommended: bool = False
    reason: str = "not on the main path"
    """Why the layer is recommended, or not."""

    @property
    def warnings(self) -> list[str]:
        """What to know before explaining the layer."""
        conditions = {
            _CONSTANT_GRADIENT: self.gradient_is_constant,
            _SIGNED: not self.rectified,
            _UNREACHED: not self.reaches_score,
        }
        return [text for text, applies in conditions.items() if applies]


def survey_layers(
    model: nn.Module, inputs: Tensor, *, nested: bool = False, progress: bool = False
) -> list[LayerInfo]:
    """Describe the layers of a model and recommend one at the end of each resolution.

    The main path is the layers at the nesting depth at which the resolution changes most often: in
    a ResNet the stem and ``layer1`` to ``layer4``. Of single operations at one resolution, the last
    without negative values is recommended. A receptive field is the extent of the non-zero input
    gradient of a layer's central position, an estimate from below; it is joined over samples.

    Args:
        model: in eval mode. It runs once per sample, and its state is left unchanged.
        inputs: (N, C, *S). Shapes and gradients are those of the first sample.
        nested: also describe the layers inside and around those of the main path.
        progress: show a progress bar.

    Returns:
        The layers that output (1, C_k, *S_k) with several positions, in order of execution.

    Raises:
        ValueError: for inputs without a spatial axis, and if there is no such layer.
        RuntimeError: if the model fails on the inputs.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten())
    >>> for layer in survey_layers(model, torch.rand(1, 3, 8, 8)):
    ...     print(layer.name, layer.output_shape, layer.receptive_field, layer.recommended)
    0 (4, 6, 6) (3, 3) False
    1 (4, 6, 6) (3, 3) True
    2 (4, 3, 3) (4, 4) True
    """
    if inputs.ndim < 3 or not len(inputs):
        raise ValueError(
            "inputs: expected one sample or more, (N, C, *S), with a spatial axis; received shape "
            f"{tuple(inputs.shape)}."
        )
    with preserved_state(model):
        runs = [_run(model, sample) for sample in inputs.split(1)]
        records = list(runs[0].records.values())
        main_path = _main_path(records)
        chosen = _with_score_gradients(records if nested else main_path, runs[0].output)
        recommendations = _recommendations(main_path)
        return [
            replace(layer, **recommendations.get(layer.name, {}), **_receptive_field(layer, runs))
            for layer in tqdm(chosen, "receptive fields", unit="layer", disable=not progress)
        ]


# ------------------------------------------------------------------------------- one forward pass


class _Record(NamedTuple):
    """A layer's last call in one forward pass."""

    layer: LayerInfo
    output: Tensor
    """(1, C, *S_k), with its graph. An in-place operation may have changed it since."""
    depth: int
    """How many other layers were running around it."""
    is_leaf: bool

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.output.shape[2:])


class _Run(NamedTuple):
    inputs: Tensor
    output: Any
    records: dict[str, _Record]
    """By the layers' names, in the order in which they ended."""


def _run(model: nn.Module, sample: Tensor) -> _Run:
    """A forward pass of one sample (1, C, *S) that records every layer's feature map."""
    names = {module: name for name, module in model.named_modules() if name}
    records: dict[str, _Record] = {}
    depth = 0
    weights_used = False  # until then, a layer only pads or scales the input

    def before(module: nn.Module, args: Any) -> None:
        nonlocal depth
        depth += 1

    def after(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth, weights_used
        depth -= 1
        weights_used = weights_used or next(module.parameters(recurse=False), None) is not None
        if not isinstance(output, Tensor) or output.ndim != sample.ndim or len(output) != 1:
            return
        if weights_used and output.requires_grad and math.prod(output.shape[2:]) > 1:
            name, shape = names[module], tuple(output.shape[1:])
            layer = LayerInfo(name, type(module).__name__, shape, bool(output.amin() >= 0))
            records.pop(name, None)  # keep the last call, in its order
            records[name] = _Record(layer, output, depth, next(module.children(), None) is None)

    handles = [module.register_forward_pre_hook(before) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    inputs = sample.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            output = model(inputs.clone())  # the model may write into its input
    except Exception as error:  # the model's code may raise anything
        raise RuntimeError(
            f"The model failed on an input of shape {tuple(sample.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not records:
        raise ValueError(
            f"No layer of this model outputs a feature map (1, C, *S) with {sample.ndim - 2} "
            "spatial axes and more than one position. For a layer of tokens, pass "
            "captum_3dcam.Layer(..., reshape=tokens_to_grid(...))."
        )
    return _Run(inputs, output, records)


# --------------------------------------------------------------------------------- recommendation


def _main_path(records: Sequence[_Record]) -> list[_Record]:
    """The layers at the nesting depth at which the resolution changes most often."""
    resolutions: dict[int, set[tuple[int, ...]]] = {}
    for record in records:
        # Rounded to powers of 2: padding, or its absence, changes a size by little.
        resolution = tuple(round(math.log2(n)) for n in record.size)
        resolutions.setdefault(record.depth, set()).add(resolution)
    depth = max(resolutions, key=lambda d: (len(resolutions[d]), -d))
    return [record for record in records if record.depth == depth]


def _recommendations(main_path: Sequence[_Record]) -> dict[str, dict[str, Any]]:
    """``recommended`` and ``reason`` of each layer."""
    recommendations: dict[str, dict[str, Any]] = {}
    for stage in _stages(main_path):
        end = _stage_end(stage).layer
        for record in stage:
            recommendations[record.layer.name] = {"reason": f"{end.name} has the same resolution"}
        kind = "last layer without negative values" if end.rectified else "last layer"
        recommendations[end.name] = {"recommended": True, "reason": f"{kind} at its resolution"}
    return recommendations


def _stages(records: Sequence[_Record]) -> list[list[_Record]]:
    """Consecutive layers of nearly the same resolution."""
    stages: list[list[_Record]] = []
    for record in records:
        first = stages[-1][0] if stages else None
        if first is None or any(
            max(m, n) >= _NEW_STAGE * min(m, n)
            for m, n in zip(record.size, first.size, strict=True)
        ):
            stages.append([])
        stages[-1].append(record)
    return stages


def _stage_end(stage: Sequence[_Record]) -> _Record:
    """The last layer; among the single operations at the end, the last rectified one."""
    for record in reversed(stage):
        if record.layer.rectified:
            return record
        if not record.is_leaf:
            break
    return stage[-1]


# --------------------------------------------------------------------------------------- gradients


def _with_score_gradients(records: Sequence[_Record], output: Any) -> list[LayerInfo]:
    """The layers with ``reaches_score`` and ``gradient_is_constant``."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        return [record.layer for record in records]
    outputs = [record.output for record in records]
    gradients = torch.autograd.grad(
        output.max(), outputs, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    layers = []
    for record, gradient in zip(records, gradients, strict=True):
        reached, positions = bool(gradient.any()), gradient.flatten(2)
        spread = (positions.amax(dim=2) - positions.amin(dim=2)).max()
        constant = reached and bool(spread <= _CONSTANT * gradient.abs().max())
        layers.append(replace(record.layer, reaches_score=reached, gradient_is_constant=constant))
    return layers


def _receptive_field(layer: LayerInfo, runs: Sequence[_Run]) -> dict[str, Any]:
    """``receptive_field`` and ``receptive_field_clipped``, of the layer's central position."""
    # Joined over runs: in one, a ReLU or a maximum may hide an edge of the field.
    pairs = [(r.inputs, r.records[layer.name].output) for r in runs if layer.name in r.records]
    gradients = torch.cat([_central_gradient(inputs, output) for inputs, output in pairs])
    inside = gradients.ne(0).flatten(0, 1).any(dim=0)
    if not inside.any():
        return {}
    indices = inside.nonzero()
    low, high = indices.amin(dim=0), indices.amax(dim=0) + 1
    clipped = (low == 0) | (high == torch.tensor(inside.shape, device=high.device))
    field = tuple((high - low).tolist())
    return {"receptive_field": field, "receptive_field_clipped": bool(clipped.any())}


def _central_gradient(inputs: Tensor, output: Tensor) -> Tensor:
    """The gradient in the inputs of a weighted channel sum at the output's central position."""
    channels = output[0]
    for size in output.shape[2:]:
        channels = channels[:, size // 2]
    # Distinct weights, because a plain sum of channels that cancel does not depend on the inputs.
    weights = torch.linspace(1, 2, len(channels), device=channels.device)
    (gradient,) = torch.autograd.grad(
        (channels * weights).sum(), inputs, retain_graph=True, materialize_grads=True
    )
    return gradient
