"""Checks of a MetaImage file before SimpleITK reads it.

Its reader trusts the header: more numbers than axes corrupt the memory of the process, and damaged
compressed values never end.
"""

import math
import re
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._validation import warn
from captum_3dcam.io._lengths import check_value_file, warn_of_end

_MAX_LINE = 2000  # characters
_CHUNK = 2**20
_LINE = re.compile(r"[ \t]*([^\s=:]{1,80})[ \t]*[=:][ \t]*(.*?)[ \t]*\r?")
_VECTORS = ("DimSize", "Offset", "Origin", "Position", "ElementSpacing", "ElementSize",
            "CenterOfRotation")  # fmt: skip
_MATRICES = ("TransformMatrix", "Orientation", "Rotation")
_INTEGERS = ("NDims", "ElementNumberOfChannels", "CompressedDataSize", "HeaderSize")
_REFUSED = ("SequenceID", "Color")  # of numbers, and of no use here
_INTEGER = r"-?[0-9]{1,18}"
_FLOAT = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
# Patterns of numbered files (%03d) and lists with a number of axes divide by what they state.
_FILE_NAME = re.compile(r"(?!LIST.)[^%\x00-\x1f\x7f]{1,255}", re.IGNORECASE)
_MM = {"um": 0.001, "mm": 1.0, "cm": 10.0}
_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def read_fields(path: Path, header: str) -> dict[str, str]:
    """The fields of a header, the text before the values.

    Raises ValueError for a header or compressed values that are damaged.
    """
    fields = _parse(header)
    name = fields.get("ElementDataFile", "")
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(
            f"its header has ElementDataFile = {name[:80]!r}; expected LOCAL, LIST or a file."
        )
    size = [int(n) for n in fields.get("DimSize", "").split()]
    if "DimSize" not in fields or min(size) < 1:
        raise ValueError("its header has no valid DimSize.")
    if _is_set(fields, "CompressedData", "False"):
        _check_compressed(path, header, fields, math.prod(size))
    return fields


def _parse(header: str) -> dict[str, str]:
    """The fields by name, each with as many numbers as it should have."""
    fields: dict[str, str] = {}
    for line in header.split("\n"):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line) if len(line) <= _MAX_LINE else None
        if match is None or match[1] in fields or match[1] in _REFUSED:
            raise ValueError(f"its header has a damaged line: {line[:80]!r}.")
        fields[match[1]] = match[2]
        if match[1] == "ElementDataFile":
            break
    axes = fields.get("NDims", "")
    if axes not in ("2", "3", "4"):
        raise ValueError(f"its header has NDims = {axes[:20]!r}; expected three axes, or four.")
    counts = dict.fromkeys(_INTEGERS, 1) | dict.fromkeys(_VECTORS, int(axes))
    counts |= dict.fromkeys(_MATRICES, int(axes) ** 2)
    for name in counts.keys() & fields.keys():
        kind = _INTEGER if name in (*_INTEGERS, "DimSize") else _FLOAT
        values = fields[name].split()
        if len(values) != counts[name] or not all(re.fullmatch(kind, each) for each in values):
            raise ValueError(f"its header has {name} = {fields[name][:80]!r}.")
    return fields


def _is_set(fields: dict[str, str], name: str, default: str) -> bool:
    return fields.get(name, default).lower() not in ("false", "0")


def space_to_lps(fields: dict[str, str], space: str) -> NDArray[np.float64] | None:
    """(4, 4), from the positions in the header to LPS; None if it has no matrix of directions."""
    return np.eye(4) if fields.keys() & set(_MATRICES) else None


def read_unit(fields: dict[str, str], path: Path) -> tuple[float, str]:
    """The length of the header's unit in mm, and "mm", that of the volume: SimpleITK has none."""
    name = fields.get("DistanceUnits", "mm").strip()
    if name not in ("mm", "?", ""):
        then = "are converted to mm" if name in _MM else "are taken as mm"
        warn(f"{str(path)!r} has the unit {name!r}. Positions {then}, also in a map's file.")
    return _MM.get(name, 1.0), "mm"


def check_lengths(path: Path, header: str, fields: dict[str, str], expected: int) -> None:
    """Compare the files of uncompressed values with the ``expected`` bytes of all values.

    SimpleITK reads files of any length that is sufficient, and any number of them.
    """
    name, start = fields["ElementDataFile"], int(fields.get("HeaderSize", "0"))
    if _is_set(fields, "CompressedData", "False") or not _is_set(fields, "BinaryData", "True"):
        return
    if name.upper() == "LOCAL":
        received = path.stat().st_size - (start if start > 0 else _values_start(path, header))
        if received < expected:
            raise ValueError(f"it is truncated: {received:,} of {expected:,} bytes of values.")
        warn_of_end(path, received - expected if start >= 0 else 0)
        return
    names = [name]
    if name.upper() == "LIST":
        names = [line.strip() for line in _after_list(header).splitlines() if line.strip()]
        *_, last = fields["DimSize"].split()
        if len(names) != int(last):
            parts = "slices" if fields["NDims"] == "3" else "volumes"
            raise ValueError(f"its header lists {len(names)} files for its {last} {parts}.")
    for each in names:
        advice = "If the values are its end, write HeaderSize = -1 into the header."
        check_value_file(path.parent / each, expected // len(names), start, advice)


def _after_list(header: str) -> str:
    return re.split(r"ElementDataFile[ \t]*[=:][^\n]*\n?", header, maxsplit=1)[-1]


def _values_start(path: Path, header: str) -> int:
    with path.open("rb") as file:
        file.seek(len(header.encode("latin-1")))
        file.readline()  # the end of the line
        return file.tell()


def _check_compressed(path: Path, header: str, fields: dict[str, str], voxels: int) -> None:
    """Decompress the values, which are as many as the header says."""
    name = fields["ElementDataFile"]
    kind = (
        fields.get("ElementType", "").removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")
    )
    if kind not in _BYTES or "HeaderSize" in fields or name.upper().startswith("LIST"):
        raise ValueError("its compressed values cannot be checked: save it without compression.")
    expected = voxels * _BYTES[kind] * int(fields.get("ElementNumberOfChannels", "1"))
    is_local = name.upper() == "LOCAL"
    with (path if is_local else path.parent / name).open("rb") as file:
        if is_local:
            file.seek(_values_start(path, header))
        left = max(int(fields.get("CompressedDataSize", sys.maxsize)), 0)
        received, stream = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)
        while received <= expected and not stream.eof:
            part = stream.unconsumed_tail or file.read(min(_CHUNK, left))
            left -= 0 if stream.unconsumed_tail else len(part)
            if not part:
                break
            received += len(stream.decompress(part, _CHUNK))
    if received != expected:
        raise ValueError(f"its compressed values are damaged: {received} of {expected} bytes.")
