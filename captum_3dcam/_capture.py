"""Layers -> what a rule makes of their activations and gradients: one forward, one backward.

The forward runs with gradients off, and the hook of whichever layer runs first switches them
on: the graph starts there, and nothing upstream of it is kept. A gradient is reduced the moment
it passes, and of an activation only that is held which the reduction will need. Hooks are there
only inside the call, and the model goes on with its own tensors, in-place operations and all.
All private names of Captum's are imported here.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from reprlib import repr as shorten
from threading import Lock, get_ident
from typing import Any, NamedTuple

import torch
from captum._utils.common import (
    _format_additional_forward_args,
    _format_tensor_into_tuples,
    _run_forward,
    _select_targets,
    _sort_key_list,
)
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from captum_3dcam._frozen_batch_norm import lean_graph
from captum_3dcam._model_state import all_modules, modules_behind, unchanged
from captum_3dcam.layers import Layer

Inputs = Tensor | tuple[Tensor, ...]


def format_inputs(inputs: Any) -> tuple[Tensor, ...]:
    """Captum's ``inputs`` as a tuple of tensors; a TypeError for anything else."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        came = ", ".join(type(tensor).__name__ for tensor in tensors) or "an empty tuple"
        raise TypeError(
            f"inputs must be a tensor or a tuple of tensors, batch first; got {came}. What is no "
            "tensor goes into additional_forward_args; a model that takes a list is wrapped: "
            "lambda *tensors: model(list(tensors))."
        )
    if tensors[0].ndim == 0 or tensors[0].shape[0] == 0:
        raise ValueError(
            f"inputs needs a batch of at least one sample; got shape {tuple(tensors[0].shape)}."
        )
    formatted: tuple[Tensor, ...] = _format_tensor_into_tuples(tensors)
    return formatted


Parts = tuple[Tensor, ...]
"""Tensors with an entry for each sample, on the device that they were made on."""


class Reduction(NamedTuple):
    """What is made of a layer's activation and gradient, both (N, C, *S_k), as they pass.

    The first part of either must be finite if and only if that is which it was made of.
    """

    of_activation: Callable[[Tensor], Parts]
    """What is held of the activation. No view of it: the model may write to it later."""
    of_gradient: Callable[[Tensor], Parts]
    join: Callable[[Parts, Parts], Parts]
    """What becomes of both."""


class Captured:
    """What one layer gave on one device, at its last call."""

    def __init__(self, layer: Layer, reduction: Reduction, tensor: Tensor) -> None:
        self.layer, self.reduction = layer, reduction
        self.token = tensor.new_zeros((), requires_grad=True)
        """Stands for the layer in the graph."""
        self.extremes: dict[str, Parts] = {}
        self.shape: tuple[int, ...] = ()
        self.held: Parts = ()
        self.reduced: Parts = ()
        self.error: Exception | None = None
        try:
            self._hold(tensor.detach())
        except Exception as error:
            # If the layer runs again, that was not what the caller wants to see.
            self.error = error

    def _hold(self, tensor: Tensor) -> None:
        activation = self._arranged(tensor)
        self.shape = tuple(activation.shape)
        _check_grid(self.layer, self.shape)
        self.held = self.reduction.of_activation(activation)
        self.extremes["activation"] = torch.aminmax(self.held[0])

    def see(self, gradient: Tensor) -> None:
        """Reduce the gradient that comes by."""
        parts = self.reduction.of_gradient(self._arranged(gradient))
        self.extremes["gradient"] = torch.aminmax(parts[0])
        self.reduced = self.reduction.join(self.held, parts)

    def _arranged(self, tensor: Tensor) -> Tensor:
        return tensor if self.layer.reshape is None else self.layer.reshape(tensor)


PerDevice = dict[torch.device, Captured]


