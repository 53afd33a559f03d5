"""``captum-3dcam layers``: the table, the JSON, the advice."""

import json

import pytest

from captum_3dcam.cli import main

FILE = """
from torch import nn
def net():
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 4)
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), *head)
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


CONSTANT = "the score's gradient is the same at every position"
SIGNED = (
    "the output has negative values, so channels can cancel in their sum. If the map is poor, "
    "choose a layer inside that ends in a ReLU."
)


def test_the_table(model, capsys):
    assert main(["layers", "--model", f"{model}:net", "--input-size", "2", "9"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "   layer  type    output  receptive field  why",
        "*  0      Conv1d  3x7     3                last layer at its resolution",
        f"   1      Tanh    3x7     -                {CONSTANT}",
        "",
        "--layers 0",
        f"0: {SIGNED}",
    ]
    assert err == ""


def test_a_clipped_receptive_field_and_a_warning_of_several_layers(model, capsys):
    words = ["layers", "--model", f"{model}:clipped", "--input-size", "1", "26", "--all"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "   layer  type    output  receptive field  why",
        "*  0      Conv1d  1x22    5                last layer at its resolution",
        "   1      Conv1d  1x14    -                its channels are the scores of the classes",
        "",
        "--layers 0",
        f"0: {SIGNED}",
    ]
    words[2:6] = f"{model}:net", "--input-size", "2", "4"
    assert main(words) == 0
    assert ">= 3" in capsys.readouterr().out.splitlines()[1]


def test_the_json(model, capsys):
    words = ["layers", "--model", f"{model}:net", "--input-size", "2", "9", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["input_size"]) == (f"{model}:net", [2, 9])
    assert report["advice"][0] == "--layers 0"
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
        "sums_cancel": False,
        "recommended": True,
        "reason": "last layer at its resolution",
        "layout": None,
        "index": None,
        "calls": None,
        "warnings": [SIGNED],
    }
    assert (tanh["name"], tanh["recommended"], tanh["gradient_is_constant"]) == ("1", False, True)


SWIN_LIKE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.ReLU())
        self.mix = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.ReLU())
        self.head = nn.Linear(48, 4)
    def forward(self, x):
        y = self.mix(self.patches(x).movedim(1, -1))
        return self.head((y * y).mean((1, 2)))
"""


def test_a_layer_with_channels_last_is_shown_with_its_layout(tmp_path, capsys):
    (tmp_path / "swin.py").write_text(SWIN_LIKE)
    words = ["layers", "--model", f"{tmp_path}/swin.py:Net", "--input-size", "3", "32", "32"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4:6] == ["--layers auto", "layers=[Layer('mix', layout='N H W C')]"]
    assert lines[2].startswith("*  mix      Sequential  48x8x8 of N H W C  ")


def test_a_model_of_tokens_has_no_feature_map(model, capsys):
    assert main(["layers", "--model", f"{model}:tokens", "--input-size", "9", "4"]) == 2
    assert capsys.readouterr().err == (
        "captum-3dcam layers: error: --input-size 9 4: No layer of this model gives a grid with 1 "
        "spatial axes and several positions, for an input of shape (1, 9, 4), or they change "
        "elsewhere than the input does. Pass layers by name, with Layer(..., layout=...) for "
        "tokens and other axes, or Layer(..., reshape=...) for other orders.\n"
    )
