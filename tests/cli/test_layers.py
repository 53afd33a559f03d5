"""``captum-3dcam layers``: receptive sizes against kernel arithmetic, advice on known networks."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_3dcam.cli import _layers as command
from captum_3dcam.cli import main
from captum_3dcam.cli._parser import build_parser

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def survey(model, *size, more=()):
    words = ["layers", "--model", "unused:unused", "--input-size", *map(str, size), *more]
    options = build_parser().parse_args(words)
    torch.manual_seed(0)
    return command.survey(model.eval(), size, torch.device("cpu"), options)


def recommended(found):
    return [layer.name for layer in found if layer.recommended]


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))), with another way past where the size changes."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.past = nn.Conv2d(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.past(x))


class Residual(nn.Module):
    """As ResNets are: a stem, stages of blocks, a global average, a linear head."""

    def __init__(self, classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5, 2, 2)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8, 2), Block(8, 8))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


def plain():
    """As VGGs are: operations in a row, in a module of their own."""
    features = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Dropout()),
    )
    return nn.Sequential(features, nn.Flatten(), nn.LazyLinear(3))


# ----------------------------------------------------------------------------- receptive sizes


@settings(max_examples=15)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=3),
    st.booleans(),
)
def test_receptive_sizes_are_those_of_kernel_arithmetic(rank, shapes, rectified):
    torch.manual_seed(1)
    blocks, expected, size, jump = [], [], 1, 1
    for kernel, stride in shapes:
        size += (kernel - 1) * jump
        jump *= stride
        expected.append(size)
        conv = CONV[rank](3, 3, kernel, stride)
        blocks.append(nn.Sequential(conv, nn.ReLU() if rectified else nn.Tanh()))
    found = survey(nn.Sequential(*blocks), 3, *[24] * rank, more=["--all"])
    by_name = {layer.name: layer for layer in found}
    for position, size in enumerate(expected):
        layer = by_name[str(position)]
        if rectified:  # three channels are few: a ReLU may hide an edge of the field
            assert all(found <= size for found in layer.receptive)
        else:
            assert layer.receptive == (size,) * rank


def test_a_field_that_reaches_the_edge_is_said_to_be_cut():
    near, far = survey(nn.Sequential(nn.Conv1d(1, 1, 5), nn.Conv1d(1, 1, 9)), 1, 14, more=["--all"])
    assert (near.receptive, near.cut) == ((5,), False)
    assert (far.receptive, far.cut) == ((13,), True)
    lines = command.table([near, far])
    assert lines[1].endswith("  5")
    assert lines[2].endswith("  >= 13")


def test_the_field_is_that_of_the_middle_which_padding_does_not_cut():
    (conv,) = survey(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2)), 1, 12, 9)
    assert (conv.receptive, conv.cut) == ((5, 5), False)


def test_channels_that_cancel_have_a_field_too():
    model = nn.Sequential(nn.Conv1d(1, 4, 3), Mirrored(), nn.GroupNorm(1, 8))
    conv, both, group = survey(model, 1, 20)
    assert conv.receptive == both.receptive == (3,)
    assert group.receptive == (20,)  # a normalisation over space sees all of it


class Mirrored(nn.Module):
    """A sum over its channels is zero, and so is that sum's gradient."""

    def forward(self, y):
        return torch.cat([y, -y], dim=1)


# --------------------------------------------------------------------------------------- advice


def test_of_a_residual_network_the_stages_ends_after_their_relu():
    found = survey(Residual(), 3, 32, 40)
    assert [layer.name for layer in found] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2",
    ]  # fmt: skip
    assert recommended(found) == ["relu", "layer1", "layer2"]
    assert [layer.shape for layer in found if layer.recommended] == [
        (4, 16, 20), (4, 8, 10), (8, 4, 5),
    ]  # fmt: skip


def test_a_wrapper_around_the_network_changes_only_the_names():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.backbone = Residual()

        def forward(self, x):
            return self.backbone(self.norm(x))

    assert recommended(survey(Wrapped(), 3, 32, 32)) == [
        "backbone.relu", "backbone.layer1", "backbone.layer2",
    ]  # fmt: skip


def test_of_operations_in_a_row_the_last_rectified_one_of_each_size():
    # At 16x16 a convolution follows on the ReLU, which is taken; at 4x4 a dropout follows.
    assert recommended(survey(plain(), 3, 16, 16)) == ["0.1", "0.4", "0.9"]


