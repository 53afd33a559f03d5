"""``captum-3dcam evaluate``: score methods and layers against the boxes of a dataset."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._files import write_text
from captum_3dcam.cli._model import choose_layers, load_model, own_layers
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.cli._parser import WITHOUT_FUSION
from captum_3dcam.cli._preprocessing import of_frames
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization, SyntheticActions
from captum_3dcam.evaluation import AnnotatedSamples, Attribution, evaluate
from captum_3dcam.evaluation._processes import process_group
from captum_3dcam.explanation._methods import find_layers, make_cam, resolve_method
from captum_3dcam.explanation._preprocessing import frame_preprocessing
from captum_3dcam.models import Preprocessing

_ACTIONS = 64  # default number of clips
_DATASETS_OF_OPTION = {
    "root": ("jhmdb", "ucf24", "ilsvrc"),
    "images": ("ilsvrc",),
    "subset": ("jhmdb", "ucf24"),
    "split": ("jhmdb",),
    "seed": ("actions",),
}
"""The datasets of the options that are not for all of them."""


DATASETS: Mapping[str, Callable[[Namespace], Any]] = {
    "actions": lambda options: SyntheticActions(options.limit or _ACTIONS, seed=options.seed or 0),
    "jhmdb": lambda options: JHMDB(options.root, options.subset or "test", options.split or 1),
    "ucf24": lambda options: UCF101_24(options.root, options.subset or "test", annotated_only=True),
    "ilsvrc": lambda options: ILSVRCLocalization(options.root, options.images),
}


def run(options: Namespace) -> None:
    """Evaluate, and print the table or JSON."""
    _check_options(options)
    dataset = DATASETS[options.dataset](options)
    model = load_model(options)
    attributions = _attributions(model, options)
    preprocess = frame_preprocessing(of_frames(options, model), model)
    if not isinstance(preprocess, Preprocessing):
        raise ArgumentError(
            "evaluate scales boxes as it resizes frames, which needs a model whose PREPROCESSING "
            f"is a captum_3dcam.models.Preprocessing; it is of type {type(preprocess).__name__}."
        )
    if preprocess.crop is not None:
        raise ArgumentError(
            f"evaluate needs whole frames, and the preprocessing crops them to {preprocess.crop}: "
            "no map has what the network did not see. Pass --size H W."
        )
    with process_group() as is_first:
        evaluation = evaluate(
            attributions,
            _samples(dataset, preprocess, model, options),
            device=options.device,
            checkpoint=options.resume,
            faithfulness=options.faithfulness,
            progress=shows_progress(options),
        )
    if not is_first:  # all processes have the same result
        return
    text = evaluation.to_json().rstrip()
    if options.output is not None:
        write_text(options.output, text)
    print(text if options.json else evaluation.table())


def _check_options(options: Namespace) -> None:
    for name, datasets in _DATASETS_OF_OPTION.items():
        if getattr(options, name) is not None and options.dataset not in datasets:
            raise ArgumentError(
                f"--{name} is for {', '.join(datasets)}; not for {options.dataset}."
            )
    if options.dataset in _DATASETS_OF_OPTION["root"] and options.root is None:
        raise ArgumentError(f"{options.dataset} needs --root, the dataset's folder.")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise ArgumentError(f"--output: there is no folder {str(options.output.parent)!r}.")
    if options.output is not None and options.output.is_dir():
        raise ArgumentError(f"--output {options.output}: a folder of that name exists.")


def _attributions(model: nn.Module, options: Namespace) -> dict[str, Attribution]:
    """Each method over each set of layers, by the title of its row."""
    if options.fusion is not None and set(options.methods) <= set(WITHOUT_FUSION):
        names = ", ".join(options.methods)
        raise ArgumentError(f"{names} has its own fusion of the layers: omit --fusion.")
    attributions: dict[str, Attribution] = {}
    for names in options.layers or [list(own_layers(model)) or ["auto"]]:
        layers = find_layers(model, choose_layers(model, names))
        for method in options.methods:
            fusion = None if method in WITHOUT_FUSION else options.fusion
            title = method if fusion is None else f"{method} ({fusion})"
            cam = make_cam(model, layers, resolve_method(method), fusion)
            attributions[f"{title}: {'+'.join(names)}"] = cam
    return attributions


def _samples(
    dataset: Any, preprocess: Preprocessing, model: nn.Module, options: Namespace
) -> AnnotatedSamples:
    with argument_errors():
        return AnnotatedSamples(
            dataset,
            preprocess,
            options.limit,
            predict=model if options.target == "predicted" else None,
            progress=options.dataset == "jhmdb" and shows_progress(options),
        )