@dataclass
class Recording:
    """What one forward pass leaves: its output and, per layer, what it gave on each device."""

    output: Tensor
    layers: tuple[Layer, ...]
    inputs: tuple[Tensor, ...]
    device_ids: list[int] | None
    captured: list[PerDevice] = field(repr=False)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each layer's tensor, as it was reshaped: (N, C, *S_k)."""
        return [_shape(per_device) for per_device in self.captured]

    def reduced(self, target: Any = None, *, retain_graph: bool = False) -> list[Parts]:
        """Per layer, what the reduction makes of it for the target's score.

        Raises what :func:`select_scores` does, and RuntimeError for a layer that does not reach
        the score or holds NaN or Inf.
        """
        with torch.enable_grad():
            scores = select_scores(self.output, target)
        if not scores.requires_grad:
            raise RuntimeError(self._unreached(range(len(self.layers))))
        everywhere = [list(per_device.values()) for per_device in self.captured]
        tokens = [captured.token for of_layer in everywhere for captured in of_layer]
        # Edges, for of tensors the mode would see this very call, and be off inside of it.
        begin, *ends = map(torch.autograd.graph.get_gradient_edge, (scores, *tokens))
        ones = torch.ones_like(scores)
        with lean_graph(self.inputs):  # a checkpoint runs its part of the model again
            zeros = torch.autograd.grad([begin], ends, [ones], retain_graph, allow_unused=True)
        reached = {id(token) for token, zero in zip(tokens, zeros, strict=True) if zero is not None}
        unreached = [
            k
            for k, of_layer in enumerate(everywhere)
            if any(id(captured.token) not in reached for captured in of_layer)
        ]
        if unreached:
            raise RuntimeError(self._unreached(unreached))
        _check_finite(self.layers, everywhere)
        return [self._gathered(per_device) for per_device in self.captured]

    def _gathered(self, per_device: PerDevice) -> Parts:
        """Each of the reduction's tensors, over all devices."""
        parts = zip(*(captured.reduced for captured in per_device.values()), strict=True)
        return tuple(
            gather(dict(zip(per_device, part, strict=True)), self.device_ids) for part in parts
        )

    def _unreached(self, positions: Iterable[int]) -> str:
        names = ", ".join(repr(self.layers[k].name) for k in positions)
        return (
            f"The output of layer(s) {names} does not reach the score: the model detaches it, "
            "runs it under torch.no_grad() or a reentrant checkpoint, overwrites it, returns "
            "labels instead of scores, or does not use it. Choose another layer, or make the path "
            "from it differentiable."
        )


def record(
    forward_func: Callable[..., Any],
    layers: tuple[Layer, ...],
    inputs: tuple[Tensor, ...],
    additional_forward_args: Any = None,
    *,
    reduction: Reduction,
    attribute_to_layer_input: bool = False,
    device_ids: list[int] | None = None,
) -> Recording:
    """Run the model once, as Captum would, and keep what the reduction holds of the layers.

    A layer that runs several times in one forward is captured at its last call. The model's
    hooks, buffers and torch's random generators are afterwards as they were, also when the
    forward raises.

    Raises RuntimeError for a layer that did not run, and ValueError for one without a spatial
    axis or of another batch size.
    """
    modules = all_modules([*modules_behind(forward_func), *map(_module, layers)])
    _refuse_inference_mode(modules)
    arguments = _format_additional_forward_args(additional_forward_args)
    inputs = tuple(map(_detached, inputs))
    arguments = arguments and tuple(map(_detached, arguments))
    parallel = [module for module in modules if isinstance(module, nn.DataParallel)]
    with ExitStack() as stack:
        stack.enter_context(unchanged(modules))
        stack.enter_context(_compiled_code_runs_eagerly())
        stack.enter_context(_gradients_off_until_first_layer(parallel))
        captured = [
            stack.enter_context(
                _capturing(layer, reduction, attribute_to_layer_input, bool(parallel))
            )
            for layer in layers
        ]
        stack.enter_context(lean_graph(inputs))
        output = _run_forward(forward_func, inputs, None, arguments)
    _check_ran(layers, captured)
    _check_fitting(layers, captured, inputs[0].shape[0])
    if not isinstance(output, Tensor):
        keys = f" with keys {list(output)}" if isinstance(output, Mapping) else ""
        raise TypeError(
            f"forward_func must return a tensor of scores; it returned {type(output).__name__}"
            f"{keys}. Pass a function that picks it: lambda *args: model(*args)[...]."
        )
    device_ids = device_ids or next((module.device_ids for module in parallel), None)
    return Recording(output, layers, inputs, device_ids, captured)


