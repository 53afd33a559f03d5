"""Scan: a volume with its voxel spacing and orientation, and its slices as images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, inf, log10
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from captum_3dcam._validation import check_numbers, show
from captum_3dcam.io import Volume
from captum_3dcam.localization import Boxes
from captum_3dcam.visualization._colors import ColorScale, draw_map
from captum_3dcam.visualization._inputs import Array, Values, as_array, blank, squeeze_leading
from captum_3dcam.visualization._text import OUTLINED, size_of, wrap_to
from captum_3dcam.visualization.style import Style

_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
# For slices across each pair of directions: their name, and the sides shown at the top and left.
_PLANES = {"SI": ("axial", "A", "R"), "AP": ("coronal", "S", "R"), "LR": ("sagittal", "S", "A")}

# Of the letters at the left, right, top and bottom edge: position and alignment.
_EDGES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.98, "center", "top"),
    (0.5, 0.02, "center", "bottom"),
)

# A stride of two or more leaves fewer than all voxels but one on an axis of so many.
_LARGE = 8
_MAX_ASPECT = 12  # of a slice; a longer one is stretched across, so that it can be seen
_BOX: dict[str, Any] = {
    "fill": False,
    "edgecolor": "#F0E442",
    "linewidth": 1.2,
    "path_effects": [withStroke(linewidth=2.4, foreground="black")],
}


class Plane(NamedTuple):
    """How slices across ``axis`` are drawn: which axes of the volume are vertical and horizontal.

    ``down`` and ``right`` say whether the axes grow downwards and to the right, ``edges`` has the
    letters at the left, right, top and bottom edge.
    """

    axis: int
    vertical: int
    horizontal: int
    name: str = ""
    down: bool = True
    right: bool = True
    edges: str = ""

    def transpose(self, image: Array) -> Array:
        """An image with its axes in the volume's order, as rows and columns of the plane."""
        return image.T if self.vertical > self.horizontal else image


@dataclass(frozen=True, eq=False)
class Scan:
    """An array (D, H, W) with what is known of its voxels, where there is no ``io.Volume``.

    Args:
        data: (D, H, W) of any range, or with leading axes of size 1.
        spacing: of the voxels along D, H and W, in mm. Axes are then in mm from the centre of
            the first voxel, otherwise in voxels.
        orientation: the directions in which D, H and W grow, of L, R, A, P, S, I: "SPL" for slices
            from feet to head, rows from front to back, columns from the patient's right to left.
            Slices are then axial, coronal and sagittal, in radiological convention (the patient's
            right on the left, superior or anterior at the top), with letters at their edges.

    Raises ValueError for data of another shape, and for an invalid spacing or orientation.

    >>> import torch
    >>> Scan(torch.rand(8, 16, 16), spacing=(5, 1, 1)).label(axis=0, index=3)
    'D = 3 (15 mm)'
    """

    data: Values = field(repr=False)
    spacing: Sequence[float] | None = None
    orientation: Sequence[str] | None = None

    def __post_init__(self) -> None:
        data = self.array
        if data.ndim != 3 or not data.size:
            raise ValueError(
                "A volume must be (D, H, W) real numbers, with leading axes of size 1 at most; got "
                f"{data.dtype} of shape {as_array(self.data, 'data').shape}."
            )
        _check_spacing(self.spacing)
        _check_orientation(self.orientation)

    @cached_property
    def array(self) -> Array:
        array = squeeze_leading(as_array(self.data, "data"), 3)
        return array.astype(np.uint8) if array.dtype == bool else array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def _codes(self) -> list[str]:
        return [letter.upper() for letter in self.orientation or ()]

    @property
    def planes(self) -> list[Plane]:
        """Across D, H and W; with an orientation, axial, coronal and sagittal."""
        return sorted(map(self.plane, range(3)), key=lambda plane: plane.name)

    def plane(self, axis: int) -> Plane:
        """How slices across an axis are drawn; without an orientation, the first row at the top."""
        vertical, horizontal = (other for other in range(3) if other != axis)
        if not self._codes:
            return Plane(axis, vertical, horizontal)
        pair = next(pair for pair in _PLANES if self._codes[axis] in pair)
        name, up, left = _PLANES[pair]
        if self._codes[vertical] not in (up, _OPPOSITE[up]):
            vertical, horizontal = horizontal, vertical
        down, right = self._codes[vertical] != up, self._codes[horizontal] != left
        edges = left + _OPPOSITE[left] + up + _OPPOSITE[up]
        return Plane(axis, vertical, horizontal, name, down, right, edges)

    def position(self, axis: int, index: float) -> float:
        """The centre of a voxel: in mm from the first voxel's, or in voxels."""
        return index * (1.0 if self.spacing is None else float(self.spacing[axis]))

    def limits(self, axis: int) -> tuple[float, float]:
        """The outer edges of the first and last voxel."""
        return self.position(axis, -0.5), self.position(axis, self.shape[axis] - 0.5)

    def length(self, axis: int) -> float:
        return self.position(axis, self.shape[axis])

    def label(self, axis: int, index: int, at: Sequence[int] | None = None) -> str:
        """The position of a slice, as ``D = 3`` or ``D = 3 (15 mm)``; ``at`` is a voxel in it."""
        voxel = f"{'DHW'[axis]} = {index}"
        if self.spacing is None:
            return voxel
        decimals = max(1, 2 - ceil(log10(min(self.spacing))))
        return f"{voxel} ({round(self.position(axis, index), decimals):g} mm)"

    def axis_label(self, axis: int) -> str:
        return f"{'DHW'[axis]} ({'voxel' if self.spacing is None else 'mm'})"


