"""Find the DICOM files of a source, and what kind of thing each is."""

import gzip
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from captum_3dcam._files import (
    MAX_DEFLATE_RATIO,
    StrPath,
    check_size,
    existing_path,
    import_extra,
    max_bytes,
    wrap_read_errors,
)

Kind = Literal["volume", "image", "video", "other"]

_SUFFIXES = (".dcm", ".ima", ".dcm.gz", ".ima.gz")

MOSAIC_COUNT = 0x0019100A
"""Siemens' private tag: how many slices a mosaic has."""
_MOSAIC_CREATOR = 0x00190010  # by which pydicom knows the type of the private tag
GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
STACK_TAGS = (
    "StackID", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers", "EchoTime",
    "EffectiveEchoTime", "InversionTime", "DiffusionBValue", "DiffusionGradientOrientation",
    "AcquisitionNumber", "TriggerTime", "FrameType", "ImageType",
)  # fmt: skip
"""What tells the volumes of one series apart. No times of day: those identify an examination."""
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "FrameOfReferenceUID", "PatientID", "Modality", "InstanceNumber", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "SpacingBetweenSlices", "SliceThickness",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", MOSAIC_COUNT,
    _MOSAIC_CREATOR, *GEOMETRY, *STACK_TAGS,
]  # fmt: skip

# Modalities by kind; others are a volume if their header has a position in the patient.
_VOLUMES = ("CT", "MR", "PT", "NM", "OPT")
_FLAT = (
    "CR", "DX", "MG", "PX", "IO", "RG", "RF", "XA", "US", "IVUS", "ES", "XC", "GM", "OP", "DMS",
)  # fmt: skip
_NOT_SHOWN = ("SEG", "RTDOSE", "SM", "PR", "SR", "KO", "REG", "RWV")
_STANDARD_UID = "1.2.840.10008."
_GZIP = b"\x1f\x8b"
_START = 2**16  # bytes of a damaged file, which may tell its series
_STORAGE = _STANDARD_UID + "5.1.4.1.1."
_SPECTROSCOPY = _STORAGE + "4.2"
_SCANS = ("2", "4", "20", "128", "130")  # CT, MR, nuclear medicine, PET and enhanced PET
_SECONDARY_CAPTURE = "7"


class DicomObject(NamedTuple):
    """A file and what its header describes."""

    path: Path
    header: Any
    """A pydicom dataset with some of the elements, none of which names the patient or a date."""
    kind: Kind
    patient: str
    """To tell series apart; never shown."""

    @property
    def series(self) -> tuple[int, str]:
        """The scanner's number of the series, and its UID."""
        return int(self.header.get("SeriesNumber") or 0), _series_uid(self.header)

    @property
    def frames(self) -> int:
        return int(self.header.get("NumberOfFrames") or 1)

    @property
    def is_mosaic(self) -> bool:
        """Whether it is Siemens' image of all slices of a volume, side by side."""
        return "MOSAIC" in (self.header.get("ImageType") or ()) and self.frames == 1


class DamagedFile(NamedTuple):
    """A DICOM file whose header cannot be used."""

    path: Path
    series_uid: str
    """Empty if it cannot be read."""
    error: ValueError
    is_marked: bool
    """Whether something in it says that it is or was DICOM, beside its name."""


def import_pydicom() -> Any:
    return import_extra("pydicom", "DICOM files need pydicom", "medical")


def find_objects(source: StrPath | Sequence[StrPath]) -> Iterator[DicomObject | DamagedFile]:
    """Yield the DICOM objects of a file, a list of files, or a folder and its subfolders.

    In a folder, files of other formats are passed over; given files have to be DICOM, and their
    damage is raised. A DICOMDIR stands for its folder. An object that is there twice, under two
    names, is yielded once.
    """
    is_given = not isinstance(source, (str, PathLike)) or not _folder_of(source).is_dir()
    seen = set()
    for path in _list_files(source):
        item = _read_object(path)
        if isinstance(item, DamagedFile):
            if is_given:
                raise item.error
            yield item
            continue
        with reading(path):
            key = _identity(item)
        if key is None or key not in seen:
            seen.add(key)
            yield item


