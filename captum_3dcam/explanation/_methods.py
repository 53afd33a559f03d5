"""The attributions of a call, and models that take their input in another layout."""

from typing import Any

from torch import Tensor, nn

from captum_3dcam._layerwise_cam import LayerwiseCAM
from captum_3dcam._layout import Layout
from captum_3dcam._validation import check_choice, show
from captum_3dcam.attribution import METHODS, LayerwiseWhatWhereCAM
from captum_3dcam.explanation._errors import ArgumentError, argument_errors

Method = str | type[LayerwiseCAM]


def make_cam(
    model: nn.Module, layers: Any, method: Method, fusion: str | None = None, **options: Any
) -> LayerwiseCAM:
    """The attribution of a method over layers; ArgumentError for what does not fit the model."""
    if isinstance(method, str):
        with argument_errors():
            check_choice("method", method, METHODS)
        method = METHODS[method]
    if not (isinstance(method, type) and issubclass(method, LayerwiseCAM)):
        raise ArgumentError(
            f"method={show(method)}: expected one of {', '.join(METHODS)}, or an attribution class."
        )
    if fusion is not None and issubclass(method, LayerwiseWhatWhereCAM):
        raise ArgumentError("WhatWhere has its own fusion of the layers: leave fusion out.")
    if fusion is not None:
        options["fusion"] = fusion
    with argument_errors("layers: ", TypeError):
        cam: LayerwiseCAM = method(model, layers, **options)
        return cam


class _Arranged(nn.Module):
    """A model that takes its input in another layout, for inputs (N, C, *S)."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.module, self.layout = model, layout  # the name of DataParallel's: layers keep theirs
        self.train(model.training)

    def forward(self, x: Tensor) -> Any:
        return self.module(self.layout.restore(x))


def arrange(model: nn.Module, input_layout: str | None) -> tuple[nn.Module, str | None]:
    """The model for inputs (N, C, *S), and the layout that the attributions are told."""
    if input_layout is None:
        return model, None
    with argument_errors("input_layout: "):
        layout = Layout.from_text(input_layout)
    arranged = model if layout.is_channels_first else _Arranged(model, layout)
    return arranged, " ".join(layout.names)


def method_name(cam: LayerwiseCAM) -> str:
    """The short name of its class."""
    names = {method: name for name, method in METHODS.items()}
    return names.get(type(cam), type(cam).__name__)
