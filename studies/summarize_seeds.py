"""One table of several evaluations: the mean over trained networks, the lowest and the highest.

    python studies/summarize_seeds.py out/two_actors_*.json

takes the files of evaluate_localization.py, one for each network. ``--rows`` keeps the rows whose
name contains one of these texts. Files with different rows are an error.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from _arguments import make_parser
from _report import table

COLUMNS = ("energy", "hit", "max_box_acc", "max_box_acc_per_sample", "tube_iou")


def summarize(files: Sequence[Path], columns: Sequence[str], rows: Sequence[str] = ("",)) -> str:
    """A Markdown table: a row an attribution, "mean (lowest-highest)" over the files."""
    reports = [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in files]
    for path, report in zip(files, reports, strict=True):
        if report.keys() != reports[0].keys():
            raise ValueError(
                f"{path} and {files[0]} have different rows: evaluate them with the same options."
            )
    return table(
        ["", *columns],
        [
            [row, *(_spread([r[row][column]["value"] for r in reports]) for column in columns)]
            for row in reports[0]
            if any(text in row for text in rows)
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
    parser = make_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--columns", nargs="+", default=COLUMNS)
    parser.add_argument("--rows", nargs="+", default=[""])
    options = parser.parse_args(arguments)
    text = summarize(options.files, options.columns, options.rows)
    print(text)
    return text


if __name__ == "__main__":
    main()
