"""Write frames as MP4 or GIF, each shown for its own time."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from captum_3dcam._files import StrPath, atomic_write, import_extra
from captum_3dcam.frame_times import FrameRate, FrameTimes, check_rate
from captum_3dcam.io._frame_source import Pixels

# Seconds: MPEG-4 allows no finer one than 1 / 65535. The coarser ones are for frames of many hours.
_MP4_UNITS = Fraction(1, 60_000), Fraction(1, 1000), Fraction(1)
_MAX_TICKS = 2**31 - 1  # of a frame
_MIN_RATE = Fraction(1, 1001)  # for the encoder; the times are those of the frames
# Without B-frames, as MP4 derives the end of a video from the times of decoding.
_MP4_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "20", "bf": "0"}}


def write_video(frames: Iterable[Pixels], path: StrPath, fps: FrameRate) -> None:
    """Write RGB frames as MP4 (with PyAV) or GIF (with Pillow), depending on the suffix.

    MP4 needs even sizes: the last row or column of an odd size is repeated. A GIF has 256 colours,
    the same for all frames, so that none changes while it plays.

    Args:
        frames: (T, H, W, 3) uint8, or an iterable of (H, W, 3), consumed frame by frame.
        path: the file to write, ``.mp4`` or ``.gif``.
        fps: frames per second, or the ``FrameTimes``, of which the first becomes 0; at most 50
            for GIF, or 20 ms for each frame. A GIF shows a frame for at most 655.35 s, with a
            warning.

    Raises ImportError without PyAV (extra ``video``) for MP4, FileNotFoundError if the folder does
    not exist, and ValueError for another suffix, frame rate, dtype or shape, for times of another
    number of frames, and without frames.
    """
    with atomic_write(path, (".mp4", ".gif")) as temporary:
        fps = check_rate(fps)
        if temporary.suffix == ".mp4":
            _write_mp4(_checked(frames, fps), temporary, fps)
        else:
            # Imported here: it imports Pillow.
            from captum_3dcam.io._gif_writer import check_gif_rate, write_gif

            check_gif_rate(fps)
            write_gif(_checked(frames, fps), temporary, fps)


def _checked(frames: Iterable[Pixels], fps: FrameRate) -> Iterator[Pixels]:
    """Yield the frames; ValueError unless all are RGB uint8 of one size, and have a time."""
    shape, number = None, -1
    for number, frame in enumerate(map(np.asarray, frames)):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.shape != shape or shape[2:] != (3,) or 0 in shape:
            raise ValueError(
                f"Frame {number} is {frame.shape} of {frame.dtype}; expected RGB frames (H, W, 3) "
                f"of uint8, all of the size of the first one, {shape}."
            )
        if isinstance(fps, FrameTimes) and number == len(fps):
            raise ValueError(f"fps holds the times of {len(fps)} frames, and there are more.")
        yield frame
    if shape is None:
        raise ValueError("There are no frames to write.")
    if isinstance(fps, FrameTimes) and number + 1 < len(fps):
        raise ValueError(f"fps holds the times of {len(fps)} frames, and there are {number + 1}.")


def _write_mp4(frames: Iterator[Pixels], path: Path, fps: FrameRate) -> None:
    av = import_extra("av", "Writing MP4 needs PyAV", "video")
    first = next(frames)
    height, width = first.shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    unit, ticks, rate = _mp4_times(fps)
    durations: dict[int, int] = {}  # of frames in the encoder, by their timestamps
    # Otherwise FFmpeg chooses a finer unit, in which a frame of days has too many.
    scale = {"video_track_timescale": str(1 / unit)} if unit in _MP4_UNITS[1:] else {}
    with av.open(str(path), "w", options=scale) as container:
        stream = container.add_stream(codec, rate=rate, options=_MP4_OPTIONS.get(codec, {}))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"  # the format that every player supports
        stream.codec_context.time_base = unit

        def encode(image: Any) -> None:
            for packet in stream.encode(image):
                packet.duration = durations.pop(packet.pts)
                container.mux(packet)

        for frame, (start, end) in zip(chain([first], frames), pairwise(ticks), strict=False):
            if height % 2 or width % 2:
                frame = np.pad(frame, padding, mode="edge")
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts, image.time_base = start, unit
            durations[start] = end - start
            encode(image)
        encode(None)


def _mp4_times(fps: FrameRate) -> tuple[Fraction, Iterable[int], Fraction]:
    """The unit of time in seconds, the edges of the frames in it, and the mean rate."""
    mean = Fraction(fps.fps if isinstance(fps, FrameTimes) else fps).limit_denominator(1001)
    if not isinstance(fps, FrameTimes):
        if mean > 1:
            return 1 / mean, count(), mean
        unit = _mp4_unit(1 / fps)
        return unit, (round(number / fps / unit) for number in count()), mean or _MIN_RATE
    unit = _mp4_unit(np.diff(fps.edges).max())
    ticks = np.rint((fps.edges - fps.edges[0]) / float(unit)).astype(int)
    # Frames closer than a unit still have times of their own.
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))
    return unit, ticks.tolist(), mean or _MIN_RATE


def _mp4_unit(longest: float) -> Fraction:
    """The finest in which an MP4 can show a frame for so many seconds."""
    for unit in _MP4_UNITS:
        if longest / unit <= _MAX_TICKS:
            return unit
    raise ValueError(
        f"A frame is shown for {longest:g} s; expected at most {_MAX_TICKS} s, the maximum of MP4."
    )
