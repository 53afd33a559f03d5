"""The results of many inputs together: as a sequence, a table, and a gallery."""

import csv
import json
from collections.abc import Iterator, Sequence
from html import escape
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

SUMMARY_FILES = ("index.html", "summary.csv", "summary.json")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'"
)


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
        return _as_text(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _as_text(target: Any) -> str:
    """A target as it is written for the command line.

    >>> _as_text((1, 4)), _as_text(None)
    ('1,4', '')
    """
    several = target if isinstance(target, list | tuple) else [target]
    return ",".join("" if each is None else str(each) for each in several)


def _link(folder: Path, path: str) -> str:
    """To a file, if it was written."""
    return quote(path) if (folder / path).is_file() else ""


def _gallery(folder: Path, outcomes: Sequence[Outcome]) -> str:
    """A page with a card for each input, to be filtered and sorted; it needs no network."""
    cards = [
        {
            **outcome._asdict(),
            "target": _as_text(outcome.target),
            "href": _link(folder, f"{outcome.folder}/report.html"),
            "image": _link(folder, f"{outcome.folder}/{THUMBNAIL}"),
        }
        for outcome in outcomes
    ]
    # No text may end the script element, or begin a comment in it.
    data = json.dumps(cards, allow_nan=False).replace("<", "\\u003c")
    package = files(__package__)
    style, script = ((package / f"gallery.{name}").read_text("utf-8") for name in ("css", "js"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(folder.absolute().name)}</title>\n<style>{style}</style>\n"
        "</head>\n<body>\n<main></main>\n"
        f'<script type="application/json" id="outcomes">{data}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>'
    )
