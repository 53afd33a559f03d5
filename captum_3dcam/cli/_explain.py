"""``captum-3dcam explain``: the options as arguments of ``explain``, and the files it writes."""

import shlex
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam.cli import _preprocessing as preprocessing
from captum_3dcam.cli._model import choose_layers, load_model
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.cli._parser import PROGRAM
from captum_3dcam.explanation import Explanation, Reading, Windows, explain
from captum_3dcam.explanation._identity import fingerprint
from captum_3dcam.explanation._reading import find_kind
from captum_3dcam.explanation._report import summarize
from captum_3dcam.explanation._result_folder import default_folder, resolve_folder
from captum_3dcam.explanation._saving import save
from captum_3dcam.io import Sampling

_KINDS_OF_OPTION = {
    **dict.fromkeys(("start", "end", "every", "frames", "fps", "boundaries"), ("video",)),
    "overlay": ("video",),
    **dict.fromkeys(("index", "channel_files", "nan"), ("volume",)),
    "orientation": ("volume",),
    "spacing": ("volume",),
    "clip": ("volume",),
    "normalize": ("volume",),
    "crop": ("image", "video"),
    "mean": ("image", "video"),
    "std": ("image", "video"),
    "channels": ("image", "video"),
}
"""The kinds of input of the options that are not for all of them."""
_NAMING = {"input": "INPUT", "output": "DIR", "series": "N", "channel_files": "FILE"}
"""The options that may have a patient's name, or lead to it, and what stands for them."""
_HIDDEN = ("json", "debug", "arguments", "command")


def run(options: Namespace) -> None:
    """Explain the input, write the files, and print the report or a summary."""
    kind = find_kind(options.input, options.kind)
    _check_options(options, kind)
    identity = fingerprint([options.input, *(options.channel_files or ())])
    folder = resolve_folder(options.output, default_folder(options.input, kind), identity)
    explanation = _explain(options, kind, load_model(options))
    command = shlex.join([PROGRAM, *_arguments(options)])
    files = save(explanation, folder, options.overlay or "mp4", command, shows_progress(options))
    if options.json:
        print(files["json"].read_text(encoding="utf-8").rstrip())
    else:
        print(summarize(explanation, [path.name for path in files.values()], folder))


def _explain(options: Namespace, kind: str, model: nn.Module) -> Explanation:
    of_kind = preprocessing.of_volumes if kind == "volume" else preprocessing.of_frames
    stride = options.stride and tuple(options.stride)
    with argument_errors():
        sampling = Sampling(options.frames, options.every, options.start or 0.0, options.end)
        windows = Windows(
            options.window and tuple(options.window),
            stride[0] if stride and len(stride) == 1 else stride,
            options.batch_size,
            options.boundaries or "auto",
        )
    explanation = explain(
        model,
        options.input,
        options.target,
        layers=choose_layers(model, options.layers),
        method=options.method,
        fusion=options.fusion,
        compare=options.compare,
        per_layer=options.per_layer,
        preprocessing=of_kind(options, model),
        class_names=options.classes,
        returns=options.returns,
        input_layout=options.input_layout,
        kind=kind,
        sampling=sampling,
        reading=Reading(
            options.fps, options.series, options.index, options.channel_files or (), options.nan
        ),
        windows=windows,
        progress=shows_progress(options),
    )
    return _with_options(explanation, options)


def _with_options(explanation: Explanation, options: Namespace) -> Explanation:
    """The explanation with what the command line knows of the model and the settings."""
    hidden = (*_HIDDEN, *(() if options.keep_names else _NAMING))
    facts = explanation.facts
    return replace(
        explanation,
        facts={**({"path": str(options.input)} if options.keep_names else {}), **facts},
        model={
            "name": options.model,
            "arguments": options.model_args,
            "checkpoint": options.checkpoint and str(options.checkpoint),
            "preprocessing": explanation.model["preprocessing"],
        },
        settings={k: v for k, v in vars(options).items() if k not in hidden},
    )


def _arguments(options: Namespace) -> list[str]:
    """Those of the command, without the names that the report must not have."""
    if options.keep_names:
        return list(options.arguments)
    names: dict[str, str] = {}
    for option, stand_in in _NAMING.items():
        values: Any = getattr(options, option)
        several = values if isinstance(values, list) else [values]
        several = [str(value) for value in several if value is not None]
        names |= {value: stand_in for value in several if not value.isdecimal()}
    return [_without_names(argument, names) for argument in options.arguments]


def _without_names(argument: str, names: dict[str, str]) -> str:
    option, equals, value = argument.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={_without_names(value, names)}"
    return names.get(str(Path(argument)), names.get(argument, argument))


def _check_options(options: Namespace, kind: str) -> None:
    a_kind = f"{'an' if kind == 'image' else 'a'} {kind}"
    for name, kinds in _KINDS_OF_OPTION.items():
        if getattr(options, name) is not None and kind not in kinds:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{option} is for {' and '.join(kinds)} input; INPUT is {a_kind}.")
    if options.output is not None and options.output.resolve() == options.input.resolve():
        raise ArgumentError("--output is INPUT itself. Pass another folder.")
