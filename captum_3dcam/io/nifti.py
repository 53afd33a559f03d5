"""Read and write NIfTI files with NiBabel."""

import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import StrPath, atomic_write, existing_path, wrap_read_errors
from captum_3dcam._validation import warn
from captum_3dcam.io._lengths import warn_of_rest
from captum_3dcam.io._nibabel import REVERSED, import_nibabel, read_start, read_voxels
from captum_3dcam.io._voxels import Index
from captum_3dcam.io.volume import Form, Header, Volume

_MM = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}  # in the order of their codes
_MAX_NIFTI1_SIDE = 2**15 - 1
_MAX_DESCRIPTION = 79  # bytes
_FLAG = 4  # bytes after a header: whether extensions follow
_PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
_SPACES = ("unused", "scanner", "another scan", "Talairach", "MNI 152", "another template")


def read_nifti(
    path: StrPath,
    *,
    index: Index = None,
    nan: float | None = None,
) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file as a :class:`Volume`.

    The file is ``.nii`` or ``.nii.gz``, or one of a pair ``.hdr`` and ``.img``. The axes are
    reversed, so that ``data[d, h, w]`` is ``get_fdata()[w, h, d]`` of NiBabel: the slices of an
    axial scan come first, as in :func:`read_dicom`. Values are scaled by the header's slope and
    intercept. The affine is the sform or, without one, the qform, in mm; the other one is kept
    for :func:`write_nifti`, with a warning if it lies more than a tenth of a voxel away.

    Args:
        path: the file.
        index: the volume to read of a file that has several, such as a time of an fMRI; ``"all"``
            reads all as the channels of one input, as vectors (i, j, k, 1, C) always are.
        nan: the value of voxels that are NaN or infinite; without it they are an error.

    Raises ImportError without NiBabel (extra ``medical``), FileNotFoundError, and ValueError for a
    file that is damaged or has no affine (also Analyze 7.5), for several volumes without a choice,
    for values that are not real numbers, and for more than 2 GiB as float32 (unless
    ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    nibabel = import_nibabel("NIfTI")
    path = existing_path(path, "NIfTI file")
    with wrap_read_errors(path, "NIfTI"):
        header_path, data_path = _files(path)
        is_pair = header_path != data_path
        header = _read_header(nibabel, header_path, is_pair)
        data, rest = read_voxels(nibabel, data_path, header, index, nan)
        if is_pair and rest:
            raise ValueError(
                f"{data_path.name!r} has {len(rest):,} bytes or more after the values that the "
                "header describes: it belongs to another header."
            )
        affine, space, facts = _read_forms(nibabel, header)
        volume = Volume(data, affine, space, facts)
    warn_of_rest(path, rest, len(rest))
    _warn_of_two_forms(volume, path)
    return volume


def write_nifti(volume: Volume, path: StrPath) -> None:
    """Write a volume as NIfTI, ``.nii`` or ``.nii.gz``, in float32; channels on the last axis.

    A map written as ``scan.with_data(map)`` lies on the scan in any viewer: the file has the sform,
    the qform, their codes and the length unit of the scan's file. The affine of another volume is
    stored as sform and qform; one with a shear (tilted gantry) as sform alone, with a warning.

    Raises ImportError without NiBabel (extra ``medical``), FileNotFoundError if the folder does not
    exist, and ValueError for another suffix.

    >>> from tempfile import TemporaryDirectory
    >>> scan = Volume(np.random.rand(4, 5, 6), np.diag([5.0, 2.0, 2.0, 1.0]))
    >>> with TemporaryDirectory() as folder:
    ...     write_nifti(scan.with_data(scan.data > 0.5), f"{folder}/map.nii.gz")
    ...     read_nifti(f"{folder}/map.nii.gz")
    Volume(shape=(4, 5, 6), spacing=(5.0, 2.0, 2.0), orientation='RAS')
    """
    nibabel = import_nibabel("NIfTI")
    fits = max(volume.data.shape) <= _MAX_NIFTI1_SIDE
    kind = nibabel.Nifti1Image if fits else nibabel.Nifti2Image
    header = kind.header_class()
    header.set_xyzt_units(*volume.header.units)
    header["descrip"] = volume.header.description.encode("ascii", "replace")[:_MAX_DESCRIPTION]
    header["cal_min"], header["cal_max"] = volume.header.display_range or (0, 0)
    _write_forms(header, volume)
    header.set_data_dtype(np.float32)
    image = kind(volume.data.T, None, header)
    with atomic_write(path, (".nii", ".nii.gz")) as temporary:
        nibabel.save(image, temporary)


# ------------------------------------------------------------------------------- the header


def _files(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the values."""
    name = path.name
    suffix = next((s for s in _PAIR if name.lower().endswith(s)), None)
    if suffix is None:
        return path, path
    stem = name[: -len(suffix)]
    siblings = {other.name.lower(): other for other in path.parent.glob(f"{_escape(stem)}.*")}
    header, values = (
        next(
            (siblings[n] for s in ("", ".gz") if (n := f"{stem}{kind}{s}".lower()) in siblings),
            None,
        )
        for kind in (".hdr", ".img")
    )
    if header is None or values is None:
        missing = f"{stem}{'.hdr' if header is None else '.img'}"
        raise ValueError(f"it is one of a pair of files, and {missing!r} is not beside it.")
    return header, values


def _escape(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _read_header(nibabel: Any, path: Path, is_pair: bool) -> Any:
    # Not nibabel.load, which reads the extensions of the header, whatever size they claim to have.
    start = read_start(path, nibabel.Nifti2Header.sizeof_hdr + _FLAG)
    pairs = (nibabel.nifti1.Nifti1PairHeader, nibabel.nifti2.Nifti2PairHeader)
    for kind in pairs if is_pair else (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.may_contain_header(start):
            header = kind(start[: kind.sizeof_hdr])
            if not is_pair and header["vox_offset"] == 0:
                _add_offset(header, start, path)
            return header
    if start[:4] in (struct.pack("<i", 348), struct.pack(">i", 348)):
        raise ValueError(
            "it is an Analyze 7.5 file, a format without an orientation: left and right cannot be "
            "told apart. If you know that NiBabel's default is right, convert it: "
            "image = nibabel.load(path); "
            "nibabel.save(nibabel.Nifti1Image(image.dataobj, image.affine), 'scan.nii')"
        )
    raise ValueError("it has no NIfTI header.")


def _add_offset(header: Any, start: bytes, path: Path) -> None:
    """Correct the position 0 of the values, which NiBabel accepts, to the end of the header."""
    end = header.sizeof_hdr + _FLAG
    if any(start[header.sizeof_hdr : end]):
        raise ValueError(
            f"its vox_offset is 0, and it has extensions: expected the position of its values, at "
            f"least {end}."
        )
    header["vox_offset"] = end
    warn(
        f"{str(path)!r} has a vox_offset of 0, the position of its header. Its values are taken "
        f"to be at {end}, the first position that the format allows; other programs may differ."
    )


def _read_forms(nibabel: Any, header: Any) -> tuple[NDArray[np.float64], int, Header]:
    """The affine in mm for (d, h, w), the code of the space it maps to, and the other facts."""
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    if not any(codes.values()):
        raise ValueError(
            "it has no affine (sform_code and qform_code are 0), and programs disagree about the "
            "default. If NiBabel's default is right, store it in the file: "
            "image = nibabel.load(path); image.set_sform(image.affine, 1); "
            "nibabel.save(image, path)."
        )
    units = _read_units(nibabel, header)
    used, second = ("sform", "qform") if codes["sform"] else ("qform", "sform")
    affine = _in_mm(getattr(header, f"get_{used}")(), units)
    try:
        other = Form(second, _in_mm(getattr(header, f"get_{second}")(), units), codes[second])
        usable = bool(np.isfinite(other.affine).all())
    except nibabel.spatialimages.HeaderDataError:  # quaternion or voxel sizes that are none
        usable = False
    low, high = float(header["cal_min"]), float(header["cal_max"])
    facts = Header(
        other if usable else Form(second, affine, 0),
        units,
        header["descrip"].item().split(b"\0")[0].decode("latin-1"),
        (low, high) if np.isfinite([low, high]).all() and low < high else None,
    )
    return affine, codes[used], facts


def _read_units(nibabel: Any, header: Any) -> tuple[str, str]:
    code = int(header["xyzt_units"])
    if code % 8 >= len(_MM):
        raise ValueError(f"its length unit has the code {code % 8}; expected m 1, mm 2, micron 3.")
    times = nibabel.nifti1.unit_codes.label
    time = code - code % 8
    return list(_MM)[code % 8], times[time] if time in (8, 16, 24) else "unknown"


def _in_mm(form: NDArray[np.float64], units: tuple[str, str]) -> NDArray[np.float64]:
    affine = np.array(form, np.float64)[:, REVERSED]
    affine[:3] *= _MM[units[0]]
    return affine


def _warn_of_two_forms(volume: Volume, path: Path) -> None:
    """Warn if the forms of the affine differ by more than a tenth of a voxel."""
    second = volume.header.second_form
    if second is None or not second.space:
        return
    distance = _distance(volume.affine, second.affine, volume.shape)
    if distance > min(volume.spacing) / 10:
        used = "sform" if second.name == "qform" else "qform"
        warn(
            f"{str(path)!r} has two affines that differ by up to {distance:.3g} mm: the {used} "
            f"({_SPACES[volume.space]}), which is used, and the {second.name} "
            f"({_SPACES[second.space]}), which other programs may prefer. A map keeps both."
        )


def _distance(a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """The largest distance between the positions that two affines give to a voxel, in mm."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))])
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def _write_forms(header: Any, volume: Volume) -> None:
    scale = _MM[volume.header.units[0]]
    second = volume.header.second_form
    forms = dict.fromkeys(("sform", "qform"), (volume.affine, volume.space))
    if second is not None:
        forms[second.name] = second.affine, second.space
    for name, (affine, space) in forms.items():
        in_file = affine[:, REVERSED].copy()
        in_file[:3] /= scale
        getattr(header, f"set_{name}")(in_file, space)
    if second is not None:
        return
    # A quaternion cannot represent a shear.
    qform = header.get_qform()[:, REVERSED]
    qform[:3] *= scale
    if _distance(qform, volume.affine, volume.shape) > min(volume.spacing) / 10:
        header.set_qform(None, 0)
        warn(
            "The affine has a shear (tilted gantry), which only the sform of NIfTI can store. "
            "Programs that do not read the sform, and ITK, cannot open the file or draw it "
            "elsewhere. Resample the volume to a grid without shear for them."
        )
