"""explain_many(): the same as explain(), resumed after kills, shared between processes."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from explanation_inputs import AFFINE
from explanation_inputs import network as network_of
from many_inputs import LAYERS, OPTIONS, contents, environment, network, write_image, write_images
from PIL import Image
from torch import nn

from captum_3dcam import explain, explain_many
from captum_3dcam.explanation import ArgumentError, Windows
from captum_3dcam.explanation.many import _run
from captum_3dcam.io import Volume, load_map, write_video, write_volume

pytestmark = pytest.mark.usefixtures("one_thread")


def names(outcomes, status="done"):
    return [outcome.name for outcome in outcomes if outcome.status == status]


def calls_of(model):
    """Counts the samples of each forward pass."""
    counts = []
    model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    return counts


# ----------------------------------------------------------------------------- what is written


def test_each_result_is_that_of_explain(folder):
    write_images("in")
    outcomes = explain_many(network(), "in", "out", windows=Windows(batch_size=1), **OPTIONS)
    assert names(outcomes) == ["a/1.png", "a/3.png", "a/5.png", "b/0.png", "b/2.png", "b/4.png",
                               "wide.png"]  # fmt: skip
    assert names(outcomes, "failed") == ["damaged.png"]
    for outcome, loaded in zip(outcomes[:2], outcomes.explanations(), strict=False):
        one = explain(network(), f"in/{outcome.name}", **OPTIONS)
        torch.testing.assert_close(loaded.attribution, one.attribution, rtol=0, atol=0)
        assert (outcome.target, outcome.class_name) == (one.classes[0][0], one.class_names[0][0])
        assert outcome.score == one.scores.item()
        assert outcome.probability == one.probabilities.item()
        assert loaded.fingerprint == one.fingerprint
    assert {path.name for path in Path("out/a/1.png").iterdir()} == {
        "map.npz", "overlay_small.jpg", "report.html", "report.json"
    }  # fmt: skip


def test_images_of_one_size_are_explained_in_batches(folder):
    write_images("in", 7)
    model = network()
    counts = calls_of(model)
    explain_many(model, "in", "out", windows=Windows(batch_size=3), **OPTIONS)
    # By name: a/1 a/3 a/5, b/0 b/2 b/4, b/6 and the damaged and the wide one.
    assert sorted(counts) == [1, 1, 3, 3]
    batched = contents("out")
    explain_many(network(), "in", "single", windows=Windows(batch_size=1), **OPTIONS)
    for name in contents("single"):
        one, other = (load_map(f"{each}/{name}/map.npz").data for each in ("single", "out"))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert set(batched) == set(contents("single"))


def test_the_summary_and_the_gallery(folder):
    write_images("in", 3)
    rows = [{"path": f"in/{name}.png", "group": group, "target": target}
            for name, group, target in (("a/1", "left", 1), ("damaged", "=1+1", None))]  # fmt: skip
    outcomes = explain_many(network(), rows, "out", **OPTIONS)
    assert repr(outcomes) == "Outcomes('out': 1 done, 1 failed)"
    with open("out/summary.csv", newline="", encoding="utf-8") as file:
        done, failed = csv.DictReader(file)
    assert (done["name"], done["status"], done["group"], done["target"], done["class_name"]) == (
        "a/1.png", "done", "left", "1", "class 1")  # fmt: skip
    assert float(done["score"]) == outcomes[0].score
    assert failed["error"].endswith("damaged.png'") or "cannot be read as" in failed["error"]
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["counts"] == {"done": 1, "failed": 1}
    assert summary["inputs"][0]["name"] == "a/1.png"
    page = Path("out/index.html").read_text()
    assert "a/1.png/report.html" in page
    assert "a/1.png/overlay_small.jpg" in page


def test_targets_of_a_manifest(folder):
    write_images("in", 3)
    Path("list.csv").write_text("path,target\nin/a/1.png,2\nin/b/0.png,\nin/b/2.png,golf\n")
    names_of = {"class_names": ["run", "golf", "sit"]}
    outcomes = explain_many(network(), "list.csv", "out", 0, **names_of, **OPTIONS)
    assert [outcome.class_name for outcome in outcomes] == ["sit", "run", "golf"]


def clip(path, frames=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 16, 20, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(pixels, path, 10.0)


def test_videos_in_windows_beside_images_and_scans_of_each_their_network(folder):
    clip(Path("in/b.gif"))
    clip(Path("in/a.gif"), 6)
    outcomes = explain_many(network_of("video"), "in", "out", layers=LAYERS, overlay="gif")
    assert names(outcomes) == ["a.gif", "b.gif"]
    for outcome, loaded in zip(outcomes, outcomes.explanations(), strict=True):
        one = explain(network_of("video"), f"in/{outcome.name}", layers=LAYERS)
        torch.testing.assert_close(loaded.attribution, one.attribution, rtol=0, atol=0)
        assert Path(f"out/{outcome.folder}/overlay.gif").is_file()


def test_scans_are_not_named_after_their_files(folder):
    pytest.importorskip("nibabel")
    scan = Volume(np.random.default_rng(0).normal(size=(8, 12, 10)).astype(np.float32), AFFINE)
    Path("in/doe_jane").mkdir(parents=True)
    write_volume(scan, "in/doe_jane/head.nii.gz")
    Path("in/doe_jane/broken.nii.gz").write_bytes(b"no scan of doe_jane")
    outcomes = explain_many(network_of("volume"), "in", "out", layers=LAYERS)
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    written = [path for path in Path("out").rglob("*") if path.is_file()]
    for path in written:
        assert "doe" not in str(path).lower()
        assert b"doe_jane" not in path.read_bytes()
        assert b"head.nii" not in path.read_bytes()
    assert outcomes[1].folder.startswith("scan_")
    assert Path(f"out/{outcomes[1].folder}/map.nii.gz").is_file()
    named = explain_many(network_of("volume"), "in", "named", layers=LAYERS, keep_names=True)
    assert names(named) == ["doe_jane/head.nii.gz"]
    assert Path("named/doe_jane/head.nii.gz/map.nii.gz").is_file()


def test_automatic_layers_are_those_of_the_first_input_for_all(folder):
    write_images("in", 5)
    chosen = explain(network(), "in/a/1.png", preprocessing="none").layers
    for count in (1, 3):
        options = {"preprocessing": "none", "windows": Windows(batch_size=count)}
        outcomes = explain_many(network(), "in", f"out{count}", **options)
        assert {tuple(each.layers) for each in outcomes.explanations()} == {tuple(chosen)}


def test_warnings_of_one_are_not_those_of_others(folder):
    write_images("in", 3)
    model = network()
    with torch.no_grad():
        model[-1].weight.zero_()  # every map is zero
    model[-1].weight.data[1] = 1.0
    with pytest.warns(UserWarning, match="The map is zero|gradient"):
        outcomes = explain_many(model, "in", "out", 0, **OPTIONS)
    assert all(outcome.warnings for outcome in outcomes if outcome.status == "done")


# ---------------------------------------------------------------------------- failures and options


class Fails(nn.Module):
    """Of images whose first byte is 7."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        if (x[:, 0, 0, 0] == 7 / 255).any():
            raise RuntimeError("seven")
        return self.inner(x)


