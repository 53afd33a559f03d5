"""A model with the options of explain(): what explains one input after the other."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._files import StrPath
from captum_3dcam._joint_cam import JointCAM
from captum_3dcam._layerwise_cam import LayerwiseCAM
from captum_3dcam._validation import (
    check_choice,
    check_flag,
    check_instance,
    check_sequence,
    noted_warnings,
    warn,
)
from captum_3dcam.explanation._class_names import read_names
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._explanation import Explanation, is_of_sample
from captum_3dcam.explanation._image import ImageSource
from captum_3dcam.explanation._methods import (
    Method,
    arrange,
    find_layers,
    layer_names,
    make_cam,
    method_names,
    resolve_method,
)
from captum_3dcam.explanation._reading import Reading, without_names
from captum_3dcam.explanation._scores import RETURNS, Prediction, Scores
from captum_3dcam.explanation._sources import Source, open_source, paths_of
from captum_3dcam.explanation._target import Target, parse_target
from captum_3dcam.explanation._video import VideoSource
from captum_3dcam.explanation._windows import VIDEO_WINDOW, Windows
from captum_3dcam.io import Sampling
from captum_3dcam.io.kinds import KINDS

_SAMPLES = re.compile(r"sample\(s\) [\d, ]*\d")
Part = tuple[list[list[Prediction]], Tensor]
"""The predictions of N samples, and their maps (N, k, M, *S)."""
_AXES = {"image": ("an image", 2), "video": ("a video", 3), "volume": ("a volume", 3)}


@dataclass(frozen=True)
class Options:
    """Those of :func:`captum_3dcam.explain` that are the same for all inputs."""

    layers: Any = "auto"
    method: Method = "WhatWhere"
    fusion: str | None = None
    compare: Method | Sequence[Method] = ()
    per_layer: bool = False
    preprocessing: Any = None
    """Or a dict of these by the kind of input."""
    class_names: Sequence[str] | Mapping[int, str] | StrPath | None = None
    returns: str = "logits"
    output: Any = None
    input_layout: str | None = None
    kind: str | None = None
    sampling: Sampling = Sampling()
    reading: Reading = Reading()
    windows: Windows = Windows()
    progress: bool = False


@dataclass
class Opened:
    """An input that has been read as far as it is before the model runs."""

    source: Source
    target: Target
    settings: dict[str, Any]
    files: list[Any]
    """Its paths, whose names no warning keeps."""
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    """Warnings of its own."""

    @property
    def batch(self) -> Any:
        """What inputs have in common that are explained in one batch; None for one alone."""
        source = self.source
        return (source.inputs.shape, self.target) if isinstance(source, ImageSource) else None


class Recipe:
    """Explains inputs with one model and one choice of layers, which "auto" makes by the first."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        check_instance("model", model, nn.Module)
        check_flag("per_layer", options.per_layer)
        with argument_errors():
            check_choice("returns", options.returns, RETURNS)
            if options.kind is not None:
                check_choice("kind", options.kind, KINDS)
        self.model, self.options = model, options
        self.names = read_names(
            _own_names(model) if options.class_names is None else options.class_names
        )
        self.methods = tuple(
            dict.fromkeys(map(resolve_method, (options.method, *_as_methods(options.compare))))
        )
        self.notes: list[str] = []
        """Warnings of the model and the options."""
        with noted_warnings(self.notes):
            if any(module.training for module in model.modules()):
                warn("The model is in train mode: call model.eval() to explain it as it predicts.")
            _warn_of_several_labels(model, options.returns)
            self.arranged, layout = arrange(model, options.input_layout)
            chosen = find_layers(model, options.layers)
            each: dict[str, Any] = {
                "fusion": options.fusion,
                "output": options.output,
                "input_layout": layout,
            }
            cams = [make_cam(self.arranged, chosen, method, **each) for method in self.methods]
            with argument_errors():
                self.cam = JointCAM(cams, options.per_layer)

    def explain(self, input: Any, target: Any = None, original: Any = None) -> Explanation:
        """The explanation of one input; see :func:`captum_3dcam.explain`."""
        (explanation,) = self.explain_batch([self.open(input, target, original)])
        return explanation

    def open(self, input: Any, target: Any = None, original: Any = None) -> Opened:
        """Read an input and preprocess it; of a long video, the first frames."""
        options, notes = self.options, list[str]()
        parsed = parse_target(target, self.names)
        with noted_warnings(notes):
            source, identity = open_source(
                self.model,
                input,
                options.kind,
                options.preprocessing,
                options.reading,
                options.sampling,
                options.windows,
                original,
                options.progress,
            )
        _check_rank(self.methods, source.kind)
        files = paths_of(input, original, options.reading)
        return Opened(source, parsed, {"target": _text(target)}, files, identity, notes)

    def choose_layers(self, opened: Opened) -> None:
        """Let "auto" choose by the first window of an input."""
        source, sizes = opened.source, self._explainer(opened).windows.sizes
        if isinstance(source, VideoSource):
            inputs = source.first_frames(sizes[0])[None]
        else:
            inputs = source.inputs[:1]
        for axis, (length, window) in enumerate(zip(inputs.shape[2:], sizes, strict=False), 2):
            inputs = inputs.narrow(axis, 0, min(length, window))
        self.cam.choose_layers(inputs)

    def explain_batch(self, opened: Sequence[Opened]) -> list[Explanation]:
        """The explanations of inputs whose ``batch`` is the same, from one forward pass."""
        sources = [each.source for each in opened]
        explainer, notes = self._explainer(opened[0]), list[str]()
        self.cam.flat_layers = None
        with noted_warnings(notes):
            several = len(opened) > 1
            parts = (
                _explain_images(sources, explainer) if several else [sources[0].explain(explainer)]
            )
            _warn_of_flat_layers(explainer.cam)
        of_each = [
            [
                _SAMPLES.sub("the input", note) if several else note
                for note in notes
                if not several or is_of_sample(note, number)
            ]
            for number in range(len(opened))
        ]
        triples = zip(opened, parts, of_each, strict=True)
        return [self._describe(each, explainer, part, own) for each, part, own in triples]

    def _explainer(self, opened: Opened) -> Explainer:
        options, source = self.options, opened.source
        return Explainer(
            self.arranged,
            self.cam,
            Scores(self.names, options.returns, isinstance(options.class_names, Mapping)),
            opened.target,
            _windows_of(source, options.windows, opened.target),
            options.progress,
            source.advise,
        )

    def _describe(
        self,
        opened: Opened,
        explainer: Explainer,
        part: Part,
        notes: Sequence[str],
    ) -> Explanation:
        options = self.options
        explanation = _assemble(opened.source, explainer, *part)
        settings = {
            "method": explanation.method,
            "compare": list(explanation.method_maps),
            "fusion": None if options.fusion is None else _text(options.fusion),
            "per_layer": options.per_layer,
            **opened.settings,
            "returns": options.returns,
            "input_layout": options.input_layout,
            "sampling": asdict(options.sampling) if explanation.kind == "video" else None,
            "windows": {**asdict(explainer.windows), "size": list(explainer.windows.sizes)},
        }
        described = {
            "name": type(self.model).__name__,
            "preprocessing": opened.source.preprocessing,
        }
        every = dict.fromkeys((*self.notes, *opened.notes, *notes))
        return replace(
            explanation,
            warnings=[without_names(note, opened.files) for note in every],
            model=described,
            settings=settings,
            fingerprint=opened.fingerprint,
        )


