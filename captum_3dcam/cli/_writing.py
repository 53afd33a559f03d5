"""How text, numbers and figures are written: each file whole, or not at all."""

import json
import re
from pathlib import Path
from typing import Any

from captum_3dcam.io._files import atomic_write


def write_text(path: Path, text: str) -> None:
    """The whole file, or none."""
    with atomic_write(path, (path.suffix.lower(),)) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def as_json(report: dict[str, Any]) -> str:
    """Indented, but lists of numbers on one line.

    >>> print(as_json({"box": [1, 2.5]}))
    {
      "box": [1, 2.5]
    }
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    # No string can match: a line break in one is written as \n, and quotes are left out.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)


def spread(length: int, peak: int, count: int = 8) -> list[int]:
    """So many places out of ``length``, evenly spaced but for the one that makes way for the peak.

    >>> spread(16, 9), spread(4, 2)
    ([0, 2, 4, 6, 9, 11, 13, 15], [0, 1, 2, 3])
    """
    places = [round(place * (length - 1) / max(count - 1, 1)) for place in range(count)]
    nearest = min(places, key=lambda place: abs(place - peak))
    return sorted({peak, *places} - ({nearest} - {peak}))


def save_figure(figure: Any, path: Path) -> None:
    """A figure as PNG; the whole file, or none."""
    with atomic_write(path, (".png",)) as beside:
        figure.savefig(beside, dpi=100)


def rounded(values: Any) -> Any:
    """Numbers, in lists of any depth, to two digits after the point."""
    if isinstance(values, (list, tuple)):
        return [rounded(value) for value in values]
    return round(float(values), 2)
