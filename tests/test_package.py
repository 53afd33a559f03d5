"""The layout: what is public, what importing it costs, and which module may import which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_3dcam

PACKAGE = Path(captum_3dcam.__file__).parent
# The order of the imports: a module imports only from those above it.
MODULES = [
    "_validation",
    "_progress",
    "functional",
    "_model_state",
    "_layout",
    "layers",
    "_frozen_batch_norm",
    "_captum",
    "_targets",
    "_reduction",
    "_capture",
    "_diagnosis",
    "attribution",
    "layer_survey",
    "sliding",
    "localization",
    "metrics",
    "sanity",
    "io",
    "visualization",
    "models",
    "datasets",
    "evaluation",
    "cli",
    "__init__",
]


def files_of(module):
    """A module is a file, or a package of files."""
    alone = PACKAGE / f"{module}.py"
    return [alone] if alone.is_file() else sorted((PACKAGE / module).glob("*.py"))


def top_module_of(name):
    """The module that ``captum_3dcam.<module>[.<file>]`` lies in."""
    return name.split(".")[1]


def test_importing_the_package_imports_nothing_heavy_or_optional():
    heavy = [
        "scipy.ndimage",
        "torchmetrics",
        "av",
        "nibabel",
        "pydicom",
        "matplotlib.pyplot",
        "torch._dynamo",
    ]
    code = (
        "import sys, captum.attr; before = set(sys.modules); import captum_3dcam; "
        f"print([m for m in {heavy} if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_says_what_it_is():
    assert sorted(captum_3dcam.__all__) == captum_3dcam.__all__
    for name in captum_3dcam.__all__:
        assert getattr(captum_3dcam, name).__doc__


def test_every_file_has_its_position_in_the_order():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert files | folders == set(MODULES)
    assert all(files_of(module) for module in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_those_above_it(module):
    imported = set()
    for path in files_of(module):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("captum_3dcam."):
                imported.add(top_module_of(node.module))
            elif isinstance(node, ast.ImportFrom) and node.module == "captum_3dcam":
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                imported |= {top_module_of(n) for n in names if n.startswith("captum_3dcam.")}
    assert imported <= {*MODULES[: MODULES.index(module)], module}


def test_captums_private_names_are_imported_in_one_file():
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "_captum":
            assert not re.search(r"captum\.(\w+\.)*_", path.read_text()), path.name
