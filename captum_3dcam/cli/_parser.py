"""The arguments of the commands, checked as far as possible without the model."""

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import captum_3dcam

PROGRAM = "captum-3dcam"

# What the package's modules name, again: importing them takes seconds, and --help needs the names.
METHODS = (
    "WhatWhere",
    "GlobalLocal",
    "Counterfactual",
    "GradCAM",
    "GradCAM++",
    "LayerCAM",
    "HiResCAM",
    "XGradCAM",
    "GradCAMElementWise",
    "EigenCAM",
    "EigenGradCAM",
    "KPCACAM",
    "FEM",
    "ScoreCAM",
    "AblationCAM",
    "ShapleyCAM",
    "Extent",
    "Rival",
)
WITHOUT_FUSION = ("WhatWhere", "Extent", "Rival")
RETURNS = ("logits", "probabilities", "values")
FUSIONS = ("sum", "mean", "max", "product", "geometric_mean")
FRAME_PRESETS = ("none", "imagenet", "inception", "kinetics", "pytorchvideo")
VOLUME_PRESETS = ("ct-brain", "ct-lung", "ct-soft-tissue", "ct-bone")
CHANNELS = (1, 3)
PRECISIONS = ("float32", "bfloat16", "float16")
DATASETS = ("actions", "jhmdb", "ucf24", "ilsvrc")
FAITHFULNESS = (
    "deletion",
    "insertion",
    "road",
    "average_drop",
    "increase_in_confidence",
    "coherency",
    "complexity",
    "adcc",
)

