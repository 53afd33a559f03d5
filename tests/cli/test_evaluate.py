"""``captum-3dcam evaluate``: the same numbers as captum_3dcam.evaluation, over every dataset."""

import json
import sys

import pytest
import torch
from datasets_on_disk import write_ilsvrc_text, write_jhmdb, write_ucf24

from captum_3dcam import GlobalLocalCAM2D, GlobalLocalCAM3D, LayerwiseHiResCAM
from captum_3dcam.cli import _parser, main
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization, SyntheticActions
from captum_3dcam.evaluation import FAITHFULNESS, Sample, evaluate, prepare_sample
from captum_3dcam.models import Preprocessing

MODEL = """
import torch
from torch import nn
from captum_3dcam.models import Preprocessing

class Net(nn.Module):
    PREPROCESSING = Preprocessing(0.5, 0.5, (12, 16))
    def __init__(self, rank=3, classes=24):
        super().__init__()
        torch.manual_seed(3)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
        pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[rank]
        self.first = nn.Sequential(conv(3, 4, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(conv(4, 4, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(pool(2), nn.Flatten(), nn.Linear(4 * 2**rank, classes))
    def forward(self, x): return 20 * self.head(self.second(self.first(x)))

def image(): return Net(2, 1000)
def few(): return Net(3, 2)

class Own(Net):
    PREPROCESSING = staticmethod(lambda x: x)
"""
PREPARE = Preprocessing(0.5, 0.5, (12, 16))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    torch.set_num_threads(1)
    return tmp_path


def run(capsys, dataset, *more, name="Net"):
    words = ["evaluate", dataset, "--model", f"model.py:{name}", *map(str, more)]
    code = main(words)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def network(name="Net"):
    return getattr(sys.modules["_captum_3dcam_model_model"], name)().eval()


def scores_of(text):
    rows = json.loads(text)["rows"]
    return {
        row: {name: cell["value"] for name, cell in cells.items()} for row, cells in rows.items()
    }


def expected(attributions, samples, **options):
    return {
        row: {name: interval.value for name, interval in scores.items()}
        for row, scores in evaluate(attributions, samples, **options).summary.items()
    }


def sample(clip, label, boxes, mask=None):
    size = tuple(clip.shape[-2:])
    return Sample(PREPARE(clip), label, PREPARE.boxes_to_input(boxes, size), mask)


def small(masks):
    """One actor's masks (1, T, H, W) in the size of the model input, pixel by pixel."""
    height, width = masks.shape[2:]
    rows = [int((y + 0.5) * height / 12) for y in range(12)]
    columns = [int((x + 0.5) * width / 16) for x in range(16)]
    return masks[0][:, rows][:, :, columns]


def test_actions(folder, capsys):
    words = ["--layers", "first", "second", "--limit", "3", "--seed", "5", "--methods",
             "globallocal", "hirescam"]  # fmt: skip
    out = run(capsys, "actions", *words, "--json")
    clips = [SyntheticActions(3, seed=5)[i] for i in range(3)]
    samples = [sample(c.clip, int(c.labels[0]), c.boxes, small(c.masks)) for c in clips]
    model = network()
    rows = {
        "GlobalLocal: first+second": GlobalLocalCAM3D(model, ["first", "second"]),
        "HiResCAM: first+second": LayerwiseHiResCAM(model, ["first", "second"]),
    }
    assert scores_of(out) == expected(rows, samples)
    table = run(capsys, "actions", *words)
    assert table.rstrip("\n") == evaluate(rows, samples).table()


def test_sets_of_layers_fusions_and_the_predicted_class(folder, capsys):
    words = ["--layers", "first", "--layers", "first", "second", "--fusion", "max", "--limit", "2",
             "--methods", "GlobalLocal", "WhatWhere", "--target", "predicted"]  # fmt: skip
    scores = scores_of(run(capsys, "actions", *words, "--json"))
    model = network()
    clips = [SyntheticActions(2)[i] for i in range(2)]
    with torch.no_grad():
        classes = [int(model(PREPARE(c.clip)[None]).argmax()) for c in clips]
    assert classes != [int(c.labels[0]) for c in clips]
    samples = [
        sample(c.clip, label, c.boxes, small(c.masks))
        for c, label in zip(clips, classes, strict=True)
    ]
    row = "GlobalLocal (max): first+second"
    cam = GlobalLocalCAM3D(model, ["first", "second"], fusion="max")
    assert scores[row] == expected({row: cam}, samples)[row]
    assert list(scores)[:4] == [
        "GlobalLocal (max): first", "WhatWhere: first", row, "WhatWhere: first+second",
    ]  # fmt: skip


