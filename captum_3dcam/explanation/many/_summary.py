"""The results of many inputs together: as a sequence, a table, and a gallery."""

import csv
from collections.abc import Iterator, Sequence
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any, overload
from urllib.parse import quote

from captum_3dcam._files import write_text
from captum_3dcam._json import to_json
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._thumbnail import THUMBNAIL
from captum_3dcam.explanation.many._journal import DONE, FAILED, Outcome
from captum_3dcam.explanation.viewer.page import data_script, html_document

SUMMARY_FILES = ("index.html", "summary.csv", "summary.json")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Outcomes(Sequence[Outcome]):
    """What became of each input of :func:`explain_many`, in their order.

    >>> outcomes = Outcomes(Path("out"), [Outcome("a.png", "done"), Outcome("b.png", "failed")])
    >>> outcomes, [outcome.name for outcome in outcomes.failed]
    (Outcomes('out': 1 done, 1 failed), ['b.png'])
    """

    def __init__(self, folder: Path, outcomes: Sequence[Outcome]) -> None:
        self.folder, self._outcomes = folder, list(outcomes)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> list[Outcome]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        done = len(self) - len(self.failed)
        return f"Outcomes({str(self.folder)!r}: {done} done, {len(self.failed)} failed)"

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self if outcome.status == FAILED]

    def explanations(self) -> Iterator[Explanation]:
        """Those of the inputs that were explained, read one by one from their folders."""
        for outcome in self:
            if outcome.status == DONE:
                yield Explanation.load(self.folder / outcome.folder)


def write_summary(folder: Path, outcomes: Sequence[Outcome]) -> Outcomes:
    """Write ``summary.csv``, ``summary.json`` and ``index.html``."""
    rows = [outcome._asdict() for outcome in outcomes]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, Outcome._fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    write_text(folder / "summary.csv", text.getvalue().rstrip("\n"))
    counts = {status: sum(row["status"] == status for row in rows) for status in (DONE, FAILED)}
    write_text(folder / "summary.json", to_json({"counts": counts, "inputs": rows}))
    write_text(folder / "index.html", _gallery(folder, outcomes))
    return Outcomes(folder, outcomes)


def _cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula: names of files may be anybody's.

    >>> _cell("=1+1"), _cell("a.png"), _cell(-0.5), _cell((1, 4))
    ("'=1+1", 'a.png', -0.5, '1,4')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _link(folder: Path, path: str) -> str:
    """To a file, if it was written."""
    return quote(path) if (folder / path).is_file() else ""


def _gallery(folder: Path, outcomes: Sequence[Outcome]) -> str:
    """A page with a card for each input, to be filtered and sorted; it needs no network."""
    cards = [
        {
            **outcome._asdict(),
            "href": _link(folder, f"{outcome.folder}/report.html"),
            "image": _link(folder, f"{outcome.folder}/{THUMBNAIL}"),
        }
        for outcome in outcomes
    ]
    package = files(__package__)
    style, script = ((package / f"gallery.{name}").read_text("utf-8") for name in ("css", "js"))
    body = (
        '<main class="c3d-viewer c3d-gallery"></main>'
        f'{data_script("outcomes", cards)}<script type="module">{script}</script>'
    )
    return html_document(folder.absolute().name, body, style, "'self' data:")
