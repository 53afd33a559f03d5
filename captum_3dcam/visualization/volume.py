"""One map over its volume: orthogonal slices, montages, maximum-intensity projections."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_3dcam._validation import check_choice
from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    finish_figure,
    make_axes,
    make_grid,
)
from captum_3dcam.visualization._inputs import Array, Values, as_map, choose_frames
from captum_3dcam.visualization._planes import (
    Geometry,
    draw_slice,
    interpolate_slice,
    rows_first,
)
from captum_3dcam.visualization.scan import AnyVolume, ScanImages
from captum_3dcam.visualization.style import Style

_CROSSHAIR: dict[str, Any] = {"color": "#56B4E9", "linewidth": 0.8, "linestyle": "--"}
_MAX_HEIGHT = 7.0  # inches


def visualize_volume_attr(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    at: Sequence[int] | None = None,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw three orthogonal slices through the map's peak, with a crosshair on it.

    Args:
        attr: the map, (D', H', W') or with leading axes of size 1. It may be coarser than the
            volume, and is interpolated linearly to it.
        original_volume: an ``io.Volume``, a :class:`Scan`, or an array (D, H, W) of any range; it
            may be left out for "heat_map".
        at: the voxel (d, h, w) to cut through. By default that of the largest magnitude drawn,
            or the middle of a map that is zero.

    Returns:
        The figure and its three axes.

    Raises:
        ValueError: for arguments out of range, and shapes or values that are not a map or volume.

    >>> import torch
    >>> from captum_3dcam.visualization import Scan
    >>> attr = torch.zeros(1, 1, 2, 4, 4)
    >>> attr[..., 1, 2, 3] = 1.0
    >>> fig, axes = visualize_volume_attr(attr, Scan(torch.rand(8, 16, 16), spacing=(5, 1, 1)))
    >>> [ax.get_title() for ax in axes]
    ['D = 6 (30 mm)', 'H = 10 (10 mm)', 'W = 14 (14 mm)']
    """
    values, scan, colors = _read(attr, original_volume, style)
    geometry = scan.geometry
    voxel = _peak(values, geometry.shape) if at is None else _check_voxel(at, geometry.shape)
    slices = [
        interpolate_slice(values, plane, voxel[plane.axis], geometry.shape[plane.axis])
        for plane in geometry.planes
    ]
    slices, colors = colors.apply(slices, "slice")
    fig, axes = _three_axes(geometry, style)
    for ax, plane, heat in zip(axes, geometry.planes, slices, strict=True):
        draw_slice(ax, heat, scan.slice(plane, voxel[plane.axis]), colors, geometry, plane)
        label = geometry.label(plane.axis, voxel[plane.axis])
        ax.set_title(f"{plane.name}, {label}" if plane.name else label)
        ax.axvline(geometry.position(plane.column, voxel[plane.column]), **_CROSSHAIR)
        ax.axhline(geometry.position(plane.row, voxel[plane.row]), **_CROSSHAIR)
    finish_figure(fig, style, title, [(axes, colors)])
    return fig, axes