def _identity(item: DicomObject) -> Any:
    """What two copies of an object share. The UID alone is not unique after some anonymizers."""
    header = item.header
    names = ("SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "InstanceNumber")
    instance = header.get("SOPInstanceUID")
    return (instance, item.patient, *(str(header.get(n)) for n in names)) if instance else None


def _series_uid(header: Any) -> str:
    return str(header.get("SeriesInstanceUID") or "")


def _folder_of(source: StrPath) -> Path:
    """The source; of a DICOMDIR, its folder."""
    path = Path(source)
    return path.parent if _is_directory_file(path) else path


def _list_files(source: StrPath | Sequence[StrPath]) -> Iterator[Path]:
    if not isinstance(source, (str, PathLike)):
        yield from [existing_path(path, "DICOM file") for path in source]
        return
    folder = _folder_of(source)
    if folder.is_dir():
        yield from (path for path in _walk(folder) if is_dicom(path))
    else:
        yield existing_path(source, "DICOM file or folder")


def _is_directory_file(path: Path) -> bool:
    """Whether it is the table of contents of a folder."""
    return path.name.upper() == "DICOMDIR" and path.is_file()


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):  # which does not follow links to folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file() and not _is_directory_file(path):
                yield path


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its suffix or its content, with or without a preamble."""
    if path.name.lower().endswith(_SUFFIXES):
        return True
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (_may_be_dataset(start) and _is_dataset(path))


def _may_be_dataset(start: bytes) -> bool:
    """Whether a file may begin with a short element of group 2 or 8, as in old archives."""
    first_group = start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return len(start) == 132 and first_group and (explicit or start[5:8] == bytes(3))


def _is_dataset(path: Path) -> bool:
    try:
        _read_header(path)
    except ValueError:
        return False
    return True


@contextmanager
def reading(path: Path, kind: str = "a DICOM file") -> Iterator[None]:
    """Name the file in any error. Hide pydicom's warnings of deviations, which are common."""
    with wrap_read_errors(path, kind), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_object(path: Path) -> DicomObject | DamagedFile:
    series_uid = ""
    try:
        header = _read_header(path)
        with reading(path):
            series_uid = _series_uid(header)
            patient = str(header.pop("PatientID").value or "") if "PatientID" in header else ""
            item = DicomObject(path, header, _kind(header), patient)
            _ = item.series, item.frames, _identity(item)  # whether they can be read
            return item
    except ValueError as error:
        if error.__cause__ is None:  # the memory limit: no damage, and to be raised
            raise
        with path.open("rb") as file:
            start = file.read(_START)
        unpacked = _unpack(start) if start[:2] == _GZIP else start
        uid = series_uid or _find_uid(path, unpacked)
        return DamagedFile(path, uid, error, start[:2] == _GZIP or _is_marked(unpacked))


def _unpack(start: bytes) -> bytes:
    """What can be unpacked of the first bytes of a damaged file in gzip."""
    stream, content = zlib.decompressobj(zlib.MAX_WBITS | 16), BytesIO()
    with suppress(zlib.error):
        for number in range(0, len(start), 16):  # an error loses what is unpacked with it
            content.write(stream.decompress(start[number : number + 16]))
            if content.tell() > _START:
                break
    return content.getvalue()


def _find_uid(path: Path, start: bytes) -> str:
    """The SeriesInstanceUID in the start of a damaged file; empty if it cannot be read."""
    pydicom, file = import_pydicom(), BytesIO(start)
    with suppress(ValueError), reading(path):
        check_deflated(pydicom, file, path)
        tags = ["SeriesInstanceUID"]
        return _series_uid(pydicom.dcmread(file, True, True, True, tags))
    return ""


def _is_marked(start: bytes) -> bool:
    is_standard = start[128:132] == b"DICM" or _STANDARD_UID.encode() in start
    return is_standard or _may_be_dataset(start[:132])


def _read_header(path: Path) -> Any:
    pydicom = import_pydicom()
    with reading(path), open_unpacked(path) as file:
        check_deflated(pydicom, file, path)
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        if not _sop_class(header) and "Rows" not in header:
            raise ValueError("it has no DICOM header.")
        return header


def _sop_class(header: Any) -> str:
    return str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file; one in gzip is unpacked, as far as the memory limit allows."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
        file.seek(0)
        if not is_gzip:
            yield file
            return
        content = gzip.GzipFile(fileobj=file).read(max_bytes() + 1)
        check_size(path, len(content), "at least this much in gzip")
        yield BytesIO(content)


def check_deflated(pydicom: Any, file: BinaryIO, path: Path) -> None:
    """Check how much a compressed file could unpack to, because pydicom unpacks it whole."""
    start = file.read(132)
    file.seek(132 if start[128:] == b"DICM" else 0)
    meta = pydicom.filereader.read_dataset(file, False, True, stop_when=_after_group_2)
    if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
        size = file.seek(0, os.SEEK_END)
        check_size(path, MAX_DEFLATE_RATIO * size, f"up to {MAX_DEFLATE_RATIO} x {size:,} bytes")
    file.seek(0)


def _after_group_2(tag: Any, *_: Any) -> bool:
    return bool(tag.group != 2)


def _kind(header: Any) -> Kind:
    sop_class = _sop_class(header)
    modality = str(header.get("Modality"))
    if modality in _NOT_SHOWN or _is_without_image(header, sop_class):
        return "other"
    if "Rows" not in header:
        raise ValueError("its header is damaged: it is an image, but has no Rows.")
    positioned = _has_position(header) and int(header.get("SamplesPerPixel") or 1) == 1
    family = sop_class.removeprefix(_STORAGE).split(".")[0]
    scanned = modality in _VOLUMES or family in _SCANS
    if (scanned and family != _SECONDARY_CAPTURE) or (positioned and modality not in _FLAT):
        return "volume"
    return "video" if int(header.get("NumberOfFrames") or 1) > 1 else "image"


def _is_without_image(header: Any, sop_class: str) -> bool:
    """Whether it is a report, a plan or the like."""
    if "Rows" in header:
        return sop_class == _SPECTROSCOPY
    uid = import_pydicom().uid.UID(sop_class)
    if uid.startswith(_STANDARD_UID):
        return uid.name != uid and "Image Storage" not in uid.name
    # A class of its own, of a scanner's raw data, or an image that is truncated within its class.
    return bool(uid.is_valid and _series_uid(header))


def _has_position(header: Any) -> bool:
    groups = [*(header.get("SharedFunctionalGroupsSequence") or ())]
    groups += [*(header.get("PerFrameFunctionalGroupsSequence") or ())][:1]
    return "ImagePositionPatient" in header or any("PlanePositionSequence" in g for g in groups)
