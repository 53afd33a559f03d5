"""One map over its video, frame by frame."""

from collections.abc import Sequence

from captum_3dcam.frame_times import FrameRate
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._figures import FigureAxes
from captum_3dcam.visualization._frames import FrameView
from captum_3dcam.visualization._grid import draw_grid, map_row, raw_rows
from captum_3dcam.visualization._inputs import (
    Values,
    as_images,
    as_map,
    check_lengths,
    choose_frames,
)
from captum_3dcam.visualization.overlays import OverlayArtist, Overlays
from captum_3dcam.visualization.profile import TimeAxis, draw_profile
from captum_3dcam.visualization.style import Style, check_drawing


def visualize_video_attr(
    attr: Values,
    original_video: Values | None = None,
    *,
    frames: int | Sequence[int] = 8,
    fps: FrameRate | None = None,
    start: int = 0,
    overlays: Overlays = Overlays(),
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw a map over frames of its video, and below them the temporal profile.

    The profile is the map's mean over space in each frame; dots mark the frames shown.

    Args:
        attr: the map, (T, H', W') or with leading axes of size 1.
        original_video: (T, H, W[, 1 or 3]); it may be left out for "heat_map".
        frames: how many frames to show, evenly spaced, or their indices in the clip.
        fps: frames per second, or the frames' ``FrameTimes``, to label them by seconds.
        start: the number of the clip's first frame in its video, for the labels.
        overlays: boxes, tubes and segments, with frames counted from the clip's first.

    Returns the figure and its axes, the frames' first and the profile's last. Raises ValueError for
    arguments out of range, and for shapes or values that are not a map or video.

    >>> import torch
    >>> attr, clip = torch.rand(1, 1, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_video_attr(attr, clip, frames=4)
    >>> [ax.get_title() for ax in axes]
    ['0', '2', '5', '7', '']
    """
    check_drawing(style, title)
    times = TimeAxis(fps, start)
    heat = as_map(attr, 3)
    times.check_length(len(heat))
    video = as_images(original_video, 3, heat, style)
    check_lengths([heat], video)
    artist = OverlayArtist(overlays, len(heat), heat.shape[1:], video.shape[1:3])
    shown = choose_frames(frames, len(heat))
    colors = ColorScale.from_maps(style, [heat])
    views = [FrameView(video[t], t, times.format(t)) for t in shown]
    rows = [*raw_rows(views, colors), map_row(heat, views, colors, "frame")]
    grid = draw_grid(rows, views, style, profile=2.0 + artist.legend_height)
    for ax, t in zip(grid.rows[-1], shown, strict=True):
        artist.draw(ax, t)
    (profile_ax,) = grid.profile
    time, profile = draw_profile(profile_ax, colors.select(heat), colors, times, artist.segments)
    profile_ax.plot(time[shown], profile[shown], "o", color="black")
    artist.add_legend(profile_ax, shown)
    grid.finish(rows, style, title)
    return FigureAxes(grid.figure, grid.axes)
