"""The slices of a volume: which axes they show, which way round, and where in millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from captum_3dcam.visualization._figures import EDGED
from captum_3dcam.visualization._inputs import Array
from captum_3dcam.visualization.style import Extent, Look, draw

_NAMES = "DHW"
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
# What a slice across each pair of directions is called, and what lies up and left on it.
_PLANES = {"SI": ("axial", "A", "R"), "AP": ("coronal", "S", "R"), "LR": ("sagittal", "S", "A")}


class Plane(NamedTuple):
    """How slices across ``axis`` are shown: the axes of the volume and the way they run."""

    name: str
    axis: int
    row: int
    """The vertical axis."""
    column: int
    """The horizontal axis."""
    down: bool = True
    """Whether the vertical axis runs down."""
    right: bool = True
    edges: str = ""
    """The letters at the left, right, top and bottom."""


@dataclass(frozen=True)
class Geometry:
    """The shape of a volume (D, H, W), its voxels' sides in mm, and where its axes point to.

    ``orientation`` has a letter an axis, of its direction of growth: "SPL" for an axis D that
    goes to the patient's superior, H to the posterior and W to the left. With it, slices are
    shown as radiologists do: the patient's right on the left, superior or anterior up. Without
    it, they are shown as images are: the first row on top.
    """

    shape: tuple[int, int, int]
    spacing: Sequence[float] | None
    orientation: Sequence[str] | None

    def __post_init__(self) -> None:
        spacing = np.asarray((1, 1, 1) if self.spacing is None else self.spacing, float)
        if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
            raise ValueError(
                f"spacing={self.spacing!r} must be three positive lengths in mm, those of D, H, W."
            )
        codes = sorted(self._codes)
        if codes and codes not in [sorted((a, b, c)) for a in "LR" for b in "AP" for c in "SI"]:
            raise ValueError(
                f"orientation={self.orientation!r} must have a letter for each of D, H, W: L or R, "
                "A or P, and S or I, that its axis points to."
            )

    @property
    def _codes(self) -> list[str]:
        return [letter.upper() for letter in self.orientation or ()]

    @property
    def planes(self) -> list[Plane]:
        """Across D, H and W; with an orientation, axial, coronal and sagittal."""
        found = [self.plane(axis) for axis in range(3)]
        return sorted(found, key=lambda plane: plane.name) if self._codes else found

    def plane(self, axis: int) -> Plane:
        row, column = (other for other in range(3) if other != axis)
        if not self._codes:
            return Plane("", axis, row, column)
        pair = next(pair for pair in _PLANES if self._codes[axis] in pair)
        name, up, left = _PLANES[pair]
        if self._codes[row] not in (up, _OPPOSITE[up]):
            row, column = column, row
        down, right = self._codes[row] != up, self._codes[column] != left
        return Plane(
            name, axis, row, column, down, right, left + _OPPOSITE[left] + up + _OPPOSITE[up]
        )

    def place(self, axis: int, index: float) -> float:
        """Where a voxel's centre lies: in mm from the first one's, or in voxels."""
        return index * (1.0 if self.spacing is None else float(self.spacing[axis]))

    def label(self, axis: int, index: int) -> str:
        voxel = f"{_NAMES[axis]} = {index}"
        if self.spacing is None:
            return voxel
        return f"{voxel} ({round(self.place(axis, index), 1):g} mm)"

    def axis_label(self, axis: int) -> str:
        return f"{_NAMES[axis]} ({'voxel' if self.spacing is None else 'mm'})"

    def span(self, axis: int) -> tuple[float, float]:
        return self.place(axis, -0.5), self.place(axis, self.shape[axis] - 0.5)

    def length(self, axis: int) -> float:
        first, last = self.span(axis)
        return last - first


def cut(values: Array, plane: Plane, index: int, length: int) -> Array:
    """The slice of a map at voxel ``index`` of ``length``, between two of a coarser map's.

    As linear interpolation with ``align_corners=False`` has it.
    """
    size = values.shape[plane.axis]
    position = min(max((index + 0.5) * size / length - 0.5, 0.0), size - 1.0)
    below = int(position)
    weight = position - below
    first = values.take(below, plane.axis)
    if weight:
        first = (1 - weight) * first + weight * values.take(below + 1, plane.axis)
    return turned(first, plane)


def turned(picture: Array, plane: Plane) -> Array:
    """Rows first, of a picture whose axes come in the volume's order."""
    return picture.T if plane.row > plane.column else picture


def grey(picture: Array, window: tuple[float, float]) -> Array:
    """From the window's low, black, to its high, white; black where there is no number."""
    low, high = window
    lifted = np.nan_to_num(picture.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.clip((lifted - low) / ((high - low) or 1), 0, 1).astype(np.float32)


def draw_plane(
    ax: Axes, heat: Array, image: Array, look: Look, geometry: Geometry, plane: Plane
) -> None:
    """A slice in its place in mm or voxels, axes labelled, patient's sides at the edges."""
    (left, right), (top, bottom) = geometry.span(plane.column), geometry.span(plane.row)
    extent: Extent = (left, right, bottom, top)
    draw(ax, heat, image, look, extent)
    ax.set_aspect("equal")
    if not plane.down:
        ax.invert_yaxis()
    if not plane.right:
        ax.invert_xaxis()
    ax.set_xlabel(geometry.axis_label(plane.column))
    ax.set_ylabel(geometry.axis_label(plane.row))
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (ha, va) in zip(plane.edges, places, sides, strict=False):
        ax.text(x, y, letter, ha=ha, va=va, transform=ax.transAxes, weight="bold", **EDGED)
