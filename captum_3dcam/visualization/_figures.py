"""Figures and axes to draw on."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization.style import Style

AnyFigure = Figure | SubFigure
FigureAxis = tuple[AnyFigure, Axes]
FigureAxes = tuple[AnyFigure, list[Axes]]

WIDTH = 11.0  # inches, of the images of a figure that has many
MARGIN = 1.0  # inches beside them, for a colour bar
_MAX_HEIGHT = 7.0  # inches, of images in a row
_MAX_RATIO = 4  # of the sides of axes
# White with a black edge is legible on any image.
OUTLINED: dict[str, Any] = {
    "color": "white",
    "path_effects": [withStroke(linewidth=2, foreground="black")],
}
# For what a user wrote: matplotlib would read what stands between dollar signs as a formula.
LITERAL: dict[str, Any] = {"parse_math": False, "usetex": False}


def make_axes(
    style: Style, mosaic: list[Any], size: tuple[float, float], **ratios: Any
) -> FigureAxes:
    """The style's figure and axes; by default new ones, laid out by ``Figure.subplot_mosaic``."""
    count = len({number for row in mosaic for number in row if number >= 0})
    if style.plt_fig_axis is not None:
        given, axes = style.plt_fig_axis
        axes = [axes] if isinstance(axes, Axes) else list(axes)
        if len(axes) != count:
            raise ValueError(f"This figure needs {count} axes; plt_fig_axis has {len(axes)}.")
        return given, axes
    options: dict[str, Any] = {"figsize": style.fig_size or size, "layout": "constrained"}
    if style.use_pyplot:
        # Imported here: it chooses a backend, and keeps every figure.
        from matplotlib import pyplot

        fig = pyplot.figure(**options)
    else:
        fig = Figure(**options)
    by_number = fig.subplot_mosaic(mosaic, empty_sentinel=-1, **ratios)
    return fig, [by_number[number] for number in range(count)]


def make_grid(
    style: Style, count: int, columns: int, aspect: float, profile: bool = False
) -> FigureAxes:
    """Axes for images of one aspect ratio, row by row; ``profile`` adds one below all of them."""
    height = WIDTH / columns * clip_aspect(aspect)
    mosaic = grid_mosaic(count, columns)
    heights = [height] * len(mosaic)
    total = len(mosaic) * (height + 0.3)
    if not profile:
        return make_axes(style, mosaic, (WIDTH + MARGIN, total + 0.8))
    mosaic.append([count] * columns)
    return make_axes(style, mosaic, (WIDTH + MARGIN, total + 2), height_ratios=[*heights, 1.3])


def clip_aspect(aspect: float) -> float:
    """Height by width of the axes of an image of that aspect: a long one would be huge."""
    return min(max(aspect, 1 / _MAX_RATIO), _MAX_RATIO)


def make_row(style: Style, sizes: Sequence[tuple[float, float]]) -> FigureAxes:
    """Axes side by side for images of these widths and heights, on one scale of length."""
    longest = max(side for size in sizes for side in size)
    widths, heights = zip(
        *(tuple(max(side, longest / _MAX_RATIO) for side in size) for size in sizes), strict=True
    )
    inch = min(WIDTH / sum(widths), _MAX_HEIGHT / max(heights))
    size = (sum(widths) * inch + MARGIN + 1, max(heights) * inch + 1)
    return make_axes(style, grid_mosaic(len(sizes), len(sizes)), size, width_ratios=widths)


def grid_mosaic(count: int, columns: int) -> list[list[int]]:
    """Numbers up to ``count`` row by row, the last row filled up with -1.

    >>> grid_mosaic(5, 3)
    [[0, 1, 2], [3, 4, -1]]
    """
    numbers = [*range(count), *[-1] * (-count % columns)]
    return [numbers[i : i + columns] for i in range(0, len(numbers), columns)]


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
        fig.suptitle(title, **LITERAL)
    for axes, colors in bars if style.show_colorbar else ():
        mappable = ScalarMappable(colors.norm, colors.cmap)
        # More numbers side by side would overlap.
        ticks = MaxNLocator(3) if location == "bottom" else None
        options: dict[str, Any] = {"location": location, "pad": 0.01, "aspect": 25, "ticks": ticks}
        fig.colorbar(mappable, ax=list(axes), label=colors.label, **options)
    if style.use_pyplot:
        from matplotlib import pyplot

        pyplot.show()
