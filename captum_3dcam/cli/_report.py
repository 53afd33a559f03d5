"""The report of an explanation, and its summary."""

import platform
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

import captum_3dcam
from captum_3dcam.cli._explanation import Explanation
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.frame_times import FrameTimes

_ROUNDING = 1e-3  # of corners in pixels
_NAMING = ("input", "output", "series", "channel_files")
"""The options that may have a patient's name, or lead to it."""


def make_report(
    options: Namespace,
    source: Mapping[str, Any],
    model: Mapping[str, Any],
    explanation: Explanation,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """The contents of ``report.json``."""
    results = zip(explanation.predictions, explanation.regions, strict=True)
    hidden = ("json", "debug", *(() if options.keep_names else _NAMING))
    times = FrameTimes(source["times"]) if "times" in source else None
    libraries = {name: version(name) for name in ("torch", "captum", "numpy")}
    return {
        "input": {**({"path": options.input} if options.keep_names else {}), **source},
        "model": {
            "name": options.model,
            "arguments": options.model_args,
            "checkpoint": options.checkpoint,
            **model,
        },
        "results": [{**_describe(prediction, times), **regions} for prediction, regions in results],
        "files": {kind: path.name for kind, path in files.items()},
        "settings": {k: v for k, v in vars(options).items() if k not in hidden},
        "versions": {
            "python": platform.python_version(),
            "captum_3dcam": captum_3dcam.__version__,
            **libraries,
        },
    }


def _describe(prediction: Prediction, times: FrameTimes | None) -> dict[str, Any]:
    target, name, score, probability, windows = prediction
    fields = {"class": target, "name": name, "score": score, "probability": probability}
    if not windows:
        return fields
    rows = []
    for window in windows:
        row: dict[str, Any] = {"start": window.start, "stop": window.stop}
        if times is not None:
            row["seconds"] = np.array([times.at(window.start[0]), times.at(window.stop[0])])
        scores = {"score": window.score, "probability": window.factor}
        rows.append({**row, "class": window.target, **scores})
    return {**fields, "windows": rows}


def summarize(explanation: Explanation, names: Sequence[str], folder: Path) -> str:
    """A line per class, and one with the names of the files in the folder."""
    lines = map(_line, explanation.predictions, explanation.regions)
    return "\n".join([*lines, f"wrote {', '.join(names)} into {folder}"])


def _line(prediction: Prediction, regions: Mapping[str, Any]) -> str:
    target, name = prediction.target, prediction.name
    title = name if target is None or name == f"class {target}" else f"{target} {name}"
    parts = [f"{title}: score {prediction.score:.2f}, probability {prediction.probability:.2f}"]
    boxes, tubes, peak = (regions.get(kind) for kind in ("boxes", "tubes", "peak"))
    if peak:
        voxel = ", ".join(map(str, peak["voxel"]))
        world = ", ".join(f"{x:.10g}" for x in peak["mm"])
        parts.append(f"peak at voxel ({voxel}), {world} mm RAS")
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
            (floor(x + _ROUNDING) for x in (x0, y0)),
            (ceil(x - _ROUNDING) for x in (x1, y1)),
        )
        return ", ".join(map(str, (*starts, *stops)))
    pairs = zip(box["start"], box["stop"], strict=True)
    return f"[{', '.join(f'{start}:{stop}' for start, stop in pairs)}]"
