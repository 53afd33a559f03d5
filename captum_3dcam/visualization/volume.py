"""Maps over volumes: orthogonal slices, montages, maximum-intensity projections."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from captum_3dcam._validation import check_choice
from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    GivenAxes,
    check_columns,
    figure_axes,
    grid,
    set_title,
    show,
    title_of,
)
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_map,
    as_volume,
    check_inside,
    choose_frames,
    choose_window,
)
from captum_3dcam.visualization._slices import Geometry, Plane, cut, draw_plane, grey, turned
from captum_3dcam.visualization.style import Look, colour_bar, scaled

_CROSSHAIR: dict[str, Any] = {"color": "#56B4E9", "linewidth": 0.8, "linestyle": "--"}
_TALLEST = 7.0  # inches


def visualize_volume_attr(
    attr: Values,
    original_volume: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    at: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    orientation: Sequence[str] | None = None,
    window: tuple[float, float] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
    scale: str = "shared",
    vmax: float | None = None,
    plt_fig_axis: GivenAxes = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FigureAxes:
    """Draw three orthogonal slices through the map's peak, a crosshair on it.

    Args:
        attr: the map, (D', H', W') or with leading axes of size 1; it may be coarser than the
            volume, and is interpolated linearly over all of it.
        original_volume: (D, H, W), of any range.
        at: the voxel (d, h, w) to cut through. By default that of the largest magnitude drawn, or
            the middle of a map that is zero.
        spacing: the sides of a voxel along D, H and W, in mm. Axes are then in mm from the
            centre of the first voxel; otherwise in voxels.
        orientation: the direction in which D, H and W grow, of L, R, A, P, S, I: "SPL" for slices
            from feet to head, rows from front to back, columns from the patient's right to left.
            The slices are then axial, coronal and sagittal, with the patient's right on the left
            and superior or anterior up, and letters at the edges say so.
        window: the volume's values that are black and white, by default its 0.5th and 99.5th
            percentile.
        scale: "shared", one for the whole volume; or "each", every picture by its own maximum.
        plt_fig_axis: a figure and three of its axes.

    The other arguments are those of :func:`visualize_image_attr`. Returns the figure and its
    three axes. Raises ValueError for what is none of these.

    >>> import torch
    >>> attr = torch.zeros(1, 1, 2, 4, 4)
    >>> attr[..., 1, 2, 3] = 1.0
    >>> fig, axes = visualize_volume_attr(attr, torch.rand(8, 16, 16), spacing=(5, 1, 1))
    >>> [ax.get_title() for ax in axes]
    ['D = 6 (30 mm)', 'H = 10 (10 mm)', 'W = 14 (14 mm)']
    """
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    scan = _Scan(attr, original_volume, look, spacing, orientation, window)
    geometry = scan.geometry
    point = scan.peak() if at is None else _check_point(at, geometry.shape)
    heats = [scan.heat(plane, point[plane.axis]) for plane in geometry.planes]
    drawn, look = scaled(scan.look, heats, scan.values, scale, "slice")
    fig, axes = _three_axes(geometry, plt_fig_axis, fig_size, use_pyplot)
    for ax, plane, heat in zip(axes, geometry.planes, drawn, strict=True):
        draw_plane(ax, heat, scan.image(plane, point[plane.axis]), look, geometry, plane)
        ax.set_title(_named(plane, geometry.label(plane.axis, point[plane.axis])))
        ax.axvline(geometry.place(plane.column, point[plane.column]), **_CROSSHAIR)
        ax.axhline(geometry.place(plane.row, point[plane.row]), **_CROSSHAIR)
    set_title(fig, title_of(title, class_name, class_score))
    if show_colorbar:
        colour_bar(fig, axes, look)
    show(use_pyplot)
    return fig, axes


def visualize_volume_projections(
    attr: Values,
    original_volume: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    spacing: Sequence[float] | None = None,
    orientation: Sequence[str] | None = None,
    window: tuple[float, float] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
    scale: str = "shared",
    vmax: float | None = None,
    plt_fig_axis: GivenAxes = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FigureAxes:
    """Draw the maximum-intensity projections of map and volume along each axis.

    Of a map with both signs, the value of the largest magnitude along each line is drawn. The
    arguments, what is returned and what is raised are those of :func:`visualize_volume_attr`.

    >>> import torch
    >>> attr, volume = torch.rand(1, 1, 2, 4, 4), torch.rand(8, 16, 16)
    >>> fig, axes = visualize_volume_projections(attr, volume, orientation="SPL")
    >>> [ax.get_title() for ax in axes]
    ['axial, maximum over D', 'coronal, maximum over H', 'sagittal, maximum over W']
    """
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    scan = _Scan(attr, original_volume, look, spacing, orientation, window)
    geometry = scan.geometry
    heats = [turned(_strongest(scan.values, plane.axis), plane) for plane in geometry.planes]
    drawn, look = scaled(scan.look, heats, scan.values, scale, "projection")
    fig, axes = _three_axes(geometry, plt_fig_axis, fig_size, use_pyplot)
    for ax, plane, heat in zip(axes, geometry.planes, drawn, strict=True):
        draw_plane(ax, heat, scan.projection(plane), look, geometry, plane)
        ax.set_title(_named(plane, f"maximum over {'DHW'[plane.axis]}"))
    set_title(fig, title_of(title, class_name, class_score))
    if show_colorbar:
        colour_bar(fig, axes, look)
    show(use_pyplot)
    return fig, axes


def visualize_volume_montage(
    attr: Values,
    original_volume: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    axis: int = 0,
    slices: int | Sequence[int] = 12,
    columns: int | None = None,
    spacing: Sequence[float] | None = None,
    orientation: Sequence[str] | None = None,
    window: tuple[float, float] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
    scale: str = "shared",
    vmax: float | None = None,
    plt_fig_axis: GivenAxes = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FigureAxes:
    """Draw slices of a volume side by side, under one colour scale.

    Args:
        axis: that which the slices lie across: 0, 1 or 2 for D, H or W.
        slices: how many, evenly spaced, or which.
        columns: slices in a row, by default 6.
        plt_fig_axis: a figure and as many of its axes as there are slices.

    The other arguments, what is returned and what is raised are those of
    :func:`visualize_volume_attr`.

    >>> import torch
    >>> attr, volume = torch.rand(1, 1, 2, 4, 4), torch.rand(8, 16, 16)
    >>> fig, axes = visualize_volume_montage(attr, volume, slices=3)
    >>> [ax.get_title() for ax in axes]
    ['D = 0', 'D = 4', 'D = 7']
    """
    check_choice("axis", axis, range(3))
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    scan = _Scan(attr, original_volume, look, spacing, orientation, window)
    geometry, plane = scan.geometry, scan.geometry.plane(axis)
    shown = choose_frames(slices, geometry.shape[axis], "slices")
    columns = check_columns(columns, len(shown), 6)
    heats = [scan.heat(plane, index) for index in shown]
    drawn, look = scaled(scan.look, heats, scan.values, scale, "slice")

    def lay_out(fig: Figure) -> list[Axes]:
        return grid(fig, len(shown), columns)

    rows = -(-len(shown) // columns)
    height = WIDTH / columns * geometry.length(plane.row) / geometry.length(plane.column)
    size = fig_size or (WIDTH + MARGIN, rows * (height + 0.3) + 0.8)
    fig, axes = figure_axes(plt_fig_axis, len(shown), lay_out, size, use_pyplot)
    for position, (ax, index, heat) in enumerate(zip(axes, shown, drawn, strict=True)):
        draw_plane(ax, heat, scan.image(plane, index), look, geometry, plane)
        ax.set_title(geometry.label(axis, index), fontsize="medium")
        # The scales of the first column and of each column's last slice hold for the others.
        if position % columns:
            ax.set(ylabel="", yticks=[])
        if position + columns < len(shown):
            ax.set(xlabel="", xticks=[])
    words = title_of(title, class_name, class_score)
    set_title(fig, ", ".join(filter(None, (words, plane.name))) or None)
    if show_colorbar:
        colour_bar(fig, axes, look)
    show(use_pyplot)
    return fig, axes


# -------------------------------------------------------------------------------------- scans


class _Scan:
    """A map and the volume that it explains, by slices."""

    def __init__(
        self,
        attr: Values,
        original_volume: Values | None,
        look: Look,
        spacing: Sequence[float] | None,
        orientation: Sequence[str] | None,
        window: tuple[float, float] | None,
    ) -> None:
        heat = as_map(attr, 3)
        self.volume = as_volume(original_volume, heat, look.method)
        check_inside(heat, self.volume)
        self.geometry = Geometry(self.volume.shape, spacing, orientation)
        self.window = choose_window(window, self.volume)
        self.look = look.settle([heat])
        self.values = self.look.values(heat)

    def peak(self) -> tuple[int, ...]:
        """The voxel in the middle of the map's highest place, or of the volume."""
        size = self.geometry.shape
        if not self.values.any():
            return tuple(n // 2 for n in size)
        place = np.unravel_index(np.abs(self.values).argmax(), self.values.shape)
        return tuple(
            int((p + 0.5) * n / m) for p, n, m in zip(place, size, self.values.shape, strict=True)
        )

    def heat(self, plane: Plane, index: int) -> Array:
        return cut(self.values, plane, index, self.geometry.shape[plane.axis])

    def image(self, plane: Plane, index: int) -> Array:
        return grey(turned(self.volume.take(index, plane.axis), plane), self.window)

    def projection(self, plane: Plane) -> Array:
        # It passes over what is not a number.
        return grey(turned(np.fmax.reduce(self.volume, plane.axis), plane), self.window)


def _strongest(values: Array, axis: int) -> Array:
    """The value of the largest magnitude along an axis."""
    places = np.expand_dims(np.abs(values).argmax(axis), axis)
    return np.take_along_axis(values, places, axis).squeeze(axis)


def _three_axes(
    geometry: Geometry,
    given: GivenAxes,
    fig_size: tuple[float, float] | None,
    use_pyplot: bool,
) -> FigureAxes:
    """Three pictures in a row, at one scale of length."""
    widths = [geometry.length(plane.column) for plane in geometry.planes]
    tallest = max(geometry.length(plane.row) for plane in geometry.planes)
    inch = min(WIDTH / sum(widths), _TALLEST / tallest)

    def lay_out(fig: Figure) -> list[Axes]:
        spec = fig.add_gridspec(1, 3, width_ratios=widths)
        return [fig.add_subplot(spec[0, column]) for column in range(3)]

    size = fig_size or (sum(widths) * inch + MARGIN + 1, tallest * inch + 1)
    return figure_axes(given, 3, lay_out, size, use_pyplot)


def _named(plane: Plane, label: str) -> str:
    return f"{plane.name}, {label}" if plane.name else label


def _check_point(at: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(at) != 3 or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
        raise ValueError(f"at={at!r} must be a voxel (d, h, w) of the volume {shape}.")
    return tuple(at)
