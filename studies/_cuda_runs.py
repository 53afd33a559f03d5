"""The runs of the study ``cuda``: the limit, this package and others; in turns, as CUDA graphs."""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from _benchmark_runs import limit
from _cuda_graphs import captured, count_waits
from _cuda_networks import NETWORKS, Subject, make_subject
from _fresh_process import reason_of
from _peers import PEERS, Explain, missing, torch_cam_classes
from _timing import Quartiles, Run, quartiles, ratios, synchronize, take_turns
from captum_3dcam import LayerwiseGlobalLocalCAM

OURS = "3DCAM"
METHODS = (OURS, "Captum", "torch-cam", "pytorch-grad-cam")
EAGER, CHANNELS_LAST, GRAPH = "eager", "channels last", "CUDA graph"
SLOW_CALL = 1.0  # seconds; what takes longer is called once


class Task(NamedTuple):
    """A row to measure."""

    network: str
    mode: str
    layers: int
    classes: int = 1

    def __str__(self) -> str:
        classes = f", top {self.classes}" if self.classes > 1 else ""
        return f"{self.network}, {self.mode}, {self.layers} layer(s){classes}"


def make_runs(subject: Subject, task: Task) -> tuple[dict[str, Run], dict[str, str]]:
    """The limit, this package and others; and which are absent, with the reason."""
    network, x, layers = subject.network, subject.x, list(subject.layers[-task.layers :])
    names = [str(layer.module) for layer in layers]
    cam = make_cam(subject, task.layers)
    makers, absent = available_peers(subject)
    runs: dict[str, Run]
    if task.classes == 1:
        runs = {
            "limit": partial(limit(network, names), x, subject.classes),
            OURS: partial(cam.attribute, x, subject.classes),
        }
        peers = {name: partial(make(network, names), x, subject.classes)
                 for name, make in makers.items()}  # fmt: skip
    else:
        targets = top_targets(subject, task.classes)
        runs = {
            "limit": partial(limit(network, names, len(targets)), x, targets[0]),
            OURS: partial(cam.attribute_top_k, x, len(targets)),
        }
        peers = {name: partial(several(name, make, network, names), x, targets)
                 for name, make in makers.items()}  # fmt: skip
    return {**runs, **peers}, absent


def make_cam(subject: Subject, depth: int) -> LayerwiseGlobalLocalCAM:
    layers = list(subject.layers[-depth:])
    return LayerwiseGlobalLocalCAM(subject.network, layers, input_layout=subject.input_layout)


def available_peers(subject: Subject) -> tuple[dict[str, Callable[..., Explain]], dict[str, str]]:
    not_installed, makers, absent = missing(), {}, {}
    for name in METHODS[1:]:
        if not subject.is_plain:
            absent[name] = "takes inputs and layers (N, C, *S) only"
        elif name in not_installed:
            absent[name] = not_installed[name]
        else:
            makers[name] = PEERS[name].make
    return makers, absent


@torch.no_grad()
def top_targets(subject: Subject, k: int) -> list[list[int]]:
    """For each rank the class of each sample."""
    ranked: list[list[int]] = subject.network(subject.x).topk(k).indices.T.tolist()
    return ranked


def several(
    name: str, make: Callable[..., Explain], network: nn.Module, layers: list[str]
) -> Callable[[Tensor, list[list[int]]], Any]:
    """Several classes: from one forward pass if the package can, else one by one."""
    if name == "torch-cam":
        return torch_cam_classes(network, layers)
    explain = make(network, layers)
    return lambda x, targets: [explain(x, classes) for classes in targets]


# ------------------------------------------------------------------------------------------ timing


class Timing(NamedTuple):
    """By run: seconds of each round, the peak of the memory, and errors."""

    seconds: dict[str, list[float]]
    mib: dict[str, float]
    failed: dict[str, str]
    once: set[str]
    """Runs that were called once."""

    def row(self) -> dict[str, Any]:
        base = self.seconds["limit"]
        return {
            "seconds": {name: quartiles(values) for name, values in self.seconds.items()},
            "ratios": {
                name: ratios(values, [median(base)] if name in self.once else base)
                for name, values in self.seconds.items()
                if name != "limit"
            },
            "once": sorted(self.once),
            "rounds": len(base),
            "mib": self.mib,
        }


