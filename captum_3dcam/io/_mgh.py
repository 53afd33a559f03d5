"""Read and write FreeSurfer's MGH and MGZ files with NiBabel."""

import struct
from pathlib import Path

from captum_3dcam._files import StrPath, atomic_write, wrap_read_errors
from captum_3dcam._validation import warn
from captum_3dcam.io._nibabel import REVERSED, import_nibabel, read_start, read_voxels
from captum_3dcam.io._voxels import Index
from captum_3dcam.io.volume import Volume

_SIZE = 90  # bytes of the header before the values
_HAS_AFFINE_AT = 28  # the position of a flag, two bytes


def read_mgh(path: Path, index: Index, nan: float | None) -> Volume:
    """Read ``.mgh`` or ``.mgz``, its axes reversed as in :func:`read_nifti`."""
    nibabel = import_nibabel("MGH")
    with wrap_read_errors(path, "MGH"):
        start = read_start(path, _SIZE)
        if len(start) < _SIZE:
            raise ValueError("its header is truncated.")
        header = nibabel.freesurfer.mghformat.MGHHeader(start)
        data, _ = read_voxels(nibabel, path, header, index, nan)
        volume = Volume(data, header.get_affine()[:, REVERSED])
    if struct.unpack_from(">h", start, _HAS_AFFINE_AT) == (0,):
        warn(
            f"{str(path)!r} has no affine. FreeSurfer's default is used: coronal slices, and the "
            "centre at the origin."
        )
    return volume


def write_mgh(volume: Volume, path: StrPath) -> None:
    """Write ``.mgh`` or ``.mgz``, in float32."""
    nibabel = import_nibabel("MGH")
    image = nibabel.MGHImage(volume.data.T, volume.affine[:, REVERSED])
    with atomic_write(path, (".mgh", ".mgz")) as temporary:
        nibabel.save(image, temporary)
