"""What the plots of this package share."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

FigureAxis = tuple[Figure | SubFigure, Axes]
# Okabe and Ito's palette, distinguishable with every kind of colour blindness.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES, MARKERS = ("-", "--", "-.", ":"), "osD^vP*"
_MAX_LABELS = 40


def figure_and_axes(plt_fig_axis: FigureAxis | None, fig_size: tuple[float, float]) -> FigureAxis:
    if plt_fig_axis is not None:
        return plt_fig_axis
    fig = Figure(figsize=fig_size, layout="constrained")
    return fig, fig.add_subplot()


def line_style(position: int, **style: Any) -> dict[str, Any]:
    """A colour and a line style; either distinguishes the series."""
    color, line = _COLORS[position % len(_COLORS)], _LINES[position % len(_LINES)]
    return {"color": color, "linestyle": line, **style}


def draw_mean(
    ax: Axes, x: Sequence[float], values: Tensor, label: str, style: dict[str, Any]
) -> None:
    """The mean over samples of values (len(x), N), and the quartiles of more than one."""
    ax.plot(x, values.nanmean(dim=1), label=label, **style)
    if values.shape[1] == 1:
        return
    low, high = values.nanquantile(torch.tensor([0.25, 0.75], dtype=values.dtype), dim=1)
    if style["linestyle"] == "none":
        ax.vlines(x, low, high, color=style["color"], linewidth=1)
    else:
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def include_heights(ax: Axes, *heights: float) -> None:
    """Extend the y axis to these values; later curves can extend it further."""
    ax.update_datalim([(0, height) for height in heights])
    ax.autoscale_view()


def label_steps(ax: Axes, steps: Sequence[str]) -> None:
    shown = range(0, len(steps), ceil(len(steps) / _MAX_LABELS))
    ax.set_xticks(list(shown), [steps[i] for i in shown], rotation=45, ha="right")


def finish(fig: Figure | SubFigure, ax: Axes, title: str | None, **legend: Any) -> FigureAxis:
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, **legend)
    if title is not None:
        ax.set_title(title)
    return fig, ax
