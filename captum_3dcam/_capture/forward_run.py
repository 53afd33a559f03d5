"""One run of the model: its hooks, and its gradient mode."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, pooling
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy

from captum_3dcam._captum import format_additional_forward_args
from captum_3dcam._capture.layer_calls import LayerCalls, rejoin
from captum_3dcam._capture.layer_output import check_differentiable, replaced, select_tensor
from captum_3dcam._capture.process_settings import (
    eager_modules,
    set_cudnn,
    unfused_attention,
)
from captum_3dcam._frozen_batch_norm import lean_graph
from captum_3dcam._inputs import run_model
from captum_3dcam._model_state import ModelState
from captum_3dcam._restoration import Restoration, interruptible
from captum_3dcam.layers import find_module, unknown_name

CHANNELS_FIRST = (
    conv._ConvNd,
    batchnorm._NormBase,
    nn.GroupNorm,
    nn.Upsample,
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._LPPoolNd,
    pooling._MaxUnpoolNd,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)


Edit = Callable[[Tensor, Callable[[Tensor], Tensor], int], Tensor]
"""From a layer's tensor, what arranges it as (N, C, *S_k), and which call of the layer gave it, to
what the model continues with."""


class Mode(NamedTuple):
    """What a run of the model records."""

    layer_input: bool = False
    """The layers' inputs instead of their outputs."""
    create_graph: bool = False
    """The maps are to be differentiable."""
    over_all_uses: bool = False
    """Gradients are those over all uses of a layer's tensor."""
    forward_only: bool = False
    """No gradients are recorded."""
    edit: Edit | None = None
    """What exchanges the layers' tensors, instead of recording them."""
    from_start: bool = False
    """Gradients are on from the start of the model, instead of from the first layer on."""

    @property
    def by_edge(self) -> bool:
        """Whether the gradient of a layer's tensor is that over all its uses, also earlier ones.

        Those of a layer's input need gradients from the start. A map that is differentiable needs
        them anyway.
        """
        several = self.layer_input or self.create_graph or self.over_all_uses
        return several and not self.forward_only


