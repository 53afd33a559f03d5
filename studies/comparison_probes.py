"""A small network, clips, and what the checks of comparison_statements.py count on them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = ["1", "3"]
SIZE = (6, 8, 10)
LAYER_SIZES = [(6, 8, 10), (3, 4, 5)]
CLASSES = [1, 2]


def network(dimensions: int = 3) -> nn.Sequential:
    """Two convolutional layers, "1" and "3", and a linear head over 2x2x2 cells; 5 classes."""
    torch.manual_seed(0)
    conv = nn.Conv3d if dimensions == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if dimensions == 3 else nn.AdaptiveAvgPool2d
    return nn.Sequential(
        conv(1, 4, 3, padding=1),
        nn.ReLU(),
        conv(4, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(8 * 2**dimensions, 5),
    ).eval()


def frozen() -> nn.Sequential:
    return network().requires_grad_(False)


def clips(samples: int = 2) -> Tensor:
    return torch.rand(samples, 1, *SIZE, generator=torch.Generator().manual_seed(0))


@contextmanager
def passes(model: nn.Module) -> Iterator[Counter[str]]:
    """Count the forward passes of ``model`` and the backward passes through its last layer."""
    counter: Counter[str] = Counter()

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        counter["forward"] += 1
        if output.requires_grad:
            output.register_hook(lambda gradient: counter.update(["backward"]))

    handle = list(model.children())[-1].register_forward_hook(count)
    try:
        yield counter
    finally:
        handle.remove()


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def leaves_grad(model: nn.Module) -> bool:
    """Whether a parameter has a ``.grad`` now."""
    return any(parameter.grad is not None for parameter in model.parameters())


def raises(kinds: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> bool:
    try:
        call()
    except kinds:
        return True
    return False
