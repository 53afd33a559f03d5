"""Forward passes with perturbed inputs, or without some channels of a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._capture.forward_run import Mode, Network, run_network
from captum_3dcam._capture.layer_calls import LayerCalls
from captum_3dcam._capture.reduction import activations_alone
from captum_3dcam.layers import Layer


def run_perturbed(
    network: Network,
    inputs: tuple[Tensor, ...],
    additional_forward_args: Any,
    edit: "ChannelAblation | None" = None,
    layer_input: bool = False,
) -> Any:
    """What the model returns for these inputs, to which it may write, without gradients."""
    layers = () if edit is None else (edit.layer,)
    arrangement = (0, None) if edit is None else (edit.batch_size, edit.rank)
    _, returned = run_network(
        network,
        lambda: tuple(LayerCalls(layer, activations_alone(tuple)) for layer in layers),
        inputs,
        additional_forward_args,
        arrangement,
        Mode(layer_input, forward_only=True, edit=edit),
    )
    return returned


class ChannelAblation:
    """Sets channels of a layer to zero: of copy j of the batch, the channel ``channels[j]``."""

    def __init__(
        self, layer: Layer, channels: Sequence[int], samples: int, rank: int, call: int | None
    ) -> None:
        self.layer, self.channels, self.samples, self.rank = layer, channels, samples, rank
        self.batch_size = samples * len(channels)
        self._call = call
        """The call of the layer that is ablated; None for all of them."""

    def __call__(
        self, tensor: Tensor, arrange: Callable[[Tensor], Tensor], position: int
    ) -> Tensor:
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
