"""Everything that the package offers, again and again: do memory, files, threads or hooks grow?

After each pass over the entry points, the resident memory, the open files, the threads and the
hooks (the models' and PyTorch's global ones) are counted. The first minute allocates what is
allocated once. The exit status is 1 unless, after it, the memory stays within 5 % of what it was
then, and the numbers of files, threads and hooks do not grow.

    python studies/soak.py --minutes 10
"""

import gc
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from _arguments import make_parser
from _memory import return_freed_memory
from _report import table
from _soak_calls import make_calls, network, passes

WARM_UP = 1.0  # minutes
TOLERANCE = 0.05  # of the resident memory
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Sample(NamedTuple):
    """What the process has in use."""

    minute: float
    mib: float
    files: int
    threads: int
    hooks: int


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    options = parser.parse_args(arguments)
    return_freed_memory()
    models = [network(2), network(3)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # maps of untrained networks may be zero
        calls = make_calls(Path(folder), models)
        samples = list(soak(passes(calls), models, options.minutes))
    print(report(samples))
    problems = leaks(samples)
    print("\n".join(["", *problems]) if problems else "\nNothing grew.")
    return int(bool(problems))


def soak(
    each_pass: Iterable[int],
    models: Sequence[nn.Module],
    minutes: float,
    clock: Callable[[], float] = monotonic,
) -> Iterator[Sample]:
    """A sample after each pass, until the time is over."""
    begin = clock()
    for _ in each_pass:
        gc.collect()
        minute = (clock() - begin) / 60
        yield measure(minute, models)
        if minute >= minutes:
            return


def measure(minute: float, models: Sequence[nn.Module]) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        minute,
        pages * resource.getpagesize() / 2**20,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        count_hooks(models),
    )


def count_hooks(models: Sequence[nn.Module]) -> int:
    """Those on the models' modules and parameters, and the global ones."""
    modules = [module for model in models for module in model.modules()]
    parameters = [parameter for model in models for parameter in model.parameters()]
    on_tensors = sum(len(p._backward_hooks or ()) for p in parameters)
    global_hooks = sum(len(getattr(module_hooks, f"_global{kind}")) for kind in _HOOKS)
    return (
        sum(len(getattr(m, kind)) for m in modules for kind in _HOOKS) + on_tensors + global_hooks
    )


def leaks(samples: Sequence[Sample]) -> list[str]:
    """What grew after the first minute, or after the first pass if that took longer."""
    first = next((s for s in samples if s.minute >= WARM_UP), samples[-1])
    later = [s for s in samples if s.minute >= first.minute]
    peak = max(s.mib for s in later)
    problems = []
    if peak > first.mib * (1 + TOLERANCE):
        problems.append(f"The resident memory grew from {first.mib:.0f} to {peak:.0f} MiB.")
    for name in ("files", "threads", "hooks"):
        start, most = getattr(first, name), max(getattr(s, name) for s in later)
        if most > start:
            problems.append(f"The number of {name} grew from {start} to {most}.")
    return problems


def report(samples: Sequence[Sample]) -> str:
    """The last sample of each minute, and the number of passes until then."""
    last = {int(s.minute): (number, s) for number, s in enumerate(samples, start=1)}
    rows = [
        (f"{s.minute:.1f}", number, f"{s.mib:.0f}", s.files, s.threads, s.hooks)
        for number, s in last.values()
    ]
    return table(("minute", "passes", "resident MiB", "files", "threads", "hooks"), rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