def test_faithfulness(folder, capsys):
    names = ["average_drop", "complexity"]
    words = ["--layers", "first", "--limit", "2", "--methods", "HiResCAM", "--faithfulness", *names]
    scores = scores_of(run(capsys, "actions", *words, "--json"))
    clips = [SyntheticActions(2)[i] for i in range(2)]
    samples = [sample(c.clip, int(c.labels[0]), c.boxes, small(c.masks)) for c in clips]
    rows = {"HiResCAM: first": LayerwiseHiResCAM(network(), ["first"])}
    assert scores == expected(rows, samples, faithfulness=names)
    header = run(capsys, "actions", *words).splitlines()[0]
    assert header.endswith("| tube_iou | average_drop | complexity |")
    assert _parser.FAITHFULNESS == FAITHFULNESS
    assert main(["evaluate", "actions", "--model", "model.py:Net", "--faithfulness", "roar"]) == 2
    assert "argument --faithfulness: invalid choice: 'roar'" in capsys.readouterr().err


def test_jhmdb(folder, capsys):
    write_jhmdb(folder / "data")
    out = run(capsys, "jhmdb", "--root", "data", "--layers", "first", "--split", "2", "--json")
    data = JHMDB("data", "test", 2)
    clips = [clip for clip in (data[i] for i in range(len(data)))
             if not clip.boxes.isnan().any(dim=-1).all()]  # fmt: skip
    assert len(clips) > 0
    samples = [sample(c.clip, c.label, c.boxes, prepare_sample(c, PREPARE, 0).mask) for c in clips]
    row = {"GlobalLocal: first": GlobalLocalCAM3D(network(), "first")}
    assert scores_of(out) == expected(row, samples)
    assert json.loads(out)["run"]["samples"] == len(clips)


def test_ucf24(folder, capsys):
    write_ucf24(folder / "data")
    words = ["--root", "data", "--layers", "first", "--limit", "2", "--subset", "train", "--json"]
    out = run(capsys, "ucf24", *words)
    data = UCF101_24("data", "train", annotated_only=True)
    indices = [0, len(data) // 2]
    samples = [sample(data[i].clip, data[i].label, data[i].boxes) for i in indices]
    row = {"GlobalLocal: first": GlobalLocalCAM3D(network(), "first")}
    assert scores_of(out) == expected(row, samples)


def test_ilsvrc(folder, capsys):
    write_ilsvrc_text(folder / "data", images=4)
    # The first image has no box and is left out.
    text = (folder / "data" / "localization.txt").read_text().splitlines()
    first = (folder / "data" / "image_ids.txt").read_text().splitlines()[0]
    kept = [line for line in text if not line.startswith(first)]
    (folder / "data" / "localization.txt").write_text("\n".join(kept))
    words = ["--root", "data", "--images", "data", "--layers", "first", "--json"]
    out = run(capsys, "ilsvrc", *words, name="image")
    data = ILSVRCLocalization("data")
    samples = [
        sample(each.image, each.label, each.boxes[:, None]) for each in (data[i] for i in (1, 2, 3))
    ]
    row = {"GlobalLocal: first": GlobalLocalCAM2D(network("image"), "first")}
    assert scores_of(out) == expected(row, samples)


def test_the_result_is_written_and_a_run_is_resumed(folder, capsys):
    words = ["--layers", "first", "--limit", "2", "--resume", "kept", "--output", "scores.json"]
    first = run(capsys, "actions", *words, "--json")
    assert (folder / "scores.json").read_text() == first
    lines = (folder / "kept" / "process-0.jsonl").read_text().splitlines()
    assert len(lines) == 2
    # A stored sample is not scored again: its stored scores are used.
    changed = json.loads(lines[0])
    changed["scores"]["GlobalLocal: first"][0] = 77.0
    (folder / "kept" / "process-0.jsonl").write_text(json.dumps(changed) + "\n" + lines[1] + "\n")
    again = scores_of(run(capsys, "actions", *words, "--json"))
    assert again["GlobalLocal: first"]["energy"] > 38
    other = ["evaluate", "actions", "--model", "model.py:Net", *words, "--methods", "GradCAM"]
    assert main(other) == 1
    assert "The checkpoint 'kept' is of another run." in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, words, message",
    [
        ("Own", ["actions", "--layers", "first"],
         "evaluate scales boxes as it resizes frames, which needs a model whose PREPROCESSING is a "
         "captum_3dcam.models.Preprocessing; it is of type function."),
        ("Net", ["actions", "--layers", "first", "--output", "no/where.json"],
         "--output: there is no folder 'no'."),
        ("Net", ["actions", "--layers", "first", "--methods", "WhatWhere", "--fusion", "sum"],
         "WhatWhere has its own fusion of the layers: omit --fusion."),
        ("Net", ["actions", "--layers", "first", "--root", "data"],
         "--root is for jhmdb, ucf24, ilsvrc; not for actions."),
        ("Net", ["ucf24", "--layers", "first", "--root", "missing"],
         "There is no file 'pyannot.pkl' in 'missing/splitfiles' or 'missing'."),
    ],
)  # fmt: skip
def test_usage_errors(name, words, message, folder, capsys):
    assert main(["evaluate", *words, "--model", f"model.py:{name}"]) == 2
    assert capsys.readouterr() == ("", f"captum-3dcam evaluate: error: {message}\n")


def test_a_model_of_too_few_classes_fails(folder, capsys):
    words = ["evaluate", "actions", "--model", "model.py:few", "--layers", "first", "--limit", "4"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("captum-3dcam evaluate: error: IndexError: target 2 is out of range")
