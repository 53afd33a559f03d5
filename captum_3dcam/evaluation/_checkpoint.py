"""The checkpoint of an evaluation: a folder that a stopped run resumes from.

``run.json`` describes the run; ``process-<rank>.jsonl`` has a line for each sample that a process
has finished.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from captum_3dcam._digest import digest
from captum_3dcam._files import atomic_write
from captum_3dcam.evaluation.faithfulness import Faithfulness
from captum_3dcam.evaluation.samples import Samples, check_sample
from captum_3dcam.evaluation.scoring import Scores

Record = dict[str, Scores]
"""The scores of one sample, by the name of the row."""

_FORMAT = 2  # to be raised when the records of a checkpoint change, or their meaning


def describe_run(
    attributions: Mapping[str, Any],
    samples: Samples,
    tolerance: float,
    faithfulness: Faithfulness,
) -> dict[str, Any]:
    """What the scores depend on, as JSON: a run only resumes from one with an equal description."""
    first = samples[0]
    check_sample(first, 0)
    digest_model = cache(lambda model: digest(model.state_dict().values()))

    def describe(attribution: Any) -> dict[str, Any]:
        model = getattr(attribution, "forward_func", None)
        options = {
            name: getattr(value, "__qualname__", str(value))
            for name in ("fusion", "interpolate_mode", "align_corners")
            if (value := getattr(attribution, name, None)) is not None
        }
        return {
            "class": type(attribution).__qualname__,
            "layers": [layer.name for layer in getattr(attribution, "layers", ())],
            **options,
            "model": digest_model(model) if isinstance(model, nn.Module) else None,
        }

    return {
        "format": _FORMAT,
        "samples": len(samples),
        "first sample": digest([first.inputs, torch.tensor(first.target), *first[2:]]),
        "tolerance": float(tolerance),
        "faithfulness": faithfulness.describe(),
        "attributions": {name: describe(attribution) for name, attribution in attributions.items()},
    }


@contextmanager
def open_checkpoint(
    path: str | os.PathLike[str] | None, run: dict[str, Any], rank: int
) -> Iterator[tuple[dict[int, Record], Callable[[int, Record], None]]]:
    """The records of finished samples, by index; and a function that appends one at once.

    Without a path nothing is kept. Raises ValueError for the checkpoint of another run.
    """
    if path is None:
        yield {}, lambda index, record: None
        return
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    _check_run(folder, run, rank)
    records = dict(record for file in sorted(folder.glob("*.jsonl")) for record in _read(file))
    own = folder / f"process-{rank}.jsonl"
    if own.exists():  # drop a line that was cut off when the run stopped
        os.truncate(own, own.read_bytes().rfind(b"\n") + 1)
    with own.open("a", encoding="utf-8") as file:

        def append(index: int, record: Record) -> None:
            scores = {row: [v.tolist() for v in values] for row, values in record.items()}
            file.write(json.dumps({"sample": index, "scores": scores}) + "\n")
            file.flush()

        yield records, append


def _check_run(folder: Path, run: dict[str, Any], rank: int) -> None:
    """Compare with the description in the folder, which the first process writes if missing."""
    path = folder / "run.json"
    if path.exists():
        differences = list(_differences(json.loads(path.read_text(encoding="utf-8")), run))
        if differences:
            more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
            raise ValueError(
                f"The checkpoint {str(folder)!r} is of another run. {'; '.join(differences[:3])}"
                f"{more}. Pass another folder, or delete this one."
            )
    elif rank == 0:
        with atomic_write(path, (".json",)) as temporary:  # other processes see it whole
            text = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8")


def _differences(saved: Any, current: Any, path: str = "") -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(current, dict):
        for key in {**saved, **current}:
            inner = f"{path}, {key!r}" if path else str(key)
            yield from _differences(saved.get(key), current.get(key), inner)
    elif saved != current:
        there, here = ("{...}" if isinstance(v, dict) else repr(v) for v in (saved, current))
        yield f"{path}: {there} there, {here} here"


def _read(path: Path) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(True), start=1):
        if not line.endswith("\n"):
            return  # cut off
        try:
            saved = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"Line {number} of {str(path)!r} is not JSON: {error}. Delete that line; its "
                "sample will be scored again."
            ) from error
        rows = saved["scores"].items()
        yield saved["sample"], {row: Scores(*map(np.array, values)) for row, values in rows}
