"""The house: what is public, what importing it costs, and who may import whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_3dcam

PACKAGE = Path(captum_3dcam.__file__).parent
# From the top of the house to the bottom: a room imports only rooms above it.
ROOMS = [
    "checks",
    "progress",
    "preserve",
    "layers",
    "lean",
    "capture",
    "cam",
    "attribution",
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


def files_of(room):
    """A room is a file, or a folder of files."""
    alone = PACKAGE / f"{room}.py"
    return [alone] if alone.is_file() else sorted((PACKAGE / room).glob("*.py"))


def room_of(module):
    """The room that ``captum_3dcam.<room>[.<file>]`` lies in."""
    return module.split(".")[1]


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


def test_every_file_is_a_room():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert files | folders == set(ROOMS)
    assert all(files_of(room) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room):
    imported = set()
    for path in files_of(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("captum_3dcam."):
                imported.add(room_of(node.module))
            elif isinstance(node, ast.ImportFrom) and node.module == "captum_3dcam":
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                imported |= {room_of(n) for n in names if n.startswith("captum_3dcam.")}
    assert imported <= {*ROOMS[: ROOMS.index(room)], room}


def test_captums_private_names_are_imported_in_one_file():
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "capture":
            assert not re.search(r"captum\.(\w+\.)*_", path.read_text()), path.name
