"""One table of several evaluations: the mean over trained networks, and their lowest and highest.

    python studies/summarize_seeds.py out/two_actors_*.json

takes what evaluate_localization.py has written, once for each network. ``--rows`` keeps the rows
with one of these texts in their name. Files with different rows are an error.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from study import table

COLUMNS = ("energy", "hit", "max_box_acc", "max_box_acc_per_sample", "tube_iou")


def summarize(files: Sequence[Path], columns: Sequence[str], rows: Sequence[str] = ("",)) -> str:
    """Markdown: a row an attribution, "mean (lowest-highest)" over the files."""
    reports = [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in files]
    for path, report in zip(files, reports, strict=True):
        if report.keys() != reports[0].keys():
            raise ValueError(f"{path} has other rows than {files[0]}: evaluate both alike.")
    chosen = [row for row in reports[0] if any(text in row for text in rows)]
    return table(
        ["", *columns],
        [
            [
                row,
                *(
                    _spread([report[row][column]["value"] for report in reports])
                    for column in columns
                ),
            ]
            for row in chosen
        ],
    )


def _spread(values: Sequence[float]) -> str:
    """
    >>> _spread([0.25, 0.5, 0.75])
    '.500 (.250-.750)'
    """
    numbers = (sum(values) / len(values), min(values), max(values))
    mean, low, high = (f"{number:.3f}".removeprefix("0") for number in numbers)
    return f"{mean} ({low}-{high})"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--columns", nargs="+", default=COLUMNS)
    parser.add_argument("--rows", nargs="+", default=[""])
    options = parser.parse_args(arguments)
    text = summarize(options.files, options.columns, options.rows)
    print(text)
    return text


if __name__ == "__main__":
    main()
