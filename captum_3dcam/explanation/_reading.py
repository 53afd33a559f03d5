"""How a file is read, where its content leaves it open."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy import uint8
from numpy.typing import NDArray

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._files import StrPath
from captum_3dcam.io import (
    Sampling,
    SeveralVolumesError,
    VideoFile,
    Volume,
    dicom_kind,
    open_video,
    read_cine,
    read_dicom_image,
    read_image,
    read_volume,
)
from captum_3dcam.io.image import count_pages
from captum_3dcam.io.kinds import KINDS, input_kind
from captum_3dcam.io.medical import volume_format


@dataclass(frozen=True)
class Reading:
    """What a file does not say by itself.

    >>> Reading(fps=10.0).fps
    10.0
    """

    fps: float | None = None
    """Frames per second of a folder of images, or another video without times; by default 25."""
    series: str | int | None = None
    """Of DICOM files of several series: its number, or its SeriesInstanceUID."""
    index: int | str | None = None
    """The volume of a file of several; "all" makes them channels. By default "all" if the model's
    first convolution takes as many channels."""
    channel_files: Sequence[StrPath] = ()
    """Scans on the grid of the input, the channels after its own."""
    nan: float | None = None
    """What replaces NaN and infinite voxels, which are otherwise an error."""


def without_names(text: str, paths: Iterable[Path]) -> str:
    """A message without the names of files, and of those in folders: they may be a patient's."""
    for path in paths:
        for file in (path, *path.rglob("*")):
            for name in (str(file), file.name):
                text = text.replace(repr(name), "the input")
    return text


def find_kind(path: Path, kind: str | None) -> str:
    """The kind that was given, or that of the content; FileNotFoundError without a file."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")
    if kind is not None:
        return kind
    with argument_errors():
        try:
            return input_kind(path)
        except ValueError as error:
            raise ValueError(f"{error} (kind={'|'.join(KINDS)})") from error


def read_pixels(path: Path, reading: Reading) -> NDArray[uint8]:
    """The image of a file, or of DICOM files."""
    if path.is_file() and count_pages(path):  # whatever its suffix
        return read_image(path)
    if not dicom_kind(path):
        if path.is_dir():
            raise ArgumentError(f"kind=image: the folder {str(path)!r} has no DICOM image.")
        return read_image(path)
    return read_dicom_image(path, reading.series)


def read_frames(path: Path, sampling: Sampling, reading: Reading) -> VideoFile:
    """A video file, a folder of images, or a DICOM cine loop."""
    if dicom_kind(path) is None:
        return open_video(path, sampling=sampling, fps=reading.fps)
    return open_video(read_cine(path, reading.series, reading.fps), sampling=sampling)


def read_scan(path: Path, channels: int | None, reading: Reading) -> Volume:
    """A scan, or several as channels; ``channels`` are those that the model takes."""
    if reading.series is not None and volume_format(path) not in ("dicom", None):
        raise ArgumentError("series is for DICOM files.")
    more = [Path(each) for each in reading.channel_files]
    source = [path, *more] if more else path
    options: dict[str, Any] = {"series": reading.series, "nan": reading.nan}
    try:
        return read_volume(source, index=reading.index, **options)  # type: ignore[arg-type]
    except ValueError as error:
        # A model whose first convolution takes as many channels cannot receive one of the volumes.
        several = error if isinstance(error, SeveralVolumesError) else error.__cause__
        if more or not isinstance(several, SeveralVolumesError) or several.count != channels:
            raise
        return read_volume(source, index="all", **options)
