"""Several maps of one input, below or beside each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from captum_3dcam.io import Volume
from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    finish_figure,
    hide_frame,
    make_grid,
)
from captum_3dcam.visualization._image_layers import draw_map
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_clip,
    as_images,
    as_map,
    choose_frames,
    squeeze_leading,
)
from captum_3dcam.visualization._planes import draw_slice, interpolate_slice
from captum_3dcam.visualization._time_axis import TimeAxis
from captum_3dcam.visualization.scan import AnyVolume, Scan, ScanImages
from captum_3dcam.visualization.style import Style

Maps = Values | Sequence[Values]


def visualize_attr_panels(
    attr: Maps,
    original: AnyVolume,
    names: Sequence[str],
    *,
    frames: int | Sequence[int] = 8,
    fps: float | None = None,
    start: int = 0,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw several maps of one input: of classes, layers, methods, or the counterfactual.

    Each map is a row, with frames or slices as columns (the paper's Figures 6 to 8). The maps of
    an image, or of a single frame, are side by side.

    Args:
        attr: k maps of any sizes: a list, or (k, *S) from ``attribute_top_k(inputs, k)[0][i]``.
        original: an image (H, W[, 3]), a video (T, H, W[, 3]), or a volume: an ``io.Volume``, or
            a :class:`Scan`, which tells an array (D, H, W) from a grey video.
        names: k names of the maps.
        frames: how many frames of a video, or slices D of a volume, evenly spaced, or their
            indices.
        fps, start: of a video, as in :func:`visualize_video_attr`.
        style: ``scale="row"`` gives each map a colour scale of its own, as for layers beside
            their sum.

    Returns:
        The figure and its axes, row by row.

    Raises:
        ValueError: for arguments out of range, shapes or values that are not a map, image, video
            or volume, and more or fewer names than maps.

    >>> import torch
    >>> top, clip = torch.rand(1, 2, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_attr_panels(top, clip, ["run (0.9)", "jump (0.1)"], frames=4)
    >>> [ax.get_ylabel() for ax in axes[::4]]
    ['run (0.9)', 'jump (0.1)']
    """
    source = _source(attr, original, frames, TimeAxis(fps, start), style)
    if len(source.maps) != len(names):
        raise ValueError(
            f"There are {len(source.maps)} maps and {len(names)} names. Choose one sample: attr[i]."
        )
    rows, colors = _color(source, style)
    count, width = len(names), len(source.labels)
    # Maps of a single image are side by side.
    across, down = (width, count) if width > 1 else (count, 1)
    fig, axes = make_grid(style, count * width, across, _size(source, names, across, down))
    lines = [axes[i * width : (i + 1) * width] for i in range(count)]
    for line, images, row_colors in zip(lines, rows, colors, strict=True):
        for column, (ax, image) in enumerate(zip(line, images, strict=True)):
            source.draw(ax, column, image, row_colors)
            hide_frame(ax)
            ax.set(xlabel="", ylabel="")
    _label(lines, names, source.labels)
    bars = list(zip(lines, colors, strict=True)) if style.scale == "row" else [(axes, colors[0])]
    finish_figure(fig, style, title, bars, "right" if width > 1 else "bottom")
    return fig, axes


def _color(source: "_Source", style: Style) -> tuple[list[list[Array]], list[ColorScale]]:
    """The images of each row, and its colour scale."""
    shared = ColorScale.from_maps(style, source.maps)
    rows, colors = [], []
    for heat in source.maps:
        values = shared.select(heat)
        scale = shared.fit([values]) if style.scale == "row" else shared
        images, scale = scale.apply(source.cut(values), "image")
        rows.append(images)
        colors.append(scale)
    return rows, colors


def _size(source: "_Source", names: Sequence[str], across: int, down: int) -> tuple[float, float]:
    """Width and height of the figure in inches."""
    side = min(WIDTH / across, 4.0)
    many = len(source.labels) > 1
    beside = MARGIN + (0.08 * max(map(len, names)) if many else 0)
    below = 0.2 if many else 0.9
    return side * across + beside, (side * source.aspect + below) * down + 0.4


def _label(lines: list[list[Axes]], names: Sequence[str], labels: list[str]) -> None:
    """Names at the left of their rows, labels above their columns; both in a title for a single."""
    for line, name in zip(lines, names, strict=True):
        if len(labels) > 1:
            line[0].set_ylabel(name, rotation="horizontal", ha="right", va="center")
        else:
            text = f"{name}, {labels[0]}" if labels[0] else name
            line[0].set_title(text, fontsize="medium")
    if len(labels) > 1:
        for ax, label in zip(lines[0], labels, strict=True):
            ax.set_title(label, fontsize="medium")


# ------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class _Source:
    """The input as a row of labelled images, and how a map is cut and drawn for each."""

    labels: list[str]
    aspect: float
    """Height by width of an image."""
    maps: list[Array]
    cut: Callable[[Array], list[Array]]
    draw: Callable[[Axes, int, Array, ColorScale], object]


def _source(
    attr: Maps, original: AnyVolume, frames: int | Sequence[int], times: TimeAxis, style: Style
) -> _Source:
    if isinstance(original, (Volume, Scan)):
        if times != TimeAxis():
            raise ValueError("fps and start are of a video, and this is a volume.")
        return _volume(_maps(attr, 3), original, frames, style)
    shape = tuple(original.shape)
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)):
        return _image(_maps(attr, 2), original, style)
    return _video(_maps(attr, 3), original, frames, times, style)


def _maps(attr: Maps, rank: int) -> list[Array]:
    if isinstance(attr, (Tensor, np.ndarray)):
        attr = list(squeeze_leading(as_array(attr), rank + 1))
    if not len(attr):
        raise ValueError("attr holds no map.")
    return [as_map(heat, rank) for heat in attr]


def _image(maps: list[Array], original: Values, style: Style) -> _Source:
    image = as_images(original, 2, maps[0], style.method)
    return _Source(
        labels=[""],
        aspect=image.shape[0] / image.shape[1],
        maps=maps,
        cut=lambda values: [values],
        draw=lambda ax, column, heat, colors: draw_map(ax, heat, image, colors),
    )


def _video(
    maps: list[Array],
    original: Values,
    frames: int | Sequence[int],
    times: TimeAxis,
    style: Style,
) -> _Source:
    for heat in maps:
        _, video = as_clip(heat, original, style.method)
    shown = choose_frames(frames, len(video))
    return _Source(
        labels=[times.format(t) for t in shown],
        aspect=video.shape[1] / video.shape[2],
        maps=maps,
        cut=lambda values: [values[t] for t in shown],
        draw=lambda ax, column, heat, colors: draw_map(ax, heat, video[shown[column]], colors),
    )


def _volume(
    maps: list[Array], original: Volume | Scan, frames: int | Sequence[int], style: Style
) -> _Source:
    scan = ScanImages(original, maps, style)
    geometry = scan.geometry
    plane, depth = geometry.plane(0), geometry.shape[0]
    shown = choose_frames(frames, depth, "slices")
    images = [scan.slice(plane, index) for index in shown]
    return _Source(
        labels=[geometry.label(0, index) for index in shown],
        aspect=geometry.length(plane.row) / geometry.length(plane.column),
        maps=maps,
        cut=lambda values: [interpolate_slice(values, plane, d, depth) for d in shown],
        draw=lambda ax, column, heat, colors: draw_slice(
            ax, heat, images[column], colors, geometry, plane
        ),
    )
