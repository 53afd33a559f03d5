"""Layer maps derived from plain hooks on the same layers, without this package."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from captum_3dcam import Layer
from zoo_networks import Family


def copy_of(inputs: Any) -> Any:
    return [x.clone() for x in inputs] if isinstance(inputs, list) else inputs.clone()


def naive_grid(x: Tensor, layout: str | None, grid: tuple[int, ...]) -> Tensor:
    """(N, C, *grid), by the letters of the layout."""
    if layout is None:
        return x
    if layout == "N L C":  # tokens in excess come first
        count = torch.Size(grid).numel()
        return x[:, -count:].transpose(1, 2).unflatten(2, grid)
    if layout == "N (H W T) C":
        time, height, width = grid
        count = time * height * width
        return x[:, -count:].unflatten(1, (height, width, time)).permute(0, 4, 3, 1, 2)
    assert layout in ("N H W C", "N T H W C")
    return x.movedim(-1, 1)


def naive_activations(
    model: nn.Module, inputs: Any, family: Family, layers: Sequence[Layer]
) -> list[tuple[Tensor, Tensor]]:
    """Each layer's activation and gradient on its grid."""
    grids = [(layout, grid) for _, layout, grid in family.layers]
    return [
        (naive_grid(a, *on), naive_grid(g, *on))
        for (a, g), on in zip(two_passes(model, inputs, family, layers), grids, strict=True)
    ]


def two_passes(
    model: nn.Module, inputs: Any, family: Family, layers: Sequence[Layer]
) -> list[tuple[Tensor, Tensor]]:
    """Each layer's output and its gradient, by plain hooks: one forward and one backward pass."""
    outputs: dict[int, Tensor] = {}

    def keep(position: int, index: Any) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if not isinstance(output, list):
                outputs[position] = output[0] if isinstance(output, tuple) else output
                return None
            # What a block of SlowFast hands on, apart from what it made of that inside.
            outputs[position] = output[index] * 1
            return [outputs[position] if i == index else x for i, x in enumerate(output)]

        return hook

    handles = [
        model.get_submodule(layer.name).register_forward_hook(keep(position, layer.index))
        for position, layer in enumerate(layers)
    ]
    returned = model(copy_of(inputs))
    for handle in handles:
        handle.remove()
    logits = returned if isinstance(returned, torch.Tensor) else returned.logits
    target = family.target
    if logits.ndim == 2:
        score = logits.max() if target is None else logits[:, target].sum()
    else:  # of a segmentation: its scores where it is predicted
        score = logits[:, target][logits.argmax(dim=1) == target].sum()
    tensors = [outputs[position] for position in range(len(layers))]
    gradients = torch.autograd.grad(score, tensors)
    return [(a.detach(), g) for a, g in zip(tensors, gradients, strict=True)]


def naive_maps(
    model: nn.Module, inputs: Any, family: Family, layers: Sequence[Layer]
) -> list[Tensor]:
    """The layer maps of 3DCAM, norm(↑ Σ_c G_c) · norm(↑ Σ_c A_c)."""
    sums = [
        [x.sum(dim=1, keepdim=True) for x in pair]
        for pair in naive_activations(model, inputs, family, layers)
    ]
    return [
        norm(enlarged(alpha, family.size)) * norm(enlarged(beta, family.size))
        for alpha, beta in sums
    ]


def norm(x: Tensor) -> Tensor:
    x = x.clamp(min=0)
    peak = x.amax()
    return x / peak if peak > 0 else x


def enlarged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(x, size=size, mode="bilinear" if len(size) == 2 else "trilinear")
