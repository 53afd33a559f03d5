"""Maps over videos, frame by frame: strips and grids."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from captum_3dcam.localization import Boxes, Segment
from captum_3dcam.visualization._box_overlays import Outlines, Tubes
from captum_3dcam.visualization._figures import (
    MARGIN,
    WIDTH,
    FigureAxes,
    GivenAxes,
    bare,
    check_columns,
    figure_axes,
    set_title,
    show,
    title_of,
)
from captum_3dcam.visualization._inputs import Values, as_clip, choose_frames
from captum_3dcam.visualization.profile import check_segments, draw_profile
from captum_3dcam.visualization.style import Look, colour_bar, draw, scaled


def visualize_video_attr(
    attr: Values,
    original_video: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    frames: int | Sequence[int] = 8,
    columns: int | None = None,
    fps: float | None = None,
    start: int = 0,
    boxes: Sequence[Boxes] | None = None,
    tubes: Tubes | None = None,
    segments: Sequence[Segment] | None = None,
    box_size: tuple[int, int] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
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
    """Draw a strip or grid of frames under one colour scale, and below it the temporal profile.

    The profile is the map's mean over space in each frame; dots mark the frames shown.

    Args:
        attr: the map, (T, H', W') or with leading axes of size 1.
        original_video: (T, H, W), (T, H, W, 1) or (T, H, W, 3).
        frames: how many frames to show, evenly spaced, or which, counted within the clip.
        columns: frames in a row, by default all of them: a strip.
        fps: frames per second, to give times in seconds instead of frames.
        start: the number in its video of the clip's first frame, for the labels.
        boxes: for each frame of the clip, as ``localization.frame_boxes(maps)[i]``.
        tubes: those of one sample, ``localization.tubes(maps)[i]``, which the legend names by
            their scores; or by your names, {"truth": tube, ...}. Counted within the clip.
        segments: to shade in the profile, ``localization.segments(profile)[i]``.
        scale: "shared", one for the whole clip; or "each", every frame by its own maximum, which
            shows where, and hides when.
        plt_fig_axis: a figure and as many of its axes as are returned.

    The other arguments are those of :func:`visualize_image_attr`. Returns the figure and its
    axes, the frames' first and the profile's last. Raises ValueError as that does, and TypeError
    for boxes, tubes and segments that are none, or those of a batch.

    >>> import torch
    >>> attr, clip = torch.rand(1, 1, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_video_attr(attr, clip, frames=4)
    >>> [ax.get_title() for ax in axes]
    ['0', '2', '5', '7', '']
    """
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    heat, video = as_clip(attr, original_video, method, fps)
    shown = choose_frames(frames, len(heat))
    columns = check_columns(columns, len(shown), len(shown))
    check_segments(segments, len(heat))
    outlines = Outlines(len(heat), boxes, tubes, box_size or heat.shape[1:], video.shape[1:3])
    signed = look.settle([heat])
    values = signed.values(heat)
    drawn, look = scaled(signed, values, values, scale, "frame")
    rows = -(-len(shown) // columns)
    height = WIDTH / columns * video.shape[1] / video.shape[2]

    def lay_out(fig: Figure) -> list[Axes]:
        grid = fig.add_gridspec(rows + 1, columns, height_ratios=(*[height] * rows, 1.3))
        cells = [grid[divmod(i, columns)] for i in range(len(shown))]
        return [fig.add_subplot(cell) for cell in (*cells, grid[rows, :])]

    size = fig_size or (WIDTH + MARGIN, rows * (height + 0.3) + 2)
    fig, axes = figure_axes(plt_fig_axis, len(shown) + 1, lay_out, size, use_pyplot)
    for ax, t in zip(axes, shown, strict=False):
        bare(ax)
        draw(ax, drawn[t], video[t], look)
        outlines.draw(ax, t)
        ax.set_title(time_label(start + t, fps), fontsize="medium")
    time, profile = draw_profile(axes[-1], values, signed, fps, start, segments)
    axes[-1].plot(time[shown], profile[shown], "o", color="black")
    outlines.legend(axes[-1])
    set_title(fig, title_of(title, class_name, class_score))
    if show_colorbar:
        colour_bar(fig, axes, look)
    show(use_pyplot)
    return fig, axes


def time_label(frame: int, fps: float | None) -> str:
    return f"{frame / fps:.2f} s" if fps else str(frame)
