"""``captum-3dcam explain``: the report, the summary, and what is common to all inputs."""

import json
import math
from pathlib import Path

import torch
from explain_command import maps, network, run

from captum_3dcam import (
    CounterfactualCAM2D,
    GlobalLocalCAM2D,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.cli import main
from captum_3dcam.io import load_map
from captum_3dcam.models import Preprocessing


def test_the_report_has_model_settings_and_versions(image_file, figures_not_drawn, capsys):
    report = run(capsys, image_file[0], "image", "--layers", "first", "--method", "hirescam")
    assert report["model"] == {
        "name": "model.py:image", "arguments": {}, "checkpoint": None, "layers": ["first"],
        "preprocessing": repr(Preprocessing()),
    }  # fmt: skip
    assert report["settings"]["method"] == "HiResCAM"
    assert report["settings"]["target"] == "top1"
    assert report["warnings"] == []
    assert set(report["versions"]) == {"python", "captum_3dcam", "torch", "captum", "numpy"}
    assert report["versions"]["torch"] == torch.__version__


def test_the_default_method_is_what_where(image_file, figures_not_drawn, capsys):
    path, pixels = image_file
    words = ["explain", path, "--model", "model.py:image", "--layers", "first", "second"]
    assert main([*words, "--output", "out", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    model, _ = network("image")
    cam = LayerwiseWhatWhereCAM(model, ["first", "second"])
    torch.testing.assert_close(maps(), cam.attribute(pixels.movedim(-1, 0)[None] / 255)[0])
    assert report["settings"]["method"] == "WhatWhere"


def test_other_methods_and_the_layers_beside_the_map(image_file, capsys):
    path, pixels = image_file
    more = ["--layers", "first", "second", "--compare", "counterfactual", "--per-layer"]
    report = run(capsys, path, "image", *more, "--target", "2")
    assert set(report["files"]) == {"report", "map", "maps", "figure", "layers", "methods"}
    model, _ = network("image")
    x = pixels.movedim(-1, 0)[None] / 255
    expected = {
        ("method", "Counterfactual"): CounterfactualCAM2D(model, ["first", "second"]),
        ("layer", "first"): GlobalLocalCAM2D(model, "first"),
        ("layer", "second"): GlobalLocalCAM2D(model, "second"),
    }
    written = load_map("out/maps.npz")
    names = zip(written.metadata["groups"], written.metadata["names"], strict=True)
    assert list(names) == list(expected)
    for data, cam in zip(written.data, expected.values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(data), cam.attribute(x, 2)[0])
    page = Path("out/report.html").read_text()
    assert all(name in page for name in ("Counterfactual", "first", "second"))


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
        "wrote report.html, map.npz, figure.png, report.json into image_explained",
    ]


def test_the_report_names_the_preprocessing(image_file, figures_not_drawn, capsys):
    path, _ = image_file
    report = run(capsys, path, "image", "--layers", "first", "--std", "0.5")
    assert report["model"]["preprocessing"] == repr(Preprocessing(std=0.5))
    assert load_map("out/map.npz").metadata["preprocessing"] == repr(Preprocessing(std=0.5))
    report = run(capsys, path, "halves", "--layers", "first")
    assert report["model"]["preprocessing"] == "Halves.<lambda>"
