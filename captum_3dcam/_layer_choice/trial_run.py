"""One forward pass without gradients: which modules run, in which order, and what they return."""

import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from captum_3dcam._capture.forward_run import CHANNELS_FIRST
from captum_3dcam._capture.layer_calls import plain_tensor
from captum_3dcam._capture.process_settings import eager_modules
from captum_3dcam._model_state import ModelState
from captum_3dcam._restoration import Restoration, interruptible

Shape = tuple[int, ...]
Key = tuple[str, int | None]
"""Name and index of a tensor."""
ChannelAxes = Mapping[Key, int]

_NOT_ELEMENTWISE = (nn.MultiheadAttention, nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.Softmax2d)
_ACTIVATION_NAME = re.compile(r"(ReLU|[GS]ELU|SiLU|Swish|Mish|Sigmoid|Tanh|Activation)", re.I)


@dataclass
class Call:
    """A tensor that a module returned in its last call."""

    name: str
    """The dotted name in ``named_modules()``."""
    type: str
    index: int | None
    """Where the tensor is in a list that the module returned; otherwise None: the first one."""
    shape: Shape
    depth: int
    """How many other modules were running around it."""
    order: int
    is_leaf: bool
    has_parameters: bool
    channel_axis: int | None
    """1 or -1, where the kind of the module gives it away."""
    is_activated: bool
    """Whether an activation function returned the tensor."""
    first_order: int
    """The order of the first call that returned this very tensor, as it is."""
    grids_before: int
    """How many of :attr:`Trace.shapes` were there when the module returned."""
    shapes: list[Shape] = field(default_factory=list)
    """Of each call."""
    sums: list[Tensor] = field(default_factory=list)
    """Of each call, if it was to be measured: weighted sums of the channels, in place of these."""


@dataclass
class Trace:
    """What a trial run leaves."""

    calls: list[Call] = field(default_factory=list)
    """In the order in which the modules returned."""
    shapes: list[Shape] = field(default_factory=list)
    """Of the tensors that modules returned, as layouts of tokens look them up."""
    axes: dict[Shape, set[int]] = field(default_factory=dict)
    """The channel axes of shapes that a module with a known one took or returned."""
    first_convolution: tuple[int, Shape] | None = None
    """Its number of input channels, and the shape of its input."""
    first_weights: int = 0
    """The position in :attr:`calls` from which on parameters had been used."""


def trace(
    forward: Callable[[], Any],
    root: nn.Module | None,
    inputs: tuple[Tensor, ...],
    channel_axes: ChannelAxes | None = None,
) -> Trace:
    """Run ``forward``, which runs ``root`` or other networks.

    ``channel_axes`` are those of the tensors to measure.
    """
    recorder = _Recorder(channel_axes or {})
    with Restoration() as restoration:
        eager_modules.use(restoration)
        restoration.add(register_module_forward_pre_hook(recorder.before).remove)
        restoration.add(register_module_forward_hook(recorder.after).remove)
        state = ModelState(inputs, on_new_root=recorder.add_names)
        state.preserve(restoration, *([root] if root is not None else []))
        with torch.no_grad(), interruptible():
            forward()
    recorder.trace.calls = sorted(recorder.calls.values(), key=lambda call: call.order)
    return recorder.trace


