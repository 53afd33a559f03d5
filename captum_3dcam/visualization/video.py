"""One map over its video, frame by frame."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    finish_figure,
    hide_frame,
    make_axes,
)
from captum_3dcam.visualization._image_layers import draw_map
from captum_3dcam.visualization._inputs import Values, as_clip, choose_frames
from captum_3dcam.visualization._time_axis import TimeAxis
from captum_3dcam.visualization.overlays import OverlayArtist, Overlays
from captum_3dcam.visualization.profile import draw_profile
from captum_3dcam.visualization.style import Style


def visualize_video_attr(
    attr: Values,
    original_video: Values | None = None,
    *,
    frames: int | Sequence[int] = 8,
    fps: float | None = None,
    start: int = 0,
    overlays: Overlays = Overlays(),
    title: str | None = None,
    style: Style = Style(),
) -> FigureAxes:
    """Draw a map over frames of its video, and below them the temporal profile.

    The profile is the map's mean over space in each frame; dots mark the frames shown.

    Args:
        attr: the map, (T, H', W') or with leading axes of size 1.
        original_video: (T, H, W), (T, H, W, 1) or (T, H, W, 3); it may be left out for
            "heat_map".
        frames: how many frames to show, evenly spaced, or their indices in the clip.
        fps: frames per second, to label frames by seconds instead of numbers.
        start: the number of the clip's first frame in its video, for the labels.
        overlays: boxes, tubes and segments, with frames counted from the clip's first.

    Returns:
        The figure and its axes, the frames' first and the profile's last.

    Raises:
        ValueError: for arguments out of range, and shapes or values that are not a map or video.

    >>> import torch
    >>> attr, clip = torch.rand(1, 1, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_video_attr(attr, clip, frames=4)
    >>> [ax.get_title() for ax in axes]
    ['0', '2', '5', '7', '']
    """
    times = TimeAxis(fps, start)
    heat, video = as_clip(attr, original_video, style.method)
    artist = OverlayArtist(overlays, len(heat), heat.shape[1:], video.shape[1:3])
    shown = choose_frames(frames, len(heat))
    colors = ColorScale.from_maps(style, [heat])
    values = colors.select(heat)
    images, frame_colors = colors.apply([values[t] for t in shown], "frame")
    columns = min(style.columns or len(shown), len(shown))
    rows = -(-len(shown) // columns)
    height = WIDTH / columns * video.shape[1] / video.shape[2]

    def lay_out(fig: Figure) -> list[Axes]:
        grid = fig.add_gridspec(rows + 1, columns, height_ratios=(*[height] * rows, 1.3))
        cells = [grid[divmod(i, columns)] for i in range(len(shown))]
        return [fig.add_subplot(cell) for cell in (*cells, grid[rows, :])]

    size = (WIDTH + MARGIN, rows * (height + 0.3) + 2)
    fig, axes = make_axes(style, len(shown) + 1, size, lay_out)
    *frame_axes, profile_ax = axes
    for ax, t, image in zip(frame_axes, shown, images, strict=True):
        hide_frame(ax)
        draw_map(ax, image, video[t], frame_colors)
        artist.draw(ax, t)
        ax.set_title(times.format(t), fontsize="medium")
    time, profile = draw_profile(profile_ax, values, colors, times, artist.segments)
    profile_ax.plot(time[shown], profile[shown], "o", color="black")
    artist.add_legend(profile_ax)
    finish_figure(fig, style, title, [(axes, frame_colors)])
    return fig, axes
