"""Which tensors of the network to look at: layers by module or dotted name, tokens as grids."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from math import prod
from typing import Any

from torch import Tensor, nn

from captum_3dcam._model_state import modules_behind

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """One layer to look at, where its output needs a word of explanation.

    Args:
        module: the module, or its dotted name as in ``model.named_modules()``.
        reshape: turns the layer's tensor into (N, C, *S_k), for token layers and for 2D
            networks that fold frames into the batch. It is applied to the activation and to
            its gradient, so it may only move or drop entries. :func:`tokens_to_grid` and
            :func:`frames_to_clip` make the usual ones.
        index: which tensor to take where the layer gives a tuple, a list (an int) or a dict
            (a key). By default the first tensor. With ``attribute_to_layer_input``: which
            argument, by position or by name.

    >>> Layer("blocks.5", reshape=tokens_to_grid((8, 14, 14), prefix_tokens=1)).module
    'blocks.5'
    """

    module: nn.Module | str
    reshape: Reshape | None = None
    index: int | str | None = None
    name: str = field(default="", repr=False)


def tokens_to_grid(grid: Sequence[int], prefix_tokens: int = 0) -> Reshape:
    """A ``reshape`` for transformers: (N, prefix_tokens + ΠS, C) -> (N, C, *grid).

    ``grid`` is the number of patches along each axis, (T', H', W') or (H', W'), the last one
    running fastest. ``prefix_tokens`` come first and are dropped (class and register tokens).

    >>> import torch
    >>> tokens_to_grid((2, 3, 3), prefix_tokens=1)(torch.ones(4, 19, 16)).shape
    torch.Size([4, 16, 2, 3, 3])
    """
    return partial(_tokens_to_grid, grid=tuple(grid), prefix_tokens=prefix_tokens)


def _tokens_to_grid(x: Tensor, grid: tuple[int, ...], prefix_tokens: int) -> Tensor:
    expected = prefix_tokens + prod(grid)
    if x.ndim != 3 or x.shape[1] != expected:
        raise ValueError(
            f"tokens_to_grid({grid}, prefix_tokens={prefix_tokens}) expects tokens of shape "
            f"(N, {expected}, C); got {tuple(x.shape)}. Give the number of patches along each "
            "axis, and how many class or register tokens come before them."
        )
    return x[:, prefix_tokens:].transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


def frames_to_clip(num_frames: int) -> Reshape:
    """A ``reshape`` for 2D networks over folded frames: (N*T, C, *S) -> (N, C, T, *S).

    >>> import torch
    >>> frames_to_clip(8)(torch.ones(16, 32, 7, 7)).shape
    torch.Size([2, 32, 8, 7, 7])
    """
    return partial(_frames_to_clip, num_frames=num_frames)


def _frames_to_clip(x: Tensor, num_frames: int) -> Tensor:
    if x.shape[0] % num_frames:
        raise ValueError(
            f"frames_to_clip({num_frames}) expects a multiple of {num_frames} rows, a row a "
            f"frame; got shape {tuple(x.shape)}. Pass the number of frames in one clip."
        )
    return x.reshape(-1, num_frames, *x.shape[1:]).transpose(1, 2)


def resolve_layers(layers: Any, forward_func: Callable[..., Any]) -> tuple[Layer, ...]:
    """``layers`` as :class:`Layer` objects that hold modules, each with a name for messages.

    Raises TypeError for what is no layer, ValueError for no layers or an unknown name.
    """
    several = isinstance(layers, (list, tuple, nn.ModuleList, Iterator))
    given = list(layers) if several else [layers]
    if not given:
        raise ValueError("layers is empty. Pass at least one module or dotted name.")
    # A function that runs one network is as good as the network, for its names.
    roots = modules_behind(forward_func)
    named = roots[0].named_modules(remove_duplicate=False) if len(roots) == 1 else ()
    modules = dict(named)
    return tuple(_resolve(layer, position, modules) for position, layer in enumerate(given))


def _resolve(layer: Any, position: int, modules: dict[str, nn.Module]) -> Layer:
    spec: Layer = layer if isinstance(layer, Layer) else Layer(layer)
    if isinstance(spec.module, str):
        return replace(spec, module=_find(spec.module, modules), name=spec.module)
    if not isinstance(spec.module, nn.Module):
        raise TypeError(
            "layers takes modules, dotted names, Layer(...) objects, or a list of these; got "
            f"{type(spec.module).__name__} at position {position}."
        )
    names = (name for name, module in modules.items() if module is spec.module)
    unnamed = f"layers[{position}] ({type(spec.module).__name__})"
    return replace(spec, name=next(names, unnamed) or unnamed)


def _find(name: str, modules: dict[str, nn.Module]) -> nn.Module:
    if not modules:
        raise ValueError(
            f"Layer name {name!r} needs a forward_func that is a torch.nn.Module, or a function "
            "that runs one, to look it up in; in this one none, or more than one, was found. Pass "
            "the module itself, e.g. layers=[model.layer4]."
        )
    # DataParallel and torch.compile put the network one level down: let its own names hold.
    wrappers = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.")
    for wrapper in wrappers:
        if wrapper + name in modules:
            return modules[wrapper + name]
    near = get_close_matches(name, modules, n=3, cutoff=0.4) or [key for key in modules if key][:3]
    raise ValueError(
        f"The model has no layer named {name!r}. The nearest names are "
        f"{', '.join(map(repr, near))}; model.named_modules() lists them all."
    )
