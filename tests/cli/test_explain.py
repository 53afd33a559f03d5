"""``captum-3dcam explain``: the report, the summary, and the kinds of input."""

import json
import math
from pathlib import Path

import torch
from explain_command import run

from captum_3dcam.cli import main
from captum_3dcam.cli._explanation import Explanation
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.cli._report import summarize
from captum_3dcam.io import load_map
from captum_3dcam.models import Preprocessing


def test_the_report_has_model_settings_and_versions(image_file, figures_not_drawn, capsys):
    report = run(capsys, image_file[0], "image", "--layers", "first", "--method", "hirescam")
    assert report["model"] == {
        "name": "model.py:image", "arguments": {}, "checkpoint": None, "layers": ["first"],
        "preprocessing": repr(Preprocessing()),
    }  # fmt: skip
    assert report["settings"]["method"] == "HiResCAM"
    assert report["settings"]["target"] == {"top": 1, "index": None, "name": None, "each": False}
    assert set(report["versions"]) == {"python", "captum_3dcam", "torch", "captum", "numpy"}
    assert report["versions"]["torch"] == torch.__version__


def test_the_summary(image_file, figures_not_drawn, capsys):
    path, _ = image_file
    Path("names.txt").write_text("golf\nswim\nrun\nsit\n\n")
    words = ["explain", path, "--model", "model.py:image", "--layers", "first"]
    assert main([*words, "--classes", "names.txt", "--target", "swim"]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(Path("image_explained/report.json").read_text())
    (result,) = report["results"]
    x0, y0, x1, y1 = result["boxes"][0]["box"]
    box = f"{math.floor(x0)}, {math.floor(y0)}, {math.ceil(x1)}, {math.ceil(y1)}"
    assert lines == [
        f"1 swim: score {result['score']:.2f}, probability {result['probability']:.2f}; box {box}",
        "wrote map.npz, figure.png, report.json into image_explained",
    ]


def test_a_class_index_is_in_the_names_of_files_of_several_classes():
    one, other = (Prediction(target, "name", 0.0, 0.0, []) for target in (3, 17))
    assert Explanation([one], None, []).file_stems("map") == ["map"]
    assert Explanation([one, other], None, []).file_stems("map") == ["map_3", "map_17"]


def test_the_report_names_the_preprocessing(image_file, figures_not_drawn, capsys):
    path, _ = image_file
    report = run(capsys, path, "image", "--layers", "first", "--std", "0.5")
    assert report["model"]["preprocessing"] == repr(Preprocessing(std=0.5))
    assert load_map("out/map.npz").metadata["preprocessing"] == repr(Preprocessing(std=0.5))
    report = run(capsys, path, "halves", "--layers", "first")
    assert report["model"]["preprocessing"] == "Halves.<lambda>"


def test_a_thin_box_is_not_printed_as_empty():
    box = {"box": torch.tensor([0.06, 249.56, 0.94, 250.44])}
    prediction = Prediction(3, "class 3", 1.0, 0.5, [])
    text = summarize(Explanation([prediction], None, [{"boxes": [box]}]), ["map.npz"], Path("out"))
    assert text.startswith("class 3: score 1.00, probability 0.50; box 0, 249, 1, 251\n")
