"""A volume and its affine, kept consistent by every crop, resampling and reorientation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_3dcam._files import check_bytes, import_extra

_MAX_VOXELS = 2**31
_TOLERANCE = 1e-6  # in voxels, for rounding errors


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Values on a grid (D, H, W) and the affine that maps voxels to world coordinates.

    The centre of voxel ``data[d, h, w]`` is at ``affine @ (d, h, w, 1)``, in mm to the patient's
    right, front and head (RAS, as in NIfTI). Only :meth:`reorient` needs NiBabel.

    Args:
        data: (D, H, W) real numbers, stored as float32.
        affine: (4, 4), voxel indices to world coordinates.
        space: NIfTI's code of the world coordinates: 1 scanner, 2 another scan, 3 Talairach,
            4 MNI 152, 5 another template.

    Raises ValueError for data of another shape and for a singular affine.

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

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        check_shape(np.shape(self.data))
        _check_affine(affine)
        if self.space not in range(1, 6):
            raise ValueError(f"space={self.space}: expected a NIfTI code, 1 to 5.")
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(self.data, np.float32)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        spacing = tuple(round(mm, 4) for mm in self.spacing)
        return f"Volume(shape={self.shape}, spacing={spacing}, orientation={self.orientation!r})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.data.shape
        return d, h, w

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
        directions = self.affine[:3, :3] / self.spacing
        world_axes = max(permutations(range(3)), key=lambda w: abs(directions[w, range(3)]).sum())
        return "".join(
            "LPI"[world] if directions[world, axis] < 0 else "RAS"[world]
            for axis, world in enumerate(world_axes)
        )

    def to_world(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Map (fractional) voxel indices (..., 3) to world coordinates (..., 3) in mm."""
        return np.asarray(np.asarray(voxels) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map world coordinates (..., 3) in mm to fractional voxel indices (..., 3)."""
        offsets = np.asarray(points) - self.affine[:3, 3]
        return np.asarray(offsets @ np.linalg.inv(self.affine[:3, :3]).T)

    def to_tensor(self) -> Tensor:
        """Copy the data to a batch of one, (1, 1, D, H, W) float32."""
        return torch.tensor(self.data)[None, None]

    def with_data(self, data: Tensor | ArrayLike) -> "Volume":
        """Return a volume of the same grid with other values, (D, H, W) or (1, 1, D, H, W)."""
        array = data.detach().cpu().float().numpy() if isinstance(data, Tensor) else np.array(data)
        if array.shape[-3:] != self.shape or math.prod(array.shape[:-3]) != 1:
            raise ValueError(
                f"Expected one map of the volume's size {self.shape}; got {array.shape}. For a map "
                "that covers the same space with another size, use "
                f"volume.resample(size={array.shape[-3:]}).with_data(map).resample_to(volume)."
            )
        return replace(self, data=array.reshape(self.shape))

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Volume":
        """Return the voxels [start, stop), with three indices each."""
        if not all(0 <= a < b <= n for a, b, n in zip(start, stop, self.shape, strict=True)):
            raise ValueError(
                f"crop({tuple(start)}, {tuple(stop)}) of a volume of size {self.shape}: expected "
                "0 <= start < stop <= size on each axis."
            )
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(start)
        return replace(self, data=self.data[tuple(map(slice, start, stop))], affine=affine)

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

        Raises ValueError for a size or spacing that is not positive, and for a new volume of more
        than 2 GiB (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
        """
        if (size is None) == (spacing is None):
            raise ValueError("resample takes either a size in voxels or a spacing in mm.")
        requested = np.broadcast_to(np.asarray(size if spacing is None else spacing, float), 3)
        if not (np.isfinite(requested) & (requested > 0)).all():
            raise ValueError(f"resample to {requested.tolist()}: expected positive numbers.")
        own_shape = np.array(self.shape)
        step = own_shape / requested if spacing is None else requested / self.spacing
        shape = np.maximum(np.round(own_shape / step), 1).astype(int)
        check_shape(tuple(shape.tolist()))
        check_bytes(f"resample to {' x '.join(map(str, shape))} voxels", 4 * math.prod(shape))
        new_to_own = np.diag([*step, 1.0])
        new_to_own[:3, 3] = (own_shape - 1 - step * (shape - 1)) / 2
        data = _interpolate(self.data, new_to_own, tuple(shape))
        return replace(self, data=data, affine=self.affine @ new_to_own)

    def resample_to(self, grid: "Volume") -> "Volume":
        """Interpolate the volume linearly on another volume's grid; 0 outside of this volume.

        This brings a map of a cropped, resampled or reoriented scan back to the scan's grid.
        """
        grid_to_own = np.linalg.inv(self.affine) @ grid.affine
        data = _interpolate(self.data, grid_to_own, grid.shape)
        data[~_is_inside(grid_to_own, grid.shape, self.shape)] = 0
        return replace(grid, data=data)

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
        data = orientations.apply_orientation(self.data, change)
        affine = self.affine @ orientations.inv_ornt_aff(change, self.shape)
        return replace(self, data=data, affine=affine)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape is (D, H, W) and of at most 2^31 voxels."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"Expected a volume (D, H, W); got the shape {tuple(shape)}.")
    if math.prod(shape) > _MAX_VOXELS:
        raise ValueError(f"A volume of {' x '.join(map(str, shape))} voxels is too large.")


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

    result = affine_transform(data, new_to_own, output_shape=shape, order=1, mode="nearest")
    return np.asarray(result)


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