class ForwardRun:
    """One run of the model: its hooks, and its gradient mode.

    Gradients are off until a layer runs, or on from the start. Grad mode is each thread's own:
    DataParallel's replicas run in threads of their own, and each switches its own.
    """

    def __init__(
        self,
        layers: tuple[LayerCalls, ...],
        inputs: tuple[Tensor, ...],
        arrangement: tuple[int, int | None],
        mode: Mode,
    ) -> None:
        self.layers, self.inputs, self.mode = layers, inputs, mode
        self.batch_size, self.rank = arrangement
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
        self._has_layouts = any(calls.layer.layout is not None for calls in layers)
        self.channels_first: set[tuple[int, ...]] = set()
        """Those (C, *S) that are surely channels first."""
        self.first_grid: tuple[int, ...] = ()
        """What the first convolution took."""
        self._restoration = Restoration()
        self._cudnn_enabled = False
        """Whether recurrent networks lie on a GPU, and cuDNN is to be on beside them."""
        self._roots: list[nn.Module] = []
        self._named: list[LayerCalls] = []
        """Layers whose names were found in what runs."""
        self.state = ModelState(inputs, self._prepare, self._hook_named)

    @contextmanager
    def open(self, roots: list[nn.Module]) -> Iterator[None]:
        """Within, the hooks are there; on exit, they are removed and the state is restored."""
        modules = [c.layer.module for c in self.layers if isinstance(c.layer.module, nn.Module)]
        refuse_inference_mode()
        with self._restoration as restoration:
            eager_modules.use(restoration)
            if self.mode.create_graph:
                unfused_attention.use(restoration)
            self.state.preserve(restoration, *roots, *modules)
            restoration.add(register_module_forward_pre_hook(self._before_call).remove)
            restoration.add(register_module_forward_hook(self._note_shape).remove)
            for calls in self.layers:
                if isinstance(calls.layer.module, nn.Module):
                    self._hook(calls, calls.layer.module)
            torch.set_grad_enabled(self.mode.from_start)
            # A model that differentiates by itself may need its batch norm's weights.
            is_lean = not (self.mode.create_graph or self.mode.from_start)
            with lean_graph(self.inputs) if is_lean else nullcontext():
                yield

    def call(self, forward: Callable[[], Any]) -> Any:
        """Run the model; whether it needs gradients from the start is known afterwards."""
        try:
            with interruptible():
                output = forward()
        except RuntimeError as error:
            if not self.mode.from_start and re.search("grad|graph", str(error)):
                # A model that differentiates by itself needs the graph upstream.
                self.needs_gradients_from_start = True
                return None
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
            self._restoration.add(replica.remove)
        elif isinstance(module, nn.parallel.DistributedDataParallel):
            # No backward pass follows that DDP would have to synchronise.
            module.require_backward_grad_sync = module.require_forward_param_sync = False
        elif isinstance(module, nn.RNNBase) and any(p.is_cuda for p in module.parameters()):
            restore = module.register_forward_hook(self._restore_cudnn, always_call=True)
            self._restoration.add(restore.remove)
            self._cudnn_enabled = torch.backends.cudnn.enabled

    def check_names(self) -> None:
        """Raise ValueError for a layer's name that nothing has that ran."""
        for calls in self.layers:
            if isinstance(calls.layer.module, str) and calls not in self._named:
                raise unknown_name(calls.layer.module, self._roots)

    def _is_ours(self) -> bool:
        """DataParallel's replicas run in threads; any other thread is not our business."""
        return self._parallel or get_ident() == self._thread

    def _switch_cudnn_off(self, module: nn.RNNBase) -> None:
        """cuDNN cannot differentiate recurrent networks in eval mode, nor a second time."""
        if self._cudnn_enabled and (self.mode.create_graph or not module.training):
            set_cudnn(False)

    def _restore_cudnn(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._is_ours():
            set_cudnn(self._cudnn_enabled)

    def _before_call(self, module: nn.Module, args: Any) -> None:
        """Before each call of a module, in any thread."""
        if not self._is_ours():
            return
        if isinstance(module, nn.DataParallel):
            torch.set_grad_enabled(True)  # to gather the replicas' outputs with their graph
        elif isinstance(module, nn.RNNBase):
            self._switch_cudnn_off(module)
        if not self.first_grid and args and isinstance(module, CHANNELS_FIRST):
            self.first_grid = tuple(args[0].shape)
        self._watch_gradients()

    def _watch_gradients(self) -> None:
        """After a layer has run, gradients are on, unless the model has switched them off."""
        if torch.is_grad_enabled() or get_ident() not in self._begun:
            return
        self.needs_gradients_from_start = True
        if self.mode.from_start and self._forced:
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
        if not self.mode.from_start and not begun:
            torch.set_grad_enabled(False)

    def _note_shape(self, module: nn.Module, args: Any, output: Any) -> None:
        is_channels_first = isinstance(module, CHANNELS_FIRST)
        if not (is_channels_first or self._has_layouts) or not self._is_ours():
            return
        if isinstance(output, Tensor) and output.ndim > 2:
            shape = tuple(output.shape)
            self._shapes.append(shape)
            if is_channels_first:
                self.channels_first.add(shape[1:])

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
                is_old = is_input and not getattr(module, "inplace", False)
                tensor = check_differentiable(output, layer)
                is_shared = is_input or _may_be_kept(tensor, module)
                return self._keep(calls, tensor, is_shared=is_shared, is_old=is_old)
            key, tensor = select_tensor(output, layer)
            is_shared = _may_be_kept(tensor, module)
            return replaced(output, key, self._keep(calls, tensor, is_shared=is_shared))

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._is_ours():
                return None
            arguments: dict[Any, Any] = dict(enumerate(args))
            arguments.update(kwargs)
            key, tensor = select_tensor(arguments, layer)
            arguments[key] = self._keep(calls, tensor)
            return tuple(arguments.pop(i) for i in range(len(args))), arguments

        if self.mode.layer_input:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = module.register_forward_hook(after)
        self._restoration.add(handle.remove)

    def _keep(
        self, calls: LayerCalls, tensor: Tensor, *, is_shared: bool = False, is_old: bool = False
    ) -> Tensor:
        """Hold the layer's tensor; what the model continues with.

        ``is_shared``: it has the tensor under another name too. ``is_old``: it had it before the
        layer ran, and may have used it.
        """
        refuse_inference_mode()
        arrange = calls.layer.arrangement(self.batch_size, self.rank, self._shapes)
        if self.mode.edit is not None:
            return self.mode.edit(tensor, arrange, calls.next_position(tensor.device))
        with torch.set_grad_enabled(self.mode.create_graph):
            call = calls.add(tensor if self.mode.create_graph else tensor.detach(), arrange)
        if call is None or self.mode.forward_only:
            return tensor
        if not torch.is_grad_enabled():
            if self.mode.from_start:
                self._forced[calls.layer.name] = None
            elif get_ident() in self._begun:
                self.needs_gradients_from_start = True
            torch.set_grad_enabled(True)
        self._begun.add(get_ident())
        # Autograd follows both names of a view only if it was made with gradients on.
        if self.mode.by_edge or is_old or (is_shared and tensor._is_view()):
            if tensor.requires_grad:
                call.edge = torch.autograd.graph.get_gradient_edge(tensor)
                return tensor
            if not self.mode.from_start:
                self.needs_gradients_from_start = True
                is_shared = False
        return rejoin(tensor, call, is_shared)


class Network(NamedTuple):
    """A model, and whether it takes its inputs as one list."""

    forward_func: Callable[..., Any]
    as_list: bool


def run_network(
    network: Network,
    make_calls: Callable[[], tuple[LayerCalls, ...]],
    inputs: tuple[Tensor, ...],
    additional_forward_args: Any,
    arrangement: tuple[int, int | None],
    mode: Mode,
) -> tuple[ForwardRun, Any]:
    """A run of the model, and what it returned; it is as before afterwards.

    A model that needs gradients from the start, as one that differentiates by itself, runs twice.
    """
    forward_func, as_list = network
    arguments = format_additional_forward_args(additional_forward_args)
    roots = [forward_func] if isinstance(forward_func, nn.Module) else []
    for from_start in (True,) if mode.by_edge else (False, True):
        mode = mode._replace(from_start=from_start)
        own_inputs = tuple(_separate(value, mode) for value in inputs)
        own_arguments = arguments and tuple(_separate(value, mode) for value in arguments)
        run = ForwardRun(make_calls(), own_inputs, arrangement, mode)
        with run.open(roots):
            forward = partial(run_model, forward_func, own_inputs, own_arguments, as_list)
            returned = run.call(forward)
        if not run.needs_gradients_from_start:
            break
    run.check_names()
    return run, returned


def _separate(value: Any, mode: Mode) -> Any:
    """The tensor under a name of its own, so that the caller's does not join the graph."""
    if not isinstance(value, Tensor) or (mode.create_graph and value.requires_grad):
        return value
    # A tensor made under inference_mode cannot be saved for backward; a copy of it can.
    own = value.clone() if value.is_inference() else value.detach()
    if mode.from_start and own.is_floating_point():
        with torch.enable_grad():  # not a leaf, which the model could not write to
            own = own.requires_grad_().clone()
    return own


# -------------------------------------------------------------------------- input validation


def _may_be_kept(tensor: Tensor, module: nn.Module) -> bool:
    """Whether the model may read the tensor under another name too, as a hook or an attribute.

    A view is left out, because autograd cannot always follow both names, unless a hook may have
    kept it; and so are the layer's own parameters and buffers, which must not join the graph.
    """
    if len(module._forward_hooks) > 1:
        return True
    if tensor._is_view():
        return False
    tables = (table for part in module.modules() for table in (part._parameters, part._buffers))
    return all(tensor is not each for table in tables for each in table.values())


def refuse_inference_mode() -> None:
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "No gradient can be recorded under torch.inference_mode(). Call attribute() outside "
            "of it, or inside of torch.inference_mode(False); under torch.no_grad() it works."
        )


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
