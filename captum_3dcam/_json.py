"""JSON that is read by people: the reports."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any


def to_json(report: Mapping[str, Any], default: Callable[[Any], Any] | None = None) -> str:
    """Indented JSON, with lists of numbers on one line; ``default`` is that of ``json.dumps``.

    >>> print(to_json({"box": [1, 2.5]}))
    {
      "box": [1, 2.5]
    }
    """
    text = json.dumps(report, indent=2, allow_nan=False, default=default)
    # Strings never match: their line breaks are escaped, and quotes are excluded.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda match: f"[{' '.join(match[0][1:-1].split())}]", text)
