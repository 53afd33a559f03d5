"""Which tensors of the network to explain: layers by module or dotted name, and their grids."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from math import prod
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from captum_3dcam._layout import Layout
from captum_3dcam._validation import (
    check_integer,
    check_integers,
    check_tensor,
    describe,
    is_number,
    show,
)

Reshape = Callable[[Tensor], Tensor]
_CALLS = ("last", "stack", "sum")


@dataclass(frozen=True)
class Layer:
    """One layer to explain, where its output needs more than its name.

    Args:
        module: the module, or its dotted name as in ``model.named_modules()``.
        reshape: a function that turns the layer's tensor into (N, C, *S_k), where ``layout``
            cannot describe it. It is applied to the activation and to its gradient, so it may
            only move or drop entries. See :func:`tokens_to_grid`, :func:`frames_to_clip`.
        index: which tensor to take where the layer returns a tuple, a list (an int) or a dict
            (a key). By default the first tensor. With ``attribute_to_layer_input``: which
            argument, by position or by name.
        calls: which calls to explain of a layer that runs several times in one forward pass.
            "last"; "stack" puts the calls on a new first spatial axis (a 2D network that runs
            frame by frame in a loop); "sum" adds the maps of all calls (a head that feature levels
            share); an int chooses one, from 0 on (the branches of a siamese network). By default
            the last one, as in Captum, with a warning if there are more.
        layout: the names of the axes of the layer's tensor, in their order: N for the batch, C
            for channels, L for tokens, any other for a spatial axis, and parentheses for axes
            that share one. "N H W C" is channels last, "N L C" are tokens, "(N T) C H W" are frames
            folded into the batch, "N (H W T) C" are tokens whose time runs fastest. The grid of the
            tokens is that of the last tensor on a grid before them, the patch embedding; tokens
            in excess, as a class token, come first and are dropped.

    Raises:
        ValueError: for ``calls`` or ``layout`` of another form, or a layout beside a reshape.

    >>> Layer("blocks.5", layout="N L C").layout
    'N L C'
    """

    module: nn.Module | str
    reshape: Reshape | None = None
    index: int | str | None = None
    calls: str | int | None = None
    layout: str | None = None
    name: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        calls: Any = self.calls
        if is_number(calls, Integral) and calls >= 0:
            object.__setattr__(self, "calls", int(calls))
        elif calls is not None and not (isinstance(calls, str) and calls in _CALLS):
            raise ValueError(
                f"calls={show(calls)} is not known. Choose 'last', 'stack', 'sum', or the "
                "number of a call, from 0 on."
            )
        if self.reshape is not None and not callable(self.reshape):
            raise TypeError(
                f"reshape={show(self.reshape)}: expected a function from the layer's tensor to "
                "(N, C, *S_k), as tokens_to_grid((7, 7)) returns one."
            )
        if self.layout is not None:
            Layout.from_text(self.layout)
            if self.reshape is not None:
                raise ValueError("layout and reshape exclude each other. Pass one of them.")

    @property
    def needs_grid(self) -> bool:
        """Whether the layout leaves the size of a spatial axis open."""
        return self.layout is not None and Layout.from_text(self.layout).needs_grid

    def arrangement(
        self, batch_size: int, rank: int | None = None, shapes: Sequence[tuple[int, ...]] = ()
    ) -> Reshape:
        """What turns the layer's tensor into (N, C, *S_k).

        ``shapes`` are those of the tensors before it, where a layout finds the grid of tokens.
        """
        if self.layout is None:
            return self.reshape or _as_it_is
        layout = Layout.from_text(self.layout)
        return partial(layout.arrange, batch_size=batch_size, rank=rank, shapes=tuple(shapes))


def _as_it_is(x: Tensor) -> Tensor:
    return x


def tokens_to_grid(grid: Sequence[int], prefix_tokens: int = 0) -> Reshape:
    """A ``reshape`` for transformers: (N, prefix_tokens + ΠS, C) -> (N, C, *grid).

    ``grid`` is the number of patches along each axis, (T', H', W') or (H', W'), the last one
    running fastest. ``prefix_tokens`` come first and are dropped (class and register tokens).
    Raises TypeError or ValueError for a grid that is not of positive integers, and for tokens of
    another shape.

    >>> import torch
    >>> tokens_to_grid((2, 3, 3), prefix_tokens=1)(torch.ones(4, 19, 16)).shape
    torch.Size([4, 16, 2, 3, 3])
    """
    return partial(
        _tokens_to_grid,
        grid=check_integers("grid", grid),
        prefix_tokens=check_integer("prefix_tokens", prefix_tokens, minimum=0),
    )


def _tokens_to_grid(x: Tensor, grid: tuple[int, ...], prefix_tokens: int) -> Tensor:
    check_tensor("the layer's output", x)
    expected = prefix_tokens + prod(grid)
    if x.ndim != 3 or x.shape[1] != expected:
        raise ValueError(
            f"tokens_to_grid({grid}, prefix_tokens={prefix_tokens}) expects tokens of shape "
            f"(N, {expected}, C); received {tuple(x.shape)}. Pass the number of patches along each "
            "axis, and how many class or register tokens come before them."
        )
    return x[:, prefix_tokens:].transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


def attention_to_grid(grid: Sequence[int], prefix_tokens: int = 0) -> Reshape:
    """A ``reshape`` for attention: (N, heads, queries, keys) -> (N, heads · queries, *grid).

    The keys lie on the grid, as the tokens of :func:`tokens_to_grid`, which has the same arguments
    and errors.

    >>> import torch
    >>> attention_to_grid((2, 3, 3), prefix_tokens=1)(torch.ones(4, 8, 19, 19)).shape
    torch.Size([4, 152, 2, 3, 3])
    """
    return partial(_attention_to_grid, keys_to_grid=tokens_to_grid(grid, prefix_tokens))


def _attention_to_grid(x: Tensor, keys_to_grid: Reshape) -> Tensor:
    check_tensor("the layer's output", x)
    if x.ndim != 4:
        raise ValueError(
            f"attention_to_grid expects attention weights (N, heads, queries, keys); received "
            f"{tuple(x.shape)}. Choose the layer that returns them, e.g. attn.attn_drop of timm's "
            "blocks with attn.fused_attn = False."
        )
    return keys_to_grid(x.flatten(1, 2).mT)


def frames_to_clip(num_frames: int) -> Reshape:
    """A ``reshape`` for 2D networks over folded frames: (N*T, C, *S) -> (N, C, T, *S).

    Raises ValueError unless ``num_frames`` is a positive integer.

    >>> import torch
    >>> frames_to_clip(8)(torch.ones(16, 32, 7, 7)).shape
    torch.Size([2, 32, 8, 7, 7])
    """
    return partial(_frames_to_clip, num_frames=check_integer("num_frames", num_frames))


def _frames_to_clip(x: Tensor, num_frames: int) -> Tensor:
    check_tensor("the layer's output", x)
    if x.ndim < 2 or x.shape[0] % num_frames:
        raise ValueError(
            f"frames_to_clip({num_frames}) expects a multiple of {num_frames} rows, one per "
            f"frame; received {describe(x)}. Pass the number of frames in one clip."
        )
    return x.reshape(len(x) // num_frames, num_frames, *x.shape[1:]).transpose(1, 2)


def resolve_layers(layers: Any, forward_func: Callable[..., Any]) -> tuple[Layer, ...]:
    """``layers`` as :class:`Layer` objects that hold modules, each with a name for messages.

    Raises TypeError for what is no layer, ValueError for no layers or an unknown name.
    """
    several = isinstance(layers, (list, tuple, nn.ModuleList, Iterator))
    specs = list(layers) if several else [layers]
    if not specs:
        raise ValueError("layers is empty. Pass at least one module or dotted name.")
    root = forward_func if isinstance(forward_func, nn.Module) else None
    return tuple(_resolve(layer, position, root) for position, layer in enumerate(specs))


def _resolve(layer: Any, position: int, root: nn.Module | None) -> Layer:
    spec: Layer = layer if isinstance(layer, Layer) else Layer(layer)
    name = spec.module
    if isinstance(name, str):
        if root is None:  # found in the network that the function runs, when it runs
            return replace(spec, name=name)
        module = find_module(name, root)
        if module is None:
            raise unknown_name(name, [root])
        return replace(spec, module=module, name=name)
    if not isinstance(spec.module, nn.Module):
        raise TypeError(
            "layers takes modules, dotted names, Layer(...) objects, or a list of these; received "
            f"{type(spec.module).__name__} at position {position}."
        )
    named = root.named_modules(remove_duplicate=False) if root is not None else ()
    names = (name for name, module in named if module is spec.module)
    unnamed = f"layers[{position}] ({type(spec.module).__name__})"
    return replace(spec, name=spec.name or next(names, unnamed) or unnamed)


def find_module(name: str, root: nn.Module) -> nn.Module | None:
    """The module of this dotted name; None if there is none."""
    # DataParallel and torch.compile put the network one level down: let its own names hold.
    for wrapper in ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        module: nn.Module | None = root
        for step in (wrapper + name).split("."):
            known = {} if module is None else module._modules
            module = known[step] if step in known else None  # noqa: SIM401  TorchScript has no get
        if module is not None:
            return module
    return None


def unknown_name(name: str, roots: Sequence[nn.Module]) -> ValueError:
    """The error for a name that no network has, with the nearest names."""
    names = list(dict.fromkeys(key for root in roots for key, _ in root.named_modules() if key))
    near = get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    if not near:
        return ValueError(
            f"Layer name {name!r} needs a network to look it up in, and forward_func runs none. "
            "Pass the model, or the layer's module, e.g. layers=[model.layer4]."
        )
    return ValueError(
        f"The model has no layer named {name!r}. The nearest names are "
        f"{', '.join(map(repr, near))}; model.named_modules() lists them all."
    )
