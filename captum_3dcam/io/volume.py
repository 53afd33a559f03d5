"""A volume and its affine, kept consistent by every crop, resampling and reorientation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_3dcam._files import check_bytes, import_extra
from captum_3dcam.io._voxels import check_real

MAP_DESCRIPTION = "captum_3dcam: values computed from a scan"
"""The description of a map. That of the scan may hold the patient's name."""

_MAX_VOXELS = 2**31
_TOLERANCE = 1e-6  # in voxels, for rounding errors


class Form(NamedTuple):
    """The affine of a NIfTI file that is not in use, for the voxels of a :class:`Volume`."""

    name: str
    """``"qform"`` or ``"sform"``."""
    affine: NDArray[np.float64]
    """(4, 4), of (d, h, w), in mm."""
    space: int
    """Its NIfTI code; 0 if the file declares it as unused."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a NIfTI file states beside its values and the affine in use, for the map of a scan."""

    second_form: Form | None = None
    """By default, both forms are the volume's affine."""
    units: tuple[str, str] = ("mm", "unknown")
    """Of length and time in the file. In a :class:`Volume`, lengths are in mm."""
    description: str = ""
    display_range: tuple[float, float] | None = None
    """The values that viewers show black and white."""

    def transform(self, new_to_own: NDArray[np.float64]) -> "Header":
        """The header for another grid, given its affine to the voxels of the own grid."""
        if self.second_form is None:
            return self
        affine = self.second_form.affine @ new_to_own
        return replace(self, second_form=self.second_form._replace(affine=affine))


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Values on a grid (D, H, W) and the affine that maps voxels to world coordinates.

    The centre of voxel ``data[d, h, w]`` is at ``affine @ (d, h, w, 1)``, in mm to the patient's
    right, front and head (RAS, as in NIfTI). Only :meth:`reorient` needs NiBabel.

    Args:
        data: (D, H, W) real numbers, or (C, D, H, W) of several channels, stored as float32.
        affine: (4, 4), voxel indices to world coordinates.
        space: NIfTI's code of the world coordinates: 1 scanner, 2 another scan, 3 Talairach,
            4 MNI 152, 5 another template.
        header: what else a file states; written with a map, so that it lies on the scan in
            programs that read another form of the affine.

    Raises ValueError for complex data and data of another shape, and for a singular affine.

    >>> scan = Volume(np.zeros((40, 64, 64)), np.diag([5.0, 3.0, 3.0, 1.0]))
    >>> scan
    Volume(shape=(40, 64, 64), spacing=(5.0, 3.0, 3.0), orientation='RAS')
    >>> part = scan.crop((10, 0, 0), (30, 64, 64)).resample(size=(40, 128, 128))
    >>> part.shape, part.spacing, part.affine[:3, 3].tolist()
    ((40, 128, 128), (2.5, 1.5, 1.5), [48.75, -0.75, -0.75])
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    space: int = 1
    header: Header = Header()

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        _check_data_shape(np.shape(self.data))
        check_real(self.data)
        _check_affine(affine)
        if self.space not in range(1, 6):
            raise ValueError(f"space={self.space}: expected a NIfTI code, 1 to 5.")
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(self.data, np.float32)
        if len(data) == 1 and data.ndim == 4:
            data = data[0]
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        spacing = tuple(float(f"{mm:.4g}") for mm in self.spacing)
        channels = f", channels={self.channels}" if self.channels > 1 else ""
        grid = f"shape={self.shape}, spacing={spacing}, orientation={self.orientation!r}"
        return f"Volume({grid}{channels})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.data.shape[-3:]
        return d, h, w

    @property
    def channels(self) -> int:
        """The number of channels, 1 for data (D, H, W)."""
        return 1 if self.data.ndim == 3 else len(self.data)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distances between voxel centres along D, H and W, in mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return d, h, w

    @property
    def orientation(self) -> str:
        """The directions in which D, H and W increase; the closest ones of an oblique volume.

        The same as ``nibabel.aff2axcodes``, but in NumPy: figures and reprs do not need NiBabel.

        >>> Volume(np.zeros((2, 2, 2)), np.diag([1.0, -1.0, 1.0, 1.0])).orientation
        'RPS'
        """
        return "".join(
            "LPI"[world] if self.affine[world, axis] < 0 else "RAS"[world]
            for axis, world in enumerate(self.world_axes)
        )

    @cached_property
    def world_axes(self) -> tuple[int, int, int]:
        """The world axes 0, 1, 2 (R, A, S) that D, H and W are closest to."""
        directions = abs(self.affine[:3, :3]) / self.spacing
        d, h, w = max(permutations(range(3)), key=lambda w: directions[w, range(3)].sum())
        return d, h, w

    def to_world(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Map (fractional) voxel indices (..., 3) to world coordinates (..., 3) in mm."""
        return np.asarray(np.asarray(voxels) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map world coordinates (..., 3) in mm to fractional voxel indices (..., 3)."""
        offsets = np.asarray(points) - self.affine[:3, 3]
        return np.asarray(offsets @ np.linalg.inv(self.affine[:3, :3]).T)

    def to_mm(self, voxel: Sequence[float]) -> list[float]:
        """The world coordinates of a voxel, rounded to less than a tenth of the spacing.

        >>> Volume(np.zeros((2, 2, 2)), np.diag([0.002, 0.002, 0.002, 1])).to_mm((1, 0, 1))
        [0.002, 0.0, 0.002]
        """
        decimals = max(2, 2 - math.ceil(math.log10(min(self.spacing))))
        return [round(mm, decimals) + 0.0 for mm in self.to_world(voxel).tolist()]

    def to_tensor(self) -> Tensor:
        """Copy the data to a batch of one, (1, C, D, H, W) float32."""
        return torch.tensor(self.data.reshape(1, self.channels, *self.shape))

    def with_data(self, data: Tensor | ArrayLike) -> "Volume":
        """Return a map on the same grid: other values, (D, H, W) or (1, 1, D, H, W).

        The description becomes that of a map, and the display range is from 0, or the lowest
        value if that is negative, to the highest value.
        """
        check_real(data)
        array = data.detach().cpu().float().numpy() if isinstance(data, Tensor) else np.array(data)
        if array.shape[-3:] != self.shape or math.prod(array.shape[:-3]) != 1:
            raise ValueError(
                f"Expected one map of the volume's size {self.shape}; got {array.shape}. For a map "
                "that covers the same space with another size, use "
                f"volume.resample(size={array.shape[-3:]}).with_data(map).resample_to(volume)."
            )
        array = array.reshape(self.shape)
        low, high = float(array.min()), float(array.max())
        shown = (min(low, 0.0), high) if math.isfinite(low) and math.isfinite(high) else None
        header = replace(self.header, description=MAP_DESCRIPTION, display_range=shown)
        return replace(self, data=array, header=header)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Volume":
        """Return the voxels [start, stop), with three indices each."""
        are_indices = all(isinstance(i, int | np.integer) for i in (*start, *stop))
        if not (len(start) == len(stop) == 3 and are_indices) or not all(
            0 <= a < b <= n for a, b, n in zip(start, stop, self.shape, strict=True)
        ):
            raise ValueError(
                f"crop({tuple(start)}, {tuple(stop)}) of a volume of size {self.shape}: expected "
                "0 <= start < stop <= size on each axis. Pass three integers each."
            )
        new_to_own = np.eye(4)
        new_to_own[:3, 3] = start
        d, h, w = map(slice, start, stop)
        return self._on_grid(self.data[..., d, h, w], new_to_own)

    def resample(
        self,
        *,
        size: Sequence[int] | int | None = None,
        spacing: Sequence[float] | float | None = None,
    ) -> "Volume":
        """Interpolate the volume linearly to another size, or to another spacing in mm.

        The new grid has the same centre, as with ``align_corners=False``. With ``size`` it covers
        exactly the same space, with ``spacing`` the same up to half a new voxel. A single number
        applies to all axes. Downsampling does not smooth first.

        Raises ValueError for a size or spacing that is not positive, or not one or three numbers,
        and for a new volume of more than 2 GiB (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
        """
        if (size is None) == (spacing is None):
            raise ValueError("resample takes either a size in voxels or a spacing in mm.")
        given = size if spacing is None else spacing
        numbers = np.asarray(given, float)
        if (
            numbers.shape not in ((), (1,), (3,))
            or not (np.isfinite(numbers) & (numbers > 0)).all()
        ):
            raise ValueError(f"resample to {given}: expected positive numbers, one or three.")
        requested = np.broadcast_to(numbers, 3)
        own_shape = np.array(self.shape)
        step = own_shape / requested if spacing is None else requested / self.spacing
        shape = np.maximum(np.round(own_shape / step), 1).astype(int)
        check_shape(tuple(shape.tolist()))
        size_in_bytes = 4 * self.channels * math.prod(shape)
        check_bytes(f"resample to {' x '.join(map(str, shape))} voxels", size_in_bytes)
        new_to_own = np.diag([*step, 1.0])
        new_to_own[:3, 3] = (own_shape - 1 - step * (shape - 1)) / 2
        return self._on_grid(_interpolate(self.data, new_to_own, tuple(shape)), new_to_own)

    def resample_to(self, grid: "Volume") -> "Volume":
        """Interpolate the volume linearly on another volume's grid; 0 outside of this volume.

        This brings a map of a cropped, resampled or reoriented scan back to the scan's grid.
        """
        grid_to_own = np.linalg.inv(self.affine) @ grid.affine
        data = _interpolate(self.data, grid_to_own, grid.shape)
        data[..., ~_is_inside(grid_to_own, grid.shape, self.shape)] = 0
        own = self.header
        header = replace(grid.header, description=own.description, display_range=own.display_range)
        return replace(grid, data=data, header=header)

    def reorient(self, codes: str) -> "Volume":
        """Swap and flip the axes so that they increase in the directions ``codes``, e.g. ``"RAS"``.

        ``"SPL"`` is the usual view of an axial scan: slices from the feet up, the patient's front
        at the top and the right side on the left. An oblique volume keeps its tilt.

        >>> scan = Volume(np.arange(6).reshape(1, 2, 3), np.eye(4))  # R, A, S
        >>> scan.reorient("SPR").data[:, :, 0].tolist()
        [[3.0, 0.0], [4.0, 1.0], [5.0, 2.0]]
        """
        if len(codes) != 3 or any(len(set(codes) & set(pair)) != 1 for pair in ("LR", "AP", "IS")):
            raise ValueError(
                f"{codes!r} is no orientation. Expected one letter each of R or L, A or P, S or I, "
                "in the order of the axes, as in 'RAS' or 'SPL'."
            )
        orientations = import_extra("nibabel.orientations", "reorient() needs NiBabel", "medical")
        own, requested = map(orientations.axcodes2ornt, (self.orientation, codes))
        change = orientations.ornt_transform(own, requested)
        spatial_first = orientations.apply_orientation(
            np.moveaxis(self.data, range(-3, 0), range(3)), change
        )
        data = np.moveaxis(spatial_first, range(3), range(-3, 0))
        return self._on_grid(data, orientations.inv_ornt_aff(change, self.shape))

    def _on_grid(self, data: NDArray[np.float32], new_to_own: NDArray[np.float64]) -> "Volume":
        """The data on another grid, given its affine to the voxels of the own grid."""
        affine, header = self.affine @ new_to_own, self.header.transform(new_to_own)
        return replace(self, data=data, affine=affine, header=header)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape is (D, H, W) and of at most 2^31 voxels."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            "Expected a volume (D, H, W), or (C, D, H, W) of several channels; received the shape "
            f"{tuple(shape)}."
        )
    if math.prod(shape) > _MAX_VOXELS:
        raise ValueError(f"A volume of {' x '.join(map(str, shape))} voxels is too large.")