@dataclass(frozen=True, eq=False)
class PatientScan(Scan):
    """The first channel of an ``io.Volume``, whose positions are the patient's (RAS, in mm).

    On an oblique grid, an axis has no coordinate of its own. Its axes are then in mm from the first
    voxel, and a slice is labelled by the position of a voxel in it, with the closest direction.
    """

    volume: Volume = field(kw_only=True, repr=False)

    @classmethod
    def from_volume(cls, volume: Volume) -> "PatientScan":
        data = volume.data if volume.channels == 1 else volume.data[0]
        return cls(data, volume.spacing, volume.orientation, volume=volume)

    @cached_property
    def is_oblique(self) -> bool:
        """Whether a coordinate varies within a slice, by more than a tenth of a voxel."""
        across = np.abs(self.volume.affine[:3, :3])
        across[list(self.volume.world_axes), range(3)] = 0
        sides = np.array(self.shape) - 1
        return bool((across @ sides).max() > min(self.volume.spacing) / 10)

    def position(self, axis: int, index: float) -> float:
        """The patient's coordinate of a voxel's centre, or on an oblique grid as without one."""
        if self.is_oblique:
            return super().position(axis, index)
        return self._coordinate(axis, index, self._middle)

    def length(self, axis: int) -> float:
        return self.shape[axis] * self.volume.spacing[axis]

    def label(self, axis: int, index: int, at: Sequence[int] | None = None) -> str:
        """As ``D = 3, S (15 mm)``, or on an oblique grid ``D = 3, ~S (15 mm)``."""
        voxel = list(self._middle if at is None else at)
        voxel[axis] = index
        world = self.volume.world_axes[axis]
        letter = f"{'~' if self.is_oblique else ''}{'RAS'[world]}"
        return f"{'DHW'[axis]} = {index}, {letter} ({self.volume.to_mm(voxel)[world]:.10g} mm)"

    def axis_label(self, axis: int) -> str:
        if self.is_oblique:
            return f"{'DHW'[axis]} (mm from the first voxel)"
        return f"{'RAS'[self.volume.world_axes[axis]]} (mm)"

    @property
    def _middle(self) -> tuple[int, ...]:
        return tuple(n // 2 for n in self.shape)

    def _coordinate(self, axis: int, index: float, voxel: Sequence[float]) -> float:
        moved = [*voxel[:axis], index, *voxel[axis + 1 :]]
        return float(self.volume.to_world(moved)[self.volume.world_axes[axis]])


def _check_spacing(spacing: object) -> None:
    lengths = (1, 1, 1) if spacing is None else check_numbers("spacing", spacing)
    if len(lengths) != 3 or not all(0 < length < inf for length in lengths):
        raise ValueError(
            f"spacing={show(spacing)} must be three positive lengths in mm, those of D, H, W."
        )


def _check_orientation(orientation: object) -> None:
    letters = orientation if isinstance(orientation, Sequence) else ()
    codes = sorted(str(letter).upper() for letter in letters)
    known = [sorted((a, b, c)) for a in "LR" for b in "AP" for c in "SI"]
    if orientation is not None and codes not in known:
        raise ValueError(
            f"orientation={show(orientation)} must have a letter for each of D, H, W: L or R, A or "
            "P, and S or I, the direction in which the axis grows."
        )


AnyVolume = Values | Volume | Scan


def resolve_scan(
    original: AnyVolume | None, maps: Sequence[Array], style: Style
) -> tuple[Scan, Style]:
    """The volume that is drawn below the maps, without one zeros; and the style with a window.

    By default the window is from the 0.5th to the 99.5th percentile, so that a few extreme voxels
    do not darken the rest.
    """
    if original is None:
        scan = Scan(blank(maps[0], style))
    elif isinstance(original, Volume):
        scan = PatientScan.from_volume(original)
    else:
        scan = original if isinstance(original, Scan) else Scan(original)
    for heat in maps:
        if any(m > n for m, n in zip(heat.shape, scan.shape, strict=True)):
            raise ValueError(
                f"The map {heat.shape} is finer than the volume {scan.shape}. Pass the volume that "
                "was explained, its axes in the same order."
            )
        if any(m == n - 1 >= _LARGE for m, n in zip(heat.shape, scan.shape, strict=True)):
            warnings.warn(
                f"The map {heat.shape} lacks one voxel of the volume {scan.shape} on an axis, and "
                "is stretched over it. If it is of another scan, pass the volume that was "
                "explained.",
                stacklevel=4,
            )
    if style.window is not None:
        return scan, style
    finite = scan.array[np.isfinite(scan.array)]
    if not finite.size:
        raise ValueError("The volume holds no finite value.")
    low, high = np.percentile(finite, (0.5, 99.5))
    if low == high:
        low, high = finite.min(), finite.max()
    # A constant volume is black.
    window = float(low), float(high if high > low else low + max(abs(low), 1.0))
    return scan, replace(style, window=window)


# -------------------------------------------------------------------------------------- slices


@dataclass(frozen=True)
class SliceView:
    """A slice of a volume, with axes in mm or voxels and the patient's sides at the edges."""

    scan: Scan
    plane: Plane
    index: int
    at: Sequence[int] | None = None
    """The voxel in the slice whose position labels it; by default the middle one."""

    @property
    def label(self) -> str:
        return self.scan.label(self.plane.axis, self.index, self.at)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, in mm or voxels."""
        return self.scan.length(self.plane.horizontal), self.scan.length(self.plane.vertical)

    @property
    def aspect(self) -> float:
        return self.size[1] / self.size[0]

    @property
    def margins(self) -> tuple[float, float]:
        """Inches to the left and below, for the numbers on its axes."""
        return 0.7, 0.5

    @property
    def image(self) -> Array:
        image: Array = self.scan.array.take(self.index, self.plane.axis)
        return image

    def cut(self, values: Array) -> Array:
        """Linear between two slices of a coarser map, as align_corners=False interpolates."""
        axis = self.plane.axis
        size = values.shape[axis]
        position = (self.index + 0.5) * size / self.scan.shape[axis] - 0.5
        position = min(max(position, 0.0), size - 1.0)
        below = int(position)
        weight = position - below
        image = values.take(below, axis)
        if weight:
            image = (1 - weight) * image + weight * values.take(below + 1, axis)
        return self.plane.transpose(image)

    def draw(self, ax: Axes, heat: Array, colors: ColorScale) -> None:
        scan, plane = self.scan, self.plane
        grey = apply_window(plane.transpose(self.image), colors.style.window or (0, 1))
        (left, right), (top, bottom) = scan.limits(plane.horizontal), scan.limits(plane.vertical)
        draw_map(ax, heat, grey, colors, (left, right, bottom, top))
        if not plane.down:
            ax.invert_yaxis()
        if not plane.right:
            ax.invert_xaxis()
        is_long = not 1 / _MAX_ASPECT <= self.aspect <= _MAX_ASPECT
        ax.set_aspect("auto" if is_long else "equal")
        width, height = size_of(ax)
        if not is_long:
            width, height = min(width, height / self.aspect), min(height, width * self.aspect)
        for axis, side, number in zip(
            (ax.xaxis, ax.yaxis), (width, height), (plane.horizontal, plane.vertical), strict=True
        ):
            axis.set_label_text(wrap_to(scan.axis_label(number), side))
            # Numbers at the ends would part the axes from those beside them.
            count = min(max(int(side / 0.6), 1), 6)
            axis.set_major_locator(MaxNLocator(count, prune="both", min_n_ticks=1))
        for letter, (x, y, ha, va) in zip(plane.edges, _EDGES, strict=False):
            ax.text(x, y, letter, ha=ha, va=va, transform=ax.transAxes, weight="bold", **OUTLINED)

    def draw_boxes(self, ax: Axes, boxes: Boxes, map_shape: Sequence[int]) -> None:
        """Outline the boxes, in voxels of a map of that shape, that cross the slice."""
        scale = np.divide(self.scan.shape, map_shape)
        for corners in as_array(boxes.boxes, "boxes"):  # x, y, z: the axes in reverse
            start, stop = corners[2::-1] * scale, corners[:2:-1] * scale
            if self._crosses(start, stop):
                (left, right), (top, bottom) = (
                    [self.scan.position(axis, edge[axis] - 0.5) for edge in (start, stop)]
                    for axis in (self.plane.horizontal, self.plane.vertical)
                )
                ax.add_patch(Rectangle((left, top), right - left, bottom - top, **_BOX))

    def _crosses(self, start: Array, stop: Array) -> bool:
        axis = self.plane.axis
        return bool(start[axis] <= self.index + 0.5 < stop[axis])


class ProjectionView(SliceView):
    """The maximum-intensity projection of a volume: its maximum across a plane."""

    @property
    def label(self) -> str:
        return f"maximum over {'DHW'[self.plane.axis]}"

    def _crosses(self, start: Array, stop: Array) -> bool:
        return True

    @property
    def image(self) -> Array:
        maxima: Array = np.fmax.reduce(self.scan.array, self.plane.axis)  # leaves out NaN
        return maxima

    def cut(self, values: Array) -> Array:
        """The value of the largest magnitude along each line across the plane."""
        axis = self.plane.axis
        indices = np.expand_dims(np.abs(values).argmax(axis), axis)
        return self.plane.transpose(np.take_along_axis(values, indices, axis).squeeze(axis))


def find_peak(values: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The volume's voxel at the centre of the map's largest magnitude; of zeros, the middle."""
    if not values.any():
        return tuple(n // 2 for n in shape)
    peak = np.unravel_index(np.abs(values).argmax(), values.shape)
    return tuple(int((i + 0.5) * n / m) for i, n, m in zip(peak, shape, values.shape, strict=True))


def apply_window(image: Array, window: tuple[float, float]) -> Array:
    """Grey values in [0, 1]: the window's low is black, its high white; NaN is black."""
    low, high = window
    finite = np.nan_to_num(image.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.clip((finite - low) / (high - low), 0, 1).astype(np.float32)
