"""Images in rows and columns: the frames or slices of one map or several."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import (
    LINE,
    MARGIN,
    WIDTH,
    AnyFigure,
    clip_aspect,
    finish_figure,
    grid_mosaic,
    make_axes,
)
from captum_3dcam.visualization._inputs import Array
from captum_3dcam.visualization._text import LITERAL, size_of, wrap_to, write_note
from captum_3dcam.visualization.style import Style

_COLUMNS = 4  # of a figure that is 800 pixels wide, each almost 200
_MAX_SIDE = 4.0  # inches, of an image
_MIN_WIDTH = 4.0  # inches, of a figure
_PROFILE_HEIGHT = 1.3  # inches, of its axes
_BAR_HEIGHT = 0.6  # inches, of a colour bar with its numbers and label
_PAD = 0.05  # inches, around axes


class View(Protocol):
    """A frame or a slice."""

    @property
    def label(self) -> str: ...

    @property
    def aspect(self) -> float:
        """Height by width."""

    @property
    def margins(self) -> tuple[float, float]:
        """Inches to the left and below, for the numbers on its axes."""

    def cut(self, values: Array) -> Array:
        """The part of a map that lies over it."""

    def draw(self, ax: Axes, heat: Array, colors: ColorScale) -> None: ...


class Row(NamedTuple):
    """The images of one map, one for each view, or of what was explained."""

    images: Sequence[Array]
    colors: ColorScale
    name: str = ""
    note: str = ""


def map_row(
    heat: Array, views: Sequence[View], colors: ColorScale, kind: str, name: str = ""
) -> Row:
    """A map's images; ``kind`` says what one is: "frame", "slice"."""
    values = colors.select(heat)
    images, scale = colors.apply([view.cut(values) for view in views], kind)
    return Row(images, scale, name, colors.note(heat))


def raw_rows(views: Sequence[View], colors: ColorScale, name: str = "") -> list[Row]:
    """What was explained, if the style says that it is drawn."""
    return [Row([np.zeros((1, 1))] * len(views), colors.plain, name)] if colors.style.raw else []


class Grid(NamedTuple):
    """The axes of each row, one for each view; below all, if requested, those of a profile."""

    figure: AnyFigure
    rows: list[list[Axes]]
    profile: list[Axes]
    columns: int

    @property
    def axes(self) -> list[Axes]:
        return [ax for row in self.rows for ax in row] + self.profile

    def finish(self, rows: Sequence[Row], style: Style, title: str | None) -> None:
        """Add one colour bar for rows of one scale, else one for each line; and the title."""
        if _have_own_scales(rows):
            bars = [
                (line, row.colors)
                for axes, row in zip(self.rows, rows, strict=True)
                for line in self._lines(axes, style)
            ]
        else:
            bars = [([ax for axes in self.rows for ax in axes], rows[-1].colors)]
        is_below = len(bars) == 1 or len(self.rows[0]) == 1
        finish_figure(self.figure, style, title, bars, "bottom" if is_below else "right")

    def _lines(self, axes: list[Axes], style: Style) -> list[list[Axes]]:
        """The axes of a row line by line; blank ones fill the last, so that its end is aligned."""
        lines = [axes[i : i + self.columns] for i in range(0, len(axes), self.columns)]
        if len(axes) > len(lines[-1]) < self.columns and style.plt_fig_axis is None:
            position = lines[-1][-1].get_subplotspec()
            assert position is not None, "own axes are on a grid"
            last = position.get_gridspec()[position.rowspan.start, self.columns - 1]
            blank = self.figure.add_subplot(last)
            blank.set_axis_off()
            lines[-1].append(blank)
        return lines


