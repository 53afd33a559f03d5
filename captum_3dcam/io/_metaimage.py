"""Checks of a MetaImage file before SimpleITK reads it.

Its reader trusts the header: more numbers than axes corrupt the memory of the process, and damaged
compressed values never end.
"""

import math
import re
import sys
import zlib
from pathlib import Path

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
_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def check_metaimage(path: Path, header: str) -> None:
    """Raise ValueError for a header, the text before the values, or values that are damaged."""
    fields = _parse(header)
    name = fields.get("ElementDataFile", "")
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(
            f"its header has ElementDataFile = {name[:80]!r}; expected LOCAL, LIST or a file."
        )
    size = [int(n) for n in fields.get("DimSize", "").split()]
    if "DimSize" not in fields or min(size) < 1:
        raise ValueError("its header has no valid DimSize.")
    if fields.get("CompressedData", "False").lower() not in ("false", "0"):
        _check_compressed(path, header, fields, math.prod(size))


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
            file.seek(len(header.encode("latin-1")))
            file.readline()  # the end of the line
        left = max(int(fields.get("CompressedDataSize", sys.maxsize)), 0)
        received, stream = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)
        while received < expected and not stream.eof:
            part = stream.unconsumed_tail or file.read(min(_CHUNK, left))
            left -= 0 if stream.unconsumed_tail else len(part)
            if not part:
                break
            received += len(stream.decompress(part, _CHUNK))
    if received < expected:
        raise ValueError(f"its compressed values are damaged: {received} of {expected} bytes.")
