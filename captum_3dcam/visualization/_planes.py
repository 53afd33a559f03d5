"""The planes of a volume: which axes a slice shows, in which direction, and in millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._figures import OUTLINED
from captum_3dcam.visualization._image_layers import draw_map
from captum_3dcam.visualization._inputs import Array

_NAMES = "DHW"
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
# For slices across each pair of directions: their name, and the sides shown at the top and left.
_PLANES = {"SI": ("axial", "A", "R"), "AP": ("coronal", "S", "R"), "LR": ("sagittal", "S", "A")}


class Plane(NamedTuple):
    """How slices across ``axis`` are shown: the volume's axes of their rows and columns."""

    name: str
    axis: int
    row: int
    """The vertical axis."""
    column: int
    """The horizontal axis."""
    down: bool = True
    """Whether the vertical axis grows downwards."""
    right: bool = True
    edges: str = ""
    """The letters at the left, right, top and bottom edge."""


@dataclass(frozen=True)
class Geometry:
    """The shape of a volume (D, H, W), its voxel spacing in mm, and the orientation of its axes.

    ``orientation`` has a letter for the direction in which each axis grows: "SPL" for D to the
    patient's superior, H to the posterior, W to the left. Slices are then shown in radiological
    convention: the patient's right on the left, superior or anterior at the top. Without it,
    they are shown as images: the first row at the top.
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
                "A or P, and S or I, the direction in which the axis grows."
            )

    @property
    def _codes(self) -> list[str]:
        return [letter.upper() for letter in self.orientation or ()]

    @property
    def planes(self) -> list[Plane]:
        """Across D, H and W; with an orientation, axial, coronal and sagittal."""
        planes = [self.plane(axis) for axis in range(3)]
        return sorted(planes, key=lambda plane: plane.name) if self._codes else planes

    def plane(self, axis: int) -> Plane:
        row, column = (other for other in range(3) if other != axis)
        if not self._codes:
            return Plane("", axis, row, column)
        pair = next(pair for pair in _PLANES if self._codes[axis] in pair)
        name, up, left = _PLANES[pair]
        if self._codes[row] not in (up, _OPPOSITE[up]):
            row, column = column, row
        down, right = self._codes[row] != up, self._codes[column] != left
        edges = left + _OPPOSITE[left] + up + _OPPOSITE[up]
        return Plane(name, axis, row, column, down, right, edges)

    def position(self, axis: int, index: float) -> float:
        """Of a voxel's centre: in mm from the first voxel's, or in voxels."""
        return index * (1.0 if self.spacing is None else float(self.spacing[axis]))

    def label(self, axis: int, index: int) -> str:
        voxel = f"{_NAMES[axis]} = {index}"
        if self.spacing is None:
            return voxel
        return f"{voxel} ({round(self.position(axis, index), 1):g} mm)"

    def axis_label(self, axis: int) -> str:
        return f"{_NAMES[axis]} ({'voxel' if self.spacing is None else 'mm'})"

    def limits(self, axis: int) -> tuple[float, float]:
        return self.position(axis, -0.5), self.position(axis, self.shape[axis] - 0.5)

    def length(self, axis: int) -> float:
        first, last = self.limits(axis)
        return last - first


def rows_first(image: Array, plane: Plane) -> Array:
    """An image with its axes in the volume's order, transposed to the plane's rows and columns."""
    return image.T if plane.row > plane.column else image


def interpolate_slice(values: Array, plane: Plane, index: int, length: int) -> Array:
    """The slice of a map at voxel ``index`` of the volume's ``length`` along the plane's axis.

    Linear between two slices of a coarser map, as ``F.interpolate`` with ``align_corners=False``.
    """
    size = values.shape[plane.axis]
    position = min(max((index + 0.5) * size / length - 0.5, 0.0), size - 1.0)
    below = int(position)
    weight = position - below
    image = values.take(below, plane.axis)
    if weight:
        image = (1 - weight) * image + weight * values.take(below + 1, plane.axis)
    return rows_first(image, plane)


def apply_window(image: Array, window: tuple[float, float]) -> Array:
    """Grey values in [0, 1]: the window's low is black, its high white; NaN is black."""
    low, high = window
    finite = np.nan_to_num(image.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.clip((finite - low) / ((high - low) or 1), 0, 1).astype(np.float32)


def draw_slice(
    ax: Axes, heat: Array, image: Array, colors: ColorScale, geometry: Geometry, plane: Plane
) -> None:
    """Draw a map over its slice, in mm or voxels, with the patient's sides at the edges."""
    (left, right), (top, bottom) = geometry.limits(plane.column), geometry.limits(plane.row)
    draw_map(ax, heat, image, colors, (left, right, bottom, top))
    ax.set_aspect("equal")
    if not plane.down:
        ax.invert_yaxis()
    if not plane.right:
        ax.invert_xaxis()
    ax.set_xlabel(geometry.axis_label(plane.column))
    ax.set_ylabel(geometry.axis_label(plane.row))
    positions = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (ha, va) in zip(plane.edges, positions, sides, strict=False):
        ax.text(x, y, letter, ha=ha, va=va, transform=ax.transAxes, weight="bold", **OUTLINED)
