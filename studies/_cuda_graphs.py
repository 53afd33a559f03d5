"""CUDA graphs: whether a call can be captured in one, and what a replay takes.

A graph records the kernels of a call, and starts them all at once. What it cannot record is a call
that reads a value back from the device.
"""

import warnings
from typing import Any

import torch

from _timing import Run

WARM_UP = 3  # calls before a capture; the first ones choose algorithms and allocate workspaces
_GRAPHS: list[Any] = []  # what is left of a capture that failed can perhaps not be released


def captured(run: Run) -> tuple[Run, Any]:
    """A run that replays the graph of this one, and the output, which a replay overwrites.

    Raises what the call or the capture raises. After that, PyTorch's allocator stays in the state
    of a capture, so what follows in the process measures something else.
    """
    graph = torch.cuda.CUDAGraph()
    _GRAPHS.append(graph)
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    current.wait_stream(side)
    with torch.cuda.graph(graph):
        output = run()
    return graph.replay, output


def count_waits(run: Run) -> int:
    """How often a call waits for the device, as far as PyTorch notices."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("called a synchronizing" in str(each.message) for each in caught)
