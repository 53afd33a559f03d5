"""``captum-3dcam explain --output-root``: many inputs."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from torch import nn

from captum_3dcam._errors import ArgumentError, FailedInputsError
from captum_3dcam.cli import _preprocessing as preprocessing
from captum_3dcam.cli._explain_options import (
    command_text,
    explain_arguments,
    precision,
    with_options,
)
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.explanation._recipe import Options, Recipe
from captum_3dcam.explanation.many import Outcomes
from captum_3dcam.explanation.many._inputs import list_items
from captum_3dcam.explanation.many._run import Results, Run

_MAKERS = {
    "image": preprocessing.of_frames,
    "video": preprocessing.of_frames,
    "volume": preprocessing.of_volumes,
}


def explain_several(options: Namespace) -> None:
    """Explain the inputs, and print the summary; FailedInputsError if some of them failed."""
    if options.output is not None:
        raise ArgumentError("--output is for one input: --output-root is the folder of many.")
    inputs: Any = [str(path) for path in options.inputs]
    items = list_items(inputs[0] if len(inputs) == 1 else inputs, options.output_root)
    model = load_model(options)
    recipe = Recipe(
        model,
        Options(
            preprocessing=_by_kind(options, model),
            kind=options.kind,
            **explain_arguments(options, model),
        ),
    )
    results = Results(
        options.output_root,
        options.overlay or "mp4",
        options.keep_names,
        options.page,
        command_text(options),
        lambda explanation: with_options(explanation, options),
    )
    run = Run(recipe, items, options.target, results)
    with precision(options):
        _report(run.run(options.resume, shows_progress(options)), options)


def _by_kind(options: Namespace, model: nn.Module) -> dict[str, Any]:
    """The preprocessing of each kind that the options fit; ArgumentError if they fit none."""
    made = {kind: _made(make, options, model) for kind, make in _MAKERS.items()}
    fitting = {kind: each for kind, each in made.items() if not isinstance(each, ArgumentError)}
    if not fitting:
        raise made["image"]
    return fitting


def _made(make: Callable[..., Any], options: Namespace, model: nn.Module) -> Any:
    try:
        return make(options, model)
    except ArgumentError as error:
        return error


def _report(outcomes: Outcomes, options: Namespace) -> None:
    folder = options.output_root
    if options.json:
        print((folder / "summary.json").read_text(encoding="utf-8").rstrip())
    else:
        done = len(outcomes) - len(outcomes.failed)
        print(f"{done} of {len(outcomes)} inputs explained: see {folder / 'index.html'}")
    if outcomes.failed:
        first = outcomes.failed[0]
        raise FailedInputsError(
            f"{len(outcomes.failed)} of {len(outcomes)} inputs failed, the first with: "
            f"{first.error} All are in {folder / 'summary.csv'}."
        )
