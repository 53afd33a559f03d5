"""Names of axes, as "N H W C" or "(N T) C H W", and tensors brought to (N, C, *S) by them."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from math import prod

from torch import Tensor

from captum_3dcam._validation import show

_ORDER = "TDZHYWX"  # of a map's spatial axes: time or depth, height, width; others follow
_ENTRY = re.compile(r"([^\W\d]\w*)(?:=([1-9]\d*))?")
_TOKENS = "L"
_STRIDES = (2, 4, 8, 16, 32)
_MAX_PREFIX_TOKENS = 64  # class and register tokens; more are tokens of another grid
_FEW_PREFIX_TOKENS = 9  # with more, a strided grid that fits better is likelier

Shape = tuple[int, ...]
Axes = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor, each as the names that share it: (("N", "T"), ("C",), ("H",))."""

    axes: Axes
    given: Mapping[str, int]
    """The sizes that the text names."""
    text: str

    @classmethod
    def from_text(cls, text: str) -> "Layout":
        """Raises ValueError for anything but names, each once, N and C among them.

        >>> Layout.from_text("(N T=8) C H W").axes
        (('N', 'T'), ('C',), ('H',), ('W',))
        """
        groups = re.findall(r"\([^()]*\)|[^\s()]+|[()]", str(text))
        entries = [
            [_ENTRY.fullmatch(word) for word in group.strip("()").split() or [""]]
            for group in groups
        ]
        matches = [match for match in chain(*entries) if match is not None]
        names = [match[1] for match in matches]
        is_complete = len(matches) == len(list(chain(*entries)))
        if not is_complete or len(set(names)) < len(names) or not {"N", "C"} < set(names):
            raise ValueError(
                f"layout={show(text)}: expected the names of all axes in their order, N (batch), C "
                "(channels) and at least one other, as 'N H W C', 'N L C' (tokens) or "
                "'(N T) C H W' (frames folded into the batch)."
            )
        axes = tuple(tuple(match[1] for match in group if match) for group in entries)
        return cls(axes, {match[1]: int(match[2]) for match in matches if match[2]}, str(text))

    @property
    def needs_grid(self) -> bool:
        """Whether the sizes of the axes follow from more than the tensor and the batch size."""
        return any(self._is_grid(names, {"N", *self.given}) for names in self.axes)

    @property
    def names(self) -> list[str]:
        """N, C and the spatial axes, as :meth:`arrange` orders them."""
        return ["N", "C", *spatial_order(list(chain(*self.axes)))]

    @property
    def is_channels_first(self) -> bool:
        """Whether it is (N, C, *S) itself."""
        return self.axes == tuple((name,) for name in self.names)

    def restore(self, x: Tensor) -> Tensor:
        """The tensor (N, C, *S) with its axes in this layout: the inverse of :meth:`arrange`.

        >>> import torch
        >>> Layout.from_text("(N T) C H W").restore(torch.zeros(2, 3, 8, 4, 4)).shape
        torch.Size([16, 3, 4, 4])
        """
        names = self.names
        if x.ndim != len(names):
            raise ValueError(
                f"layout={self.text!r} has the axes {' '.join(names)}; received {tuple(x.shape)}."
            )
        sizes = dict(zip(names, x.shape, strict=True))
        x = x.permute([names.index(name) for name in chain(*self.axes)])
        return x.reshape([prod(sizes[name] for name in axis) for axis in self.axes])

    def sizes(self, shape: Shape) -> tuple[int, tuple[int, ...]]:
        """The number of samples in an input of this shape, and its spatial size.

        Raises ValueError for an input that cannot have this layout, or whose axes it leaves open.
        """
        self._check_length(shape)
        sizes: dict[str, int] = {}
        for axis, names in enumerate(self.axes):
            unknown = [name for name in names if name not in self.given]
            if len(unknown) > 1:
                reason = f"it leaves the sizes of {' and '.join(unknown)} open"
                raise ValueError(self._misfit(shape, reason))
            sizes |= self._axis_sizes(shape, axis, names, self.given)
        return sizes["N"], tuple(sizes[name] for name in spatial_order(list(sizes)))

    def arrange(
        self, x: Tensor, batch_size: int, rank: int | None = None, shapes: Sequence[Shape] = ()
    ) -> Tensor:
        """The tensor as (N, C, *S): its spatial axes as time or depth, height, width.

        ``rank`` is the number of the map's spatial axes. The tokens L have those that no other
        name has. Their size is that of the last grid among ``shapes``, (N, C, *S) or (N*T, C, *S);
        tokens in excess come first and are dropped.

        Raises ValueError for a tensor that cannot have this layout.
        """
        self._check_length(x.shape)
        known = {"N": batch_size, **self.given}
        axes = self._split_tokens(rank)
        of_axes: list[dict[str, int]] = [{} for _ in axes]
        # The axes of a grid come last: the sizes of the others narrow down which grid it is.
        for axis in sorted(range(x.ndim), key=lambda axis: self._is_grid(self.axes[axis], known)):
            if self._is_grid(self.axes[axis], known):
                of_axes[axis] = self._grid_sizes(x.shape, axis, axes, known, shapes)
            else:
                of_axes[axis] = self._axis_sizes(x.shape, axis, axes[axis], known)
            known = {**known, **of_axes[axis]}
            kept = prod(of_axes[axis].values())
            x = x.narrow(axis, x.shape[axis] - kept, kept)
        sizes = dict(chain(*(of_axis.items() for of_axis in of_axes)))
        names = list(sizes)
        order = ["N", "C", *spatial_order(names)]
        return x.reshape(list(sizes.values())).permute([names.index(name) for name in order])

    @staticmethod
    def _is_grid(names: Sequence[str], known: Container[str]) -> bool:
        """Whether the names share an axis from whose size theirs do not follow."""
        return _TOKENS in names or sum(name not in known for name in names) > 1

    def _split_tokens(self, rank: int | None) -> Axes:
        """The axes with a name for each spatial axis of the tokens: L0, L1."""
        others = len(spatial_order(list(chain(*self.axes)))) - 1
        tokens = [f"{_TOKENS}{i}" for i in range(max(1, (rank or 1) - others))]
        return tuple(
            tuple(chain(*([name] if name != _TOKENS else tokens for name in names)))
            for names in self.axes
        )

    def _axis_sizes(
        self, shape: Shape, axis: int, names: Sequence[str], known: Mapping[str, int]
    ) -> dict[str, int]:
        """The names on an axis with their sizes, of which one at most is not known."""
        size = shape[axis]
        if names == ("N",) and "N" not in self.given:
            return {"N": size}
        product = prod(known[name] for name in names if name in known)
        unknown = [name for name in names if name not in known]
        if size % product:
            sizes = " ".join(f"{name}={known[name]}" for name in names if name in known)
            raise ValueError(self._misfit(shape, f"{size} is no multiple of {sizes}"))
        if not unknown and size != product:
            raise ValueError(self._misfit(shape, f"its axis {axis} has {size} entries"))
        return {name: known.get(name, size // product) for name in names}

    def _grid_sizes(
        self,
        shape: Shape,
        axis: int,
        axes: Axes,
        known: Mapping[str, int],
        shapes: Sequence[Shape],
    ) -> dict[str, int]:
        """The names on an axis of tokens, each with its size."""
        size, names = shape[axis], axes[axis]
        spatial = spatial_order(list(chain(*axes)))
        unknown = [name for name in spatial if name in names and name not in known]
        channels = next((shape[i] for i, of_axis in enumerate(axes) if of_axis == ("C",)), None)
        sizes: dict[str, int] = {}
        # Tokens in excess come before the grid, so that a batch cannot be folded with them.
        least = 1 if "N" in names else _MAX_PREFIX_TOKENS + 1
        grids = list(dict.fromkeys(_grids(shapes, size, channels, known["N"])))
        for grid, is_strided in chain(zip(grids, repeat(False)), _strided(grids)):
            if is_strided and sizes and least <= _FEW_PREFIX_TOKENS:
                break
            of_grid = next((n for n in (spatial, unknown) if len(n) == len(grid)), ())
            candidate = {**known, **dict(zip(of_grid, grid, strict=False))}
            if not set(names) <= set(candidate) or any(
                candidate[name] != known[name] for name in known
            ):
                continue
            excess = size - prod(candidate[name] for name in names)
            if 0 <= excess < least:
                sizes, least = candidate, excess
        if not sizes:
            tokens = size // known["N"] if "N" in names else size
            raise ValueError(self._misfit(shape, f"no grid of {tokens} tokens came before it"))
        return {name: sizes[name] for name in names}

    def _check_length(self, shape: Shape) -> None:
        if len(shape) != len(self.axes):
            raise ValueError(self._misfit(shape, f"it has {len(shape)} axes"))

    def _misfit(self, shape: Shape, reason: str) -> str:
        return (
            f"layout={self.text!r} does not fit a tensor of shape {tuple(shape)}: {reason}. Name "
            "its axes in their order, with a size where it is open, as (N T=8)."
        )


def spatial_order(names: Sequence[str]) -> list[str]:
    """The spatial axes among the names, in the order of a map's.

    >>> spatial_order(["N", "H", "W", "T", "C"])
    ['T', 'H', 'W']
    """
    spatial = [name for name in names if name not in ("N", "C")]
    return sorted(spatial, key=lambda name: _ORDER.find(name) % (len(_ORDER) + 1))


def _grids(
    shapes: Sequence[Shape], tokens: int, channels: int | None, batch_size: int
) -> Iterator[Shape]:
    """The grids that tensors (N, C, *S) or (N*T, C, *S) of these shapes may have, from the last."""
    for shape in reversed(shapes):
        rows, entries, *grid = shape
        # Tokens (N, L, C) are not on a grid of C positions.
        if len(grid) == 1 and entries == tokens and (channels != tokens or grid[0] == channels):
            continue
        yield tuple(grid)
        if len(grid) > 1 and rows % batch_size == 0:
            yield (rows // batch_size, *grid)


def _strided(grids: Sequence[Shape]) -> Iterator[tuple[Shape, bool]]:
    """What a stride leaves of the grids, over all axes, or over height and width.

    Networks that merge tokens from stage to stage make a grid only once, of patches.
    """
    for stride in _STRIDES:
        for grid in grids:
            for kept in sorted({0, max(0, len(grid) - 2)}):
                yield (*grid[:kept], *(-(-size // stride) for size in grid[kept:])), True
