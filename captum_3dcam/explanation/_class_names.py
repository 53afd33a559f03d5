"""The names of classes, from the forms in which they are published."""

import csv
import json
from collections.abc import Iterable, Mapping
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._validation import check_integer, is_number, show

_MAX_CLASSES = 10**7


def read_names(class_names: Any) -> list[str]:
    """The class names as a list: of a sequence, a dict from index to name, or a file.

    A dict may also lead from names to indices, as pytorchvideo's ``kinetics_classnames.json`` does.
    A JSON file has a list or such a dict, a CSV file two columns, the index and the name, and any
    other file a name per line.

    >>> read_names({1: "golf", 0: "run"})
    ['run', 'golf']
    >>> read_names({'"playing golf"': 1, "run": 0})
    ['run', 'playing golf']
    """
    if class_names is None:
        return []
    if isinstance(class_names, (str, PathLike)):
        class_names = _read_file(Path(class_names))
    if isinstance(class_names, Mapping):
        return _from_mapping(class_names)
    if not isinstance(class_names, Iterable) or isinstance(class_names, (set, frozenset)):
        raise ArgumentError(
            f"class_names={show(class_names)}: expected names, a dict from indices to names, or a "
            "text file with a name per line."
        )
    return [str(name) for name in class_names]


def _from_mapping(class_names: Mapping[Any, Any]) -> list[str]:
    if class_names and all(is_number(value, Integral) for value in class_names.values()):
        # Some of the published names are in quotes of their own.
        pairs = [(index, str(name).strip('"')) for name, index in class_names.items()]
    else:
        pairs = [(key, str(name)) for key, name in class_names.items()]
    by_index: dict[int, str] = {}
    for key, name in pairs:
        index = _index(key)
        if index in by_index:
            raise ArgumentError(
                f"class_names: {by_index[index]!r} and {name!r} have the same index, {index}."
            )
        by_index[index] = name
    if max(by_index, default=0) > _MAX_CLASSES:
        raise ArgumentError(f"class_names: {max(by_index)} is no class index.")
    count = max(by_index, default=-1) + 1
    return [by_index.get(index, f"class {index}") for index in range(count)]


def _index(key: Any) -> int:
    """The class index that a key is, also as text, as JSON has it."""
    try:
        return check_integer("index", int(key), minimum=0)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"class_names: {show(key)} is no class index.") from error


def _read_file(path: Path) -> Any:
    text, suffix = _text_of(path), path.suffix.lower()
    if suffix == ".json":
        with argument_errors(f"class_names: {str(path)!r}: "):
            return json.loads(text)
    if suffix == ".csv":
        return _from_csv(text, f"class_names: {str(path)!r}")
    return [line.strip() for line in text.rstrip().splitlines()]


def _from_csv(text: str, source: str) -> dict[int, str]:
    """{index: name} of rows ``index,name``, after a header or not."""
    names: dict[int, str] = {}
    rows = csv.reader(text.splitlines())
    for number, row in enumerate((row for row in rows if row), start=1):
        cells = [cell.strip() for cell in row]
        is_header = number == 1 and not cells[0].isdecimal()
        if is_header and len(cells) == 2:
            continue
        if len(cells) != 2 or not cells[0].isdecimal() or int(cells[0]) in names:
            raise ArgumentError(
                f"{source}: expected rows of a new index and a name, as in '0,abseiling', after a "
                f"header or not; row {number} is {','.join(row)[:80]!r}."
            )
        names[int(cells[0])] = cells[1]
    return names


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise ArgumentError(f"class_names: there is no file {str(path)!r}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class_names: {str(path)!r} is not UTF-8 text: {error}") from error
