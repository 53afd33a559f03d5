"""Sphinx configuration: python -m sphinx -W docs build/docs. It needs the extra ``docs``."""

import os
import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.ext import autosummary

ROOT = Path(__file__).parents[1]

project = "captum_3dcam"
version = release = installed(project)
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]

html_theme = "furo"
html_title = project
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# 98 columns of code fit without scrolling.
html_theme_options = {"light_css_variables": {"code-font-size": "var(--font-size--small--3)"}}
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 6  # the anchors of code hosts
myst_enable_extensions = ["dollarmath"]
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

# The notebooks run at each build, with the libraries that ``make test`` installs beside the
# environment. Without those, -D nb_execution_mode=off builds the pages without outputs.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # PyTorch's and Captum's describe their own classes
autodoc_typehints_format = "short"
napoleon_include_init_with_doc = True
napoleon_use_rtype = False
# No sentence ends there.
autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.", "eqs.")

# Inventories as text, of the names that are linked: nothing is fetched.
intersphinx_mapping = {
    name: (url, f"inventories/{name}.txt")
    for name, url in {
        "captum": "https://captum.ai/api",
        "matplotlib": "https://matplotlib.org/stable",
        "numpy": "https://numpy.org/doc/stable",
        "python": "https://docs.python.org/3",
        "torch": "https://docs.pytorch.org/docs/stable",
        "torchmetrics": "https://lightning.ai/docs/torchmetrics/stable",
    }.items()
}

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


def hide_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what an attribute's docstring has before a colon for its type."""
    if what in ("attribute", "property"):
        lines[:] = [line.replace(":", "::") for line in lines]


def show_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """After napoleon, undo ``hide_colons``."""
    if what in ("attribute", "property"):
        lines[:] = [line.replace("::", ":") for line in lines]


def shorten(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Defaults that a dataclass makes anew are no Python, so that no type would be a link."""
    return signature and signature.replace("<factory>", "..."), result


def summarize(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Begin the page of a module with a table of its classes and functions."""
    if what == "module":
        names = set(getattr(obj, "__all__", _own_names(obj))) - set(options.exclude_members or ())
        lines += ["", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {each}" for each in sorted(names) if callable(getattr(obj, each))]


def _own_names(module: Any) -> list[str]:
    names = (name for name in vars(module) if not name.startswith("_"))
    return [n for n in names if getattr(vars(module)[n], "__module__", "") == module.__name__]


def visit_formula(translator: Any, node: nodes.Element) -> None:
    """Typeset a formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    formula = latex2mathml.tex2mathml(node.astext(), as_block=block)
    # Arrows are operators here, which would grow to the height of what follows them.
    translator.body.append(formula.replace("<mo>↑</mo>", '<mo stretchy="false" rspace="0">↑</mo>'))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Connect the functions above; Sphinx calls this one."""
    # Not at import: doctests import this file, and their other processes would inherit it.
    os.environ["PYTHONPATH"] = str(ROOT / ".venv" / "zoo")
    app.connect("autodoc-process-docstring", hide_colons, priority=400)  # napoleon has 500
    app.connect("autodoc-process-docstring", show_colons)
    app.connect("autodoc-process-docstring", escape)
    app.connect("autodoc-process-docstring", summarize)
    app.connect("autodoc-process-signature", shorten)
    app.add_html_math_renderer("mathml", (visit_formula, None), (visit_formula, None))
