"""When the network looked: the map's mean over space in each frame."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes

from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Segment
from captum_3dcam.visualization._figures import FigureAxis, figure_axis, set_title, show, title_of
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_finite,
    as_map,
    check_fps,
    strip,
)
from captum_3dcam.visualization.style import Look

_LINE, _SEGMENT = "#0072B2", "#E69F00"


def visualize_temporal_profile(
    attr: Values,
    segments: Sequence[Segment] | None = None,
    sign: str | None = None,
    *,
    fps: float | None = None,
    start: int = 0,
    class_name: str | None = None,
    class_score: float | None = None,
    plt_fig_axis: FigureAxis | None = None,
    title: str | None = None,
    fig_size: tuple[float, float] = (8, 2.5),
    use_pyplot: bool = False,
) -> FigureAxis:
    """Draw the temporal profile of a map, its segments shaded.

    Frame t stands at t, or at t / fps seconds; a segment's shade goes half a frame beyond its
    first and last.

    Args:
        attr: the map, (T, H, W), or a profile or map of a signal, (T,); with leading axes of
            size 1 at most.
        segments: those of one sample, ``localization.segments(profile)[i]``, counted in the clip.
        sign: as of :func:`visualize_image_attr`.
        fps: frames per second, to give the time axis in seconds instead of frames.
        start: the number in its video of the clip's first frame.

    The other arguments are those of :func:`visualize_image_attr`. Raises ValueError and TypeError
    for what is none of these.

    >>> import torch
    >>> from captum_3dcam.localization import Segment
    >>> fig, ax = visualize_temporal_profile(torch.rand(8, 4, 4), [Segment(2, 5, 0.9)], fps=25)
    >>> ax.get_xlabel()
    'time (s)'
    """
    check_fps(fps)
    look = Look("heat_map", sign, None, 1.0, None)
    heat = _as_signal(attr)
    check_segments(segments, len(heat))
    look = look.settle([heat])
    fig, ax = figure_axis(plt_fig_axis, fig_size, use_pyplot)
    draw_profile(ax, look.values(heat), look, fps, start, segments)
    set_title(ax, title_of(title, class_name, class_score))
    show(use_pyplot)
    return fig, ax


def draw_profile(
    ax: Axes,
    values: Array,
    look: Look,
    fps: float | None,
    start: int,
    segments: Sequence[Segment] | None,
) -> tuple[Array, Array]:
    """The profile of (T, H, W); the times and values of its points."""
    time = (start + np.arange(len(values))) / (fps or 1)
    profile = temporal_profile(torch.as_tensor(values)[None, None])[0].numpy()
    for segment in segments or []:
        edges = [(start + t - 0.5) / (fps or 1) for t in (segment.start, segment.end)]
        ax.axvspan(*edges, color=_SEGMENT, alpha=0.4, linewidth=0)
    ax.fill_between(time, profile, alpha=0.3, color=_LINE)
    ax.plot(time, profile, color=_LINE)
    ax.set_xlabel("time (s)" if fps else "frame")
    ax.set_ylabel(f"mean {look.label}")
    if profile.min() < 0:
        ax.axhline(0, color="black", linewidth=0.8)
    else:
        ax.set_ylim(bottom=0)
    # Half a frame beyond the first and last, as the segments go.
    ax.set_xlim(time[0] - 0.5 / (fps or 1), time[-1] + 0.5 / (fps or 1))
    ax.spines[["top", "right"]].set_visible(False)
    return time, profile


def check_segments(segments: Sequence[Segment] | None, length: int) -> None:
    for segment in segments or []:
        if not isinstance(segment, Segment):
            raise TypeError(
                "segments must be those of one sample: localization.segments(profile)[i]."
            )
        if segment.end <= 0 or segment.start >= length:
            raise ValueError(
                f"A segment covers the frames {segment.start} to {segment.end - 1}, and the clip "
                f"has {length}. Count its frames from the clip's first."
            )


def _as_signal(attr: Values) -> Array:
    """(T, H, W); a signal (T,) has one place in space."""
    array = strip(as_array(attr), 1)
    if array.ndim == 1 and array.size:
        return as_finite(array)[:, None, None]
    return as_map(attr, 3)
