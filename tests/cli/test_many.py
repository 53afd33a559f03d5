"""``captum-3dcam explain --output-root``: many inputs."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from many_inputs import contents, network, write_image, write_images

from captum_3dcam import explain_many
from captum_3dcam.cli import main
from captum_3dcam.cli._model import best_device
from captum_3dcam.explanation import Windows

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = """
from many_inputs import network
from torch import nn

def sevens():
    model = network()
    model.PREPROCESSING = lambda x: x / 255
    return model
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(MODEL)
    return tmp_path


def explain(*inputs, output="out", **more):
    words = ["explain", *inputs, "--model", "model.py:network", "--layers", "0", "2", "--quiet"]
    return main([*words, "--output-root", output, *more.get("words", ())])


def test_a_folder(folder, capsys):
    write_images("in", 4)
    assert explain("in") == 1  # one is damaged
    output = capsys.readouterr()
    assert output.out == "5 of 6 inputs explained: see out/index.html\n"
    assert "error: 1 of 6 inputs failed, the first with: 'damaged.png' cannot be" in (
        output.err.replace(f"{folder}/in/", ""))  # fmt: skip
    Path("in/damaged.png").unlink()
    assert explain("in") == 0
    options = {"layers": ["0", "2"], "preprocessing": "none", "windows": Windows(batch_size=4)}
    explain_many(network(), "in", "python", **options)
    for name, (report, maps) in contents("out").items():
        assert maps == contents("python")[name][1]
        assert report["model"]["name"] == "model.py:network"
        assert "inputs" not in report["settings"]


def test_several_paths_a_pattern_and_a_manifest(folder, capsys):
    write_images("in", 4)
    assert explain("in/a/1.png", "in/b/0.png") == 0
    assert explain("in/*/*.png", output="pattern") == 0
    Path("list.csv").write_text("path,target,group\nin/a/1.png,1,left\n")
    assert explain("list.csv", output="listed", words=["--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 2)[2])["inputs"][0]["group"] == "left"
    counts = [len(list(Path(each).rglob("report.json"))) for each in ("out", "pattern", "listed")]
    assert counts == [2, 4, 1]
    (row,) = csv.DictReader(Path("listed/summary.csv").read_text().splitlines())
    assert (row["target"], row["group"]) == ("1", "left")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in/a/1.png", "in/b/0.png"], "2 inputs: pass --output-root"),
        (["in/a/1.png", "--no-resume"], "--no-resume and --no-page are for many"),
        (["in", "--output", "x", "--output-root", "out"], "--output is for one input"),
        (["nowhere", "--output-root", "out"], "There is no file or folder 'nowhere'"),
        (["in", "--output-root", "out", "--layers", "9"], "layers: "),
    ],
)
def test_wrong_use(words, message, folder, capsys):
    write_images("in", 2)
    assert main(["explain", *words, "--model", "model.py:network"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_kind_that_the_preprocessing_is_not_for_fails_alone(folder, capsys):
    write_images("in", 2)
    Path("in/damaged.png").unlink()
    Path("in/scan.nii").write_bytes(bytes(400))
    assert explain("in", words=["--mean", "0.5"]) == 1
    rows = list(csv.DictReader(Path("out/summary.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["done", "done", "failed", "done"]


def test_no_name_of_a_scan_is_in_the_output(folder, capsys):
    Path("in/doe_jane").mkdir(parents=True)
    Path("in/doe_jane/head.nii.gz").write_bytes(b"no scan")
    assert explain("in", words=["--kind", "volume"]) == 1
    for path in Path("out").rglob("*"):
        assert "doe" not in str(path)
        assert not path.is_file() or b"doe_jane" not in path.read_bytes()


def test_maps_alone(folder, capsys):
    write_image(Path("in/1.png"), 1)
    assert explain("in", words=["--no-page"]) == 0
    assert {path.name for path in Path("out/1.png").iterdir()} == {"map.npz", "report.json"}
    assert '"href": ""' in Path("out/index.html").read_text()


def test_lower_precision(folder, capsys):
    write_image(Path("in/1.png"), 1)
    maps = {}
    for name in ("float32", "bfloat16"):
        assert explain("in", output=name, words=["--precision", name]) == 0
        maps[name] = np.load(f"{name}/1.png/map.npz")["map"]
    assert not np.array_equal(*maps.values())
    np.testing.assert_allclose(maps["bfloat16"], maps["float32"], atol=0.1 * maps["float32"].max())


@pytest.mark.parametrize(
    ("variables", "device"),
    [({}, "cuda:0"), ({"LOCAL_RANK": "3"}, "cuda:3"), ({"SLURM_LOCALID": "5"}, "cuda:1")],
)
def test_each_local_process_has_a_gpu_of_its_own(variables, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert best_device() == device


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert best_device() == "cpu"
