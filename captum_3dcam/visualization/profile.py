"""The temporal profile: the map's mean over space in each frame."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes

from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Segment
from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._figures import FigureAxis, finish_figure, make_axis
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_finite,
    as_map,
    squeeze_leading,
)
from captum_3dcam.visualization._time_axis import TimeAxis
from captum_3dcam.visualization.overlays import Overlays, check_frames
from captum_3dcam.visualization.style import Style

_LINE, _SEGMENT = "#0072B2", "#E69F00"


def visualize_temporal_profile(
    attr: Values,
    segments: Sequence[Segment] = (),
    *,
    fps: float | None = None,
    start: int = 0,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxis:
    """Draw the temporal profile of a map, with its segments shaded.

    Frame t is drawn at t, or at t / fps seconds; a segment from half a frame before its first to
    half a frame after its last.

    Args:
        attr: the map (T, H, W), or a profile (T,), with leading axes of size 1 at most.
        segments: ``localization.segments(profile)[i]``, with frames counted from the clip's first.
        fps: frames per second, to label the axis in seconds instead of frames.
        start: the number of the clip's first frame in its video.
        style: of which ``sign``, ``fig_size``, ``plt_fig_axis`` and ``use_pyplot`` apply.

    Returns:
        The figure and the axis.

    Raises:
        ValueError: for a map of another shape, and segments outside the clip.
        TypeError: for segments of a batch.

    >>> import torch
    >>> from captum_3dcam.localization import Segment
    >>> fig, ax = visualize_temporal_profile(torch.rand(8, 4, 4), [Segment(2, 5, 0.9)], fps=25)
    >>> ax.get_xlabel()
    'time (s)'
    """
    times = TimeAxis(fps, start)
    heat = _as_signal(attr)
    for segment in Overlays(segments=segments).segments:
        check_frames("A segment", segment, len(heat))
    colors = ColorScale.from_maps(style, [heat])
    fig, ax = make_axis(style, (8, 2.5))
    draw_profile(ax, colors.select(heat), colors, times, segments)
    if title is not None:
        ax.set_title(title)
    finish_figure(fig, style, None)
    return fig, ax


def draw_profile(
    ax: Axes,
    values: Array,
    colors: ColorScale,
    times: TimeAxis,
    segments: Sequence[Segment],
) -> tuple[Array, Array]:
    """Draw the profile of values (T, H, W); return the times and values of its points."""
    time = times.at(np.arange(len(values)))
    profile = temporal_profile(torch.as_tensor(values)[None, None])[0].numpy()
    for segment in segments:
        first, last = times.at(segment.start - 0.5), times.at(segment.end - 0.5)
        ax.axvspan(first, last, color=_SEGMENT, alpha=0.4, linewidth=0)
    ax.fill_between(time, profile, alpha=0.3, color=_LINE)
    ax.plot(time, profile, color=_LINE)
    ax.set_xlabel(times.label)
    ax.set_ylabel(f"mean {colors.label}")
    if profile.min() < 0:
        ax.axhline(0, color="black", linewidth=0.8)
    else:
        ax.set_ylim(bottom=0)
    # Half a frame beyond the first and last, where segments end.
    ax.set_xlim(times.at(-0.5), times.at(len(values) - 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return time, profile


def _as_signal(attr: Values) -> Array:
    """(T, H, W); a profile (T,) as (T, 1, 1)."""
    array = squeeze_leading(as_array(attr), 1)
    if array.ndim == 1 and array.size:
        return as_finite(array)[:, None, None]
    return as_map(attr, 3)
