"""DICOM series in: slices from scattered files to one volume, or an error that names the file."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.io._files import StrPath, existing_path, import_extra, wrap_read_errors
from captum_3dcam.io.volume import Volume, check_size

_MAX_BYTES = 2**29  # a slice's file
_MAX_PIXELS = 2**26  # a slice
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_PHYSICAL = ("CT", "PT")  # modalities whose numbers mean what they are
_HEADER = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SpacingBetweenSlices",
    "SliceThickness",
]
_OFF = 0.1  # of the distance between slices: how far one may be from where it should be


def read_dicom(source: StrPath | Sequence[StrPath], series: str | None = None) -> Volume:
    """A DICOM series, a folder of its files or a list of them, as a :class:`Volume`.

    ``data[d, h, w]`` is row h, column w of slice d; slices are sorted by their position along
    their normal, so that an axial scan runs from the feet up. Each slice's rescale slope and
    intercept (or modality table) are applied: CT comes in Hounsfield units. MONOCHROME1, where
    low is white, is turned round within the range that is stored, but not in CT and PET, whose
    numbers are measurements. DICOM's left and back (LPS) become right and front (RAS).

    Args:
        source: a folder, whose other files are passed over, or files.
        series: the SeriesInstanceUID to take, where there are several.

    Raises:
        ImportError: without pydicom (the extra ``medical``).
        FileNotFoundError: without the folder or a file.
        ValueError: for a damaged file, several series, slices that are missing, doubled, uneven
            or of different sizes, and for files of several frames.
    """
    pydicom = import_extra("pydicom", "DICOM files need pydicom", "medical")
    headers = [(path, _header(pydicom, path)) for path in _files(source)]
    slices = [_slice(path, header) for path, header in _of_one_series(headers, series, source)]
    slices, step = _stacked(slices)
    first = slices[0]
    shape = (len(slices), *first.size)
    check_size(shape)
    data = np.empty(shape, np.float32)
    for place, item in zip(data, slices, strict=True):
        place[:] = _values(pydicom, item.path)
    affine = np.eye(4)
    affine[:3] = np.c_[step, first.axes, first.position] * _LPS_TO_RAS[:, None]
    return Volume(data, affine)


class _Slice(NamedTuple):
    """What a slice's header says, in the patient's LPS and mm."""

    path: Path
    size: tuple[int, int]
    """Rows and columns."""
    axes: NDArray[np.float64]
    """(3, 2): from a row to the next, and from a column to the next."""
    position: NDArray[np.float64]
    """(3,), of the first voxel."""
    thickness: float
    """To the next slice, where there is but one; 0 if unknown."""

    @property
    def normal(self) -> NDArray[np.float64]:
        normal = np.cross(self.axes[:, 1], self.axes[:, 0])
        unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
        return unit


# ------------------------------------------------------------------------------------ headers


def _files(source: StrPath | Sequence[StrPath]) -> list[Path]:
    if not isinstance(source, (str, PathLike)):
        return [existing_path(path, "DICOM file") for path in source]
    if not Path(source).is_dir():
        return [existing_path(source, "DICOM file, and no folder of them,")]
    found = [path for path in sorted(Path(source).iterdir()) if _may_be_slice(path)]
    if not found:
        raise ValueError(f"The folder {str(source)!r} has no DICOM files.")
    return found


def _may_be_slice(path: Path) -> bool:
    """By its suffix or, as many have none, by its beginning."""
    if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == ".dcm" or file.read(132)[128:] == b"DICM"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with wrap_read_errors(path, "a slice in DICOM"), warnings.catch_warnings():
        # Scanners break the standard in many small ways; what matters here is checked here.
        warnings.simplefilter("ignore")
        yield


def _content(path: Path) -> BytesIO:
    """In memory, where a length that is wrong cannot ask for more than there is."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB.")
    return BytesIO(path.read_bytes())


def _header(pydicom: Any, path: Path) -> Any:
    with _reading(path):
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
            raise ValueError("it is deflated, to an unknown size. Save it in another syntax.")
        content = _content(path)
        return pydicom.dcmread(content, stop_before_pixels=True, specific_tags=_HEADER)


def _of_one_series(
    headers: list[tuple[Path, Any]], series: str | None, source: object
) -> list[tuple[Path, Any]]:
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for path, header in headers:
        with _reading(path):
            groups.setdefault(str(header.get("SeriesInstanceUID")), []).append((path, header))
    known = "; ".join(
        f"{uid} ({group[0][1].get('SeriesDescription') or 'no description'}, {len(group)} files, "
        f"{group[0][0].name!r} one of them)"
        for uid, group in groups.items()
    )
    if series is None and len(groups) == 1:
        return headers
    if series not in groups:
        wrong = f"There is no series {series!r}" if series else "There are several series"
        raise ValueError(f"{wrong} in {str(source)!r}. Pass series= one of: {known or 'none'}.")
    return groups[series]


