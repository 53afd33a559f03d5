"""Read a scan of any supported format, and write a map in it."""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from captum_3dcam._files import StrPath, check_bytes, existing_path
from captum_3dcam.io._itk import read_itk, write_itk
from captum_3dcam.io._mgh import read_mgh, write_mgh
from captum_3dcam.io._nibabel import read_start
from captum_3dcam.io._voxels import Index, OneVolumeError
from captum_3dcam.io.dicom import dicom_kind, read_dicom
from captum_3dcam.io.nifti import read_nifti, write_nifti
from captum_3dcam.io.volume import Volume

Format = Literal["nifti", "mgh", "nrrd", "meta", "dicom"]

_SUFFIXES: dict[str, Format] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".hdr.gz": "nifti",
    ".img": "nifti",
    ".img.gz": "nifti",
    ".mgh": "mgh",
    ".mgz": "mgh",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "meta",
    ".mhd": "meta",
    ".dcm": "dicom",
}
_WRITERS: dict[str, Callable[[Volume, StrPath], None]] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".mgz": write_mgh,
    ".mgh": write_mgh,
    ".nrrd": write_itk,
    ".mha": write_itk,
}
_MAP_SUFFIXES = {"mgh": ".mgz", "nrrd": ".nrrd", "meta": ".mha"}
_HEADER = 540  # bytes, of NIfTI-2; those of the others are shorter


def read_volume(
    source: StrPath | Sequence[StrPath],
    *,
    series: str | int | None = None,
    index: Index = None,
    nan: float | None = None,
) -> Volume:
    """Read a scan as a :class:`Volume`, its format recognised by content, else by suffix.

    NIfTI and DICOM are read by :func:`read_nifti` and :func:`read_dicom`, FreeSurfer's MGH and MGZ
    with NiBabel, NRRD and MetaImage (``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``) with SimpleITK.
    The axes (d, h, w) are the file's (k, j, i), and positions are in mm to the patient's right,
    front and head, whatever the format. The vectors of a file are channels.

    Args:
        source: a file, a folder of DICOM files, or several of them: the channels of one input,
            such as the T1 and FLAIR of a patient, on the same grid.
        series: of DICOM files of several series, as in :func:`read_dicom`.
        index: the volume to read of files that have several, such as a time of an fMRI; ``"all"``
            reads all volumes of a file as the channels of one input. Of several files, those of
            one volume are read whatever the index is.
        nan: the value of voxels that are NaN or infinite; without it they are an error.

    Raises ImportError without the package of the format (extra ``medical``), FileNotFoundError,
    and ValueError for what the readers refuse and for channels on different grids.

    >>> from tempfile import TemporaryDirectory
    >>> t1 = Volume(np.random.rand(4, 5, 6), np.diag([5.0, 2.0, 2.0, 1.0]))
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("t1.nii.gz", "flair.nii.gz"):
    ...         write_volume(t1, f"{folder}/{name}")
    ...     read_volume([f"{folder}/t1.nii.gz", f"{folder}/flair.nii.gz"])
    Volume(shape=(4, 5, 6), spacing=(5.0, 2.0, 2.0), orientation='RAS', channels=2)
    """
    if isinstance(source, (str, PathLike)):
        return _read_one(Path(source), series, index, nan)
    if not source:
        raise ValueError("read_volume received no files.")
    volumes: list[tuple[StrPath, Volume]] = []
    ignored: list[ValueError] = []
    for path in source:
        try:
            volume = _read_one(Path(path), series, index, nan)
        except ValueError as error:
            if not isinstance(error.__cause__, OneVolumeError):
                raise
            ignored.append(error)
            volume = _read_one(Path(path), series, None, nan)
        volumes.append((path, volume))
        size = len(source) * volumes[0][1].data.nbytes
        check_bytes(f"The channels of {len(source)} files like {str(path)!r}", size)
        _check_same_grid(*volumes[0], *volumes[-1])
    if len(ignored) == len(volumes):
        raise ignored[0]
    first = volumes[0][1]
    data = np.concatenate([volume.data.reshape(-1, *first.shape) for _, volume in volumes])
    return replace(first, data=data)


