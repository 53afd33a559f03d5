"""Figures and axes to draw on, and the words around them."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke

AnyFigure = Figure | SubFigure
FigureAxis = tuple[AnyFigure, Axes]
FigureAxes = tuple[AnyFigure, list[Axes]]
GivenAxes = tuple[AnyFigure, Sequence[Axes]] | None

WIDTH = 11.0  # inches, of the pictures of a figure that has many
MARGIN = 1.0  # inches beside them, for a colour bar
# White with a black edge is read on any picture.
EDGED: dict[str, Any] = {
    "color": "white",
    "path_effects": [withStroke(linewidth=2, foreground="black")],
}


def new_figure(fig_size: tuple[float, float], use_pyplot: bool) -> Figure:
    if use_pyplot:
        # Imported late: it chooses a backend, and keeps every figure.
        from matplotlib import pyplot

        return pyplot.figure(figsize=fig_size, layout="constrained")
    return Figure(figsize=fig_size, layout="constrained")


def show(use_pyplot: bool) -> None:
    if use_pyplot:
        from matplotlib import pyplot

        pyplot.show()


def figure_axis(
    given: FigureAxis | None, fig_size: tuple[float, float], use_pyplot: bool
) -> FigureAxis:
    if given is not None:
        return given
    fig = new_figure(fig_size, use_pyplot)
    return fig, fig.add_subplot()


def figure_axes(
    given: GivenAxes,
    count: int,
    lay_out: Callable[[Figure], list[Axes]],
    fig_size: tuple[float, float],
    use_pyplot: bool,
) -> FigureAxes:
    """The axes that were given, if they are ``count``; or those laid out on a new figure."""
    if given is None:
        fig = new_figure(fig_size, use_pyplot)
        return fig, lay_out(fig)
    own, axes = given[0], list(given[1])
    if len(axes) != count:
        raise ValueError(f"This figure needs {count} axes; plt_fig_axis has {len(axes)}.")
    return own, axes


def grid(fig: Figure, count: int, columns: int) -> list[Axes]:
    rows = -(-count // columns)
    spec = fig.add_gridspec(rows, columns)
    return [fig.add_subplot(spec[divmod(i, columns)]) for i in range(count)]


def check_columns(columns: int | None, count: int, default: int) -> int:
    """How many pictures stand in a row: not more than there are."""
    if columns is not None and columns < 1:
        raise ValueError(f"columns={columns} must be 1 or more: how many pictures stand in a row.")
    return min(columns or default, count)


def bare(ax: Axes) -> None:
    """Without ticks and frame; its labels stay."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def title_of(title: str | None, class_name: str | None, class_score: float | None) -> str | None:
    """The words of the title: ``title: class (0.93)``, of what there is."""
    named = name_of(class_name or "score", class_score) if class_score is not None else class_name
    return ": ".join(part for part in (title, named) if part) or None


def name_of(name: str, score: float | None) -> str:
    return name if score is None else f"{name} ({score:.2f})"


def set_title(on: AnyFigure | Axes, title: str | None) -> None:
    if title is None:
        return
    if isinstance(on, Axes):
        on.set_title(title)
    else:
        on.suptitle(title)
