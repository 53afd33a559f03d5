"""The attributions of a call, and models that take their input in another layout."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._layer_choice.choice import own_layers
from captum_3dcam._layerwise_cam import LayerwiseCAM
from captum_3dcam._layout import Layout
from captum_3dcam._validation import check_choice, show
from captum_3dcam.attribution import METHODS, LayerwiseWhatWhereCAM
from captum_3dcam.layers import resolve_layers

Method = str | type[LayerwiseCAM]
_ALIASES = {"whatxwhere": "WhatWhere", "3dcam": "GlobalLocal", "sum3dcam": "GlobalLocal"}


def resolve_method(method: Method) -> type[LayerwiseCAM]:
    """The class of a method; ArgumentError for what is none."""
    if isinstance(method, str):
        known = {_plain(name): name for name in METHODS}
        known |= {_plain(each.__name__): name for name, each in METHODS.items()} | _ALIASES
        name = known.get(_plain(method), method)
        with argument_errors():
            check_choice("method", name, METHODS)
        return METHODS[name]
    if isinstance(method, type) and issubclass(method, LayerwiseCAM):
        return method
    raise ArgumentError(
        f"method={show(method)}: expected one of {', '.join(METHODS)}, or an attribution class."
    )


def _plain(name: str) -> str:
    """Without case, spaces and hyphens.

    >>> _plain("Grad-CAM++"), _plain("What x Where")
    ('gradcam++', 'whatxwhere')
    """
    return name.lower().replace(" ", "").replace("-", "")


def find_layers(model: nn.Module, layers: Any) -> Any:
    """The layers of a model; "auto" for those that an input is to choose."""
    if isinstance(layers, str) and layers == "auto":
        return own_layers(model) or layers
    with argument_errors("layers: ", TypeError):
        return resolve_layers(layers, model)


def make_cam(
    model: nn.Module,
    layers: Any,
    method: type[LayerwiseCAM],
    fusion: str | None = None,
    **options: Any,
) -> LayerwiseCAM:
    """The attribution of a method over layers; ArgumentError for what does not fit the model."""
    if fusion is not None and issubclass(method, LayerwiseWhatWhereCAM):
        name = next((n for n, each in METHODS.items() if method is each), method.__name__)
        raise ArgumentError(f"{name} has its own fusion of the layers: leave fusion out.")
    if fusion is not None:
        options["fusion"] = fusion
    with argument_errors("", TypeError):
        return method(model, layers, **options)


class _Arranged(nn.Module):
    """A model that takes its input in another layout, for inputs (N, C, *S)."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.module, self.layout = model, layout
        self.training = model.training  # train() would change the modules of the model too

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


def method_names(cams: Sequence[LayerwiseCAM]) -> list[str]:
    """The short names of their classes."""
    names = {method: name for name, method in METHODS.items()}
    return _numbered([names.get(type(cam), type(cam).__name__) for cam in cams])


def describe_classless(cams: Sequence[LayerwiseCAM]) -> str | None:
    """What to warn of: methods whose maps do not depend on a class."""
    names = [name for name, cam in zip(method_names(cams), cams, strict=True) if not cam._of_class]
    if not names:
        return None
    return (
        f"The map of {', '.join(names)} is the same for every class: it shows what stands out to "
        "the network, not what speaks for a class."
    )


def layer_names(cam: LayerwiseCAM) -> list[str]:
    """The names of its layers in the user's model."""
    prefix = "module." if isinstance(cam.forward_func, _Arranged) else ""
    return _numbered([layer.name.removeprefix(prefix) for layer in cam.layers])


def _numbered(names: list[str]) -> list[str]:
    """With a number where several are the same, as two calls of a layer.

    >>> _numbered(["head", "cnn", "head"])
    ['head (1)', 'cnn', 'head (2)']
    """
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]