def time_runs(runs: Mapping[str, Run], repeats: int, enough: float, device: str) -> Timing:
    """In turns; a run of another package that takes longer than ``SLOW_CALL`` has one call only.

    Raises what the limit raises. An error of another run is reported.
    """
    ready, timing = {}, Timing({}, {}, {}, set())
    for name, run in runs.items():
        try:
            seconds, timing.mib[name] = measure_call(run, device)
            if seconds > SLOW_CALL and name not in ("limit", OURS):
                timing.seconds[name] = [seconds]
                timing.once.add(name)
                continue
            # The first call allocates workspaces that stay.
            _, timing.mib[name] = measure_call(run, device)
        except Exception as error:
            if name == "limit":
                raise
            timing.failed[name] = reason_of(error)
        else:
            ready[name] = run
    timing.seconds.update(take_turns(ready, repeats, max_seconds=enough))
    return timing


def measure_call(run: Run, device: str) -> tuple[float, float]:
    """Its seconds, and the peak in MiB of the tensors on a GPU above what was there; else NaN."""
    before = 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    synchronize()
    begin = perf_counter()
    run()
    synchronize()
    seconds = perf_counter() - begin
    if device != "cuda":
        return seconds, math.nan
    return seconds, (torch.cuda.max_memory_allocated() - before) / 2**20


# ------------------------------------------------------------------------------------- CUDA graphs


def graph_row(name: str, depth: int, device: str, repeats: int, enough: float) -> dict[str, Any]:
    """The limit and 3DCAM, each beside a replay of its graph, or why there is none."""
    warnings.simplefilter("ignore")
    subject = make_subject(NETWORKS[name], device)
    names = [str(layer.module) for layer in subject.layers[-depth:]]
    # A list of classes would be copied to the device, which a graph cannot record.
    classes = torch.tensor(subject.classes, device=device)
    runs: dict[str, Run] = {
        "limit": partial(limit(subject.network, names), subject.x, classes),
        OURS: partial(make_cam(subject, depth).attribute, subject.x, subject.classes),
    }
    seconds = take_turns(runs, repeats, max_seconds=enough)
    waits = count_waits(runs[OURS]) if device == "cuda" else None
    replays, reasons = measure_replays(runs, repeats, enough)
    return {
        "seconds": {method: quartiles(values) for method, values in seconds.items()},
        "ratios": {OURS: ratios(seconds[OURS], seconds["limit"])},
        "waits": waits,
        "replays": replays,
        "reasons": reasons,
    }


def measure_replays(
    runs: Mapping[str, Run], repeats: int, enough: float
) -> tuple[dict[str, Quartiles], dict[str, str]]:
    """Of each run that can be captured, the ratio of its replay to the limit; else the reason."""
    replays, reasons = {}, {}
    for method, run in runs.items():
        if reasons:  # the capture that failed would make this one fail
            reasons[method] = f"not tried after {next(iter(reasons))}"
            continue
        try:
            replay, output = captured(run)
            replay()
            check_same(output, run())
            seconds = take_turns(
                {"limit": runs["limit"], "replay": replay}, repeats, max_seconds=enough
            )
        except Exception as error:
            reasons[method] = reason_of(error)
        else:
            replays[method] = ratios(seconds["replay"], seconds["limit"])
    return replays, reasons


def check_same(output: Any, expected: Any) -> None:
    """Raises ArithmeticError where tensors, or the last ones in sequences, differ.

    More than rounding: some kernels add in any order.
    """
    while not isinstance(output, Tensor):
        output, expected = output[-1], expected[-1]
    largest = float((output - expected).abs().max())
    if not largest <= 0.01 * float(expected.abs().max()):
        raise ArithmeticError(f"the replay's output differs by {largest:.3g}")
