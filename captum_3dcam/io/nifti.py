"""NIfTI in and out. NiBabel understands the headers; the data are read here, within bounds."""

import gzip
import math
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.io._files import (
    StrPath,
    atomic_write,
    existing_path,
    import_extra,
    wrap_read_errors,
)
from captum_3dcam.io.volume import Volume, check_size

_REVERSED = [2, 1, 0, 3]  # of an affine's columns: a file's (i, j, k) are our (w, h, d)
_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_MAX_PACKED = 1032  # bytes out of one, the most that gzip can do
_MAX_HEADER = 2**26
_PIECE = 2**20


def read_nifti(path: StrPath) -> Volume:
    """A NIfTI file, ``.nii`` or ``.nii.gz``, version 1 or 2, as a :class:`Volume`.

    The file's axes come in reverse, ``data[d, h, w]`` is the file's (w, h, d): in an axial scan
    the slices come first, as in :func:`read_dicom`. Its scaling is applied. Places are those of
    the sform or, without one, of the qform, in mm.

    Raises ImportError without NiBabel (the extra ``medical``), FileNotFoundError, and ValueError
    for a file that is damaged or cut off, has several volumes, no real numbers, or does not say
    where its voxels lie.
    """
    nibabel = _import_nibabel()
    found = existing_path(path, "NIfTI file")
    with wrap_read_errors(path, "NIfTI"), found.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        most = found.stat().st_size * (_MAX_PACKED if packed else 1)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        header = _header(nibabel, stream)
        data = _scaled(_stored(header, stream, most), *header.get_slope_inter())
        return Volume(data, *_place(header))


def write_nifti(volume: Volume, path: StrPath) -> None:
    """Write a volume as NIfTI, ``.nii`` or ``.nii.gz``, float32, with its own affine.

    A map on a scan's grid, ``scan.with_data(map)``, so lies on the scan in any viewer. The sform
    has the affine; the qform too, but for an affine with a shear (a tilted gantry's), which it
    cannot say. The file appears when it is whole; one that was there before is replaced.

    Raises ImportError without NiBabel (the extra ``medical``), FileNotFoundError without the
    folder, ValueError for another suffix.

    >>> from tempfile import TemporaryDirectory
    >>> scan = Volume(np.random.rand(4, 5, 6), np.diag([5.0, 2.0, 2.0, 1.0]))
    >>> with TemporaryDirectory() as folder:
    ...     write_nifti(scan.with_data(scan.data > 0.5), f"{folder}/map.nii.gz")
    ...     found = read_nifti(f"{folder}/map.nii.gz")
    >>> found.shape, found.spacing
    ((4, 5, 6), (5.0, 2.0, 2.0))
    """
    nibabel = _import_nibabel()
    affine = volume.affine[:, _REVERSED]
    image = nibabel.Nifti1Image(volume.data.T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, volume.space)
    image.set_qform(affine, volume.space)
    if not _agree(image.header.get_qform(), affine, volume):
        image.set_qform(None)
    with atomic_write(path, (".nii", ".nii.gz")) as beside, beside.open("wb") as file:
        if beside.suffix == ".gz":
            # No time and no name in it: the same volume makes the same file.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _import_nibabel() -> Any:
    return import_extra("nibabel", "NIfTI files need NiBabel", "medical")


def _agree(qform: NDArray[np.float64], affine: NDArray[np.float64], volume: Volume) -> bool:
    """Whether no corner of the volume is off by a tenth of a voxel."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * volume.shape[::-1]
    off = np.c_[corners, np.ones(8)] @ (qform - affine).T
    return bool(np.linalg.norm(off, axis=1).max() < min(volume.spacing) / 10)


# ------------------------------------------------------------------------------------ reading


def _header(nibabel: Any, stream: BinaryIO) -> Any:
    size = stream.read(4)
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    found = {n: kind for n, kind in kinds.items() if n.to_bytes(4, "little") in (size, size[::-1])}
    for length, kind in found.items():
        header = kind(size + stream.read(length - 4))
        if header["magic"].item() in (b"n+1", b"n+2"):
            return header
        raise ValueError("its data are in another file (.img). Save it as one file, '.nii'.")
    raise ValueError("it does not begin as one.")


def _stored(header: Any, stream: BinaryIO, most: int) -> NDArray[Any]:
    """The numbers (D, H, W) as they are stored, of ``most`` bytes at most."""
    shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise ValueError(f"its shape is {shape}; expected one volume. Save one of them alone.")
    shape = shape + (1,) * (3 - len(shape))
    check_size(shape[::-1])
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError(f"it holds {dtype}; expected real numbers.")
    size, skip = math.prod(shape) * dtype.itemsize, header.get_data_offset() - stream.tell()
    if not 0 <= skip <= _MAX_HEADER or size > most:
        raise ValueError(f"it is cut off, or damaged: its header promises {size} bytes of data.")
    while skip > 0 and (passed := len(stream.read(min(skip, _PIECE)))):
        skip -= passed
    stored = np.empty(shape[::-1], dtype)
    view = stored.reshape(-1).view(np.uint8).data
    while view and (count := stream.readinto(view[:_PIECE])):  # type: ignore[attr-defined]
        view = view[count:]
    if view:
        raise ValueError(f"it is cut off: {len(view)} of {size} bytes are missing.")
    stream.read(_PIECE)  # to its end, where gzip compares its checksum
    return stored


def _scaled(
    stored: NDArray[Any], slope: float | None, intercept: float | None
) -> NDArray[np.float32]:
    data = np.empty(stored.shape, np.float32)
    with np.errstate(all="ignore"):
        for plane, numbers in zip(data, stored, strict=True):  # a plane at a time, in double
            plane[:] = numbers if slope is None else numbers * np.float64(slope) + intercept
    return data


def _place(header: Any) -> tuple[NDArray[np.float64], int]:
    """The affine, and the code of the space that it leads to."""
    for code, form in ((header["sform_code"], "get_sform"), (header["qform_code"], "get_qform")):
        if code > 0:
            affine = getattr(header, form)()[:, _REVERSED]
            affine[:3] *= _MM[header.get_xyzt_units()[0]]
            return affine, int(code)
    raise ValueError(
        "it does not say where its voxels lie (sform_code and qform_code are 0), and programs "
        "differ in what they make of that. If NiBabel's guess is right, write it into the file: "
        "image = nibabel.load(path); image.set_sform(image.affine, 1); nibabel.save(image, path)."
    )
