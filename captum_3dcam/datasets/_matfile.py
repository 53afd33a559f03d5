"""Arrays of numbers out of MATLAB's level 5 MAT files, damaged ones included.

SciPy's reader is not used because a single wrong byte can end the whole process in it. Here
every length is checked before it is believed, and nothing but numbers is made.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.datasets._files import read_bytes

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CLASSES_OF_NUMBERS = range(6, 16)
_COMPLEX = 0x0800
_MAX_BYTES = 2**28  # of one variable; a mask of JHMDB has 3 million


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """The array of real numbers that a MAT file (level 5, as of MATLAB 5 to 7) has under a name.

    Its dtype is the one that the file stores, which may be smaller than MATLAB's.

    Raises FileNotFoundError, and ValueError for a damaged file, another format, a variable that
    is missing or no array of real numbers, and one of more than 256 MiB.

    The format: MathWorks, *MAT-File Format*.
    """
    data = read_bytes(path, "MAT file")
    try:
        return _find(data, variable.encode())
    except (ValueError, zlib.error) as error:
        raise ValueError(
            f"No array {variable!r} can be read from the MAT file {str(path)!r}: {error}"
        ) from error


def _find(data: bytes, variable: bytes) -> NDArray[Any]:
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[_HEADER - 4 : _HEADER])
    if order is None:
        raise ValueError("it has no header of level 5. Save it anew with MATLAB's option '-v7'.")
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, content = next(_elements(_decompress(content), order), (0, content))
        if kind == _MATRIX:
            # In order: flags and class, sizes, name, numbers.
            parts = list(islice(_elements(content, order), 4))
            if len(parts) > 2 and parts[2][1] == variable:
                return _array(parts, order)
    raise ValueError("there is none of that name.")


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the content of each element."""
    position = 0
    while position < len(data):
        if len(data) - position < 8:
            raise ValueError("it is cut off.")
        kind, length = struct.unpack_from(order + "II", data, position)
        if kind >> 16:  # a short one: 2 bytes of length, 2 of type, 4 of content
            kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
            position += 8
        else:
            start = position + 8
            position = start + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            raise ValueError("it is cut off, or a length in it is wrong.")
        yield kind, data[start : start + length]


def _decompress(content: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    data = stream.decompress(content, _MAX_BYTES)
    if not stream.eof:
        raise ValueError("a variable is cut off, or has more than 256 MiB.")
    return memoryview(data)


def _array(parts: list[tuple[int, memoryview]], order: str) -> NDArray[Any]:
    flags, sizes = parts[0][1], parts[1][1]
    if len(parts) < 4 or len(flags) != 8 or len(sizes) < 8 or len(sizes) % 4:
        raise ValueError("its description is damaged.")
    (kind,) = struct.unpack_from(order + "I", flags)
    stored, numbers = parts[3]
    if kind & 0xFF not in _CLASSES_OF_NUMBERS or kind & _COMPLEX or stored not in _STORED:
        raise ValueError("it is no array of real numbers.")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    dtype = np.dtype(order + _STORED[stored])
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"its size is {shape}, and its content {len(numbers)} bytes.")
    array = np.frombuffer(numbers, dtype)
    return array.astype(dtype.newbyteorder("=")).reshape(shape, order="F")
