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
ROOMS = ["preserve", "layers", "capture", "cam", "attribution", "visualization", "io", "__init__"]


def test_importing_the_package_imports_nothing_heavy_or_optional():
    heavy = ["scipy.ndimage", "torchmetrics", "av", "nibabel", "matplotlib.pyplot", "torch._dynamo"]
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
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room):
    tree = ast.parse((PACKAGE / f"{room}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("captum_3dcam"):
            _, _, inner = node.module.partition(".")
            imported |= {inner} if inner else {alias.name for alias in node.names}
    assert imported <= set(ROOMS[: ROOMS.index(room)])


def test_captums_private_names_are_imported_in_one_file():
    for path in PACKAGE.glob("*.py"):
        if path.stem != "capture":
            assert not re.search(r"captum\.(\w+\.)*_", path.read_text()), path.name
