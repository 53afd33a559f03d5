"""What two overlapping windows compute alike: the most that sharing it exactly could save.

A network pads a window with zeros in time. A layer whose value depends on r frames before and after
it therefore has the same values in two windows only where their overlap reaches r frames further in
both directions: at o - 2 r of a window's positions, for an overlap of o frames. Nothing of the
backward pass is the same, because each window's gradient begins at its own score.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from _timing import ratios, take_turns
from captum_3dcam.attribution import LayerwiseCAM

TOLERANCE = 1e-5  # of a layer's highest value: what float32 rounds differently


class SharedFeatures(NamedTuple):
    """Of a network, and windows that overlap."""

    convolutions: int
    shared_convolutions: int
    """Those that compute at least one position in time alike in both windows."""
    forward: float
    """The share of the forward pass's time for what is computed alike."""
    explanation: float
    """Its share of the whole explanation: forward pass, backward pass and maps."""


class Call(NamedTuple):
    """A layer's part of a forward pass."""

    is_convolution: bool
    output: Tensor
    seconds: float


def measure_shared_features(
    cam: LayerwiseCAM, video: Tensor, target: Any, window: int, stride: int, repeats: int
) -> SharedFeatures:
    """Of the first two windows of a video (1, C, T, H, W)."""
    network = cam.forward_func
    first, second = video[:, :, :window], video[:, :, stride : stride + window]
    pairs = list(zip(_calls(network, first), _calls(network, second), strict=True))
    shares = [shared_share(a.output, b.output, window, stride) for a, b in pairs]
    rounds = [[call.seconds for call in _calls(network, first)] for _ in range(repeats)]
    seconds = [median(times) for times in zip(*rounds, strict=True)]
    shared = sum(s * t for s, t in zip(shares, seconds, strict=True)) / sum(seconds)
    runs = {
        "forward": lambda: _forward(network, first),
        "explanation": lambda: cam.attribute(first, target),
    }
    times = take_turns(runs, repeats)
    part = ratios(times["forward"], times["explanation"]).median
    convolutions = [s for s, (call, _) in zip(shares, pairs, strict=True) if call.is_convolution]
    shared_convolutions = sum(share > 0 for share in convolutions)
    return SharedFeatures(len(convolutions), shared_convolutions, shared, shared * part)


def shared_share(first: Tensor, second: Tensor, window: int, stride: int) -> float:
    """Of the positions in time of the first window's output, those with the second one's values.

    >>> x = torch.arange(1.0, 13.0).reshape(1, 1, 12, 1, 1)
    >>> convolution = nn.Conv3d(1, 1, 3, padding=1)
    >>> shared_share(convolution(x[:, :, :8]), convolution(x[:, :, 4:]), window=8, stride=4)
    0.25
    """
    if first.ndim != 5 or first.shape[2] * stride % window:
        return 0.0  # no time, or the windows do not lie on one grid
    length = first.shape[2]
    step = length * stride // window
    differences = (first[:, :, step:] - second[:, :, : length - step]).abs()
    same = differences.amax(dim=(0, 1, 3, 4)) <= TOLERANCE * first.abs().max()
    return int(same.sum()) / length


@torch.no_grad()
def _forward(network: nn.Module, inputs: Tensor) -> Any:
    return network(inputs)


def _calls(network: nn.Module, inputs: Tensor) -> list[Call]:
    """Of the modules that contain no others, in the order of their calls."""
    with _recorded(network) as calls:
        _forward(network, inputs)
    return calls


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[Call]]:
    calls = list[Call]()
    starts = defaultdict[nn.Module, float](float)

    def begin(module: nn.Module, inputs: Any) -> None:
        starts[module] = perf_counter()

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        seconds = perf_counter() - starts[module]
        if isinstance(output, Tensor):
            # A copy, for a ReLU may change it in place.
            calls.append(Call(isinstance(module, nn.Conv3d), output.clone(), seconds))

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [leaf.register_forward_pre_hook(begin) for leaf in leaves]
    handles += [leaf.register_forward_hook(end) for leaf in leaves]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