def _explain_images(sources: Sequence[Any], explainer: Explainer) -> list[Part]:
    predictions, maps = explainer.explain(torch.cat([source.inputs for source in sources]))
    triples = zip(sources, predictions, maps, strict=True)
    return [([row], source.over_image(own[None])) for source, row, own in triples]


def _text(value: Any) -> str:
    """Text as it is, a function's name, and the Python of other values."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return value if isinstance(value, str) else repr(value)


def _as_methods(compare: Any) -> Sequence[Method]:
    is_one = isinstance(compare, (str, type))
    return [compare] if is_one else check_sequence("compare", compare, of="methods")


def _own_names(model: nn.Module) -> Any:
    """The names in a transformers model's configuration, unless they are numbers of labels."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    is_named = isinstance(names, Mapping) and not all(
        str(name).startswith("LABEL_") for name in names.values()
    )
    return names if is_named else None


def _warn_of_several_labels(model: nn.Module, returns: str) -> None:
    """A transformers model of several labels at once is trained by a sigmoid of each logit."""
    problem = getattr(getattr(model, "config", None), "problem_type", None)
    if returns == "logits" and problem == "multi_label_classification":
        warn(
            "The model is of several labels at once, and a softmax over them is no probability: "
            'pass output=lambda output: output.logits.sigmoid(), returns="probabilities".'
        )


def _warn_of_flat_layers(cam: JointCAM) -> None:
    for name in sorted(cam.flat_layers or ()):
        warn(
            f"At layer {name!r} the gradient is the same at all positions, as before global "
            "average pooling: what the layer adds to the map does not depend on the class. Choose "
            "layers before it."
        )


def _check_rank(methods: Iterable[type[LayerwiseCAM]], kind: str) -> None:
    """ArgumentError for a class that is pinned to inputs of other axes."""
    name, axes = _AXES[kind]
    for method in methods:
        if method.rank not in (None, axes):
            raise ArgumentError(
                f"{method.__name__} is of {method.rank} spatial axes, and {name} has {axes}."
            )


def _windows_of(source: Source, windows: Windows, target: Target) -> Windows:
    """The windows, with the default size of a video; ArgumentError if they do not fit."""
    if windows.size is None and isinstance(source, VideoSource):
        windows = replace(windows, size=VIDEO_WINDOW)
    windows.check_axes(*_AXES[source.kind])
    if source.kind != "video" and not isinstance(windows.boundaries, str):
        raise ArgumentError("windows: boundaries are of the scenes of a video.")
    if target.each and windows.size is None:
        raise ArgumentError('target="each" is the class of each window: pass windows.')
    return windows


def _assemble(
    source: Source,
    explainer: Explainer,
    predictions: Sequence[Sequence[Prediction]],
    maps: Tensor,
) -> Explanation:
    """``maps`` are (N, k, M, *S): those of the methods, then those of the layers."""
    cam = explainer.cam
    methods, layers = method_names(cam.cams), layer_names(cam)
    columns = list(maps.unbind(dim=2))
    of_layers = columns[len(methods) :]
    return Explanation(
        attribution=columns[0],
        classes=[[each.target for each in row] for row in predictions],
        class_names=[[each.name for each in row] for row in predictions],
        scores=torch.tensor([[each.score for each in row] for row in predictions]),
        probabilities=torch.tensor([[each.probability for each in row] for row in predictions]),
        kind=source.kind,
        originals=source.originals,
        method=methods[0],
        layers=layers,
        times=source.times,
        layer_maps=dict(zip(layers, of_layers, strict=True)) if of_layers else {},
        method_maps=dict(zip(methods[1:], columns[1:], strict=False)),
        windows=[[each.windows for each in row] for row in predictions],
        facts=source.describe(columns[0]),
    )
