"""Read videos, whole or in chunks: files, folders of images, and frames in memory."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, repeat, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captum_3dcam._files import StrPath, check_size, existing_path
from captum_3dcam._validation import check_integer, show, warn
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io._frame_source import FrameSource, Pixels, Size, TimedFrame, resize
from captum_3dcam.io._video_decoder import DecodedVideo, import_av
from captum_3dcam.io.image_sequence import (
    ImageFolder,
    ImagePages,
    is_animation,
    is_paged_image,
    refuse_rate,
)
from captum_3dcam.io.sampling import Sampling

PartialSize = tuple[int | None, int | None]

_ADVICE = "Read fewer frames at a time with open_video(...).chunks(...), or pass a smaller size. "
_TOLERANCE = 1e-6  # seconds, of timestamps that their units round


class Video(NamedTuple):
    """Decoded frames, (T, H, W, 3) RGB uint8, their mean frame rate, and their times."""

    frames: Pixels
    fps: float
    times: FrameTimes

    def __repr__(self) -> str:
        return f"Video(frames={self.frames.shape}, fps={self.fps:g})"


@dataclass(frozen=True, repr=False, eq=False)
class VideoFile:
    """A video that is decoded lazily; returned by :func:`open_video`.

    Each iteration opens the file and yields its frames, (H, W, 3) RGB uint8. The file is closed
    when the iteration ends, is left or raises. The first iteration to the end of a damaged file
    warns, and says which frames are missing (:func:`open_video` does for a GIF or APNG); the others
    are at their own times.
    """

    source: FrameSource = field(kw_only=True)
    size: Size
    """(H, W) of the frames."""
    sampling: Sampling = Sampling()
    _times: list[FrameTimes] = field(default_factory=list, kw_only=True)
    """The times, once they are known; shared with the copies of other sizes."""

    def __repr__(self) -> str:
        return (
            f"VideoFile({self.path.name!r}, size={self.size}, fps={self.fps:g}, "
            f"frame_count={self.frame_count})"
        )

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.source.path

    @property
    def times(self) -> FrameTimes:
        """When each of the frames is shown, from the start of the video.

        They are known after an iteration to the end; before, this decodes the file once.
        """
        if not self._times:
            for _ in self._selected():
                pass
        return self._times[0]

    @property
    def fps(self) -> float:
        """The mean rate of the frames by their times; before these are known, by the packets'."""
        if self._times or self.sampling != Sampling():
            return self.times.fps
        return self.source.fps

    @property
    def frame_count(self) -> int | None:
        """From the file's header, which may be slightly off; None if it has no count.

        If frames are sampled, their number as far as it is known.
        """
        if self.sampling == Sampling():
            return self.source.frame_count
        return len(self._times[0]) if self._times else self.sampling.frames

    @property
    def damage(self) -> str | None:
        """Which frames are missing or damaged, as far as an iteration to the end has shown."""
        return self.source.damage

    def resized(self, size: PartialSize) -> "VideoFile":
        """The same frames in another size; see :func:`open_video`."""
        return replace(self, size=_fit(size, *self.source.size), _times=self._times)

    def __iter__(self) -> Iterator[Pixels]:
        for frame in self._selected():
            yield frame.pixels(self.size)

    def timed(self) -> Iterator[tuple[float, Pixels]]:
        """Yield each frame with the time in seconds at which it is first shown."""
        for frame in self._selected():
            yield frame.start, frame.pixels(self.size)

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

    def _selected(self) -> Iterator[TimedFrame]:
        """The sampled frames; their times are known after the last one."""
        if not self.sampling.is_spread:
            return self._strided(self.sampling.stride or 1)
        return self._spread()

    def _spread(self) -> Iterator[TimedFrame]:
        whole = replace(self.sampling, frames=None)
        every = VideoFile(self.size, whole, source=self.source)
        if not self._times:  # a pass over all frames, to know their times
            self._keep(every.times.take(self.sampling.spread(every.times.edges.tolist())))
        remaining = set(self.times.edges[:-1].tolist())
        for frame in every._selected():
            if frame.start in remaining:
                remaining.remove(frame.start)
                yield frame
            if not remaining:
                break

    def _strided(self, stride: int) -> Iterator[TimedFrame]:
        sampling, starts, number = self.sampling, list[float](), 0
        end = after = 0.0
        is_after = False
        for frame in self.source.frames():
            after = frame.start + frame.duration
            if frame.start < sampling.start - _TOLERANCE:
                continue
            is_next = number % stride == 0
            is_after = sampling.end is not None and frame.start >= sampling.end - _TOLERANCE
            if is_after or (is_next and len(starts) == sampling.frames):
                after = frame.start
                break
            if is_next:
                starts.append(frame.start)
                yield frame
            number += 1
        end = after
        if not starts:
            raise ValueError(self._no_frames(after, is_after))
        self._keep(FrameTimes([*starts, end]))

    def _no_frames(self, time: float, is_after: bool) -> str:
        reason = "none starts there, and the next one at" if is_after else "it ends at"
        return (
            f"{str(self.path)!r} has no frames {self.sampling.interval}: {reason} {time:g} s. "
            "Choose another start and end, or leave them out."
        )

    def _keep(self, times: FrameTimes) -> None:
        self._times[:] = [times]


