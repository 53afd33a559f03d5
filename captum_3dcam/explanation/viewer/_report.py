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
_TABLES = {
    "input": "Input",
    "model": "Model",
    "settings": "Settings",
    "versions": "Versions",
}
_MAX_REGIONS, _MAX_NUMBERS = 5, 6
_MAX_INLINE = 120  # characters of a value; a longer one is folded away


def report_sections(
    content: ViewerContent, report: Mapping[str, Any], images: Sequence[tuple[str, bytes]]
) -> tuple[str, str]:
    """The HTML above the viewer, and that below it."""
    plain = _to_plain(report)
    above = [
        f"<h1>{escape(content.title)}</h1>",
        *(
            f'<p class="c3d-alert" role="alert">{escape(str(text))}</p>'
            for text in plain.get("warnings") or ()
        ),
        _results(plain.get("results") or ()),
    ]
    below = [
        *(_figure(title, png) for title, png in images),
        *(_table(title, plain[key]) for key, title in _TABLES.items() if plain.get(key)),
        _files(plain.get("files") or {}),
        _command(plain.get("command")),
    ]
    return "".join(above), "".join(below)


def _results(results: Iterable[Mapping[str, Any]]) -> str:
    """A row for each class, with a bar for its probability, and below it what was localized."""
    rows = []
    for result in results:
        target, name, score, probability = (escape(_number(result.get(key))) for key in _COLUMNS)
        regions = "".join(
            f"<p>{escape(_regions(key, value))}</p>"
            for key, value in result.items()
            if key not in _COLUMNS and _is_stated(value)
        )
        rows.append(
            f"<tr><td>{target}</td><th scope=row>{name}</th><td>{score}</td>"
            f"<td>{probability}{_bar(result.get('probability'))}</td></tr>"
        )
        if regions:
            rows.append(f"<tr><td></td><td colspan=3>{regions}</td></tr>")
    if not rows:
        return ""
    heads = "".join(f"<th scope=col>{name}</th>" for name in _COLUMNS)
    return (
        '<section><h2>Prediction</h2><div class="c3d-wide"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    return f'<span class="c3d-share" style="--share: {100 * share:.1f}%"><span></span></span>'


def _regions(key: str, value: Any) -> str:
    """Boxes, tubes or segments, a peak: the first ones, with their numbers.

    >>> _regions("segments", [{"start": 2, "end": 5, "score": 0.25}])
    'segments: start 2, end 5, score 0.25'
    """
    items = value if isinstance(value, list) else [value]
    texts = [_region(item) if isinstance(item, dict) else json.dumps(item) for item in items]
    more = [f"{len(texts) - _MAX_REGIONS} more"] if len(texts) > _MAX_REGIONS else []
    return f"{key}: {'; '.join([*texts[:_MAX_REGIONS], *more])}"


def _region(item: Mapping[str, Any]) -> str:
    """Numbers and short lists of numbers; the boxes of a tube are in ``report.json``."""
    parts = []
    for key, value in item.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) <= _MAX_NUMBERS and not any(isinstance(n, list | dict) for n in numbers):
            between = " to " if key == "seconds" else " "
            parts.append(f"{key} {between.join(_number(n) for n in numbers)}")
    return ", ".join(parts)


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