class _Recorder:
    """The hooks of a trial run."""

    def __init__(self, channel_axes: ChannelAxes) -> None:
        self.trace, self._channel_axes = Trace(), channel_axes
        self.calls: dict[Key, Call] = {}
        self._names: dict[int, str] = {}
        self._thread = get_ident()
        self._depth = self._order = 0
        self._weights_used = False
        self._returned: dict[tuple[int, int], tuple[weakref.ref[Tensor], int, bool]] = {}
        """By identity and version: the tensor, its first order, and whether it is activated."""

    def add_names(self, root: nn.Module) -> None:
        for name, module in root.named_modules():
            self._names.setdefault(id(module), name)

    def before(self, module: nn.Module, args: Any) -> None:
        if get_ident() != self._thread:
            return
        self._depth += 1
        axis, x = channel_axis(module, None), next(iter(args), None)
        if axis is not None and isinstance(x, Tensor):
            self.trace.axes.setdefault(tuple(x.shape), set()).add(axis)
        if (
            self.trace.first_convolution is None
            and isinstance(module, _ConvNd)
            and isinstance(x, Tensor)
        ):
            self.trace.first_convolution = module.in_channels, tuple(x.shape)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if get_ident() != self._thread:
            return
        self._depth -= 1
        self._weights_used |= next(module.parameters(recurse=False), None) is not None
        if isinstance(output, Tensor) and output.ndim > 2:
            self.trace.shapes.append(tuple(output.shape))
        name = self._names.get(id(module), "")
        if isinstance(module, torch.jit.ScriptModule) or not name:
            return
        for index, tensor in _tensors(output).items():
            # Of a part in inference mode there is no gradient.
            on_grid = tensor.ndim > 2 and tensor.numel() > 0 and not tensor.is_inference()
            if tensor.is_floating_point() and on_grid and self._weights_used:
                self._add(module, name, index, tensor)

    def _add(self, module: nn.Module, name: str, index: int | None, tensor: Tensor) -> None:
        shape, is_leaf = tuple(tensor.shape), next(module.children(), None) is None
        axis = channel_axis(module, shape)
        if axis is not None:
            self.trace.axes.setdefault(shape, set()).add(axis)
        earlier = self.calls.pop((name, index), None)  # keep the last call, in its order
        self._order += 1
        key, first_order, activated = (id(tensor), tensor._version), self._order, False
        if key in self._returned and self._returned[key][0]() is tensor:
            _, first_order, activated = self._returned[key]
        if is_leaf and _is_activation(module):
            first_order, activated = self._order, True
        self._returned[key] = weakref.ref(tensor), first_order, activated
        self.calls[name, index] = Call(
            name,
            type(module).__name__,
            index,
            shape,
            self._depth,
            self._order,
            is_leaf,
            next(module.parameters(recurse=False), None) is not None,
            axis,
            activated,
            first_order,
            len(self.trace.shapes),
            [*(earlier.shapes if earlier else ()), shape],
            [*(earlier.sums if earlier else ()), *self._measured(name, index, tensor)],
        )

    def _measured(self, name: str, index: int | None, tensor: Tensor) -> Iterator[Tensor]:
        axis = self._channel_axes.get((name, index))
        if axis is not None and axis < tensor.ndim:
            yield _channel_sums(tensor, axis)


def _tensors(output: Any) -> dict[int | None, Tensor]:
    """The tensors to look at: all of a list (of pathways), the first of another container."""
    if isinstance(output, Tensor):
        return {None: output}
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if not isinstance(output, (tuple, list)):
        return {}
    tensors = {i: value for i, value in enumerate(output) if isinstance(value, Tensor)}
    if isinstance(output, list) and len(tensors) > 1:
        return dict(tensors.items())
    return {None: next(iter(tensors.values()))} if tensors else {}


def _channel_sums(x: Tensor, axis: int) -> Tensor:
    """With weights that do not cancel: a plain sum of what layer normalisation returns is zero."""
    channels = torch.arange(x.shape[axis], device=x.device)[:, None]
    weights = torch.cos(channels * torch.arange(1, 9, device=x.device))
    sums: Tensor = torch.tensordot(plain_tensor(x).float(), weights, ([axis], [0]))
    return sums.movedim(-1, axis)


def channel_axis(module: nn.Module, shape: Shape | None) -> int | None:
    """1 or -1, the axis of the channels in what the module takes and returns; None: not known."""
    if isinstance(module, CHANNELS_FIRST):
        return 1
    if isinstance(module, nn.Linear):
        return -1
    weights = [p for p in module.parameters(recurse=False) if p.ndim == 1]
    if shape is None or not weights or next(module.children(), None) is not None:
        return None
    # A scale for each channel: of layer normalisation, for one.
    length = len(weights[0])
    axes = [axis for axis in (1, -1) if shape[axis] == length]
    return axes[0] if len(axes) == 1 else None


def _is_activation(module: nn.Module) -> bool:
    """Whether it is an activation function, applied to each number alone."""
    if isinstance(module, _NOT_ELEMENTWISE):
        return False
    in_torch = type(module).__module__ == "torch.nn.modules.activation"
    return in_torch or bool(_ACTIVATION_NAME.search(type(module).__name__))
