"""Save and load maps as ``.npz``."""

import json
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_3dcam._files import (
    StrPath,
    atomic_write,
    check_size,
    existing_path,
    wrap_read_errors,
)

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

    Raises FileNotFoundError if the folder does not exist, and ValueError for another suffix and for
    metadata that JSON cannot represent.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_map([[0, 0.5], [1, 0]], f"{folder}/map.npz", {"class": "golf", "fps": 25})
    ...     load_map(f"{folder}/map.npz")
    Map(shape=(2, 2), metadata={'class': 'golf', 'fps': 25})
    """
    array = data.detach().cpu().float().numpy() if isinstance(data, Tensor) else data
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected values that JSON can represent: {error}") from error
    with atomic_write(path, (".npz",)) as temporary:
        np.savez_compressed(temporary, map=np.asarray(array, np.float32), metadata=np.array(text))


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
