"""Forward passes with perturbed inputs, or without some channels of a layer."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_3dcam._captum import format_additional_forward_args
from captum_3dcam._capture.forward_run import ForwardRun, Mode
from captum_3dcam._capture.layer_calls import LayerCalls, plain_tensor
from captum_3dcam._capture.reduction import activations_alone
from captum_3dcam._inputs import run_model
from captum_3dcam._targets import select_output
from captum_3dcam.layers import Layer


class Network(NamedTuple):
    """A model, and how it is called."""

    forward_func: Callable[..., Any]
    output: Any = None
    as_list: bool = False
    layer_input: bool = False


def run_perturbed(
    network: Network,
    inputs: tuple[Tensor, ...],
    additional_forward_args: Any,
    edit: "ChannelAblation | None" = None,
) -> Tensor:
    """The output for these inputs, without gradients; the model is as before afterwards."""
    layers = () if edit is None else (LayerCalls(edit.layer, activations_alone(tuple)),)
    arrangement = (0, None) if edit is None else (edit.batch_size, edit.rank)
    arguments = format_additional_forward_args(additional_forward_args)
    roots = [network.forward_func] if isinstance(network.forward_func, nn.Module) else []
    for from_start in (False, True):  # with gradients for a model that differentiates by itself
        if edit is not None:
            edit.count = 0
        mode = Mode(network.layer_input, forward_only=True, edit=edit, from_start=from_start)
        # The model may write to what it is given.
        own_inputs = tuple(tensor.detach().clone() for tensor in inputs)
        run = ForwardRun(layers, own_inputs, arrangement, mode)
        with run.open(roots):
            returned = run.call(
                partial(run_model, network.forward_func, own_inputs, arguments, network.as_list)
            )
        if not run.needs_gradients_from_start:
            break
    return plain_tensor(select_output(returned, network.output)).detach()


class ChannelAblation:
    """Sets channels of a layer to zero: of copy j of the batch, the channel ``channels[j]``."""

    def __init__(
        self, layer: Layer, channels: Sequence[int], samples: int, rank: int, call: int | None
    ) -> None:
        self.layer, self.channels, self.samples, self.rank = layer, channels, samples, rank
        self.batch_size = samples * len(channels)
        self._call = call
        """The call of the layer that is ablated; None for all of them."""
        self.count = 0
        """How often the layer has run."""

    def __call__(self, tensor: Tensor, arrange: Callable[[Tensor], Tensor]) -> Tensor:
        position, self.count = self.count, self.count + 1
        if self._call not in (None, position):
            return tensor
        return tensor.masked_fill(self._entries(tensor, arrange), 0)

    def _entries(self, tensor: Tensor, arrange: Callable[[Tensor], Tensor]) -> Tensor:
        """Where in the layer's own tensor the channels are, whose axes may have any order."""
        numbers = torch.arange(tensor.numel(), dtype=torch.float64, device=tensor.device)
        arranged = arrange(numbers.reshape(tensor.shape))
        if len(arranged) != self.batch_size:
            raise ValueError(
                f"Layer {self.layer.name!r} has {len(arranged)} rows for a batch of "
                f"{self.batch_size}, so its channels cannot be ablated. Of a DataParallel model, "
                "explain its .module."
            )
        copies = arranged.unflatten(0, (len(self.channels), self.samples))
        of_channels = torch.cat(
            [
                copy[:, channel].flatten()
                for copy, channel in zip(copies, self.channels, strict=True)
            ]
        )
        entries = of_channels.long()
        if not torch.equal(entries.double(), of_channels):
            raise ValueError(
                f"The reshape of layer {self.layer.name!r} computes with its values, so the "
                "channels of its map cannot be ablated. Pass one that only moves them, or a layout."
            )
        mask = torch.zeros(tensor.numel(), dtype=torch.bool, device=tensor.device)
        mask[entries] = True
        return mask.reshape(tensor.shape)
