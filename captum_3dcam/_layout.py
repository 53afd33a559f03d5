"""Names of axes, as "N H W C" or "(N T) C H W", and tensors brought to (N, C, *S) by them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from torch import Tensor

_ORDER = "TDZHYWX"  # of a map's spatial axes: time or depth, height, width; others follow
_MAX_PREFIX_TOKENS = 64  # class and register tokens; more are tokens of another grid

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor, each as the names that share it: (("N", "T"), ("C",), ("H",))."""

    axes: tuple[tuple[str, ...], ...]
    given: Mapping[str, int]
    """The sizes that the text names."""
    text: str

    @classmethod
    def from_text(cls, text: str) -> "Layout":
        """Raises ValueError for anything but names, each once, N and C among them.

        >>> Layout.from_text("(N T=8) C H W").axes
        (('N', 'T'), ('C',), ('H',), ('W',))
        """
        words = re.findall(r"\(([^()]*)\)|([^\W\d]\w*(?:=\d+)?)|(\S)", str(text))
        groups = [group.split() or [name] for group, name, _ in words]
        entries = [entry.split("=") for entry in chain(*groups)]
        names = [name for name, *_ in entries]
        stray = any(stray for *_, stray in words)
        if stray or len(set(names)) < len(names) or not {"N", "C"} < set(names):
            raise ValueError(
                f"layout={text!r}: expected the names of all axes in their order, N (batch), C "
                "(channels) and at least one other, as 'N H W C', 'N L C' (tokens) or "
                "'(N T) C H W' (frames folded into the batch)."
            )
        axes = tuple(tuple(entry.split("=")[0] for entry in group) for group in groups)
        return cls(axes, {name: int(size[0]) for name, *size in entries if size}, str(text))

    @property
    def needs_grid(self) -> bool:
        """Whether the sizes of the axes follow from more than the tensor and the batch size."""
        return any(axis == ("L",) or len(self._unknown(axis)) > 1 for axis in self.axes)

    def sizes(self, shape: Shape) -> tuple[int, tuple[int, ...]]:
        """The number of samples in an input of this shape, and its spatial size.

        Raises ValueError for an input that cannot have this layout, or whose axes it leaves open.
        """
        if len(shape) != len(self.axes):
            raise ValueError(self._misfit(shape, f"it has {len(shape)} axes"))
        sizes = dict(self.given)
        for names, size in zip(self.axes, shape, strict=True):
            unknown = [name for name in names if name not in self.given]
            known = prod(self.given[name] for name in names if name in self.given)
            if len(unknown) > 1 or size % known:
                raise ValueError(
                    self._misfit(shape, f"it leaves the sizes of {' and '.join(unknown)} open")
                    if len(unknown) > 1
                    else self._misfit(shape, f"{size} is no multiple of {known}")
                )
            sizes |= dict.fromkeys(unknown, size // known)
        return sizes["N"], tuple(sizes[name] for name in spatial_order(list(sizes)))

    def _unknown(self, axis: Sequence[str]) -> list[str]:
        return [name for name in axis if name != "N" and name not in self.given]

    def arrange(
        self, x: Tensor, batch_size: int, rank: int | None = None, shapes: Sequence[Shape] = ()
    ) -> Tensor:
        """The tensor as (N, C, *S): its spatial axes as time or depth, height, width.

        The size of token axes is that of the last grid among ``shapes``, (N, C, *S) or
        (N*T, C, *S) with ``rank`` spatial axes; tokens in excess come first and are dropped.

        Raises ValueError for a tensor that cannot have this layout.
        """
        if x.ndim != len(self.axes):
            raise ValueError(self._misfit(x.shape, f"it has {x.ndim} axes"))
        sizes: dict[str, int] = {}
        for axis in range(x.ndim):
            of_axis = self._sizes(x.shape, axis, batch_size, rank, shapes)
            kept = prod(of_axis.values())
            if kept < x.shape[axis]:
                x = x.narrow(axis, x.shape[axis] - kept, kept)
            sizes.update(of_axis)
        names = list(sizes)
        order = ["N", "C", *spatial_order(names)]
        return x.reshape(list(sizes.values())).permute([names.index(name) for name in order])

    def _sizes(
        self, shape: Shape, axis: int, batch_size: int, rank: int | None, shapes: Sequence[Shape]
    ) -> dict[str, int]:
        """The names on the axis, each with its size."""
        names, size = self.axes[axis], shape[axis]
        if len(names) == 1 and names != ("L",):
            return {names[0]: size}
        known = {"N": batch_size, **self.given}
        unknown = self._unknown(names)
        if "L" in names or len(unknown) > 1:
            return self._grid_sizes(shape, axis, known, rank, shapes)
        rest = size
        for name in names:
            rest, remainder = divmod(rest, known.get(name, 1))
            if remainder:
                raise ValueError(
                    self._misfit(shape, f"{size} is no multiple of {name}={known[name]}")
                )
        if not unknown and rest != 1:
            raise ValueError(self._misfit(shape, f"its axis {axis} has {size} entries"))
        known |= dict.fromkeys(unknown, rest)
        return {name: known[name] for name in names}

    def _grid_sizes(
        self,
        shape: Shape,
        axis: int,
        known: Mapping[str, int],
        rank: int | None,
        shapes: Sequence[Shape],
    ) -> dict[str, int]:
        """The names on an axis of tokens, each with its size."""
        names = self.axes[axis]
        spatial = spatial_order(names)
        batch = {"N": known["N"]} if "N" in names else {}
        tokens = shape[axis] // prod(batch.values())
        grid = _grid_of(tokens, rank if spatial == ["L"] else len(spatial), known["N"], shapes)
        # Tokens in excess come before the grid, so that a batch cannot be folded with them.
        if grid is None or (batch and prod(grid) != tokens):
            raise ValueError(self._misfit(shape, f"no grid of {tokens} tokens came before it"))
        if spatial == ["L"]:
            return batch | {f"L{i}": length for i, length in enumerate(grid)}
        sizes = batch | dict(zip(spatial, grid, strict=True))
        return {name: sizes[name] for name in names}

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


def _grid_of(
    tokens: int, rank: int | None, batch_size: int, shapes: Sequence[Shape]
) -> Shape | None:
    """The grid that these tokens fill but for a few: of those that fit best, the last one."""
    grids = [
        shape[2:] if shape[0] == batch_size else (shape[0] // batch_size, *shape[2:])
        for shape in shapes
        if shape[0] % batch_size == 0
    ]
    fitting = [
        grid
        for grid in reversed(grids)
        if len(grid) == rank and 0 <= tokens - prod(grid) <= _MAX_PREFIX_TOKENS
    ]
    return min(fitting, key=lambda grid: tokens - prod(grid), default=None)