def visualize_volume_projections(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw the maximum-intensity projections of map and volume along each axis.

    Of a map with both signs, the value of the largest magnitude along each line is drawn.
    Arguments, returns and errors are those of :func:`visualize_volume_attr`.

    >>> import torch
    >>> from captum_3dcam.visualization import Scan
    >>> attr, scan = torch.rand(1, 1, 2, 4, 4), Scan(torch.rand(8, 16, 16), orientation="SPL")
    >>> fig, axes = visualize_volume_projections(attr, scan)
    >>> [ax.get_title() for ax in axes]
    ['axial, maximum over D', 'coronal, maximum over H', 'sagittal, maximum over W']
    """
    values, scan, colors = _read(attr, original_volume, style)
    geometry = scan.geometry
    projections = [rows_first(_strongest(values, p.axis), p) for p in geometry.planes]
    projections, colors = colors.apply(projections, "projection")
    fig, axes = _three_axes(geometry, style)
    for ax, plane, heat in zip(axes, geometry.planes, projections, strict=True):
        draw_slice(ax, heat, scan.projection(plane), colors, geometry, plane)
        label = f"maximum over {'DHW'[plane.axis]}"
        ax.set_title(f"{plane.name}, {label}" if plane.name else label)
    finish_figure(fig, style, title, [(axes, colors)])
    return fig, axes


def visualize_volume_montage(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    axis: int = 0,
    slices: int | Sequence[int] = 12,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw parallel slices of a volume side by side.

    Args:
        axis: the axis across which to cut: 0, 1 or 2 for D, H or W.
        slices: how many slices to show, evenly spaced, or their indices.

    The other arguments, returns and errors are those of :func:`visualize_volume_attr`.

    >>> import torch
    >>> attr, volume = torch.rand(1, 1, 2, 4, 4), torch.rand(8, 16, 16)
    >>> fig, axes = visualize_volume_montage(attr, volume, slices=3)
    >>> [ax.get_title() for ax in axes]
    ['D = 0', 'D = 4', 'D = 7']
    """
    check_choice("axis", axis, range(3))
    values, scan, colors = _read(attr, original_volume, style)
    geometry, plane = scan.geometry, scan.geometry.plane(axis)
    depth = geometry.shape[axis]
    shown = choose_frames(slices, depth, "slices")
    heats, colors = colors.apply(
        [interpolate_slice(values, plane, index, depth) for index in shown], "slice"
    )
    columns = min(style.columns or 6, len(shown))
    height = WIDTH / columns * geometry.length(plane.row) / geometry.length(plane.column)
    size = (WIDTH + MARGIN, -(-len(shown) // columns) * (height + 0.3) + 0.8)
    fig, axes = make_grid(style, len(shown), columns, size)
    for number, (ax, index, heat) in enumerate(zip(axes, shown, heats, strict=True)):
        draw_slice(ax, heat, scan.slice(plane, index), colors, geometry, plane)
        ax.set_title(geometry.label(axis, index), fontsize="medium")
        # All slices share the labels of the first column and of the last slice in each column.
        if number % columns:
            ax.set(ylabel="", yticks=[])
        if number + columns < len(shown):
            ax.set(xlabel="", xticks=[])
    title = ", ".join(part for part in (title, plane.name) if part) or None
    finish_figure(fig, style, title, [(axes, colors)])
    return fig, axes


def _read(
    attr: Values, original_volume: AnyVolume | None, style: Style
) -> tuple[Array, ScanImages, ColorScale]:
    """The map's values to draw, the volume, and the colour scale."""
    heat = as_map(attr, 3)
    scan = ScanImages(original_volume, [heat], style)
    colors = ColorScale.from_maps(style, [heat])
    return colors.select(heat), scan, colors


def _peak(values: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The volume's voxel at the centre of the map's largest magnitude; of zeros, the middle."""
    if not values.any():
        return tuple(n // 2 for n in shape)
    peak = np.unravel_index(np.abs(values).argmax(), values.shape)
    return tuple(int((i + 0.5) * n / m) for i, n, m in zip(peak, shape, values.shape, strict=True))


def _check_voxel(at: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(at) != 3 or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
        raise ValueError(f"at={at!r} must be a voxel (d, h, w) of the volume {shape}.")
    return tuple(at)


def _strongest(values: Array, axis: int) -> Array:
    """The value of the largest magnitude along an axis."""
    indices = np.expand_dims(np.abs(values).argmax(axis), axis)
    return np.take_along_axis(values, indices, axis).squeeze(axis)


def _three_axes(geometry: Geometry, style: Style) -> FigureAxes:
    """Three axes in a row, on one scale of length."""
    widths = [geometry.length(plane.column) for plane in geometry.planes]
    height = max(geometry.length(plane.row) for plane in geometry.planes)
    inch = min(WIDTH / sum(widths), _MAX_HEIGHT / height)

    def lay_out(fig: Figure) -> list[Axes]:
        return list(fig.subplots(1, 3, width_ratios=widths))

    size = (sum(widths) * inch + MARGIN + 1, height * inch + 1)
    return make_axes(style, 3, size, lay_out)
