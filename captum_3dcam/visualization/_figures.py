"""Figures and axes to draw on, and what stands around the axes."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._text import LITERAL, wrap_to
from captum_3dcam.visualization.style import Style

AnyFigure = Figure | SubFigure

WIDTH = 10.0  # inches, of the images in a row: text is legible when they are 800 pixels wide
MARGIN = 0.9  # inches beside them, for a colour bar
LINE = 0.17  # inches, the height of a line of text
_MAX_HEIGHT = 6.5  # inches, of images in a row
_MAX_RATIO = 4  # of the sides of axes


class NotebookFigure(Figure):
    """A figure that a notebook shows, also without pyplot."""

    def _repr_png_(self) -> bytes | None:
        return _to_png(self)


class FigureAxis(NamedTuple):
    """A figure and its axis; a notebook shows the figure."""

    figure: AnyFigure
    axis: Axes

    def _repr_png_(self) -> bytes | None:
        return _to_png(self.figure)


class FigureAxes(NamedTuple):
    """A figure and its axes; a notebook shows the figure."""

    figure: AnyFigure
    axes: list[Axes]

    def _repr_png_(self) -> bytes | None:
        return _to_png(self.figure)


def _to_png(figure: AnyFigure) -> bytes | None:
    """The bytes of the whole figure as PNG; None of pyplot's, which notebooks show anyway."""
    whole = figure.canvas.figure
    if whole.canvas.manager is not None:
        return None
    buffer = BytesIO()
    whole.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


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
        return FigureAxes(given, axes)
    layout = ConstrainedLayoutEngine(w_pad=0.02)
    options: dict[str, Any] = {"figsize": style.fig_size or size, "layout": layout}
    if style.use_pyplot:
        # Imported here: it chooses a backend, and keeps every figure.
        from matplotlib import pyplot

        fig = pyplot.figure(**options)
    else:
        fig = NotebookFigure(**options)
    # The axes have almost their final sizes then, to which texts are wrapped.
    edges: dict[str, Any] = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.02}
    by_number: Any = fig.subplot_mosaic(mosaic, empty_sentinel=-1, gridspec_kw=edges, **ratios)
    return FigureAxes(fig, [by_number[number] for number in range(count)])


def clip_aspect(aspect: float) -> float:
    """Height by width of the axes of an image of that aspect: a long one would be huge."""
    return min(max(aspect, 1 / _MAX_RATIO), _MAX_RATIO)


def make_row(style: Style, sizes: Sequence[tuple[float, float]], rows: int) -> FigureAxes:
    """Rows of axes for images of these widths and heights, on one scale of length."""
    longest = max(side for size in sizes for side in size)
    widths, heights = zip(
        *(tuple(max(side, longest / _MAX_RATIO) for side in size) for size in sizes), strict=True
    )
    inch = min(WIDTH / sum(widths), _MAX_HEIGHT / max(heights))
    size = (sum(widths) * inch + MARGIN + 1, rows * (max(heights) * inch + 0.8) + 0.3)
    mosaic = grid_mosaic(rows, len(sizes), len(sizes))
    return make_axes(style, mosaic, size, width_ratios=widths)


def grid_mosaic(rows: int, count: int, columns: int) -> list[list[int]]:
    """Numbers of images, ``count`` for each row; rows longer than ``columns`` are wrapped.

    >>> grid_mosaic(2, 3, 2)
    [[0, 1], [3, 4], [2, -1], [5, -1]]
    """
    return [
        [row * count + i if i < count else -1 for i in range(start, start + columns)]
        for start in range(0, count, columns)
        for row in range(rows)
    ]


def hide_frame(ax: Axes) -> None:
    """Hide ticks and spines; labels stay, next to the image at the top of its space."""
    ax.set(xticks=[], yticks=[], anchor="N")
    ax.spines[:].set_visible(False)


def finish_figure(
    fig: AnyFigure,
    style: Style,
    title: str | None,
    bars: Sequence[tuple[Sequence[Axes], ColorScale]] = (),
    location: str = "right",
) -> None:
    """Add the title and a colour bar for each group of axes; show the figure if it is pyplot's."""
    if title is not None:
        fig.suptitle(wrap_to(title, fig.bbox.width / fig.dpi - 0.2, "large"), **LITERAL)
    if style.show_colorbar and any(colors.has_bar for _, colors in bars):
        for axes, colors in bars:
            _add_bar(fig, axes, colors, location)
    if style.use_pyplot:
        from matplotlib import pyplot

        pyplot.show()


def _add_bar(fig: AnyFigure, axes: Sequence[Axes], colors: ColorScale, location: str) -> None:
    """Add a colour bar; if these axes have no colours, leave its space, as others beside them."""
    box = Bbox.union([ax.bbox for ax in axes])
    # Of the height, titles will take a part.
    length = (box.width if location == "bottom" else 0.7 * box.height) / fig.dpi
    options: dict[str, Any] = {"location": location, "pad": 0.02, "aspect": 25, "panchor": False}
    if location == "bottom":
        options["aspect"] = min(10 * length, 60)
        # More numbers side by side would overlap.
        options["ticks"] = MaxNLocator(min(max(int(length / 0.8), 2), 8))
    if colors.has_bar:
        mappable, label = ScalarMappable(colors.norm, colors.cmap), wrap_to(colors.label, length)
        fig.colorbar(mappable, ax=list(axes), label=label, **options)
    else:
        mappable = ScalarMappable(colors.norm, ListedColormap(["none"]))
        bar = fig.colorbar(mappable, ax=list(axes), **options | {"ticks": []})
        bar.outline.set_visible(False)
