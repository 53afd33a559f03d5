"""``captum-3dcam evaluate``: score methods and layers against the boxes of a dataset."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam.cli._errors import UsageError
from captum_3dcam.cli._model import choose_layers, load_model, make_cam, make_preprocessing
from captum_3dcam.cli._output import shows_progress, write_text
from captum_3dcam.cli._parser import WITHOUT_FUSION
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization, SyntheticActions
from captum_3dcam.evaluation import Attribution, Sample, evaluate, evenly_spaced, prepare_sample
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
    preprocess = make_preprocessing(model, options)
    if not isinstance(preprocess, Preprocessing):
        raise UsageError(
            "evaluate scales boxes as it resizes frames, which needs a model whose PREPROCESSING "
            f"is a captum_3dcam.models.Preprocessing; it is of type {type(preprocess).__name__}."
        )
    if preprocess.crop is not None:
        raise UsageError(
            f"evaluate needs whole frames, and the preprocessing crops them to {preprocess.crop}: "
            "no map has what the network did not see. Pass --size H W."
        )
    evaluation = evaluate(
        attributions,
        _Samples(dataset, preprocess, model, options),
        device=options.device,
        checkpoint=options.resume,
        progress=shows_progress(options),
    )
    text = evaluation.to_json().rstrip()
    if options.output is not None:
        write_text(options.output, text)
    print(text if options.json else evaluation.table())


def _check_options(options: Namespace) -> None:
    for name, datasets in _DATASETS_OF_OPTION.items():
        if getattr(options, name) is not None and options.dataset not in datasets:
            raise UsageError(f"--{name} is for {', '.join(datasets)}; not for {options.dataset}.")
    if options.dataset in _DATASETS_OF_OPTION["root"] and options.root is None:
        raise UsageError(f"{options.dataset} needs --root, the dataset's folder.")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise UsageError(f"--output: there is no folder {str(options.output.parent)!r}.")
    if options.output is not None and options.output.is_dir():
        raise UsageError(f"--output {options.output}: a folder of that name exists.")


def _attributions(model: nn.Module, options: Namespace) -> dict[str, Attribution]:
    """Each method over each set of layers, by the title of its row."""
    if options.fusion is not None and set(options.methods) == {WITHOUT_FUSION}:
        raise UsageError(f"{WITHOUT_FUSION} has its own fusion of the layers: omit --fusion.")
    attributions: dict[str, Attribution] = {}
    for names in options.layers or [None]:
        layers = choose_layers(model, names)
        for method in options.methods:
            fusion = None if method == WITHOUT_FUSION else options.fusion
            title = method if fusion is None else f"{method} ({fusion})"
            attributions[f"{title}: {'+'.join(layers)}"] = make_cam(model, layers, method, fusion)
    return attributions


class _Samples:
    """The samples of a dataset that have a box, preprocessed."""

    def __init__(
        self, dataset: Any, preprocess: Preprocessing, model: nn.Module, options: Namespace
    ) -> None:
        self.dataset, self.preprocess = dataset, preprocess
        self.model, self.options = model, options
        indices = tqdm(
            evenly_spaced(len(dataset), options.limit),
            desc="finding boxes",
            disable=options.dataset != "jhmdb" or not shows_progress(options),
        )
        self.indices = [index for index in indices if self._has_box(index)]
        if not self.indices:
            raise UsageError(f"None of the {len(dataset)} samples of {options.dataset} has a box.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        annotated = self.dataset[self.indices[index]]
        sample = prepare_sample(annotated, self.preprocess, target=0)
        return sample._replace(target=self._target(annotated, sample.inputs))

    def _target(self, annotated: Any, inputs: Tensor) -> int:
        if self.options.target == "predicted":
            with torch.no_grad():
                return int(self.model(inputs[None].to(self.options.device)).argmax())
        return int(annotated.labels[0] if hasattr(annotated, "labels") else annotated.label)

    def _has_box(self, index: int) -> bool:
        if self.options.dataset == "ilsvrc":
            return len(self.dataset.annotation(index).boxes) > 0
        if self.options.dataset == "jhmdb":
            return not self.dataset[index].boxes.isnan().any(dim=-1).all()
        return True  # UCF101-24 is restricted to those with boxes, and each action has one
