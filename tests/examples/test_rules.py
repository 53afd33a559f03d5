"""The rules of examples/: short scripts that teach by the package's public names alone."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NETWORKS = sorted((ROOT / "examples" / "trained_networks").glob("*.py"))
STUDIES = sorted((ROOT / "studies").glob("*.py"))
MAX_LINES = 80
# What an example may import, beside the standard library and the package.
LIBRARIES = {"captum", "matplotlib", "numpy", "torch"}


def imports(path):
    """(module, name) of every import; the name is None where the module itself is imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relative to itself"
            yield from ((node.module, alias.name) for alias in node.names)


def is_private(name):
    return name is not None and name.startswith("_") and not name.startswith("__")


def id_of(path):
    return path.stem


def test_there_are_about_eight_examples():
    assert 6 <= len(EXAMPLES) <= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=id_of)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", EXAMPLES, ids=id_of)
def test_an_example_imports_the_package_and_its_networks_alone(path):
    """And so no study, and no module of another example."""
    modules = {module.partition(".")[0] for module, _ in imports(path)}
    allowed = {*sys.stdlib_module_names, *LIBRARIES, "captum_3dcam", "trained_networks"}
    assert modules <= allowed


@pytest.mark.parametrize("path", [*EXAMPLES, *NETWORKS], ids=id_of)
def test_examples_and_networks_use_public_names(path):
    studies = {study.stem for study in STUDIES}
    for module, name in imports(path):
        assert module.partition(".")[0] not in studies, f"{path.name} imports the study {module}"
        if module.partition(".")[0] == "captum_3dcam":
            parts = [*module.split("."), name]
            assert not any(map(is_private, parts)), f"{path.name} imports {parts}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            assert owner in ("self", "cls"), f"{path.name} uses {owner}.{node.attr}"


@pytest.mark.parametrize("path", STUDIES, ids=id_of)
def test_a_study_imports_no_example(path):
    """A script has only its own folder on the path."""
    examples = {example.stem for example in EXAMPLES}
    assert not examples & {module.partition(".")[0] for module, _ in imports(path)}


@pytest.mark.parametrize("path", EXAMPLES, ids=id_of)
def test_help_shows_how_to_use_it(path, capsys):
    try:
        script = importlib.import_module(path.stem)
    except ImportError as error:
        pytest.skip(str(error))
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    printed = capsys.readouterr().out
    assert f"python examples/{path.name}" in printed
    assert "--output" in printed


@pytest.mark.parametrize("folder", ["examples", "studies"])
def test_the_readme_lists_every_script(folder):
    root = ROOT / folder
    scripts = {path.name for path in root.glob("*.py") if not path.name.startswith("_")}
    listed = set(re.findall(r"^\| `(\w+\.py)`", (root / "README.md").read_text(), re.MULTILINE))
    helpers = {name for name in scripts if name.startswith("comparison_")}
    assert listed == scripts - helpers
