"""``captum-3dcam layers``: print the survey of a model's layers."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

import torch

from captum_3dcam.cli._errors import FailedError, UsageError, usage_errors
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import shows_progress, to_json
from captum_3dcam.layer_survey import LayerInfo, survey_layers

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
    rows = [["", "layer", "type", "output", "receptive field"]]
    for layer in layers:
        field = (">= " if layer.receptive_field_clipped else "") + _by(layer.receptive_field)
        star = "*" if layer.recommended else ""
        rows.append([star, layer.name, layer.type, _by(layer.output_shape), field])
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
        f"--layers {' '.join(layer.name for layer in recommended)}",
        *(f"{', '.join(names)}: {warning}" for warning, names in names_by_warning.items()),
    ]


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "none"
