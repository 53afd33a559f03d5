"""Read a DICOM series as one volume."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import (
    BYTES_PER_PIXEL,
    MAX_DEFLATE_RATIO,
    StrPath,
    check_size,
    existing_path,
    import_extra,
    wrap_read_errors,
)
from captum_3dcam.io.volume import Volume, check_shape

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_QUANTITATIVE = ("CT", "PT")  # modalities whose values are measurements
_REQUIRED = ["Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"]
_OPTIONAL = ["NumberOfFrames", "SamplesPerPixel", "SpacingBetweenSlices", "SliceThickness"]
_TAGS = ["SeriesInstanceUID", "SeriesDescription", *_REQUIRED, *_OPTIONAL]
_TOLERANCE = 0.1  # of a slice's position, as a fraction of the distance between slices

_Header = dict[str, Any]


def read_dicom(source: StrPath | Sequence[StrPath], series: str | None = None) -> Volume:
    """Read a DICOM series as a :class:`Volume`.

    ``data[d, h, w]`` is row h, column w of slice d. The slices are sorted along their normal, so
    that an axial scan runs from the feet up. The rescale slope and intercept (or the modality
    lookup table) are applied: CT is in Hounsfield units. MONOCHROME1, in which low values are
    white, is inverted, except in CT and PET, whose values are measurements. World coordinates are
    converted from LPS to RAS.

    Args:
        source: a folder, in which files other than DICOM are ignored, or a list of files.
        series: the SeriesInstanceUID to read; required if there are several series.

    Raises ImportError without pydicom (extra ``medical``), FileNotFoundError, and ValueError for
    damaged or multi-frame files, several series, slices that are missing, duplicated, unevenly
    spaced or of different sizes, and volumes that take more than 2 GiB as float32 (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    pydicom = import_extra("pydicom", "DICOM files need pydicom", "medical")
    headers = [(path, _read_header(pydicom, path)) for path in _list_files(pydicom, source)]
    slices = [_parse(path, header) for path, header in _select_series(headers, series, source)]
    slices, step = _stack(slices)
    shape = (len(slices), *slices[0].size)
    check_shape(shape)
    content = f"{shape[0]} slices of {shape[1]} x {shape[2]} pixels"
    check_size(slices[0].path.parent, 4 * math.prod(shape), content)
    data = np.empty(shape, np.float32)
    for values, item in zip(data, slices, strict=True):
        values[:] = _read_values(pydicom, item.path)
    affine = np.eye(4)
    affine[:3] = np.c_[step, slices[0].axes, slices[0].position] * _LPS_TO_RAS[:, None]
    return Volume(data, affine)


class _Slice(NamedTuple):
    """The geometry of a slice, in LPS and mm."""

    path: Path
    size: tuple[int, int]  # rows and columns
    axes: NDArray[np.float64]  # (3, 2), from one row to the next and from one column to the next
    position: NDArray[np.float64]  # (3,), of the first voxel
    thickness: float  # 0 if unknown


def _list_files(pydicom: Any, source: StrPath | Sequence[StrPath]) -> list[Path]:
    if not isinstance(source, (str, PathLike)):
        return [existing_path(path, "DICOM file") for path in source]
    if not Path(source).is_dir():
        return [existing_path(source, "DICOM file or folder")]
    files = [
        path
        for path in sorted(Path(source).iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name.upper() != "DICOMDIR"
        if path.suffix.lower() == ".dcm" or pydicom.misc.is_dicom(path)  # many have no suffix
    ]
    if not files:
        raise ValueError(f"The folder {str(source)!r} has no DICOM files.")
    return files


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with wrap_read_errors(path, "a DICOM slice"), warnings.catch_warnings():
        # pydicom warns of deviations from the standard, which are common. What matters for a
        # volume is checked in this module.
        warnings.simplefilter("ignore")
        yield


def _read_header(pydicom: Any, path: Path) -> _Header:
    with _reading(path):
        _check_deflated(pydicom, path)
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        return {tag: header.get(tag) for tag in _TAGS}


def _check_deflated(pydicom: Any, path: Path) -> None:
    """Check how much a compressed file could unpack to, because pydicom unpacks it whole."""
    syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        size = path.stat().st_size
        check_size(path, MAX_DEFLATE_RATIO * size, f"up to {MAX_DEFLATE_RATIO} x {size:,} bytes")


def _select_series(
    headers: list[tuple[Path, _Header]], series: str | None, source: object
) -> list[tuple[Path, _Header]]:
    groups: dict[str, list[tuple[Path, _Header]]] = {}
    for path, header in headers:
        groups.setdefault(str(header["SeriesInstanceUID"]), []).append((path, header))
    if series is None and len(groups) == 1:
        (series,) = groups
    if series in groups:
        return groups[series]
    choices = "; ".join(
        f"{uid} ({group[0][1]['SeriesDescription'] or 'no description'}, {len(group)} files, e.g. "
        f"{group[0][0].name!r})"
        for uid, group in groups.items()
    )
    problem = f"There is no series {series!r}" if series else "There are several series"
    raise ValueError(f"{problem} in {str(source)!r}. Pass series= one of: {choices or 'none'}.")


def _parse(path: Path, header: _Header) -> _Slice:
    with _reading(path):
        if int(header["NumberOfFrames"] or 1) != 1 or int(header["SamplesPerPixel"] or 1) != 1:
            raise ValueError(
                "it has several frames or colour channels. Expected a series of single greyscale "
                "slices; dcm2niix converts other files to NIfTI."
            )
        if missing := [tag for tag in _REQUIRED if header[tag] is None]:
            raise ValueError(f"it has no {missing[0]}, so it is not a slice of a volume.")
        size = int(header["Rows"]), int(header["Columns"])
        if min(size) < 1:
            raise ValueError(f"its size is {size[0]} x {size[1]}.")
        check_size(path, BYTES_PER_PIXEL * size[0] * size[1], f"{size[0]} x {size[1]} pixels")
        spacing, cosines, position = (np.array(header[tag], np.float64) for tag in _REQUIRED[2:])
        complete = (spacing.shape, cosines.shape, position.shape) == ((2,), (6,), (3,))
        units = np.resize(cosines, (2, 3))[::-1].T  # (3, 2), unit vectors of the axes
        orthonormal = np.allclose(units.T @ units, np.eye(2), atol=1e-3)
        finite = np.isfinite(position).all() and np.isfinite(spacing).all()
        if not (complete and orthonormal and finite and spacing.min() > 0):
            values = ", ".join(f"{tag} {header[tag]}" for tag in _REQUIRED[2:])
            raise ValueError(f"its geometry is damaged: {values}.")
        thickness = float(header["SpacingBetweenSlices"] or header["SliceThickness"] or 0)
        return _Slice(path, size, units * spacing, position, abs(thickness))


def _stack(slices: list[_Slice]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """Sort the slices; return them and the vector between neighbours, (3,) in LPS and mm."""
    first = slices[0]
    for other in slices[1:]:
        tolerance = 1e-3 * np.abs(first.axes).max()
        same_axes = np.allclose(other.axes, first.axes, rtol=0, atol=tolerance)
        if other.size != first.size or not same_axes:
            raise ValueError(
                f"{str(other.path)!r} has another size, orientation or pixel spacing than "
                f"{str(first.path)!r} of the same series (a localizer?). Pass the files of one "
                "stack."
            )
    normal = np.cross(first.axes[:, 1], first.axes[:, 0])
    normal /= np.linalg.norm(normal)
    if len(slices) == 1:
        if first.thickness <= 0:
            raise ValueError(f"{str(first.path)!r} is a single slice without a thickness.")
        return slices, normal * first.thickness
    slices = sorted(slices, key=lambda item: float(item.position @ normal))
    _check_gaps(slices, np.diff([item.position @ normal for item in slices]))
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    for number, item in enumerate(slices):
        distance = np.linalg.norm(item.position - slices[0].position - number * step)
        if distance > _TOLERANCE * np.linalg.norm(step):
            raise ValueError(
                f"The slices are not evenly spaced along a line: {str(item.path)!r} is "
                f"{distance:.3g} mm from its expected position."
            )
    return slices, step


def _check_gaps(slices: list[_Slice], gaps: NDArray[np.float64]) -> None:
    typical = float(np.median(gaps))
    for gap, before, after in zip(gaps, slices, slices[1:], strict=False):
        pair = f"{str(before.path)!r} and {str(after.path)!r}"
        if gap <= _TOLERANCE * typical:
            raise ValueError(
                f"Two slices at the same position: {pair}. If the series has several time points, "
                "pass the files of one."
            )
        if gap > 1.5 * typical:
            raise ValueError(
                f"{round(gap / typical) - 1} or more slices are missing between {pair}: the "
                f"distance is {gap:.3g} mm; the other slices are {typical:.3g} mm apart."
            )


def _read_values(pydicom: Any, path: Path) -> NDArray[np.float64]:
    with _reading(path):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        size = dataset.Rows, dataset.Columns
        if stored.shape != size:  # pydicom takes what is too long for several frames
            raise ValueError(
                f"its pixel data has shape {stored.shape}; its header describes {size}."
            )
        interpretation = dataset.PhotometricInterpretation
        if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
            raise ValueError(f"it is {interpretation}; expected MONOCHROME1 or MONOCHROME2.")
        if interpretation == "MONOCHROME1" and dataset.get("Modality") not in _QUANTITATIVE:
            bits = int(dataset.BitsStored)
            minimum = -(1 << (bits - 1)) if dataset.PixelRepresentation else 0
            stored = 2 * minimum + (1 << bits) - 1 - stored.astype(np.int64)
        values = np.asarray(pydicom.pixels.apply_modality_lut(stored, dataset), np.float64)
        if not np.isfinite(values).all():
            raise ValueError("its rescale slope or intercept is damaged.")
        return values
