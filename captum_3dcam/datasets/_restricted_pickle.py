"""Plain data and numeric NumPy arrays out of a pickle, without running any of it.

A pickle is a program. :class:`pickle.Unpickler` carries it out: told which names it may look up,
it still calls them as the pickle says, fills as much memory as the pickle asks for, and can be
driven into the end of the stack. Here :mod:`pickletools` takes the program apart, and only the
steps that make data are followed. Nothing that a pickle names is ever looked up or called.
"""

import math
import pickletools
import re
import warnings
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.datasets._files import read_bytes

_LONGEST = 2**31  # of an array's axes: keeps NumPy's own arithmetic from overflowing


def load_plain(path: str | PathLike[str]) -> Any:
    """What a pickle holds if that is plain data, of any protocol, and NumPy 1 or 2.

    Plain are None, numbers, text, bytes, and lists, tuples and dicts (with text for keys) of such,
    and NumPy's arrays and scalars of integers, floats and, scalars only, text. Arrays are
    read-only; NumPy's text is a str, and so are the bytes of protocols 0 to 2 (latin1; of
    Python 2's protocol 0, ASCII alone). A list, dict or array may be in one place only, so that
    what is read is about as large as the file, however it is walked through.

    Raises FileNotFoundError, and ValueError for anything else in the file.

    >>> import pickle, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     pickle.dump({"sf": 3, "boxes": np.ones((1, 4), dtype=np.uint8)}, file)
    ...     file.flush()
    ...     load_plain(file.name)
    {'sf': 3, 'boxes': array([[1, 1, 1, 1]], dtype=uint8)}
    """
    data = read_bytes(Path(path), "pickle")
    try:
        return _follow(data)
    except (ValueError, IndexError, KeyError) as error:
        reason = str(error) if isinstance(error, ValueError) else "its steps do not fit together"
        raise ValueError(
            f"{str(path)!r} is no pickle of plain data and numeric arrays, or damaged: {reason}."
        ) from error


def _follow(data: bytes) -> Any:
    reader = _Reader(len(data))
    with warnings.catch_warnings():
        # Python warns of backslashes that mean nothing, in the text of damaged pickles.
        warnings.simplefilter("ignore", DeprecationWarning)
        for code, argument, _ in pickletools.genops(data):
            reader.step(code.name, argument)
    (result,) = reader.take(1)
    _check_plain(result)
    return result


# ------------------------------------------------------------------- what stands for NumPy's


class _Name(Enum):
    """The only names that a pickle may mention: what NumPy's arrays are made with."""

    NDARRAY = re.compile(r"numpy\.ndarray")
    DTYPE = re.compile(r"numpy\.dtype")
    SCALAR = re.compile(r"numpy\._?core\.multiarray\.scalar")
    RECONSTRUCT = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
    FROMBUFFER = re.compile(r"numpy\._?core\.numeric\._frombuffer")
    BYTES = re.compile(r"__builtin__\.bytes")
    ENCODE = re.compile(r"_codecs\.encode")

    @classmethod
    def find(cls, module: Any, name: Any) -> "_Name":
        if not isinstance(module, str) or not isinstance(name, str):
            _refuse("names something otherwise than by text")
        full = f"{module}.{name}"
        for known in cls:
            if known.value.fullmatch(full):
                return known
        return _refuse(f"names {full[:80]!r}, which is not allowed")


