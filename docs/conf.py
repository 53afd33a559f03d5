"""Sphinx configuration: python -m sphinx -W docs build/docs. It needs the extra ``docs``."""

import re
from importlib.metadata import version as installed
from typing import Any

project = "captum_3dcam"
version = release = installed(project)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = project
html_show_copyright = False
# 98 columns of code fit without scrolling.
html_theme_options = {"light_css_variables": {"code-font-size": "var(--font-size--small--3)"}}

myst_heading_anchors = 6  # the anchors of code hosts
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # PyTorch's and Captum's describe their own classes
autodoc_typehints_format = "short"
napoleon_include_init_with_doc = True
napoleon_use_rtype = False

# Docstrings are plain text, in which *S is a shape, |x| a norm, and x_ may end on a line below.
_MARKUP = r"``.+?``|:\w+:`.+?`|\*\w[\w ]*\w\*"
_SIGNS = r"(?<!\w)\*+(?=\w)|(?<=\w)_(?!\w)|\|"


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape signs that are not markup."""
    example = False
    for number, line in enumerate(lines):
        # An example, with its output, ends at an empty line.
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[number] = re.sub(f"({_MARKUP})|({_SIGNS})", _escaped, line)


def _escaped(match: re.Match[str]) -> str:
    return match[1] or "".join(f"\\{sign}" for sign in match[2])


def setup(app: Any) -> None:
    """Connect ``escape``; Sphinx calls this function."""
    app.connect("autodoc-process-docstring", escape)
