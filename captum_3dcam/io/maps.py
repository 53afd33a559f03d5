"""Save and load maps as ``.npz``."""

import json
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, float64

from captum_3dcam._files import (
    StrPath,
    atomic_write,
    check_size,
    existing_path,
    wrap_read_errors,
)
from captum_3dcam.io._voxels import check_real

_MEMBERS = {"map.npy", "metadata.npy"}
_NPY_HEADERS = {  # by version; NumPy writes the first one unless the header is very long
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Map(NamedTuple):
    """A map of any shape, float32, and its metadata."""

    data: NDArray[np.float32]
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return f"Map(shape={self.data.shape}, metadata={self.metadata})"


def save_map(
    data: Tensor | ArrayLike, path: StrPath, metadata: Mapping[str, Any] | None = None
) -> None:
    """Save a map as float32 in a ``.npz`` file, which NumPy can read as well.

    Args:
        data: the map, of any shape, real dtype and device. Stored as ``"map"``.
        path: the file to write.
        metadata: anything that JSON can represent, such as the class, the layers, fps or spacing.
            Stored as the string ``"metadata"``.

    Raises FileNotFoundError if the folder does not exist, and ValueError for another suffix, for
    values that are complex or too large for float32, and for metadata that JSON cannot represent.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_map([[0, 0.5], [1, 0]], f"{folder}/map.npz", {"class": "golf", "fps": 25})
    ...     load_map(f"{folder}/map.npz")
    Map(shape=(2, 2), metadata={'class': 'golf', 'fps': 25})
    """
    array = _to_float32(data)
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected values that JSON can represent: {error}") from error
    with atomic_write(path, (".npz",)) as temporary:
        np.savez_compressed(temporary, map=array, metadata=np.array(text))


def _to_float32(data: Tensor | ArrayLike) -> NDArray[np.float32]:
    check_real(data)
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data if data.dtype == float64 else data.float()).numpy()
    with np.errstate(over="ignore"):
        array = np.asarray(data, np.float32)
    infinite = np.isinf(array)
    if infinite.any() and not np.isinf(np.asarray(data, np.float64)[infinite]).all():
        raise ValueError(
            "The map has values above 3.4e38, which float32 cannot store. Divide it, such as by "
            "its maximum."
        )
    return array


def load_map(path: StrPath) -> Map:
    """Load a map that :func:`save_map` saved; no code from the file is run.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another kind or of more
    than 2 GiB (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    existing_path(path, "map file")
    with wrap_read_errors(path, "a saved map"):
        if not zipfile.is_zipfile(path):  # np.load would take it for a pickle
            raise ValueError("it is not an .npz file.")
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            data, metadata = archive["map"], json.loads(str(archive["metadata"]))
        if not isinstance(metadata, dict) or data.dtype != np.float32:
            raise ValueError("it was not saved by save_map.")
        return Map(data, metadata)


def _check_members(path: StrPath) -> None:
    """Check how much the archive would unpack to, and the arrays that its headers describe."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        check_size(path, size, f"{len(archive.infolist())} compressed arrays")
        for name in _MEMBERS & set(archive.namelist()):
            with archive.open(name) as file:
                shape, _, dtype = _NPY_HEADERS[np.lib.format.read_magic(file)](file)
            check_size(path, math.prod(shape) * dtype.itemsize, f"an array of shape {shape}")
