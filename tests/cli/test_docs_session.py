"""Replay the session of docs/command_line.md: each command, its output, its exit code."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_3dcam.cli import main
from captum_3dcam.io import load_map, read_video

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "command_line.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def commands(block):
    """(command line, expected lines) for each command of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        yield line, output.splitlines()


def check_line(line, expected):
    """The same text; numbers may differ by rounding, also in the video decoder."""
    assert NUMBER.sub("#", line) == NUMBER.sub("#", expected)
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (line, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.021)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the examples, as in a clone of the repository."""
    pytest.importorskip("av")
    pytest.importorskip("nibabel")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def test_the_session(clone, capsys):
    names = {}
    in_errors = False
    outputs, codes = {}, set()
    for language, code in BLOCK.findall(PAGE.read_text()):
        if language == "python":
            first = code.partition("\n")[0]
            if first.endswith(".py"):
                (clone / first.removeprefix("# ")).write_text(code)
            exec(compile(code, str(PAGE), "exec"), names)
        elif language == "console":
            for line, expected in commands(code):
                program, *words = shlex.split(line)
                assert program == "captum-3dcam"
                exit_code = main(words)
                out, err = capsys.readouterr()
                in_errors = in_errors or "missing.mp4" in line
                codes.add(exit_code)
                assert (exit_code > 0) == in_errors, err
                lines = (err if in_errors else out).splitlines()
                assert (out if in_errors else err) == ""
                assert len(lines) == len(expected), lines
                for printed, documented in zip(lines, expected, strict=True):
                    check_line(printed, documented)
                outputs[line] = lines
    assert codes == {0, 1, 2}
    assert sum(line.startswith("captum-3dcam") for line in outputs) >= 18
    _check_files(clone)
    _check_lesion(clone, names["lesion"])


def _check_files(folder):
    """The files of the session: figures that are not empty, overlays as long as their video."""
    for name in ("two_explained", "two_top", "two_against", "long_explained", "scan_explained"):
        report = json.loads((folder / name / "report.json").read_text())
        assert {Path(path).name for path in report["files"].values()} | {"report.json"} == {
            path.name for path in (folder / name).iterdir()
        }
        with Image.open(folder / name / "figure.png") as image:
            assert min(image.size) > 250
            assert np.asarray(image.convert("L")).std() > 10
    assert len(read_video(folder / "two_explained" / "overlay.mp4").frames) == 16
    frames = len(read_video(folder / "long.mp4").frames)
    assert load_map(folder / "long_explained" / "map.npz").data.shape == (1, frames, 64, 64)


def _check_lesion(folder, lesion):
    """The world coordinates of the lesion and of the peak agree within a voxel."""
    import nibabel

    assert ", ".join(f"{x:.1f}" for x in lesion) + " mm, where" in PAGE.read_text()
    for name in ("scan_explained", "scan_windows"):
        image = nibabel.load(folder / name / "map.nii.gz")
        peak = np.unravel_index(image.get_fdata().argmax(), image.shape)
        distance = np.linalg.norm(image.affine[:3] @ [*peak, 1] - lesion)
        assert distance <= np.linalg.norm(image.header.get_zooms())
        report = json.loads((folder / name / "report.json").read_text())
        assert report["results"][0]["peak"]["mm"] == pytest.approx(
            image.affine[:3] @ [*peak, 1], abs=0.006
        )
