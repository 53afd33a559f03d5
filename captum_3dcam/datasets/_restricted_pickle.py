"""Unpickle plain data and numeric NumPy arrays. No pickle can run code.

The names in a pickle are never imported. Those that NumPy pickles arrays and scalars with are
replaced by the functions and classes below; all others are refused. NumPy's own ``dtype`` and
``ndarray`` would not be safe: a pickle can call them, or set their state, such that bytes of the
file are used as pointers to Python objects. For the same reason a pickle cannot set attributes:
NumPy reads memory at any address that the attribute ``__array_interface__`` names.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import wrap_read_errors
from captum_3dcam.datasets._files import read_bytes


def load_pickle(path: str | PathLike[str]) -> Any:
    """Load a pickle of Python's basic types and arrays of integers or floats, of any protocol.

    NumPy scalars become Python numbers and text. Text of Python 2 is decoded as latin1; in protocol
    0 it must be ASCII. Raises FileNotFoundError, and ValueError if the file is damaged or contains
    anything else. A pickle crafted for it can still exhaust the memory or the stack.
    """
    data = read_bytes(Path(path), "pickle")
    with wrap_read_errors(path, "a pickle of plain data and numeric arrays"):
        _check_opcodes(data)
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()


def _check_opcodes(data: bytes) -> None:
    """Raise ValueError for what the unpickler handles badly; genops itself checks all sizes."""
    for opcode, argument, _ in pickletools.genops(data):
        # CPython allocates up to 64 GiB for a damaged index (python/cpython#115952).
        if "PUT" in opcode.name and (argument or 0) > len(data):
            raise ValueError(f"index {argument} exceeds the length of the file")
        # Extensions that another pickle has loaded are cached, and not looked up by find_class.
        if opcode.name.startswith("EXT"):
            raise ValueError(f"extension code {argument} is not allowed")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}".replace("numpy._core.", "numpy.core.", 1)
        if name not in _REPLACEMENTS:
            raise pickle.UnpicklingError(f"the name {name[:80]!r} is not allowed")
        return _Function(_REPLACEMENTS[name])


class _Function:
    """A function whose attributes a pickle cannot set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("attributes of functions cannot be set")


class _DType:
    """Replaces ``numpy.dtype``: a numeric type, or text for scalars."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[iuf][1248]|U[0-9]*", code):
            raise pickle.UnpicklingError(f"the data type {code[:80]!r} is not numeric")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, *structure = state[:5]
        if structure != [None, None, None]:
            raise pickle.UnpicklingError("structured data types are not allowed")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """Replaces ``numpy.ndarray``: its data type is one of the above."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        numeric = _to_numpy(dtype, "iuf")
        if math.prod(shape) * numeric.itemsize != len(data):  # MemoryError if NumPy notices it
            raise pickle.UnpicklingError(f"an array of shape {shape} has {len(data)} bytes")
        super().__setstate__((1, shape, numeric, is_fortran, data))


def _to_numpy(dtype: Any, kinds: str) -> np.dtype[Any]:
    if not isinstance(dtype, _DType) or dtype.dtype.kind not in kinds:
        raise pickle.UnpicklingError("the data type of an array is not numeric")
    return dtype.dtype


def _array(data: bytes, dtype: _DType, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    data = memoryview(data).tobytes()  # a copy: an array's memory changes with its state
    return np.frombuffer(data, _to_numpy(dtype, "iuf")).reshape(shape, order=order)


def _scalar(dtype: _DType, data: bytes | str) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else memoryview(data).tobytes()
    return np.ndarray((), _to_numpy(dtype, "iufU"), data).item()


def _encode(text: str, codec: str) -> bytes:
    """How bytes are pickled in protocols 0 to 2."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"the codec {codec!r} is not allowed")
    return text.encode("latin1")


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": lambda *_: _Array(0),
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(0),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",
}