_ASPECT = "one number: the length of the shorter side of frames"
_MAX_SHOWN = 200  # characters of an argument in a message
_EXIT_CODES = (
    "exit codes: 0 success, 1 failure, 2 wrong use, 130 interrupted, 141 output not read, "
    "143 terminated"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` is the one chosen."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Class activation maps from all depths of 2D and 3D convolutional networks.",
        epilog=f"{_EXIT_CODES}; see also COMMAND --help",
    )
    version = f"{PROGRAM} {captum_3dcam.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_layers(commands)
    _add_evaluate(commands)
    return parser


# ----------------------------------------------------------------------------------- commands


def _add_explain(commands: Any) -> None:
    parser = _add_command(commands, "explain", "explain an image, a video of any length, or a scan",
        "Writes a report that opens in a browser (report.html), the map (map.npz), figures, the "
        "overlay of a video, the map of a scan on the scan's own grid (as NIfTI, or in its "
        "format), and report.json, to a folder.")  # fmt: skip
    add = parser.add_argument
    add("inputs", metavar="INPUT", type=_path, nargs="+",
        help="image, video, scan (NIfTI, MGH, NRRD, MetaImage), DICOM file or folder; with "
        "--output-root many of them, a folder, a pattern, or a CSV with the columns path, target "
        "and group")  # fmt: skip
    _add_model(parser)
    add("--layers", nargs="+", metavar="NAME",
        help="to explain, or auto (default: the model's LAYERS, or auto)")  # fmt: skip
    add("--method", type=_method, choices=METHODS, default="WhatWhere", metavar="METHOD",
        help=f"{', '.join(METHODS)} (default: WhatWhere)")  # fmt: skip
    add("--compare", nargs="+", type=_method, choices=METHODS, default=[], metavar="METHOD",
        help="more methods, from the same forward and backward pass")  # fmt: skip
    add("--per-layer", action="store_true", help="the map of each layer too")
    _add_fusion(parser)
    add("--target", default="top1", metavar="TARGET",
        help="a class index or name; top3: the three highest classes; each: the highest class of "
        "each window; a,b,c: an index into an output with more axes (default: top1)")  # fmt: skip
    add("--classes", type=_path, metavar="FILE", help="class names: one per line, or CSV or JSON")
    add("--returns", choices=RETURNS, default="logits",
        help="by the model; values are those of a regression (default: logits)")  # fmt: skip
    add("--input-layout", metavar="AXES", help="of the model, as 'N T C H W' with frames first")
    _add_preprocessing(parser, (*FRAME_PRESETS, *VOLUME_PRESETS),
        f"H W of frames or D H W of volumes, as the model input; {_ASPECT}")  # fmt: skip
    add("--output", type=_path, metavar="DIR",
        help="folder to write to (default: INPUT_explained; of a scan or DICOM, whose name may be "
        "a patient's, scan_explained)")  # fmt: skip
    add("--output-root", type=_path, metavar="DIR",
        help="explain each of many inputs into a folder of its own in DIR, with summary.csv and "
        "index.html; started again it resumes, and started several times the processes share the "
        "inputs")  # fmt: skip
    add("--no-resume", action="store_false", dest="resume",
        help="explain again what is done")  # fmt: skip
    add("--no-page", action="store_false", dest="page",
        help="of many, write maps and report.json alone, without report.html")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="float32",
        help="of the model where it can be lower, by autocast (default: float32)")  # fmt: skip
    add("--kind", choices=("image", "video", "volume"),
        help="what INPUT is (default: what its content says)")  # fmt: skip
    add("--keep-names", action="store_true",
        help="write INPUT's path into the report and the map")  # fmt: skip
    add = parser.add_argument_group("windows, for inputs too large for one pass").add_argument
    add("--window", nargs="+", type=_count, metavar="N",
        help="frames (default: 16), or size along each axis of an image or volume (default: the "
        "whole input)")  # fmt: skip
    add("--stride", nargs="+", type=_count, metavar="N", help="step (default: half a window)")
    add("--batch-size", type=_count, default=4, metavar="N",
        help="windows, or images of many, at once (default: 4)")  # fmt: skip
    add = parser.add_argument_group("videos").add_argument
    add("--start", type=float, metavar="S", help="first second to explain (default: 0)")
    add("--end", type=float, metavar="S", help="where to stop, in seconds (default: the end)")
    add("--every", type=_count, metavar="N",
        help="every N-th frame (default: 1); in all results, frames are counted among those that "
        "are read, and seconds are the video's")  # fmt: skip
    add("--frames", type=_count, metavar="N",
        help="so many: evenly spaced, or with --every the first ones (default: all)")  # fmt: skip
    add("--fps", type=float, metavar="F",
        help="frames per second of a folder of images, or another input without times "
        "(default: 25)")  # fmt: skip
    add("--boundaries", type=_boundaries, metavar="auto|none|F,F",
        help="first frames of scenes, which no window crosses (default: auto)")  # fmt: skip
    add("--overlay", choices=("mp4", "gif", "none"),
        help="format of the video with the map over it (default: mp4)")  # fmt: skip
    add = parser.add_argument_group("volumes, preprocessed in this order").add_argument
    add("--series", metavar="N",
        help="the DICOM series, if there are several, by its number in the list of the error, or "
        "its SeriesInstanceUID")  # fmt: skip
    add("--index", type=_index, metavar="N|all",
        help="the volume of a 4D file, from 0; all: its volumes as channels (default: all if the "
        "first convolution has as many channels)")  # fmt: skip
    add("--channel-files", nargs="+", type=_path, metavar="FILE",
        help="scans on the grid of INPUT, the channels after its own")  # fmt: skip
    add("--nan", type=_finite, metavar="VALUE",
        help="replace NaN and infinite voxels (default: an error)")  # fmt: skip
    add("--orientation", metavar="CODES", help="directions of D, H and W, such as SPL")
    add("--spacing", nargs="+", type=float, metavar="MM",
        help="voxel size to resample to: one number, or D H W")  # fmt: skip
    add("--clip", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="clip the values to this range, black to white in the figures")  # fmt: skip
    add("--normalize", choices=("none", "unit", "zscore"),
        help="of each channel: unit: the range (or LOW HIGH) to [0, 1]; zscore: to mean 0 and "
        "standard deviation 1 (default: none)")  # fmt: skip
    _add_common(parser)


def _add_layers(commands: Any) -> None:
    parser = _add_command(commands, "layers", "list the layers of a model and recommend some",
        "Runs the model on random inputs, and recommends the last layer at each resolution, after "
        "a ReLU if there is one. Receptive fields are estimated from input gradients.")  # fmt: skip
    _add_model(parser)
    parser.add_argument("--input-size", nargs="+", type=_count, required=True, metavar="N",
        help="of one sample: C and its spatial axes, such as 3 16 112 112")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="also list the layers inside of these")
    _add_common(parser)


def _add_evaluate(commands: Any) -> None:
    parser = _add_command(commands, "evaluate", "score methods against the boxes of a dataset",
        "Prints a table with confidence intervals and baselines.")  # fmt: skip
    add = parser.add_argument
    add("dataset", choices=DATASETS, metavar="DATASET",
        help=f"{', '.join(DATASETS)}; actions are synthetic")  # fmt: skip
    _add_model(parser)
    add("--layers", nargs="+", action="append", metavar="NAME",
        help="a set; repeat for more (default: the model's LAYERS, else auto)")  # fmt: skip
    add("--methods", nargs="+", type=_method, choices=METHODS, default=["GlobalLocal"],
        metavar="METHOD", help=f"{', '.join(METHODS)} (default: GlobalLocal)")  # fmt: skip
    _add_fusion(parser)
    _add_preprocessing(parser, FRAME_PRESETS, f"H W of the frames, as the model input; {_ASPECT}")
    add("--target", choices=("label", "predicted"), default="label",
        help="the class to explain: the label's or the predicted one (default: label)")  # fmt: skip
    add("--faithfulness", nargs="+", choices=FAITHFULNESS, default=[], metavar="SCORE",
        help=f"also {', '.join(FAITHFULNESS)}, by many forward passes per map")  # fmt: skip
    add("--limit", type=_count, metavar="N",
        help="number of samples, evenly spaced (default: all; 64 actions)")  # fmt: skip
    add("--root", type=_path, help="the dataset's folder, needed by all but actions")
    add("--images", type=_path, help="ilsvrc: the folder of the images, if not under the root")
    add("--subset", choices=("train", "test"), help="jhmdb, ucf24 (default: test)")
    add("--split", type=int, choices=(1, 2, 3), help="jhmdb (default: 1)")
    add("--seed", type=int, help="actions (default: 0)")
    add("--output", type=_path, metavar="FILE", help="also write the JSON to this file")
    add("--resume", type=_path, metavar="DIR",
        help="store each finished sample in this folder, and resume from it")  # fmt: skip
    _add_common(parser)


# ------------------------------------------------------------------------------ shared options


def _add_command(commands: Any, name: str, summary: str, more: str) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}. {more}"
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, epilog=_EXIT_CODES
    )
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="MODULE:NAME",
        help="package.module:callable or path/to/file.py:callable, which returns the model, or the "
        "model itself; its code is run")  # fmt: skip
    add("--model-args", type=_json_object, default={}, metavar="JSON",
        help="""keyword arguments of the callable, such as '{"num_classes": 5}'""")  # fmt: skip
    add("--checkpoint", type=_path, metavar="FILE", help="weights to load; no code in it is run")
    add("--device", default="auto",
        help="PyTorch device; auto: a GPU if there is one, each local process its own (default: "
        "auto)")  # fmt: skip


def _add_fusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fusion", choices=FUSIONS, help="of the layers' maps (default: sum)")


def _add_preprocessing(parser: argparse.ArgumentParser, presets: Sequence[str], size: str) -> None:
    group = parser.add_argument_group(
        "preprocessing, (x / 255 - mean) / std, instead of that in the model's PREPROCESSING"
    )
    add = group.add_argument
    add("--preprocessing", choices=presets, metavar="NAME", help=", ".join(presets))
    add("--size", nargs="+", type=_count, metavar="N", help=size)
    add("--crop", nargs="+", type=_count, metavar="N",
        help="H W of the centre that is kept after resizing, or one number for a square; the map "
        "is 0 outside of it")  # fmt: skip
    add("--mean", nargs="+", type=float, metavar="M",
        help="of R, G and B in [0, 1], or one for all (default: 0)")  # fmt: skip
    add("--std", nargs="+", type=float, metavar="S",
        help="likewise; 0.00392 for a network of values from 0 to 255 (default: 1)")  # fmt: skip
    add("--channels", type=int, choices=CHANNELS,
        help="3: RGB; 1: grey (default: as the first convolution)")  # fmt: skip


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON to the standard output, and nothing else")
    add("--quiet", action="store_true", help="show no progress bars")
    add("--debug", action="store_true", help="show the traceback of an error")


# ------------------------------------------------------------------------------ argument types


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer, 1 or more; received {text!r}")
    return int(text)


def _index(text: str) -> int | str:
    if text == "all":
        return text
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"expected an integer from 0, or all; received {text!r}")
    return int(text)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number; received {text!r}")
    return value


def _path(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError("expected a path; received ''")
    return Path(text)


def _method(text: str) -> str:
    """The method of that name in any case, with or without hyphens."""
    plain = text.casefold().replace("-", "")
    return next((name for name in METHODS if name.casefold() == plain), text)


def _json_object(text: str) -> dict[str, Any]:
    shown = repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}..."
    try:
        value = json.loads(text)
        json.dumps(value, indent=2, allow_nan=False)  # as the report will
    except RecursionError as error:
        raise argparse.ArgumentTypeError(f"{shown} is nested too deeply") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object; received {shown}")
    return value


def _boundaries(text: str) -> str | list[int]:
    if text in ("auto", "none"):
        return text
    frames = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if frames[0] < 1 or frames != sorted(set(frames)):
        raise argparse.ArgumentTypeError(
            "expected auto, none, or the first frames of scenes in ascending order, such as "
            f"120,345; received {text!r}"
        )
    return frames
