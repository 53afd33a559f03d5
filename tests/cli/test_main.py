"""The command line as a whole: arguments, the user's model, exit codes, imports."""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captum_3dcam
from captum_3dcam import functional
from captum_3dcam.attribution import METHODS, LayerwiseWhatWhereCAM
from captum_3dcam.cli import _parser as parser
from captum_3dcam.cli import main
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.explanation._scores import RETURNS

MODEL = """
import torch
from torch import nn

def net(classes=3):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
    return nn.Sequential(features, nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, classes))

instance = net()
number = 7

def text():
    return "no model"

def broken():
    raise KeyError("weights")

class Interrupted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
    def forward(self, x):
        raise KeyboardInterrupt

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
    def forward(self, x):
        return {"scores": self.layer(x)}

class Pair(Deep):
    def forward(self, x):
        scores = self.layer(x).flatten(1)
        return {"first": scores, "second": scores}

class Joined(Deep):
    def forward(self, x):
        return self.layer(x).mean(0)
"""
INPUT_SIZE = ["--input-size", "3", "16", "16"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a model and an image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path


def explain(*more, name="net", path="image.png"):
    return ["explain", path, "--model", f"model.py:{name}", *more]


# ------------------------------------------------------------------------------ usage errors

USAGE_ERRORS = {
    "no command": (
        [],
        "captum-3dcam: error: the following arguments are required: COMMAND",
    ),
    "no such input": (
        explain(path="missing.mp4"),
        "captum-3dcam explain: error: There is no file or folder 'missing.mp4'.",
    ),
    "a model without a colon": (
        ["layers", "--model", "model.py", *INPUT_SIZE],
        "captum-3dcam layers: error: --model model.py: expected package.module:callable or "
        "path/to/file.py:callable.",
    ),
    "no such module": (
        ["layers", "--model", "nowhere.nets:net", *INPUT_SIZE],
        "captum-3dcam layers: error: --model: there is no module 'nowhere'; expected "
        "package.module:callable or path/to/file.py:callable. A module in the current folder is "
        "found too, unless an installed one has its name.",
    ),
    "no such file": (
        ["layers", "--model", "missing.py:net", *INPUT_SIZE],
        "captum-3dcam layers: error: --model: there is no file 'missing.py'.",
    ),
    "no such callable": (
        ["layers", "--model", "model.py:nett", *INPUT_SIZE],
        "captum-3dcam layers: error: --model: 'model.py' has no 'nett'. The nearest names are "
        "'net', 'text'.",
    ),
    "no callable": (
        ["layers", "--model", "model.py:number", *INPUT_SIZE],
        "captum-3dcam layers: error: --model model.py:number is of type int; expected a model, or "
        "a callable that returns one.",
    ),
    "no model": (
        ["layers", "--model", "model.py:text", *INPUT_SIZE],
        "captum-3dcam layers: error: --model model.py:text returns str; expected a "
        "torch.nn.Module.",
    ),
    "arguments of an instance": (
        ["layers", "--model", "model.py:instance", "--model-args", '{"classes": 4}', *INPUT_SIZE],
        "captum-3dcam layers: error: --model model.py:instance is already a model: it takes no "
        "--model-args.",
    ),
    "arguments that are no JSON": (
        ["layers", "--model", "model.py:net", "--model-args", "classes=4", *INPUT_SIZE],
        "captum-3dcam layers: error: argument --model-args: 'classes=4' is not JSON: Expecting "
        "value: line 1 column 1 (char 0)",
    ),
    "arguments without names": (
        ["layers", "--model", "model.py:net", "--model-args", "[4]", *INPUT_SIZE],
        "captum-3dcam layers: error: argument --model-args: expected a JSON object; received '[4]'",
    ),
    "arguments nested too deeply": (
        ["layers", "--model", "model.py:net", "--model-args", "[" * 100_000, *INPUT_SIZE],
        f"captum-3dcam layers: error: argument --model-args: '{'[' * 200}'... is nested too deeply",
    ),
    "arguments that the report cannot repeat": (
        ["layers", "--model", "model.py:net", "--model-args", '{"classes": NaN}', *INPUT_SIZE],
        "captum-3dcam layers: error: argument --model-args: '{\"classes\": NaN}' is not JSON: Out "
        "of range float values are not JSON compliant",
    ),
    "an empty output": (
        explain("--layers", "0", "--output", ""),
        "captum-3dcam explain: error: argument --output: expected a path; received ''",
    ),
    "an empty input": (
        explain("--layers", "0", path=""),
        "captum-3dcam explain: error: argument INPUT: expected a path; received ''",
    ),
    "an empty output of evaluate": (
        ["evaluate", "actions", "--model", "model.py:net", "--output", ""],
        "captum-3dcam evaluate: error: argument --output: expected a path; received ''",
    ),
    "a folder where the file should be": (
        ["evaluate", "actions", "--model", "model.py:net", "--output", "."],
        "captum-3dcam evaluate: error: --output .: a folder of that name exists.",
    ),
    "no such checkpoint": (
        ["layers", "--model", "model.py:net", "--checkpoint", "missing.pt", *INPUT_SIZE],
        "captum-3dcam layers: error: There is no checkpoint file 'missing.pt'.",
    ),
    "an input without space": (
        ["layers", "--model", "model.py:net", "--input-size", "3"],
        "captum-3dcam layers: error: --input-size 3: expected C and at least one spatial axis.",
    ),
    "a size of nothing": (
        ["layers", "--model", "model.py:net", "--input-size", "3", "0"],
        "captum-3dcam layers: error: argument --input-size: expected an integer, 1 or more; "
        "received '0'",
    ),
    "no such layer": (
        explain("--layers", "feature"),
        "captum-3dcam explain: error: layers: The model has no layer named 'feature'. The "
        "nearest names are '0', '0.0', '0.1'; model.named_modules() lists them all.",
    ),
    "no such method": (
        explain("--layers", "0", "--method", "CAM"),
        "captum-3dcam explain: error: argument --method: invalid choice: 'CAM' (choose from "
        f"{', '.join(METHODS)})",
    ),
    "a fusion of what has its own": (
        explain("--layers", "0", "2", "--method", "whatwhere", "--fusion", "max"),
        "captum-3dcam explain: error: WhatWhere has its own fusion of the layers: leave fusion "
        "out.",
    ),
    "a class beyond the last": (
        explain("--layers", "0", "--target", "3"),
        "captum-3dcam explain: error: target: target 3 is out of range: axis 1 of the output, of "
        "shape (1, 3), takes 0 to 2.",
    ),
    "more classes than there are": (
        explain("--layers", "0", "--target", "top4"),
        "captum-3dcam explain: error: target: k must be from 1 to the 3 classes; received 4.",
    ),
    "a name without names": (
        explain("--layers", "0", "--target", "golf"),
        "captum-3dcam explain: error: target='golf': expected a class index, \"top3\" or another "
        'count, "each", an index into an output with more axes such as (1, 4, 8), a class name, or '
        "a list of indices and names. For a name, pass class_names.",
    ),
    "an option of another input": (
        explain("--layers", "0", "--spacing", "1.5"),
        "captum-3dcam explain: error: --spacing is for volume input; INPUT is an image.",
    ),
    "more windows than axes": (
        explain("--layers", "0", "--window", "8", "8", "8"),
        "captum-3dcam explain: error: windows: size=(8, 8, 8): an image has 2 axes.",
    ),
    "a stride longer than its window": (
        explain("--layers", "0", "--window", "8", "8", "--stride", "9"),
        "captum-3dcam explain: error: stride=9 is longer than window=(8, 8): it would leave gaps.",
    ),
    "a stride of no window": (
        explain("--layers", "0", "--stride", "4"),
        "captum-3dcam explain: error: windows: stride needs size.",
    ),
    "a size of three sides": (
        explain("--layers", "0", "--size", "8", "8", "8"),
        "captum-3dcam explain: error: --size 8 8 8: expected H W for frames.",
    ),
    "a standard deviation of 0": (
        explain("--layers", "0", "--std", "0"),
        "captum-3dcam explain: error: std=0.0: expected numbers above 0.",
    ),
    "a class for each pixel": (
        explain("--layers", "layer", name="Deep"),
        "captum-3dcam explain: error: target: An output of shape (1, 2, 18, 22) needs a target: of "
        "a segmentation, a class or a tuple (class, y, x) for one pixel; a function of the output "
        "that returns one score per sample; or reduce it to (N, classes), e.g. by a mean over "
        "time.",
    ),
    "a file where the folder should be": (
        explain("--layers", "0", "--output", "model.py"),
        "captum-3dcam explain: error: output 'model.py': a file of that name exists.",
    ),
    "a dataset without its folder": (
        ["evaluate", "jhmdb", "--model", "model.py:net", "--layers", "0"],
        "captum-3dcam evaluate: error: jhmdb needs --root, the dataset's folder.",
    ),
    "an option of another dataset": (
        ["evaluate", "actions", "--model", "model.py:net", "--layers", "0", "--split", "2"],
        "captum-3dcam evaluate: error: --split is for jhmdb; not for actions.",
    ),
    "no such dataset": (
        ["evaluate", "kinetics", "--model", "model.py:net"],
        "captum-3dcam evaluate: error: argument DATASET: invalid choice: 'kinetics' (choose from "
        "actions, jhmdb, ucf24, ilsvrc)",
    ),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_usage_errors_exit_with_2(case, folder, capsys):
    words, message = USAGE_ERRORS[case]
    before = set(folder.iterdir())
    assert main(words) == 2
    out, err = capsys.readouterr()
    # argparse's own messages come after the usage; Python's versions quote choices or not.
    last = err.rstrip("\n").rpartition("\n")[2]
    before_choices, choose, choices = last.partition("(choose from ")
    last = before_choices + choose + choices.replace("'", "")
    assert last.removesuffix(": nan") == message  # newer versions of Python name the value
    assert out == ""
    assert "Traceback" not in err
    assert {path for path in folder.iterdir() if path.name != "__pycache__"} == before


# ------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    "name, message",
    [
        ("broken", "--model: calling model.py:broken failed: KeyError: 'weights'"),
        ("instance", "The model failed on an input of shape (1, 7, 8, 8): RuntimeError: "
         "Given groups=1, weight of size [4, 3, 3, 3], expected input[1, 7, 8, 8] to "
         "have 3 channels, but got 7 channels instead. The first input has shape (1, 7, 8, 8); "
         "(N, C, *S) is usual. Move the channels, e.g. inputs.movedim(-1, 1) if they are last, or "
         "inputs.movedim(2, 1) if frames are first."),
    ],
)  # fmt: skip
def test_failures_of_the_users_code_exit_with_1(name, message, folder, capsys):
    assert main(["layers", "--model", f"model.py:{name}", "--input-size", "7", "8", "8"]) == 1
    assert capsys.readouterr().err == f"captum-3dcam layers: error: {message}\n"


@pytest.mark.parametrize(
    "name, message",
    [
        ("Pair", "The model must return a tensor of scores; it returned dict with ['first', "
         "'second']. Choose the tensor with output=: a key, an attribute, an index, or a function "
         "of what the model returns. Or wrap the model in a module that returns it."),
        ("Joined", "The model must return scores, one row per sample; for an input of shape (1, 3, "
         "20, 24) it returned (2, 18, 22). Wrap it in a module that does, or choose them with "
         "output=."),
    ],
)  # fmt: skip
def test_a_model_without_scores_exits_with_1(name, message, folder, capsys):
    assert main(explain("--layers", "layer", name=name)) == 1
    assert capsys.readouterr().err == f"captum-3dcam explain: error: {message}\n"


def test_a_model_file_that_cannot_be_imported(folder, capsys):
    (folder / "model.py").write_text("import nowhere_at_all")
    assert main(["layers", "--model", "model.py:net", *INPUT_SIZE]) == 1
    (folder / "wrong_syntax_3dcam.py").write_text("def")
    assert main(["layers", "--model", "wrong_syntax_3dcam:net", *INPUT_SIZE]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "captum-3dcam layers: error: --model: importing 'model.py' failed: No module named "
        "'nowhere_at_all'"
    )
    assert "--model: importing 'wrong_syntax_3dcam' failed: SyntaxError: " in lines[1]
    assert len(lines) == 2


def test_damaged_files_exit_with_1(folder, capsys):
    (folder / "image.png").write_bytes(b"\x89PNG and no more")
    assert main(explain("--layers", "0")) == 1
    (folder / "weights.pt").write_bytes(b"nothing")
    assert main(explain("--layers", "0", "--checkpoint", "weights.pt")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "error: 'image.png' cannot be read as an image: " in lines[0]
    assert "error: 'weights.pt' cannot be read as a checkpoint: " in lines[1]
    assert not (folder / "image_explained").exists()


def test_debug_shows_where(folder, capsys):
    assert main(["layers", "--model", "model.py:broken", *INPUT_SIZE, "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "raise KeyError" in err


def test_ctrl_c_exits_with_130(folder, capsys):
    assert main(explain("--layers", "layer", name="Interrupted")) == 130
    assert capsys.readouterr().err == "captum-3dcam explain: interrupted\n"
    assert not (folder / "image_explained").exists()


def test_a_message_of_several_lines_is_printed_in_one(folder, capsys):
    (folder / "model.py").write_text("raise ValueError('one,\\n  two')")
    assert main(["layers", "--model", "model.py:net", *INPUT_SIZE]) == 1
    message = "captum-3dcam layers: error: --model: importing 'model.py' failed: one, two\n"
    assert capsys.readouterr().err == message


def test_long_messages_are_cut(folder, capsys):
    long = MODEL.replace('KeyError("weights")', 'KeyError("weights " * 500)')
    (folder / "model.py").write_text(long)
    assert main(["layers", "--model", "model.py:broken", *INPUT_SIZE]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("... (--debug shows all)")
    assert len(line) < 800


def test_a_warning_is_printed_in_one_line(folder, capsys):
    (folder / "model.py").write_text(MODEL + "\nimport warnings\nwarnings.warn('two\\nlines')\n")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["layers", "--model", "model.py:net", *INPUT_SIZE]) == 0
    assert capsys.readouterr().err == "captum-3dcam: warning: two lines\n"


# ------------------------------------------------------------------------------------ the model


def shapes(capsys):
    layers = json.loads(capsys.readouterr().out)["layers"]
    return {layer["name"]: layer["output_shape"] for layer in layers}


def test_a_model_from_a_module_in_the_current_folder_from_a_file_or_as_an_instance(folder, capsys):
    (folder / "package_3dcam").mkdir()
    (folder / "package_3dcam" / "nets.py").write_text(MODEL)
    names = ["package_3dcam.nets:net", "package_3dcam/nets.py:net", f"{folder}/model.py:instance"]
    before = list(sys.path)
    for name in names:
        assert main(["layers", "--model", name, *INPUT_SIZE, "--json"]) == 0
        assert shapes(capsys) == {"0": [4, 8, 8], "1": [4, 6, 6], "2": [4, 6, 6]}
    assert sys.path == before


def test_a_model_file_may_import_its_neighbours(folder, capsys):
    (folder / "folder").mkdir()
    (folder / "folder" / "neighbour_3dcam.py").write_text("width = 5")
    (folder / "folder" / "model.py").write_text(
        "from neighbour_3dcam import width\nfrom torch import nn\n"
        "class Nets:\n    net = lambda: nn.Sequential(nn.Conv2d(3, width, 3))"
    )
    assert main(["layers", "--model", "folder/model.py:Nets.net", *INPUT_SIZE, "--json"]) == 0
    assert shapes(capsys) == {"0": [5, 14, 14]}


def test_a_model_takes_arguments_and_a_checkpoint(folder, capsys):
    namespace = {}
    exec(MODEL, namespace)
    trained = namespace["net"](4)
    torch.nn.init.constant_(trained[-1].weight, 0.0)
    trained[-1].bias.data = torch.tensor([0.0, 0.0, 9.0, 0.0])
    torch.save({"state_dict": trained.state_dict()}, "weights.pt")
    arguments = ["--model-args", '{"classes": 4}', "--checkpoint", "weights.pt", "--json"]
    assert main(explain("--layers", "0", *arguments)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["results"][0]["class"] == 2
    assert report["results"][0]["score"] == 9.0
    assert report["model"]["arguments"] == {"classes": 4}


def test_a_device_that_is_not_there(folder, capsys):
    assert main(explain("--layers", "0", "--device", "warp")) == 2
    assert "error: --device warp: RuntimeError: " in capsys.readouterr().err


# ------------------------------------------------------------------------ arguments and imports


def test_methods_and_fusions_are_those_of_the_package():
    assert parser.FUSIONS == functional.FUSIONS
    assert parser.RETURNS == RETURNS
    assert tuple(METHODS) == parser.METHODS
    # LeGrad needs layers of attention weights, which have no name of their own.
    public = {name for name in captum_3dcam.__all__ if name.startswith("Layerwise")}
    public -= {"LayerwiseLeGrad"}
    others = {"CounterfactualCAM", "ExtentCAM", "RivalCAM"}
    assert {each.__name__ for each in METHODS.values()} == public | others
    own_fusion = {name for name, each in METHODS.items() if issubclass(each, LayerwiseWhatWhereCAM)}
    assert set(parser.WITHOUT_FUSION) == own_fusion


def options_of(subparser):
    return {word for action in subparser._actions for word in action.option_strings}


def test_every_command_has_the_common_options_and_help(capsys):
    built = parser.build_parser()
    (commands,) = [a for a in built._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(commands.choices) == {"explain", "layers", "evaluate"}
    for name, sub in commands.choices.items():
        assert options_of(sub) >= {"--json", "--quiet", "--debug", "--model", "--checkpoint"}
        assert main([name, "--help"]) == 0
        assert "0 success, 1 failure, 2 wrong use, 130 interrupted, 141" in capsys.readouterr().out


@pytest.mark.parametrize(
    "terminal, quiet, expected",
    [(True, False, True), (False, False, False), (True, True, False)],
)
def test_a_progress_bar_needs_a_terminal_and_no_quiet(terminal, quiet, expected, monkeypatch):
    error_output = io.StringIO()
    error_output.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", error_output)
    assert shows_progress(argparse.Namespace(quiet=quiet)) == expected


def test_the_progress_bars_of_a_command(folder, monkeypatch):
    error_output = io.StringIO()
    error_output.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", error_output)
    assert main(explain("--layers", "0", "--window", "12", "12")) == 0
    assert "choosing classes: 100%" in error_output.getvalue()
    assert "explaining: 100%" in error_output.getvalue()
    assert "20/20" in error_output.getvalue()


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"captum-3dcam {captum_3dcam.__version__}\n", "")


IMPORTS = """
import sys
import captum_3dcam
before = set(sys.modules)
from captum_3dcam.cli import main
def show():
    print(sorted({name.split(".")[0] if not name.startswith("captum_3dcam") else name
                  for name in set(sys.modules) - before}))
for words in (["--help"], ["explain", "--help"]):
    assert main(words) == 0
print("HELP"); show()
layers = ["--layers", "0", "--output", "out"]
assert main(["layers", "--model", "model.py:net", "--input-size", "3", "16", "16"]) == 0
print("LAYERS"); show()
assert main(["explain", "image.png", "--model", "model.py:net", *layers]) == 0
print("IMAGE"); show()
"""


def test_a_command_imports_only_what_it_needs(folder):
    code = [sys.executable, "-c", IMPORTS]
    env = os.environ | {"PYTHONPATH": str(Path(captum_3dcam.__file__).parent.parent)}
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=env)
    lines = done.stdout.splitlines()
    imported = {word: lines[lines.index(word) + 1] for word in ("HELP", "LAYERS", "IMAGE")}
    extras = ["'av'", "'nibabel'", "'pydicom'", "'torchmetrics'"]
    for name in extras:
        assert all(name not in line for line in imported.values()), name
    for name in ("torch", "captum", "numpy", "matplotlib", "scipy"):
        assert f"'{name}'" not in imported["HELP"], name
    for name in ("visualization", "datasets", "io", "models", "explanation", "functional"):
        assert f"captum_3dcam.{name}" not in imported["HELP"], name
    for name in ("captum_3dcam.visualization", "captum_3dcam.datasets", "captum_3dcam.evaluation"):
        assert name not in imported["LAYERS"], name
    assert "captum_3dcam.evaluation" not in imported["IMAGE"]


def test_ctrl_c_in_a_terminal_leaves_no_file(folder):
    slow = MODEL + (
        "\nimport pathlib, time\nclass Slow(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Conv2d(3, 2, 3)\n"
        "    def forward(self, x):\n"
        "        pathlib.Path('running').touch()\n        time.sleep(60)\n"
    )
    (folder / "model.py").write_text(slow)
    words = [sys.executable, "-m", "captum_3dcam.cli", *explain("--layers", "layer", name="Slow")]
    env = os.environ | {"PYTHONPATH": str(Path(captum_3dcam.__file__).parent.parent)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        until = time.monotonic() + 50
        while not (folder / "running").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "captum-3dcam explain: interrupted\n"
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        "model.py", "image.png", "running",
    }  # fmt: skip
