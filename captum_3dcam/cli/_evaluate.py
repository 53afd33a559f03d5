"""``captum-3dcam evaluate``: methods over layers against the boxes of a dataset."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from captum_3dcam.cli import _progress as progress
from captum_3dcam.cli._errors import WrongUseError
from captum_3dcam.cli._model import load_model, make_cam, named_layers, preparation
from captum_3dcam.cli._parser import WITHOUT_FUSION
from captum_3dcam.cli._writing import write_text
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization, SyntheticActions
from captum_3dcam.evaluation import Attribution, Sample, evaluate, evenly, prepared_sample
from captum_3dcam.models import Preprocessing

_ACTIONS = 64  # clips, unless --limit says otherwise
_ONLY = {
    "root": ("jhmdb", "ucf24", "ilsvrc"),
    "images": ("ilsvrc",),
    "subset": ("jhmdb", "ucf24"),
    "split": ("jhmdb",),
    "seed": ("actions",),
}
"""Options of some datasets only."""


class Data(Protocol):
    """A dataset of RGB clips or pictures with boxes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def run(options: Namespace) -> None:
    """Evaluate, and print the table or JSON."""
    _check(options)
    data = DATASETS[options.dataset](options)
    model = load_model(options)
    attributions = _attributions(model, options)
    prepare = preparation(model, options)
    if not isinstance(prepare, Preprocessing):
        raise WrongUseError(
            "evaluate scales boxes along with frames, which needs a model whose PREPROCESSING is a "
            f"captum_3dcam.models.Preprocessing; it is of type {type(prepare).__name__}."
        )
    samples = _Samples(data, prepare, model, options)
    found = evaluate(
        attributions,
        samples,
        device=options.device,
        checkpoint=options.resume,
        progress=progress.wanted(options),
    )
    if options.output is not None:
        write_text(options.output, found.to_json().rstrip())
    print(found.to_json().rstrip() if options.json else found.table())


def _check(options: Namespace) -> None:
    for name, datasets in _ONLY.items():
        if getattr(options, name) is not None and options.dataset not in datasets:
            raise WrongUseError(
                f"--{name} is for {', '.join(datasets)}; not for {options.dataset}."
            )
    if options.dataset in _ONLY["root"] and options.root is None:
        raise WrongUseError(f"{options.dataset} needs --root, the dataset's folder.")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise WrongUseError(f"--output: there is no folder {str(options.output.parent)!r}.")


# ---------------------------------------------------------------------------------------- rows


def _attributions(model: nn.Module, options: Namespace) -> dict[str, Attribution]:
    """Every method over every set of layers, named "method: layers"."""
    if options.fusion is not None and set(options.methods) == {WITHOUT_FUSION}:
        raise WrongUseError(
            f"{WITHOUT_FUSION} joins the layers in its own way: it takes no --fusion."
        )
    rows: dict[str, Attribution] = {}
    for given in options.layers or [None]:
        layers = named_layers(model, given)
        for method in options.methods:
            fusion = None if method == WITHOUT_FUSION else options.fusion
            title = method if fusion is None else f"{method} ({fusion})"
            rows[f"{title}: {'+'.join(layers)}"] = make_cam(model, layers, method, fusion)
    return rows


# ------------------------------------------------------------------------------------- samples


def _actions(options: Namespace) -> Data:
    return SyntheticActions(options.limit or _ACTIONS, seed=options.seed or 0)


def _jhmdb(options: Namespace) -> Data:
    return JHMDB(options.root, options.subset or "test", options.split or 1)


def _ucf24(options: Namespace) -> Data:
    return UCF101_24(options.root, options.subset or "test", annotated_only=True)


def _ilsvrc(options: Namespace) -> Data:
    return ILSVRCLocalization(options.root, options.images)


DATASETS: Mapping[str, Callable[[Namespace], Data]] = {
    "actions": _actions,
    "jhmdb": _jhmdb,
    "ucf24": _ucf24,
    "ilsvrc": _ilsvrc,
}


class _Samples:
    """The samples of a dataset that have a box, as the model takes them."""

    def __init__(
        self, data: Data, prepare: Preprocessing, model: nn.Module, options: Namespace
    ) -> None:
        self.data, self.prepare, self.model, self.options = data, prepare, model, options
        self.indices = self._with_a_box(evenly(len(data), options.limit))
        if not self.indices:
            raise WrongUseError(f"None of the {len(data)} samples of {options.dataset} has a box.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        found = self.data[self.indices[index]]
        sample = prepared_sample(found, self.prepare, target=0)
        return sample._replace(target=self._target(found, sample.inputs))

    def _target(self, found: Any, inputs: Tensor) -> int:
        if self.options.target == "predicted":
            with torch.no_grad():
                return int(self.model(inputs[None].to(self.options.device)).argmax())
        return int(found.labels[0]) if hasattr(found, "labels") else int(found.label)

    def _with_a_box(self, indices: list[int]) -> list[int]:
        # UCF101-24 has left the others out, and actions have one each.
        if self.options.dataset == "ilsvrc":
            return [i for i in indices if len(self.data.annotation(i).boxes)]  # type: ignore[attr-defined]
        if self.options.dataset != "jhmdb":
            return indices
        found = []
        with progress.bar(self.options, "looking for boxes", len(indices), "clip") as advance:
            for i in indices:
                if not self.data[i].boxes.isnan().any(dim=-1).all():
                    found.append(i)
                advance(1)
        return found
