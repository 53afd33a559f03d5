"""What DICOM files are: their series, and whether they are volumes, images or videos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from captum_3dcam._files import StrPath
from captum_3dcam.io.dicom._mosaic import mosaic_shape
from captum_3dcam.io.dicom._objects import (
    DicomObject,
    Kind,
    find_objects,
    import_pydicom,
    is_dicom,
    reading,
)

_ORDER: tuple[Kind, ...] = ("volume", "video", "image", "other")
_READERS = {"volume": "read_dicom", "image": "read_dicom_image", "video": "read_cine"}


@dataclass(frozen=True)
class DicomSeries:
    """A series of DICOM files, without the name of the patient and the date."""

    number: int
    """Its number in the list, from 1, by which ``series=`` chooses it."""
    kind: Kind
    modality: str
    """``"CT"``, ``"MR"``, ``"DX"``, ..."""
    description: str
    files: int
    shape: tuple[int, ...]
    """Of all its files together: (D, H, W) of volumes, (T, H, W) of videos, (H, W) of an image."""
    uid: str = field(repr=False)  # many have the date and time of the examination in them
    """The SeriesInstanceUID."""

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        files = "1 file" if self.files == 1 else f"{self.files} files"
        text = f"{self.modality} {self.description or 'without description'} ({files}"
        return f"{text}, {size})" if size else f"{text})"


def list_series(source: StrPath | Sequence[StrPath]) -> list[DicomSeries]:
    """List the series of a DICOM file, a list of files, or a folder and its subfolders.

    Volumes come first, then videos, images and other objects (reports, segmentations, doses), each
    in the order of the scanner's numbers. The descriptions are the scanner's or its operator's.

    Raises what :func:`read_dicom` raises for missing and damaged files.

    >>> list_series("scans/patient")  # doctest: +SKIP
    [DicomSeries(number=1, kind='volume', modality='CT', description='thorax', files=120, ...)]
    """
    return [series for series, _ in _group(find_objects(source))]


def dicom_kind(path: StrPath) -> Literal["volume", "image", "video"] | None:
    """Tell by the content whether a file or folder has a DICOM volume, image or video.

    CT, MR, PET and whatever has positions of slices are volumes; X-rays, photographs, single frames
    of ultrasound and secondary captures are images; ultrasound, angiography, fluoroscopy and other
    captures of several frames are videos. A folder with several kinds is the first of volume, video
    and image.

    Returns None without DICOM files. Raises ValueError for DICOM files of which none can be shown,
    ImportError without pydicom (extra ``medical``) and FileNotFoundError.
    """
    if Path(path).is_file() and not is_dicom(Path(path)):
        return None
    kinds = set()
    for item in find_objects(path):
        if item.kind == "volume":
            return "volume"
        kinds.add(item.kind)
    if kinds == {"other"}:
        raise ValueError(_nothing_to_show(path, list_series(path)))
    return "video" if "video" in kinds else "image" if "image" in kinds else None


def _nothing_to_show(source: object, series: list[DicomSeries]) -> str:
    listed = "; ".join(map(str, series))
    return f"The DICOM files of {str(source)!r} have no image that can be shown: {listed}."


def select_series(
    source: StrPath | Sequence[StrPath], kind: Kind, series: str | int | None
) -> list[DicomObject]:
    """The files of one series of the kind.

    Raises ValueError if there are none, several to choose from, or not the requested one.
    """
    import_pydicom()
    groups = _group(find_objects(source))
    if not groups:
        raise ValueError(f"The folder {str(source)!r} has no DICOM files.")
    choices = [(each, items) for each, items in groups if each.kind == kind]
    if not choices:
        raise ValueError(_another_kind(source, kind, [each for each, _ in groups]))
    if series is None and len(choices) == 1:
        return choices[0][1]
    for each, items in choices:
        if series is not None and str(series) in (str(each.number), each.uid):
            return items
    problem = "There are several series" if series is None else "There is no such series"
    listed = "; ".join(f"{each.number}: {each}" for each, _ in choices)
    example = choices[-1][0].number
    raise ValueError(
        f"{problem} in {_name(source)}: {listed}. Choose one by its number, as in series={example} "
        f"or --series {example}."
    )


def _name(source: object) -> str:
    return repr(str(source)) if not isinstance(source, (list, tuple)) else "these files"


def _another_kind(source: object, kind: Kind, series: list[DicomSeries]) -> str:
    shown = [each for each in series if each.kind != "other"]
    if not shown:
        return _nothing_to_show(source, series)
    listed = "; ".join(f"{each.kind}: {each}" for each in shown)
    return (
        f"The DICOM files of {_name(source)} have no {kind}, but {listed}. Use "
        f"{_READERS[shown[0].kind]}."
    )


def _group(objects: Iterable[DicomObject]) -> list[tuple[DicomSeries, list[DicomObject]]]:
    groups: dict[tuple[int, int, str], list[DicomObject]] = {}
    for item in objects:
        with reading(item.path):
            number = item.header.get("SeriesNumber")
            uid = str(item.header.get("SeriesInstanceUID") or "")
            key = _ORDER.index(item.kind), int(number or 0), uid
        groups.setdefault(key, []).append(item)
    return [
        (_describe(number, uid, items), items)
        for number, ((_, _, uid), items) in enumerate(sorted(groups.items()), 1)
    ]


def _describe(number: int, uid: str, items: list[DicomObject]) -> DicomSeries:
    first = items[0]
    with reading(first.path):
        header = first.header
        description = str(header.get("SeriesDescription") or "")
        modality = str(header.get("Modality") or "of unknown modality")
        return DicomSeries(
            number, first.kind, modality, description, len(items), _shape(items), uid
        )


def _shape(items: list[DicomObject]) -> tuple[int, ...]:
    first = items[0]
    if first.kind == "other":
        return ()
    if first.is_mosaic:
        return mosaic_shape(first.header)
    rows, columns = (int(first.header.get(tag) or 0) for tag in ("Rows", "Columns"))
    if first.kind == "image":
        return rows, columns
    return sum(item.frames for item in items), rows, columns
