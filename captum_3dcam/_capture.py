"""Layers -> their factors for a target: one forward and one backward pass, by hooks.

The forward runs with gradients off, and the hook of whichever layer runs first switches them
on: the graph starts there, and nothing upstream of it is kept. A gradient is reduced the moment
it passes, and of an activation only that is held which the reduction needs. Hooks exist only
during the call, and the model continues with its own tensors, in-place operations included.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy

from captum_3dcam._captum import (
    format_additional_forward_args,
    format_tensor_into_tuples,
    run_forward,
    sort_key_list,
)
from captum_3dcam._frozen_batch_norm import lean_graph
from captum_3dcam._model_state import preserved_state
from captum_3dcam._reduction import LayerFactors, Parts, Reduction, stack_calls
from captum_3dcam._targets import select_output, select_scores
from captum_3dcam.layers import Layer

Inputs = Tensor | tuple[Tensor, ...]


def format_inputs(inputs: Any) -> tuple[Tensor, ...]:
    """Captum's ``inputs`` as a tuple of tensors; a TypeError for anything else."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        received = ", ".join(type(tensor).__name__ for tensor in tensors) or "an empty tuple"
        raise TypeError(
            f"inputs must be a tensor or a tuple of tensors, batch first; received {received}. "
            "Other arguments go into additional_forward_args; wrap a model that takes a list: "
            "lambda *tensors: model(list(tensors))."
        )
    if tensors[0].ndim == 0 or tensors[0].shape[0] == 0:
        raise ValueError(
            "inputs needs a batch of at least one sample; received shape "
            f"{tuple(tensors[0].shape)}."
        )
    formatted: tuple[Tensor, ...] = format_tensor_into_tuples(tensors)
    return formatted


# ------------------------------------------------------------------------ what a layer gives


