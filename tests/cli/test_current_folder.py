"""The command line imports nothing from the current folder but the model it is told to."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import captum_3dcam
from captum_3dcam.cli import main
from captum_3dcam.io import Volume, write_nifti

ROOT = str(Path(captum_3dcam.__file__).parent.parent)
MODULES = ("gzip", "secrets", "nibabel")
PACKAGES = ("av", "pydicom", "scipy", "matplotlib", "PIL", "tqdm")
HOSTILE = "print('RAN', __file__)\nraise SystemExit(9)\n"
MODEL = """
from torch import nn
def net(width=4, channels=1):
    return nn.Sequential(nn.Conv3d(channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1),
                         nn.Flatten(), nn.Linear(width, 3)).eval()
"""
CALL = "import sys; from captum_3dcam.cli import main; sys.exit(main(sys.argv[1:]))"
LAYERS = ["layers", "--input-size", "1", "8", "8", "8", "--json", "--quiet"]


@pytest.fixture
def safe(tmp_path):
    """A folder of the user's own files: a model and a scan."""
    pytest.importorskip("nibabel")
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "net_3dcam.py").write_text(MODEL)
    scan = Volume(np.random.default_rng(0).random((12, 12, 12)), np.eye(4))
    write_nifti(scan, tmp_path / "safe" / "scan.nii.gz")
    return tmp_path / "safe"


@pytest.fixture
def hostile(tmp_path):
    """A folder whose modules have the names of those that a command imports while it runs."""
    folder = tmp_path / "hostile"
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(HOSTILE)
    for name in (*MODULES, "sitecustomize", "hook_3dcam"):
        (folder / f"{name}.py").write_text(HOSTILE)
    (folder / "hook.pth").write_text("import hook_3dcam\n")
    return folder


def run(words, folder, *python, code=CALL):
    """The exit code and the output of a command in a folder, in a new process."""
    start = ["-m", "captum_3dcam.cli"] if code is None else ["-c", code]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [sys.executable, *python, *start, *map(str, words)],
        cwd=folder, capture_output=True, text=True, check=False, env=env | {"PYTHONPATH": ROOT},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def explain(safe, model):
    words = ["explain", safe / "scan.nii.gz", "--model", model, "--layers", "1", "--quiet"]
    return [*words, "--output", safe / "out"]


needs_safe_path = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 has -P")


@needs_safe_path
def test_a_scan_is_explained_without_code_of_the_current_folder(safe, hostile):
    code, output = run(explain(safe, f"{safe}/net_3dcam.py:net"), hostile, "-P")
    assert (code, "RAN" in output) == (0, False), output


@needs_safe_path
@pytest.mark.parametrize(
    "command",
    [LAYERS, ["evaluate", "actions", "--limit", "1", "--layers", "1", "--model-args"]],
    ids=["layers", "evaluate"],
)
def test_neither_do_the_other_commands_run_it(command, safe, hostile):
    arguments = ['{"channels": 3}'] if command[-1] == "--model-args" else []
    words = [*command, *arguments, "--model", f"{safe}/net_3dcam.py:net"]
    code, output = run(words, hostile, "-P")
    assert (code, "RAN" in output) == (0, False), output


@pytest.mark.parametrize("code", [None, CALL], ids=["-m", "-c"])
def test_without_safe_path_what_is_imported_later_is_not_from_there(code, safe, hostile):
    shutil.rmtree(hostile)  # -m has Python itself import the package before any of its code
    hostile.mkdir()
    (hostile / "nibabel.py").write_text(HOSTILE)
    status, output = run(explain(safe, f"{safe}/net_3dcam.py:net"), hostile, code=code)
    assert (status, "RAN" in output) == (0, False), output


@needs_safe_path
@pytest.mark.parametrize("model", ["net_3dcam.py:net", "net_3dcam:net"])
def test_a_model_in_the_current_folder_does_not_bring_its_neighbours(model, safe, hostile):
    (hostile / "net_3dcam.py").write_text(MODEL)
    status, output = run(explain(safe, model), hostile, "-P")
    assert (status, "RAN" in output) == (0, False), output


# ------------------------------------------------------------------------------- in this process


@pytest.fixture
def path_before(monkeypatch, tmp_path):
    """The path, with the current folder on it as an interactive Python has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return list(sys.path)


def test_a_neighbour_of_the_model_does_not_shadow_the_standard_library(path_before, capsys):
    folder = Path("nets")
    folder.mkdir()
    (folder / "colorsys.py").write_text("width = 5")
    (folder / "width_3dcam.py").write_text(
        "import colorsys\nwidth = 5 + hasattr(colorsys, 'width')"
    )
    (folder / "net.py").write_text(
        "from width_3dcam import width\n" + MODEL.replace("=4", "=width")
    )
    assert main([*LAYERS, "--model", "nets/net.py:net"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["output_shape"] == [5, 6, 6, 6]
    assert sys.path == path_before


def test_a_file_elsewhere_cannot_import_from_the_current_folder(path_before, capsys):
    Path("nets").mkdir()
    Path("nets", "net.py").write_text("import beside_3dcam")
    Path("beside_3dcam.py").write_text(HOSTILE)
    assert main([*LAYERS, "--model", "nets/net.py:net"]) == 1
    assert "No module named 'beside_3dcam'" in capsys.readouterr().err
    assert sys.path == path_before


def test_an_installed_module_cannot_import_from_the_current_folder(
    path_before, tmp_path, monkeypatch, capsys
):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "installed_3dcam.py").write_text("import beside_3dcam")
    monkeypatch.setattr(sys, "path", [*path_before, str(tmp_path / "installed")])
    Path("beside_3dcam.py").write_text(HOSTILE)
    assert main([*LAYERS, "--model", "installed_3dcam:net"]) == 1
    assert "No module named 'beside_3dcam'" in capsys.readouterr().err


def test_an_installed_module_is_preferred_to_one_in_the_current_folder(path_before, capsys):
    Path("wave.py").write_text(HOSTILE)
    assert main([*LAYERS, "--model", "wave:net"]) == 2
    assert "--model: 'wave' has no 'net'." in capsys.readouterr().err
    Path("json").mkdir()
    Path("json", "nets.py").write_text(HOSTILE)
    assert main([*LAYERS, "--model", "json.nets:net"]) == 2
    assert "unless an installed one has its name" in capsys.readouterr().err
    assert sys.path == path_before


def test_the_path_and_the_signal_are_restored_after_an_error(path_before, monkeypatch):
    monkeypatch.chdir("/")
    before = signal.getsignal(signal.SIGTERM)
    assert main([*LAYERS, "--model", "nowhere_3dcam:net"]) == 2
    assert sys.path == path_before
    assert signal.getsignal(signal.SIGTERM) is before