def _detached(value: Any) -> Any:
    """The tensor under a name of its own, so that the caller's does not join the graph."""
    if not isinstance(value, Tensor):
        return value
    # A tensor made under inference_mode cannot be saved for backward; a copy of it can.
    return value.clone() if value.is_inference() else value.detach()


def gather(
    per_device: Mapping[torch.device, Tensor], device_ids: list[int] | None = None
) -> Tensor:
    """The tensors of a DataParallel model's replicas as one, in the order of ``device_ids``."""
    if len(per_device) > 1 and not device_ids:
        raise ValueError(
            f"The layer ran on several devices, {', '.join(map(str, per_device))}, and their "
            "order in the batch is not known. Pass device_ids, as given to DataParallel."
        )
    ordered = [per_device[key] for key in _sort_key_list(list(per_device), device_ids)]
    if len(ordered) == 1:
        return ordered[0]
    return torch.cat([tensor.to(ordered[0].device) for tensor in ordered])


# ------------------------------------------------------------------------------------ scores


def select_scores(output: Tensor, target: Any = None) -> Tensor:
    """One score per sample, by Captum's ``target``: (N, ...) -> (N,).

    ``target=None`` on (N, C) takes each sample's arg-max, the lowest index on ties; it needs
    no choice where there is one value per sample, or one for the batch.

    Raises IndexError for a target out of range, ValueError for one that does not select
    exactly one value per sample.
    """
    if target is None:
        return _predicted_scores(output)
    target = _plain(target)
    _check_target(output, target)
    scores: Tensor = _select_targets(output, target)
    if scores.numel() != output.shape[0]:
        raise ValueError(
            f"target={shorten(target)} selects {tuple(scores.shape)} values from an output of "
            f"shape {tuple(output.shape)}; one per sample is needed. Give a tuple with an index "
            "for each axis after the batch, or reduce the output in forward_func."
        )
    return scores.reshape(-1)


def _predicted_scores(output: Tensor) -> Tensor:
    if output.numel() == 1 or output.numel() == output.shape[0]:
        return output.reshape(-1)
    if output.ndim != 2:
        raise ValueError(
            f"An output of shape {tuple(output.shape)} needs a target: a tuple with an index "
            "for each axis after the batch, as (class, y, x) for one place of a segmentation. Or "
            "reduce it to (N, classes) in forward_func, e.g. by a mean over time."
        )
    return output.gather(1, output.argmax(dim=1, keepdim=True)).reshape(-1)


def top_classes(output: Tensor, k: int) -> Tensor:
    """Indices (N, k) of the k highest scores of (N, C), the lowest index first on ties."""
    if output.ndim != 2:
        raise ValueError(
            f"attribute_top_k needs scores of shape (N, classes); forward_func returned "
            f"{tuple(output.shape)}. Reduce its other axes in forward_func."
        )
    if not 1 <= k <= output.shape[1]:
        raise ValueError(f"k must be from 1 to the {output.shape[1]} classes; got {k}.")
    return output.detach().argsort(dim=1, descending=True, stable=True)[:, :k]


def _plain(target: Any) -> Any:
    """NumPy's and torch's integers and arrays as Python's ints and lists of them."""
    if isinstance(target, list):
        return [_plain(entry) for entry in target]
    if isinstance(target, tuple):
        return tuple(_plain(entry) for entry in target)
    if not hasattr(target, "tolist"):
        return target
    array = torch.as_tensor(target)
    return array.item() if array.numel() == 1 else array.tolist()