class LayerCall:
    """One call of a layer, on one device: what is held of its activation, then its factors.

    The graph refers to it, so it must not refer to the model: Python's collector does not see
    cycles through the graph.
    """

    def __init__(self, tensor: Tensor, arrange: Callable[[Tensor], Tensor], reduction: Reduction):
        self.arrange, self.reduction = arrange, reduction
        # Stands for the layer in the graph. Not tensor.new_zeros, which keeps a subclass.
        self.token = torch.zeros((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)
        self.extremes: dict[str, Parts] = {}
        self.shape: tuple[int, ...] = ()
        self.activation: Parts = ()
        self.gradient: Parts = ()
        self.factors: LayerFactors | None = None
        self.superseded = False
        self.error: Exception | None = None

    def hold(self, activation: Tensor) -> None:
        """Reduce the activation, arranged, which passes in the forward."""
        self.activation = self.reduction.of_activation(activation)
        self.extremes["activation"] = torch.aminmax(self.activation[0])

    def reduce(self, gradient: Tensor, *, join: bool) -> None:
        """Reduce the gradient, which passes in the backward; ``join`` it with the activation."""
        self.gradient = self.reduction.of_gradient(self.arrange(_plain(gradient)))
        self.extremes["gradient"] = torch.aminmax(self.gradient[0])
        if join:
            self.factors = self.reduction.join(self.activation, self.gradient)
            self.gradient = ()

    def supersede(self) -> None:
        """The layer ran again, and a later call is explained."""
        self.superseded, self.activation, self.error = True, (), None


def _plain(tensor: Tensor) -> Tensor:
    """Without its subclass, which may have its own idea of arithmetic."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


class LayerCalls:
    """The calls of one layer that are explained, by device, and how many there were."""

    def __init__(self, layer: Layer, reduction: Reduction) -> None:
        self.layer, self.reduction = layer, reduction
        self.by_device: dict[torch.device, list[LayerCall]] = {}
        self.counts: dict[torch.device, int] = {}

    @property
    def stacked(self) -> bool:
        return self.layer.calls == "stack"

    @property
    def count(self) -> int:
        """How often the layer ran, on the device where it ran most."""
        return max(self.counts.values(), default=0)

    def add(self, tensor: Tensor, arrange: Callable[[Tensor], Tensor]) -> LayerCall | None:
        """A call that gave ``tensor``; None if it is not to be explained."""
        position = self.counts.get(tensor.device, 0)
        self.counts[tensor.device] = position + 1
        chosen = self.layer.calls
        if isinstance(chosen, int) and chosen != position:
            return None
        call = LayerCall(tensor, arrange, self.reduction)
        calls = self.by_device.setdefault(tensor.device, [])
        if chosen in (None, "last"):
            for earlier in calls:
                earlier.supersede()
            calls.clear()
        calls.append(call)
        try:
            activation = arrange(_plain(tensor.detach()))
            call.shape = tuple(activation.shape)
            _check_grid(self.layer, call.shape)
            call.hold(activation)
        except Exception as error:
            # If a later call is explained, this one's error does not matter.
            call.error = error
        return call

    def __iter__(self) -> Iterator[LayerCall]:
        return (call for calls in self.by_device.values() for call in calls)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the layer's tensor over all devices, as it was arranged: (N, C, *S_k)."""
        firsts = [calls[0].shape for calls in self.by_device.values()]
        rows = sum(shape[0] for shape in firsts)
        stacked = (self.count,) if self.stacked else ()
        return (rows, firsts[0][1], *stacked, *firsts[0][2:])

    def factors(self, device_ids: list[int] | None) -> list[LayerFactors]:
        """One for each call that is explained apart, over all devices."""
        by_device = {device: self._factors_on(calls) for device, calls in self.by_device.items()}
        return [
            _gather_factors(dict(zip(by_device, each, strict=True)), device_ids)
            for each in zip(*by_device.values(), strict=True)
        ]

    def _factors_on(self, calls: list[LayerCall]) -> list[LayerFactors]:
        if self.stacked:
            activation = stack_calls([call.activation for call in calls])
            gradient = stack_calls([call.gradient or _no_gradient(call) for call in calls])
            return [self.reduction.join(activation, gradient)]
        return [call.factors for call in calls if call.factors is not None]


def _no_gradient(call: LayerCall) -> Parts:
    """Of a call that does not reach the score, beside others that do."""
    return call.reduction.of_gradient(call.activation[0].new_zeros(call.shape))


def _gather_factors(
    by_device: dict[torch.device, LayerFactors], device_ids: list[int] | None
) -> LayerFactors:
    def gathered(parts: Iterable[Parts]) -> Parts:
        each = zip(*parts, strict=True)
        return tuple(gather(dict(zip(by_device, p, strict=True)), device_ids) for p in each)

    return LayerFactors(
        gathered(each.factors for each in by_device.values()),
        gathered(each.cancellations for each in by_device.values()),
    )


def gather(
    per_device: Mapping[torch.device, Tensor], device_ids: list[int] | None = None
) -> Tensor:
    """The tensors of a DataParallel model's replicas as one, in the order of ``device_ids``."""
    if len(per_device) > 1 and not device_ids:
        raise ValueError(
            f"The layer ran on several devices, {', '.join(map(str, per_device))}, and their "
            "order in the batch is not known. Pass device_ids, as given to DataParallel."
        )
    ordered = [per_device[key] for key in sort_key_list(list(per_device), device_ids)]
    if len(ordered) == 1:
        return ordered[0]
    return torch.cat([tensor.to(ordered[0].device) for tensor in ordered])


# ------------------------------------------------------------------------------ the two passes


@dataclass
class Recording:
    """What one forward pass leaves: its output and, per layer, its calls."""

    output: Tensor
    layers: tuple[LayerCalls, ...] = field(repr=False)
    inputs: tuple[Tensor, ...] = field(repr=False)
    device_ids: list[int] | None = None
    training: bool = False
    """Whether a module was in train mode."""
    notes: tuple[str, ...] = ()
    """What to warn of."""

    def factors(
        self, target: Any = None, *, retain_graph: bool = False
    ) -> list[list[LayerFactors]]:
        """The backward pass: per layer, the factors of each call for the target's score.

        Raises what :func:`select_scores` does, and RuntimeError for a layer that does not reach
        the score or holds NaN or Inf.
        """
        with torch.enable_grad():
            scores = select_scores(self.output, target)
        if not scores.requires_grad:
            raise RuntimeError(_unreached(self.layers))
        calls = [call for layer in self.layers for call in layer]
        # Edges, for of tensors the mode would see this very call, and be off inside of it.
        begin, *ends = map(
            torch.autograd.graph.get_gradient_edge, (scores, *(call.token for call in calls))
        )
        ones = torch.ones_like(scores)
        with lean_graph(self.inputs):  # a checkpoint runs its part of the model again
            zeros = torch.autograd.grad([begin], ends, [ones], retain_graph, allow_unused=True)
        reached = {id(call) for call, zero in zip(calls, zeros, strict=True) if zero is not None}
        unreached = [layer for layer in self.layers if not _reaches(layer, reached)]
        if unreached:
            raise RuntimeError(_unreached(unreached))
        _check_finite(self.layers)
        return [layer.factors(self.device_ids) for layer in self.layers]


def _reaches(layer: LayerCalls, reached: set[int]) -> bool:
    """Whether the explained call reaches the score; of several, one on each device."""
    return all(any(id(call) in reached for call in calls) for calls in layer.by_device.values())


def _unreached(layers: Iterable[LayerCalls]) -> str:
    layers = list(layers)
    names = ", ".join(repr(layer.layer.name) for layer in layers)
    often = [each for each in layers if each.count > 1 and each.layer.calls in (None, "last")]
    calls = "".join(f" {e.layer.name!r} ran {e.count} times: the last call counts." for e in often)
    return (
        f"The output of layer(s) {names} does not reach the score: the model detaches it, "
        "runs it under torch.no_grad() or a reentrant checkpoint, overwrites it, returns "
        "labels instead of scores, or does not use it. Choose another layer, or make the path "
        f"from it differentiable.{calls}"
    )


def record(
    forward_func: Callable[..., Any],
    layers: tuple[Layer, ...],
    inputs: tuple[Tensor, ...],
    additional_forward_args: Any = None,
    *,
    reduction: Reduction,
    batch_size: int,
    rank: int | None = None,
    attribute_to_layer_input: bool = False,
    device_ids: list[int] | None = None,
    output: Any = None,
) -> Recording:
    """The forward pass: run the model, as Captum would, and hold what the reduction needs.

    Afterwards the model's hooks, buffers and attributes and torch's random generators are as
    before, also when the forward raises. A model that switches gradients off or on by itself runs
    twice, the second time with gradients from the start.

    Raises RuntimeError for a layer that did not run, and ValueError for one without a spatial
    axis or of another batch size.
    """
    arguments = format_additional_forward_args(additional_forward_args)
    inputs = tuple(map(_detached, inputs))
    arguments = arguments and tuple(map(_detached, arguments))
    forward = partial(run_forward, forward_func, inputs, None, arguments)
    roots = [forward_func] if isinstance(forward_func, nn.Module) else []
    for from_start in (False, True):
        calls = tuple(LayerCalls(layer, reduction) for layer in layers)
        run = _ForwardRun(calls, inputs, (batch_size, rank), attribute_to_layer_input, from_start)
        with run.open(roots):
            returned = run.call(forward)
        if from_start or not run.needs_gradients_from_start:
            break
    _check_calls(run.layers, batch_size)
    scores = _plain(select_output(returned, output))
    device_ids = device_ids or run.device_ids
    return Recording(scores, run.layers, inputs, device_ids, run.training, tuple(run.notes))


def _detached(value: Any) -> Any:
    """The tensor under a name of its own, so that the caller's does not join the graph."""
    if not isinstance(value, Tensor):
        return value
    # A tensor made under inference_mode cannot be saved for backward; a copy of it can.
    return value.clone() if value.is_inference() else value.detach()


class _ForwardRun:
    """One run of the model: its hooks, and its gradient mode.

    Gradients are off until a layer runs, or on from the start. Grad mode is each thread's own:
    DataParallel's replicas run in threads of their own, and each switches its own.
    """

    def __init__(
        self,
        layers: tuple[LayerCalls, ...],
        inputs: tuple[Tensor, ...],
        arrangement: tuple[int, int | None],
        layer_input: bool,
        from_start: bool,
    ) -> None:
        self.layers, self.inputs, self.from_start = layers, inputs, from_start
        self.batch_size, self.rank = arrangement
        self.layer_input = layer_input
        self.training = False
        self.needs_gradients_from_start = False
        self.device_ids: list[int] | None = None
        self._parallel = False
        self._thread = get_ident()
        self._begun: set[int] = set()
        """The threads in which a layer has run."""
        self._forced: dict[str, None] = {}
        """The layers that run under the model's own no_grad."""
        self.notes: dict[str, None] = {}
        self._shapes: list[tuple[int, ...]] = []
        """The shapes of what modules returned, for layouts that name tokens."""
        self._stack = ExitStack()

    @contextmanager
    def open(self, roots: list[nn.Module]) -> Iterator[None]:
        """Within, the hooks are there, and the model's state is restored on exit."""
        modules = [_module(calls.layer) for calls in self.layers]
        _refuse_inference_mode()
        with self._stack as stack:
            stack.enter_context(_process_wide_settings())
            stack.enter_context(torch.set_grad_enabled(self.from_start))
            stack.enter_context(
                preserved_state(*roots, *modules, tensors=self.inputs, on_new_module=self._prepare)
            )
            stack.callback(register_module_forward_pre_hook(self._before_call).remove)
            if any(calls.layer.needs_grid for calls in self.layers):
                stack.callback(register_module_forward_hook(self._note_grid).remove)
            for calls in self.layers:
                stack.callback(self._hook(calls).remove)
            stack.enter_context(lean_graph(self.inputs))
            yield

    def call(self, forward: Callable[[], Any]) -> Any:
        """Run the model; whether it needs gradients from the start is known afterwards."""
        try:
            output = forward()
        except RuntimeError as error:
            if not self.from_start and "grad" in str(error):
                # A model that differentiates by itself needs the graph upstream.
                self.needs_gradients_from_start = True
                return None
            if advice := _input_advice(self.inputs[0], str(error)):
                raise RuntimeError(f"{error} {advice}") from error
            raise
        if self._thread in self._begun and not torch.is_grad_enabled():
            self.needs_gradients_from_start = True
        return output

    def _prepare(self, module: nn.Module) -> None:
        """Before a module runs for the first time; its attributes are restored afterwards."""
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                _check_parameter(module, tensor)
        self.training = self.training or module.training
        if isinstance(module, nn.DataParallel):
            self._parallel = True
            self.device_ids = self.device_ids or module.device_ids
            replica = module.module.register_forward_pre_hook(
                self._switch_gradients_off, with_kwargs=True
            )
            self._stack.callback(replica.remove)
        elif isinstance(module, nn.parallel.DistributedDataParallel):
            # No backward pass follows that DDP would have to synchronise.
            module.require_backward_grad_sync = module.require_forward_param_sync = False
        elif isinstance(module, nn.RNNBase) and not module.training:
            restore = module.register_forward_hook(_restore_cudnn, always_call=True)
            self._stack.callback(restore.remove)

    def _is_ours(self) -> bool:
        """DataParallel's replicas run in threads; any other thread is not our business."""
        return self._parallel or get_ident() == self._thread

    def _before_call(self, module: nn.Module, args: Any) -> None:
        """Before each call of a module, in any thread."""
        if not self._is_ours():
            return
        if isinstance(module, nn.DataParallel):
            torch.set_grad_enabled(True)  # to gather the replicas' outputs with their graph
        elif isinstance(module, nn.RNNBase) and not module.training:
            _switch_cudnn_off()
        self._watch_gradients()

    def _watch_gradients(self) -> None:
        """After a layer has run, gradients are on, unless the model has switched them off."""
        if torch.is_grad_enabled() or get_ident() not in self._begun:
            return
        self.needs_gradients_from_start = True
        if self.from_start and self._forced:
            names = ", ".join(map(repr, self._forced))
            self.notes[
                f"Layer(s) {names} run under the model's own torch.no_grad() and are explained as "
                "if they did not. Modules after them run without gradients too, and the map lacks "
                "what reaches the score through these alone."
            ] = None

    def _switch_gradients_off(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """In a replica's thread, which starts with gradients on."""
        values = (*args, *kwargs.values())
        # After a layer before the DataParallel, the graph has begun and goes through.
        begun = any(isinstance(value, Tensor) and value.requires_grad for value in values)
        if not self.from_start and not begun:
            torch.set_grad_enabled(False)

    def _note_grid(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._is_ours() and isinstance(output, Tensor) and output.ndim > 2:
            self._shapes.append(tuple(output.shape))

    def _hook(self, calls: LayerCalls) -> Any:
        layer = calls.layer
        module = _module(layer)
        if isinstance(module, torch.jit.RecursiveScriptModule):  # type: ignore[attr-defined]
            raise TypeError(
                f"Layer {layer.name!r} is compiled by torch.jit.script, which no hook can enter. "
                "Explain the module that it was made from."
            )

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            if not self._is_ours():
                return None
            if isinstance(output, Tensor):
                is_input = any(argument is output for argument in args)
                return self._keep(calls, _differentiable(output, layer), is_input)
            key, tensor = select_tensor(output, layer)
            return _replaced(output, key, self._keep(calls, tensor))

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._is_ours():
                return None
            arguments: dict[Any, Any] = dict(enumerate(args))
            arguments.update(kwargs)
            key, tensor = select_tensor(arguments, layer)
            arguments[key] = self._keep(calls, tensor)
            return tuple(arguments.pop(i) for i in range(len(args))), arguments

        if self.layer_input:
            return module.register_forward_pre_hook(before, with_kwargs=True)
        return module.register_forward_hook(after)

    def _keep(self, calls: LayerCalls, tensor: Tensor, is_input: bool = False) -> Tensor:
        _refuse_inference_mode()
        arrange = calls.layer.arrangement(self.batch_size, self.rank, self._shapes)
        with torch.no_grad():
            call = calls.add(tensor, arrange)
        if call is None:
            return tensor
        if not torch.is_grad_enabled():
            if self.from_start:
                self._forced[calls.layer.name] = None
            elif get_ident() in self._begun:
                self.needs_gradients_from_start = True
            torch.set_grad_enabled(True)
        self._begun.add(get_ident())
        if is_input and not self.from_start and tensor._is_view() and not tensor.requires_grad:
            # Autograd follows both names of a view only if it was made with gradients on.
            self.needs_gradients_from_start = True
            is_input = False
        return _rejoin(tensor, call, is_input, join=not calls.stacked)


def _module(layer: Layer) -> nn.Module:
    assert isinstance(layer.module, nn.Module), "resolve_layers() has not been called"
    return layer.module


_cudnn_was_enabled: list[bool] = []


def _switch_cudnn_off() -> None:
    """The backward pass of cuDNN's recurrent networks exists in training mode only."""
    _cudnn_was_enabled.append(torch.backends.cudnn.enabled)
    torch.backends.cudnn.enabled = False


def _restore_cudnn(module: nn.Module, args: Any, output: Any) -> None:
    torch.backends.cudnn.enabled = _cudnn_was_enabled.pop()


_settings, _settings_lock = ExitStack(), Lock()
_settings_count = 0


@contextmanager
def _process_wide_settings() -> Iterator[None]:
    """Compiled code runs eagerly, and the fused transformer layers stay off.

    Compiled code does not see hooks that came after it, and warns of global ones; the fused
    layers, which PyTorch takes while gradients are off, run no modules inside. The settings are
    the whole process's: of calls in several threads the first one makes them and the last one
    restores them.
    """
    global _settings_count
    with _settings_lock:
        _settings_count += 1
        if _settings_count == 1:
            if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it is slow
                _settings.enter_context(torch.compiler.set_stance("force_eager"))
                _settings.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", ".*when there are global hooks on modules")
            _settings.callback(
                torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
            )
            torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        with _settings_lock:
            _settings_count -= 1
            if _settings_count == 0:
                _settings.close()


# --------------------------------------------------------------------------------- the graph


class _Rejoin(torch.autograd.Function):
    """The model's own tensor, with a node in the graph where its gradient passes.

    Unlike handing the model a copy, this leaves the forward as it is, in-place operations and
    aliases included. The gradient of the token is zero and not used: it makes the engine visit
    this node, and go no further than the first of all tokens.
    """

    @staticmethod
    def forward(
        ctx: Any, own: Tensor, token: Tensor, call: LayerCall, is_input: bool, join: bool
    ) -> Tensor:
        ctx.call, ctx.join = call, join
        ctx.set_materialize_grads(False)
        if is_input:  # the model may continue with either name
            ctx.mark_dirty(own)
            return own
        return own.detach()

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if gradient is None:  # undefined: an operation after the layer has no derivative
            return None, None, None, None, None
        if not ctx.call.superseded:
            ctx.call.reduce(gradient, join=ctx.join)
        return gradient, _plain(gradient).new_zeros(()), None, None, None


def _rejoin(own: Tensor, call: LayerCall, is_input: bool, join: bool) -> Tensor:
    joined: Tensor
    if is_input:
        try:
            # Nothing is written, so what was saved of the tensor before stays valid.
            with _unsafe_preserve_version_counter(own):
                joined = _Rejoin.apply(own, call.token, call, True, join)
        except RuntimeError:  # one of several views that an operation returned, as of chunk
            pass
        else:
            return joined
    joined = _Rejoin.apply(own, call.token, call, False, join)
    return joined


# ---------------------------------------------------------------------- tensors among values


def select_tensor(values: Any, layer: Layer) -> tuple[Any, Tensor]:
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
        expected = "a tensor" if layer.index is None else f"a tensor at index {layer.index!r}"
        raise TypeError(
            f"Layer {layer.name!r} should give {expected}; it gives {type(values).__name__} with "
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


# -------------------------------------------------------------------------- input validation


def _refuse_inference_mode() -> None:
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "No gradient can be recorded under torch.inference_mode(). Call attribute() outside "
            "of it, or inside of torch.inference_mode(False); under torch.no_grad() it works."
        )


def _input_advice(x: Tensor, error: str) -> str | None:
    """What to do about an input that the model refuses."""
    if "type" in error and not x.is_floating_point():
        return (
            f"The first input has dtype {x.dtype}; networks take floating-point numbers, scaled as "
            "in training: e.g. inputs.float() / 255."
        )
    if "channels" in error:
        return (
            f"The first input has shape {tuple(x.shape)}; (N, C, *S) is usual. Move the channels, "
            "e.g. inputs.movedim(-1, 1) if they are last, or inputs.movedim(2, 1) if frames are "
            "first."
        )
    return None


def _check_parameter(module: nn.Module, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise RuntimeError(
            f"{type(module).__name__} has parameters that are not initialized yet. Run the model "
            "once on a sample before it is explained."
        )
    if tensor.is_inference():
        raise RuntimeError(
            "The model's parameters or buffers were made under torch.inference_mode(), so no "
            "gradient can pass them. Build or load the model outside of it."
        )


def _check_calls(layers: tuple[LayerCalls, ...], batch_size: int) -> None:
    silent = [repr(calls.layer.name) for calls in layers if not calls.count]
    if silent:
        raise RuntimeError(
            f"Layer(s) {', '.join(silent)} did not run in the forward pass. Either the input does "
            "not pass them, or they belong to another model or copy, or they are never called as "
            "modules (a ModuleList or ModuleDict, whose elements run; torch.jit, an exported "
            "graph, or a direct call of .forward)."
        )
    for calls in layers:
        _check_call(calls, batch_size)


def _check_call(calls: LayerCalls, batch_size: int) -> None:
    name, count = calls.layer.name, calls.count
    if not calls.by_device:
        raise ValueError(
            f"Layer {name!r} ran {count} times, so calls={calls.layer.calls} is out of range: "
            f"calls are counted from 0 to {count - 1}."
        )
    often = ""
    if count > 1:
        often = f" The layer ran {count} times in one forward pass: see calls= of Layer(...)."
    for call in calls:
        if call.error is not None:
            raise type(call.error)(f"{call.error}{often}") from call.error
    shapes = {call.shape for calls_on in calls.by_device.values() for call in calls_on}
    if calls.stacked and len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            f"Layer {name!r} gives different shapes in its {count} calls, {sorted(shapes)}, which "
            "cannot be stacked. Add their maps with calls='sum', or choose one of them."
        )
    if calls.shape[0] != batch_size:
        raise ValueError(
            f"Layer {name!r} gives shape {calls.shape} for a batch of {batch_size}. If it "
            "folds frames into the batch, unfold them with Layer(..., layout='(N T) C H W') or "
            "Layer(..., reshape=frames_to_clip(num_frames)). If it runs once for each sample, "
            f"pass one sample at a time. Inputs without a batch axis need one: inputs[None].{often}"
        )


def _check_grid(layer: Layer, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or 0 in shape:
        raise ValueError(
            f"Layer {layer.name!r} gives shape {shape}, which has no spatial axis or an empty one; "
            "(N, C, *S) is expected. Choose a layer before the pooling or flattening, or turn its "
            "output into a grid with Layer(..., layout=...) or Layer(..., reshape=...)."
        )


def _check_finite(layers: Iterable[LayerCalls]) -> None:
    """NaN and Inf would be silently zeroed by ReLU or spread by the maximum."""
    noted = [
        (f"the {kind} of {calls.layer.name!r}", extreme)
        for calls in layers
        for call in calls
        for kind, extremes in call.extremes.items()
        for extreme in extremes
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
