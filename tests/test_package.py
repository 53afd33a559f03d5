"""The layout: what is public, what importing it costs, and which module may import which."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_3dcam

PACKAGE = Path(captum_3dcam.__file__).parent
ROOT = Path(__file__).parent.parent
# The order of the imports: a module imports only from those above it.
MODULES = [
    "_validation",
    "_errors",
    "_files",
    "_json",
    "_digest",
    "frame_times",
    "functional",
    "_restoration",
    "_model_state",
    "_input_range",
    "_layout",
    "layers",
    "_frozen_batch_norm",
    "_captum",
    "_inputs",
    "_targets",
    "targets",
    "_capture",
    "_passes",
    "_diagnosis",
    "_layer_choice",
    "_layerwise_cam",
    "attribution",
    "_joint_cam",
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
    "explanation",
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
        "captum_3dcam.explanation",
        "captum_3dcam.visualization",
    ]
    code = (
        "import sys, captum.attr; before = set(sys.modules)\n"
        "from captum_3dcam import GlobalLocalCAM3D, SlidingWindowCAM, survey_layers\n"
        f"print([m for m in {heavy} if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_alone_imports_no_library():
    code = (
        "import sys; before = set(sys.modules); import captum_3dcam; dir(captum_3dcam)\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - {'captum_3dcam'}"
        " - sys.stdlib_module_names)\n"
        "print(captum_3dcam.io.read_image.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "read_image"]


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'captum_3dcam' has no attribute 'Explain'"):
        _ = captum_3dcam.Explain
    assert {*captum_3dcam.__all__, "metrics"} <= set(dir(captum_3dcam))


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


# ------------------------------------------------------------------------------------ the project


def options(section):
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser[section]


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_contributing_guide_lists_the_public_modules_in_order():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.search(r"imports only from those before it: (.+?)\.", guide, re.DOTALL)[1]
    assert re.findall(r"`(\w+)`", listed) == [name for name in MODULES if name[0] != "_"]


def test_the_oldest_constraints_are_the_lower_bounds():
    required = dict(
        re.match(r"([\w-]+)(?:>=(.+))?$", line).groups()
        for line in lines(options("options")["install_requires"])
    )
    oldest = lines((ROOT / "constraints-oldest.txt").read_text())
    pins = dict(line.split("==") for line in oldest if "==" in line)
    assert pins.keys() <= required.keys()
    for name, bound in required.items():
        if bound is not None:
            assert re.sub(r"(\.0)+$", "", pins[name]) == re.sub(r"(\.0)+$", "", bound), name


def test_continuous_integration_runs_every_declared_python():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"python: \[(.+)\]", workflow)
    declared = re.findall(r"Python :: (3\.\d+)", options("metadata")["classifiers"])
    assert re.findall(r'"([\d.]+)"', matrix) == declared
    assert options("options")["python_requires"] == f">={declared[0]}"


def test_the_documentation_names_the_extras():
    extras = {name for name in options("options.extras_require") if name != "test"}
    users = extras - {"bench", "docs", "lint", "zoo"}
    readme = (ROOT / "README.md").read_text()
    documented = {
        name for names in re.findall(r"\.\[([\w,]+)\]", readme) for name in names.split(",")
    }
    assert documented == users


def test_the_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {captum_3dcam.__version__}\n" in citation
