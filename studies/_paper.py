"""The tables that the 3DCAM paper prints, beside the rows of a study."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from _report import table

FILE = Path(__file__).with_name("paper_tables.json")


@dataclass(frozen=True)
class PaperRow:
    """A row of a printed table."""

    name: str
    """In the paper."""
    printed: tuple[float, ...]
    """One figure for each column, in [0, 1]."""
    ours: Mapping[str, Any]
    """What it is of: method, layers and fusion, or gates and stream."""


@dataclass(frozen=True)
class PaperTable:
    """A printed table."""

    number: str
    dataset: str
    network: str
    score: str
    columns: Mapping[str, str]
    """From the heads of its columns to the names of our scores."""
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]


@cache
def paper_tables() -> dict[str, PaperTable]:
    """The printed tables by their numbers.

    >>> list(paper_tables())
    ['3', '4', '5', '6', '7', '8', '9', '10']
    """
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        number: PaperTable(
            number,
            each["dataset"],
            each["network"],
            each["score"],
            each["columns"],
            tuple(map(_row, each["rows"])),
            tuple(content["notes"].get(number, ())),
        )
        for number, each in content["tables"].items()
    }


def _row(content: Mapping[str, Any]) -> PaperRow:
    ours = {key: value for key, value in content.items() if key not in ("name", "printed")}
    return PaperRow(content["name"], tuple(content["printed"]), ours)


def tables_of(dataset: str) -> list[PaperTable]:
    """The printed tables of a dataset.

    >>> [table.number for table in tables_of("jhmdb")]
    ['3', '4', '5', '8']
    """
    return [each for each in paper_tables().values() if each.dataset == dataset]


def beside_ours(
    printed: PaperTable,
    cells: Mapping[str, Mapping[str, str]],
    name_of: Callable[[PaperRow], str | None],
    show: Callable[[float], str],
    baselines: Sequence[str] = (),
) -> str:
    """Markdown: under each of our rows the figures that the paper prints of it; then baselines.

    Args:
        cells: our rows by their names: from the name of a score to its cell.
        name_of: from a row of the paper to the name of ours; None if there is none.
        show: from a printed figure to its cell.
    """
    lines = []
    for row in printed.rows:
        own = name_of(row)
        if own in cells:
            lines.append([own, *(cells[own].get(score, "") for score in printed.columns.values())])
        lines.append([f"{row.name}, printed", *map(show, row.printed)])
    lines += [
        [name, *(cells[name].get(score, "") for score in printed.columns.values())]
        for name in baselines
    ]
    title = f"Table {printed.number} of the paper ({printed.network}): {printed.score}."
    text = " ".join([title, *printed.notes])
    return f"{text}\n\n{table(['', *printed.columns], lines)}"