def write_volume(volume: Volume, path: StrPath) -> None:
    """Write a volume in float32, in the format of the suffix.

    The suffixes are ``.nii`` and ``.nii.gz`` (see :func:`write_nifti`), ``.mgh`` and ``.mgz``,
    ``.nrrd`` and ``.mha``. A map written as ``scan.with_data(map)`` lies on the scan.

    Raises ImportError without the package of the format (extra ``medical``), FileNotFoundError if
    the folder does not exist, and ValueError for another suffix.
    """
    suffix = _suffix_of(Path(path), _WRITERS)
    if suffix is None:
        raise ValueError(f"{str(path)!r} should end on one of {', '.join(_WRITERS)}.")
    _WRITERS[suffix](volume, path)


def volume_format(path: Path) -> Format | None:
    """The format of a file by its content, else by its suffix; None if neither is of a scan.

    A folder is DICOM.
    """
    if path.is_dir():
        return "dicom"
    by_suffix = _suffix_of(path, _SUFFIXES)
    return content_format(path) or (_SUFFIXES[by_suffix] if by_suffix else None)


def map_suffix(path: Path) -> str:
    """The suffix of the map of a scan: that of its format, where it can be written."""
    return _MAP_SUFFIXES.get(volume_format(path) or "", ".nii.gz")


def _suffix_of(path: Path, known: Iterable[str]) -> str | None:
    return next((suffix for suffix in known if path.name.lower().endswith(suffix)), None)


def content_format(path: Path) -> Format | None:
    """The format of a file by its content alone."""
    try:
        start = read_start(path, _HEADER)
    except (OSError, EOFError, zlib.error):  # not gzip after all
        return None
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"NRRD"):
        return "nrrd"
    if start.lstrip()[:64].startswith((b"ObjectType", b"NDims", b"Comment")) and b"=" in start:
        return "meta"
    if start[344:347] in (b"n+1", b"ni1") or start[4:7] in (b"n+2", b"ni2"):
        return "nifti"
    return "mgh" if _is_mgh(start) else None


def _is_mgh(start: bytes) -> bool:
    """Whether version, sizes and type are MGH's: raw H.264 begins with the same four bytes."""
    if len(start) < 284:
        return False
    version, *sizes, kind = struct.unpack(">6i", start[:24])
    return version == 1 and all(0 < size < 2**24 for size in sizes) and kind in (0, 1, 3, 4, 10)


def _read_one(path: Path, series: str | int | None, index: Index, nan: float | None) -> Volume:
    kind = volume_format(path if path.is_dir() else existing_path(path, "scan"))
    if kind == "dicom" or (kind is None and dicom_kind(path)):
        return read_dicom(path, series, index)
    if series is not None:
        raise ValueError(f"{str(path)!r} is no DICOM file: it has no series (--series).")
    if kind == "nifti":
        return read_nifti(path, index=index, nan=nan)
    if kind == "mgh":
        return read_mgh(path, index, nan)
    if kind in ("nrrd", "meta"):
        return read_itk(path, "Nrrd" if kind == "nrrd" else "Meta", index, nan)
    raise ValueError(
        f"{str(path)!r} is no scan of a known format: NIfTI, MGH, NRRD, MetaImage or DICOM. "
        "Convert it to NIfTI, such as by NiBabel (MINC, AFNI, PAR/REC) or SimpleITK."
    )


def _check_same_grid(first_path: StrPath, first: Volume, path: StrPath, volume: Volume) -> None:
    pair = f"{str(path)!r} and {str(first_path)!r}"
    advice = (
        "Channels have the same grid: register and resample one to the other first, such as by "
        "other.resample_to(first). Slices of one DICOM series are for read_dicom."
    )
    if volume.shape != first.shape:
        raise ValueError(f"{pair} have {volume.shape} and {first.shape} voxels. {advice}")
    corners = np.array(list(product(*((0, n - 1) for n in first.shape))))
    apart = np.linalg.norm(volume.to_world(corners) - first.to_world(corners), axis=1).max()
    if apart > min(first.spacing) / 10:
        raise ValueError(f"{pair} are up to {apart:.3g} mm apart. {advice}")
