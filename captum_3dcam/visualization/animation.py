"""One map over its video as an animation, and its file."""

from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from os import PathLike, devnull
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.animation import AbstractMovieWriter, FuncAnimation
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from captum_3dcam._validation import check_instance, check_positive, show
from captum_3dcam.frame_times import FrameRate, FrameTimes, check_rate
from captum_3dcam.io import write_video
from captum_3dcam.visualization._colors import ColorScale, draw_map
from captum_3dcam.visualization._figures import finish_figure, hide_frame, make_axes
from captum_3dcam.visualization._inputs import Array, Values, as_images, as_map, check_lengths
from captum_3dcam.visualization._text import write_note
from captum_3dcam.visualization.overlays import OverlayArtist, Overlays
from captum_3dcam.visualization.profile import TimeAxis, draw_profile
from captum_3dcam.visualization.style import Style, check_drawing

_MIN_GIF_DURATION = 0.02 - 1e-6  # seconds
# A letter of less would be smaller than a pixel; a frame of more would fill the memory.
_MIN_DPI, _MAX_DPI = 10, 2400


class VideoAnimation(FuncAnimation):
    """Matplotlib's animation, and its rate in frames per second, or its frames' times.

    A notebook shows it as a GIF, with the times of the frames; faster ones than a GIF can be, with
    Matplotlib's player.
    """

    fps: FrameRate

    def _repr_html_(self) -> str:
        shortest = (
            np.diff(self.fps.edges).min() if isinstance(self.fps, FrameTimes) else 1 / self.fps
        )
        if shortest < _MIN_GIF_DURATION:
            return str(self.to_jshtml())
        with TemporaryDirectory() as folder:
            path = Path(folder) / "animation.gif"
            save_animation(self, path)
            data = b64encode(path.read_bytes()).decode()
        return f'<img src="data:image/gif;base64,{data}">'


def animate_video_attr(
    attr: Values,
    original_video: Values | None = None,
    *,
    fps: FrameRate = 10.0,
    start: int = 0,
    overlays: Overlays = Overlays(),
    title: str | None = None,
    style: Style = Style(),
) -> VideoAnimation:
    """Animate a map over its video, with a cursor that moves along the temporal profile.

    The arguments are those of :func:`visualize_video_attr`. Save the animation with
    :func:`save_animation`, which keeps the times of the frames; a notebook shows it.

    >>> import torch
    >>> animation = animate_video_attr(torch.rand(4, 2, 2), torch.rand(4, 8, 8))
    >>> save_animation(animation, getfixture("tmp_path") / "map.gif", dpi=40)
    """
    check_drawing(style, title)
    fps = check_rate(fps)
    times = TimeAxis(fps, start)
    heat = as_map(attr, 3)
    times.check_length(len(heat))
    if isinstance(fps, FrameTimes):
        fps = fps.take(range(start, start + len(heat)))
    video = as_images(original_video, 3, heat, style)
    check_lengths([heat], video)
    artist = OverlayArtist(overlays, len(heat), heat.shape[1:], video.shape[1:3])
    colors = ColorScale.from_maps(style, [heat])
    values = colors.select(heat)
    images, frame_colors = colors.apply(list(values), "frame")
    height = 5 * video.shape[1] / video.shape[2]
    mosaic = [[0, 1], [2, 2]] if style.raw else [[0], [1]]
    size = 1 + 5.0 * len(mosaic[0]), height + 1.8
    fig, axes = make_axes(style, mosaic, size, height_ratios=(height, 1.1))
    *raw_axes, frame_ax, profile_ax = axes
    for ax in (*raw_axes, frame_ax):
        hide_frame(ax)
    time, _ = draw_profile(profile_ax, values, colors, times, artist.segments)
    cursor = profile_ax.axvline(time[0], color="black", linewidth=1)
    artist.add_legend(profile_ax, range(len(heat)))
    write_note(frame_ax, colors.note(heat))
    drawn: list[Artist] = []

    def show_frame(t: int) -> list[Artist]:
        while drawn:
            drawn.pop().remove()
        for ax in raw_axes:
            drawn.extend(draw_map(ax, images[t], video[t], colors.plain))
        drawn.extend(draw_map(frame_ax, images[t], video[t], frame_colors))
        drawn.extend(artist.draw(frame_ax, t))
        frame_ax.set_title(times.format(t), fontsize="medium")
        cursor.set_xdata([time[t], time[t]])
        return [*drawn, cursor]

    show_frame(0)
    interval = 1000 / (fps.fps if isinstance(fps, FrameTimes) else fps)
    animation = VideoAnimation(
        fig.canvas.figure, show_frame, frames=len(heat), interval=interval, blit=False
    )
    animation.fps = fps
    finish_figure(fig, style, title, [([frame_ax], frame_colors)])
    return animation


def save_animation(animation: VideoAnimation, path: str | PathLike[str], dpi: float = 100) -> None:
    """Write an animation as MP4 or GIF, by the path's suffix.

    By :func:`captum_3dcam.io.write_video`, with its errors: ValueError for another suffix and for
    a GIF of more than 50 frames per second, FileNotFoundError if the folder is missing, and
    ImportError for an MP4 without PyAV (the extra ``video``).
    """
    check_instance("animation", animation, VideoAnimation)
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path={show(path)}: expected the path of a file, as text or a Path.")
    dpi = check_positive("dpi", dpi)
    if not _MIN_DPI <= dpi <= _MAX_DPI:
        raise ValueError(f"dpi={dpi!r}: expected dots per inch, {_MIN_DPI} to {_MAX_DPI}.")
    write_video(_render(animation, dpi), path, animation.fps)


def _render(animation: VideoAnimation, dpi: float) -> Iterator[Array]:
    writer = _FrameWriter()
    animation.save(devnull, writer=writer, dpi=dpi)
    yield from writer.frames


class _FrameWriter(AbstractMovieWriter):
    """Keeps the frames in memory, (H, W, 3) RGB bytes each, for another writer."""

    def setup(self, fig: Figure, outfile: Any, dpi: float | None = None) -> None:
        super().setup(fig, outfile, dpi)
        self.frames: list[Array] = []

    def grab_frame(self, **savefig_kwargs: Any) -> None:
        buffer = BytesIO()
        self.fig.savefig(buffer, format="rgba", dpi=self.dpi, **savefig_kwargs)
        width, height = self.frame_size
        rgba = np.frombuffer(buffer.getbuffer(), np.uint8).reshape(height, width, 4)
        self.frames.append(rgba[..., :3].copy())

    def finish(self) -> None:
        pass
