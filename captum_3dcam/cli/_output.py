"""Progress bars, JSON, and files of text and figures."""

import json
import re
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from captum_3dcam._files import atomic_write
from captum_3dcam.cli._parser import Target
from captum_3dcam.localization import Segment, Tube


def shows_progress(options: Namespace) -> bool:
    """Whether the standard error is a terminal, and ``--quiet`` is not given."""
    return not options.quiet and sys.stderr.isatty()


def to_json(report: dict[str, Any]) -> str:
    """Indented JSON, with lists of numbers on one line, and tensors rounded to six digits.

    >>> print(to_json({"box": np.array([1, 2000 / 3, 2e-5 / 3])}))
    {
      "box": [1.0, 666.667, 6.66667e-06]
    }
    """
    text = json.dumps(report, indent=2, allow_nan=False, default=_to_json_type)
    # Strings never match: their line breaks are escaped, and quotes are excluded.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda match: f"[{' '.join(match[0][1:-1].split())}]", text)


def _to_json_type(value: Any) -> Any:
    if isinstance(value, Segment | Tube):
        region = {"start": value.start, "end": value.end, "seconds": np.array(value.seconds)}
        boxes = {"boxes": value.boxes} if isinstance(value, Tube) else {}
        return {**region, "score": value.score, **boxes}
    if isinstance(value, Target):
        return asdict(value)
    return str(value) if isinstance(value, Path) else _rounded(np.asarray(value, float).tolist())


def _rounded(numbers: Any) -> Any:
    """Each number of nested lists to six significant digits: micrometres must not become 0."""
    if isinstance(numbers, list):
        return [_rounded(each) for each in numbers]
    return float(f"{numbers:.6g}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path, (path.suffix.lower(),)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG atomically."""
    with atomic_write(path, (".png",)) as temporary:
        figure.savefig(temporary, dpi=100)


def spread_frames(length: int, *required: int, count: int = 8) -> list[int]:
    """``count`` frames out of ``length``, evenly spaced, but with the nearest moved to those given.

    >>> spread_frames(16, 9), spread_frames(4, 2)
    ([0, 2, 4, 6, 9, 11, 13, 15], [0, 1, 2, 3])
    """
    frames = {round(i * (length - 1) / max(count - 1, 1)) for i in range(count)}
    for number, frame in enumerate(required):
        if frame not in frames:
            movable = frames - set(required[:number])
            frames.remove(min(movable, key=lambda other: abs(other - frame)))
            frames.add(frame)
    return sorted(frames)
