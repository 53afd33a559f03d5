"""The calls of a layer: what is held of each, and its node in the graph."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_3dcam._captum import sort_key_list
from captum_3dcam._capture.reduction import LayerFactors, Parts, Reduction, stack_calls
from captum_3dcam.layers import Layer


class LayerCall:
    """One call of a layer, on one device: what is held of its activation, then its factors.

    The graph refers to it, so it must not refer to the model: Python's collector does not see
    cycles through the graph.
    """

    def __init__(
        self,
        tensor: Tensor,
        arrange: Callable[[Tensor], Tensor],
        reduction: Reduction,
        *,
        stacked: bool = False,
    ) -> None:
        self.arrange, self.reduction, self.stacked = arrange, reduction, stacked
        # Stands for the layer in the graph. Not tensor.new_zeros, which keeps a subclass.
        self.token = torch.zeros((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)
        self.edge: GradientEdge | None = None
        """Where the gradient of the tensor itself arrives, if it is asked for instead."""
        self.tensor = tensor if reduction.second_order else None
        """In the graph, for second derivatives."""
        self.extremes: dict[str, Parts] = {}
        """The least and the largest entries of the activation and the gradient, (N,) each."""
        self.shape: tuple[int, ...] = ()
        self.activation: Parts = ()
        self.gradient: Parts = ()
        self.factors: LayerFactors | None = None
        self.superseded = False
        self.error: Exception | None = None

    def hold(self, activation: Tensor) -> None:
        """Reduce the activation, arranged, which passes in the forward."""
        if self.reduction.second_order:  # the graph is for the gradient's derivative alone
            activation = activation.detach()
        self.activation = self.reduction.of_activation(activation)
        if not self.reduction.is_small:
            self.settle()

    def reduce(self, gradient: Tensor) -> None:
        """Reduce the gradient, which passes in the backward; join it with the activation."""
        self.gradient = self.reduction.of_gradient(self.arrange(plain_tensor(gradient)))
        if self.tensor is not None:
            curvature = self.arrange(_curvature(gradient, self.tensor))
            self.gradient = (*(part.detach() for part in self.gradient), curvature)
        if not self.reduction.is_small:
            self.settle()

    def settle(self) -> None:
        """The extremes and the factors of what is held, unless they are there."""
        for kind, parts in (("activation", self.activation), ("gradient", self.gradient)):
            if parts and kind not in self.extremes:
                self.extremes[kind] = _extremes(parts[0])
        if self.gradient and not self.stacked:  # else with those of the other calls
            self.factors = self.reduction.join(self.activation, self.gradient)
            self.gradient = ()

    def begin_backward(self) -> GradientEdge:
        """Forget the gradient of the class before; the edge of the graph where this one ends."""
        self.gradient, self.factors = (), None
        self.extremes.pop("gradient", None)
        return self.edge or get_gradient_edge(self.token)

    def end_backward(self, gradient: Tensor) -> None:
        """Reduce what arrived at the edge, unless it passed on its way to the token."""
        if self.edge is not None:
            self.reduce(gradient)

    def supersede(self) -> None:
        """The layer ran again, and a later call is explained."""
        self.superseded, self.activation, self.error = True, (), None


def _curvature(gradient: Tensor, tensor: Tensor) -> Tensor:
    """H A: the derivative of the gradient along the activation A itself, zero of a linear score."""
    (product,) = (
        torch.autograd.grad(gradient, tensor, tensor.detach(), retain_graph=True, allow_unused=True)
        if gradient.requires_grad
        else (None,)
    )
    return torch.zeros_like(gradient) if product is None else plain_tensor(product)


def _extremes(x: Tensor) -> Parts:
    x = x.detach()
    if x.device.type != "cpu":
        return tuple(torch.aminmax(x.flatten(1), dim=1))
    if x.itemsize > 2:
        # Over all axes at once: one after the other is slow in one memory format or the other.
        axes = tuple(range(1, x.ndim))
        return x.amin(axes), x.amax(axes)
    # Of 16 bits on a CPU, one sample after the other takes a third of the time, and less.
    lowest, highest = zip(*map(torch.aminmax, x), strict=True)
    return torch.stack(lowest), torch.stack(highest)


def plain_tensor(tensor: Tensor) -> Tensor:
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

    def next_position(self, device: torch.device) -> int:
        """That of a call which begins now, counted from 0 on each device."""
        position = self.counts.get(device, 0)
        self.counts[device] = position + 1
        return position

    def add(self, tensor: Tensor, arrange: Callable[[Tensor], Tensor]) -> LayerCall | None:
        """A call that gave ``tensor``; None if it is not to be explained."""
        position = self.next_position(tensor.device)
        chosen = self.layer.calls
        if isinstance(chosen, int) and chosen != position:
            return None
        call = LayerCall(tensor, arrange, self.reduction, stacked=self.stacked)
        calls = self.by_device.setdefault(tensor.device, [])
        if chosen in (None, "last"):
            for earlier in calls:
                earlier.supersede()
            calls.clear()
        calls.append(call)
        try:
            activation = arrange(plain_tensor(tensor))
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
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each call that is explained apart, over all devices: (N, C, *S_k), as arranged."""
        stacked = (self.count,) if self.stacked else ()
        shapes = []
        for calls in zip(*self.by_device.values(), strict=False):
            rows = sum(call.shape[0] for call in calls)
            shapes.append((rows, calls[0].shape[1], *stacked, *calls[0].shape[2:]))
        return shapes[:1] if self.stacked else shapes

    def factors(self, device_ids: list[int] | None) -> list[LayerFactors]:
        """One for each call that is explained apart, over all devices."""
        by_device = {device: self._factors_on(calls) for device, calls in self.by_device.items()}
        return [
            _gather_factors(dict(zip(by_device, each, strict=True)), device_ids)
            for each in zip(*by_device.values(), strict=True)
        ]

    @property
    def gradient_extremes(self) -> dict[torch.device, list[Tensor]]:
        """By device, the least and largest entries of the last target's gradients, (N,) each."""
        return {
            device: [part for call in calls for part in call.extremes.get("gradient", ())]
            for device, calls in self.by_device.items()
        }

    def _factors_on(self, calls: list[LayerCall]) -> list[LayerFactors]:
        if self.stacked:
            activation = stack_calls([call.activation for call in calls])
            if not self.reduction.uses_gradient:
                return [self._joined(activation)]
            gradient = stack_calls([call.gradient or _no_gradient(call) for call in calls])
            return [self.reduction.join(activation, gradient)]
        if not self.reduction.uses_gradient:
            for call in calls:
                call.factors = call.factors or self._joined(call.activation)
        return [call.factors for call in calls if call.factors is not None]

    def _joined(self, activation: Parts) -> LayerFactors:
        """By a rule that takes no gradient, whose errors name the layer."""
        try:
            return self.reduction.join(activation, ())
        except ValueError as error:
            raise type(error)(f"Layer {self.layer.name!r}: {error}") from error


