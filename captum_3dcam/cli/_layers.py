"""``captum-3dcam layers``: print the survey of a model's layers."""

from argparse import Namespace
from dataclasses import asdict

import torch

from captum_3dcam._errors import ArgumentError, ModelError, argument_errors
from captum_3dcam._json import to_json
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.layer_survey import LayerInfo, format_advice, format_table, survey_layers

_SAMPLES = 2  # their receptive fields are joined


def run(options: Namespace) -> None:
    """Print the layers as a table or JSON, with what to pass as ``--layers``."""
    layers = _survey(options)
    if options.json:
        report = {
            "model": options.model,
            "input_size": options.input_size,
            "layers": [{**asdict(layer), "warnings": layer.warnings} for layer in layers],
            "advice": format_advice(layers),
        }
        print(to_json(report))
    else:
        print("\n".join([*format_table(layers), "", *format_advice(layers)]))


def _survey(options: Namespace) -> list[LayerInfo]:
    """The survey on random inputs."""
    size = options.input_size
    if len(size) < 2:
        raise ArgumentError(f"--input-size {size[0]}: expected C and at least one spatial axis.")
    model = load_model(options)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_SAMPLES, *size, generator=generator).to(options.device)
    try:
        with argument_errors(f"--input-size {' '.join(map(str, size))}: "):
            progress = shows_progress(options)
            return survey_layers(model, inputs, nested=options.all, progress=progress)
    except RuntimeError as error:  # it names the error of the model
        raise ModelError(str(error)) from error
