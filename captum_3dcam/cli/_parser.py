"""The words of the command line, checked as far as words alone can be. Imports nothing heavy."""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "captum-3dcam"

METHODS = {
    "GlobalLocal": "LayerwiseGlobalLocalCAM",
    "Counterfactual": "CounterfactualCAM",
    "WhatWhere": "LayerwiseWhatWhereCAM",
    "GradCAM": "LayerwiseGradCAM",
    "GradCAM++": "LayerwiseGradCAMPlusPlus",
    "LayerCAM": "LayerwiseLayerCAM",
    "HiResCAM": "LayerwiseHiResCAM",
    "XGradCAM": "LayerwiseXGradCAM",
}
"""The names of the methods in tables, and their classes."""
WITHOUT_FUSION = "WhatWhere"
FUSIONS = ("sum", "mean", "max", "product", "geometric_mean")
DATASETS = ("actions", "jhmdb", "ucf24", "ilsvrc")

_EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted"


@dataclass(frozen=True)
class Target:
    """Which class to explain."""

    top: int = 1
    """The so many highest, unless another field says more."""
    index: int | tuple[int, ...] | None = None
    """Its number, or its place in an output of more axes."""
    name: str | None = None
    """To be looked up among the classes' names."""
    each: bool = False
    """In each window its own highest."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` says which one was chosen."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Where, and when, did a 2D or 3D convolutional network look?",
        epilog=f"{_EXIT_CODES}; COMMAND --help says more",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_layers(commands)
    _add_evaluate(commands)
    return parser


# ----------------------------------------------------------------------------------- commands


def _add_explain(commands: Any) -> None:
    parser = _command(
        commands,
        "explain",
        "explain an image, a video of any length, or a scan",
        "Writes the map (map.npz), figures, for a video its overlay, for a scan the map as NIfTI "
        "on the scan's own grid, and report.json, into a folder.",
    )
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="image, video, .nii, .nii.gz, folder of DICOM")
    _add_model(parser)
    add("--layers", nargs="+", metavar="NAME", help="to look at; by default the model's LAYERS")
    add("--method", type=_one_of(METHODS), default="GlobalLocal", metavar="METHOD",
        help=f"one of {', '.join(METHODS)} (default: GlobalLocal)")  # fmt: skip
    _add_fusion(parser)
    add("--target", type=_target, default=Target(), metavar="TARGET",
        help="a class: its number or name; top3: so many, the highest first; each: in each window "
        "its own highest; a,b,c: an index into an output of more axes (default: the highest "
        "class)")  # fmt: skip
    add("--classes", type=Path, metavar="FILE", help="the classes' names, one a line, from 0 on")
    add("--returns", choices=("logits", "probabilities"), default="logits",
        help="what the model's scores are (default: logits)")  # fmt: skip
    _add_preparation(parser, "+", "H W of frames, or D H W of volumes: what the model is given")
    add("--output", type=Path, metavar="DIR", help="folder to write to (default: INPUT_explained)")
    windows = parser.add_argument_group("windows, for what is too long or too big for one pass")
    windows.add_argument(
        "--window", nargs="+", type=_count, metavar="N",
        help="of frames (default: 16), or along each axis of an image or volume (default: all)",
    )  # fmt: skip
    windows.add_argument("--stride", nargs="+", type=_count, metavar="N",
        help="from window to window (default: half a window)")  # fmt: skip
    windows.add_argument("--batch-size", type=_count, default=4, metavar="N",
        help="windows at once (default: 4)")  # fmt: skip
    video = parser.add_argument_group("videos")
    video.add_argument("--boundaries", type=_boundaries, metavar="auto|none|F,F",
        help="the first frames of scenes, which no window crosses (default: auto, found by frame "
        "differences)")  # fmt: skip
    video.add_argument("--overlay", choices=("mp4", "gif", "none"),
        help="the video with the map over it (default: mp4)")  # fmt: skip
    volumes = parser.add_argument_group("volumes, prepared in this order")
    volumes.add_argument("--series", metavar="UID", help="which of several DICOM series")
    volumes.add_argument("--orientation", metavar="CODES",
        help="where D, H and W grow to, as SPL: slices from the feet up")  # fmt: skip
    volumes.add_argument("--spacing", nargs="+", type=float, metavar="MM",
        help="one number, or D H W: resample to voxels of this size")  # fmt: skip
    volumes.add_argument("--clip", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="values below and above become these; black and white of the figures")  # fmt: skip
    volumes.add_argument("--normalize", choices=("none", "unit", "zscore"),
        help="unit: to [0, 1] from the lowest (or LOW) to the highest value; zscore: to mean 0, "
        "deviation 1 (default: none)")  # fmt: skip
    _add_common(parser)


def _add_layers(commands: Any) -> None:
    parser = _command(
        commands,
        "layers",
        "list the layers worth choosing",
        "Runs the model once or twice on random numbers. One layer is marked at the end of each "
        "resolution, after a ReLU where there is one. The receptive size is an estimate: where "
        "the gradient of a layer's middle place is not zero in that input.",
    )
    _add_model(parser)
    parser.add_argument(
        "--input-size", nargs="+", type=_count, required=True, metavar="N",
        help="of one sample: C and its spatial axes, as 3 16 112 112",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="list the layers inside of these too")
    _add_common(parser)


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "score methods against boxes of a dataset",
        "Prints a table with confidence intervals, beside boxes that look at nothing.",
    )
    add = parser.add_argument
    add("dataset", choices=DATASETS, metavar="DATASET",
        help=f"{', '.join(DATASETS)}; actions are synthetic and drawn anew")  # fmt: skip
    _add_model(parser)
    add("--layers", nargs="+", action="append", metavar="NAME",
        help="a set of layers; once for each set. By default the model's LAYERS")  # fmt: skip
    add("--methods", nargs="+", type=_one_of(METHODS), default=["GlobalLocal"], metavar="METHOD",
        help=f"of {', '.join(METHODS)} (default: GlobalLocal)")  # fmt: skip
    _add_fusion(parser)
    _add_preparation(parser, 2, "H W of the frames that the model is given")
    add("--target", choices=("label", "predicted"), default="label",
        help="the class to explain: the true one, or the model's (default: label)")  # fmt: skip
    add("--limit", type=_count, metavar="N",
        help="so many samples, spread over the dataset (default: all; 64 actions)")  # fmt: skip
    add("--root", type=Path, help="the dataset's folder; all but actions need it")
    add("--images", type=Path, help="ilsvrc: the pictures' folder, if not under the root")
    add("--subset", choices=("train", "test"), help="jhmdb, ucf24 (default: test)")
    add("--split", type=int, choices=(1, 2, 3), help="jhmdb (default: 1)")
    add("--seed", type=int, help="actions (default: 0)")
    add("--output", type=Path, metavar="FILE", help="write the JSON to this file too")
    add("--resume", type=Path, metavar="DIR",
        help="keep every finished sample here, and go on from what is here")  # fmt: skip
    _add_common(parser)


# ------------------------------------------------------------------------------ shared options


def _command(commands: Any, name: str, says: str, more: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=says, description=f"{says[0].upper()}{says[1:]}. {more}", epilog=_EXIT_CODES
    )
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="WHERE:NAME",
        help="package.module:callable or path/to/file.py:callable, which returns the model (or is "
        "it); its code is run")  # fmt: skip
    add("--model-args", type=_json_object, default={}, metavar="JSON",
        help="""arguments of the callable, as '{"num_classes": 5}'""")  # fmt: skip
    add("--checkpoint", type=Path, metavar="FILE", help="weights to load; nothing in it is run")
    add("--device", default="cpu", help="of torch, as cuda (default: cpu)")


def _add_fusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fusion", choices=FUSIONS, help="of the layers' maps (default: sum)")


def _add_preparation(parser: argparse.ArgumentParser, count: Any, size: str) -> None:
    group = parser.add_argument_group("what the model is given, instead of its PREPROCESSING")
    add = group.add_argument
    add("--size", nargs=count, type=_count, metavar="N", help=size)
    add("--scale", type=float, help="RGB in [0, 1] is multiplied by this (default: 1)")
    add("--mean", nargs=3, type=float, metavar=("R", "G", "B"),
        help="and this taken off then (default: 0 0 0)")  # fmt: skip


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON, and nothing else, to the output")
    add("--quiet", action="store_true", help="no progress bars")
    add("--debug", action="store_true", help="show where an error comes from")


# ------------------------------------------------------------------------------------- values


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer, 1 or more; got {text!r}")
    return int(text)


def _one_of(known: Iterable[str]) -> Callable[[str], str]:
    """One of the names, written in small or capital letters."""
    names = {name.casefold(): name for name in known}

    def choose(text: str) -> str:
        if text.casefold() not in names:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not known; choose from {', '.join(known)}"
            )
        return names[text.casefold()]

    return choose


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(
            f"expected a JSON object of arguments by name; got {text!r}"
        )
    return found


def _target(text: str) -> Target:
    if text == "each":
        return Target(each=True)
    if top := re.fullmatch("top([1-9][0-9]{0,3})", text):
        return Target(top=int(top[1]))
    if re.fullmatch("[0-9]+", text):
        return Target(index=int(text))
    if re.fullmatch("-?[0-9]+(,-?[0-9]+)+", text):
        return Target(index=tuple(map(int, text.split(","))))
    return Target(name=text)


def _boundaries(text: str) -> str | list[int]:
    if text in ("auto", "none"):
        return text
    found = (
        [int(part) for part in text.split(",")] if re.fullmatch("[0-9]+(,[0-9]+)*", text) else []
    )
    if not found or found != sorted(set(found)) or found[0] < 1:
        raise argparse.ArgumentTypeError(
            f"expected auto, none, or the first frames of scenes in order, as 120,345; got {text!r}"
        )
    return found
