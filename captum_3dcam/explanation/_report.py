"""The contents of report.json, and its summary in a line per class."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import captum_3dcam
from captum_3dcam import _json
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._regions import list_boxes
from captum_3dcam.localization import Segment, Tube

_ROUNDING = 1e-3  # of corners in pixels


def make_report(explanation: Explanation, files: Mapping[str, str], command: str) -> dict[str, Any]:
    """The contents of ``report.json`` for one sample; ``files`` are names of files."""
    ranks = range(explanation.attribution.shape[1])
    libraries = {name: version(name) for name in ("torch", "captum", "numpy")}
    return {
        "input": {
            "kind": explanation.kind,
            "fingerprint": explanation.fingerprint,
            **explanation.facts,
        },
        "model": {**explanation.model, "layers": explanation.layers},
        "results": [
            {**_describe(explanation, rank), **find_regions(explanation, rank)} for rank in ranks
        ],
        "files": dict(files),
        "settings": explanation.settings,
        "warnings": explanation.warnings,
        "command": command,
        "versions": {
            "python": platform.python_version(),
            "captum_3dcam": captum_3dcam.__version__,
            **libraries,
        },
    }


def _describe(explanation: Explanation, rank: int) -> dict[str, Any]:
    name = explanation.class_names[0][rank]
    fields = {
        "class": as_json(explanation.classes[0][rank], name),
        "name": name,
        "score": _known(explanation.scores[0, rank]),
        "probability": _known(explanation.probabilities[0, rank]),
    }
    rows = []
    times = explanation.times
    for window in explanation.windows[0][rank]:
        row: dict[str, Any] = {"start": window.start, "stop": window.stop}
        if times is not None:
            row["seconds"] = np.array([times.at(window.start[0]), times.at(window.stop[0])])
        scores = {"score": window.score, "probability": window.factor}
        target = as_json(window.target, name)
        rows.append({**row, "class": target, "predicted": window.predicted, **scores})
    return {**fields, "windows": rows} if rows else fields


def as_json(target: Any, name: str) -> Any:
    """A target, and of a function its name."""
    return name if callable(target) else target


def _known(value: Tensor) -> float | None:
    """JSON has neither NaN nor infinity."""
    return float(value) if value.isfinite() else None


def find_regions(explanation: Explanation, rank: int) -> dict[str, Any]:
    """Where a map is above half of its maximum, by kind."""
    if explanation.kind == "video":
        return {"segments": explanation.segments(rank), "tubes": explanation.tubes(rank)}
    boxes = {"boxes": list_boxes(explanation.boxes(rank))}
    if explanation.kind == "image":
        return boxes
    voxel = explanation.peak(rank)
    if voxel is None:
        return {"peak": None, **boxes}
    grid = explanation.grid
    mm = {} if grid is None else {"mm": grid.to_mm(voxel)}
    return {"peak": {"voxel": list(voxel), **mm}, **boxes}


def to_json(report: Mapping[str, Any]) -> str:
    """Indented JSON, with lists of numbers on one line, and tensors rounded to six digits.

    >>> print(to_json({"box": np.array([1, 2000 / 3, 2e-5 / 3])}))
    {
      "box": [1.0, 666.667, 6.66667e-06]
    }
    """
    return _json.to_json(report, _to_json_type)


def _to_json_type(value: Any) -> Any:
    if isinstance(value, Segment | Tube):
        region = {"start": value.start, "end": value.end, "seconds": np.array(value.seconds)}
        boxes = {"boxes": value.boxes} if isinstance(value, Tube) else {}
        return {**region, "score": value.score, **boxes}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value) if isinstance(value, Path) else _rounded(np.asarray(value, float).tolist())


def _rounded(numbers: Any) -> Any:
    """Each number of nested lists to six significant digits: micrometres must not become 0."""
    if isinstance(numbers, list):
        return [_rounded(each) for each in numbers]
    return float(f"{numbers:.6g}")


def summarize(explanation: Explanation, names: Sequence[str], folder: Path) -> str:
    """A line per class, and one with the names of the files in the folder."""
    ranks = range(explanation.attribution.shape[1])
    lines = [summarize_class(explanation, rank, find_regions(explanation, rank)) for rank in ranks]
    return "\n".join([*lines, f"wrote {', '.join(names)} into {folder}"])


def summarize_class(explanation: Explanation, rank: int, regions: Mapping[str, Any]) -> str:
    """The class with its scores, and the first of its regions."""
    target, name = explanation.classes[0][rank], explanation.class_names[0][rank]
    title = name if target is None or name == f"class {target}" else f"{target} {name}"
    score, probability = (
        float(each[0, rank]) for each in (explanation.scores, explanation.probabilities)
    )
    likely = "" if math.isnan(probability) else f", probability {probability:.2f}"
    parts = [f"{title}: score {score:.2f}{likely}"]
    boxes, tubes, peak = (regions.get(kind) for kind in ("boxes", "tubes", "peak"))
    if peak:
        voxel = ", ".join(map(str, peak["voxel"]))
        world = ", ".join(f"{x:.10g}" for x in peak.get("mm", ()))
        parts.append(f"peak at voxel ({voxel})" + (f", {world} mm RAS" if world else ""))
    if boxes:
        parts.append(f"box {_corners(boxes[0])}")
    if tubes:
        start, end = tubes[0].seconds
        frames = f"frames {tubes[0].start} to {tubes[0].end - 1}"
        parts.append(f"tube over {frames} ({start:.2f} to {end:.2f} s)")
    if not boxes and not tubes:
        parts.append("the map is zero")
    return "; ".join(parts)


def _corners(box: Mapping[str, Any]) -> str:
    """x0, y0, x1, y1 of an image, and of a volume the slices of its array (d, h, w).

    Of an image the pixels that the box touches, so that a thin one is not empty.
    """
    if "box" in box:
        x0, y0, x1, y1 = box["box"].tolist()
        starts, stops = (
            (math.floor(x + _ROUNDING) for x in (x0, y0)),
            (math.ceil(x - _ROUNDING) for x in (x1, y1)),
        )
        return ", ".join(map(str, (*starts, *stops)))
    pairs = zip(box["start"], box["stop"], strict=True)
    return f"[{', '.join(f'{start}:{stop}' for start, stop in pairs)}]"