def test_one_of_a_batch_that_fails_does_not_take_the_others_with_it(folder):
    for number in range(4):
        pixels = np.full((24, 32, 3), 10 + number, np.uint8)
        pixels[0, 0, 0] = 7 if number == 2 else 0
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(f"in/{number}.png")
    options = {"layers": ["inner.0"], "preprocessing": "none"}
    outcomes = explain_many(Fails().eval(), "in", "out", **options)
    assert names(outcomes, "failed") == ["2.png"]
    assert "RuntimeError: seven" in outcomes[2].error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlay": "avi"}, "overlay='avi'"),
        ({"resume": 1}, "resume"),
        ({"layers": ["nowhere"]}, "nowhere"),
        ({"target": "golf"}, "golf"),
    ],
)
def test_options_are_checked_before_anything_is_written(options, message, folder):
    write_images("in", 3)
    with pytest.raises((ArgumentError, TypeError), match=message):
        explain_many(network(), "in", "out", **{**OPTIONS, **options})
    assert not Path("out").exists()


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.inner, self.factor = network(), factor

    def forward(self, x):
        return self.factor * self.inner(x)


def test_what_a_result_depends_on_is_noticed(folder):
    write_images("in", 3)
    options = {"layers": ["inner.0"], "preprocessing": lambda x: x / 255}
    explain_many(Scaled(1.0).eval(), "in", "out", **options)
    explain_many(Scaled(1.0).eval(), "in", "out", **options)
    changed = {"layers": ["inner.0"], "preprocessing": lambda x: x / 128}
    with pytest.raises(ArgumentError, match="whose preprocessing differ"):
        explain_many(Scaled(1.0).eval(), "in", "out", **changed)
    with pytest.raises(ArgumentError, match="whose model differ"):
        explain_many(Scaled(2.0).eval(), "in", "out", **options)
    other = Scaled(1.0).eval()
    other.inner[1] = nn.Tanh().eval()
    with pytest.raises(ArgumentError, match="whose model differ"):
        explain_many(other, "in", "out", **options)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ArgumentError, match="whose precision differ"),
    ):
        explain_many(Scaled(1.0).eval(), "in", "out", **options)
    Path("names.txt").write_text("run\ngolf\nsit")
    explain_many(Scaled(1.0).eval(), "in", "named", class_names="names.txt", **options)
    Path("names.txt").write_text("golf\nrun\nsit")
    with pytest.raises(ArgumentError, match="whose class_names differ"):
        explain_many(Scaled(1.0).eval(), "in", "named", class_names="names.txt", **options)


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_a_damaged_description_of_the_run(content, folder):
    write_images("in", 3)
    explain_many(network(), "in", "out", **OPTIONS)
    path = Path("out/.captum_3dcam/run.json")
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArgumentError, match=r"run\.json('? is (missing|damaged))"):
        explain_many(network(), "in", "out", **OPTIONS)


