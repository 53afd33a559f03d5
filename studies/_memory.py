"""The peak memory of a run, and of this process."""

import ctypes
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from _timing import Run, synchronize


def peak_mib(
    prepare: Callable[..., tuple[Run, Run]], *arguments: Any, device: str = "cpu"
) -> float:
    """The peak memory of a run above what was in use before it, in a fresh process.

    ``prepare(*arguments)`` gives a small run, which allocates what is allocated once, and the run
    to measure. On a CPU the memory is what is resident, on a GPU that of its tensors.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_measure, device, threads, prepare, *arguments).result()


def _measure(
    device: str, threads: int, prepare: Callable[..., tuple[Run, Run]], *arguments: Any
) -> float:
    torch.set_num_threads(threads)
    return_freed_memory()
    small, run = prepare(*arguments)
    small()
    synchronize()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resident_mib()
    output = run()
    del output
    return peak_resident_mib() - before


def return_freed_memory() -> None:
    """Make glibc return freed blocks to the system.

    By default it keeps those of up to 32 MiB, which adds to the peak, more or less at random.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        threshold = -3  # M_MMAP_THRESHOLD: larger blocks are returned at once
        mallopt(threshold, 2**20)


def resident_mib() -> float:
    """The resident memory of this process; its peak where the system does not say."""
    return status_mib("VmRSS") or peak_resident_mib()


def peak_resident_mib() -> float:
    """The peak of the resident memory of this process."""
    # On Linux, getrusage gives a process the peak of the one that started it.
    unit = 1 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return status_mib("VmHWM") or peak


def status_mib(key: str) -> float:
    """An entry of Linux's status of this process; 0 on other systems."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{key}:"))
