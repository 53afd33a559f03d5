"""Read videos, whole or in chunks, and write frames as MP4 or GIF."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, repeat, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import (
    BYTES_PER_PIXEL,
    MAX_BYTES_VARIABLE,
    StrPath,
    atomic_write,
    check_size,
    existing_path,
    import_extra,
    max_bytes,
    wrap_read_errors,
)
from captum_3dcam._validation import check_integer, check_positive

Pixels = NDArray[np.uint8]

# Only containers of a single file: a playlist could refer to other files, or to the network.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,ogg,asf,gif,apng,ivf,mxf,dv,nut,rm"
)
_ADVICE = "Read fewer frames at a time with open_video(...).chunks(...), or pass a smaller size. "
_MAX_GIF_FPS = 50  # browsers slow down faster GIFs


class Video(NamedTuple):
    """Decoded frames, (T, H, W, 3) RGB uint8, and the frame rate."""

    frames: Pixels
    fps: float

    def __repr__(self) -> str:
        return f"Video(frames={self.frames.shape}, fps={self.fps:g})"


@dataclass(frozen=True, repr=False)
class VideoFile:
    """A video file that is decoded lazily; returned by :func:`open_video`.

    Each iteration opens the file and yields its frames, (H, W, 3) RGB uint8. The file is closed
    when the iteration ends, is left or raises.
    """

    path: Path
    fps: float
    """The average frame rate."""
    frame_count: int | None
    """From the file's header, which may be slightly off; None if it has no count."""
    size: tuple[int, int]
    """(H, W) of the frames."""

    def __repr__(self) -> str:
        return (
            f"VideoFile({self.path.name!r}, size={self.size}, fps={self.fps:g}, "
            f"frame_count={self.frame_count})"
        )

    def __iter__(self) -> Iterator[Pixels]:
        with wrap_read_errors(self.path, "a video"), _open(self.path) as container:
            for frame in _decode(container):
                yield _to_rgb(frame, self.size)

    def chunks(self, length: int) -> Iterator[Pixels]:
        """Yield ``length`` frames at a time, (length, H, W, 3); the last chunk may be shorter.

        Raises ValueError for chunks of more than 2 GiB (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
        """
        length = check_integer("length", length)
        self._check_frames(min(length, self.frame_count or 1))
        frames = iter(self)
        return takewhile(len, (self._stack(islice(frames, length)) for _ in repeat(None)))

    def _stack(self, frames: Iterable[Pixels]) -> Pixels:
        """The frames as one array, (T, H, W, 3)."""
        decoded: list[Pixels] = []
        for frame in frames:
            self._check_frames(len(decoded) + 1)  # the header's count may be wrong
            decoded.append(frame)
        array = np.empty((len(decoded), *self.size, 3), np.uint8)
        decoded.reverse()
        for row in array:  # unlike np.stack, this frees each frame when it is copied
            row[:] = decoded.pop()
        return array

    def _check_frames(self, count: int) -> None:
        height, width = self.size
        content = f"{count} or more frames of {width} x {height} pixels"
        check_size(self.path, 3 * count * height * width, content, _ADVICE)


def open_video(path: StrPath, size: tuple[int | None, int | None] = (None, None)) -> VideoFile:
    """Open a video with PyAV and decode it frame by frame, so that it need not fit in memory.

    Frames are rotated upright, as the file's metadata says, and resized to ``size`` (H, W). If one
    of the two is None, the aspect ratio is kept; if both are, the size.

    Raises ImportError without PyAV (extra ``video``), FileNotFoundError, and ValueError for a file
    that is not a video, or whose frames have more than 2^26 pixels (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_video(np.zeros((50, 32, 48, 3), np.uint8), f"{folder}/long.mp4", fps=25)
    ...     video = open_video(f"{folder}/long.mp4", size=(16, None))
    ...     [chunk.shape for chunk in video.chunks(32)]
    [(32, 16, 24, 3), (18, 16, 24, 3)]
    >>> video
    VideoFile('long.mp4', size=(16, 24), fps=25, frame_count=50)
    """
    _import_av()
    path = existing_path(path, "video file")
    with wrap_read_errors(path, "a video"), _open(path) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream.")
        stream = container.streams.video[0]
        _check_frame_size(path, stream.width, stream.height)
        rate = stream.average_rate or stream.guessed_rate
        first = next(_decode(container), None)
        if first is None or not rate:
            raise ValueError("it has no frames or no frame rate.")
        height, width = first.height, first.width
        if _quarter_turns(first) % 2:
            height, width = width, height
        return VideoFile(
            path, float(rate), max(stream.frames, 0) or None, _fit(size, height, width)
        )


