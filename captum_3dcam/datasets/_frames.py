"""The pictures of videos on disk: numbered files in a folder, or a video file."""

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

from captum_3dcam._files import existing_path, wrap_read_errors
from captum_3dcam.datasets._files import Problem, noted
from captum_3dcam.io import open_video, read_video

Pixels = NDArray[np.uint8]

_SUFFIXES = (".jpg", ".jpeg", ".png")
_MAX_PIXELS = 2**26  # a picture; the largest of ImageNet has 61 million
_MAX_FRAMES = 2**20  # a video; 11 hours
# MPEG-4 may end on frames that repeat the last one: a container counts them, no decoder shows them.
_UNSEEN = 2


class Footage(NamedTuple):
    """The measures of a video."""

    frames: int
    size: tuple[int, int]
    """Height and width."""


@dataclass(frozen=True)
class FrameSource:
    """Where the pictures of one video are: in a folder or, if there is none, in a video file.

    The folder's pictures (JPEG or PNG) end on consecutive numbers, from 1 or 0 on, as in
    00001.jpg or img_00001.jpg; frame 0 is the first one. Video files need PyAV (extra ``video``).
    """

    folder: Path
    file: Path | None = None

    @property
    def path(self) -> Path:
        """The one that counts."""
        return self.folder if self.file is None or self.folder.is_dir() else self.file

    def count(self) -> int:
        """The number of frames; of a video file, as its header has it.

        Raises FileNotFoundError if nothing is there, and ValueError for a folder without
        pictures or with gaps, and for a file that is no video.
        """
        return len(_pictures(self.folder)) if self._is_folder() else _promised(self.path)

    def read(self, start: int, stop: int) -> Pixels:
        """Frames [start, stop) as RGB bytes (stop - start, H, W, 3).

        Raises as :meth:`count`, and ValueError for damaged pictures, for pictures of different
        sizes, and where the video ends before ``stop``.
        """
        if self._is_folder():
            pictures = _pictures(self.folder)
            _check_end(self.folder, len(pictures), stop)
            return _stack([(path, read_image(path)) for path in pictures[start:stop]])
        frames = _decode(self.path, self.path.stat().st_mtime_ns)
        _check_end(self.path, len(frames), stop - _UNSEEN)
        return frames[np.minimum(np.arange(start, stop), len(frames) - 1)]

    def inspect(self, problems: list[Problem]) -> Footage | None:
        """Read every frame, add what is wrong to ``problems``; the measures if nothing is."""
        before = len(problems)
        footage = None
        with noted(problems, self.path):
            if self._is_folder():
                footage = _inspect(_pictures(self.folder), problems)
            else:
                frames = self.read(0, self.count())
                footage = Footage(len(frames), frames.shape[1:3])
        return footage if len(problems) == before else None

    def _is_folder(self) -> bool:
        """Whether it is the folder that counts; FileNotFoundError if nothing is there."""
        if self.folder.is_dir():
            return True
        if self.file is not None and self.file.is_file():
            return False
        or_file = "" if self.file is None else f", and no video file {str(self.file)!r}"
        raise FileNotFoundError(f"There is no folder of frames {str(self.folder)!r}{or_file}.")


def read_image(path: Path) -> Pixels:
    """A JPEG or PNG file as RGB bytes (H, W, 3), as they lie in the file.

    A note on how to turn it (EXIF) is not followed: the boxes of datasets are of these pixels.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another format, or
    of more than 2^26 pixels.
    """
    from PIL import Image

    existing_path(path, "picture")
    # No other formats: some of their decoders run programs.
    with wrap_read_errors(path, "JPEG or PNG"), Image.open(path, formats=("JPEG", "PNG")) as image:
        _check_pixels(*image.size)
        return np.asarray(image.convert("RGB"))


def _check_pixels(width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many.")


def to_tensor(pixels: Pixels) -> Tensor:
    """RGB bytes (..., H, W, 3) -> (3, ..., H, W) in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).movedim(-1, 0).contiguous()


# ---------------------------------------------------------------------------- numbered files


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers, which may have no gaps."""
    numbered: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        digits = re.search(r"[0-9]+$", path.stem)
        # macOS and Samba leave hidden companions, ._00001.jpg.
        if digits is None or path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        twin = numbered.setdefault(int(digits[0]), path)
        if twin != path:
            raise ValueError(
                f"The folder {str(folder)!r} has two pictures of one number, {twin.name!r} and "
                f"{path.name!r}. Keep the pictures of one video alone in a folder."
            )
    if not numbered:
        raise ValueError(
            f"The folder {str(folder)!r} has no pictures that end on a number, as 00001.jpg does."
        )
    first = min(min(numbered), 1)
    for number in range(first, first + len(numbered)):
        if number not in numbered:
            raise ValueError(
                f"The folder {str(folder)!r} has {len(numbered)} pictures, up to number "
                f"{max(numbered)}, and none of number {number}."
            )
    return [numbered[number] for number in sorted(numbered)]


def _stack(pictures: Sequence[tuple[Path, Pixels]]) -> Pixels:
    """Pictures (H, W, 3) of one video as one array; ValueError if their sizes differ."""
    for path, pixels in pictures:
        _check_size(path, pixels, pictures[0][1].shape[:2])
    return np.stack([pixels for _, pixels in pictures])


def _inspect(pictures: Sequence[Path], problems: list[Problem]) -> Footage:
    size = (0, 0)
    for path in pictures:
        with noted(problems, path):
            pixels = read_image(path)
            size = size if any(size) else pixels.shape[:2]
            _check_size(path, pixels, size)
    return Footage(len(pictures), size)


def _check_size(path: Path, pixels: Pixels, size: tuple[int, ...]) -> None:
    if pixels.shape[:2] != size:
        raise ValueError(
            f"The picture {str(path)!r} is of {_by(pixels.shape[:2])} pixels; those before it in "
            f"its video are of {_by(size)}."
        )


def _by(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


# -------------------------------------------------------------------------------- video files


def _promised(path: Path) -> int:
    """The number of frames by the header or, where it does not say, by decoding them."""
    frames = open_video(path).frame_count
    if frames is None:
        return len(_decode(path, path.stat().st_mtime_ns))
    if frames > _MAX_FRAMES:
        raise ValueError(f"{str(path)!r} claims to have {frames} frames: its header is damaged.")
    return frames


@lru_cache(maxsize=1)  # the next clip is of the same video, as a rule
def _decode(path: Path, modified: int) -> Pixels:
    return read_video(path).frames


def _check_end(path: Path, frames: int, stop: int) -> None:
    if stop > frames:
        raise ValueError(f"{str(path)!r} ends after {frames} frames.")
