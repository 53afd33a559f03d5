"""The study ``cuda``: what a map costs on a GPU, for several networks and ways to run them.

Each row is a network, a mode and a number of layers or classes; its runs take turns. The most
important rows come first, and a row begins only while there is time for one like it.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from _cuda_networks import NETWORKS, Network, Subject, make_subject, missing_library
from _cuda_report import report_of
from _cuda_runs import CHANNELS_LAST, EAGER, GRAPH, Task, graph_row, make_runs, time_runs
from _fresh_process import in_fresh_process, reason_of

DEPTHS = (1, 3, 5)  # layers; the deepest ones
TOP_K = 5
ROW_SECONDS = 3.0  # after which a row's rounds end
PROCESS_SECONDS = 90.0  # for a network in a process of its own


# ------------------------------------------------------------------------------------------- study


def measure_cuda(options: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """Rows and tables; one row and a sentence where the device is absent."""
    device = options.cuda_device
    if device == "cuda" and not torch.cuda.is_available():
        reason = "there is no CUDA device here"
        return [{"absent": reason}], f"Not measured: {reason}."
    budget, bench = Budget(60 * options.minutes), Bench(device, options.repeats, options.enough)
    absent, names = {}, []
    for name in options.cuda_networks:
        if reason := missing_library(NETWORKS[name]):
            absent[name] = reason
        else:
            names.append(name)
    rows, left_out = measure_rows(plan({name: NETWORKS[name] for name in names}), bench, budget)
    return rows, report_of(rows, {**absent, **left_out})


def plan(networks: Mapping[str, Network]) -> list[Task]:
    """All rows, the most important ones first."""
    deepest = {name: depths(network)[-1] for name, network in networks.items()}
    convolutional = [name for name in networks if networks[name].convolutional]
    return [
        *(Task(name, EAGER, deepest[name]) for name in networks),
        *(Task(name, EAGER, deepest[name], TOP_K) for name in networks),
        *(Task(name, GRAPH, deepest[name]) for name in networks),
        *(Task(name, CHANNELS_LAST, deepest[name]) for name in convolutional),
        *(Task(name, EAGER, k) for name in networks for k in depths(networks[name])[:-1]),
        *(Task(name, CHANNELS_LAST, deepest[name], TOP_K) for name in convolutional),
    ]


def depths(network: Network) -> list[int]:
    return [k for k in DEPTHS if k <= len(network.layers)]


def measure_rows(
    tasks: Sequence[Task], bench: "Bench", budget: "Budget"
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows that there was time for; of the others, why they were left out."""
    rows: list[dict[str, Any]] = []
    left_out = {}
    for task in tasks:
        if not budget.allows(task.network):
            left_out[str(task)] = "no time left"
            continue
        with budget.spent_on(task.network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages, and of maps of random networks
            try:
                row = bench.measure(task, budget.left())
            except Exception as error:  # whatever a library or a device raises
                left_out[str(task)] = reason_of(error)
            else:
                rows.append({**task._asdict(), **row})
        # What is measured stays readable if the process is ended.
        print(f"{task}: {left_out.get(str(task), 'done')}; {budget.left():.0f} s left", flush=True)
    return rows, left_out


class Budget:
    """Seconds to spend; a row begins while there are as many as the network's longest one took."""

    def __init__(self, seconds: float, clock: Callable[[], float] = perf_counter) -> None:
        self._clock, self._end = clock, clock() + seconds
        self._longest: dict[str, float] = {}

    def left(self) -> float:
        return max(0.0, self._end - self._clock())

    def allows(self, network: str) -> bool:
        return self.left() > self._longest.get(network, 0.0)

    @contextmanager
    def spent_on(self, network: str) -> Iterator[None]:
        begin = self._clock()
        yield
        self._longest[network] = max(self._clock() - begin, self._longest.get(network, 0.0))


class Bench:
    """Measures tasks on a device, and keeps the networks for the next ones."""

    def __init__(self, device: str, repeats: int, enough: float) -> None:
        self.device, self.repeats, self.enough = device, repeats, min(enough, ROW_SECONDS)
        self._subjects: dict[tuple[str, str], Subject] = {}

    def measure(self, task: Task, seconds_left: float) -> dict[str, Any]:
        if task.mode == GRAPH:
            # A capture that fails leaves its process in no state to measure in.
            if self.device == "cuda":
                torch.cuda.empty_cache()
            arguments = (task.network, task.layers, self.device, self.repeats, self.enough)
            seconds = min(PROCESS_SECONDS, seconds_left)
            row: dict[str, Any] = in_fresh_process(graph_row, *arguments, max_seconds=seconds)
            return row
        subject = self._subject(task)
        classes = min(task.classes, subject.num_classes)
        runs, absent = make_runs(subject, task._replace(classes=classes))
        timing = time_runs(runs, self.repeats, self.enough, self.device)
        return {"classes": classes, **timing.row(), "absent": {**absent, **timing.failed}}

    def _subject(self, task: Task) -> Subject:
        key = task.network, task.mode
        if key not in self._subjects:
            self._subjects[key] = make_subject(
                NETWORKS[task.network], self.device, task.mode == CHANNELS_LAST
            )
        return self._subjects[key]