def read_video(path: StrPath, size: tuple[int | None, int | None] = (None, None)) -> Video:
    """Decode all frames of a video file; the arguments are those of :func:`open_video`.

    Raises what :func:`open_video` raises, and ValueError for more than 2 GiB of frames (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    video = open_video(path, size)
    (frames,) = video.chunks(sys.maxsize)
    return Video(frames, video.fps)


def write_video(frames: Iterable[Pixels], path: StrPath, fps: float) -> None:
    """Write RGB frames as MP4 (with PyAV) or GIF (with Pillow), depending on the suffix.

    MP4 needs even sizes: the last row or column of an odd size is repeated.

    Args:
        frames: (T, H, W, 3) uint8, or an iterable of (H, W, 3), which MP4 consumes frame by frame.
        path: the file to write, ``.mp4`` or ``.gif``.
        fps: frames per second, at most 50 for GIF.

    Raises ImportError without PyAV (extra ``video``) for MP4, FileNotFoundError if the folder does
    not exist, and ValueError for another suffix, frame rate, dtype or shape, and without frames.
    """
    with atomic_write(path, (".mp4", ".gif")) as temporary:
        check_positive("fps", fps)
        if temporary.suffix == ".mp4":
            _write_mp4(_checked(frames), temporary, fps)
        elif fps <= _MAX_GIF_FPS:
            _write_gif(_checked(frames), temporary, fps)
        else:
            raise ValueError(f"fps={fps}: expected at most {_MAX_GIF_FPS}, the maximum of a GIF.")


def _import_av() -> Any:
    return import_extra("av", "Reading video needs PyAV", "video")


def _open(path: Path) -> Any:
    # The maximum holds for the frames that FFmpeg decodes to complete the header.
    options = {"format_whitelist": _CONTAINERS, "max_pixels": str(_max_pixels())}
    # The absolute path, because FFmpeg may take the start of a relative one for a protocol.
    return _import_av().open(str(path.absolute()), options=options)


def _check_frame_size(path: Path, width: int, height: int) -> None:
    if not width * height:  # FFmpeg knows no size, or refuses it
        raise ValueError(
            f"its header has no size of frames, or one above {_max_pixels():,} pixels. To allow "
            f"more, set the environment variable {MAX_BYTES_VARIABLE}."
        )
    check_size(path, BYTES_PER_PIXEL * width * height, f"frames of {width} x {height} pixels")


def _decode(container: Any) -> Iterator[Any]:
    stream = container.streams.video[0]
    stream.codec_context.options = {"max_pixels": str(_max_pixels())}
    yield from container.decode(stream)


def _max_pixels() -> int:
    """FFmpeg's maximum for a frame, whose size may change within a video.

    It is twice that of the header, because FFmpeg counts the padding of frames.
    """
    return min(2 * max_bytes() // BYTES_PER_PIXEL, 2**31 - 1)


def _quarter_turns(frame: Any) -> int:
    """Return how many counter-clockwise quarter turns show the frame upright."""
    return round(float(frame.rotation) / 90)


def _to_rgb(frame: Any, size: tuple[int, int]) -> Pixels:
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _fit(size: tuple[int | None, int | None], height: int, width: int) -> tuple[int, int]:
    if size[0] is None and size[1] is not None:
        return max(round(height * size[1] / width), 1), size[1]
    if size[1] is None and size[0] is not None:
        return size[0], max(round(width * size[0] / height), 1)
    return size[0] or height, size[1] or width


def _checked(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """Yield the frames; raise ValueError unless all are RGB uint8 of one size, or if none are."""
    shape = None
    for number, frame in enumerate(map(np.asarray, frames)):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.shape != shape or shape[2:] != (3,) or 0 in shape:
            raise ValueError(
                f"Frame {number} is {frame.shape} of {frame.dtype}; expected RGB frames (H, W, 3) "
                f"of uint8, all of the size of the first one, {shape}."
            )
        yield frame
    if shape is None:
        raise ValueError("There are no frames to write.")


def _write_mp4(frames: Iterator[Pixels], path: Path, fps: float) -> None:
    av = import_extra("av", "Writing MP4 needs PyAV", "video")
    first = next(frames)
    height, width = first.shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"  # the format that every player supports
        for frame in chain([first], frames):
            padded = np.ascontiguousarray(np.pad(frame, padding, mode="edge"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())


def _write_gif(frames: Iterator[Pixels], path: Path, fps: float) -> None:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    # GIF durations are multiples of 10 ms: round the ends, so that errors do not accumulate.
    ends = [10 * round(100 * number / fps) for number in range(len(images) + 1)]
    durations = np.diff(ends).tolist()
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
