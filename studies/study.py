"""What the studies share: the methods, means with their intervals, tables and their files."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam.evaluation import Bootstrap, Interval
from evaluate_localization import METHODS as SUMMED

Array = npt.NDArray[np.float64]
Method = Callable[[nn.Module, Sequence[str]], Any]
"""What makes an attribution of (network, layers)."""

METHODS: dict[str, Method] = {**SUMMED, "WhatWhere": LayerwiseWhatWhereCAM}


def mean_interval(values: Array, bootstrap: Bootstrap) -> Interval:
    """The mean of values (N,) or (N, M) and its interval; rows are drawn, and NaN left out.

    >>> mean_interval(np.array([[1.0, 3.0], [2.0, np.nan]]), Bootstrap()).value
    2.0
    """
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    known = ~np.isnan(rows)
    return ratio_interval(np.where(known, rows, 0).sum(axis=1), known.sum(axis=1), bootstrap)


def ratio_interval(tops: Array, bottoms: Array, bootstrap: Bootstrap) -> Interval:
    """Σ tops / Σ bottoms, (N,) each, and its interval; NaN where there is nothing to divide by."""
    counts = np.concatenate([np.ones((1, len(tops))), bootstrap.counts(len(tops))])
    with np.errstate(invalid="ignore"):
        ratios = (counts @ tops) / (counts @ bottoms)
    return quantile_interval(ratios, bootstrap)


def quantile_interval(scores: Array, bootstrap: Bootstrap) -> Interval:
    """Of the score itself, which comes first, and of its draws: (1 + R,). Draws of NaN are out."""
    drawn = scores[1:][~np.isnan(scores[1:])]
    if not len(drawn):
        return Interval(float(scores[0]), math.nan, math.nan)
    low, high = np.quantile(drawn, bootstrap.quantiles())
    return Interval(float(scores[0]), float(low), float(high))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown.

    >>> print(table(["", "a"], [["x", 1]]))
    | | a |
    |---|---|
    | x | 1 |
    """
    # A bar in a cell would start another.
    cells = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in (head, *rows)]
    lines = [f"| {cell} |".replace("|  |", "| |") for cell in cells]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def write(folder: Path, name: str, report: dict[str, Any], text: str) -> None:
    """Into folder/name.json and folder/name.md; the text is printed too."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(plain(report), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(content + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def plain(value: Any) -> Any:
    """What JSON can hold: intervals by name, and null for NaN.

    >>> plain({"a": Interval(0.5, 0.25, math.nan)})
    {'a': {'value': 0.5, 'low': 0.25, 'high': None}}
    """
    if isinstance(value, Interval):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
