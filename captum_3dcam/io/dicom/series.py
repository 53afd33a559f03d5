"""What DICOM files are: their series, and whether they are volumes, images or videos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from captum_3dcam._files import StrPath
from captum_3dcam._validation import warn
from captum_3dcam.io.dicom._choices import format_position, tell_apart
from captum_3dcam.io.dicom._mosaic import mosaic_shape
from captum_3dcam.io.dicom._objects import (
    DamagedFile,
    DicomObject,
    Kind,
    find_objects,
    import_pydicom,
    is_dicom,
    reading,
)

_Group = tuple["DicomSeries", list[DicomObject]]
_ORDER: tuple[Kind, ...] = ("volume", "video", "image", "other")
_MAX_NAMES = 10  # in an error
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
    part: str = ""
    """What tells it from other series of the list where the rest is the same: ``"patient 2"``,
    ``"frame of reference 1"``, ``"SeriesNumber 4"``, the position of its first file."""

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        files = "1 file" if self.files == 1 else f"{self.files} files"
        details = ", ".join(filter(None, (files, size, self.part)))
        return f"{self.modality} {self.description or 'without description'} ({details})"


def list_series(source: StrPath | Sequence[StrPath]) -> list[DicomSeries]:
    """List the series of a DICOM file, a list of files, or a folder and its subfolders.

    Volumes come first, then videos, images and other objects (reports, segmentations, doses), each
    in the order of the scanner's numbers. The descriptions are the scanner's or its operator's.
    Files of several patients or frames of reference are several series, even under one UID.

    Damaged files of a folder are passed over with a UserWarning. Raises what :func:`read_dicom`
    raises for missing files, for a damaged file that is given, and if all files are damaged.

    >>> list_series("scans/patient")  # doctest: +SKIP
    [DicomSeries(number=1, kind='volume', modality='CT', description='thorax', files=120, ...)]
    """
    groups, damaged = _find_series(source)
    _warn_of_damage(damaged)
    return [series for series, _ in groups]


def dicom_kind(path: StrPath) -> Literal["volume", "image", "video"] | None:
    """Tell by the content whether a file or folder has a DICOM volume, image or video.

    CT, MR, PET and whatever has positions of slices are volumes; X-rays, photographs, single frames
    of ultrasound and secondary captures are images; ultrasound, angiography, fluoroscopy and other
    captures of several frames are videos. A folder with several kinds is the first of volume, video
    and image.

    Returns None without DICOM files. Raises ValueError for DICOM files of which none can be shown
    and if all are damaged, ImportError without pydicom (extra ``medical``) and FileNotFoundError.
    """
    if Path(path).is_file() and not is_dicom(Path(path)):
        return None
    kinds, damaged = set(), []
    for item in find_objects(path):
        if isinstance(item, DamagedFile):
            damaged.append(item)
        elif item.kind == "volume":
            return "volume"
        else:
            kinds.add(item.kind)
    if damaged and not kinds:
        raise damaged[0].error
    if kinds == {"other"}:
        raise ValueError(_nothing_to_show(path, list_series(path)))
    return "video" if "video" in kinds else "image" if "image" in kinds else None


def _nothing_to_show(source: object, series: list[DicomSeries]) -> str:
    listed = "; ".join(map(str, series))
    return f"The DICOM files of {str(source)!r} have no image that can be shown: {listed}."


def select_object(source: StrPath, kind: Kind, series: str | int | None) -> DicomObject:
    """The one file of a series of images or videos.

    Raises ValueError as :func:`select_series`, and for a series of several files.
    """
    items = select_series(source, kind, series)
    if len(items) > 1:
        raise ValueError(f"The series of {str(source)!r} has {len(items)} {kind}s. Pass one file.")
    return items[0]


def select_series(
    source: StrPath | Sequence[StrPath], kind: Kind, series: str | int | None
) -> list[DicomObject]:
    """The files of one series of the kind.

    Raises ValueError if there are none, several to choose from, or not the requested one, and if a
    damaged file belongs to it. Warns of other damaged files.
    """
    items, damaged = _select(source, kind, series)
    _warn_of_damage(damaged)
    return items


def select_volume(
    source: StrPath | Sequence[StrPath], series: str | int | None
) -> tuple[list[DicomObject], list[Path]]:
    """The files of one series of a volume, and damaged files in their folders.

    It is unknown whether these are slices or DICOM at all. Raises ValueError as
    :func:`select_series`, and also for damaged files in these folders that are DICOM and tell no
    series that has other files: a slice would be lost.
    """
    items, damaged = _select(source, "volume", series)
    folders = {item.path.parent for item in items}
    beside = [each for each in damaged if not each.series_uid and each.path.parent in folders]
    if marked := [each for each in beside if each.is_marked]:
        raise ValueError(
            f"{name_files([each.path for each in marked])} in the folder of the series may be "
            "slices of it: they tell no series that has other files. Copy them again, or move "
            f"them out of the folder if they are not. {marked[0].error}"
        )
    _warn_of_damage(damaged)
    return items, [each.path for each in beside]


def name_files(paths: list[Path]) -> str:
    """Damaged files by name, the first ones of many.

    >>> name_files([Path("a.dcm"), Path("b.dcm")])
    "2 damaged files ('a.dcm', 'b.dcm')"
    """
    names = [repr(str(path)) for path in paths[:_MAX_NAMES]] + ["..."] * (len(paths) > _MAX_NAMES)
    return f"{len(paths)} damaged {'file' if len(paths) == 1 else 'files'} ({', '.join(names)})"


def _select(
    source: StrPath | Sequence[StrPath], kind: Kind, series: str | int | None
) -> tuple[list[DicomObject], list[DamagedFile]]:
    """The files of one series, and the damaged files that are not known to be of it.

    Of these, a UID that no other file has, which may be damaged itself, is left out.
    """
    import_pydicom()
    groups, damaged = _find_series(source)
    chosen, items = _choose(source, groups, kind, series)
    for file in damaged:
        if chosen.uid and file.series_uid == chosen.uid:
            raise file.error
    known = {each.uid for each, _ in groups}
    return items, [
        file if file.series_uid in known else file._replace(series_uid="") for file in damaged
    ]


def _warn_of_damage(damaged: list[DamagedFile]) -> None:
    if damaged:
        files = "1 DICOM file is" if len(damaged) == 1 else f"{len(damaged)} DICOM files are"
        first = "" if len(damaged) == 1 else "The first: "
        warn(
            f"{files} damaged and passed over. {first}{damaged[0].error} If it is a slice of the "
            "scan, the volume lacks it."
        )


def _choose(source: object, groups: list[_Group], kind: Kind, series: str | int | None) -> _Group:
    if not groups:
        raise ValueError(f"The folder {str(source)!r} has no DICOM files.")
    choices = [(each, items) for each, items in groups if each.kind == kind]
    if not choices:
        raise ValueError(_another_kind(source, kind, [each for each, _ in groups]))
    if series is None and len(choices) == 1:
        return choices[0]
    fitting = [
        choice for choice in choices if str(series) in (str(choice[0].number), choice[0].uid)
    ]
    if len(fitting) == 1:
        return fitting[0]
    several = series is None or fitting
    problem = "There are several series" if several else "There is no such series"
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


def _find_series(
    source: StrPath | Sequence[StrPath],
) -> tuple[list[_Group], list[DamagedFile]]:
    """The series, and the damaged files of a folder; raises if there are only these."""
    intact, damaged = [], []
    for item in find_objects(source):
        if isinstance(item, DamagedFile):
            damaged.append(item)
        else:
            intact.append(item)
    if damaged and not intact:
        raise damaged[0].error
    return _group(intact), damaged


def _group(objects: Iterable[DicomObject]) -> list[_Group]:
    series: dict[tuple[int, int, str], list[DicomObject]] = {}
    for item in objects:
        series.setdefault((_ORDER.index(item.kind), *item.series), []).append(item)
    parts = [
        (uid, part, items)
        for (_, _, uid), whole in sorted(series.items())
        for part, items in _split(whole)
    ]
    groups = [
        (_describe(number, uid, part, items), items)
        for number, (uid, part, items) in enumerate(parts, 1)
    ]
    return _tell_apart(groups)


def _tell_apart(groups: list[_Group]) -> list[_Group]:
    """Add to series of the same text what differs."""
    details: dict[str, list[dict[str, str]]] = {}
    for each, items in groups:
        details.setdefault(str(each), []).append(_details(items[0]))
    result = []
    for each, items in groups:
        alike = details[str(each)]
        more = tell_apart(_details(items[0]), alike) if len(alike) > 1 else ""
        result.append((replace(each, part=", ".join(filter(None, (each.part, more)))), items))
    return result


def _details(item: DicomObject) -> dict[str, str]:
    with reading(item.path):
        header = item.header
        tags = ("SeriesNumber", "EchoTime", "AcquisitionNumber", "InstanceNumber")
        details = {tag: f"{tag} {header.get(tag)}" for tag in tags if header.get(tag) is not None}
        position = header.get("ImagePositionPatient") or ()
        if len(position) == 3:
            details["position"] = f"first file at {format_position(position)}"
        return details


def _split(items: list[DicomObject]) -> list[tuple[str, list[DicomObject]]]:
    """Split files with one UID by patient and frame of reference: no volume has two of them."""
    patients = _label("patient", [item.patient for item in items])
    frames = [str(item.header.get("FrameOfReferenceUID") or "") for item in items]
    parts: dict[str, list[DicomObject]] = {}
    for *labels, item in zip(patients, _label("frame of reference", frames), items, strict=True):
        parts.setdefault(", ".join(filter(None, labels)), []).append(item)
    return list(parts.items())


def _label(name: str, values: list[str]) -> list[str]:
    """Number the values, of which nothing is shown. Files without one belong to the only one."""
    distinct = list(dict.fromkeys(filter(None, values)))
    if len(distinct) < 2:
        return [""] * len(values)
    return [f"{name} {distinct.index(v) + 1}" if v else f"no {name}" for v in values]


def _describe(number: int, uid: str, part: str, items: list[DicomObject]) -> DicomSeries:
    first = items[0]
    with reading(first.path):
        header = first.header
        description = str(header.get("SeriesDescription") or "")
        modality = str(header.get("Modality") or "of unknown modality")
        return DicomSeries(
            number, first.kind, modality, description, len(items), _shape(items), uid, part
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