@dataclass(frozen=True)
class _Memory:
    """A video in memory as a source of frames."""

    video: Video
    path: Path

    @property
    def size(self) -> Size:
        height, width = self.video.frames.shape[1:3]
        return height, width

    @property
    def frame_count(self) -> int:
        return len(self.video.frames)

    @property
    def fps(self) -> float:
        return self.video.fps

    @property
    def damage(self) -> None:
        return None

    def frames(self) -> Iterator[TimedFrame]:
        edges = self.video.times.edges.tolist()
        for frame, start, end in zip(self.video.frames, edges[:-1], edges[1:], strict=True):
            yield TimedFrame(start, end - start, partial(resize, frame))


def open_video(
    path: StrPath | Video,
    size: PartialSize = (None, None),
    sampling: Sampling = Sampling(),
    fps: float | None = None,
) -> VideoFile:
    """Open a video and decode it frame by frame, so that it need not fit in memory.

    It is a video file in any container of FFmpeg's that needs no other file, whatever its suffix;
    an animated GIF, APNG or WebP; a TIFF of several pages; a folder of images of one size, in the
    natural order of their names; or a :class:`Video` in memory. Of several video streams, the one
    that players show is read, with a warning. Frames of a GIF, APNG or WebP with a delay of 10 ms
    or less are shown for 100 ms, as in browsers.

    Frames are upright and have square pixels, as players show them: rotated and flipped by the
    file's display matrix, and stretched by its sample aspect ratio. They are resized to ``size``
    (H, W). If one of the two is None, the aspect ratio is kept; if both are, the size.

    Args:
        path: the file or folder, or the video in memory.
        size: (H, W).
        sampling: which frames; by default all.
        fps: the rate of images without times (a folder, a TIFF); by default 25, with a warning.

    Raises ImportError without PyAV (extra ``video``), FileNotFoundError, and ValueError for a file
    that is not a video, or whose frames have more than 2^26 pixels (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set), and for ``fps`` with a video that has times.

    >>> from tempfile import TemporaryDirectory
    >>> from captum_3dcam.io import write_video
    >>> with TemporaryDirectory() as folder:
    ...     write_video(np.zeros((50, 32, 48, 3), np.uint8), f"{folder}/long.mp4", fps=25)
    ...     video = open_video(f"{folder}/long.mp4", size=(16, None))
    ...     [chunk.shape for chunk in video.chunks(32)]
    [(32, 16, 24, 3), (18, 16, 24, 3)]
    >>> video
    VideoFile('long.mp4', size=(16, 24), fps=25, frame_count=50)
    """
    source = _open_source(path, fps)
    return VideoFile(_fit(size, *source.size), sampling, source=source)


def _open_source(path: StrPath | Video, fps: float | None) -> FrameSource:
    if isinstance(path, Video):
        refuse_rate(fps, "the video")
        return _Memory(path, Path("video"))
    if Path(path).is_dir():
        return ImageFolder.open(Path(path), fps)
    if Path(path).is_file() and is_paged_image(Path(path)):
        return ImagePages.open(Path(path), fps)
    import_av()
    path = existing_path(path, "video file")
    refuse_rate(fps, repr(str(path)))
    source = DecodedVideo.open(path)
    if source.choice:
        warn(f"{path.name!r} {source.choice}")
    return source


def read_video(
    path: StrPath | Video,
    size: PartialSize = (None, None),
    sampling: Sampling = Sampling(),
    fps: float | None = None,
) -> Video:
    """Decode all frames of a video; the arguments are those of :func:`open_video`.

    Raises what :func:`open_video` raises, and ValueError for more than 2 GiB of frames (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    video = open_video(path, size, sampling, fps)
    (frames,) = video.chunks(sys.maxsize)
    return Video(frames, video.times.fps, video.times)


def _fit(size: PartialSize, height: int, width: int) -> Size:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"size={show(size)}: expected (H, W); None for one keeps the aspect ratio.")
    for side in size:
        if side is not None:
            check_integer("size", side)
    if size[0] is None and size[1] is not None:
        return max(round(height * size[1] / width), 1), size[1]
    if size[1] is None and size[0] is not None:
        return size[0], max(round(width * size[0] / height), 1)
    return size[0] or height, size[1] or width


def is_video(path: StrPath) -> bool:
    """Whether a file is a GIF, an animated WebP, or for PyAV (if installed) a video."""
    if is_animation(Path(path)):
        return True
    try:
        DecodedVideo.open(Path(path))
    except (ImportError, ValueError):
        return False
    return True
