"""The paper's networks on small clips here, and at full size in their own processes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("resource")  # Windows has none

import explain_backbones
from _methods import METHODS

STUDIES = Path(explain_backbones.__file__).parent
CLASSES = [method.__name__ for method in METHODS.values()]
SMALL = ["--frames", "8", "--size", "32", "--classes", "6"]


@pytest.fixture(autouse=True)
def threads():
    """The script sets them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(tmp_path, *arguments):
    output = tmp_path / "new" / "backbones.json"
    report = explain_backbones.main([*SMALL, "--output", str(output), *arguments])
    assert json.loads(output.read_text(encoding="utf-8")) == report
    return report


def check_rows(report, size) -> None:
    """Every class made a map of the input's size, finite and with something in it."""
    assert report["input"] == [1, 3, *size]
    assert [row["class"] for row in report["rows"]] == CLASSES
    for row in report["rows"]:
        assert row["map"] == [1, 1, *size]
        assert 0 <= row["lowest"] < row["highest"] < math.inf
        assert row["seconds"] > 0
    peaks = [row["peak_gib"] for row in report["rows"]]
    assert 0.1 < peaks[0] <= peaks[-1]
    # The system counts for each core and adds the counts up from time to time.
    assert peaks == pytest.approx(sorted(peaks), abs=0.001)


@pytest.mark.parametrize("model", explain_backbones.MODELS)
def test_the_table_and_the_file_have_every_class(model, tmp_path, capsys):
    report = run(tmp_path, "--model", model, "--threads", "1")
    assert (report["model"], report["weights"], report["threads"]) == (model, "random", 1)
    check_rows(report, (8, 32, 32))
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| class | seconds | lowest | highest | peak memory, GiB |"
    shown = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    keys = ("seconds", "lowest", "highest", "peak_gib")
    assert shown == [[row["class"], *(f"{row[key]:.2f}" for key in keys)] for row in report["rows"]]


def test_a_checkpoint_is_explained(tmp_path):
    torch.manual_seed(5)
    donor = explain_backbones.i3d(6)
    torch.save({"state_dict": donor.state_dict()}, tmp_path / "i3d.pt")
    loaded = ["--model", "i3d", "--checkpoint", str(tmp_path / "i3d.pt"), "--threads", "1"]
    one = run(tmp_path, *loaded)
    assert one["weights"] == str(tmp_path / "i3d.pt")

    def heights(report):
        return [row["highest"] for row in report["rows"]]

    clip = explain_backbones.SyntheticActions(1, frames=8, size=128)[0].clip
    prepare = explain_backbones.replace(donor.PREPROCESSING, size=(32, 32))
    rows = [explain_backbones.measure(name, donor.eval(), prepare(clip)[None]) for name in METHODS]
    assert heights(one) == pytest.approx([row["highest"] for row in rows], rel=1e-4)
    assert heights(one) != pytest.approx(heights(run(tmp_path, "--model", "i3d")), rel=1e-4)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not match this I3D"):
        run(tmp_path, "--model", "i3d", "--checkpoint", str(tmp_path / "other.pt"))


@pytest.mark.parametrize("arguments", [["--model", "vgg"], ["--frames", "many"]])
def test_arguments_that_do_not_fit(arguments, capsys):
    with pytest.raises(SystemExit):
        explain_backbones.main(arguments)
    assert "invalid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "size"), [("resnext101_3d", (16, 112, 112)), ("i3d", (16, 224, 224))]
)
def test_the_full_size_fits_in_12_gib(model, size, tmp_path):
    """In its own process, so that the peak is that of this network."""
    output = tmp_path / "backbones.json"
    command = [sys.executable, "-W", "error", STUDIES / "explain_backbones.py", "--model", model]
    subprocess.run([*command, "--threads", "1", "--output", output], check=True)
    report = json.loads(output.read_text(encoding="utf-8"))
    check_rows(report, size)
    assert report["rows"][-1]["peak_gib"] < 12