def test_targets_and_groups_that_were_edited(folder):
    write_images("in", 3)
    rows = [{"path": f"in/{name}.png", "target": 1, "group": "a"} for name in ("a/1", "b/0")]
    explain_many(network(), rows, "out", **OPTIONS)
    rows[0] = {**rows[0], "target": 2, "group": "b"}
    rows[1] = {**rows[1], "group": "b"}
    model = network()
    counts = calls_of(model)
    outcomes = explain_many(model, rows, "out", windows=Windows(), **OPTIONS)
    assert [(outcome.target, outcome.group) for outcome in outcomes] == [(2, "b"), (1, "b")]
    assert sum(counts) == 1


def test_automatic_layers_are_kept(folder):
    write_image(Path("in/a.png"), 1, (6, 6))
    write_image(Path("in/b.png"), 2, (24, 32))
    options = {"preprocessing": "none"}
    (first,) = explain_many(network(), ["in/a.png"], "out", **options).explanations()
    outcomes = explain_many(network(), "in", "out", **options)
    assert {tuple(each.layers) for each in outcomes.explanations()} == {tuple(first.layers)}
    Path("out/.captum_3dcam/layers.json").write_text('["other"]')
    with pytest.raises(ArgumentError, match=r"Pass layers=\['other'\]"):
        explain_many(network(), "in", "out", **options)


@pytest.mark.parametrize("kind", [None, "image", "video", "volume"])
def test_no_name_of_a_dicom_file_is_in_the_output(kind, folder):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    Path("in/doe_jane").mkdir(parents=True)
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.SeriesDescription = "doe_jane"
    dataset.save_as("in/doe_jane/doe_jane.dcm")
    Path("in/doe_jane.mha").write_text("ElementDataFile = doe_jane.raw")
    outcomes = explain_many(network_of("volume"), "in", "out", layers=LAYERS, kind=kind)
    assert len(outcomes) == 2
    for path in Path("out").rglob("*"):
        assert "doe" not in str(path).lower()
        assert not path.is_file() or b"doe_jane" not in path.read_bytes()