def _check_target(output: Tensor, target: Any) -> None:
    """Say what is wrong before indexing does: on CUDA that would end the process's context."""
    shape = tuple(output.shape)
    per_sample = isinstance(target, list)
    entries = target if per_sample else [target]
    indices = [entry if isinstance(entry, tuple) else (entry,) for entry in entries]
    kinds = {type(index) for entry in indices for index in entry}
    if kinds - {int} or len({isinstance(entry, tuple) for entry in entries}) > 1:
        raise TypeError(
            "target must be None, an int, a tuple of ints, a 1D tensor of ints, or a list of ints "
            f"or of tuples; got {shorten(target)}."
        )
    if not shape:
        raise ValueError("The output is a single number, so it takes no target; pass target=None.")
    if per_sample and len(entries) != shape[0]:
        raise ValueError(
            f"target has {len(entries)} entries for a batch of {shape[0]}; give one for each "
            "sample, or a single int or tuple for all."
        )
    for entry in indices:
        _check_index(entry, shape, lists=per_sample and not isinstance(entries[0], tuple))


def _check_index(entry: tuple[int, ...], shape: tuple[int, ...], *, lists: bool) -> None:
    axes = len(shape) - 1
    if axes == 0:
        raise ValueError(
            f"target {entry} is not needed: the output, of shape {shape}, has one score per "
            "sample. Pass target=None."
        )
    if len(entry) > axes or (lists and axes != 1):
        raise ValueError(
            f"target {entry} does not fit an output of shape {shape}: it has {axes} axes after "
            "the batch. Give a tuple with an index for each, or a list of such tuples."
        )
    for axis, (index, size) in enumerate(zip(entry, shape[1:], strict=False), start=1):
        # Captum gathers a list of ints, and gather cannot count from the end; the rest can.
        if not (0 if lists else -size) <= index < size:
            raise IndexError(
                f"target {index} is out of range: axis {axis} of the output, of shape {shape}, "
                f"takes 0 to {size - 1}."
            )


# ------------------------------------------------------------------------------------- hooks


class _Rejoin(torch.autograd.Function):
    """The model's own tensor, with a hold in the graph where its gradient comes by.

    Unlike handing the model a copy, this leaves the forward as it is, in-place operations and
    aliases included. The gradient of the token is zero and nobody's concern: it has the engine
    come by here, and go no further than the first of all tokens.
    """

    @staticmethod
    def forward(ctx: Any, token: Tensor, own: Tensor, per_device: PerDevice) -> Tensor:
        ctx.token, ctx.per_device = token, per_device
        return own.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        captured = ctx.per_device[gradient.device]
        if captured.token is ctx.token:  # else the layer ran again later
            captured.see(gradient)
        return torch.zeros_like(ctx.token), gradient, None


