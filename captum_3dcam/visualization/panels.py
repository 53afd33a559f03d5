"""Several maps of one input, below or beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from captum_3dcam._validation import check_sequence, check_text
from captum_3dcam.frame_times import FrameRate
from captum_3dcam.io import Volume
from captum_3dcam.visualization._colors import ColorScale, draw_map
from captum_3dcam.visualization._figures import (
    LITERAL,
    MARGIN,
    WIDTH,
    AnyFigure,
    FigureAxes,
    clip_aspect,
    finish_figure,
    grid_mosaic,
    hide_frame,
    make_axes,
)
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_images,
    as_map,
    as_video,
    choose_frames,
    squeeze_leading,
)
from captum_3dcam.visualization.profile import TimeAxis
from captum_3dcam.visualization.scan import AnyVolume, Scan, SliceView, resolve_scan
from captum_3dcam.visualization.style import Style, check_drawing

Maps = Values | Sequence[Values]


@dataclass(frozen=True)
class _FrameView:
    """A frame of a video, or an image as a video of one frame."""

    image: Array
    index: int
    label: str

    @property
    def aspect(self) -> float:
        return float(self.image.shape[0] / self.image.shape[1])

    def cut(self, values: Array) -> Array:
        image: Array = values[self.index]
        return image

    def draw(self, ax: Axes, heat: Array, colors: ColorScale) -> None:
        draw_map(ax, heat, self.image, colors)


Views = Sequence[_FrameView | SliceView]


def visualize_attr_panels(
    attr: Maps,
    original: AnyVolume,
    names: Sequence[str],
    *,
    frames: int | Sequence[int] = 8,
    fps: FrameRate | None = None,
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

    Returns the figure and its axes, row by row. Raises ValueError for arguments out of range, for
    shapes or values that are not a map, image, video or volume, and for too many or few names.

    >>> import torch
    >>> top, clip = torch.rand(1, 2, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_attr_panels(top, clip, ["run (0.9)", "jump (0.1)"], frames=4)
    >>> [ax.get_ylabel() for ax in axes[::4]]
    ['run (0.9)', 'jump (0.1)']
    """
    check_drawing(style, title)
    for name in check_sequence("names", names, of="names, one for each map"):
        check_text("a name of names", name)
    maps, views, style = _read(attr, original, frames, TimeAxis(fps, start), style)
    if len(maps) != len(names):
        raise ValueError(
            f"There are {len(maps)} maps and {len(names)} names. Choose one sample: attr[i]."
        )
    fig, rows = _make_rows(style, views, names)
    shared = ColorScale.from_maps(style, maps)
    bars = []
    for row, heat in zip(rows, maps, strict=True):
        values = shared.select(heat)
        colors = shared.fit([values]) if style.scale == "row" else shared
        images, colors = colors.apply([view.cut(values) for view in views], "image")
        bars.append((row, colors))
        for ax, view, image in zip(row, views, images, strict=True):
            view.draw(ax, image, colors)
            hide_frame(ax)
            ax.set(xlabel="", ylabel="")
    _add_names(rows, views, names)
    axes = [ax for row in rows for ax in row]
    if style.scale != "row":
        bars = [(axes, bars[0][1])]
    finish_figure(fig, style, title, bars, "right" if len(views) > 1 else "bottom")
    return fig, axes


def _make_rows(
    style: Style, views: Views, names: Sequence[str]
) -> tuple[AnyFigure, list[list[Axes]]]:
    """A row of axes for each name; the rows of a single image are side by side."""
    if len(views) > 1:
        across, down, beside, below = len(views), len(names), 0.08 * max(map(len, names)), 0.2
    else:
        across, down, beside, below = len(names), 1, 0, 0.9
    side = min(WIDTH / across, 4.0)
    height = side * clip_aspect(views[0].aspect)
    size = (side * across + MARGIN + beside, (height + below) * down + 0.4)
    fig, axes = make_axes(style, grid_mosaic(across * down, across), size)
    return fig, [axes[i : i + len(views)] for i in range(0, len(axes), len(views))]


def _add_names(rows: list[list[Axes]], views: Views, names: Sequence[str]) -> None:
    """Names beside their rows and labels above their columns; of single images both above."""
    for row, name in zip(rows, names, strict=True):
        if len(views) > 1:
            row[0].set_ylabel(name, rotation="horizontal", ha="right", va="center", **LITERAL)
        else:
            label = ", ".join(filter(None, (name, views[0].label)))
            row[0].set_title(label, fontsize="medium", **LITERAL)
    if len(views) > 1:
        for ax, view in zip(rows[0], views, strict=True):
            label = view.label.replace(", ", "\n") if isinstance(view, SliceView) else view.label
            ax.set_title(label, fontsize="medium")


def _read(
    attr: Maps, original: AnyVolume, frames: int | Sequence[int], times: TimeAxis, style: Style
) -> tuple[list[Array], Views, Style]:
    """The maps, the images that each is drawn over, and the style with a window for a volume."""
    if isinstance(original, (Volume, Scan)):
        if times != TimeAxis():
            raise ValueError("fps and start are of a video, and this is a volume.")
        maps = _as_maps(attr, 3)
        scan, style = resolve_scan(original, maps, style)
        shown = choose_frames(frames, scan.shape[0], "slices")
        return maps, [SliceView(scan, scan.plane(0), index) for index in shown], style
    shape = as_array(original, "original").shape
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)):
        maps = _as_maps(attr, 2)
        image = as_images(original, 2, maps[0], style.method)
        return [heat[None] for heat in maps], [_FrameView(image, 0, "")], style
    maps = _as_maps(attr, 3)
    video = as_video(original, maps, style.method)
    times.check_length(len(video))
    shown = choose_frames(frames, len(video))
    return maps, [_FrameView(video[t], t, times.format(t)) for t in shown], style


def _as_maps(attr: Maps, rank: int) -> list[Array]:
    if isinstance(attr, (Tensor, np.ndarray)):
        attr = list(np.atleast_1d(squeeze_leading(as_array(attr), rank + 1)))
    if not len(check_sequence("attr", attr, of="maps")):
        raise ValueError("attr holds no map. Pass one for each name.")
    return [as_map(heat, rank) for heat in attr]
