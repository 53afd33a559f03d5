"""Read and write NIfTI files with NiBabel."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import (
    MAX_DEFLATE_RATIO,
    StrPath,
    atomic_write,
    check_size,
    existing_path,
    import_extra,
    wrap_read_errors,
)
from captum_3dcam.io.volume import Volume, check_shape

_REVERSED = [2, 1, 0, 3]  # columns of an affine: axes (i, j, k) of the file are (w, h, d) here
_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_CHUNK = 2**20  # voxels that are converted to float32 at once


def read_nifti(path: StrPath) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, ``.nii`` or ``.nii.gz``, as a :class:`Volume`.

    The axes are reversed, so that ``data[d, h, w]`` is ``get_fdata()[w, h, d]`` of NiBabel: the
    slices of an axial scan come first, as in :func:`read_dicom`. Values are scaled by the header's
    slope and intercept. The affine is the sform or, without one, the qform, in mm.

    Raises ImportError without NiBabel (extra ``medical``), FileNotFoundError, and ValueError for a
    file that is damaged, has no affine or several volumes, whose values are not real numbers, or
    that takes more than 2 GiB as float32 (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    nibabel = _import_nibabel()
    path = existing_path(path, "NIfTI file")
    with wrap_read_errors(path, "NIfTI"):
        header = _read_header(nibabel, path)
        stored = nibabel.arrayproxy.ArrayProxy(path, header)  # reads nothing yet
        shape = _check_header(stored, path)
        affine, space = _affine_of(header)
        with nibabel.openers.ImageOpener(path) as stream, np.errstate(all="ignore"):
            data = _read_values(nibabel, stream, stored)
            stream.read(2**20)  # gzip compares its checksum at the end of the file
        return Volume(data.reshape(shape[::-1]), affine, space)


def write_nifti(volume: Volume, path: StrPath) -> None:
    """Write a volume as NIfTI, ``.nii`` or ``.nii.gz``, in float32 with its affine.

    A map written as ``scan.with_data(map)`` therefore overlays the scan in any viewer. The affine
    is stored as sform and qform; one with a shear (tilted gantry) as sform alone.

    Raises ImportError without NiBabel (extra ``medical``), FileNotFoundError if the folder does not
    exist, and ValueError for another suffix.

    >>> from tempfile import TemporaryDirectory
    >>> scan = Volume(np.random.rand(4, 5, 6), np.diag([5.0, 2.0, 2.0, 1.0]))
    >>> with TemporaryDirectory() as folder:
    ...     write_nifti(scan.with_data(scan.data > 0.5), f"{folder}/map.nii.gz")
    ...     read_nifti(f"{folder}/map.nii.gz")
    Volume(shape=(4, 5, 6), spacing=(5.0, 2.0, 2.0), orientation='RAS')
    """
    nibabel = _import_nibabel()
    affine = volume.affine[:, _REVERSED]
    image = nibabel.Nifti1Image(volume.data.T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, volume.space)
    image.set_qform(affine, volume.space)
    # A quaternion cannot represent a shear. The bound is for the voxel farthest from the origin.
    displacement = np.abs(image.get_qform() - affine)[:3] @ [*volume.data.T.shape, 1]
    if displacement.max() > min(volume.spacing) / 10:
        image.set_qform(None)
    with atomic_write(path, (".nii", ".nii.gz")) as temporary:
        nibabel.save(image, temporary)


def _import_nibabel() -> Any:
    return import_extra("nibabel", "NIfTI files need NiBabel", "medical")


def _read_header(nibabel: Any, path: Path) -> Any:
    # Not nibabel.load, which reads the extensions of the header, whatever size they claim to have.
    with nibabel.openers.ImageOpener(path) as stream:
        start = stream.read(nibabel.Nifti2Header.sizeof_hdr)
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.may_contain_header(start):
            return kind(start[: kind.sizeof_hdr])
    raise ValueError("it has no NIfTI header.")


def _check_header(stored: Any, path: Path) -> tuple[int, ...]:
    """Check the shape, dtype and size of the data; return the shape with three axes."""
    shape, dtype = stored.shape, stored.dtype
    if math.prod(shape[3:]) != 1:
        raise ValueError(f"its shape is {shape}. Expected a single volume; save one of them alone.")
    shape = (*shape, 1, 1)[:3]
    check_shape(shape[::-1])
    if dtype.kind not in "iuf":
        raise ValueError(f"its values are {dtype}; expected real numbers.")
    size = stored.offset + math.prod(shape) * dtype.itemsize
    ratio = MAX_DEFLATE_RATIO if path.suffix.lower() == ".gz" else 1
    if size > path.stat().st_size * ratio:
        raise ValueError(f"it is truncated or damaged: the header describes {size} bytes.")
    check_size(path, 4 * math.prod(shape), f"{' x '.join(map(str, shape))} voxels")
    return shape


def _affine_of(header: Any) -> tuple[NDArray[np.float64], int]:
    """Return the affine in mm for (d, h, w), and the code of the space it maps to."""
    space = int(header["sform_code"]) or int(header["qform_code"])
    if not space:
        raise ValueError(
            "it has no affine (sform_code and qform_code are 0), and programs disagree about the "
            "default. If NiBabel's default is right, store it in the file: "
            "image = nibabel.load(path); image.set_sform(image.affine, 1); "
            "nibabel.save(image, path)."
        )
    affine = header.get_best_affine()[:, _REVERSED]
    affine[:3] *= _MM[header.get_xyzt_units()[0]]
    return affine, space


def _read_values(nibabel: Any, stream: Any, stored: Any) -> NDArray[np.float32]:
    """The scaled values in the order of the file.

    They are read in chunks, because NiBabel scales integers as float64.
    """
    count = math.prod(stored.shape)
    spec = ((count,), stored.dtype, stored.offset, stored.slope, stored.inter)
    values = nibabel.arrayproxy.ArrayProxy(stream, spec, mmap=False)
    data = np.empty(count, np.float32)
    for start in range(0, count, _CHUNK):
        data[start : start + _CHUNK] = values[start : start + _CHUNK]
    return data
