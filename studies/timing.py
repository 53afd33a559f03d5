"""What the benchmarks share: runs that take turns, the memory of a fresh process, the machine."""

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

Run = Callable[[], Any]


class Quartiles(NamedTuple):
    """The middle of the measurements, and between what half of them lie."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.3g} ({self.low:.3g} to {self.high:.3g})"


def quartiles(values: Sequence[float]) -> Quartiles:
    """
    >>> str(quartiles([4.0, 1.0, 2.0, 3.0, 5.0]))
    '3 (2 to 4)'
    """
    return Quartiles(*(float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))))


def ratios(over: Sequence[float], under: Sequence[float]) -> Quartiles:
    """Of each two that took turns: what else the machine did disturbs both alike."""
    return quartiles([a / b for a, b in zip(over, under, strict=True)])


def take_turns(
    runs: Mapping[str, Run],
    repeats: int,
    *,
    enough: float = float("inf"),
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each run in each of ``repeats`` rounds, after one that does not count.

    In each round another run is the first. Rounds end early, but not before three, when ``enough``
    seconds have gone.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for run in runs.values():
        run()
    begin = perf_counter()
    for turn in count():
        if turn == repeats or (turn >= 3 and perf_counter() - begin > enough):
            return seconds
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            start = clock()
            runs[name]()
            finish()
            seconds[name].append(clock() - start)
    raise AssertionError("count() has no end")


def finish() -> None:
    """Wait for a GPU, which works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mib(prepare: Callable[..., tuple[Run, Run]], *arguments: Any) -> float:
    """The most memory that a run takes above what there was before, in a process of its own.

    ``prepare(*arguments)`` gives a small run, which makes whatever is made once, and the one to
    measure. On a CPU, what is resident of what is in use; on a GPU, its tensors.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, torch.get_num_threads(), prepare, *arguments).result()


def _measure(threads: int, prepare: Callable[..., tuple[Run, Run]], *arguments: Any) -> float:
    torch.set_num_threads(threads)
    give_back_freed_memory()
    small, run = prepare(*arguments)
    small()
    finish()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resident_mib()
    kept = run()
    del kept
    return most_resident_mib() - before


def give_back_freed_memory() -> None:
    """Else glibc keeps what is freed, up to 32 MiB a block, and its scatter adds to the peak."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        threshold = -3  # M_MMAP_THRESHOLD: larger blocks go straight back
        mallopt(threshold, 2**20)


def resident_mib() -> float:
    """The memory that this process has resident; where that is not told, the most it has had."""
    return told_mib("VmRSS") or most_resident_mib()


def most_resident_mib() -> float:
    """The most memory that this process has had resident."""
    # Of getrusage a process inherits, on Linux, the peak of the one that started it.
    unit = 1 if sys.platform == "darwin" else 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return told_mib("VmHWM") or most


def told_mib(key: str) -> float:
    """What Linux says of this process; nothing elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{key}:"))


def machine() -> str:
    """The hardware and the versions of what matters, in a line."""
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
