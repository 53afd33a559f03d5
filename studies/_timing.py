"""Runs that are timed in turns, and the machine that they run on."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

Run = Callable[[], Any]


class Quartiles(NamedTuple):
    """The median of the measurements, between the first and the third quartile."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def quartiles(values: Sequence[float]) -> Quartiles:
    """
    >>> str(quartiles([4.0, 1.0, 2.0, 3.0, 5.0]))
    '3 (2 to 4)'
    """
    return Quartiles(*(float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios of each round: a busy machine slows both runs of a round alike."""
    return quartiles([a / b for a, b in zip(numerators, denominators, strict=True)])


def take_turns(
    runs: Mapping[str, Run],
    repeats: int,
    *,
    max_seconds: float = float("inf"),
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """The seconds of each run in each of ``repeats`` rounds, after a warm-up that does not count.

    Each round begins with another run. After ``max_seconds`` no further round begins, but there
    are three at least, if ``repeats`` allows.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for run in runs.values():
        run()
    begin = perf_counter()
    for turn in count():
        if turn == repeats or (turn >= 3 and perf_counter() - begin > max_seconds):
            return seconds
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            synchronize()
            start = clock()
            runs[name]()
            synchronize()
            seconds[name].append(clock() - start)
    raise AssertionError("count() has no end")


def synchronize() -> None:
    """Wait for a GPU, which computes on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> str:
    """The hardware and the versions that matter, in one line."""
    device = f" and {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{cpu()}, {os.cpu_count()} cores{device}; {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
