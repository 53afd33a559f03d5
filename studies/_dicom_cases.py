"""DICOM files of many kinds, with the volume that each describes by the formula of the standard.

The pixels and headers are those of files that pydicom, pydicom-data and NiBabel ship; what a folder
lacks (unordered, duplicated, compressed, tilted) is made from them.
"""

import gzip
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Expected(NamedTuple):
    """What a case describes: a volume, or, without data, nothing that can be read unmentioned."""

    data: NDArray[np.float64] | None = None
    affine: NDArray[np.float64] | None = None


UNREADABLE = Expected()
Make = Callable[[Path], Expected]


def file_of(name: str) -> Path:
    """A file of pydicom or pydicom-data; FileNotFoundError where the latter is missing."""
    folders = [Path(pydicom.__file__).parent / "data" / "test_files"]
    if spec := find_spec("data_store"):
        folders.append(Path(str(spec.origin)).parent / "data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"There is no {name}: pip install pydicom-data.")


def nicom_file(name: str) -> bytes:
    """The content of a file of NiBabel's tests."""
    path = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / name
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def ct_slices(count: int = 6, step: Sequence[float] = (0, 0, 5.0), first: int = 0) -> list[Any]:
    """``CT_small.dcm`` at several positions, with other values and no order in its numbers."""
    base = pydicom.dcmread(file_of("CT_small.dcm"))
    del base.DataSetTrailingPadding
    slices = []
    for number in range(first, first + count):
        item = deepcopy(base)
        position = np.array(base.ImagePositionPatient, float) + number * np.array(step, float)
        item.ImagePositionPatient = [f"{x:.6f}" for x in position]
        item.SliceLocation = f"{position[2]:.6f}"
        pixels = np.roll(base.pixel_array, 7 * number, 1) + number
        item.PixelData = pixels.astype(np.int16).tobytes()
        item.InstanceNumber = 5 * number % 7
        set_instance(item, f"1.2.826.0.1.{number + 1}")
        slices.append(item)
    return slices


def set_instance(item: Any, instance: str) -> None:
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = instance


def save(items: Sequence[Any], folder: Path, names: str = "{:02d}.dcm") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(items):
        item.save_as(folder / names.format(5 * number % 7 + 7 * (number // 7)))


def describe_volume(items: Sequence[Any]) -> Expected:
    """The volume of single slices in the order of their positions, by the standard's formula."""
    first, last = items[0], items[-1]
    rows, columns = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    affine = np.eye(4)
    start, end = (np.array(item.ImagePositionPatient, float) for item in (first, last))
    if len(items) > 1:
        affine[:3, 0] = (end - start) / (len(items) - 1)
    else:
        affine[:3, 0] = np.cross(rows, columns) * float(
            first.get("SpacingBetweenSlices", first.SliceThickness)
        )
    affine[:3, 1] = columns * float(first.PixelSpacing[0])
    affine[:3, 2] = rows * float(first.PixelSpacing[1])
    affine[:3, 3] = start
    data = [
        item.pixel_array * float(item.get("RescaleSlope", 1))
        + float(item.get("RescaleIntercept", 0))
        for item in items
    ]
    return Expected(np.stack(data), RAS @ affine)


# --------------------------------------------------------------------------------- single files


def single_slice(folder: Path) -> Expected:
    return _copy("MR_small.dcm", folder)


def _copy(name: str, folder: Path) -> Expected:
    shutil.copy(file_of(name), folder / name)
    return describe_volume([pydicom.dcmread(folder / name)])


def compressed(name: str, plain: str = "MR_small.dcm") -> Make:
    """A compressed file, of which a plain one has the values."""

    def make(folder: Path) -> Expected:
        shutil.copy(file_of(name), folder / name)
        return describe_volume([pydicom.dcmread(file_of(plain))])

    return make


def enhanced_ct(folder: Path) -> Expected:
    shutil.copy(file_of("eCT_Supplemental.dcm"), folder)
    return describe_volume(split_frames(pydicom.dcmread(file_of("eCT_Supplemental.dcm"))))


def enhanced_mr(name: str) -> Make:
    """An enhanced file of pydicom, from which the geometry was removed, with one."""

    def make(folder: Path) -> Expected:
        item = add_geometry(pydicom.dcmread(file_of(name)))
        item.save_as(folder / name)
        return describe_volume(
            split_frames(add_geometry(pydicom.dcmread(file_of("emri_small.dcm"))))
        )

    return make


def add_geometry(item: Any) -> Any:
    """Give the frames oblique positions, in no order, and a rescale slope each."""
    frames = []
    for number in range(int(item.NumberOfFrames)):
        position, order = pydicom.Dataset(), 3 * number % 10
        position.ImagePositionPatient = [-50.0 - 1.8 * order, 20.0 + 2.4 * order, 30.0]
        value = pydicom.Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = 1 + number, 5, "US"
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = [position]
        frame.PixelValueTransformationSequence = [value]
        frames.append(frame)
    item.PerFrameFunctionalGroupsSequence = frames
    shared, plane, pixels = (pydicom.Dataset() for _ in range(3))
    plane.ImageOrientationPatient = [0.8, 0.6, 0, 0, 0, -1]
    pixels.PixelSpacing, pixels.SliceThickness = [0.9, 0.7], 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [pixels]
    item.SharedFunctionalGroupsSequence = [shared]
    return item


def without_geometry(folder: Path) -> Expected:
    shutil.copy(file_of("emri_small.dcm"), folder)
    return UNREADABLE


def split_frames(source: Any) -> list[Any]:
    """The frames of an enhanced file as if each were a file, by position."""
    shared = source.SharedFunctionalGroupsSequence[0]
    items = []
    for frame, pixels in zip(
        source.PerFrameFunctionalGroupsSequence, source.pixel_array, strict=True
    ):
        item = pydicom.Dataset()
        for group in (shared, frame):
            for sequence in group:
                if sequence.VR == "SQ" and sequence.keyword in _GEOMETRY and len(sequence.value):
                    item.update(sequence.value[0])
        item.pixels = pixels
        items.append(item)
    normal = np.cross(*np.array(items[0].ImageOrientationPatient, float).reshape(2, 3))
    items.sort(key=lambda item: float(np.array(item.ImagePositionPatient, float) @ normal))
    return [_Frame(item) for item in items]


_GEOMETRY = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
)


class _Frame:
    """A frame as :func:`describe_volume` takes it."""

    def __init__(self, item: Any) -> None:
        self.pixel_array = item.pixels
        self._item = item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._item, name)


def mosaic(folder: Path) -> Expected:
    """The volume of NiBabel, whose reader is the reference for mosaics in Python."""
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    (folder / "mosaic.dcm").write_bytes(nicom_file("siemens_dwi_0.dcm.gz"))
    wrapper = wrapper_from_file(str(folder / "mosaic.dcm"))
    data = np.asarray(wrapper.get_data(), float)  # rows, columns, slices
    return Expected(data.transpose(2, 0, 1), (RAS @ wrapper.affine)[:, [2, 0, 1, 3]])


def philips_multiframe(folder: Path) -> Expected:
    content = nicom_file("philips_mprage.dcm.gz")
    (folder / "philips.dcm").write_bytes(content)
    return describe_volume(split_frames(pydicom.dcmread(BytesIO(content))))


# --------------------------------------------------------------------------------------- series


def series(**changed: Any) -> Make:
    """A series; each keyword is an attribute of its slices, or a function of their number."""

    def make(folder: Path) -> Expected:
        items = ct_slices()
        for number, item in enumerate(items):
            for name, value in changed.items():
                setattr(item, name, value(number) if callable(value) else value)
        save(items, folder)
        return describe_volume(items)

    return make


def duplicated(folder: Path) -> Expected:
    expected = series()(folder)
    for path in sorted(folder.iterdir())[:3]:
        shutil.copy(path, folder / f"{path.stem} (1).dcm")
    return expected


def no_preamble(folder: Path) -> Expected:
    items = ct_slices()
    save(items[:4], folder, "I{:03d}")
    for number, item in enumerate(items[4:]):
        plain = pydicom.Dataset(item)
        pydicom.dcmwrite(folder / f"J{number:03d}", plain, implicit_vr=True, little_endian=True)
    return describe_volume(items)


def nested_study(folder: Path) -> Expected:
    """A study on disk: slices in subfolders, beside them other objects, text and a DICOMDIR."""
    items = ct_slices()
    save(items[:3], folder / "PAT" / "ST0" / "SE0", "IM{:06d}")
    save(items[3:], folder / "PAT" / "ST0" / "SE1", "IM{:06d}")
    (folder / "PAT" / "ST0" / "OBJ").mkdir()
    for name in ("test-SR.dcm", "rtplan.dcm", "rtstruct.dcm", "liver_1frame.dcm"):
        shutil.copy(file_of(name), folder / "PAT" / "ST0" / "OBJ")
    shutil.copy(file_of("dicomdirtests/DICOMDIR"), folder)
    (folder / "README.txt").write_text("Viewer: double-click.")
    return describe_volume(items)


def segmentation_of_same_series(folder: Path) -> Expected:
    """A presentation state with the UID of the series: software that stores it so exists."""
    expected = series()(folder)
    state = pydicom.dcmread(file_of("test-SR.dcm"))
    state.SeriesInstanceUID = pydicom.dcmread(next(folder.glob("*.dcm"))).SeriesInstanceUID
    state.save_as(folder / "state.dcm")
    return expected


def gantry_tilt(folder: Path) -> Expected:
    """Slices of a tilted gantry: the table moves obliquely to them."""
    items = ct_slices(step=(0, 0.9, 4.9))
    for item in items:
        item.GantryDetectorTilt = "10.4"
    save(items, folder)
    return describe_volume(items)


def missing_slice(folder: Path) -> Expected:
    items = ct_slices(8)
    save(items[:4] + items[5:], folder)
    return UNREADABLE


def unequal_gaps(folder: Path) -> Expected:
    items = ct_slices(8)
    for number, item in enumerate(items):
        item.ImagePositionPatient[2] = 5.0 * number + 0.8 * number**2
    save(items, folder)
    return UNREADABLE


def time_points(folder: Path) -> Expected:
    items = ct_slices() + ct_slices()
    for number, item in enumerate(items):
        item.AcquisitionNumber = item.TemporalPositionIdentifier = 1 + number // 6
        item.InstanceNumber = number
        set_instance(item, f"1.2.826.0.9.{number}")
    save(items, folder)
    return UNREADABLE


def localizers(folder: Path) -> Expected:
    """One axial and two sagittal slices in one series."""
    items = ct_slices(3)
    for item in items[1:]:
        item.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    save(items, folder)
    return UNREADABLE


def two_series(folder: Path) -> Expected:
    items = ct_slices() + ct_slices(4, (0, 0, 2.5), 20)
    for item in items[6:]:
        item.SeriesInstanceUID = "1.2.826.0.2"
    save(items, folder)
    return UNREADABLE


def real_ct(folder: Path) -> Expected:
    """Five slices that a scanner stored, in two acquisitions."""
    source = file_of("dicomdirtests/98892001/CT5N/2062").parent
    shutil.copytree(source, folder / "CT5N")
    items = [pydicom.dcmread(path) for path in (folder / "CT5N").iterdir()]
    items.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    return describe_volume(items)


def real_missing(folder: Path) -> Expected:
    """Four slices that a scanner stored, of which many between them are missing."""
    shutil.copytree(file_of("dicomdirtests/77654033/CT2/17106").parent, folder / "CT2")
    return UNREADABLE


def transcoded(syntax: str) -> Make:
    """A series in a transfer syntax that pydicom can write."""

    def make(folder: Path) -> Expected:
        items = ct_slices()
        expected = describe_volume(items)
        for item in items:
            if syntax == uid.DeflatedExplicitVRLittleEndian:
                item.file_meta.TransferSyntaxUID = syntax
            else:
                item.compress(syntax, generate_instance_uid=False)
        save(items, folder)
        return expected

    return make


CASES: dict[str, Make] = {
    "single slice, MR": single_slice,
    "series, unordered": series(),
    "series, signed 16 bits": series(PixelRepresentation=1),
    "series, a rescale slope per slice": series(RescaleSlope=lambda number: 1 + number),
    "series, coronal": series(
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        ImagePositionPatient=lambda n: [-158.1, 5.0 * n, -75.7],
    ),
    "series, oblique": series(
        ImageOrientationPatient=[0.8, 0.6, 0, 0, 0, -1],
        ImagePositionPatient=lambda n: [-158.1 - 3.0 * n, 10.0 + 4.0 * n, -75.7],
    ),
    "series, CT in MONOCHROME1": series(PhotometricInterpretation="MONOCHROME1"),
    "series, two acquisitions, real": real_ct,
    "duplicated slices": duplicated,
    "no preamble, no suffix": no_preamble,
    "nested study with other objects": nested_study,
    "another object in the series": segmentation_of_same_series,
    "gantry tilt": gantry_tilt,
    "enhanced MR": enhanced_mr("emri_small.dcm"),
    "enhanced CT": enhanced_ct,
    "enhanced MR, Philips": philips_multiframe,
    "enhanced MR, RLE": enhanced_mr("emri_small_RLE.dcm"),
    "enhanced MR, JPEG-LS": enhanced_mr("emri_small_jpeg_ls_lossless.dcm"),
    "enhanced MR, JPEG 2000": enhanced_mr("emri_small_jpeg_2k_lossless.dcm"),
    "Siemens mosaic": mosaic,
    "RLE": compressed("MR_small_RLE.dcm"),
    "JPEG-LS": compressed("MR_small_jpeg_ls_lossless.dcm"),
    "JPEG 2000": compressed("MR_small_jp2klossless.dcm"),
    "JPEG 2000, real": compressed("693_J2KR.dcm", "693_UNCR.dcm"),
    "big endian": compressed("MR_small_bigendian.dcm"),
    "implicit": compressed("MR_small_implicit.dcm"),
    "enhanced MR, no geometry": without_geometry,
    "series, deflated": transcoded(uid.DeflatedExplicitVRLittleEndian),
    "series, RLE": transcoded(uid.RLELossless),
    "missing slice": missing_slice,
    "missing slices, real": real_missing,
    "unequal gaps": unequal_gaps,
    "two time points in one series": time_points,
    "orientations mixed": localizers,
    "two series": two_series,
}
