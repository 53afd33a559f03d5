"""The tensor to explain among what a layer returns or takes, and its replacement."""

from collections.abc import Mapping
from copy import copy
from typing import Any

from torch import Tensor

from captum_3dcam.layers import Layer


def select_tensor(values: Any, layer: Layer) -> tuple[Any, Tensor]:
    """The key and tensor that the layer's ``index`` names; without one, the first tensor."""
    items: dict[Any, Any] = {}
    if isinstance(values, Mapping):
        items.update(values)
    elif isinstance(values, (tuple, list)):
        items.update(enumerate(values))
    tensors = {key: value for key, value in items.items() if isinstance(value, Tensor)}
    key: Any = next(iter(tensors), None) if layer.index is None else layer.index
    if isinstance(key, str) and key in getattr(values, "_fields", ()):
        key = values._fields.index(key)
    if isinstance(key, int) and key < 0:
        key += len(items)
    if key not in tensors:
        expected = "a tensor" if layer.index is None else f"a tensor at index {layer.index!r}"
        raise TypeError(
            f"Layer {layer.name!r} should give {expected}; it gives {type(values).__name__} with "
            f"tensors at {list(tensors)}. Choose one with Layer(..., index=...)."
        )
    return key, check_differentiable(tensors[key], layer)


def check_differentiable(tensor: Tensor, layer: Layer) -> Tensor:
    if not tensor.is_floating_point():
        raise TypeError(
            f"Layer {layer.name!r} gives {tensor.dtype}, of which there is no gradient. Choose a "
            "layer with a floating-point output."
        )
    return tensor


def replaced(values: Any, key: Any, tensor: Tensor) -> Any:
    """``values`` with one tensor exchanged, of the same type: the model's own code reads it."""
    if isinstance(values, Mapping):
        changed: Any = copy(values)
        changed[key] = tensor
        return changed
    items = [tensor if position == key else value for position, value in enumerate(values)]
    return type(values)(*items) if hasattr(values, "_fields") else type(values)(items)
