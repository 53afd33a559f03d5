"""The scripts and styles of the viewer, as one script and one style sheet."""

import re
from functools import cache
from importlib.resources import files

# A script imports only from those before it, so that together they are one module.
_SCRIPTS = ("text", "controls", "data", "color", "stage", "frames", "timeline", "planes", "viewer")
_IMPORT = re.compile(r"^import\b[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def read_asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def bundle(entry: str) -> str:
    """The scripts as one module that ends with this one: "page" or "widget"."""
    scripts = [read_asset(f"{name}.js") for name in (*_SCRIPTS, entry)]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", script)) for script in scripts)
