"""The sections of a report around the viewer, as HTML."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
from torch import Tensor

from captum_3dcam.explanation.viewer.content import ViewerContent

_COLUMNS = ("class", "name", "score", "probability")
_HEADS = ("class score", "probability")
_TABLES = {
    "input": "Input",
    "model": "Model",
    "settings": "Settings",
    "versions": "Versions",
}
# What the score of a region is, apart from that of a class.
_SCORES = {
    "boxes": "maximum of the map",
    "tubes": "mean of the frames' maxima",
    "segments": "mean of the map",
    "windows": "class score",
}
_MAX_NUMBERS = 6
_MAX_INLINE = 120  # characters of a value; a longer one is folded away


def report_sections(
    content: ViewerContent, report: Mapping[str, Any], images: Sequence[tuple[str, bytes]]
) -> tuple[str, str]:
    """The HTML above the viewer, and that below it."""
    plain = _to_plain(report)
    results = plain.get("results") or ()
    above = [
        f"<h1>{escape(content.title)}</h1>",
        _prediction(results),
        *(
            f'<p class="c3d-alert" role="alert">{escape(str(text))}</p>'
            for text in plain.get("warnings") or ()
        ),
    ]
    below = [
        *(_figure(title, png) for title, png in images),
        _localization(results),
        *(_table(title, plain[key]) for key, title in _TABLES.items() if plain.get(key)),
        _files(plain.get("files") or {}),
        _command(plain.get("command")),
    ]
    return "".join(above), "".join(below)


def _prediction(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each class, with a bar for its probability."""
    rows = []
    for result in results:
        target, name, score, probability = (escape(_number(result.get(key))) for key in _COLUMNS)
        rows.append(
            f"<tr><td>{target}</td><th scope=row>{name}</th><td>{score}</td>"
            f"<td>{probability}{_bar(result.get('probability'))}</td></tr>"
        )
    if not rows:
        return ""
    heads = "".join(f"<th scope=col>{name}</th>" for name in ("class", "name", *_HEADS))
    return (
        '<div class="c3d-wide"><table aria-label="Prediction">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    return f'<span class="c3d-share" style="--share: {100 * share:.1f}%"><span></span></span>'


# -------------------------------------------------------------------------------- localization


def _localization(results: Iterable[Mapping[str, Any]]) -> str:
    """Of each class where its map is high, and its windows, folded away."""
    parts = []
    for result in results:
        folded = {
            key: value if isinstance(value, list) else [value]
            for key, value in result.items()
            if key not in _COLUMNS and _is_stated(value)
        }
        if folded:
            title = escape(_number(result.get("name", result.get("class"))))
            parts += [f"<h3>{title}</h3>", *(_folded(*item) for item in folded.items())]
    if not parts:
        return ""
    return f"<section><h2>Localization</h2>{''.join(parts)}</section>"


def _folded(key: str, items: Sequence[Any]) -> str:
    """A list under its count; what is one by nature stands in a line."""
    if key not in _SCORES:
        return f"<p>{escape(key)}: {escape('; '.join(_region(key, item) for item in items))}</p>"
    one = {"boxes": "box"}.get(key, key.removesuffix("s"))
    count = f"1 {one}" if len(items) == 1 else f"{len(items)} {key}"
    rows = "".join(f"<li>{escape(_region(key, item))}</li>" for item in items)
    return f"<details><summary>{escape(count)}</summary><ul>{rows}</ul></details>"


def _region(key: str, item: Any) -> str:
    """The numbers of a region, with its frames counted from 0, the last one included.

    The boxes of a tube are in ``report.json``.

    >>> _region("segments", {"start": 2, "end": 5, "seconds": [0.2, 0.5], "score": 0.25})
    'frames 2 to 4 (0.20 to 0.50 s), mean of the map 0.25'
    """
    if not isinstance(item, dict):
        return json.dumps(item)
    rest = dict(item)
    parts = [_span(rest)] if "start" in rest else []
    for name, value in rest.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) <= _MAX_NUMBERS and not any(isinstance(n, list | dict) for n in numbers):
            label = _SCORES.get(key, name) if name == "score" else name
            parts.append(f"{label} {', '.join(_number(n) for n in numbers)}")
    return ", ".join(parts)


def _span(region: dict[str, Any]) -> str:
    """Where a tube, a segment, a window or a box of a scan is, which is taken out of it."""
    start, stop = (
        value if isinstance(value, list) else [value]
        for value in (region.pop("start"), region.pop("end" if "end" in region else "stop"))
    )
    if "seconds" not in region:
        return _slices(start, stop)
    frames = _frames(start[0], stop[0], region.pop("seconds"))
    return ", ".join([frames, *([_slices(start[1:], stop[1:])] if start[1:] else [])])


def _slices(start: Sequence[int], stop: Sequence[int]) -> str:
    """Of an array, as on the command line."""
    return f"[{', '.join(f'{i}:{j}' for i, j in zip(start, stop, strict=True))}]"


def _frames(start: int, end: int, seconds: Sequence[float]) -> str:
    """Frames counted from 0, of which ``end`` is the one after the last.

    >>> _frames(70, 72, (2.8, 2.88)), _frames(3, 4, (0.12, 0.16))
    ('frames 70 to 71 (2.80 to 2.88 s)', 'frame 3 (0.12 to 0.16 s)')
    """
    frames = f"frame {start}" if end - start == 1 else f"frames {start} to {end - 1}"
    return f"{frames} ({seconds[0]:.2f} to {seconds[1]:.2f} s)"


def _figure(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f"<section><h2>{escape(title)}</h2>"
        f'<img src="data:image/png;base64,{data}" alt="{escape(title)}"></section>'
    )


def _table(title: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(str(key))}</th><td>{_value(value)}</td></tr>"
        for key, value in values.items()
        if _is_stated(value)
    )
    return (
        f"<section><h2>{escape(title)}</h2>"
        f'<div class="c3d-wide"><table class="c3d-facts">{rows}</table></div></section>'
    )


def _files(files: Mapping[str, Any]) -> str:
    """Links to the files beside the report, by their names."""
    if not files:
        return ""
    items = "".join(
        f'<li><a href="./{quote(str(name))}">{escape(str(name))}</a> ({escape(str(kind))})</li>'
        for kind, name in files.items()
    )
    return f"<section><h2>Files</h2><ul>{items}</ul></section>"


def _command(command: str | None) -> str:
    if not command:
        return ""
    return f"<section><h2>Made by</h2><pre><code>{escape(command)}</code></pre></section>"


# --------------------------------------------------------------------------------------- values


def _is_stated(value: Any) -> bool:
    return value not in (None, [], {})


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    """Any value of a report as text; a long one is folded away."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) or len(text) <= _MAX_INLINE:
        return escape(text)
    items = "1 item" if len(value) == 1 else f"{len(value)} items"
    return f"<details><summary>{items}</summary><pre>{escape(text)}</pre></details>"


def _to_plain(value: Any) -> Any:
    """What JSON takes: lists for arrays and tensors, text for what is unknown."""
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, bool | int | str | None) else str(value)
