"""GIF files of any length: one palette for all frames, and of each frame what has changed."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from struct import pack
from tempfile import SpooledTemporaryFile

import numpy as np
from PIL import GifImagePlugin, Image

from captum_3dcam._validation import warn
from captum_3dcam.frame_times import FrameRate, FrameTimes
from captum_3dcam.io._frame_source import Pixels

_MAX_FPS = 50  # browsers slow down faster GIFs
_MAX_MILLISECONDS = 655_350  # of a frame
_MAX_IN_MEMORY = 2**26  # bytes of frames; more are kept in a temporary file
_BITS = 6  # of each channel of the colours that are counted
_MAX_SAMPLES = 2**19  # colours that the palette is chosen from, frequent ones repeated
_LOOP = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # for ever


def check_gif_rate(fps: FrameRate) -> None:
    """ValueError for frames that are shown for too short, a warning for too long."""
    durations = np.diff(fps.edges) if isinstance(fps, FrameTimes) else np.array([1 / fps])
    if (longest := durations.max()) > _MAX_MILLISECONDS / 1000:
        warn(
            f"A frame is shown for {longest:g} s. A GIF shows it for {_MAX_MILLISECONDS / 1000:g} "
            "s, its maximum. To keep the times, write an MP4."
        )
    if not isinstance(fps, FrameTimes):
        if fps > _MAX_FPS:
            raise ValueError(f"fps={fps}: expected at most {_MAX_FPS}, the maximum of a GIF.")
    elif (shortest := durations.min()) < 1 / _MAX_FPS - 1e-6:
        raise ValueError(
            f"A frame is shown for {shortest:g} s; expected at least {1 / _MAX_FPS:g} s, the "
            "minimum of a GIF. Leave frames out: fps.take(frames)."
        )


def write_gif(frames: Iterator[Pixels], path: Path, fps: FrameRate) -> None:
    """Write RGB frames of one size, after all have been counted into the palette.

    A palette for each frame would make a constant area change its colour from frame to frame.
    """
    first = next(frames)
    size = first.shape[:2]
    colors = _ColorCounts()
    with SpooledTemporaryFile(_MAX_IN_MEMORY, "w+b", dir=str(path.parent)) as spool:
        for frame in chain([first], frames):
            colors.add(frame)
            spool.write(frame.tobytes())
        durations = _durations(fps, spool.tell() // first.size)
        spool.seek(0)
        stored = (spool.read(first.size) for _ in durations)
        palette = colors.choose_palette()
        indices = (_to_indices(pixels, size, palette) for pixels in stored)
        with path.open("wb") as file:
            file.write(_header(palette, size))
            previous = None
            for frame, duration in _merge_equal(indices, durations):
                file.write(_encode(frame, previous, duration))
                previous = frame
            file.write(b";")


class _ColorCounts:
    """How often each colour occurs in all frames, those that differ in the last bits together."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 ** (3 * _BITS))
        self.sums = np.zeros((3, len(self.counts)))

    def add(self, frame: Pixels) -> None:
        channels = frame.reshape(-1, 3).T
        red, green, blue = channels.astype(np.int32) >> (8 - _BITS)
        number = (red << 2 * _BITS) | (green << _BITS) | blue
        self.counts += np.bincount(number, minlength=len(self.counts))
        for total, channel in zip(self.sums, channels, strict=True):
            total += np.bincount(number, channel, minlength=len(self.counts))

    def choose_palette(self) -> Image.Image:
        """256 colours, as an image of mode P."""
        used = self.counts > 0
        colors = (self.sums[:, used] / self.counts[used]).round().astype(np.uint8).T
        # The square root: a small hot spot keeps its colours in front of a large background.
        weights = np.sqrt(self.counts[used])
        weights *= min(1.0, _MAX_SAMPLES / weights.sum())
        samples = np.repeat(colors, np.maximum(weights.round().astype(int), 1), axis=0)
        method = Image.Quantize.MEDIANCUT
        return Image.fromarray(samples[None]).quantize(256, method, kmeans=2)


def _to_indices(pixels: bytes, size: tuple[int, int], palette: Image.Image) -> Pixels:
    """The nearest colours; not dithered, which would make noise of a constant area."""
    image = Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(*size, 3))
    return np.asarray(image.quantize(palette=palette, dither=Image.Dither.NONE))


def _durations(fps: FrameRate, length: int) -> list[int]:
    """Milliseconds of each frame."""
    times = fps if isinstance(fps, FrameTimes) else FrameTimes.from_rate(length, fps)
    # GIF durations are multiples of 10 ms: round the ends, so that errors do not accumulate. The
    # small term rounds halves upwards, so that 20 ms never become 10, which browsers slow down.
    ends = 10 * np.floor(100 * (times.edges - times.edges[0]) + 0.5 + 1e-6).astype(int)
    durations: list[int] = np.minimum(np.diff(ends), _MAX_MILLISECONDS).tolist()
    return durations


def _merge_equal(
    frames: Iterable[Pixels], durations: Iterable[int]
) -> Iterator[tuple[Pixels, int]]:
    """Each frame that differs from the one before, or that a GIF cannot show for any longer."""
    last, shown = None, 0
    for frame, duration in zip(frames, durations, strict=True):
        fits = shown + duration <= _MAX_MILLISECONDS
        if last is not None and not (fits and np.array_equal(frame, last)):
            yield last, shown
            shown = 0
        last, shown = frame, shown + duration
    if last is not None:
        yield last, shown


def _header(palette: Image.Image, size: tuple[int, int]) -> bytes:
    """The size, the palette of 256 colours and the endless loop."""
    colors = bytes(palette.getpalette() or [])[:768].ljust(768, b"\0")
    height, width = size
    return b"GIF89a" + pack("<HHBBB", width, height, 0b1111_0111, 0, 0) + colors + _LOOP


def _encode(frame: Pixels, previous: Pixels | None, duration: int) -> bytes:
    """The box outside of which the frame equals the previous one."""
    top, left, bottom, right = 0, 0, *frame.shape
    if previous is not None:
        changed = frame != previous
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        # An empty box is not allowed.
        top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
        left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 1)
    image = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    offset = int(left), int(top)
    return b"".join(GifImagePlugin.getdata(image, offset, duration=duration))
