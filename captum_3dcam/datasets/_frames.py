"""Frames of videos on disk: numbered images in a folder, or a video file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._files import check_size
from captum_3dcam.datasets._files import Problem, collect_problems
from captum_3dcam.io import open_video, read_image, read_video

MAX_FRAMES = 2**20  # per video: 11 hours. Guards the list of clips against damaged numbers

_SUFFIXES = (".jpg", ".jpeg", ".png")
# MPEG-4 may end with frames that repeat the last one: the header counts them, but decoders do
# not return them.
_MAX_MISSING_FRAMES = 2


class VideoSize(NamedTuple):
    """The number of frames of a video, and their height and width."""

    frames: int
    image: tuple[int, int]


@dataclass(frozen=True)
class FrameSource:
    """The frames of one video: a folder of images or, if there is none, a video file.

    The names of the images (JPEG or PNG) end with consecutive numbers that start at 1 or 0, as in
    00001.jpg or img_00001.jpg; frame 0 is the first one. Video files need PyAV (extra ``video``).
    All methods raise FileNotFoundError if there is neither, and ValueError for damaged data.
    """

    folder: Path
    file: Path | None = None

    @property
    def path(self) -> Path:
        """The folder or file that is read."""
        return self.folder if self.file is None or self.folder.is_dir() else self.file

    def count(self) -> int:
        """The number of frames; for a video file, the number in its header."""
        return len(_list_images(self.folder)) if self._is_folder() else _count_frames(self.path)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Read frames [start, stop) as RGB, (stop - start, H, W, 3) uint8."""
        if self._is_folder():
            paths = _list_images(self.folder)
            _check_end(self.folder, len(paths), stop)
            return _read_images(paths[start:stop])
        frames = _decode(self.path, self.path.stat().st_mtime_ns)
        _check_end(self.path, len(frames), stop - _MAX_MISSING_FRAMES)
        return frames[np.minimum(np.arange(start, stop), len(frames) - 1)]

    def measure(self, problems: list[Problem]) -> VideoSize | None:
        """Read every frame; append what is wrong to ``problems``, and return None in that case."""
        count_before, size = len(problems), None
        with collect_problems(problems, self.path):
            if self._is_folder():
                size = _measure_images(_list_images(self.folder), problems)
            else:
                frames = self.read(0, self.count())
                size = VideoSize(len(frames), frames.shape[1:3])
        return size if len(problems) == count_before else None

    def _is_folder(self) -> bool:
        if self.folder.is_dir():
            return True
        if self.file is not None and self.file.is_file():
            return False
        or_file = "" if self.file is None else f", and no video file {str(self.file)!r}"
        raise FileNotFoundError(f"There is no folder of frames {str(self.folder)!r}{or_file}.")


def read_stored_image(path: Path) -> NDArray[np.uint8]:
    """Read an image without its EXIF orientation: annotated boxes refer to the stored pixels."""
    return read_image(path, apply_orientation=False)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """RGB (..., H, W, 3) uint8 -> (3, ..., H, W) in [0, 1]."""
    values = np.moveaxis(pixels, -1, 0).astype(np.float32, order="C")
    values /= 255
    return torch.from_numpy(values)


def _list_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their numbers, of which none may be missing."""
    numbered: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        digits = re.search(r"[0-9]+$", path.stem)
        # macOS and Samba leave hidden companions, ._00001.jpg.
        if digits is None or path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        other = numbered.setdefault(int(digits[0]), path)
        if other != path:
            raise ValueError(
                f"The folder {str(folder)!r} has two images with the same number, {other.name!r} "
                f"and {path.name!r}. Put the images of each video into a folder of their own."
            )
    if not numbered:
        raise ValueError(
            f"The folder {str(folder)!r} has no images whose names end with a number, as in "
            "00001.jpg."
        )
    first = min(min(numbered), 1)
    for number in range(first, first + len(numbered)):
        if number not in numbered:
            raise ValueError(
                f"The folder {str(folder)!r} has {len(numbered)} images, numbered up to "
                f"{max(numbered)}, but number {number} is missing."
            )
    return [numbered[number] for number in sorted(numbered)]


def _read_images(paths: Sequence[Path]) -> NDArray[np.uint8]:
    first = read_stored_image(paths[0])
    height, width, _ = first.shape
    content = f"{len(paths)} images of {width} x {height} pixels"
    check_size(paths[0].parent, len(paths) * first.nbytes, content)
    frames = np.empty((len(paths), *first.shape), np.uint8)
    frames[0] = first
    for frame, path in zip(frames[1:], paths[1:], strict=True):
        frame[:] = _read_frame(path, (height, width))
    return frames


def _measure_images(paths: Sequence[Path], problems: list[Problem]) -> VideoSize:
    size = None
    for path in paths:
        with collect_problems(problems, path):
            size = _read_frame(path, size).shape[:2]
    return VideoSize(len(paths), size or (0, 0))


def _read_frame(path: Path, size: tuple[int, ...] | None) -> NDArray[np.uint8]:
    image = read_stored_image(path)
    height, width, _ = image.shape
    if size is not None and (height, width) != size:
        raise ValueError(
            f"The image {str(path)!r} has {width} x {height} pixels; the images before it in the "
            f"same video have {size[1]} x {size[0]}."
        )
    return image


def _count_frames(path: Path) -> int:
    """The number of frames in the header or, if there is none, of decoded frames."""
    frames = open_video(path).frame_count
    if frames is None:
        return len(_decode(path, path.stat().st_mtime_ns))
    if frames > MAX_FRAMES:
        raise ValueError(f"{str(path)!r} claims to have {frames} frames: its header is damaged.")
    return frames


@lru_cache(maxsize=1)  # consecutive clips are usually from the same video
def _decode(path: Path, modified: int) -> NDArray[np.uint8]:
    return read_video(path).frames


def _check_end(path: Path, frames: int, stop: int) -> None:
    if stop > frames:
        raise ValueError(f"{str(path)!r} ends after {frames} frames.")