def test_padding_begins_no_stage_and_leads_into_no_block():
    def block(inputs, stride):
        return Padded(nn.Sequential(nn.ZeroPad1d(1), nn.Conv1d(inputs, 4, 3, stride), nn.ReLU()))

    class Padded(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.inside = inside

        def forward(self, x):
            return self.inside(x)

    model = nn.Sequential(block(2, 1), block(4, 2), block(4, 1), block(4, 2), nn.Flatten())
    found = survey(model, 2, 40)
    assert [layer.name for layer in found] == ["0", "1", "2", "3"]
    assert recommended(found) == ["0", "2", "3"]
    outside = nn.Sequential(nn.ZeroPad1d(20), model)  # the padded input is no layer
    first, *_ = survey(outside, 2, 40, more=["--all"])
    assert first.name == "1.0.inside.1"
    # Without padding sizes shrink a little: 38, 36, 34, then by a stride.
    shrinking = nn.Sequential(*(nn.Conv1d(2, 2, 3) for _ in range(3)), nn.Conv1d(2, 2, 3, 2))
    assert recommended(survey(shrinking, 2, 40)) == ["2", "3"]


def test_without_a_relu_the_last_one():
    model = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Tanh(), nn.Conv1d(2, 2, 3, 2), nn.Flatten())
    found = survey(model, 2, 20)
    assert recommended(found) == ["1", "2"]
    assert "1, 2: not after a ReLU, so that channels can cancel." in command.advice(found)[1]


def test_a_block_that_is_not_rectified_is_not_passed_over_for_the_stem():
    stage = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Tanh())
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), stage, nn.AvgPool1d(2), nn.Flatten())
    assert recommended(survey(model, 2, 8)) == ["2", "3"]


def test_all_lists_the_layers_inside_too_and_recommends_the_same():
    found = survey(Residual(), 3, 32, 40, more=["--all"])
    names = {name for name, module in Residual().named_modules() if name}
    assert {layer.name for layer in found} == names - {"avgpool", "fc"}
    assert recommended(found) == ["relu", "layer1", "layer2"]


def test_the_last_layer_before_average_pooling_is_warned_of():
    found = {layer.name: layer for layer in survey(Residual(), 3, 32, 32)}
    assert found["layer2"].flat
    assert not any(found[name].flat for name in ("relu", "maxpool", "layer1"))
    advice = command.advice(list(found.values()))
    assert advice[0] == "--layers relu layer1 layer2"
    assert len(advice) == 2
    assert advice[1].startswith("layer2: the score's gradient is the same at each place")
    head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    assert not any(layer.flat for layer in survey(head, 3, 8, 8))


def test_a_layer_that_the_score_does_not_depend_on_is_warned_of():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3)

        def forward(self, x):
            y = self.used(x)
            self.aside(y)
            return y.amax(dim=2)

    used, aside = survey(Aside(), 1, 9)
    assert (used.reaches, aside.reaches) == (True, False)
    assert "aside: the highest score does not depend on it. Leave it out." in command.advice(
        [used, aside]
    )


def test_a_model_that_writes_into_its_input_or_has_no_gradients_of_its_own():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3).requires_grad_(False)

        def forward(self, x):
            return self.conv(x.sub_(0.5)).amax(dim=2)

    (conv,) = survey(InPlace(), 1, 9)
    assert conv.receptive == (3,)


# ---------------------------------------------------------------------------------- the command

FILE = """
from torch import nn
def net():
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
def tokens():
    return nn.Linear(4, 3)
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(FILE)
    return path


def test_the_table(model, capsys):
    assert main(["layers", "--model", f"{model}:net", "--input-size", "2", "9"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:5] == [
        "   layer  type    output  receptive size",
        "   0      Conv1d  3x7     3",
        "*  1      Tanh    3x7     3",
        "",
        "--layers 1",
    ]
    assert err == ""


def test_the_json_says_the_same(model, capsys):
    words = ["layers", "--model", f"{model}:net", "--input-size", "2", "9", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["input_size"]) == (f"{model}:net", [2, 9])
    assert report["advice"][0] == "--layers 1"
    conv, tanh = report["layers"]
    assert conv == {
        "name": "0",
        "type": "Conv1d",
        "shape": [3, 7],
        "receptive": [3],
        "receptive_cut_by_input": False,
        "reaches_score": True,
        "gradient_is_flat": False,
        "rectified": False,
        "recommended": False,
    }
    assert (tanh["name"], tanh["recommended"], tanh["gradient_is_flat"]) == ("1", True, True)


def test_a_model_of_tokens_has_no_grid(model, capsys):
    assert main(["layers", "--model", f"{model}:tokens", "--input-size", "9", "4"]) == 2
    assert capsys.readouterr().err == (
        "captum-3dcam layers: error: No layer of this model gives a grid of several places, "
        "(1, C, *S) with 1 spatial axes. Tokens become one with captum_3dcam.Layer(..., "
        "reshape=tokens_to_grid(...)), which the model can name in its LAYERS.\n"
    )
