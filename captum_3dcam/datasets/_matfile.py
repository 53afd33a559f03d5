"""Read arrays of numbers from MAT files with SciPy."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # loads scipy.io when it is first used
from numpy.typing import NDArray

from captum_3dcam._files import check_size, wrap_read_errors
from captum_3dcam.datasets._files import read_bytes

_BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
_UINT32, _ARRAY, _COMPRESSED = 6, 14, 15
_NUMBERS_AND_TEXT = {1, 2, 3, 4, 5, _UINT32, 7, 9, 12, 13, 16, 17, 18}


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Read an array of real numbers from a MAT file of MATLAB 5 to 7, in its stored data type.

    Raises FileNotFoundError, and ValueError if the file is damaged, has another format, or has no
    such array.
    """
    data = read_bytes(path, "MAT file")
    with wrap_read_errors(path, f"a MAT file with an array {variable!r}"):
        byte_order = _BYTE_ORDERS.get(data[124:128])
        if byte_order is None:
            raise ValueError("it is not in format 5. Save it again with MATLAB's option '-v7'.")
        files = dict(scipy.io.matlab.varmats_from_mat(io.BytesIO(data)))
        if variable not in files:
            raise ValueError(f"there is no such variable. There are {sorted(files)}.")
        content = files[variable].getvalue()[128:]
        check_size(path, _unpacked_size(content, byte_order), f"a variable {variable!r}")
        _check_data_types(content, byte_order, {_ARRAY, _COMPRESSED})
        array = scipy.io.loadmat(files[variable])[variable]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise ValueError("the variable is not an array of real numbers.")
        return array.astype(array.dtype.newbyteorder("="))


def _unpacked_size(data: bytes, byte_order: str) -> int:
    """The size that the variable has in its header, which is compressed with it."""
    if struct.unpack(byte_order + "I", data[:4]) == (_COMPRESSED,):
        data = zlib.decompressobj().decompress(data[8:], 8)
    return int(struct.unpack(byte_order + "II", data[:8])[1])


def _check_data_types(data: bytes, byte_order: str, allowed: set[int]) -> None:
    """Raise ValueError if a variable that should be an array of numbers has other elements.

    SciPy (1.17) does not check their data types, and crashes the process (scipy/scipy#25349).
    """
    while data:
        data_type, size = struct.unpack(byte_order + "II", data[:8])
        if data_type >> 16:  # a small element of 8 bytes, content included
            data_type, size = data_type & 0xFFFF, 0
        if data_type not in allowed:
            raise ValueError(f"an element has the data type {data_type}, which is not a number.")
        content = data[8 : 8 + size]
        if data_type == _COMPRESSED:
            size_in_header = 8 + _unpacked_size(data, byte_order)
            unpacked = zlib.decompressobj().decompress(content, size_in_header)
            _check_data_types(unpacked, byte_order, {_ARRAY})
        if data_type == _ARRAY:
            if content[:8] != struct.pack(byte_order + "II", _UINT32, 8):
                raise ValueError("the header of an array is damaged.")
            _check_data_types(content, byte_order, _NUMBERS_AND_TEXT)
        data = data[8 + size + (-size % 8 if data_type != _COMPRESSED else 0) :]
