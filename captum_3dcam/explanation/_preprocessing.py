"""The preprocessing of an input: a preset, the model's own, values or a function."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._validation import show, warn
from captum_3dcam.explanation._cropping import check_grid
from captum_3dcam.explanation._explainer import input_channels
from captum_3dcam.models import (
    PRESETS,
    VOLUME_PRESETS,
    FlowPreprocessing,
    Preprocessing,
    VolumePreprocessing,
)

Preprocess = Callable[[Tensor], Tensor]
_VALUES = {
    "images and videos": "Preprocessing(mean, std, size)",
    "volumes": 'VolumePreprocessing(normalize="unit")',
}


def frame_preprocessing(requested: Any, model: nn.Module) -> Preprocess:
    """From RGB frames, (3, H, W) or (3, T, H, W), to the model's input without the batch axis.

    It is the one that is requested, or else the model's own ``PREPROCESSING``, or none. A preset
    takes the number of channels of the model's first convolution.
    """
    chosen = _choose(requested, model, PRESETS, VolumePreprocessing, "images and videos")
    if not isinstance(chosen, Preprocessing):
        return chosen  # type: ignore[no-any-return]
    is_default = requested is None and not hasattr(model, "PREPROCESSING")
    is_preset = isinstance(requested, str) or is_default
    return as_grey(chosen) if is_preset and input_channels(model) == 1 else chosen


def as_grey(values: Preprocessing) -> Preprocessing:
    """The same for a network of one channel; ArgumentError for a mean of R, G and B."""
    for name in ("mean", "std"):
        if isinstance(value := getattr(values, name), tuple):
            raise ArgumentError(
                f"The {name} is that of R, G and B, {value}, and the network takes one channel, "
                "grey. Pass the mean and std of its training, one number each."
            )
    return replace(values, channels=1)


def replace_frame_values(name: str | None, model: nn.Module, values: dict[str, Any]) -> Any:
    """A preset or the model's own preprocessing of frames, with values of it replaced.

    Raises ArgumentError for values out of range, and for a model whose own is a function.
    """
    own = _choose(name, model, PRESETS, VolumePreprocessing, "images and videos")
    if not values:
        return name
    if not isinstance(own, Preprocessing):
        raise ArgumentError(
            f"The model's PREPROCESSING is of type {type(own).__name__}, which "
            f"{', '.join(values)} cannot change."
        )
    if "size" in values:
        values = {"crop": None, **values}  # the size is that of the model's input
    is_models_own = name is None and hasattr(model, "PREPROCESSING")
    is_grey = values.get("channels", own.channels) == 1
    if not is_models_own and "channels" not in values:
        is_grey = input_channels(model) == 1
    with argument_errors():
        if is_grey and own.channels == 3:
            own = replace(own, **{k: v for k, v in values.items() if k in ("mean", "std")})
            own = as_grey(own)
        return replace(own, **values)


def replace_volume_values(name: str | None, model: nn.Module, values: dict[str, Any]) -> Any:
    """A preset or the model's own preprocessing of volumes, with values of it replaced.

    A function of the model's follows the values, unless these normalise.
    """
    steps = volume_preprocessing(name, model)
    with argument_errors():
        replaced = replace(steps.values, **values)
    return VolumeSteps(replaced, None if "normalize" in values else steps.function)


def volume_preprocessing(requested: Any, model: nn.Module) -> "VolumeSteps":
    """From a volume to the model's input: the one requested, or the model's own, or none."""
    chosen = _choose(requested, model, VOLUME_PRESETS, Preprocessing, "volumes")
    if isinstance(chosen, VolumeSteps):
        return chosen
    if isinstance(chosen, VolumePreprocessing):
        return VolumeSteps(chosen)
    is_default = requested is None and not hasattr(model, "PREPROCESSING")
    return VolumeSteps(VolumePreprocessing(), None if is_default else chosen)


def _choose(requested: Any, model: nn.Module, presets: Any, other: type, kind: str) -> Any:
    chosen = requested
    if requested is None:
        chosen = getattr(model, "PREPROCESSING", presets.get("none", VolumePreprocessing()))
    if isinstance(chosen, str):
        if chosen not in presets:
            known = ", ".join(map(repr, presets))
            raise ArgumentError(
                f"preprocessing={chosen!r}: expected for {kind} one of {known}, or values: "
                f"{_VALUES[kind]}."
            )
        chosen = presets[chosen]
    if not callable(chosen):
        owner = "preprocessing" if requested is not None else "The model's PREPROCESSING"
        raise ArgumentError(f"{owner} is of type {type(chosen).__name__}, which is not callable.")
    if isinstance(chosen, other):
        raise ArgumentError(
            f"preprocessing={show(chosen)} is not for {kind}: pass a name of {list(presets)}, "
            "values or a function."
        )
    return chosen


class VolumeSteps:
    """Clip and normalise each channel of (C, D, H, W), then apply a function that keeps the grid.

    >>> str(VolumeSteps(VolumePreprocessing(normalize="unit"), len)).split(", ")[-1]
    'len'
    """

    def __init__(self, values: VolumePreprocessing, function: Preprocess | None = None) -> None:
        self.values, self.function = values, function

    def __str__(self) -> str:
        steps = (self.values, *([] if self.function is None else [self.function]))
        return ", ".join(map(name_preprocessing, steps))

    def __call__(self, x: Tensor) -> Tensor:
        """Warns of values that are not in the window's units.

        Raises ArgumentError for a function that changes the grid.
        """
        for message in {self.values.check_units(channel) for channel in x} - {None}:
            warn(str(message))
        inputs = torch.cat([self.values(channel[None]) for channel in x])
        if self.function is None:
            return inputs
        normalized, inputs = inputs, self.function(inputs.clone())
        if inputs.ndim != 4 or inputs.shape[1:] != x.shape[1:]:
            axes = f"({x.shape[0]}, D, H, W)"
            raise ArgumentError(
                f"The model's PREPROCESSING turns {axes} = {tuple(x.shape)} into "
                f"{tuple(inputs.shape)}; it must keep the grid. Resample with size or spacing."
            )
        check_grid(self.function, normalized)
        return inputs


def name_preprocessing(preprocess: Any) -> str:
    """The values of a preprocessing, or the name of a function, for the report."""
    if isinstance(preprocess, (Preprocessing, FlowPreprocessing, VolumePreprocessing)):
        return repr(preprocess)
    if isinstance(preprocess, VolumeSteps):
        return str(preprocess)
    return str(getattr(preprocess, "__qualname__", type(preprocess).__name__))
