"""The temporal profile: the map's mean over space in each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from captum_3dcam._validation import check_integer, check_positive
from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Segment
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import LITERAL, FigureAxis, finish_figure, make_axes
from captum_3dcam.visualization._inputs import Array, Values, as_array, as_map, squeeze_leading
from captum_3dcam.visualization.overlays import Overlays
from captum_3dcam.visualization.style import Style, check_drawing

_LINE, _SEGMENT = "#0072B2", "#E69F00"


@dataclass(frozen=True)
class TimeAxis:
    """``fps`` is None for times in frames; ``start`` is the clip's first frame in its video."""

    fps: float | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_positive("fps", self.fps)
        check_integer("start", self.start, minimum=None)

    def at(self, frame: Any) -> Any:
        """The time of a frame of the clip, or of an array of them."""
        return (self.start + frame) / (self.fps or 1)

    def format(self, frame: int) -> str:
        return f"{self.at(frame):.2f} s" if self.fps else str(self.start + frame)

    @property
    def label(self) -> str:
        return "time (s)" if self.fps else "frame"


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
    colors = ColorScale.from_maps(style, [heat])
    fig, (ax,) = make_axes(style, [[0]], (8, 2.5))
    draw_profile(ax, colors.select(heat), colors, times, segments)
    if title is not None:
        ax.set_title(title, **LITERAL)
    finish_figure(fig, style, None)
    return fig, ax


def draw_profile(
    ax: Axes, values: Array, colors: ColorScale, times: TimeAxis, segments: Sequence[Segment]
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