def _slice(path: Path, header: Any) -> _Slice:
    with _reading(path):
        frames = int(header.get("NumberOfFrames") or 1)
        if frames != 1 or int(header.get("SamplesPerPixel") or 1) != 1:
            raise ValueError(
                "it has several frames, or colours. Expected a series of single grey slices; "
                "dcm2niix makes NIfTI of the others."
            )
        size = int(_required(header, "Rows")), int(_required(header, "Columns"))
        between = np.array(_required(header, "PixelSpacing"), np.float64)
        cosines = np.array(_required(header, "ImageOrientationPatient"), np.float64)
        position = np.array(_required(header, "ImagePositionPatient"), np.float64)
        if not 0 < size[0] * size[1] <= _MAX_PIXELS:
            raise ValueError(f"its size is {size[0]} x {size[1]}.")
        if (between.shape, cosines.shape, position.shape) != ((2,), (6,), (3,)):
            raise ValueError("its position, orientation or pixel spacing is incomplete.")
        along_row, along_column = cosines.reshape(2, 3)
        units = np.stack([along_column, along_row], axis=1)
        places = [*position, *between]
        if not np.isfinite(places).all() or not np.allclose(units.T @ units, np.eye(2), atol=1e-3):
            raise ValueError("its position or orientation is damaged.")
        if between.min() <= 0:
            raise ValueError(f"its pixel spacing is {between.tolist()}.")
        thick = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0
        return _Slice(path, size, units * between, position, abs(float(thick)))


def _required(header: Any, name: str) -> Any:
    value = header.get(name)
    if value is None:
        raise ValueError(f"it has no {name}, so it is no slice of a volume.")
    return value


# ------------------------------------------------------------------------------------ stacking


def _stacked(slices: list[_Slice]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """The slices in order, and the way from one to the next, (3,) in LPS mm."""
    first = slices[0]
    for other in slices[1:]:
        if other.size != first.size:
            raise ValueError(
                f"Two sizes in one series: {str(first.path)!r} is {first.size[0]} x "
                f"{first.size[1]}, {str(other.path)!r} {other.size[0]} x {other.size[1]}."
            )
        if not np.allclose(other.axes, first.axes, rtol=0, atol=1e-3 * np.abs(first.axes).max()):
            raise ValueError(
                f"{str(other.path)!r} is turned, or spaced, otherwise than {str(first.path)!r} of "
                "the same series (a localizer?). Pass the files of one stack."
            )
    if len(slices) == 1:
        if first.thickness <= 0:
            raise ValueError(f"{str(first.path)!r} is a single slice without a thickness.")
        return slices, first.normal * first.thickness
    slices = sorted(slices, key=lambda item: float(item.position @ first.normal))
    _check_gaps(slices, first.normal)
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    for number, item in enumerate(slices):
        off = np.linalg.norm(item.position - slices[0].position - number * step)
        if off > _OFF * np.linalg.norm(step):
            raise ValueError(
                f"The slices are not evenly spaced along a line: {str(item.path)!r} is {off:.3g} "
                "mm from its place."
            )
    return slices, step


def _check_gaps(slices: list[_Slice], normal: NDArray[np.float64]) -> None:
    gaps = np.diff([float(item.position @ normal) for item in slices])
    typical = float(np.median(gaps))
    for gap, before, after in zip(gaps, slices, slices[1:], strict=False):
        pair = f"{str(before.path)!r} and {str(after.path)!r}"
        if gap <= _OFF * typical:
            raise ValueError(
                f"Two slices at one place: {pair}. If the series has several points in time, "
                "pass the files of one."
            )
        if gap > 1.5 * typical:
            raise ValueError(
                f"{round(gap / typical) - 1} or more slices are missing between {pair}: "
                f"they are {gap:.3g} mm apart, the others {typical:.3g}."
            )


# -------------------------------------------------------------------------------------- pixels


def _values(pydicom: Any, path: Path) -> NDArray[np.float64]:
    with _reading(path):
        dataset = pydicom.dcmread(_content(path))
        stored = dataset.pixel_array
        kind = dataset.PhotometricInterpretation
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise ValueError(f"it is {kind}; expected MONOCHROME1 or MONOCHROME2.")
        if kind == "MONOCHROME1" and dataset.get("Modality") not in _PHYSICAL:
            bits = int(dataset.BitsStored)
            lowest = -(1 << (bits - 1)) if dataset.PixelRepresentation else 0
            stored = 2 * lowest + (1 << bits) - 1 - stored.astype(np.int64)
        values = np.asarray(pydicom.pixels.apply_modality_lut(stored, dataset), np.float64)
        if not np.isfinite(values).all():
            raise ValueError("its rescale slope or intercept is damaged.")
        return values
