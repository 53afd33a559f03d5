"""Maps over videos that run, and files of them."""

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.animation import AbstractMovieWriter, Animation, FuncAnimation, writers
from matplotlib.artist import Artist
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from captum_3dcam.io._files import atomic_write
from captum_3dcam.localization import Boxes, Segment
from captum_3dcam.visualization._box_overlays import Outlines, Tubes
from captum_3dcam.visualization._figures import bare, new_figure, set_title, show, title_of
from captum_3dcam.visualization._inputs import Values, as_clip
from captum_3dcam.visualization.profile import check_segments, draw_profile
from captum_3dcam.visualization.style import Look, colour_bar, draw, redraw, scaled
from captum_3dcam.visualization.video import time_label


def animate_video_attr(
    attr: Values,
    original_video: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    fps: float = 10.0,
    start: int = 0,
    boxes: Sequence[Boxes] | None = None,
    tubes: Tubes | None = None,
    segments: Sequence[Segment] | None = None,
    box_size: tuple[int, int] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
    scale: str = "shared",
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FuncAnimation:
    """Animate the map over its video, with a cursor that runs along the temporal profile.

    The arguments are those of :func:`visualize_video_attr`. Save what it returns by
    :func:`save_animation`; in a notebook, show ``animation.to_jshtml()``.

    >>> import torch
    >>> animation = animate_video_attr(torch.rand(4, 2, 2), torch.rand(4, 8, 8))
    >>> save_animation(animation, getfixture("tmp_path") / "map.gif", dpi=40)
    """
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    heat, video = as_clip(attr, original_video, method, fps)
    check_segments(segments, len(heat))
    outlines = Outlines(len(heat), boxes, tubes, box_size or heat.shape[1:], video.shape[1:3])
    signed = look.settle([heat])
    values = signed.values(heat)
    drawn, look = scaled(signed, values, values, scale, "frame")
    height = 5 * video.shape[1] / video.shape[2]
    fig = new_figure(fig_size or (6, height + 1.6), use_pyplot)
    grid = fig.add_gridspec(2, 1, height_ratios=(height, 1.1))
    picture_ax, profile_ax = fig.add_subplot(grid[0]), fig.add_subplot(grid[1])
    bare(picture_ax)
    pictures = draw(picture_ax, drawn[0], video[0], look)
    over: list[Artist] = outlines.draw(picture_ax, 0)
    picture_ax.set_title(time_label(start, fps), fontsize="medium")
    time, _ = draw_profile(profile_ax, values, signed, fps, start, segments)
    cursor = profile_ax.axvline(time[0], color="black", linewidth=1)
    outlines.legend(profile_ax)
    set_title(fig, title_of(title, class_name, class_score))
    if show_colorbar:
        colour_bar(fig, [picture_ax], look)

    def show_frame(t: int) -> list[Artist]:
        redraw(pictures, drawn[t], video[t], look)
        while over:
            over.pop().remove()
        over.extend(outlines.draw(picture_ax, t))
        picture_ax.set_title(time_label(start + t, fps), fontsize="medium")
        cursor.set_xdata([time[t], time[t]])
        return [*pictures, *over, cursor]

    animation = FuncAnimation(fig, show_frame, frames=len(heat), interval=1000 / fps, blit=False)
    show(use_pyplot)
    return animation


# -------------------------------------------------------------------------------------- files


def save_animation(animation: Animation, path: str | os.PathLike[str], dpi: float = 100) -> None:
    """Write an animation as its suffix says: .gif (by Pillow) or .mp4 (by ffmpeg, else PyAV).

    The file is whole or not there: it is written beside its place, then renamed.

    Raises ValueError for another suffix, FileNotFoundError for a folder that is not there, and
    ImportError without ffmpeg and PyAV (the extra ``video``).
    """
    with atomic_write(path, (".gif", ".mp4")) as beside:
        writer = "pillow" if beside.suffix == ".gif" else _movie_writer()
        animation.save(beside, writer=writer, dpi=dpi)


def _movie_writer() -> str:
    known = [name for name in ("ffmpeg", "pyav") if writers.is_available(name)]
    if not known:
        raise ImportError(
            "Writing .mp4 needs ffmpeg, or PyAV: pip install 'captum_3dcam[video]'. A .gif needs "
            "neither."
        )
    return known[0]


@writers.register("pyav")
class _PyAVWriter(AbstractMovieWriter):
    """H.264 by PyAV, where there is no ffmpeg to call."""

    @classmethod
    def isAvailable(cls) -> bool:  # noqa: N802 (matplotlib's name)
        return find_spec("av") is not None

    def setup(self, fig: Figure, outfile: Any, dpi: float | None = None) -> None:
        super().setup(fig, outfile, dpi=dpi)
        import av

        self._container = av.open(str(outfile), mode="w")
        rate = Fraction(self.fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        # It halves the resolution of colour, and so wants even sides.
        self._stream.width, self._stream.height = (side // 2 * 2 for side in self.frame_size)
        self._stream.pix_fmt = "yuv420p"

    def grab_frame(self, **savefig_kwargs: Any) -> None:
        import av

        raw = io.BytesIO()
        self.fig.savefig(raw, format="rgba", dpi=self.dpi, **savefig_kwargs)
        width, height = self.frame_size
        pixels = np.frombuffer(raw.getbuffer(), np.uint8).reshape(height, width, 4)
        even = pixels[: self._stream.height, : self._stream.width, :3]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
