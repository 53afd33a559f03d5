"""Layers -> their factors for a target: one forward and one backward pass, by hooks.

The forward runs with gradients off, and the hook of whichever layer runs first switches them
on: the graph starts there, and nothing upstream of it is kept. A gradient is reduced the moment
it passes, and of an activation only that is held which the reduction needs. Hooks exist only
during the call, and the model continues with its own tensors, in-place operations included.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._capture.extremes import Extremes, doubtful_layers, read_extremes
from captum_3dcam._capture.forward_run import Mode, Network, run_network
from captum_3dcam._capture.layer_calls import LayerCalls, plain_tensor
from captum_3dcam._capture.reduction import LayerFactors, Reduction
from captum_3dcam._frozen_batch_norm import lean_graph
from captum_3dcam._model_state import ModelState
from captum_3dcam._restoration import Restoration, interruptible
from captum_3dcam._targets import select_output, select_scores
from captum_3dcam.layers import Layer

# ------------------------------------------------------------------------------ the two passes


@dataclass
class Recording:
    """What one forward pass leaves: its output and, per layer, its calls."""

    output: Tensor
    layers: tuple[LayerCalls, ...] = field(repr=False)
    inputs: tuple[Tensor, ...] = field(repr=False)
    state: ModelState = field(repr=False)
    """The model's, as before the forward pass."""
    device_ids: list[int] | None = None
    create_graph: bool = False
    """Whether the factors are to be differentiable."""
    second_order: bool = False
    """Whether the gradients are, for their own derivative."""
    training: bool = False
    """Whether a module was in train mode."""
    channels_first: frozenset[tuple[int, ...]] = frozenset()
    """Shapes (C, *S) that convolutions, pooling and batch normalisation gave."""
    first_grid: tuple[int, ...] = ()
    """The shape of what the first of them took."""
    notes: tuple[str, ...] = ()
    """What to warn of."""
    scores: Tensor = field(init=False, repr=False)
    """(N,), of the last target, as the next two."""
    extremes: list[Extremes] = field(init=False, repr=False)
    """Of each layer."""
    doubtful: list[int] = field(init=False, repr=False)
    """The numbers of layers whose gradient may be what rounding leaves of zero."""

    def factors(
        self, target: Any = None, *, retain_graph: bool = False, scale: float = 1.0
    ) -> list[list[LayerFactors]]:
        """The backward pass: per layer, the factors of each call for ``scale`` times the score.

        Raises what :func:`select_scores` does, and RuntimeError for a layer that does not reach
        the score or holds NaN or Inf.
        """
        unreached = self.backward(target, retain_graph=retain_graph, scale=scale)
        if unreached:
            raise RuntimeError(_unreached(unreached))
        self.extremes, scores = read_extremes(self.layers, self.scores)
        self.doubtful = doubtful_layers(self.layers, self.extremes, scores)
        with torch.set_grad_enabled(self.create_graph):
            return [layer.factors(self.device_ids) for layer in self.layers]

    def forward_factors(self) -> list[list[LayerFactors]]:
        """Per layer, the factors of each call, by a rule that takes no gradient.

        Raises RuntimeError for a layer that holds NaN or Inf.
        """
        read_extremes(self.layers, self.output.new_zeros(0))
        return [layer.factors(self.device_ids) for layer in self.layers]

    @property
    def gradient_extremes(self) -> list[dict[torch.device, list[Tensor]]]:
        """Of each layer, the least and largest entries of the last target's gradients by device."""
        return [layer.gradient_extremes for layer in self.layers]

    def backward(
        self, target: Any = None, *, retain_graph: bool = False, scale: float = 1.0
    ) -> list[LayerCalls]:
        """The backward pass; the layers that do not reach the target's score."""
        with torch.enable_grad():
            scores = select_scores(self.output, target)
        if not scores.requires_grad:
            raise RuntimeError(_unreached(self.layers))
        self.scores = scores.detach()
        calls = [call for layer in self.layers for call in layer]
        # Edges, for of tensors the mode would see this very call, and be off inside of it.
        begin = torch.autograd.graph.get_gradient_edge(scores)
        ends = [call.begin_backward() for call in calls]
        scales = torch.full_like(scores, scale)
        create_graph = self.create_graph or self.second_order
        with Restoration() as restoration:
            _load_autograd()
            self.state.preserve(restoration)  # a checkpoint runs its part of the model again
            with (
                nullcontext() if create_graph else lean_graph(self.inputs),
                interruptible(),
            ):
                gradients = torch.autograd.grad(
                    [begin],
                    ends,
                    [scales],
                    retain_graph or create_graph,
                    create_graph,
                    allow_unused=True,
                )
        reached = set()
        with torch.set_grad_enabled(self.create_graph):
            for call, gradient in zip(calls, gradients, strict=True):
                if gradient is not None:
                    reached.add(id(call))
                    call.end_backward(gradient)
            for call in calls:
                call.settle()
        return [layer for layer in self.layers if not _reaches(layer, reached)]


@cache
def _load_autograd() -> None:
    """Let PyTorch import what its first backward pass needs, which an interrupt would break off."""
    x = torch.zeros(1, requires_grad=True)
    with torch.enable_grad():
        end = torch.autograd.graph.get_gradient_edge(x * 1)
    torch.autograd.grad([end], [x], [torch.ones(1)])


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
    create_graph: bool = False,
    device_ids: list[int] | None = None,
    output: Any = None,
    as_list: bool = False,
) -> Recording:
    """The forward pass: run the model, as Captum would, and hold what the reduction needs.

    Afterwards the model's hooks, buffers and attributes and torch's random generators are as
    before, also when the forward raises. A model that switches gradients off or on by itself, or
    whose first layer returns its input, runs twice, the second time with gradients from the
    start. ``as_list``: the model takes its inputs as one list.

    Raises RuntimeError for a layer that did not run, and ValueError for one without a spatial
    axis or of another batch size.
    """
    mode = Mode(
        attribute_to_layer_input,
        create_graph or reduction.second_order,
        reduction.over_all_uses,
        forward_only=not reduction.uses_gradient,
    )
    run, returned = run_network(
        Network(forward_func, as_list),
        lambda: tuple(LayerCalls(layer, reduction) for layer in layers),
        inputs,
        additional_forward_args,
        (batch_size, rank),
        mode,
    )
    _check_calls(run.layers, batch_size)
    return Recording(
        output=plain_tensor(select_output(returned, output)),
        layers=run.layers,
        inputs=run.inputs,
        device_ids=device_ids or run.device_ids,
        create_graph=create_graph,
        second_order=reduction.second_order,
        training=run.training,
        channels_first=frozenset(run.channels_first),
        first_grid=run.first_grid,
        notes=tuple(run.notes),
        state=run.state,
    )


# -------------------------------------------------------------------------- input validation


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
