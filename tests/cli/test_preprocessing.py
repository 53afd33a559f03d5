"""How the command line preprocesses frames, and what it warns of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_command import fails, maps, network, run

from captum_3dcam import GlobalLocalCAM2D
from captum_3dcam import localization as loc
from captum_3dcam.cli import _parser, main
from captum_3dcam.models import PRESETS, VOLUME_PRESETS, Preprocessing

pytestmark = pytest.mark.usefixtures("figures_not_drawn")

GREY = """
import torch
from torch import nn
def grey():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 3))
def two(): return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
"""
NORMALISED = """
import torch
from torch import nn
from captum_3dcam.models import Preprocessing

def normalised():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    for _ in range(60):
        model((torch.rand(4, 3, 24, 32) - 0.45) / 0.225)
    return model

class Sure(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = normalised()[:1]
    def forward(self, x): return self.body(x).mean((2, 3)).softmax(1)
"""


@pytest.fixture
def more_models(folder):
    path = Path("model.py")
    path.write_text(path.read_text() + GREY + NORMALISED)


def prepared(image_file, prepare):
    return prepare(image_file[1].movedim(-1, 0))[None]


def test_the_parser_names_the_presets_of_the_models():
    assert tuple(PRESETS) == _parser.FRAME_PRESETS
    assert tuple(VOLUME_PRESETS) == _parser.VOLUME_PRESETS


PLAIN = ["image", "--layers", "first", "second"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--preprocessing", "imagenet"], PRESETS["imagenet"]),
        (["--preprocessing", "none"], Preprocessing()),
        (
            ["--preprocessing", "kinetics", "--size", "16", "20"],
            replace(PRESETS["kinetics"], size=(16, 20), crop=None),
        ),
        (
            ["--preprocessing", "imagenet", "--size", "18", "--crop", "16"],
            replace(PRESETS["imagenet"], size=18, crop=16),
        ),
        (["--size", "12"], Preprocessing(size=12)),
        (["--crop", "12", "18"], Preprocessing(crop=(12, 18))),
        (["--mean", "0.5", "--std", "0.25"], Preprocessing(0.5, 0.25)),
        (
            ["--mean", "0.4", "0.5", "0.6", "--std", "0.1", "0.2", "0.3"],
            Preprocessing((0.4, 0.5, 0.6), (0.1, 0.2, 0.3)),
        ),
    ],
)
def test_presets_and_single_values(words, expected, image_file, capsys):
    run(capsys, image_file[0], *PLAIN, *words)
    _, received = network("image")
    torch.testing.assert_close(received[0], prepared(image_file, expected))


def test_a_preset_replaces_the_models_own(image_file, capsys):
    run(capsys, image_file[0], "prepared", "--preprocessing", "none", "--mean", "0.5")
    _, received = network("prepared")
    torch.testing.assert_close(received[0], prepared(image_file, Preprocessing(0.5)))


def test_the_map_and_boxes_of_a_crop_are_those_of_the_frame(image_file, capsys):
    """24 x 32 is resized to 12 x 16, of which columns 4 to 12 and rows 2 to 10 are seen."""
    report = run(capsys, image_file[0], *PLAIN, "--size", "12", "--crop", "8")
    model, _ = network("image")
    prepare = Preprocessing(size=12, crop=8)
    cam = GlobalLocalCAM2D(model, ["first", "second"])
    expected = cam.attribute(prepared(image_file, prepare), report["results"][0]["class"])
    whole = torch.zeros(1, 12, 16)
    whole[:, 2:10, 4:12] = expected[0]
    torch.testing.assert_close(maps(), whole)
    (boxes,) = loc.boxes(expected, select="all")
    in_frame = prepare.boxes_to_frame(boxes.boxes, (24, 32))
    received = [each["box"] for each in report["results"][0]["boxes"]]
    np.testing.assert_allclose(received, in_frame, atol=1e-4)
    assert np.min(received) >= 4
    assert np.max(received) <= 24


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Preprocessing(channels=1)),
        (["--mean", "0.5", "--std", "0.25"], Preprocessing(0.5, 0.25, channels=1)),
        (["--channels", "1"], Preprocessing(channels=1)),
        (["--preprocessing", "inception", "--size", "8"], Preprocessing(0.5, 0.5, 8, channels=1)),
    ],
)
def test_a_network_of_one_channel_gets_grey_frames(
    words, expected, more_models, image_file, capsys
):
    report = run(capsys, image_file[0], "grey", "--layers", "1", "--target", "1", *words)
    x = prepared(image_file, expected)
    assert x.shape[1] == 1
    assert report["input"]["model_size"] == list(x.shape[2:])


def test_figures_of_three_channels_are_refused_for_one(more_models, image_file, capsys):
    path, _ = image_file
    message, code = fails(capsys, path, "grey", "--preprocessing", "imagenet")
    assert (message, code) == (
        "The mean is that of R, G and B, (0.485, 0.456, 0.406), and the network takes one channel, "
        "grey. Pass the mean and std of its training, one number each.", 2,
    )  # fmt: skip
    words = ["--layers", "1", "--preprocessing", "imagenet"]
    run(capsys, path, "grey", *words, "--mean", "0.449", "--std", "0.226")


@pytest.mark.parametrize(
    ("name", "words", "end"),
    [
        ("image", ["--channels", "1"],
         "Its first convolution takes 3 channels; the input has 1. Pass a Preprocessing with "
         "channels=3: --channels on the command line."),
        ("grey", ["--channels", "3"],
         "Its first convolution takes 1 channels; the input has 3. Pass a Preprocessing with "
         "channels=1: --channels on the command line."),
        ("two", [], "Its first convolution takes 2 channels; the input has 3."),
    ],
)  # fmt: skip
def test_an_error_of_the_model_names_the_channels(
    name, words, end, more_models, image_file, capsys
):
    message, code = fails(capsys, image_file[0], name, "--layers", "auto", *words)
    assert code == 1
    assert message.startswith("The model failed on an input of shape (1, ")
    assert message.endswith(end)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preprocessing", "ct-lung"],
         "preprocessing='ct-lung': expected for images and videos one of 'none', 'imagenet', "
         "'inception', 'kinetics', 'pytorchvideo', or values: Preprocessing(mean, std, size)."),
        (["--mean", "123.7", "116.3", "103.5"],
         "mean=(123.7, 116.3, 103.5): values in [0, 1] have none above 1. If it is of values from "
         "0 to 255, divide mean and std by 255."),
        (["--mean", "0.4", "0.5"],
         "mean=(0.4, 0.5): expected one number for all channels, or 3, for channels=3, RGB."),
        (["--crop", "1", "2", "3"], "--crop 1 2 3: expected H W for frames."),
        (["--crop", "30"],
         "crop=30: frames of (24, 32), resized to (24, 32), are smaller. Pass a smaller crop, or "
         "size=(30, 30) without a crop."),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(words, message, image_file, capsys):
    assert fails(capsys, image_file[0], *PLAIN, *words)[0] == message


def test_unknown_presets_and_the_former_scale(image_file, capsys):
    for words, end in (
        (["--preprocessing", "imagnet"], "invalid choice: 'imagnet'"),
        (["--scale", "2"], "unrecognized arguments: --scale 2"),
    ):
        assert main(["explain", "image.png", "--model", "model.py:image", *words]) == 2
        assert end in capsys.readouterr().err


def test_evaluate_refuses_a_crop(folder, capsys):
    code = main(["evaluate", "actions", "--model", "model.py:clip", "--limit", "1",
        "--layers", "first", "--preprocessing", "kinetics"])  # fmt: skip
    assert code == 2
    assert capsys.readouterr().err == (
        "captum-3dcam evaluate: error: evaluate needs whole frames, and the preprocessing crops "
        "them to (112, 112): no map has what the network did not see. Pass --size H W.\n"
    )


# ---------------------------------------------------------------------------------- warnings


def warnings_of(capsys, path, name, *words):
    code = main(["explain", path, "--model", f"model.py:{name}", "--output", "out", *words])
    assert code == 0
    return capsys.readouterr().err.splitlines()


RIGHT = ["--mean", "0.45", "--std", "0.225", "--layers", "2"]


@pytest.mark.filterwarnings("default")
def test_an_input_out_of_range_is_warned_of_once(more_models, image_file, capsys):
    assert warnings_of(capsys, "image.png", "normalised", *RIGHT) == []
    wrong = ["--std", "0.00392", "--layers", "2", "--target", "top2"]
    (line,) = warnings_of(capsys, "image.png", "normalised", *wrong)
    assert line.startswith(
        "captum-3dcam: warning: The input is probably not preprocessed as in the training of the "
        "model: its values are from 0 to 255, with mean of its channels 12"
    )
    assert "What '1', its first batch normalisation, receives is " in line
    assert "--preprocessing, --mean and --std on the command line" in line
    windows = [*wrong[:-2], "--window", "12", "12"]
    (line,) = warnings_of(capsys, "image.png", "normalised", *windows)
    assert "not preprocessed as in the training" in line


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("Sure", [], ", and their sum over the classes is 1: these are probabilities already. Pass "
         'returns="probabilities".'),
        ("Sure", ["--returns", "probabilities"], None),
    ],
)  # fmt: skip
def test_scores_that_cannot_be(name, words, message, more_models, image_file, capsys):
    lines = warnings_of(capsys, "image.png", name, "--layers", "body", "--target", "0", *words)
    about_scores = [line for line in lines if "warning: The model's scores are from " in line]
    assert len(about_scores) == (message is not None)
    assert all(line.endswith(message) for line in about_scores)
