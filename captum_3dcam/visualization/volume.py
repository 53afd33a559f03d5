"""One map over its volume: orthogonal slices, montages, maximum-intensity projections."""

from collections.abc import Sequence
from typing import Any

from captum_3dcam._validation import check_choice, check_integers, show
from captum_3dcam.localization import Boxes
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import FigureAxes, finish_figure, make_row
from captum_3dcam.visualization._grid import draw_grid, map_row, raw_rows
from captum_3dcam.visualization._inputs import Array, Values, as_map, choose_frames
from captum_3dcam.visualization._text import size_of, wrap_to, write_note
from captum_3dcam.visualization.scan import (
    AnyVolume,
    ProjectionView,
    Scan,
    SliceView,
    find_peak,
    resolve_scan,
)
from captum_3dcam.visualization.style import Style, check_drawing

_NUMBERS = 0.6  # inches, of those on the vertical axes
_CROSSHAIR: dict[str, Any] = {"color": "#56B4E9", "linewidth": 0.8, "linestyle": "--"}


def visualize_volume_attr(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    at: Sequence[int] | None = None,
    boxes: Boxes | None = None,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw three orthogonal slices through the map's peak, with a crosshair on it.

    Args:
        attr: the map, (D', H', W') or with leading axes of size 1. It may be coarser than the
            volume, and is interpolated linearly to it.
        original_volume: an ``io.Volume``, of which the first channel is drawn, with positions of
            the patient (RAS, in mm); a :class:`Scan`, or an array (D, H, W) of any range. It may be
            left out for "heat_map".
        at: the voxel (d, h, w) to cut through. By default that of the largest magnitude drawn,
            or the middle of a map that is zero.
        boxes: in voxels of the map, ``localization.boxes(maps)[i]``; outlined where they cross a
            slice.

    Returns the figure and its three axes. Raises ValueError for arguments out of range, and for
    shapes or values that are not a map or volume.

    >>> import torch
    >>> from captum_3dcam.visualization import Scan
    >>> attr = torch.zeros(1, 1, 2, 4, 4)
    >>> attr[..., 1, 2, 3] = 1.0
    >>> fig, axes = visualize_volume_attr(attr, Scan(torch.rand(8, 16, 16), spacing=(5, 1, 1)))
    >>> [ax.get_title() for ax in axes]
    ['D = 6 (30 mm)', 'H = 10 (10 mm)', 'W = 14 (14 mm)']
    """
    scan, heat, colors = _read(attr, original_volume, style, title)
    peak = find_peak(colors.select(heat), scan.shape)
    voxel = peak if at is None else _check_voxel(at, scan.shape)
    views = [SliceView(scan, plane, voxel[plane.axis], voxel) for plane in scan.planes]
    return _draw_planes(views, heat, colors, "slice", title, boxes, crosshair=voxel)


def visualize_volume_projections(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    boxes: Boxes | None = None,
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
    scan, heat, colors = _read(attr, original_volume, style, title)
    views = [ProjectionView(scan, plane, 0) for plane in scan.planes]
    return _draw_planes(views, heat, colors, "projection", title, boxes)


def visualize_volume_montage(
    attr: Values,
    original_volume: AnyVolume | None = None,
    *,
    axis: int = 0,
    slices: int | Sequence[int] = 12,
    boxes: Boxes | None = None,
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
    scan, heat, colors = _read(attr, original_volume, style, title)
    plane = scan.plane(axis)
    shown = choose_frames(slices, scan.shape[axis], "slices")
    peak = find_peak(colors.select(heat), scan.shape)  # the slices are labelled as those through it
    views = [SliceView(scan, plane, index, peak) for index in shown]
    rows = [*raw_rows(views, colors), map_row(heat, views, colors, "slice")]
    grid = draw_grid(rows, views, style)
    if boxes is not None:
        for view, ax in zip(views, grid.rows[-1], strict=True):
            view.draw_boxes(ax, boxes, heat.shape)
    title = ", ".join(filter(None, (title, plane.name))) or None
    grid.finish(rows, style, title)
    return FigureAxes(grid.figure, grid.axes)


def _read(
    attr: Values, original_volume: AnyVolume | None, style: Style, title: str | None
) -> tuple[Scan, Array, ColorScale]:
    """The volume, the map, and its colour scale, whose style has a window."""
    check_drawing(style, title)
    heat = as_map(attr, 3)
    scan, style = resolve_scan(original_volume, [heat], style)
    return scan, heat, ColorScale.from_maps(style, [heat])


def _draw_planes(
    views: Sequence[SliceView],
    heat: Array,
    colors: ColorScale,
    kind: str,
    title: str | None,
    boxes: Boxes | None,
    crosshair: Sequence[int] | None = None,
) -> FigureAxes:
    """Draw three planes in a row, on one scale of length."""
    rows = [*raw_rows(views, colors), map_row(heat, views, colors, kind)]
    fig, axes = make_row(colors.style, [view.size for view in views], len(rows))
    for number, row in enumerate(rows):
        for view, image, ax in zip(views, row.images, axes[number * len(views) :], strict=False):
            view.draw(ax, image, row.colors)
            write_note(ax, row.note)
            name = ", ".join(filter(None, (view.plane.name, view.label)))
            ax.set_title(wrap_to(name, size_of(ax)[0] - _NUMBERS), fontsize="medium")
            if crosshair is not None:
                x, y = view.plane.horizontal, view.plane.vertical
                ax.axvline(view.scan.position(x, crosshair[x]), **_CROSSHAIR)
                ax.axhline(view.scan.position(y, crosshair[y]), **_CROSSHAIR)
    if boxes is not None:
        for view, ax in zip(views, axes[-len(views) :], strict=True):
            view.draw_boxes(ax, boxes, heat.shape)
    finish_figure(fig, colors.style, title, [(axes, rows[-1].colors)])
    return FigureAxes(fig, axes)


def _check_voxel(at: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    voxel = check_integers("at", at, minimum=None)
    if len(voxel) != 3 or not all(0 <= i < n for i, n in zip(voxel, shape, strict=True)):
        raise ValueError(f"at={show(at)} must be a voxel (d, h, w) of the volume {shape}.")
    return voxel
