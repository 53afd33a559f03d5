"""The temporal profile: the map's mean over space in each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from captum_3dcam._validation import check_integer
from captum_3dcam.frame_times import FrameRate, FrameTimes, check_rate, frame_time
from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Segment
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import FigureAxis, finish_figure, make_axes
from captum_3dcam.visualization._inputs import Array, Values, as_array, as_map, squeeze_leading
from captum_3dcam.visualization._text import LITERAL, size_of, wrap_to, write_note
from captum_3dcam.visualization.overlays import SEGMENT, Overlays
from captum_3dcam.visualization.style import Style, check_drawing

_LINE = "#0072B2"


@dataclass(frozen=True)
class TimeAxis:
    """``fps`` is None for times in frames; ``start`` is the clip's first frame in its video."""

    fps: FrameRate | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_rate(self.fps)
        check_integer("start", self.start, minimum=None)

    def edge(self, frame: Any) -> Any:
        """Where a frame of the clip begins on the axis, or an array of them."""
        number = self.start + frame
        return number - 0.5 if self.fps is None else frame_time(self.fps, number)

    def middle(self, frame: Any) -> Any:
        """Where a frame of the clip is drawn on the axis, or an array of them."""
        return (self.edge(frame) + self.edge(frame + 1)) / 2

    def format(self, frame: int) -> str:
        return str(self.start + frame) if self.fps is None else f"{self.edge(frame):.2f} s"

    def check_length(self, length: int) -> None:
        """ValueError for times of fewer frames than the clip's."""
        if isinstance(self.fps, FrameTimes) and not 0 <= self.start <= len(self.fps) - length:
            raise ValueError(
                f"fps holds the times of {len(self.fps)} frames; expected those of the clip's "
                f"{length}, or of its video with start, the clip's first frame; start is "
                f"{self.start}."
            )

    @property
    def label(self) -> str:
        return "frame" if self.fps is None else "time (s)"


def visualize_temporal_profile(
    attr: Values,
    segments: Sequence[Segment] = (),
    *,
    fps: FrameRate | None = None,
    start: int = 0,
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxis:
    """Draw the temporal profile of a map, with its segments shaded.

    On an axis of seconds, a frame is drawn in the middle of the time in which it is shown, and a
    segment from the start of its first frame to the end of its last one. On an axis of frames,
    frame t is drawn at t, and lasts from t - 1/2 to t + 1/2.

    Args:
        attr: the map (T, H, W), or a profile (T,), with leading axes of size 1 at most.
        segments: ``localization.segments(profile)[i]``, with frames counted from the clip's first.
        fps: frames per second, or the frames' ``FrameTimes``, for an axis of seconds.
        start: the number of the clip's first frame in its video.
        style: of which ``sign``, ``fig_size``, ``plt_fig_axis`` and ``use_pyplot`` apply.

    Returns the figure and the axis. Raises ValueError for a map of another shape and for segments
    outside the clip, TypeError for those of a batch.

    >>> import torch
    >>> from captum_3dcam.localization import Segment
    >>> fig, ax = visualize_temporal_profile(torch.rand(8, 4, 4), [Segment(2, 5, 0.9)], fps=25)
    >>> ax.get_xlabel()
    'time (s)'
    """
    check_drawing(style, title)
    times = TimeAxis(fps, start)
    signal = squeeze_leading(as_array(attr), 1)
    heat = as_map(signal[:, None, None] if signal.ndim == 1 else attr, 3)
    Overlays(segments=segments).check_length(len(heat))
    times.check_length(len(heat))
    colors = ColorScale.from_maps(style, [heat])
    fig, (ax,) = make_axes(style, [[0]], (8, 2.5))
    draw_profile(ax, colors.select(heat), colors, times, segments)
    write_note(ax, colors.note(heat))
    if title is not None:
        ax.set_title(wrap_to(title, size_of(ax)[0] - 1, "large"), **LITERAL)
    finish_figure(fig, style, None)
    return FigureAxis(fig, ax)


def draw_profile(
    ax: Axes, values: Array, colors: ColorScale, times: TimeAxis, segments: Sequence[Segment]
) -> tuple[Array, Array]:
    """Draw the profile of values (T, H, W); return the times and values of its points."""
    time = times.middle(np.arange(len(values)))
    profile = temporal_profile(torch.as_tensor(values)[None, None])[0].numpy()
    for segment in segments:
        first, last = times.edge(segment.start), times.edge(segment.end)
        ax.axvspan(first, last, **SEGMENT)
    ax.fill_between(time, profile, alpha=0.3, color=_LINE)
    ax.plot(time, profile, color=_LINE)
    ax.set_xlabel(times.label)
    ax.set_ylabel(f"mean {colors.label}", labelpad=2)
    if profile.min() < 0:
        ax.axhline(0, color="black", linewidth=0.8)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(times.edge(0), times.edge(len(values)))
    ax.spines[["top", "right"]].set_visible(False)
    return time, profile
