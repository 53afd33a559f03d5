"""VideoDataset, which the datasets of videos derive from."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam._files import check_size
from captum_3dcam._validation import check_integer
from captum_3dcam.datasets._files import Problem, check_index
from captum_3dcam.datasets._frames import FrameSource, VideoSize, to_tensor
from captum_3dcam.datasets.clips import VideoClip

_ADVICE = "Pass a smaller clip_length. "


class GroundTruth(NamedTuple):
    """The annotation of some frames: boxes (A, T, 4), and masks (A, T, H, W) or None."""

    boxes: Tensor
    masks: Tensor | None


class ClipSpan(NamedTuple):
    """Frames [start, stop) of the video with the index ``video``; None is its end."""

    video: int
    start: int
    stop: int | None


class VideoDataset(Dataset[VideoClip]):
    """Videos ``<class>/<video>``, cut into consecutive clips of ``clip_length`` frames.

    The last clip of a video is padded; with ``clip_length=None`` each video is one clip. Clips of
    different videos differ in size, so a DataLoader needs ``batch_size=None``. Subclasses override
    :meth:`_frame_source`, :meth:`_ground_truth` and :meth:`_check_ground_truth`.

    ``split`` is None if the dataset has only one. ``lengths`` are the videos' numbers of frames, if
    the annotations have them. By default the frames are counted; a video for which this fails has
    one clip, and reading it raises.
    """

    def __init__(
        self,
        root: Path,
        subset: str,
        split: int | None,
        classes: Sequence[str],
        videos: Sequence[str],
        clip_length: int | None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if clip_length is not None:
            clip_length = check_integer("clip_length", clip_length)
        self.root, self.subset, self.split = root, subset, split
        self.classes, self.videos, self.clip_length = tuple(classes), tuple(videos), clip_length
        label_of = {name: label for label, name in enumerate(classes)}
        self.labels = tuple(label_of[video.split("/")[0]] for video in videos)
        self._sources = [self._frame_source(video) for video in videos]
        self.clips = list(_clip_spans(self._sources, clip_length, lengths))

    def __repr__(self) -> str:
        split = "" if self.split is None else f", split={self.split}"
        return (
            f"{type(self).__name__}(root={self.root.resolve().name!r}, subset={self.subset!r}"
            f"{split}, videos={len(self.videos)}, clips={len(self)})"
        )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> VideoClip:
        """Raises IndexError, FileNotFoundError, and ValueError that names a damaged file."""
        check_index(index, len(self))
        video, start, stop = self.clips[index]
        source = self._sources[video]
        stop = source.count() if stop is None else stop
        pixels = source.read(start, stop)
        check_size(source.path, 4 * pixels.size, f"{len(pixels)} frames as floats", _ADVICE)
        boxes, masks = self._ground_truth(video, start, stop, pixels.shape[1:3])
        frames = torch.arange(start, start + self.clip_length if self.clip_length else stop)
        padded = frames >= stop
        frames = frames.clamp(max=stop - 1)
        rows = frames - start
        return VideoClip(
            to_tensor(pixels[rows.numpy()]),
            self.labels[video],
            boxes[:, rows].masked_fill(padded[:, None], math.nan),
            None if masks is None else masks[:, rows] & ~padded[:, None, None],
            self.videos[video],
            frames,
            padded,
        )

    def check(self) -> list[Problem]:
        """Read all files of the dataset and return what is wrong with them."""
        problems: list[Problem] = []
        for video, source in enumerate(self._sources):
            self._check_ground_truth(video, source.measure(problems), problems)
        return problems

    def _frame_source(self, video: str) -> FrameSource:
        return FrameSource(self.root / video, self.root / f"{video}.avi")

    def _ground_truth(
        self, video: int, start: int, stop: int, size: tuple[int, int]
    ) -> GroundTruth:
        """The annotation of frames [start, stop) of a video; the frames have the size (H, W)."""
        return GroundTruth(torch.zeros(0, stop - start, 4), None)

    def _check_ground_truth(
        self, video: int, size: VideoSize | None, problems: list[Problem]
    ) -> None:
        """Append problems of a video's annotation; ``size`` is None if frames are damaged."""


def _clip_spans(
    sources: Sequence[FrameSource], clip_length: int | None, lengths: Sequence[int] | None
) -> Iterator[ClipSpan]:
    for video, source in enumerate(sources):
        if clip_length is None:
            yield ClipSpan(video, 0, None if lengths is None else lengths[video])
            continue
        length = _count(source, clip_length) if lengths is None else lengths[video]
        for start in range(0, length, clip_length):
            yield ClipSpan(video, start, min(start + clip_length, length))


def _count(source: FrameSource, default: int) -> int:
    try:
        return source.count()
    except (ValueError, FileNotFoundError):
        return default
