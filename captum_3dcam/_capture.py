"""Layers -> their factors for a target: one forward and one backward pass, by hooks.

The forward runs with gradients off, and the hook of whichever layer runs first switches them
on: the graph starts there, and nothing upstream of it is kept. A gradient is reduced the moment
it passes, and of an activation only that is held which the reduction needs. Hooks exist only
during the call, and the model continues with its own tensors, in-place operations included.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy

from captum_3dcam._captum import (
    format_additional_forward_args,
    format_tensor_into_tuples,
    run_forward,
)
from captum_3dcam._frozen_batch_norm import lean_graph
from captum_3dcam._layer_calls import LayerCalls, plain_tensor, rejoin
from captum_3dcam._layer_output import check_differentiable, replaced, select_tensor
from captum_3dcam._model_state import preserved_state
from captum_3dcam._process_settings import (
    process_wide_settings,
    restore_cudnn,
    switch_cudnn_off,
)
from captum_3dcam._reduction import LayerFactors, Reduction
from captum_3dcam._targets import select_output, select_scores
from captum_3dcam.layers import Layer, find_module, unknown_name

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
    restore_state: Callable[[], None] = field(default=lambda: None, repr=False)
    """Leaves the model as it was before the forward pass."""

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
        for call in calls:
            call.begin_backward()
        # Edges, for of tensors the mode would see this very call, and be off inside of it.
        begin, *ends = map(
            torch.autograd.graph.get_gradient_edge, (scores, *(call.token for call in calls))
        )
        ones = torch.ones_like(scores)
        try:
            with lean_graph(self.inputs):  # a checkpoint runs its part of the model again
                zeros = torch.autograd.grad([begin], ends, [ones], retain_graph, allow_unused=True)
        finally:
            if self.training:
                self.restore_state()
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
    run.check_names()
    _check_calls(run.layers, batch_size)
    scores = plain_tensor(select_output(returned, output))
    device_ids = device_ids or run.device_ids
    notes = tuple(run.notes)
    return Recording(scores, run.layers, inputs, device_ids, run.training, notes, run.restore_state)


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
        self._roots: list[nn.Module] = []
        self._named: list[LayerCalls] = []
        """Layers whose names were found in what runs."""
        self.restore_state: Callable[[], None] = lambda: None

    @contextmanager
    def open(self, roots: list[nn.Module]) -> Iterator[None]:
        """Within, the hooks are there, and the model's state is restored on exit."""
        modules = [c.layer.module for c in self.layers if isinstance(c.layer.module, nn.Module)]
        _refuse_inference_mode()
        with self._stack as stack:
            stack.enter_context(process_wide_settings())
            stack.enter_context(torch.set_grad_enabled(self.from_start))
            self.restore_state = stack.enter_context(
                preserved_state(
                    *roots,
                    *modules,
                    tensors=self.inputs,
                    on_new_module=self._prepare,
                    on_new_root=self._hook_named,
                )
            )
            stack.callback(register_module_forward_pre_hook(self._before_call).remove)
            if any(calls.layer.needs_grid for calls in self.layers):
                stack.callback(register_module_forward_hook(self._note_grid).remove)
            for calls in self.layers:
                if isinstance(calls.layer.module, nn.Module):
                    self._hook(calls, calls.layer.module)
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
            restore = module.register_forward_hook(restore_cudnn, always_call=True)
            self._stack.callback(restore.remove)

    def check_names(self) -> None:
        """Raise ValueError for a layer's name that nothing has that ran."""
        for calls in self.layers:
            if isinstance(calls.layer.module, str) and calls not in self._named:
                raise unknown_name(calls.layer.module, self._roots)

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
            switch_cudnn_off()
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

    def _hook_named(self, root: nn.Module) -> None:
        """Hook the layers that are named and lie in this network, which a function runs."""
        self._roots.append(root)
        for calls in [c for c in self.layers if isinstance(c.layer.module, str)]:
            module = find_module(str(calls.layer.module), root)
            if module is None:
                continue
            if calls in self._named:
                raise ValueError(
                    f"Layer name {calls.layer.name!r} is in more than one of the networks that "
                    "forward_func runs. Pass the layer's module, e.g. layers=[model.layer4]."
                )
            self._named.append(calls)
            self._hook(calls, module)

    def _hook(self, calls: LayerCalls, module: nn.Module) -> None:
        layer = calls.layer
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
                return self._keep(calls, check_differentiable(output, layer), is_input)
            key, tensor = select_tensor(output, layer)
            return replaced(output, key, self._keep(calls, tensor))

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._is_ours():
                return None
            arguments: dict[Any, Any] = dict(enumerate(args))
            arguments.update(kwargs)
            key, tensor = select_tensor(arguments, layer)
            arguments[key] = self._keep(calls, tensor)
            return tuple(arguments.pop(i) for i in range(len(args))), arguments

        if self.layer_input:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = module.register_forward_hook(after)
        self._stack.callback(handle.remove)

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
        return rejoin(tensor, call, is_input, join=not calls.stacked)


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
    misfits = [shape for shape in calls.shapes if shape[0] != batch_size]
    if misfits:
        raise ValueError(
            f"Layer {name!r} gives shape {misfits[0]} for a batch of {batch_size}. If it "
            "folds frames into the batch, unfold them with Layer(..., layout='(N T) C H W') or "
            "Layer(..., reshape=frames_to_clip(num_frames)). If it runs once for each sample, "
            f"pass one sample at a time. Inputs without a batch axis need one: inputs[None].{often}"
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