class _RejoinUnderEveryName(_Rejoin):
    """The same for a layer that gives back its input: the model may go on with either name."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, own: Tensor, per_device: PerDevice) -> Tensor:
        ctx.token, ctx.per_device = token, per_device
        ctx.mark_dirty(own)
        return own


def _rejoin(token: Tensor, own: Tensor, per_device: PerDevice, is_input: bool) -> Tensor:
    joined: Tensor
    if is_input:
        # Nothing is written, so what was saved of the tensor before stays valid.
        with _unsafe_preserve_version_counter(own):
            joined = _RejoinUnderEveryName.apply(token, own, per_device)
    else:
        joined = _Rejoin.apply(token, own, per_device)
    return joined


@contextmanager
def _capturing(
    layer: Layer, reduction: Reduction, layer_input: bool, any_thread: bool
) -> Iterator[PerDevice]:
    """Fill the dict it gives with what the layer gave on each device, while it is open.

    DataParallel's replicas run in threads; else another thread that runs the model meanwhile is
    none of ours.
    """
    per_device: PerDevice = {}
    own_thread = get_ident()

    def is_ours() -> bool:
        return any_thread or get_ident() == own_thread

    def keep(tensor: Tensor, is_input: bool = False) -> Tensor:
        _refuse_inference_mode(())
        with torch.no_grad():
            captured = Captured(layer, reduction, tensor)
        per_device[tensor.device] = captured
        torch.set_grad_enabled(True)
        return _rejoin(captured.token, tensor, per_device, is_input)

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        if not is_ours():
            return None
        if isinstance(output, Tensor):
            is_input = any(argument is output for argument in args)
            return keep(_differentiable(output, layer), is_input)
        key, tensor = choose(output, layer)
        return _replaced(output, key, keep(tensor))

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_ours():
            return None
        arguments: dict[Any, Any] = dict(enumerate(args))
        arguments.update(kwargs)
        key, tensor = choose(arguments, layer)
        arguments[key] = keep(tensor)
        return tuple(arguments.pop(i) for i in range(len(args))), arguments

    module = _module(layer)
    if isinstance(module, torch.jit.RecursiveScriptModule):  # type: ignore[attr-defined]
        raise TypeError(
            f"Layer {layer.name!r} is compiled by torch.jit.script, which no hook can enter. "
            "Explain the module that it was made from."
        )
    if layer_input:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield per_device
    finally:
        handle.remove()


def _module(layer: Layer) -> nn.Module:
    assert isinstance(layer.module, nn.Module), "resolve_layers() has not been called"
    return layer.module


def choose(values: Any, layer: Layer) -> tuple[Any, Tensor]:
    """The key and tensor that the layer's ``index`` names; without one, the first tensor."""
    items: dict[Any, Any] = {}
    if isinstance(values, Mapping):
        items.update(values)
    elif isinstance(values, (tuple, list)):
        items.update(enumerate(values))
    tensors = {key: value for key, value in items.items() if isinstance(value, Tensor)}
    key: Any = next(iter(tensors), None) if layer.index is None else layer.index
    if isinstance(key, str) and key in getattr(values, "_fields", ()):
        key = values._fields.index(key)
    if isinstance(key, int) and key < 0:
        key += len(items)
    if key not in tensors:
        wanted = "a tensor" if layer.index is None else f"a tensor at index {layer.index!r}"
        raise TypeError(
            f"Layer {layer.name!r} should give {wanted}; it gives {type(values).__name__} with "
            f"tensors at {list(tensors)}. Choose one with Layer(..., index=...)."
        )
    return key, _differentiable(tensors[key], layer)


def _differentiable(tensor: Tensor, layer: Layer) -> Tensor:
    if not tensor.is_floating_point():
        raise TypeError(
            f"Layer {layer.name!r} gives {tensor.dtype}, of which there is no gradient. Choose a "
            "layer with a floating-point output."
        )
    return tensor


def _replaced(values: Any, key: Any, tensor: Tensor) -> Any:
    """``values`` with one tensor exchanged, of the same type: the model's own code reads it."""
    if isinstance(values, Mapping):
        changed: Any = copy(values)
        changed[key] = tensor
        return changed
    items = [tensor if position == key else value for position, value in enumerate(values)]
    return type(values)(*items) if hasattr(values, "_fields") else type(values)(items)


