"""Videos of any length.

A video that fits into one window is explained in one pass. A longer one is decoded chunk by chunk,
once for each pass; its maps are kept in a temporary file. Frames are counted among those that are
sampled; their times are their own.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice, starmap
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from captum_3dcam._errors import ArgumentError
from captum_3dcam._files import check_size, max_bytes
from captum_3dcam._validation import describe, warn
from captum_3dcam.explanation._background import read_ahead
from captum_3dcam.explanation._cropping import find_placement
from captum_3dcam.explanation._explainer import Explainer, Stream
from captum_3dcam.explanation._image import frame_advice
from captum_3dcam.explanation._preprocessing import Preprocess, name_preprocessing
from captum_3dcam.explanation._scores import Prediction
from captum_3dcam.explanation._transfer import move_like
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Video, VideoFile
from captum_3dcam.io.image_sequence import DEFAULT_FPS
from captum_3dcam.models import FlowPreprocessing, Preprocessing
from captum_3dcam.sliding import shot_boundaries

_CHUNK = 16  # frames at once
_MEMORY_SHARE = 4  # what is decoded at once takes this fraction of the limit, as floats
_SHOWN_HEIGHT = 240  # pixels, of the frames in figures and the viewer
_BOUNDARY_HEIGHT = 64  # pixels, of the frames that scenes are found in
_MAX_ASPECT = 4  # of resized frames: wider ones are less high
_ADVICE = "Pass a smaller size, or smaller windows. "


class VideoSource:
    """A video, decoded as it is explained."""

    kind = "video"

    def __init__(
        self,
        video: VideoFile,
        preprocess: Preprocess,
        like: Tensor,
        boundaries: str | Sequence[int],
        progress: bool,
    ) -> None:
        self.video, self.originals = video, [video]
        self.preprocess, self.like = preprocess, like
        self.preprocessing = name_preprocessing(preprocess)
        self.boundaries = _find_boundaries(video, boundaries, progress)

    @property
    def times(self) -> FrameTimes:
        return self.video.times

    def explain(self, explainer: Explainer) -> tuple[list[list[Prediction]], Tensor]:
        window = explainer.windows.sizes
        length = window[0] + 1 if window else _CHUNK
        stream = Stream(
            lambda: read_ahead(self._chunks(length)), self.boundaries, self.video.frame_count
        )
        with TemporaryFile() as file:
            maps = _MapFile(file)
            predictions = explainer.explain_stream(
                stream, lambda part: maps.append(self._placement(part))
            )
            return [predictions], maps.read(len(predictions))[None]

    def first_frames(self, length: int) -> Tensor:
        """The model's input of the first frames, (C, T, H', W')."""
        return next(self._chunks(length))[:, :length]

    def describe(self, maps: Tensor) -> dict[str, Any]:
        """Facts for the report."""
        size, model_size = self.video.size, tuple(maps.shape[-2:])
        if isinstance(self.preprocess, Preprocessing):
            model_size = self.preprocess.input_size(size)
        return {
            "size": list(size),
            **describe_times(self.times),
            "damage": self.video.damage,
            "boundaries": list(self.boundaries),
            "model_size": list(model_size),
        }

    def advise(self, expected: int, received: int) -> str:
        """What to do about an input of other channels than the model's first convolution takes."""
        return frame_advice(expected)

    def _chunks(self, length: int) -> Iterator[Tensor]:
        """The model's input in chunks (C, T, H', W') of ``length`` frames or a few more.

        If the decoded frames are large, a chunk is decoded and preprocessed in several parts.
        """
        size = length * _float_bytes(self.video.size)
        parts = min(-(-_MEMORY_SHARE * size // max_bytes()), length)
        if isinstance(self.preprocess, Preprocessing):  # another callable may return any size
            frame = _float_bytes(self.preprocess.geometry(self.video.size).resized)
            self._check_memory(length, frame * min(length, self.video.frame_count or length))
        chunks = self.video.chunks(-(-length // parts))
        inputs: Iterator[Tensor] = map(self._preprocessed, chunks)
        if isinstance(self.preprocess, FlowPreprocessing):
            inputs = starmap(self._flow, _neighbours(chunks))
        while chunk := self._take(inputs, parts, length):
            yield torch.cat(chunk, dim=1) if len(chunk) > 1 else chunk[0]

    def _take(self, inputs: Iterator[Tensor], parts: int, length: int) -> list[Tensor]:
        taken: list[Tensor] = []
        for part in islice(inputs, parts):
            taken.append(part)
            self._check_memory(length, sum(part.nbytes for part in taken))
        return taken

    def _check_memory(self, length: int, size: int) -> None:
        content = f"windows of {length - 1} frames as floats"
        check_size(self.video.path, size, content, _ADVICE)

    def _preprocessed(self, frames: NDArray[np.uint8]) -> Tensor:
        """Frames (T, H, W, 3) as the model's input (C, T, H', W')."""
        inputs = self.preprocess(torch.from_numpy(frames.copy()).movedim(-1, 0))
        if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] != len(frames):
            raise ArgumentError(
                f"The preprocessing turns {len(frames)} frames into {describe(inputs)}; "
                "expected a tensor (C, T, H, W) with as many frames."
            )
        return move_like(inputs, self.like)

    def _flow(
        self, before: NDArray[np.uint8], frames: NDArray[np.uint8], after: NDArray[np.uint8]
    ) -> Tensor:
        """The flow of frames as in one piece: that of the last one leads to the next chunk."""
        inputs = self._preprocessed(np.concatenate([before, frames, after]))
        return inputs[:, len(before) : len(before) + len(frames)]

    @cached_property
    def _placement(self) -> Callable[[Tensor], Tensor]:
        """What puts maps of the model's input over the whole frames, which it may crop."""
        frames = torch.zeros(1, *self.video.size, 3, dtype=torch.uint8)
        if not isinstance(self.preprocess, Preprocessing):  # a function is tried on real frames
            frames = torch.from_numpy(next(iter(self.video.chunks(_CHUNK))).copy())
        return find_placement(self.preprocess, frames.movedim(-1, 0))


def _neighbours(
    chunks: Iterator[NDArray[np.uint8]],
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each chunk between the last frame before it and the first one after it, if there are any.

    >>> pieces = _neighbours(iter(np.arange(4, dtype=np.uint8).reshape(2, 2)))
    >>> [[part.tolist() for part in parts] for parts in pieces]
    [[[], [0, 1], [2]], [[1], [2, 3], []]]
    """
    chunk = next(chunks, None)
    before = None if chunk is None else chunk[:0]
    while chunk is not None and before is not None:
        following = next(chunks, None)
        yield before, chunk, chunk[:0] if following is None else following[:1]
        before, chunk = chunk[-1:], following


def known_rate(fps: float | None) -> float:
    """The frames per second, or a usual rate with a warning."""
    if fps is not None:
        return fps
    warn(
        f"The frame rate is not known: {DEFAULT_FPS:g} frames per second are assumed. Pass "
        "reading=Reading(fps=...)."
    )
    return DEFAULT_FPS


def make_video(frames: NDArray[np.uint8], fps: float) -> Video:
    """Frames (T, H, W, 3) at their rate."""
    times = FrameTimes.from_rate(len(frames), fps)
    return Video(frames, times.fps, times)


def describe_times(times: FrameTimes) -> dict[str, Any]:
    """When each frame is shown."""
    return {
        "frames": len(times),
        "fps": round(times.fps, 6),
        "times": times.edges.round(6).tolist(),
    }


def resized(video: VideoFile, height: int) -> VideoFile:
    """The video with frames of at most this height, and less of very wide ones."""
    own_height, own_width = video.size
    if own_width > _MAX_ASPECT * own_height:
        return video.resized((None, min(_MAX_ASPECT * height, own_width)))
    return video.resized((min(height, own_height), None))


def every_nth_frame(video: VideoFile, step: int) -> NDArray[np.uint8]:
    """Every ``step``-th frame as it is shown, at most 240 pixels high."""
    return np.stack(list(islice(resized(video, _SHOWN_HEIGHT), 0, None, step)))


def _find_boundaries(
    video: VideoFile, boundaries: str | Sequence[int], progress: bool
) -> Sequence[int]:
    if not isinstance(boundaries, str):
        return boundaries
    if boundaries == "none":
        return []
    small = resized(video, _BOUNDARY_HEIGHT)
    count = small.frame_count
    frames = tqdm(small, "finding scenes", count, unit="frame", disable=not progress)
    return shot_boundaries(torch.from_numpy(frame).movedim(-1, 0)[:, None] for frame in frames)


def _float_bytes(size: tuple[int, int]) -> int:
    """The memory of an RGB frame of the size (H, W), as float32."""
    return 3 * size[0] * size[1] * torch.float32.itemsize


class _MapFile:
    """Maps (M, t, H, W), appended one by one to a file."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.size: tuple[int, ...] = ()

    def append(self, maps: Tensor) -> None:
        array = np.ascontiguousarray(maps.float().movedim(1, 0).numpy())
        self.size = array.shape[1:]
        self.file.write(array.data)

    def read(self, count: int) -> Tensor:
        """All maps, as ``count`` of equal length: (count, M, T, H, W), memory-mapped."""
        self.file.flush()
        # Copy-on-write: PyTorch has no read-only tensors.
        array = np.memmap(self.file, np.float32, "c").reshape(count, -1, *self.size)
        return torch.from_numpy(array).movedim(2, 1)
