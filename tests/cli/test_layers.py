"""``captum-3dcam layers``: the table, the JSON, the advice."""

import json

import pytest

from captum_3dcam.cli import main

FILE = """
from torch import nn
def net():
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
def clipped():
    return nn.Sequential(nn.Conv1d(1, 1, 5), nn.Conv1d(1, 1, 9))
def tokens():
    return nn.Linear(4, 3)
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(FILE)
    return path


CONSTANT = (
    "the score's gradient is the same at every position, as under average pooling and a linear "
    "head. The map is the same for every class, or empty: do not rely on this layer alone."
)
SIGNED = (
    "the output has negative values, so channels can cancel in their sum. If the map is poor, "
    "choose a layer inside that ends in a ReLU."
)


def test_the_table(model, capsys):
    assert main(["layers", "--model", f"{model}:net", "--input-size", "2", "9"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "   layer  type    output  receptive field",
        "   0      Conv1d  3x7     3",
        "*  1      Tanh    3x7     3",
        "",
        "--layers 1",
        f"1: {CONSTANT}",
        f"1: {SIGNED}",
    ]
    assert err == ""


def test_a_clipped_receptive_field_and_a_warning_of_several_layers(model, capsys):
    words = ["layers", "--model", f"{model}:clipped", "--input-size", "1", "26", "--all"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "   layer  type    output  receptive field",
        "*  0      Conv1d  1x22    5",
        "*  1      Conv1d  1x14    13",
        "",
        "--layers 0 1",
        f"0, 1: {SIGNED}",
    ]
    words[5] = "14"
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("  >= 13")


def test_the_json(model, capsys):
    words = ["layers", "--model", f"{model}:net", "--input-size", "2", "9", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["input_size"]) == (f"{model}:net", [2, 9])
    assert report["advice"][0] == "--layers 1"
    conv, tanh = report["layers"]
    assert conv == {
        "name": "0",
        "type": "Conv1d",
        "output_shape": [3, 7],
        "receptive_field": [3],
        "receptive_field_clipped": False,
        "reaches_score": True,
        "gradient_is_constant": False,
        "rectified": False,
        "recommended": False,
        "reason": "1 has the same resolution",
        "warnings": [SIGNED],
    }
    assert (tanh["name"], tanh["recommended"], tanh["gradient_is_constant"]) == ("1", True, True)


def test_a_model_of_tokens_has_no_feature_map(model, capsys):
    assert main(["layers", "--model", f"{model}:tokens", "--input-size", "9", "4"]) == 2
    assert capsys.readouterr().err == (
        "captum-3dcam layers: error: --input-size 9 4: No layer of this model outputs a feature "
        "map (1, C, *S) with 1 spatial axes and more than one position. For a layer of tokens, "
        "pass captum_3dcam.Layer(..., reshape=tokens_to_grid(...)).\n"
    )
