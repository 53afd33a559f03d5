"""Ctrl-C between any two instructions of Python while a map is computed: is all as it was?"""

import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.overrides import _len_torch_function_stack

from captum_3dcam import LayerwiseGlobalLocalCAM, LayerwiseGradCAM, suggest_layers
from captum_3dcam._capture.process_settings import eager_modules
from captum_3dcam.sliding import SlidingWindowCAM


class _Stateful(nn.Module):
    """Has a recurrent state, a counter and a buffer, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.hidden: Tensor | None = None
        self.history: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.hidden = x.mean()
        self.history.append(1)
        return x + 0.1 * torch.rand(x.shape)


def _network() -> nn.Module:
    """In train mode, so that batch normalisation and dropout change their state too."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        _Stateful(),
        nn.Conv2d(4, 4, 3),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


_BY_OPCODE = sys.version_info >= (3, 11)  # Python 3.10 crashes if such an event raises
_INPUT = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _calls(net: nn.Module) -> list[Callable[[], Any]]:
    fused = LayerwiseGlobalLocalCAM(net, ["2", "4"])
    chosen = LayerwiseGradCAM(net, "2")
    sliding = SlidingWindowCAM(fused, window=6, stride=3)
    return [
        lambda: fused.attribute(_INPUT),
        lambda: fused.attribute_classes(_INPUT, [0, 1]),
        lambda: chosen.attribute(_INPUT, 0, attribute_to_layer_input=True),
        lambda: sliding.attribute(_INPUT[:1], "whole"),
        lambda: suggest_layers(net, _INPUT),
    ]


def _state(net: nn.Module) -> dict[str, Any]:
    """All that a call could leave behind, as values that can be compared."""
    modules = list(net.modules())
    return {
        "hooks": [
            [len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)]
            for m in modules
        ],
        "global hooks": [
            len(module_hooks._global_forward_hooks),
            len(module_hooks._global_forward_pre_hooks),
        ],
        "grad mode": torch.is_grad_enabled(),
        "function modes": _len_torch_function_stack(),
        "buffers": {name: value.tolist() for name, value in net.state_dict().items()},
        "attributes": [repr(m.hidden) + repr(m.history) for m in modules if hasattr(m, "history")],
        "modes": [m.training for m in modules],
        "generator": hash(torch.get_rng_state().numpy().tobytes()),
        "fused layers": torch.backends.mha.get_fastpath_enabled(),
        "eager calls": len(eager_modules._users),
        "handler": signal.getsignal(signal.SIGINT),
    }


class _Interrupts:
    """Ctrl-C at the given instructions, counted over all frames while it is active."""

    def __init__(self, at: tuple[int, ...] = ()) -> None:
        self.count, self._at = 0, frozenset(at)

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = _BY_OPCODE, not _BY_OPCODE
        if event == ("opcode" if _BY_OPCODE else "line"):
            self.count += 1
            if self.count in self._at:
                signal.raise_signal(signal.SIGINT)
        return self.trace

    def run(self, call: Callable[[], Any]) -> None:
        try:
            sys.settrace(self.trace)
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)


def run(seed: int, seconds: float) -> tuple[int, list[str]]:
    """Interrupts tried, and what they left behind. Some are followed by a second one."""
    assert threading.current_thread() is threading.main_thread(), "signals arrive there"
    generator, net = np.random.default_rng(seed), _network()
    calls = _calls(net)
    lengths = []
    for call in calls:
        call()  # what only a first call does
        counter = _Interrupts()
        counter.run(call)
        lengths.append(counter.count)
    before = _state(net)
    failures, tried, end = [], 0, monotonic() + seconds
    while monotonic() < end:
        number = int(generator.integers(len(calls)))
        first = int(generator.integers(1, lengths[number] + 1))
        second = first + int(generator.integers(2) * generator.integers(1, 300))
        _Interrupts((first, second)).run(calls[number])
        tried += 1
        after = _state(net)
        changed = [name for name, value in before.items() if after[name] != value]
        if changed:
            failures.append(f"call {number}, instructions {first} and {second}: {changed}")
            net = _network()  # begin anew: later calls would inherit what is left
            calls, before = _calls(net), None
            for call in calls:
                call()
            before = _state(net)
    return tried, failures
