"""A map over all frames of its video as pixels, with the title, the time and the colour bar."""

from dataclasses import replace
from math import isfinite

import numpy as np

from captum_3dcam._validation import check_flag, check_integers, check_number, show
from captum_3dcam.frame_times import FrameRate
from captum_3dcam.visualization._canvas import Canvas
from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._inputs import Array, Values, as_map, as_pixels, check_lengths
from captum_3dcam.visualization._rendering import render_pixels
from captum_3dcam.visualization.profile import TimeAxis
from captum_3dcam.visualization.style import Style, check_drawing


def overlay_frames(
    attr: Values,
    original_video: Values | None = None,
    *,
    fps: FrameRate | None = None,
    start: int = 0,
    title: str | None = None,
    style: Style = Style(),
) -> Array:
    """The frames of a video with the map over them, for ``io.write_video``.

    The title (such as the class and its probability) is above each frame, its time and the colour
    bar below: nothing of it is covered. All frames have one colour scale. Of a video that does not
    fit in memory, :class:`OverlayRenderer` draws one frame after the other.

    Args:
        attr: the map, (T, H', W') or with leading axes of size 1.
        original_video: (T, H, W[, 1 or 3]); it may be left out for "heat_map".
        fps: frames per second, or the frames' ``FrameTimes``; without them no time is written.
        start: the number of the clip's first frame in its video, for the times.
        style: ``base="color"`` keeps the colours of the video, ``raw=True`` puts it beside.

    Returns (T, height, width, 3) RGB bytes of even sizes. Raises ValueError for arguments out of
    range, and for shapes or values that are not a map or video.

    >>> import torch
    >>> attr, clip = torch.rand(1, 1, 8, 4, 4), torch.rand(8, 90, 160, 3)
    >>> overlay_frames(attr, clip, fps=4, title="run (0.93)").shape
    (8, 144, 160, 3)
    """
    check_drawing(style, title)
    times = TimeAxis(fps, start)
    heat = as_map(attr, 3)
    times.check_length(len(heat))
    video = as_pixels(original_video, 3, heat, style)
    check_lengths([heat], video)
    colors = ColorScale.from_maps(style, [heat])
    canvas = _make_canvas(video.shape[1:3], colors, title, fps is not None, colors.note(heat))
    seconds = [None if fps is None else float(times.edge(t)) for t in range(len(heat))]
    frames = zip(heat, video, seconds, strict=True)
    return np.stack([canvas.fill(_render(h, frame, colors), time) for h, frame, time in frames])


class OverlayRenderer:
    """Draws the frames of :func:`overlay_frames` one after the other, for videos of any length.

    Args:
        size: the (H, W) of the video's frames.
        vmax: the value at the top of the colour scale, for all frames: the largest magnitude of
            the map, unless the style has one. Of a map without a value to draw it is 0 or less,
            and that is written in place of the colour bar.
        title: text above the frames, such as the class and its probability.
        timed: leave space for the time below the frames.
        style: its ``sign`` is by default "positive".

    Raises TypeError or ValueError for arguments of another type or out of range.

    >>> renderer = OverlayRenderer((90, 160), vmax=0.5, title="run (0.93)")
    >>> renderer.size
    (144, 160)
    >>> import torch
    >>> renderer.render(torch.rand(4, 4), torch.rand(90, 160, 3), time=0.25).shape
    (144, 160, 3)
    """

    def __init__(
        self,
        size: tuple[int, int],
        vmax: float,
        *,
        title: str | None = None,
        timed: bool = True,
        style: Style = Style(),
    ) -> None:
        check_drawing(style, title)
        check_flag("timed", timed)
        self._frame_size = check_integers("size", size)
        if len(self._frame_size) != 2:
            raise ValueError(f"size={show(size)}: expected (H, W), in pixels.")
        if not isfinite(vmax := check_number("vmax", vmax)):
            raise ValueError(f"vmax={vmax!r}: expected a finite number, the map's maximum.")
        self._style = replace(style, sign=style.sign or "positive")
        self._colors = ColorScale(self._style, style.vmax or max(vmax, 0.0))
        absent = f"no {self._style.sign} values" if vmax else "the map is zero"
        note = "" if self._colors.vmax else absent
        self._canvas = _make_canvas(self._frame_size, self._colors, title, timed, note)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it draws, both even."""
        return self._canvas.size

    def render(self, heat: Values, frame: Values, time: float | None = None) -> Array:
        """RGB bytes of a frame (H, W[, 3]) with its map (H', W') over it, at a time in seconds.

        Raises ValueError for a frame of another size, and for values that are not a map or image.
        """
        heat = as_map(heat, 2)
        image = as_pixels(frame, 2, heat, self._style)
        if image.shape[:2] != self._frame_size:
            raise ValueError(
                f"The frame is {image.shape[:2]}; expected the size of the video, "
                f"{self._frame_size}."
            )
        if time is not None:
            time = check_number("time", time)
        return self._canvas.fill(_render(heat, image, self._colors), time)


def _make_canvas(
    size: tuple[int, ...], colors: ColorScale, title: str | None, timed: bool, note: str
) -> Canvas:
    _, scale = colors.apply([np.zeros(1)], "frame")
    return Canvas((size[0], size[1]), scale, title, timed, note)


def _render(heat: Array, image: Array, colors: ColorScale) -> Array:
    (relative,), scale = colors.apply([heat], "frame")
    return render_pixels(relative, image, scale)