def test_the_results_of_another_run_are_not_mixed(folder):
    write_images("in", 3)
    explain_many(network(), "in", "out", **OPTIONS)
    for options in ({"method": "GradCAM"}, {"target": 1}, {"overlay": "none"}):
        with pytest.raises(ArgumentError, match="holds the results of another run, whose"):
            explain_many(network(), "in", "out", **OPTIONS, **options)
    other = network()
    with torch.no_grad():
        other[-1].bias += 1
    with pytest.raises(ArgumentError, match="whose weights differ"):
        explain_many(other, "in", "out", **OPTIONS)
    Path("file").touch()
    with pytest.raises(ArgumentError, match="a file of that name exists"):
        explain_many(network(), "in", "file", **OPTIONS)


def test_a_full_disk_stops_the_run(folder, monkeypatch):
    write_images("in", 3)

    def save(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_run, "save", save)
        with pytest.raises(OSError, match="No space left"):
            explain_many(network(), "in", "out", **OPTIONS)
    assert len(names(explain_many(network(), "in", "out", **OPTIONS))) == 4


def test_an_input_is_not_taken_for_its_result(folder):
    write_image(Path("in/clip/map_0.png"))
    write_image(Path("in/clip/map_1.png"))
    with pytest.raises(ArgumentError, match="would lie in the input itself"):
        explain_many(network(), ["in/clip", "in/clip/map_0.png"], "in", **OPTIONS)
    assert len(list(Path("in/clip").iterdir())) == 2


def test_a_half_written_result_is_replaced(folder):
    write_images("in", 3)
    explain_many(network(), "in", "out", **OPTIONS)
    whole = contents("out")
    (Path("out/a/1.png") / ".0123456789abcdef").mkdir(parents=True)
    Path("out/a/1.png/report.json").unlink()
    for name in ("map.npz", "report.html", "notes.txt"):
        (Path("out/a/1.png") / name).write_text("half")
    Path("out/b/0.png/map.npz").unlink()
    outcomes = explain_many(network(), "in", "out", **OPTIONS)
    assert len(names(outcomes)) == 4
    assert contents("out") == whole
    assert Path("out/a/1.png/notes.txt").read_text() == "half"
    assert not (Path("out/a/1.png") / ".0123456789abcdef").exists()


@pytest.mark.parametrize("name", ["a/1.png/report.html", "summary.csv", "index.html"])
def test_files_of_something_else_are_kept(name, folder):
    write_images("in", 3)
    (Path("out") / name).parent.mkdir(parents=True)
    (Path("out") / name).write_text("mine")
    message = f"it holds '{name.split('/')[0]}', which is not of explain_many"
    with pytest.raises(ArgumentError, match=message):
        explain_many(network(), "in", "out", **OPTIONS)
    assert (Path("out") / name).read_text() == "mine"


def test_an_input_called_as_the_summary(folder):
    write_image(Path("in/summary.csv/x.png"))
    write_image(Path("in/y.png"))
    outcomes = explain_many(network(), "in", "out", **OPTIONS)
    assert [outcome.folder for outcome in outcomes] == ["summary.csv~/x.png", "y.png"]
    assert Path("out/summary.csv").is_file()


def test_unknown_options(folder):
    write_images("in", 3)
    with pytest.raises(ArgumentError, match="option='original'"):
        explain_many(network(), "in", "out", original=1, **OPTIONS)


# ----------------------------------------------------------------------------------- resuming


def test_what_is_done_is_not_done_again(folder):
    write_images("in", 4)
    first = explain_many(network(), "in", "out", **OPTIONS)
    model = network()
    counts = calls_of(model)
    again = explain_many(model, "in", "out", **OPTIONS)
    assert list(again)[:-2] == list(first)[:-2]
    assert counts == []
    write_image(Path("in/a/1.png"), 77)  # it has changed
    write_image(Path("in/damaged.png"), 78)  # it has been mended
    Path("out/b/2.png/report.json").unlink()
    again = explain_many(model, "in", "out", windows=Windows(), **OPTIONS)
    assert names(again, "failed") == []
    # Those of a batch are explained together, as they were, and only what is missing is written.
    assert again[1] == first[1]
    assert again[0] != first[0]
    counts.clear()
    explain_many(model, "in", "out", resume=False, **OPTIONS)
    assert sum(counts) == 6