class _DType:
    """A NumPy type, whose byte order comes a step after its code."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    @property
    def is_text(self) -> bool:
        return re.fullmatch(r"U\d{1,9}", self.code) is not None

    def numeric(self) -> np.dtype[Any]:
        known = re.fullmatch("[iu][1248]|f[248]", self.code)
        if not known or self.order not in ("<", ">", "=", "|"):
            _refuse(f"has an array of type {(self.order + self.code)[:80]!r}, which is no number")
        return np.dtype(self.order + self.code)


class _Unfilled:
    """An array before the step that gives its shape and bytes."""


def _shared(value: Any) -> Any:
    # A list within itself has no end, and one in many places can be read as far more than it is.
    if not isinstance(value, str | bytes | float | int | np.generic | _Name | _DType):
        _refuse(f"has the same {type(value).__name__} in several places")
    return value


def _check_plain(result: Any) -> None:
    """Raises ValueError if what only arrays need was left among the data."""
    rest = [result]
    while rest:  # without recursion: lists may be nested deeper than Python's stack goes
        value = rest.pop()
        if isinstance(value, _Name | _DType | _Unfilled):
            _refuse("has something of NumPy's that is no array")
        if isinstance(value, list | tuple | dict):
            rest.extend(value.values() if isinstance(value, dict) else value)


def _pairs(items: list[Any]) -> dict[str, Any]:
    if len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
        _refuse("has a dict whose keys are not all text")
    return dict(zip(items[::2], items[1::2], strict=True))


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"it {reason}")


# --------------------------------------------------------------------------- what a step does

_NUMBERS = r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT"
_TEXTS = r"(SHORT_)?(BIN)?(UNICODE|STRING|BYTES)8?|BYTEARRAY8"
_VALUES = frozenset(
    code.name for code in pickletools.opcodes if re.fullmatch(f"{_NUMBERS}|{_TEXTS}", code.name)
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SILENT = frozenset({"PROTO", "FRAME", "STOP"})


class _Reader:
    """The stack and the memo of a pickle, and the bytes that its arrays may still take."""

    def __init__(self, room: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.room = room

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in _VALUES:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _PUTS:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _GETS:
            push(_shared(self.memo[argument]))
        elif name in _TUPLES:
            push(tuple(self.take(_TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            push(tuple(self.marked()))
        elif name in ("EMPTY_LIST", "LIST"):
            push([] if name == "EMPTY_LIST" else self.marked())
        elif name in ("EMPTY_DICT", "DICT"):
            push(_pairs([] if name == "EMPTY_DICT" else self.marked()))
        elif name in ("APPEND", "APPENDS"):
            items = self.take(1) if name == "APPEND" else self.marked()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.take(2) if name == "SETITEM" else self.marked()
            self.top(dict).update(_pairs(items))
        elif name == "GLOBAL":
            push(_Name.find(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            push(_Name.find(*self.take(2)))
        elif name == "REDUCE":
            push(self.call(*self.take(2)))
        elif name == "BUILD":
            push(self.build(*self.take(2)))
        elif name not in _SILENT:
            _refuse(f"has a step {name}, which plain data does not need")

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError(count)
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def marked(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            _refuse(f"adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def call(self, what: Any, arguments: Any) -> Any:
        match what, arguments:
            case _Name.DTYPE, (str() as code, *_):
                return _DType(code)
            case _Name.RECONSTRUCT, (_Name.NDARRAY, *_):
                return _Unfilled()
            case _Name.SCALAR, (_DType() as dtype, raw):
                return self.scalar(dtype, raw)
            case _Name.FROMBUFFER, (raw, _DType() as dtype, shape, ("C" | "F") as order):
                return self.array(dtype.numeric(), raw, shape, order)
            case _Name.BYTES, ():  # protocols 0 to 2 give bytes as text
                return ""
            case _Name.ENCODE, (str() as text, "latin1" | "latin-1"):
                return text
        return _refuse("calls something in another way than NumPy's arrays do")

    def build(self, what: Any, state: Any) -> Any:
        match what, state:
            case _DType(), (3, str() as order, None, None, None, *_):
                what.order = order
                return what
            case _Unfilled(), (1, shape, _DType() as dtype, bool() as fortran, raw):
                return self.array(dtype.numeric(), raw, shape, "F" if fortran else "C")
        return _refuse("fills something in another way than NumPy's arrays do")

    def array(self, dtype: np.dtype[Any], raw: Any, shape: Any, order: Any) -> NDArray[Any]:
        raw = self.raw(raw)
        if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            _refuse("gives an array's shape by something else than integers")
        fits = all(0 <= n < _LONGEST for n in shape)
        if not fits or math.prod(shape) * dtype.itemsize != len(raw):
            _refuse(f"has {len(raw)} bytes for an array of another size")
        return np.frombuffer(raw, dtype).reshape(shape, order=order)

    def scalar(self, dtype: "_DType", raw: Any) -> Any:
        raw = self.raw(raw)
        if dtype.is_text:
            codec = "utf-32-be" if dtype.order == ">" else "utf-32-le"
            return raw.decode(codec)
        return self.array(dtype.numeric(), raw, (), "C")[()]

    def raw(self, raw: Any) -> bytes:
        """The bytes of an array, which protocols 0 to 2 give as latin1 text."""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(raw, bytes | bytearray):
            _refuse("fills an array with something else than bytes")
        # Bytes may be shared, so many arrays could be made of the same ones.
        self.room -= len(raw)
        if self.room < 0:
            _refuse("makes arrays that are together larger than the file")
        return bytes(raw)
