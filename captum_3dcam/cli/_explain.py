"""``captum-3dcam explain``: the options as arguments of ``explain``, and the files it writes."""

from argparse import Namespace
from dataclasses import replace

from torch import nn

from captum_3dcam._errors import ArgumentError
from captum_3dcam.cli import _preprocessing as preprocessing
from captum_3dcam.cli._explain_many import explain_several
from captum_3dcam.cli._explain_options import (
    command_text,
    explain_arguments,
    precision,
    with_options,
)
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.explanation import Explanation, explain
from captum_3dcam.explanation._identity import fingerprint
from captum_3dcam.explanation._reading import find_kind
from captum_3dcam.explanation._report import summarize
from captum_3dcam.explanation._result_folder import default_folder, resolve_folder
from captum_3dcam.explanation._saving import save

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


def run(options: Namespace) -> None:
    """Explain the input, write the files, and print the report or a summary."""
    if options.output_root is not None:
        explain_several(options)
        return
    if len(options.inputs) > 1:
        raise ArgumentError(f"{len(options.inputs)} inputs: pass --output-root, a folder for all.")
    (options.input,) = options.inputs
    if not (options.resume and options.page):
        raise ArgumentError("--no-resume and --no-page are for many inputs, with --output-root.")
    kind = find_kind(options.input, options.kind)
    _check_options(options, kind)
    identity = fingerprint([options.input, *(options.channel_files or ())])
    folder = resolve_folder(options.output, default_folder(options.input, kind), identity)
    model = load_model(options)
    with precision(options):
        explanation = _explain(options, kind, model)
    command = command_text(options)
    files = save(explanation, folder, options.overlay or "mp4", command, shows_progress(options))
    if options.json:
        print(files["json"].read_text(encoding="utf-8").rstrip())
    else:
        print(summarize(explanation, [path.name for path in files.values()], folder))


def _explain(options: Namespace, kind: str, model: nn.Module) -> Explanation:
    of_kind = preprocessing.of_volumes if kind == "volume" else preprocessing.of_frames
    explanation = explain(
        model,
        options.input,
        options.target,
        preprocessing=of_kind(options, model),
        kind=kind,
        progress=shows_progress(options),
        **explain_arguments(options, model),
    )
    return _with_options(explanation, options)


def _with_options(explanation: Explanation, options: Namespace) -> Explanation:
    path = {"path": str(options.input)} if options.keep_names else {}
    return replace(with_options(explanation, options), facts={**path, **explanation.facts})


def _check_options(options: Namespace, kind: str) -> None:
    a_kind = f"{'an' if kind == 'image' else 'a'} {kind}"
    for name, kinds in _KINDS_OF_OPTION.items():
        if getattr(options, name) is not None and kind not in kinds:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{option} is for {' and '.join(kinds)} input; INPUT is {a_kind}.")
    if options.output is not None and options.output.resolve() == options.input.resolve():
        raise ArgumentError("--output is INPUT itself. Pass another folder.")
