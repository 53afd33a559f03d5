"""What an NRRD header states and SimpleITK does not apply: a space, units, lengths of files."""

import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._validation import warn
from captum_3dcam.io._lengths import check_value_file, warn_of_end

_FIELD = re.compile(r"^([a-z][a-z ]*):[ \t]*(?!=)(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
# SimpleITK itself converts the spaces without time, and then states left-posterior-superior.
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
_LEFT_HANDED = "3D-left-handed"
_MM = {"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
       "m": 1000.0, "meter": 1000.0, "metre": 1000.0,
       "um": 0.001, "\xb5m": 0.001, "\u03bcm": 0.001, "micron": 0.001, "micrometer": 0.001,
       "micrometre": 0.001, "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0, "nm": 1e-6,
       "nanometer": 1e-6, "nanometre": 1e-6}  # fmt: skip
_KEPT = {1.0: "mm", 1000.0: "meter", 0.001: "micron"}  # the units of a volume's header
_PATTERN = re.compile(r"([^%]*)%(0?\d{0,2})d([^%]*?) +(-?\d{1,9}) +(-?\d{1,9}) +([1-9]\d{0,8})")
_MAX_FILES = 100_000
_SPATIAL_AXES = 3


def read_fields(path: Path, header: str) -> dict[str, str]:
    """The fields of an NRRD header by their names in lower case without spaces."""
    fields = {name.lower().replace(" ", ""): value for name, value in _FIELD.findall(header)}
    directions = fields.get("spacedirections", "")
    if directions and directions.count("(") < _SPATIAL_AXES:
        _warn(
            path,
            f"has an axis without a direction: space directions {directions[:80]}. Its voxels are "
            "taken to be 1 mm apart on that axis, as by ITK: positions in mm may be wrong.",
        )
    return fields


def space_to_lps(fields: dict[str, str], space: str) -> NDArray[np.float64] | None:
    """(4, 4), from the positions of SimpleITK, in that space, to LPS; None if it is unknown."""
    if space.removesuffix("-time") == _LEFT_HANDED:
        raise ValueError(
            f"its space is {space}, which is none of the patient: left and right cannot be told "
            "apart. If you know its directions, write them into the header, such as "
            "'space: left-posterior-superior'."
        )
    signs = _TO_LPS.get(space.removesuffix("-time"))
    return None if signs is None else np.diag([*signs, 1.0])


def read_unit(fields: dict[str, str], path: Path) -> tuple[float, str]:
    """The length of the header's unit in mm, and its name in the header of a volume."""
    text = fields.get("spaceunits", "")
    if not text and "spacedirections" not in fields:  # its axes have spacings
        text = fields.get("units", "")
    names = [name.strip() for name in re.findall(r'"([^"]*)"', text)]
    units = {_decode(name) for name in names if name}
    lengths = {_MM[unit] for unit in units if unit in _MM}
    if len(lengths) > 1:
        raise ValueError(f"its axes have different units: {text}.")
    length = lengths.pop() if lengths else 1.0
    if units and not units & _MM.keys():
        _warn(path, f"has the unit {text}, which is not known. Its positions are taken as mm.")
    elif length not in _KEPT:
        _warn(path, f"has the unit {text}. Positions are converted to mm, also in a map's file.")
    return length, _KEPT.get(length, "mm")


def _decode(name: str) -> str:
    """A unit in lower case, singular; µ may be UTF-8 in the header, which is read as Latin-1."""
    with suppress(UnicodeDecodeError):
        name = name.encode("latin-1").decode()
    return name if len(name) < 3 else name.lower().removesuffix("s")


def _warn(path: Path, what: str) -> None:
    warn(f"{str(path)!r} {what}")


def check_lengths(path: Path, header: str, fields: dict[str, str], size: int) -> None:
    """Compare the files of uncompressed values with the ``size`` in bytes of all values."""
    if fields.get("encoding", "").lower() != "raw" or int(fields.get("lineskip", "0")):
        return
    start = int(fields.get("byteskip", "0"))
    source = fields.get("datafile", "")
    if not source:
        rest = path.stat().st_size - _header_end(path, header) - size - max(start, 0)
        warn_of_end(path, rest if start >= 0 else 0)
        return
    names = _names(source, header)
    for name in names:
        advice = "If the values are its end, write 'byte skip: -1' into the header."
        check_value_file(path.parent / name, size // len(names), start, advice)


def _header_end(path: Path, header: str) -> int:
    """The position after the empty line that ends a header, whose lines may end by CR and LF."""
    with path.open("rb") as file:
        file.seek(len(header))
        end = re.match(rb"\r?\n\r?\n", file.read(4))
    return len(header) + (end.end() if end else 0)


def _names(source: str, header: str) -> list[str]:
    if source.upper().startswith("LIST"):
        lines = header[header.upper().index(source.upper()) :].splitlines()[1:]
        return [line.strip() for line in lines if line.strip()] or [source]
    match = _PATTERN.match(source)
    if match is None:
        return [source]
    before, width, after, first, last, step = match.groups()
    numbers = range(int(first), int(last) + 1, int(step))
    if not 0 < len(numbers) <= _MAX_FILES:
        raise ValueError(f"its header has the data files {source[:80]!r}.")
    return [f"{before}{f'%{width}d' % number}{after}" for number in numbers]
