"""The networks, inputs and runs that the benchmark compares."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from _peers import PEERS, Explain, missing
from _resnet import NETWORKS
from captum_3dcam import LayerwiseGlobalLocalCAM, LayerwiseGradCAM
from captum_3dcam.attribution import LayerwiseCAM

OURS: dict[str, type[LayerwiseCAM]] = {
    "3DCAM": LayerwiseGlobalLocalCAM,
    "Grad-CAM": LayerwiseGradCAM,
}
Maker = Callable[[nn.Module, Sequence[str]], Explain]
"""Makes what explains (inputs, classes) over layers of a network."""


def make_network(name: str, device: str = "cpu") -> nn.Module:
    """With random weights, the same at every call; in eval mode."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval().to(device)


def make_inputs(name: str, batch: int, frames: int, size: int, device: str = "cpu") -> Tensor:
    """A batch of clips; for a 2D network images of twice the size."""
    shape = (2 * size, 2 * size) if name.endswith("2d") else (frames, size, size)
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, *shape, generator=generator).to(device)


def predict(network: nn.Module, x: Tensor) -> list[int]:
    with torch.no_grad():
        return network(x).argmax(dim=1).tolist()


def bare_forward(network: nn.Module, layers: Sequence[str]) -> Explain:
    def forward(x: Tensor, classes: list[int]) -> Tensor:
        with torch.no_grad():
            return network(x)

    return forward


def limit(network: nn.Module, layers: Sequence[str], backwards: int = 1) -> Explain:
    """One forward pass, and backward passes from the score to the shallowest layer; no map."""
    shallowest = network.get_submodule(layers[0])

    def run_passes(x: Tensor, classes: list[int] | Tensor) -> list[Tensor]:
        leaves = []

        def start_graph(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            leaves.append(output.detach().requires_grad_())
            return leaves[0].view_as(leaves[0])

        handle = shallowest.register_forward_hook(start_graph)
        try:
            with torch.no_grad():
                scores = network(x)
                # Classes that are on the device already are not copied.
                indices = torch.as_tensor(classes, device=x.device)
                score = scores.gather(1, indices[:, None]).sum()
                gradients = [
                    torch.autograd.grad(score, leaves, retain_graph=True)
                    for _ in range(backwards - 1)
                ]
                return [*gradients, torch.autograd.grad(score, leaves)]
        finally:
            handle.remove()

    return run_passes


def ours(method: type[LayerwiseCAM], network: nn.Module, layers: Sequence[str]) -> Explain:
    cam = method(network, list(layers))

    def explain(x: Tensor, classes: list[int]) -> Tensor:
        return cam.attribute(x, target=classes)

    return explain


def available_methods(names: Sequence[str]) -> dict[str, Maker]:
    """Of the limit, ours and the peers, those that are named and installed."""
    absent = missing()
    makers = {
        "limit": limit,
        **{name: partial(ours, method) for name, method in OURS.items()},
        **{name: peer.make for name, peer in PEERS.items() if name not in absent},
    }
    return {name: make for name, make in makers.items() if name in names}


def prepare(
    method: str,
    name: str,
    layers: Sequence[str],
    batch: int,
    frames: int,
    size: int,
    device: str = "cpu",
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A run of a method on a small input, and the run to measure, for :func:`_memory.peak_mib`."""
    network = make_network(name, device)
    explain = {**available_methods([method]), "bare": bare_forward}[method](network, layers)
    small = make_inputs(name, 1, 4, 32, device)
    inputs = make_inputs(name, batch, frames, size, device)
    return partial(explain, small, [0]), partial(explain, inputs, [0] * batch)
