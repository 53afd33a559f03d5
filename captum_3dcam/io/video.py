"""Videos in, whole or piece by piece, and frames out as MP4 or GIF."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.io._files import (
    StrPath,
    atomic_write,
    existing_path,
    import_extra,
    wrap_read_errors,
)

Pixels = NDArray[np.uint8]

# Containers of one file: a playlist could name other files, or the network.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,ogg,asf,gif,apng,ivf,mxf,dv,nut,rm"
)
_MAX_PIXELS = 2**26  # a frame
_MAX_BYTES = 2**33  # a video that is read whole
_FASTEST_GIF = 50  # frames a second; browsers slow down what is faster


class Video(NamedTuple):
    """Decoded frames, (T, H, W, 3) RGB bytes, and their rate in frames per second."""

    frames: Pixels
    fps: float


@dataclass(frozen=True)
class VideoFile:
    """A video on disk, decoded anew each time that one goes through it, a piece at a time.

    Going through it opens the file; leaving the loop, however that happens, closes it.
    """

    path: Path
    fps: float
    """Frames per second, on average."""
    frame_count: int | None
    """As the file's header has it, which may be a little off; None where it does not say."""
    size: tuple[int, int]
    """Height and width of the frames as they come."""

    def __iter__(self) -> Iterator[Pixels]:
        """The frames, (H, W, 3) RGB bytes each."""
        with wrap_read_errors(self.path, "a video"), _open(self.path) as container:
            for frame in _decode(container):
                yield _pixels(frame, self.size)

    def chunks(self, length: int) -> Iterator[Pixels]:
        """``length`` frames at a time, (length, H, W, 3) RGB bytes; the last chunk may be shorter.

        Raises ValueError for a length below 1, and for data that cannot be decoded.
        """
        if length < 1:
            raise ValueError(f"length={length}: a chunk has at least one frame.")
        return self._chunks(length)

    def _chunks(self, length: int) -> Iterator[Pixels]:
        frames = iter(self)
        while chunk := list(islice(frames, length)):
            yield np.stack(chunk)


def open_video(path: StrPath, size: tuple[int | None, int | None] = (None, None)) -> VideoFile:
    """Look into a video file with PyAV, to decode it piece by piece; never is all in memory.

    Frames are turned upright, as phones note it, and rescaled to ``size`` (H, W). None keeps the
    video's own height or width; with the other one given, its aspect ratio.

    Raises ImportError without PyAV (the extra ``video``), FileNotFoundError, and ValueError for
    a file that is no video.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_video(np.zeros((50, 32, 48, 3), np.uint8), f"{folder}/long.mp4", fps=25)
    ...     video = open_video(f"{folder}/long.mp4", size=(16, None))
    ...     [chunk.shape for chunk in video.chunks(32)]
    [(32, 16, 24, 3), (18, 16, 24, 3)]
    """
    _import_av()
    found = existing_path(path, "video file")
    with wrap_read_errors(path, "a video"), _open(found) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures.")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        first = next(_decode(container), None)
        if first is None or not rate:
            raise ValueError("it holds no frames, or does not say at what rate they come.")
        height, width = first.height, first.width
        upright = (width, height) if _quarter_turns(first) % 2 else (height, width)
        promised = int(stream.frames)
        return VideoFile(
            found, float(rate), promised if promised > 0 else None, _fit(size, *upright)
        )


def read_video(path: StrPath, size: tuple[int | None, int | None] = (None, None)) -> Video:
    """Decode all frames of a video file, upright, and rescaled to ``size`` (H, W).

    As :func:`open_video`, with the same errors, and ValueError for more than 8 GiB of frames.
    """
    video = open_video(path, size)
    frames: list[Pixels] = []
    for frame in video:
        frames.append(frame)
        if len(frames) * frame.nbytes > _MAX_BYTES:
            raise ValueError(
                f"{str(path)!r} has more than {_MAX_BYTES >> 30} GiB of frames. Go through "
                "open_video(...).chunks(...), or ask for a smaller size."
            )
    return Video(np.stack(frames), video.fps)


def write_video(frames: Iterable[Pixels], path: StrPath, fps: float) -> None:
    """Write RGB bytes as a video, MP4 (with PyAV) or GIF (with Pillow) by the path's suffix.

    ``frames`` is (T, H, W, 3), or any iterable of (H, W, 3), of which an MP4 holds one at a time.
    In an MP4, which needs even sizes, an odd height or width gets its last row or column twice.
    The file appears when it is whole; one that was there before is replaced.

    Raises ImportError without PyAV (the extra ``video``) for MP4, FileNotFoundError without the
    folder, and ValueError for another suffix, for frames that are not RGB bytes of one size, for
    none at all, and for a rate that is not positive or, in a GIF, above 50.
    """
    with atomic_write(path, (".mp4", ".gif")) as beside:
        gif = beside.suffix == ".gif"
        if not 0 < fps < math.inf or (gif and fps > _FASTEST_GIF):
            most = f" up to {_FASTEST_GIF}, the most that a GIF shows" if gif else ""
            raise ValueError(f"fps={fps}: expected a positive number of frames a second{most}.")
        (_write_gif if gif else _write_mp4)(_checked(frames), beside, fps)


def _import_av() -> Any:
    """PyAV; ImportError names the extra that has it."""
    return import_extra("av", "Reading video needs PyAV", "video")


# ----------------------------------------------------------------------------------- decoding


def _open(path: Path) -> Any:
    # A whole path, so that no part of a name reads as a protocol.
    return _import_av().open(str(path.absolute()), options={"format_whitelist": _CONTAINERS})


def _decode(container: Any) -> Iterator[Any]:
    stream = container.streams.video[0]
    stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
    yield from container.decode(stream)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise, to show the frame upright."""
    degrees: float = frame.rotation
    return round(degrees / 90)


def _pixels(frame: Any, size: tuple[int, int]) -> Pixels:
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


# ----------------------------------------------------------------------------------- encoding


def _checked(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """The frames; ValueError for one that is not RGB bytes of the first one's size, or for none."""
    shape = None
    for number, given in enumerate(frames):
        frame = np.asarray(given)
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.shape != shape or shape[2:] != (3,) or 0 in shape:
            raise ValueError(
                f"Frame {number} is {frame.shape} of {frame.dtype}; expected (H, W, 3) RGB bytes "
                f"(uint8), all of one size, and the first is {shape}."
            )
        yield frame
    if shape is None:
        raise ValueError("There are no frames to write.")


def _write_mp4(frames: Iterator[Pixels], path: Path, fps: float) -> None:
    av = import_extra("av", "Writing MP4 needs PyAV", "video")
    first = next(frames)
    height, width = first.shape[:2]
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"  # what every player shows
        for frame in chain([first], frames):
            padded = np.ascontiguousarray(np.pad(frame, odd, mode="edge"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())


def _write_gif(frames: Iterator[Pixels], path: Path, fps: float) -> None:
    from PIL import Image

    def images() -> Iterator[Image.Image]:
        for number, frame in enumerate(frames):
            image = Image.fromarray(frame)
            # A GIF counts hundredths of a second: rounded so that the errors do not add up.
            ends = (round(100 * n / fps) for n in (number, number + 1))
            image.info["duration"] = -10 * (next(ends) - next(ends))
            yield image

    shown = images()
    with path.open("wb") as file:
        next(shown).save(file, "GIF", save_all=True, append_images=shown, loop=0)
