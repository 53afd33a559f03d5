"""Figures and axes to draw on."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization.style import Style

AnyFigure = Figure | SubFigure
FigureAxis = tuple[AnyFigure, Axes]
FigureAxes = tuple[AnyFigure, list[Axes]]

WIDTH = 11.0  # inches, of the images of a figure that has many
MARGIN = 1.0  # inches beside them, for a colour bar
# White with a black edge is legible on any image.
OUTLINED: dict[str, Any] = {
    "color": "white",
    "path_effects": [withStroke(linewidth=2, foreground="black")],
}


def new_figure(style: Style, size: tuple[float, float]) -> Figure:
    """A figure of the style's size, or of ``size`` if it has none."""
    if style.use_pyplot:
        # Imported here: it chooses a backend, and keeps every figure.
        from matplotlib import pyplot

        return pyplot.figure(figsize=style.fig_size or size, layout="constrained")
    return Figure(figsize=style.fig_size or size, layout="constrained")


def make_axes(
    style: Style, count: int, size: tuple[float, float], lay_out: Callable[[Figure], list[Axes]]
) -> FigureAxes:
    """The style's figure and axes if they are ``count``; by default new ones, as laid out."""
    if style.plt_fig_axis is None:
        new = new_figure(style, size)
        return new, lay_out(new)
    fig, given = style.plt_fig_axis
    axes = [given] if isinstance(given, Axes) else list(given)
    if len(axes) != count:
        raise ValueError(f"This figure needs {count} axes; plt_fig_axis has {len(axes)}.")
    return fig, axes


def make_axis(style: Style, size: tuple[float, float]) -> FigureAxis:
    fig, (ax,) = make_axes(style, 1, size, lambda fig: [fig.add_subplot()])
    return fig, ax


def make_grid(style: Style, count: int, columns: int, size: tuple[float, float]) -> FigureAxes:
    """Axes of equal size, row by row."""

    def lay_out(fig: Figure) -> list[Axes]:
        spec = fig.add_gridspec(-(-count // columns), columns)
        return [fig.add_subplot(spec[divmod(i, columns)]) for i in range(count)]

    return make_axes(style, count, size, lay_out)


def hide_frame(ax: Axes) -> None:
    """Hide ticks and spines; labels stay."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def finish_figure(
    fig: AnyFigure,
    style: Style,
    title: str | None,
    bars: Iterable[tuple[Sequence[Axes], ColorScale]] = (),
    location: str = "right",
) -> None:
    """Add the title and a colour bar for each group of axes; show the figure if it is pyplot's."""
    if title is not None:
        fig.suptitle(title)
    options: dict[str, Any] = {"location": location, "pad": 0.01, "aspect": 25}
    if location == "bottom":
        options["ticks"] = MaxNLocator(3)  # more numbers side by side would overlap
    for axes, colors in bars if style.show_colorbar else ():
        mappable = ScalarMappable(colors.norm, colors.cmap)
        fig.colorbar(mappable, ax=list(axes), label=colors.label, **options)
    if style.use_pyplot:
        from matplotlib import pyplot

        pyplot.show()
