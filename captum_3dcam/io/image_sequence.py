"""Images as the frames of a video: a folder of them, the pages of a TIFF, an animated image."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_3dcam._files import BYTES_PER_PIXEL, StrPath, check_size, wrap_read_errors
from captum_3dcam._validation import check_positive, warn
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io._frame_source import Pixels, Size, TimedFrame, resize
from captum_3dcam.io.image import FORMATS, _to_rgb, count_pages, read_image

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_FPS = 25.0
_ANIMATED = ("GIF", "PNG", "WEBP")
# As browsers do, and the ffmpeg command for a GIF: such delays are from old or careless programs.
_MIN_DELAY, _DEFAULT_DELAY = 0.011, 0.1  # seconds
_SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def list_images(folder: StrPath) -> list[Path]:
    """The images of a folder in the natural order of their names: frame2 before frame10.

    An image has the suffix of one, or its content; hidden files and others are left out.

    >>> from PIL import Image
    >>> folder = getfixture("tmp_path")
    >>> for name in ("frame10.png", "frame2.png", ".frame1.png"):
    ...     Image.new("RGB", (8, 8)).save(folder / name)
    >>> [path.name for path in list_images(folder)]
    ['frame2.png', 'frame10.png']
    """
    files = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
    images = [path for path in files if path.is_file() and _is_image(path)]
    return sorted(images, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES or count_pages(path) is not None


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, at a constant rate."""

    path: Path
    images: Sequence[Path]
    fps: float
    size: Size

    @classmethod
    def open(cls, path: Path, fps: float | None) -> "ImageFolder":
        images = list_images(path)
        if not images:
            raise ValueError(f"The folder {str(path)!r} has no images. Expected {_NAMES}.")
        height, width = read_image(images[0]).shape[:2]
        return cls(path, images, _checked_rate(fps, path), (height, width))

    @property
    def frame_count(self) -> int:
        return len(self.images)

    @property
    def damage(self) -> None:
        return None

    def frames(self) -> Iterator[TimedFrame]:
        for number, image in enumerate(self.images):
            yield TimedFrame(number / self.fps, 1 / self.fps, partial(self._pixels, image))

    def _pixels(self, image: Path, size: Size) -> Pixels:
        pixels = read_image(image)
        _check_size_of(pixels.shape[:2], self.size, repr(str(image)))
        return resize(pixels, size)