def test_a_result_that_was_written_but_not_noted_is_kept(folder):
    write_images("in", 4)
    explain_many(network(), "in", "out", **OPTIONS)
    before = contents("out")
    for path in Path("out/.captum_3dcam").glob("journal-*"):
        path.unlink()
    model = network()
    counts = calls_of(model)
    outcomes = explain_many(model, "in", "out", **OPTIONS)
    assert len(names(outcomes)) == 5
    assert counts == []
    assert contents("out") == before


def test_ctrl_c_leaves_complete_results_and_no_claims(folder):
    write_images("in", 8)

    class Interrupts(nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            Interrupts.calls += 1
            if Interrupts.calls == 3:
                raise KeyboardInterrupt
            return self.inner(x)

    options = {"layers": ["inner.0", "inner.2"], "preprocessing": "none"}
    options["windows"] = Windows(batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        explain_many(Interrupts().eval(), "in", "out", **options)
    assert not list(Path("out/.captum_3dcam/claims").iterdir())
    done = contents("out")
    assert 1 <= len(done) <= 2
    model = Interrupts().eval()
    counts = calls_of(model)
    outcomes = explain_many(model, "in", "out", **options)
    assert len(names(outcomes)) == 9
    assert sum(counts) == 9 - len(done)
    assert contents("out").items() >= done.items()


WORKER = """
import sys, time
import torch
torch.set_num_threads(1)
from torch import nn
from many_inputs import OPTIONS, network
from captum_3dcam import explain_many
from captum_3dcam.explanation import Windows

model = network()
model.register_forward_pre_hook(lambda *_: time.sleep(0.1))
explain_many(model, "in", "out", windows=Windows(batch_size=2), **OPTIONS)
"""


def start(code=WORKER):
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


def done_lines():
    """How often each input has been noted as done."""
    counts = Counter()
    for path in Path("out/.captum_3dcam").glob("journal-*"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            key, _, _, outcome = json.loads(line)
            counts[key] += outcome["status"] == "done"
    return counts


def test_kills_at_random_times_lose_nothing_and_double_nothing(folder):
    write_images("in", 40)
    expected = explain_many(network(), "in", "whole", windows=Windows(batch_size=2), **OPTIONS)
    generator = random.Random(0)
    kills = 0
    for _ in range(6):
        process = start()
        until = time.monotonic() + 60
        started = len(done_lines())
        while process.poll() is None and len(done_lines()) == started and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.3))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start().wait(120) == 0
    assert kills >= 3
    assert contents("out") == contents("whole")
    assert sorted(done_lines().values())[1:] == [1] * 41  # the damaged one is never done
    assert len(names(expected)) == 41
    hidden = {path.name for path in Path("out").rglob(".*")}
    assert hidden == {".captum_3dcam"}
    assert not list(Path("out/.captum_3dcam/claims").iterdir())


KILLED = WORKER.replace(
    "explain_many(",
    """
import os, signal
def kill(module, args):
    if (args[0][:, 0, 0, 0] == 7 / 255).any():
        os.kill(os.getpid(), signal.SIGKILL)
model.register_forward_pre_hook(kill)
explain_many(""",
).replace("batch_size=2", "batch_size=1")


def test_an_input_that_kills_the_process_is_given_up(folder):
    write_images("in", 3)
    Path("in/damaged.png").unlink()
    pixels = np.full((24, 32, 3), 100, np.uint8)
    pixels[0, 0, 0] = 7
    Image.fromarray(pixels).save("in/seven.png")
    codes = [start(KILLED).wait(120) for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    rows = list(csv.DictReader(Path("out/summary.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["done"] * 3 + ["failed", "done"]
    assert "The process ended 3 times or more while it explained this input" in rows[3]["error"]


def test_two_processes_share_the_inputs(folder):
    write_images("in", 16)
    explain_many(network(), "in", "whole", windows=Windows(batch_size=2), **OPTIONS)
    processes = [start(), start()]
    assert [process.wait(180) for process in processes] == [0, 0]
    assert contents("out") == contents("whole")
    assert sorted(done_lines().values())[1:] == [1] * 17
    rows = list(csv.DictReader(Path("out/summary.csv").read_text().splitlines()))
    assert len(rows) == 18
    assert [row["status"] for row in rows].count("done") == 17
    assert not list(Path("out/.captum_3dcam/claims").iterdir())
