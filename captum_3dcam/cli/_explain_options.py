"""What ``explain`` has in common for one input and for many: arguments, precision, the report."""

import shlex
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_3dcam._errors import argument_errors
from captum_3dcam.cli._model import choose_layers
from captum_3dcam.cli._parser import PROGRAM
from captum_3dcam.explanation import Explanation, Reading, Windows
from captum_3dcam.io import Sampling

_NAMING = {
    "input": "INPUT",
    "inputs": "INPUT",
    "output": "DIR",
    "output_root": "DIR",
    "series": "N",
    "channel_files": "FILE",
}
"""The options that may have a patient's name, or lead to it, and what stands for them."""
_HIDDEN = ("inputs", "json", "debug", "arguments", "command", "resume", "page")


def explain_arguments(options: Namespace, model: nn.Module) -> dict[str, Any]:
    """Those of :func:`captum_3dcam.explain` that do not depend on the kind of input."""
    stride = options.stride and tuple(options.stride)
    with argument_errors():
        sampling = Sampling(options.frames, options.every, options.start or 0.0, options.end)
        windows = Windows(
            options.window and tuple(options.window),
            stride[0] if stride and len(stride) == 1 else stride,
            options.batch_size,
            options.boundaries or "auto",
        )
    return {
        "layers": choose_layers(model, options.layers),
        "method": options.method,
        "fusion": options.fusion,
        "compare": options.compare,
        "per_layer": options.per_layer,
        "class_names": options.classes,
        "returns": options.returns,
        "input_layout": options.input_layout,
        "sampling": sampling,
        "reading": Reading(
            options.fps, options.series, options.index, options.channel_files or (), options.nan
        ),
        "windows": windows,
    }


def precision(options: Namespace) -> AbstractContextManager[Any]:
    """Autocast to the number format of ``--precision``."""
    if options.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(options.device).type, getattr(torch, options.precision))


def with_options(explanation: Explanation, options: Namespace) -> Explanation:
    """The explanation with what the command line knows of the model and the settings."""
    hidden = (*_HIDDEN, *(() if options.keep_names else _NAMING))
    model = {
        "name": options.model,
        "arguments": options.model_args,
        "checkpoint": options.checkpoint and str(options.checkpoint),
        "preprocessing": explanation.model["preprocessing"],
    }
    settings = {key: value for key, value in vars(options).items() if key not in hidden}
    return replace(explanation, model=model, settings=settings)


def command_text(options: Namespace) -> str:
    """The command, without the names that the report must not have."""
    return shlex.join([PROGRAM, *_arguments(options)])


def _arguments(options: Namespace) -> list[str]:
    if options.keep_names:
        return list(options.arguments)
    names: dict[str, str] = {}
    for option, stand_in in _NAMING.items():
        values: Any = getattr(options, option, None)
        several = values if isinstance(values, list) else [values]
        several = [str(value) for value in several if value is not None]
        names |= {value: stand_in for value in several if not value.isdecimal()}
    return [_without_names(argument, names) for argument in options.arguments]


def _without_names(argument: str, names: dict[str, str]) -> str:
    option, equals, value = argument.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={_without_names(value, names)}"
    return names.get(str(Path(argument)), names.get(argument, argument))