def _check_data_shape(shape: tuple[int, ...]) -> None:
    if len(shape) == 4 and 0 < shape[0] <= _MAX_VOXELS // max(math.prod(shape[1:]), 1):
        check_shape(shape[1:])
    else:
        check_shape(shape)


def _check_affine(affine: NDArray[np.float64]) -> None:
    valid = affine.shape == (4, 4) and np.isfinite(affine).all() and [*affine[3]] == [0, 0, 0, 1]
    if not valid or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(
            f"The affine is {affine.tolist()}. Expected (4, 4) finite numbers with three linearly "
            "independent columns of axes and the last row 0, 0, 0, 1."
        )


def _interpolate(
    data: NDArray[np.float32], new_to_own: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Interpolate linearly; beyond the centres of the outer voxels, repeat their values.

    ``nibabel.processing`` calls the same function, but fills the outer half voxel with zeros.
    """
    from scipy.ndimage import affine_transform  # slow to import, and reading does not need it

    options = {"output_shape": shape, "order": 1, "mode": "nearest"}
    if data.ndim == 3:
        return np.asarray(affine_transform(data, new_to_own, **options))
    return np.stack([affine_transform(channel, new_to_own, **options) for channel in data])


def _is_inside(
    grid_to_own: NDArray[np.float64], grid: tuple[int, int, int], own: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Return a mask (D, H, W) of the grid's voxels whose centres are inside the volume."""
    inside = np.ones(grid, bool)
    index = np.ogrid[tuple(slice(n) for n in grid)]
    for row, size in zip(grid_to_own, own, strict=False):
        position = sum(row[axis] * index[axis] for axis in range(3)) + row[3]
        inside &= (position > -0.5 - _TOLERANCE) & (position < size - 0.5 + _TOLERANCE)
    return inside
