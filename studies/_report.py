"""A study's results as a Markdown table and a JSON file."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from captum_3dcam.evaluation import Interval


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(["", "a"], [["x", 1]]))
    | | a |
    |---|---|
    | x | 1 |
    """
    return "\n".join(_lines(header, rows))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table, each row as soon as it is there."""
    for line in _lines(header, rows):
        print(line, flush=True)


def _lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield _line(header)
    yield "|---" * len(header) + "|"
    yield from map(_line, rows)


def _line(row: Sequence[object]) -> str:
    # An unescaped bar in a cell would start another cell.
    cells = " | ".join(str(cell).replace("|", "\\|") for cell in row)
    return f"| {cells} |".replace("|  |", "| |")


def write_report(folder: Path, name: str, report: dict[str, Any], text: str) -> None:
    """Write folder/name.json and folder/name.md, and print the text."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(content + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def to_json(value: Any) -> Any:
    """The value in JSON's types: an interval is an object, NaN is null.

    >>> to_json({"a": Interval(0.5, 0.25, math.nan)})
    {'a': {'value': 0.5, 'low': 0.25, 'high': None}}
    """
    if isinstance(value, Interval):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