def _no_gradient(call: LayerCall) -> Parts:
    """Of a call that does not reach the score, beside others that do."""
    return call.reduction.of_gradient(call.activation[0].new_zeros(call.shape))


def _gather_factors(
    by_device: dict[torch.device, LayerFactors], device_ids: list[int] | None
) -> LayerFactors:
    def gathered(parts: Iterable[Tensor]) -> Tensor:
        return gather(dict(zip(by_device, parts, strict=True)), device_ids)

    each = list(by_device.values())
    return LayerFactors(
        tuple(map(gathered, zip(*(part.factors for part in each), strict=True))),
        {
            name: gathered(part.cancellations[name] for part in each)
            for name in each[0].cancellations
        },
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


def _check_grid(layer: Layer, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or 0 in shape:
        raise ValueError(
            f"Layer {layer.name!r} gives shape {shape}, which has no spatial axis or an empty one; "
            "(N, C, *S) is expected. Choose a layer before the pooling or flattening, or turn its "
            "output into a grid with Layer(..., layout=...) or Layer(..., reshape=...)."
        )


# --------------------------------------------------------------------------------- the graph


class _Rejoin(torch.autograd.Function):
    """The model's own tensor, with a node in the graph where its gradient passes.

    Unlike handing the model a copy, this leaves the forward as it is, in-place operations and
    aliases included. The gradient of the token is zero and not used: it makes the engine visit
    this node, and go no further than the first of all tokens.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, token: Tensor, call: LayerCall, is_shared: bool) -> Tensor:
        ctx.call = call
        ctx.set_materialize_grads(False)
        if is_shared:  # the model may continue with either name
            ctx.mark_dirty(own)
            return own
        return own.detach()

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if gradient is None:  # undefined: an operation after the layer has no derivative
            return None, None, None, None
        if not ctx.call.superseded:
            ctx.call.reduce(gradient)
        return gradient, plain_tensor(gradient).new_zeros(()), None, None


def rejoin(own: Tensor, call: LayerCall, is_shared: bool) -> Tensor:
    joined: Tensor
    if not is_shared:
        joined = _Rejoin.apply(own, call.token, call, False)
        return joined
    try:
        # Nothing is written, so what was saved of the tensor before stays valid.
        with _unsafe_preserve_version_counter(own):
            joined = _Rejoin.apply(own, call.token, call, True)
    except RuntimeError:  # one of several views that an operation returned, as of chunk
        call.edge = get_gradient_edge(own.requires_grad_())
        return own
    return joined
