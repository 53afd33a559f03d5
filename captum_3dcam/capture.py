"""Layers -> [(activation, gradient)]: one forward, one backward, hooks only inside the call.

The forward runs with gradients off, and the hook of whichever layer runs first switches them
on: the graph starts there, and nothing upstream of it is kept. Each hook keeps a copy of its
tensor, which later in-place operations cannot reach, and gives the model its own tensor back,
joined to that copy in the graph. All private names of Captum's are imported here.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from reprlib import repr as shorten
from threading import Lock, get_ident
from typing import Any

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

from captum_3dcam.layers import Layer
from captum_3dcam.preserve import all_modules, modules_behind, unchanged

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


@dataclass
class Recording:
    """What one forward pass leaves: its output and, per layer, the tensor on each device."""

    output: Tensor
    layers: tuple[Layer, ...]
    batch_size: int
    device_ids: list[int] | None
    captured: list[dict[torch.device, Tensor]] = field(repr=False)

    def pairs(
        self, target: Any = None, *, retain_graph: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        """(activation, gradient of the target's score) per layer, both (N, C, *S_k).

        Raises what :func:`select_scores` does, RuntimeError for a layer that does not reach the
        score or holds NaN or Inf, and ValueError for one without a spatial axis.
        """
        with torch.enable_grad():
            scores = select_scores(self.output, target)
        if not scores.requires_grad:
            raise RuntimeError(self._unreached(range(len(self.layers))))
        flat = [tensor for per_device in self.captured for tensor in per_device.values()]
        gradients = torch.autograd.grad(
            scores, flat, torch.ones_like(scores), retain_graph=retain_graph, allow_unused=True
        )
        by_tensor = dict(zip(map(id, flat), gradients, strict=True))
        unreached = [
            k
            for k, per_device in enumerate(self.captured)
            if any(by_tensor[id(tensor)] is None for tensor in per_device.values())
        ]
        if unreached:
            raise RuntimeError(self._unreached(unreached))
        pairs = [
            (
                self._arrange(layer, {d: t.detach() for d, t in per_device.items()}),
                self._arrange(layer, {d: by_tensor[id(t)] for d, t in per_device.items()}),
            )
            for layer, per_device in zip(self.layers, self.captured, strict=True)
        ]
        _check_finite(self.layers, pairs)
        return pairs

    def _arrange(self, layer: Layer, per_device: dict[torch.device, Tensor]) -> Tensor:
        tensor = gather(per_device, self.device_ids)
        tensor = tensor if layer.reshape is None else layer.reshape(tensor)
        if tensor.ndim < 3 or tensor.numel() == 0:
            raise ValueError(
                f"Layer {layer.name!r} gives shape {tuple(tensor.shape)}, which has no spatial "
                "axis, or none with a place in it: (N, C, *S) is expected. Choose a layer before "
                "the pooling or flattening, or turn its output into a grid with "
                "Layer(..., reshape=...)."
            )
        if tensor.shape[0] != self.batch_size:
            raise ValueError(
                f"Layer {layer.name!r} gives shape {tuple(tensor.shape)} for a batch of "
                f"{self.batch_size}. If it folds frames into the batch, unfold them with "
                "Layer(..., reshape=frames_to_clip(num_frames)). If it runs once for each sample, "
                "pass one sample at a time. Inputs without a batch axis need one: inputs[None]."
            )
        return tensor

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
    attribute_to_layer_input: bool = False,
    device_ids: list[int] | None = None,
) -> Recording:
    """Run the model once, as Captum would, and keep what the layers gave.

    A layer that runs several times in one forward is captured at its last call. The model's
    hooks, buffers and torch's random generators are afterwards as they were, also when the
    forward raises.
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
            stack.enter_context(_capturing(layer, attribute_to_layer_input, bool(parallel)))
            for layer in layers
        ]
        output = _run_forward(forward_func, inputs, None, arguments)
    _check_ran(layers, captured)
    if not isinstance(output, Tensor):
        keys = f" with keys {list(output)}" if isinstance(output, Mapping) else ""
        raise TypeError(
            f"forward_func must return a tensor of scores; it returned {type(output).__name__}"
            f"{keys}. Pass a function that picks it: lambda *args: model(*args)[...]."
        )
    device_ids = device_ids or next((module.device_ids for module in parallel), None)
    return Recording(output, layers, inputs[0].shape[0], device_ids, captured)


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
    """The model's own tensor, with the gradient led to the copy that was kept of it.

    Unlike handing the model a copy, this leaves the forward as it is, in-place operations and
    aliases included, and costs one copy a layer.
    """

    @staticmethod
    def forward(ctx: Any, kept: Tensor, own: Tensor) -> Tensor:
        return own.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _RejoinUnderEveryName(_Rejoin):
    """The same for a layer that gives back its input: the model may go on with either name."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, own: Tensor) -> Tensor:
        ctx.mark_dirty(own)
        return own


def _rejoin(kept: Tensor, own: Tensor, is_input: bool) -> Tensor:
    joined: Tensor
    if is_input:
        # Nothing is written, so what was saved of the tensor before stays valid.
        with _unsafe_preserve_version_counter(own):
            joined = _RejoinUnderEveryName.apply(kept, own)
    else:
        joined = _Rejoin.apply(kept, own)
    return joined


@contextmanager
def _capturing(
    layer: Layer, layer_input: bool, any_thread: bool
) -> Iterator[dict[torch.device, Tensor]]:
    """Fill the dict it gives with the layer's tensor on each device, while it is open.

    DataParallel's replicas run in threads; else another thread that runs the model meanwhile is
    none of ours.
    """
    per_device: dict[torch.device, Tensor] = {}
    lock, own_thread = Lock(), get_ident()

    def is_ours() -> bool:
        return any_thread or get_ident() == own_thread

    def keep(tensor: Tensor, is_input: bool = False) -> Tensor:
        _refuse_inference_mode(())
        torch.set_grad_enabled(True)
        kept = tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()
        with lock:
            per_device[tensor.device] = kept
        return _rejoin(kept, tensor, is_input)

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


def _check_ran(layers: tuple[Layer, ...], captured: list[dict[torch.device, Tensor]]) -> None:
    silent = [repr(layer.name) for layer, seen in zip(layers, captured, strict=True) if not seen]
    if silent:
        raise RuntimeError(
            f"Layer(s) {', '.join(silent)} did not run in the forward pass. Either the input does "
            "not pass them, or they belong to another model or copy, or they are never called as "
            "modules (a ModuleList or ModuleDict, whose elements run; torch.jit, an exported "
            "graph, or a direct call of .forward)."
        )


def _check_finite(layers: tuple[Layer, ...], pairs: list[tuple[Tensor, Tensor]]) -> None:
    """NaN and Inf would be silently zeroed by ReLU or spread by the maximum."""
    extremes = [torch.stack(torch.aminmax(tensor)) for pair in pairs for tensor in pair]
    # One transfer for all layers: on a GPU each would wait for the device.
    finite = torch.stack([e.isfinite().all().to(extremes[0].device) for e in extremes]).tolist()
    kinds = ("activation", "gradient")
    broken = [
        f"the {kinds[position % 2]} of {layers[position // 2].name!r}"
        for position, is_finite in enumerate(finite)
        if not is_finite
    ]
    if broken:
        raise RuntimeError(
            f"NaN or Inf in {', '.join(broken)}. Check the input and weights for NaN; in half "
            "precision, use bfloat16 or float32."
        )
