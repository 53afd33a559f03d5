"""Videos cut into clips: the sample, the windows, and what the datasets of videos share."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam.datasets._files import Problem
from captum_3dcam.datasets._frames import Footage, FrameSource, to_tensor
from captum_3dcam.localization import Tube


class VideoClip(NamedTuple):
    """A clip of a video and its truth; A actors, T frames."""

    clip: Tensor
    """(3, T, H, W), RGB in [0, 1]."""
    label: int
    """An index into the dataset's ``classes``."""
    boxes: Tensor
    """(A, T, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive; nan where there is none."""
    masks: Tensor | None
    """(A, T, H, W), bool, where the dataset has masks."""
    video: str
    """The video's name, one of the dataset's ``videos``."""
    frames: Tensor
    """(T,) the frames' numbers in the video, from 0."""
    padded: Tensor
    """(T,) bool: the video is over, and its last frame repeated. No boxes and no masks there."""

    @property
    def tubes(self) -> list[Tube]:
        """The boxes as tubes, one for each unbroken run of an actor's, each with a score of 1.

        Frames count from the clip's first.

        >>> boxes = torch.ones(1, 5, 4)
        >>> boxes[0, 2] = math.nan
        >>> nothing = torch.zeros(0)
        >>> clip = VideoClip(nothing, 0, boxes, None, "", nothing, nothing)
        >>> [(tube.start, tube.end) for tube in clip.tubes]
        [(0, 2), (3, 5)]
        """
        return [
            Tube(start, boxes[start:stop], score=1.0)
            for boxes in self.boxes
            for start, stop in _runs(~boxes.isnan().any(dim=-1))
        ]


class Truth(NamedTuple):
    """What a dataset knows of some frames: boxes (A, T, 4), and masks (A, T, H, W) or None."""

    boxes: Tensor
    masks: Tensor | None


class Video(NamedTuple):
    """One video of a dataset."""

    name: str
    label: int
    source: FrameSource


class Window(NamedTuple):
    """Frames [start, stop) of the dataset's video number ``video``; to its end if None."""

    video: int
    start: int
    stop: int | None


class VideoDataset(Dataset[VideoClip]):
    """Videos as clips of ``clip_length`` frames, one after the other, that do not overlap.

    The last clip of a video is padded with its last frame; with ``clip_length=None`` a video is
    one clip. Clips differ in size, so a DataLoader takes them one by one, with
    ``batch_size=None``. A dataset adds its truth with :meth:`_truth` and :meth:`_check_truth`.

    Args:
        classes: the names that labels are indices into.
        videos: the videos, in order.
        clip_length: 1 or more, or None.
        lengths: the videos' frames, where the annotation has them; by default they are counted.
            A video that cannot be counted has one clip, which raises when it is read.

    Raises:
        ValueError: for another clip_length.
    """

    def __init__(
        self,
        classes: Sequence[str],
        videos: Sequence[Video],
        clip_length: int | None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if clip_length is not None and not (
            isinstance(clip_length, int | np.integer) and clip_length > 0
        ):
            raise ValueError(
                f"clip_length={clip_length!r}: expected an integer, 1 or more, or None for "
                "whole videos."
            )
        self.classes = tuple(classes)
        self.videos = tuple(video.name for video in videos)
        self.labels = tuple(video.label for video in videos)
        self.clip_length = clip_length
        self._sources = tuple(video.source for video in videos)
        self.clips = list(_windows(self._sources, clip_length, lengths))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> VideoClip:
        """Raises IndexError, FileNotFoundError, and ValueError for damaged files, with names."""
        if not 0 <= index < len(self):
            raise IndexError(f"Sample {index} was asked for; there are {len(self)}, from 0.")
        video, start, stop = self.clips[index]
        source = self._sources[video]
        stop = source.count() if stop is None else stop
        pixels = source.read(start, stop)
        boxes, masks = self._truth(video, start, stop, pixels.shape[1:3])
        clip = VideoClip(
            to_tensor(pixels),
            self.labels[video],
            boxes,
            masks,
            self.videos[video],
            frames=torch.arange(start, stop),
            padded=torch.zeros(stop - start, dtype=torch.bool),
        )
        return _pad(clip, (self.clip_length or 0) - (stop - start))

    def check(self) -> list[Problem]:
        """All that is wrong with the dataset's files, which are all read; [] if nothing is."""
        problems: list[Problem] = []
        for video, source in enumerate(self._sources):
            self._check_truth(video, source.inspect(problems), problems)
        return problems

    def _truth(self, video: int, start: int, stop: int, size: tuple[int, int]) -> Truth:
        """The truth of frames [start, stop) of a video, whose pictures are of ``size``."""
        return Truth(torch.zeros(0, stop - start, 4), None)

    def _check_truth(self, video: int, footage: Footage | None, problems: list[Problem]) -> None:
        """Add what is wrong with a video's truth; ``footage`` is None for damaged frames."""


def _windows(
    sources: Sequence[FrameSource], clip_length: int | None, lengths: Sequence[int] | None
) -> Iterator[Window]:
    for video, source in enumerate(sources):
        if clip_length is None:
            yield Window(video, 0, None if lengths is None else lengths[video])
            continue
        length = _count(source, clip_length) if lengths is None else lengths[video]
        for start in range(0, length, clip_length):
            yield Window(video, start, min(start + clip_length, length))


def _count(source: FrameSource, unknown: int) -> int:
    try:
        return source.count()
    except (ValueError, FileNotFoundError):
        return unknown


def _pad(clip: VideoClip, missing: int) -> VideoClip:
    """The clip with its last frame repeated, without a truth."""
    if missing <= 0:
        return clip
    return clip._replace(
        clip=torch.cat([clip.clip, clip.clip[:, -1:].repeat(1, missing, 1, 1)], dim=1),
        boxes=_lengthen(clip.boxes, missing, math.nan),
        masks=None if clip.masks is None else _lengthen(clip.masks, missing, False),
        frames=torch.cat([clip.frames, clip.frames[-1:].repeat(missing)]),
        padded=torch.cat([clip.padded, clip.padded.new_ones(missing)]),
    )


def _lengthen(x: Tensor, frames: int, value: float) -> Tensor:
    """(A, T, ...) with more frames of a value."""
    return torch.cat([x, x.new_full((len(x), frames, *x.shape[2:]), value)], dim=1)


def _runs(present: Tensor) -> Iterable[tuple[int, int]]:
    """The [start, stop) of the unbroken runs of True in (T,)."""
    outside = torch.zeros(1, dtype=torch.int8)
    steps = torch.diff(present.to(torch.int8), prepend=outside, append=outside)
    starts, stops = (steps == 1).nonzero(), (steps == -1).nonzero()
    return zip(starts.flatten().tolist(), stops.flatten().tolist(), strict=True)