def draw_grid(
    rows: Sequence[Row], views: Sequence[View], style: Style, profile: float = 0.0
) -> Grid:
    """Draw the rows below each other, with their names above them; long ones are wrapped.

    Rows of a single view are beside each other, like the views of a single row. ``profile`` is the
    height in inches of a profile below all, if there is one.
    """
    count = len(views)
    # In a mosaic, rows of a single view are the views of a single row.
    shape = (len(rows), count) if count > 1 else (1, len(rows))
    lines = -(-shape[1] // _COLUMNS)
    columns = min(style.columns or -(-shape[1] // lines), shape[1])
    mosaic = grid_mosaic(*shape, columns)
    aspect = clip_aspect(views[0].aspect)
    side = min(WIDTH / columns, _MAX_SIDE, _MAX_SIDE / aspect)
    size = _figure_size(rows, views, style, columns, side)
    heights = [side * aspect] * len(mosaic)
    if profile:
        mosaic.append([len(rows) * count] * columns)
        heights.append(_PROFILE_HEIGHT)
    figure, axes = make_axes(style, mosaic, (size[0], size[1] + profile), height_ratios=heights)
    by_row = [axes[i * count : (i + 1) * count] for i in range(len(rows))]
    grid = Grid(figure, by_row, axes[len(rows) * count :], columns)
    for row, row_axes in zip(rows, grid.rows, strict=True):
        for ax, view, image in zip(row_axes, views, row.images, strict=True):
            view.draw(ax, image, row.colors)
            write_note(ax, row.note)
    _share_labels(axes, mosaic[:-1] if profile else mosaic)
    if count > 1:
        _label_rows(grid, rows, views, side)
    else:
        for row, (ax,) in zip(rows, grid.rows, strict=True):
            _add_title(ax, _title_of(row, views[0]), side)
    return grid


def _have_own_scales(rows: Sequence[Row]) -> bool:
    return len({(row.colors.vmax, row.colors.unit) for row in rows if row.colors.has_bar}) > 1


def _figure_size(
    rows: Sequence[Row], views: Sequence[View], style: Style, columns: int, side: float
) -> tuple[float, float]:
    """Inches of a figure whose images are ``side`` wide: with too few, gaps would part them."""
    left, below = views[0].margins
    has_bars = style.show_colorbar and any(row.colors.has_bar for row in rows)
    own_bars, is_single = has_bars and _have_own_scales(rows), len(views) == 1
    width = side * columns + left + (MARGIN if own_bars and not is_single else 0.3)
    if is_single:
        titles = [wrap_to(_title_of(row, views[0]), side) for row in rows]
        groups = [titles[i : i + columns] for i in range(0, len(titles), columns)]
        lines = [max(title.count("\n") + 1 for title in group) for group in groups]
        bars = _BAR_HEIGHT * (len(lines) if own_bars else has_bars)
    else:
        names = [wrap_to(row.name, side * columns).count("\n") + bool(row.name) for row in rows]
        labels = max(wrap_to(view.label, side).count("\n") + 1 for view in views)
        lines = [labels + names[0], *names[1:]] * -(-len(views) // columns)
        bars = _BAR_HEIGHT * (has_bars and not own_bars)
    image = side * clip_aspect(views[0].aspect)
    height = sum(image + LINE * count + 2 * _PAD * bool(count) for count in lines)
    return max(width, _MIN_WIDTH), height + _PAD * len(lines) + below + bars + 2 * LINE


def _title_of(row: Row, view: View) -> str:
    return ", ".join(filter(None, (row.name, view.label)))


def _share_labels(axes: Sequence[Axes], mosaic: Sequence[Sequence[int]]) -> None:
    """Leave the numbers of the first column, and of the last image in each column."""
    for line, below in zip(mosaic, [*mosaic[1:], [-1] * len(mosaic[0])], strict=True):
        for column, (number, next_number) in enumerate(zip(line, below, strict=True)):
            if column and number >= 0:
                axes[number].set(ylabel="", yticks=[])
            if number >= 0 and next_number >= 0:
                axes[number].set(xlabel="", xticks=[])


def _label_rows(grid: Grid, rows: Sequence[Row], views: Sequence[View], side: float) -> None:
    """Labels above the images of the first row; above each row, at the left, its name."""
    for ax, view in zip(grid.rows[0], views, strict=True):
        _add_title(ax, view.label, side)
    for row, axes in zip(rows, grid.rows, strict=True):
        for ax in axes[:: grid.columns] if row.name else ():
            width = min(size_of(ax)[0], side) * grid.columns
            label = ax.get_title()
            _add_name(ax, wrap_to(row.name, width), label.count("\n") + bool(label))


def _add_name(ax: Axes, name: str, lines_below: int) -> None:
    """Write a name above the axes and the lines of their title."""
    name += "\n" * lines_below
    # The layout would put the middle of a long title above its axes: a blank one keeps its height.
    ax.set_title(re.sub("[^\n]+", " ", name) + " ", loc="left", fontsize="medium")
    options: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    pad = 0, rcParams["axes.titlepad"]
    text = ax.annotate(
        name, (0, 1), pad, annotation_clip=False, va="baseline", **options, **LITERAL
    )
    text.set_in_layout(False)


def _add_title(ax: Axes, title: str, side: float) -> None:
    ax.set_title(wrap_to(title, min(size_of(ax)[0], side)), fontsize="medium", **LITERAL)
