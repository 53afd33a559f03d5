"""Input validation of the functions."""

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any

import numpy as np
from torch import Tensor

from captum_3dcam._validation import check_floats, check_sequence, describe, show


def check_features(name: str, x: Tensor, axes: int = 3) -> Tensor:
    """The tensor itself; an error unless it is floats (N, C, *S) of at least so many axes."""
    check_floats(name, x)
    if x.ndim < axes or 0 in x.shape[1:]:
        spatial = " with at least one spatial axis" if axes == 3 else ""
        raise ValueError(
            f"Expected {name} (N, C, *S){spatial}, none of them empty; received {describe(x)}. Add "
            f"missing axes with {name}[None]."
        )
    return x


def check_size(size: Sequence[int]) -> None:
    check_sequence("size", size, of="integers, one per spatial axis")
    try:  # by index(), because sizes are tensors while a network is traced
        is_positive = all(not isinstance(n, (bool, np.ndarray)) and index(n) > 0 for n in size)
    except TypeError:
        is_positive = False
    if not is_positive:
        raise ValueError(f"size={show(size)}: expected a positive integer for each spatial axis.")


def check_sizes(sizes: Sequence[Sequence[int]]) -> None:
    check_sequence("sizes", sizes, of="sizes, one per layer")
    for size in sizes:
        check_size(size)
    if len({len(size) for size in sizes}) != 1:
        raise ValueError(
            f"sizes={show(sizes)}: expected at least one size, all of as many spatial axes."
        )


def check_factors(name: str, factors: Sequence[Tensor]) -> None:
    check_sequence(name, factors, of="tensors")
    for number, factor in enumerate(factors):
        check_features(f"{name}[{number}]", factor)
    if len({x.shape[:2] for x in factors}) != 1:
        raise ValueError(
            f"{name}: expected at least one tensor, all (N, 1, *S_k) of the same N; received "
            f"{[tuple(x.shape) for x in factors]}."
        )


def check_calls(calls: Sequence[Sequence[Tensor]]) -> None:
    check_sequence("calls", calls, of="the factors of each call")
    for number, factors in enumerate(calls):
        check_factors(f"calls[{number}]", factors)
    if len({tuple(x.shape[:2] for x in factors) for factors in calls}) != 1:
        raise ValueError(
            "calls: expected at least one call, and as many factors (N, 1, *S_k) of the same N in "
            f"each; received {[[tuple(x.shape) for x in factors] for factors in calls]}."
        )


def check_pair(activation: Tensor, gradient: Tensor) -> None:
    """An error unless both are floats (N, C, *S_k) of the same shape."""
    check_features("activation", activation)
    check_features("gradient", gradient)
    if activation.shape != gradient.shape:
        raise ValueError(
            "Expected a layer's activation and its gradient, of the same shape; received "
            f"{describe(activation)} and {describe(gradient)}."
        )


def check_effects(effects: Sequence[Any]) -> None:
    check_sequence("effects", effects, of="Effect(net, energy), as effect() returns them")
    for number, each in enumerate(effects):
        if getattr(each, "_fields", None) != ("net", "energy"):
            raise TypeError(
                f"effects[{number}] is {show(each)}; expected Effect(net, energy), as effect() "
                "returns it."
            )
        check_factors(f"effects[{number}]", each)
    if len({(len(each.net), each.net.ndim, each.energy.ndim) for each in effects}) != 1:
        raise ValueError(
            "effects: expected those of at least one layer, all of one batch and rank; received "
            f"{[(tuple(each.net.shape), tuple(each.energy.shape)) for each in effects]}."
        )


def check_layer_maps(layer_maps: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """Each map when it is asked for; an error unless there are ``count`` of one shape."""
    try:
        layer_maps = iter(layer_maps)
    except TypeError:
        text = f"layer_maps={show(layer_maps)}: expected a list or an iterator of tensors."
        raise TypeError(text) from None
    received, shape = 0, None
    for layer_map in layer_maps:
        check_floats(f"layer_maps[{received}]", layer_map)
        shape = layer_map.shape if shape is None else shape
        if layer_map.shape != shape:
            raise ValueError(
                f"layer_maps has a map of {tuple(shape)} and one of {tuple(layer_map.shape)}. "
                "Resize them to one size with upsample or layer_map."
            )
        received += 1
        yield layer_map
        del layer_map  # before the next map is made
    if received != count:
        raise ValueError(
            f"fuse expects as many layer maps as count={count}; received {received}. Pass each "
            "map once, and a new iterator to each call."
        )
