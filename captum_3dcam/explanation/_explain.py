"""explain(): from a model and an input of any kind to an Explanation."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from captum_3dcam._files import StrPath
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._methods import Method
from captum_3dcam.explanation._reading import Reading
from captum_3dcam.explanation._recipe import Options, Recipe
from captum_3dcam.explanation._windows import Windows
from captum_3dcam.io import Sampling


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
            "LayerCAM", "HiResCAM", "XGradCAM" and the others of
            :data:`captum_3dcam.attribution.METHODS`, or a class. "Rival" explains another score,
            and goes with no other method.
        fusion: of the layers' maps, by default "sum"; "WhatWhere", "Extent" and "Rival" have
            their own.
        compare: more methods, from the same forward and backward pass.
        per_layer: keep each layer's map too.
        preprocessing: "imagenet", "kinetics" or another name of
            :func:`captum_3dcam.models.get_preprocessing`; a ``Preprocessing``; a
            ``VolumePreprocessing``; or a function. By default the model's ``PREPROCESSING``, or
            none: frames in [0, 1], and a scan's own values and grid.
        class_names: from index 0, a dict, or a file: a name per line, a CSV file of indices and
            names, or a JSON file of a list or a dict. By default those of the model's
            ``config.id2label``, as transformers have it.
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
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    >>> pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> _ = model(torch.zeros(1, 3, 24, 32))
    >>> explanation = explain(model.eval(), pixels, "top2", layers=["1"])
    >>> explanation.attribution.shape, len(explanation.boxes().boxes) > 0
    (torch.Size([1, 2, 24, 32]), True)
    """
    options = Options(
        layers=layers,
        method=method,
        fusion=fusion,
        compare=compare,
        per_layer=per_layer,
        preprocessing=preprocessing,
        class_names=class_names,
        returns=returns,
        output=output,
        input_layout=input_layout,
        kind=kind,
        sampling=sampling,
        reading=reading,
        windows=windows,
        progress=progress,
    )
    return Recipe(model, options).explain(input, target, original)
