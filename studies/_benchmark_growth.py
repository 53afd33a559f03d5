"""How time and memory of a map grow with the clip, the layers and the batch."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from _benchmark_runs import make_inputs, make_network, ours, prepare
from _memory import peak_mib
from _report import table
from _resnet import LAYERS
from _timing import Quartiles, quartiles, take_turns
from captum_3dcam import LayerwiseGlobalLocalCAM


def measure_growth(name: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """Rows and a table, with one size of one network growing at a time."""
    scale = options.size / 112
    axes: dict[str, list[int]] = {
        "frames": [8, 16, 32, 64, 128],
        "side, pixels": [round(side * scale) for side in (64, 96, 128, 192, 256)],
        "layers": [1, 2, 5, 10, 20],
        "batch": [1, 2, 4, 8, 16],
    }
    rows = []
    for axis, values in axes.items():
        costs = [measure_size(name, axis, value, options) for value in values]
        seconds, mib = zip(*costs, strict=True)
        slopes = {
            "time": slope(values, [each.median for each in seconds]),
            "memory": slope(values, mib),
        }
        rows.append(
            {"axis": axis, "values": values, "seconds": seconds, "mib": mib, "slopes": slopes}
        )
    options.output.mkdir(parents=True, exist_ok=True)
    draw_growth(rows).savefig(options.output / "growth.png", dpi=100)
    cells = [
        [
            f"{row['axis']}, {row['values'][0]} to {row['values'][-1]}",
            *(f"{row['seconds'][k].median:.2f} s, {row['mib'][k]:.0f} MiB" for k in (0, -1)),
            *(f"{row['slopes'][key]:.2f}" for key in ("time", "memory")),
        ]
        for row in rows
    ]
    header = [f"{name}: what grows", "from", "to", "slope of time", "slope of memory"]
    return rows, table(header, cells)


def measure_size(
    name: str, axis: str, value: int, options: argparse.Namespace
) -> tuple[Quartiles, float]:
    """Seconds and MiB of one map, with one of its sizes changed."""
    sizes = {"batch": 1, "frames": options.frames, "side, pixels": options.size, axis: value}
    batch, frames, size = (sizes[key] for key in ("batch", "frames", "side, pixels"))
    layers = batch_norms(name)[-value:] if axis == "layers" else LAYERS
    network = make_network(name, options.device)
    run = partial(
        ours(LayerwiseGlobalLocalCAM, network, layers),
        make_inputs(name, batch, frames, size, options.device),
        [0] * batch,
    )
    seconds = take_turns({"3DCAM": run}, options.repeats, max_seconds=options.enough / 4)["3DCAM"]
    arguments = ("3DCAM", name, layers, batch, frames, size, options.device)
    return quartiles(seconds), peak_mib(prepare, *arguments, device=options.device)


def batch_norms(name: str) -> list[str]:
    """The batch normalisations of a network, in the order in which they run."""
    kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
    return [key for key, module in make_network(name).named_modules() if isinstance(module, kinds)]


def slope(values: Sequence[float], costs: Sequence[float]) -> float:
    """Of the regression line through the logarithms: 1 where cost is proportional.

    >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def draw_growth(rows: Sequence[dict[str, Any]]) -> Figure:
    """Time above, memory below; all axes are logarithmic and each row of panels shares its own."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(2, len(rows), sharex="col", sharey="row", squeeze=False)
    for column, row in zip(axes.T, rows, strict=True):
        costs = {"time": [each.median for each in row["seconds"]], "memory": row["mib"]}
        colors = ("#0072b2", "#d55e00")
        for ax, (cost, values), color in zip(column, costs.items(), colors, strict=True):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.plot(row["values"], values, "o-", color=color)
            ax.set_title(f"slope {row['slopes'][cost]:.2f}", fontsize=10)
            ax.grid(visible=True, alpha=0.3)
            ax.yaxis.set_major_formatter("{x:g}")
        column[1].set_xlabel(row["axis"])
        column[1].set_xticks(row["values"], row["values"])
    axes[0, 0].set_ylabel("time, s")
    axes[1, 0].set_ylabel("memory, MiB")
    return figure
