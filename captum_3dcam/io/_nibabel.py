"""Values of the formats that NiBabel reads, in chunks and within the memory limit."""

import gzip
import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import MAX_DEFLATE_RATIO, check_size, import_extra
from captum_3dcam.io._voxels import Index, choose_volumes, replace_non_finite
from captum_3dcam.io.volume import check_shape

REVERSED = [2, 1, 0, 3]  # columns of an affine: axes (i, j, k) of the file are (w, h, d) here
_CHUNK = 2**20  # voxels that are converted to float32 at once


def import_nibabel(kind: str) -> Any:
    """NiBabel, for files of that kind."""
    return import_extra("nibabel", f"{kind} files need NiBabel", "medical")


def open_file(path: Path) -> BinaryIO:
    """Open a file, decompressed if it is gzip, whatever its suffix."""
    return cast(BinaryIO, gzip.open(path)) if _is_gzip(path) else path.open("rb")


def read_start(path: Path, size: int) -> bytes:
    """The first bytes of the decompressed file."""
    with open_file(path) as stream:
        return stream.read(size)


def read_voxels(
    nibabel: Any, path: Path, header: Any, index: Index, nan: float | None
) -> tuple[NDArray[np.float32], bytes]:
    """The scaled values (D, H, W), or (C, D, H, W), of the file that a NiBabel header describes.

    Returns the bytes after the values too, 1 MiB at most.
    """
    stored = nibabel.arrayproxy.ArrayProxy(path, header)  # reads nothing yet
    grid, count, are_channels = _check_shape(stored.shape)
    _check_stored_size(stored, path)
    chosen = choose_volumes(count, index, are_channels)
    content = f"{' x '.join(map(str, grid))} voxels"
    content += f" in {len(chosen)} channels" if len(chosen) > 1 else ""
    check_size(path, 4 * len(chosen) * math.prod(grid), content)
    with open_file(path) as stream, np.errstate(all="ignore"):
        data, rest = _read_values(nibabel, stream, stored, chosen)
    data = data.reshape(len(chosen), *grid[::-1])
    data = data if len(chosen) > 1 else data[0]
    replace_non_finite(data, nan)
    return data, rest


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_shape(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, bool]:
    """The grid (i, j, k), the number of volumes on it, and whether these are vectors (axis 5)."""
    grid, more = (*map(int, shape), 1, 1)[:3], [int(n) for n in shape[3:]]
    if 0 in more or sum(n != 1 for n in more) > 1:
        raise ValueError(
            f"its shape is {tuple(map(int, shape))}. Expected one axis more than the three of "
            "space at most, and none without voxels; save a part of it alone."
        )
    check_shape(grid[::-1])
    are_vectors = len(more) > 1 and more[1] > 1
    return grid, math.prod(more), are_vectors


def _check_stored_size(stored: Any, path: Path) -> None:
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"its values are {stored.dtype}; expected real numbers.")
    size = stored.offset + math.prod(map(int, stored.shape)) * stored.dtype.itemsize
    ratio = MAX_DEFLATE_RATIO if _is_gzip(path) else 1
    if size > path.stat().st_size * ratio:
        raise ValueError(f"it is truncated or damaged: the header describes {size} bytes.")


def _read_values(
    nibabel: Any, stream: BinaryIO, stored: Any, chosen: range
) -> tuple[NDArray[np.float32], bytes]:
    """The scaled values of the chosen volumes in the order of the file, and the bytes after all.

    They are read in chunks, because NiBabel scales integers as float64.
    """
    total, size = math.prod(map(int, stored.shape)), math.prod(map(int, stored.shape[:3]))
    spec = ((total,), stored.dtype, stored.offset, stored.slope, stored.inter)
    values = nibabel.arrayproxy.ArrayProxy(stream, spec, mmap=False)
    data = np.empty(len(chosen) * size, np.float32)
    for start in range(0, len(data), _CHUNK):
        stop, offset = min(start + _CHUNK, len(data)), chosen.start * size
        data[start:stop] = values[offset + start : offset + stop]
    end = stored.offset + total * stored.dtype.itemsize
    while stream.tell() < end and stream.read(min(_CHUNK, end - stream.tell())):
        pass
    rest = stream.read(_CHUNK)  # gzip compares its checksum at the end of the file
    return data, rest
