"""Maps as .npz, with what one should know about them; loading runs nothing."""

import json
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_3dcam.io._files import StrPath, atomic_write, existing_path, wrap_read_errors

_MAX_METADATA = 2**24
_MAX_PACKED = 1032  # bytes out of one, the most that zip's deflate can do


class Map(NamedTuple):
    """A map, float32 of any shape, and what was noted with it."""

    data: NDArray[np.float32]
    metadata: dict[str, Any]


def save_map(
    data: Tensor | ArrayLike, path: StrPath, metadata: Mapping[str, Any] | None = None
) -> None:
    """Save a map, on any device and of any real dtype, as float32 in a ``.npz`` file.

    ``metadata`` is whatever JSON can say: the class, the layers, fps, spacing. numpy reads the
    file too: ``"map"``, and ``"metadata"`` as a string. It appears when it is whole; one that
    was there before is replaced.

    Raises FileNotFoundError without the folder, ValueError for another suffix and for metadata
    that JSON cannot say.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_map([[0, 0.5], [1, 0]], f"{folder}/map.npz", {"class": "golf", "fps": 25})
    ...     load_map(f"{folder}/map.npz").metadata
    {'class': 'golf', 'fps': 25}
    """
    array = data.detach().cpu().float().numpy() if isinstance(data, Tensor) else data
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata has to be what JSON can say: {error}") from error
    with atomic_write(path, (".npz",)) as beside:
        np.savez_compressed(beside, map=np.asarray(array, np.float32), metadata=np.array(text))


def load_map(path: StrPath) -> Map:
    """Load what :func:`save_map` saved.

    Raises FileNotFoundError, and ValueError for a file that is damaged or of another kind.
    """
    existing_path(path, "map file")
    with wrap_read_errors(path, "a saved map"), zipfile.ZipFile(path) as archive:
        data = _member(archive, "map.npy", "f")
        text = _member(archive, "metadata.npy", "U")
        metadata = json.loads(str(text))
        if not isinstance(metadata, dict) or data.dtype != np.float32:
            raise ValueError("it was not saved by save_map.")
        return Map(data, metadata)


def _member(archive: zipfile.ZipFile, name: str, kind: str) -> NDArray[Any]:
    """An array of an archive, if its header promises no more than there can be."""
    info = archive.getinfo(name)
    if info.file_size > _MAX_PACKED * info.compress_size:
        raise ValueError(f"its {name!r} claims to be of {info.file_size} bytes.")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        size = math.prod(shape) * dtype.itemsize
        too_long = kind == "U" and size > _MAX_METADATA
        if dtype.kind != kind or size > info.file_size or too_long:
            raise ValueError(f"its {name!r} is an array {shape} of {dtype}.")
    with archive.open(info) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array