@dataclass(frozen=True)
class ImagePages:
    """The pages of a TIFF, at a constant rate; the frames of a GIF, APNG or WebP, at their own."""

    path: Path
    size: Size
    times: FrameTimes
    first: int = 0
    """The number of the first page that is a frame."""
    damage: str | None = None

    @classmethod
    def open(cls, path: Path, fps: float | None) -> "ImagePages":
        with _opened(path) as image:
            if animated := image.format in _ANIMATED:
                pages = cls._animated(path, image)
            else:
                count, size = getattr(image, "n_frames", 1), image.size[::-1]
                _check_several(count)
        if not animated:
            return cls(path, size, FrameTimes.from_rate(count, _checked_rate(fps, path)))
        refuse_rate(fps, repr(str(path)))
        if pages.damage:
            warn(
                f"{path.name!r} is truncated or damaged: {pages.damage}. The other frames keep "
                "their own times."
            )
        return pages

    @classmethod
    def _animated(cls, path: Path, image: Any) -> "ImagePages":
        # An APNG may begin with an image for programs that do not know it.
        first, size = int(getattr(image, "default_image", False)), image.size[::-1]
        count = None if image.format == "GIF" else getattr(image, "n_frames", 1) - first
        if count is not None:
            _check_several(count)
        durations, is_damaged = _durations(image, first)
        times = FrameTimes(np.cumsum([0.0, *durations]))
        damage = _describe_damage(path, times, count, is_damaged)
        return cls(path, size, times, first, damage)

    @property
    def frame_count(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        return self.times.fps

    def frames(self) -> Iterator[TimedFrame]:
        with _opened(self.path) as image:
            for number in range(self.frame_count):
                start, end = self.times.edges[number : number + 2].tolist()
                yield TimedFrame(start, end - start, partial(self._pixels, image, number))

    def _pixels(self, image: "Image.Image", number: int, size: Size) -> Pixels:
        _go_to(image, self.first + number)
        _check_size_of(image.size[::-1], self.size, f"page {number} of {str(self.path)!r}")
        file_format = image.format
        if file_format == "GIF":
            image = _on_white(image)
        return resize(_to_rgb(image, file_format), size)


def _on_white(image: "Image.Image") -> "Image.Image":
    """As FFmpeg and most pages show a GIF: what lies under its transparency may change by frame."""
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def is_paged_image(path: Path) -> bool:
    """Whether the file is a TIFF, GIF, APNG or WebP, by its content."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _is_animated(path)
    return start[:4] in (b"II*\0", b"MM\0*", b"GIF8") or _is_webp(start)


def is_animation(path: Path) -> bool:
    """Whether it is a GIF, or a WebP that moves, by the header alone: the rest may be damaged."""
    with path.open("rb") as file:
        start = file.read(21)
    moves = start[12:16] == b"VP8X" and bool(start[20:] and start[20] & 2)
    return start[:4] == b"GIF8" or (_is_webp(start) and moves)


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def _is_animated(path: Path) -> bool:
    from PIL import Image

    try:
        with _quiet(), Image.open(path, formats=FORMATS) as image:
            return bool(image.is_animated)
    except Exception:  # a decoder may raise any error for damaged data
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    with wrap_read_errors(path, "a video"):
        with _quiet():
            file = Image.open(path, formats=FORMATS)
        with file as image:
            width, height = image.size
            check_size(path, BYTES_PER_PIXEL * width * height, f"{width} x {height} pixels")
            yield image


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: damaged metadata is harmless, and sizes are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _go_to(image: "Image.Image", number: int) -> None:
    with _quiet():
        image.seek(number)
        image.load()


def _check_several(count: int) -> None:
    if count < 2:
        raise ValueError("it is a single image. Read it with read_image().")


def _durations(image: "Image.Image", first: int) -> tuple[list[float], bool]:
    """Of each frame in seconds, as far as they can be read, and whether more are damaged."""
    durations: list[float] = []
    try:
        while True:
            _go_to(image, first + len(durations))
            delay = float(image.info.get("duration", 0)) / 1000
            durations.append(delay if delay >= _MIN_DELAY else _DEFAULT_DELAY)
    except Exception as error:  # a decoder may raise any error for damaged data
        if not durations:
            raise
        return durations, not isinstance(error, EOFError)


def _describe_damage(
    path: Path, times: FrameTimes, count: int | None, is_damaged: bool
) -> str | None:
    """What is missing; ``count`` is the number of frames by the header, None of a GIF."""
    end = times.edges[-1]
    if count is None:
        if is_damaged:
            return f"the frames after {end:.2f} s are missing"
        may_be = f"it has no end, frames after {end:.2f} s may be missing"
        return None if _has_end_mark(path) else may_be
    if missing := count - len(times):
        verb = "is" if missing == 1 else "are"
        return f"{missing} of {count} frames {verb} missing, from {end:.2f} s on"
    return None


def _has_end_mark(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 64, 0))
        return file.read().rstrip(b"\0\r\n ").endswith(b";")


def refuse_rate(fps: float | None, name: str) -> None:
    """ValueError for a rate of a video whose frames have times."""
    if fps is not None:
        raise ValueError(
            f"fps={fps}: the frames of {name} have their own times. A rate is for a folder of "
            "images or a TIFF."
        )


def _checked_rate(fps: float | None, path: Path) -> float:
    if fps is not None:
        return check_positive("fps", fps)
    warn(
        f"{path.name!r} has images without times: {DEFAULT_FPS:g} frames per second are assumed. "
        "Pass their rate: fps, or --fps on the command line."
    )
    return DEFAULT_FPS


def _check_size_of(size: Any, expected: Size, name: str) -> None:
    if tuple(size) != tuple(expected):
        raise ValueError(
            f"{name} has {size[1]} x {size[0]} pixels, and the first image {expected[1]} x "
            f"{expected[0]}; expected frames of one size. Resize them, or move this one elsewhere."
        )


_NAMES = ", ".join(FORMATS)
