"""Several maps of one input, below or beside each other."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from captum_3dcam._validation import check_sequence, check_text
from captum_3dcam.frame_times import FrameRate
from captum_3dcam.io import Volume
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import FigureAxes
from captum_3dcam.visualization._frames import FrameView
from captum_3dcam.visualization._grid import View, draw_grid, map_row, raw_rows
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_images,
    as_map,
    check_lengths,
    choose_frames,
    squeeze_leading,
)
from captum_3dcam.visualization.profile import TimeAxis
from captum_3dcam.visualization.scan import AnyVolume, Scan, SliceView, find_peak, resolve_scan
from captum_3dcam.visualization.style import Style, check_drawing

Maps = Values | Sequence[Values]


_COMPARABLE = 5  # how many times the maxima of maps on one scale may differ


def visualize_attr_panels(
    attr: Maps,
    original: AnyVolume,
    names: Sequence[str],
    *,
    frames: int | Sequence[int] = 4,
    fps: FrameRate | None = None,
    start: int = 0,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw several maps of one input: of classes, layers, methods, or the counterfactual.

    Each map is a row, with frames or slices as columns (the paper's Figures 6 to 8), and its name
    above. The maps of an image, or of a single frame, are side by side.

    Args:
        attr: k maps of any sizes: a list, or (k, *S) from ``attribute_top_k(inputs, k)[0][i]``.
        original: an image (H, W[, 3]), a video (T, H, W[, 3]), or a volume: an ``io.Volume``, or
            a :class:`Scan`, which tells an array (D, H, W) from a grey video.
        names: k names of the maps.
        frames: how many frames of a video, or slices D of a volume, evenly spaced, or their
            indices. More than fit into a row continue below, after all maps of the first ones.
        fps, start: of a video, as in :func:`visualize_video_attr`.
        style: ``scale="row"`` gives each map a colour scale of its own, as for layers beside
            their sum; ``raw=True`` begins with a row "input".

    Returns the figure and its axes, map by map. Raises ValueError for arguments out of range, for
    shapes or values that are not a map, image, video or volume, and for too many or few names.

    >>> import torch
    >>> top, clip = torch.rand(1, 2, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_attr_panels(top, clip, ["run (0.9)", "jump (0.1)"])
    >>> [ax.texts[0].get_text().strip() for ax in axes[::4]]
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
    scales = _choose_scales(maps, style)
    rows = raw_rows(views, scales[0], "input")
    for heat, colors, name in zip(maps, scales, names, strict=True):
        rows.append(map_row(heat, views, colors, "image", name))
    grid = draw_grid(rows, views, style)
    grid.finish(rows, style, title)
    return FigureAxes(grid.figure, grid.axes)


def _choose_scales(maps: Sequence[Array], style: Style) -> list[ColorScale]:
    """The colour scale of each map: one for all, unless some would be dark on it."""
    shared = ColorScale.from_maps(style, maps)
    own = [shared.fit([shared.select(heat)]) for heat in maps]
    peaks = [colors.vmax for colors in own if colors.vmax]
    is_uneven = style.scale is None and peaks and max(peaks) > _COMPARABLE * min(peaks)
    if len(maps) > 1 and (style.scale == "row" or is_uneven):
        return [replace(colors, unit=" (this map)") for colors in own]
    return [shared] * len(maps)


def _read(
    attr: Maps, original: AnyVolume, frames: int | Sequence[int], times: TimeAxis, style: Style
) -> tuple[list[Array], Sequence[View], Style]:
    """The maps, the images that each is drawn over, and the style with a window for a volume."""
    if isinstance(original, (Volume, Scan)):
        if times != TimeAxis():
            raise ValueError("fps and start are of a video, and this is a volume.")
        maps = _as_maps(attr, 3)
        scan, style = resolve_scan(original, maps, style)
        shown = choose_frames(frames, scan.shape[0], "slices")
        peak = find_peak(maps[0], scan.shape)  # as where the map alone is cut
        return maps, [SliceView(scan, scan.plane(0), index, peak) for index in shown], style
    shape = as_array(original, "original").shape
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)):
        maps = _as_maps(attr, 2)
        image = as_images(original, 2, maps[0], style)
        return [heat[None] for heat in maps], [FrameView(image)], style
    maps = _as_maps(attr, 3)
    video = as_images(original, 3, maps[0], style)
    check_lengths(maps, video)
    times.check_length(len(video))
    shown = choose_frames(frames, len(video))
    return maps, [FrameView(video[t], t, times.format(t)) for t in shown], style


def _as_maps(attr: Maps, rank: int) -> list[Array]:
    if isinstance(attr, (Tensor, np.ndarray)):
        attr = list(np.atleast_1d(squeeze_leading(as_array(attr), rank + 1)))
    if not len(check_sequence("attr", attr, of="maps")):
        raise ValueError("attr holds no map. Pass one for each name.")
    return [as_map(heat, rank) for heat in attr]