@contextmanager
def _gradients_off_until_first_layer(parallel: list[nn.DataParallel[Any]]) -> Iterator[None]:
    """Run what is inside without gradients, until the hook of a layer switches them on.

    Grad mode is each thread's own. DataParallel runs its replicas in threads and gathers their
    outputs in this one, which must have gradients on then; so there the replicas switch them
    off, each for itself.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(bool(parallel)))
        for module in parallel:
            handle = module.module.register_forward_pre_hook(
                _switch_gradients_off, with_kwargs=True
            )
            stack.callback(handle.remove)
        yield


def _switch_gradients_off(module: nn.Module, args: Any, kwargs: Any) -> None:
    values = (*args, *kwargs.values())
    # After a layer before the DataParallel, the graph has begun and goes on.
    if not any(isinstance(value, Tensor) and value.requires_grad for value in values):
        torch.set_grad_enabled(False)


_eager_calls, _eager_lock = ExitStack(), Lock()
_eager_count = 0


@contextmanager
def _compiled_code_runs_eagerly() -> Iterator[None]:
    """Compiled code does not see hooks that came after it: run what it was compiled from.

    The stance is the whole process's: of calls in several threads the first one takes it and
    the last one gives it back.
    """
    global _eager_count
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it is slow
        yield
        return
    with _eager_lock:
        _eager_count += 1
        if _eager_count == 1:
            _eager_calls.enter_context(torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _eager_lock:
            _eager_count -= 1
            if _eager_count == 0:
                _eager_calls.close()


# ------------------------------------------------------------------------------------ checks


def _refuse_inference_mode(modules: Iterable[nn.Module]) -> None:
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "No gradient can be recorded under torch.inference_mode(). Call attribute() outside "
            "of it; under torch.no_grad() it works."
        )
    tensors = (t for m in modules for t in (*m._parameters.values(), *m._buffers.values()))
    if any(tensor is not None and tensor.is_inference() for tensor in tensors):
        raise RuntimeError(
            "The model's parameters or buffers were made under torch.inference_mode(), so no "
            "gradient can pass them. Build or load the model outside of it."
        )


def _check_ran(layers: tuple[Layer, ...], captured: list[PerDevice]) -> None:
    silent = [repr(layer.name) for layer, seen in zip(layers, captured, strict=True) if not seen]
    if silent:
        raise RuntimeError(
            f"Layer(s) {', '.join(silent)} did not run in the forward pass. Either the input does "
            "not pass them, or they belong to another model or copy, or they are never called as "
            "modules (a ModuleList or ModuleDict, whose elements run; torch.jit, an exported "
            "graph, or a direct call of .forward)."
        )


def _check_fitting(layers: tuple[Layer, ...], captured: list[PerDevice], batch_size: int) -> None:
    for layer, per_device in zip(layers, captured, strict=True):
        for each in per_device.values():
            if each.error is not None:
                raise each.error
        shape = _shape(per_device)
        if shape[0] != batch_size:
            raise ValueError(
                f"Layer {layer.name!r} gives shape {shape} for a batch of {batch_size}. If it "
                "folds frames into the batch, unfold them with "
                "Layer(..., reshape=frames_to_clip(num_frames)). If it runs once for each sample, "
                "pass one sample at a time. Inputs without a batch axis need one: inputs[None]."
            )


def _shape(per_device: PerDevice) -> tuple[int, ...]:
    shapes = [captured.shape for captured in per_device.values()]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _check_grid(layer: Layer, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or 0 in shape:
        raise ValueError(
            f"Layer {layer.name!r} gives shape {shape}, which has no spatial axis, or none with a "
            "place in it: (N, C, *S) is expected. Choose a layer before the pooling or flattening, "
            "or turn its output into a grid with Layer(..., reshape=...)."
        )


def _check_finite(layers: tuple[Layer, ...], everywhere: list[list[Captured]]) -> None:
    """NaN and Inf would be silently zeroed by ReLU or spread by the maximum."""
    noted = [
        (f"the {kind} of {layer.name!r}", extreme)
        for layer, of_layer in zip(layers, everywhere, strict=True)
        for kind in ("activation", "gradient")
        for captured in of_layer
        for extreme in captured.extremes[kind]
    ]
    # One transfer for all layers: on a GPU each would wait for the device.
    device = noted[0][1].device
    finite = torch.stack([extreme.to(device) for _, extreme in noted]).isfinite().tolist()
    broken = [what for (what, _), is_finite in zip(noted, finite, strict=True) if not is_finite]
    if broken:
        raise RuntimeError(
            f"NaN or Inf in {', '.join(dict.fromkeys(broken))}. Check the input and weights for "
            "NaN; in half precision, use bfloat16 or float32."
        )
