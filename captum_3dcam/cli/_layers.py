"""``captum-3dcam layers``: print the survey of a model's layers."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

import torch

from captum_3dcam.cli._errors import FailedError, UsageError, usage_errors
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import shows_progress, to_json
from captum_3dcam.layer_survey import LayerInfo, survey_layers
from captum_3dcam.layers import Layer

_SAMPLES = 2  # their receptive fields are joined


def run(options: Namespace) -> None:
    """Print the layers as a table or JSON, with what to pass as ``--layers``."""
    layers = _survey(options)
    if options.json:
        report = {
            "model": options.model,
            "input_size": options.input_size,
            "layers": [{**asdict(layer), "warnings": layer.warnings} for layer in layers],
            "advice": advice(layers),
        }
        print(to_json(report))
    else:
        print("\n".join([*table(layers), "", *advice(layers)]))


def _survey(options: Namespace) -> list[LayerInfo]:
    """The survey on random inputs."""
    size = options.input_size
    if len(size) < 2:
        raise UsageError(f"--input-size {size[0]}: expected C and at least one spatial axis.")
    model = load_model(options)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_SAMPLES, *size, generator=generator).to(options.device)
    try:
        with usage_errors(f"--input-size {' '.join(map(str, size))}: "):
            progress = shows_progress(options)
            return survey_layers(model, inputs, nested=options.all, progress=progress)
    except RuntimeError as error:  # it names the error of the model
        raise FailedError(str(error)) from error


def table(layers: Sequence[LayerInfo]) -> list[str]:
    """The lines of a table, with a star before each recommended layer."""
    rows = [["", "layer", "type", "output", "receptive field", "why"]]
    for layer in layers:
        field = (">= " if layer.receptive_field_clipped else "") + _by(layer.receptive_field)
        output = _by(layer.output_shape) + (f" of {layer.layout}" if layer.layout else "")
        star = "*" if layer.recommended else ""
        rows.append([star, layer.name, layer.type, output, field, layer.reason])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def advice(layers: Sequence[LayerInfo]) -> list[str]:
    """What to pass as ``--layers``, and the warnings about it, one line each."""
    recommended = [layer for layer in layers if layer.recommended]
    names_by_warning: dict[str, list[str]] = {}
    for layer in recommended:
        for warning in layer.warnings:
            names_by_warning.setdefault(warning, []).append(layer.name)
    return [
        *_arguments(recommended),
        *(f"{', '.join(names)}: {warning}" for warning, names in names_by_warning.items()),
    ]


def _arguments(recommended: Sequence[LayerInfo]) -> list[str]:
    """The recommended layers, for the command line and, if a name does not suffice, in Python."""
    layers = [layer.layer for layer in recommended]
    if all(layer == Layer(layer.module) for layer in layers):
        return [f"--layers {' '.join(layer.name for layer in recommended)}"]
    return ["--layers auto", f"layers=[{', '.join(map(_code, layers))}]"]


def _code(layer: Layer) -> str:
    """The layer as an expression of Python."""
    options = {"layout": layer.layout, "index": layer.index, "calls": layer.calls}
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"Layer({', '.join([repr(layer.module), *given])})" if given else repr(layer.module)


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "-"
