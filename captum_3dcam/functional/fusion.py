"""Fusion: the maps of several layers -> one map."""

from collections.abc import Callable, Iterable
from itertools import repeat

import torch
from torch import Tensor

from captum_3dcam._validation import check_integer, describe, show
from captum_3dcam.functional._inputs import check_layer_maps

Fusion = str | Callable[[Tensor], Tensor]

_FUSIONS: dict[str, tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    # name: (what is done to each of the K maps, how it is joined to the others, in place). They
    # take one map at a time, so that K maps are never in memory together.
    "sum": (lambda layer_map, count: layer_map, Tensor.add_),
    "mean": (lambda layer_map, count: layer_map / count, Tensor.add_),
    "max": (lambda layer_map, count: layer_map, lambda fused, x: _maximum_(fused, x)),
    "product": (lambda layer_map, count: layer_map, Tensor.mul_),
    "geometric_mean": (lambda layer_map, count: _root(layer_map, count), Tensor.mul_),
}
FUSIONS = tuple(_FUSIONS)


def _maximum_(fused: Tensor, x: Tensor) -> Tensor:
    in_place = not (fused.requires_grad or x.requires_grad)
    return torch.maximum(fused, x, out=fused if in_place else None)


def _root(x: Tensor, degree: int) -> Tensor:
    """The root of x >= 0; its derivative is 0 where x is 0, instead of infinite."""
    if not x.requires_grad:
        return x.pow(1 / degree)
    is_zero = x == 0
    return x.masked_fill(is_zero, 1).pow(1 / degree).masked_fill(is_zero, 0)


def fuse(layer_maps: Iterable[Tensor], count: int, fusion: Fusion = "sum") -> Tensor:
    """Join the ``count`` layer maps, each (N, 1, *S), into one (N, 1, *S).

    ``"sum"`` is Sum3DCAM = Σ_k 3DCAM_k (eq. 6), in [0, count]; ``"mean"``, ``"max"``,
    ``"product"`` and ``"geometric_mean"`` stay in [0, 1]. Those take the maps one at a time.
    A callable is given all of them as one tensor (count, N, 1, *S) and returns (N, 1, *S).

    Raises ValueError for more or fewer maps than ``count``, maps of different shapes, an unknown
    name, or a callable that returns another shape.

    >>> maps = [torch.tensor([0.2, 1.0]), torch.tensor([0.6, 0.0])]
    >>> fuse(maps, 2, "sum"), fuse(maps, 2, lambda stacked: stacked.amin(0))
    (tensor([0.8000, 1.0000]), tensor([0.2000, 0.0000]))
    """
    count = check_integer("count", count)
    layer_maps = check_layer_maps(layer_maps, count)
    if callable(fusion):
        stacked = torch.stack(tuple(layer_maps))
        fused = fusion(stacked)
        if not isinstance(fused, Tensor) or fused.shape != stacked.shape[1:]:
            raise ValueError(
                f"A fusion callable takes the stacked maps {tuple(stacked.shape)} and returns one "
                f"map {tuple(stacked.shape[1:])}; this one returned {describe(fused)}. Reduce its "
                "first axis."
            )
        return fused
    prepare, join = _FUSIONS[check_fusion(fusion)]
    prepared = map(prepare, layer_maps, repeat(count))
    fused = next(prepared).clone()
    for layer_map in prepared:
        # A double map, of a layer of double precision, makes the sum one.
        fused = join(fused.to(torch.promote_types(fused.dtype, layer_map.dtype)), layer_map)
        del layer_map  # before the next map is made
    return fused


def check_fusion(fusion: str) -> str:
    """The name itself, if :func:`fuse` knows it; else a ValueError that lists the names."""
    if not isinstance(fusion, str) or fusion not in _FUSIONS:
        raise ValueError(
            f"fusion={show(fusion)} is not known. Choose one of {', '.join(map(repr, FUSIONS))}, "
            "or pass a callable from stacked maps (K, N, 1, *S) to one map (N, 1, *S)."
        )
    return fusion
