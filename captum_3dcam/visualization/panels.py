"""Several maps of one input: classes and the counterfactual, layers and their fusion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from torch import Tensor

from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    GivenAxes,
    bare,
    figure_axes,
    grid,
    name_of,
    set_title,
    show,
)
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_map,
    as_pictures,
    as_volume,
    check_fps,
    check_inside,
    check_length,
    choose_frames,
    choose_window,
    strip,
)
from captum_3dcam.visualization._slices import Geometry, cut, draw_plane, grey, turned
from captum_3dcam.visualization.style import (
    Look,
    check_scale,
    colour_bar,
    draw,
    relative,
    relative_look,
)
from captum_3dcam.visualization.video import time_label

Maps = Values | Sequence[Values]


def visualize_classes_attr(
    attr: Maps,
    original: Values,
    class_names: Sequence[str],
    class_scores: Sequence[float] | None = None,
    counterfactual: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    frames: int | Sequence[int] = 8,
    fps: float | None = None,
    start: int = 0,
    spacing: Sequence[float] | None = None,
    orientation: Sequence[str] | None = None,
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
    """Draw the maps of several classes, and the counterfactual one, below each other.

    Rows are classes, columns are frames (the paper's Figure 6); the maps of an image stand side
    by side.

    Args:
        attr: (k, *S), as ``cam.attribute_top_k(inputs, k)[0][i]`` gives it, or k maps.
        original: the image (H, W[, 3]) or video (T, H, W[, 3]), or with ``spacing`` the volume.
        class_names: k names.
        class_scores: k numbers, written behind the names.
        counterfactual: the map of ``CounterfactualCAM``, for a last row.
        frames: how many frames of a video, or slices D of a volume, or which.
        fps, start: of a video, as of :func:`visualize_video_attr`.
        spacing, orientation: of a volume, as of :func:`visualize_volume_attr`. Give the spacing
            to say that ``original`` is one: (1, 1, 1) where it is not known.
        scale: "shared", one for all pictures; "row", one for each map; or "each", every picture
            by its own maximum.
        plt_fig_axis: a figure and as many of its axes as there are pictures, row by row.

    The other arguments are those of :func:`visualize_image_attr`. Returns the figure and its
    axes, row by row. Raises ValueError for what is none of these.

    >>> import torch
    >>> top, clip = torch.rand(1, 2, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_classes_attr(top, clip, ["run", "jump"], [0.9, 0.1], frames=4)
    >>> [ax.get_ylabel() for ax in axes[::4]]
    ['run (0.90)', 'jump (0.10)']
    """
    if class_scores is not None and len(class_scores) != len(class_names):
        raise ValueError(
            f"There are {len(class_names)} class_names and {len(class_scores)} class_scores."
        )
    scores = [None] * len(class_names) if class_scores is None else list(class_scores)
    names = [name_of(name, s) for name, s in zip(class_names, scores, strict=True)]
    last = None if counterfactual is None else ("counterfactual", counterfactual)
    return _panel(
        _Rows(attr, names, last, "class_names"),
        original,
        Look(method, sign, cmap, alpha_overlay, vmax),
        _Columns(frames, fps, start, spacing, orientation),
        _Frame(scale, plt_fig_axis, show_colorbar, title, fig_size, use_pyplot),
    )


def visualize_layers_attr(
    attr: Maps,
    original: Values,
    layer_names: Sequence[str],
    fused: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    frames: int | Sequence[int] = 8,
    fps: float | None = None,
    start: int = 0,
    spacing: Sequence[float] | None = None,
    orientation: Sequence[str] | None = None,
    scale: str = "row",
    vmax: float | None = None,
    plt_fig_axis: GivenAxes = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FigureAxes:
    """Draw the map of each layer, and the fused one, below each other.

    Rows are layers, columns are frames (the paper's Figures 7 and 8); the maps of an image stand
    side by side.

    Args:
        attr: the layers' maps, as ``cam.attribute(inputs, per_layer=True)`` gives them.
        layer_names: their names.
        fused: the map of all layers, for a last row.
        scale: "row", one for each map, because a sum's is larger than a layer's; "shared" or
            "each", as of :func:`visualize_classes_attr`.

    The other arguments, what is returned and what is raised are those of
    :func:`visualize_classes_attr`.

    >>> import torch
    >>> shallow, deep = torch.rand(1, 1, 28, 28), torch.rand(1, 1, 7, 7)
    >>> fig, axes = visualize_layers_attr(
    ...     [shallow, deep], torch.rand(28, 28, 3), ["stem", "layer4"], fused=torch.rand(28, 28)
    ... )
    >>> [ax.get_title() for ax in axes]
    ['stem', 'layer4', 'fused']
    """
    return _panel(
        _Rows(attr, layer_names, None if fused is None else ("fused", fused), "layer_names"),
        original,
        Look(method, sign, cmap, alpha_overlay, vmax),
        _Columns(frames, fps, start, spacing, orientation),
        _Frame(scale, plt_fig_axis, show_colorbar, title, fig_size, use_pyplot),
    )


# ------------------------------------------------------------------------------------- panels


@dataclass(frozen=True)
class _Rows:
    """The maps, their names, and a last one of its own."""

    attr: Maps
    names: Sequence[str]
    last: tuple[str, Values] | None
    argument: str

    def read(self, rank: int) -> tuple[list[str], list[Values]]:
        names, maps = list(self.names), _separate(self.attr, rank)
        if len(maps) != len(names):
            raise ValueError(
                f"There are {len(maps)} maps and {len(names)} {self.argument}. Choose one sample: "
                "attr[i]."
            )
        if self.last is not None:
            names, maps = [*names, self.last[0]], [*maps, self.last[1]]
        if not maps:
            raise ValueError("attr holds no map.")
        return names, maps


@dataclass(frozen=True)
class _Columns:
    """Which pictures of the input, and what they are called."""

    frames: int | Sequence[int]
    fps: float | None
    start: int
    spacing: Sequence[float] | None
    orientation: Sequence[str] | None


@dataclass(frozen=True)
class _Frame:
    """What is around the pictures."""

    scale: str
    plt_fig_axis: GivenAxes
    show_colorbar: bool
    title: str | None
    fig_size: tuple[float, float] | None
    use_pyplot: bool


@dataclass(frozen=True)
class _Source:
    """An input as a row of pictures: what they are called, and how a map lies on each."""

    labels: list[str]
    aspect: float
    maps: list[Array]
    cut: Callable[[Array], list[Array]]
    draw: Callable[[Axes, int, Array, Look], Any]


def _panel(
    rows: _Rows, original: Values, look: Look, columns: _Columns, frame: _Frame
) -> FigureAxes:
    check_scale(look, frame.scale, ("shared", "row", "each"))
    names, source = _source(rows, original, look.method, columns)
    pictures, looks = _scaled(source, look, frame.scale)
    width = len(source.labels)
    # The maps of one picture stand side by side.
    across = width if width > 1 else len(names)
    down = len(names) * width // across
    side = min(WIDTH / across, 4.0)
    beside = MARGIN + (0.08 * max(map(len, names)) if width > 1 else 0)
    below = 0.2 if width > 1 else 0.9
    size = frame.fig_size or (
        side * across + beside,
        (side * source.aspect + below) * down + 0.4,
    )

    def lay_out(fig: Figure) -> list[Axes]:
        return grid(fig, down * across, across)

    fig, axes = figure_axes(frame.plt_fig_axis, down * across, lay_out, size, frame.use_pyplot)
    lines = [axes[i * width : (i + 1) * width] for i in range(len(names))]
    for line, name, row, row_look in zip(lines, names, pictures, looks, strict=True):
        for column, (ax, picture) in enumerate(zip(line, row, strict=True)):
            source.draw(ax, column, picture, row_look)
            bare(ax)
            ax.set(xlabel="", ylabel="")
        if width > 1:
            line[0].set_ylabel(name, rotation="horizontal", ha="right", va="center")
        else:
            label = source.labels[0]
            line[0].set_title(f"{name}, {label}" if label else name, fontsize="medium")
    if width > 1:
        for ax, label in zip(axes, source.labels, strict=False):
            ax.set_title(label, fontsize="medium")
    if frame.show_colorbar:
        own = zip(lines, looks, strict=True) if frame.scale == "row" else [(axes, looks[0])]
        for line, row_look in own:
            colour_bar(fig, line, row_look, "right" if width > 1 else "bottom")
    set_title(fig, frame.title)
    show(frame.use_pyplot)
    return fig, axes


def _scaled(source: _Source, look: Look, scale: str) -> tuple[list[list[Array]], list[Look]]:
    """Each row's pictures, and its look."""
    look = look.settle(source.maps)
    values = [look.values(heat) for heat in source.maps]
    pictures = [source.cut(heat) for heat in values]
    if scale == "each":
        return (
            [[relative(picture) for picture in row] for row in pictures],
            [relative_look(look, "picture")] * len(values),
        )
    if scale == "row":
        return pictures, [look.over([heat]) for heat in values]
    return pictures, [look.over(values)] * len(values)


def _separate(attr: Maps, rank: int) -> list[Values]:
    if isinstance(attr, (Tensor, np.ndarray)):
        return list(strip(as_array(attr), rank + 1))
    return list(attr)


# ------------------------------------------------------------------------------------- inputs


def _source(
    rows: _Rows, original: Values, method: str, columns: _Columns
) -> tuple[list[str], _Source]:
    shape = tuple(original.shape)
    if columns.spacing is not None:
        names, maps = rows.read(3)
        return names, _volume(maps, original, method, columns)
    if columns.orientation is not None:
        raise ValueError("orientation is that of a volume: give its spacing too.")
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)):
        names, maps = rows.read(2)
        return names, _image(maps, original, method)
    names, maps = rows.read(3)
    return names, _video(maps, original, method, columns)


def _image(maps: list[Values], original: Values, method: str) -> _Source:
    heats = [as_map(attr, 2) for attr in maps]
    image = as_pictures(original, 2, heats[0], method)
    return _Source(
        labels=[""],
        aspect=image.shape[0] / image.shape[1],
        maps=heats,
        cut=lambda values: [values],
        draw=lambda ax, column, heat, look: draw(ax, heat, image, look),
    )


def _video(maps: list[Values], original: Values, method: str, columns: _Columns) -> _Source:
    heats = [as_map(attr, 3) for attr in maps]
    video = as_pictures(original, 3, heats[0], method)
    check_fps(columns.fps)
    for heat in heats:
        check_length(heat, video)
    shown = choose_frames(columns.frames, len(video))
    return _Source(
        labels=[time_label(columns.start + t, columns.fps) for t in shown],
        aspect=video.shape[1] / video.shape[2],
        maps=heats,
        cut=lambda values: [values[t] for t in shown],
        draw=lambda ax, column, heat, look: draw(ax, heat, video[shown[column]], look),
    )


def _volume(maps: list[Values], original: Values, method: str, columns: _Columns) -> _Source:
    if columns.fps is not None or columns.start:
        raise ValueError("fps and start are of a video, and spacing is of a volume.")
    heats = [as_map(attr, 3) for attr in maps]
    volume = as_volume(original, heats[0], method)
    for heat in heats:
        check_inside(heat, volume)
    window = choose_window(None, volume)
    geometry = Geometry(volume.shape, columns.spacing, columns.orientation)
    plane = geometry.plane(0)
    shown = choose_frames(columns.frames, len(volume), "slices")
    images = [grey(turned(volume[d], plane), window) for d in shown]
    return _Source(
        labels=[geometry.label(0, d) for d in shown],
        aspect=geometry.length(plane.row) / geometry.length(plane.column),
        maps=heats,
        cut=lambda values: [cut(values, plane, d, len(volume)) for d in shown],
        draw=lambda ax, column, heat, look: draw_plane(
            ax, heat, images[column], look, geometry, plane
        ),
    )
