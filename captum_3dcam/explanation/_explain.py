"""explain(): from a model and an input of any kind to an Explanation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
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
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._explanation import Explanation
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
from captum_3dcam.explanation._scores import RETURNS, Prediction, Scores, read_names
from captum_3dcam.explanation._sources import Source, open_source, paths_of
from captum_3dcam.explanation._target import Target, parse_target
from captum_3dcam.explanation._video import VideoSource
from captum_3dcam.explanation._windows import VIDEO_WINDOW, Windows
from captum_3dcam.io import Sampling
from captum_3dcam.io.kinds import KINDS

_AXES = {"image": ("an image", 2), "video": ("a video", 3), "volume": ("a volume", 3)}


def explain(
    model: nn.Module,
    input: Any,
    target: Any = None,
    *,
    layers: Any = "auto",
    method: Method = "WhatWhere",
    fusion: str | None = None,
    compare: Method | Sequence[Method] = (),
    per_layer: bool = False,
    preprocessing: Any = None,
    class_names: Sequence[str] | Mapping[int, str] | StrPath | None = None,
    returns: str = "logits",
    output: Any = None,
    input_layout: str | None = None,
    kind: str | None = None,
    sampling: Sampling = Sampling(),
    reading: Reading = Reading(),
    windows: Windows = Windows(),
    original: Any = None,
    progress: bool = False,
) -> Explanation:
    """Where, and when, a model looked in an image, a video or a volume.

    Args:
        model: a classifier in eval mode, on any device.
        input: a path of what :mod:`captum_3dcam.io` reads; pixels (H, W, 3) or frames (T, H, W, 3)
            uint8, an ``io.Video``, ``io.VideoFile`` or ``io.Volume``; or a tensor (N, C, *S), which
            is the model's input unless there is a ``preprocessing``.
        target: a class index or name, "top3" for the three highest classes, "each" for the highest
            class of each window, a tuple for outputs with more axes, a function of the output, or a
            list of classes. By default the highest class of each sample.
        layers: as of the attribution classes; by default the model's ``LAYERS`` or those of
            :func:`captum_3dcam.suggest_layers`.
        method: "WhatWhere", "GlobalLocal" (3DCAM), "Counterfactual", "GradCAM", "GradCAM++",
            "LayerCAM", "HiResCAM", "XGradCAM", or a class.
        fusion: of the layers' maps, by default "sum"; "WhatWhere" has its own.
        compare: more methods, from the same forward and backward pass.
        per_layer: keep each layer's map too.
        preprocessing: "imagenet", "kinetics" or another name of
            :func:`captum_3dcam.models.get_preprocessing`; a ``Preprocessing``; a
            ``VolumePreprocessing``; or a function. By default the model's ``PREPROCESSING``, or
            none: frames in [0, 1], and a scan's own values and grid.
        class_names: from index 0, a dict, or a text file with a name per line. By default those of
            the model's ``config.id2label``, as transformers have it.
        returns: what the model returns: "logits", "probabilities", or "values" of a regression.
        output: where the scores are in what the model returns, as of the attribution classes.
        input_layout: the axes of the model's input, if they are not (N, C, *S): "N T C H W".
        kind: "image", "video" or "volume", where the content leaves it open. A tensor of three
            spatial axes is a video if it has three channels, else a volume.
        sampling: the frames of a video; by default all.
        reading: what a file does not say by itself.
        windows: how what is too large for one pass is cut. Videos are cut into 16 frames.
        original: of a tensor, what is shown below its map.
        progress: show progress bars.

    Returns an :class:`Explanation`. The model is left as it was.

    Raises ArgumentError (a ValueError) for arguments that do not fit the model or the input,
    ModelError (a RuntimeError) if the model fails, FileNotFoundError, and what the readers and the
    attribution classes raise.

    >>> import numpy as np
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    >>> pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> _ = model(torch.zeros(1, 3, 24, 32))
    >>> explanation = explain(model.eval(), pixels, "top2", layers=["1"])
    >>> explanation.attribution.shape, len(explanation.boxes().boxes) > 0
    (torch.Size([1, 2, 24, 32]), True)
    """
    check_instance("model", model, nn.Module)
    check_flag("per_layer", per_layer)
    with argument_errors():
        check_choice("returns", returns, RETURNS)
        if kind is not None:
            check_choice("kind", kind, KINDS)
    names = read_names(_own_names(model) if class_names is None else class_names)
    requested = parse_target(target, names)
    methods = dict.fromkeys(map(resolve_method, (method, *_as_methods(compare))))
    notes: list[str] = []
    with noted_warnings(notes):
        if any(module.training for module in model.modules()):
            warn("The model is in train mode: call model.eval() to explain it as it predicts.")
        _warn_of_several_labels(model, returns)
        arranged, layout = arrange(model, input_layout)
        options: dict[str, Any] = {"fusion": fusion, "output": output, "input_layout": layout}
        chosen = find_layers(model, layers)
        cams = [make_cam(arranged, chosen, each, **options) for each in methods]
        source, identity = open_source(
            model, input, kind, preprocessing, reading, sampling, windows, original, progress
        )
        explainer = Explainer(
            arranged,
            JointCAM(cams, per_layer),
            Scores(names, returns, isinstance(class_names, Mapping)),
            requested,
            _windows_of(source, windows, requested),
            progress,
            source.advise,
        )
        _check_rank(methods, source.kind)
        predictions, maps = source.explain(explainer)
        _warn_of_flat_layers(explainer.cam)
    explanation = _assemble(source, explainer, predictions, maps)
    settings = {
        "method": explanation.method,
        "compare": list(explanation.method_maps),
        "fusion": None if fusion is None else _text(fusion),
        "per_layer": per_layer,
        "target": _text(target),
        "returns": returns,
        "input_layout": input_layout,
        "sampling": asdict(sampling) if explanation.kind == "video" else None,
        "windows": {**asdict(explainer.windows), "size": list(explainer.windows.sizes)},
    }
    files = paths_of(input, original, reading)
    described = {"name": type(model).__name__, "preprocessing": source.preprocessing}
    return replace(
        explanation,
        warnings=[without_names(note, files) for note in notes],
        model=described,
        settings=settings,
        fingerprint=identity,
    )


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
