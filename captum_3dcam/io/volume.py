"""A scan and where it lies in the patient: cropped, resampled and turned, it lies there still."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_LETTERS = ("LR", "PA", "IS")  # down and up each world axis
_MAX_VOXELS = 2**31
_SPACES = range(1, 6)
_RIM = 1e-6  # of a voxel, for rounding


@dataclass(frozen=True, eq=False)
class Volume:
    """Numbers on a grid (D, H, W), and where each voxel lies.

    One convention holds everywhere: the axes of ``data`` are those of the tensor that the model
    sees, and ``affine @ (d, h, w, 1)`` is where the centre of voxel ``data[d, h, w]`` lies, in mm
    to the patient's right, front and head (RAS, as NIfTI has it).

    Args:
        data: (D, H, W) real numbers, kept as float32.
        affine: (4, 4), voxel to world.
        space: NIfTI's code for what the world is: 1 the scanner's, 2 another scan's, 3 Talairach's,
            4 MNI 152, 5 another template's. It is written back as it came.

    Raises ValueError for data that are not (D, H, W), or an affine that maps no volume to one.

    >>> scan = Volume(np.zeros((40, 64, 64)), np.diag([5.0, 3.0, 3.0, 1.0]))
    >>> part = scan.crop((10, 0, 0), (30, 64, 64)).resample(size=(40, 128, 128))
    >>> part.shape, part.spacing, part.affine[:3, 3].tolist()
    ((40, 128, 128), (2.5, 1.5, 1.5), [48.75, -0.75, -0.75])
    """

    data: NDArray[np.float32] = field(repr=False)
    affine: NDArray[np.float64]
    space: int = 1

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        check_size(np.shape(self.data))
        _check_affine(affine)
        if self.space not in _SPACES:
            raise ValueError(f"space={self.space}: expected a code of NIfTI's, 1 to 5.")
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(self.data, np.float32)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """D, H, W."""
        d, h, w = self.data.shape
        return d, h, w

    @property
    def spacing(self) -> tuple[float, float, float]:
        """From a voxel's centre to the next one's along D, H and W, in mm."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return d, h, w

    @property
    def orientation(self) -> str:
        """Where D, H and W grow to, as nearly as one of L, R, A, P, S, I says it.

        >>> Volume(np.zeros((2, 2, 2)), np.diag([1.0, -1.0, 1.0, 1.0])).orientation
        'RPS'
        """
        axes = _world_axes(self.affine)
        signs = [int(self.affine[world, axis] > 0) for axis, world in enumerate(axes)]
        return "".join(_LETTERS[world][up] for world, up in zip(axes, signs, strict=True))

    def to_world(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Indices (..., 3), fractions too -> mm (..., 3)."""
        return _apply(self.affine, voxels)

    def to_voxels(self, points: ArrayLike) -> NDArray[np.float64]:
        """mm (..., 3) -> indices (..., 3), fractions where a point is no voxel's centre."""
        return _apply(_inverse(self.affine), points)

    def to_tensor(self) -> Tensor:
        """A copy of the data as a batch of one, (1, 1, D, H, W) float32."""
        return torch.tensor(self.data)[None, None]

    def with_data(self, data: Tensor | ArrayLike) -> "Volume":
        """Other numbers on this grid, a map of the scan: (D, H, W), or (1, 1, D, H, W).

        Raises ValueError for another size.
        """
        array = data.detach().cpu().float().numpy() if isinstance(data, Tensor) else np.array(data)
        if array.shape[-3:] != self.shape or math.prod(array.shape[:-3]) != 1:
            raise ValueError(
                f"Expected one map of the volume's size {self.shape}; got {array.shape}. If it "
                "spans the same space in other voxels, give it a grid of that size first: "
                f"volume.resample(size={array.shape[-3:]}).with_data(map).resample_to(volume)."
            )
        return replace(self, data=array.reshape(self.shape))

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Volume":
        """The voxels [start, stop), three indices each.

        Raises ValueError for a box that is empty or leaves the volume.
        """
        box = list(zip(start, stop, self.shape, strict=True))
        if not all(0 <= a < b <= size for a, b, size in box):
            raise ValueError(
                f"crop({tuple(start)}, {tuple(stop)}) of a volume of size {self.shape}: expected "
                "0 <= start < stop <= size on each axis."
            )
        moved = self.affine.copy()
        moved[:3, 3] = self.to_world(start)
        return replace(self, data=self.data[tuple(slice(a, b) for a, b, _ in box)], affine=moved)

    def resample(
        self,
        *,
        size: Sequence[int] | int | None = None,
        spacing: Sequence[float] | float | None = None,
    ) -> "Volume":
        """The volume on a grid of another size, or of another spacing in mm, by interpolation.

        Linear, as ``align_corners=False`` has it: the new grid has the same centre. With ``size``
        it spans exactly the same space; with ``spacing`` the same up to half a new voxel. One
        number stands for all three axes. A coarser grid takes samples, not means.

        Raises ValueError unless one of the two is given, positive, and of a sensible size.
        """
        if (size is None) == (spacing is None):
            raise ValueError("resample takes either a size in voxels or a spacing in mm.")
        given = size if spacing is None else spacing
        wanted = np.array(np.broadcast_to(np.asarray(given), 3), np.float64)
        if not (np.isfinite(wanted) & (wanted > 0)).all():
            raise ValueError(f"resample to {given}: expected positive numbers.")
        own, extent = np.array(self.spacing), np.array(self.spacing) * self.shape
        shape = wanted if spacing is None else np.maximum(np.round(extent / wanted), 1)
        steps = (extent / wanted if spacing is None else wanted) / own
        new_shape = tuple(int(n) for n in shape)
        check_size(new_shape)
        to_own = np.diag([*steps, 1.0])
        to_own[:3, 3] = (np.array(self.shape) - 1 - steps * (shape - 1)) / 2
        data = _interpolated(self.data, to_own, new_shape)
        return replace(self, data=data, affine=self.affine @ to_own)

    def resample_to(self, grid: "Volume") -> "Volume":
        """The volume on another's grid, by where both lie; 0 where this one has nothing to say.

        It brings a map of a cropped, resampled or turned scan back to the scan's own grid.
        """
        to_own = _inverse(self.affine) @ grid.affine
        data = _interpolated(self.data, to_own, grid.shape)
        data[~_inside(to_own, grid.shape, self.shape)] = 0
        return replace(grid, data=data)

    def reorient(self, codes: str) -> "Volume":
        """The same voxels with the axes swapped and flipped to grow to ``codes``, e.g. ``"RAS"``.

        ``"SPL"`` is how an axial scan is looked at: slices from the feet up, the patient's front
        at the top and right side at the left. In an oblique scan, as nearly as a swap goes.

        Raises ValueError unless the codes name each of the three directions once.

        >>> scan = Volume(np.arange(6).reshape(1, 2, 3), np.eye(4))  # R, A, S
        >>> scan.reorient("SPR").data[:, :, 0].tolist()
        [[3.0, 0.0], [4.0, 1.0], [5.0, 2.0]]
        """
        wanted = [next((w for w, pair in enumerate(_LETTERS) if c in pair), -1) for c in codes]
        if sorted(wanted) != [0, 1, 2]:
            raise ValueError(
                f"{codes!r} is no orientation. Expected one letter each of R or L, A or P, S or I, "
                "in the order of the axes, as in 'RAS' or 'SPL'."
            )
        own, axes = self.orientation, _world_axes(self.affine)
        order = [axes.index(world) for world in wanted]
        flips = [own[axis] != code for axis, code in zip(order, codes, strict=True)]
        to_own = np.zeros((4, 4))
        to_own[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            to_own[old, new] = -1 if flip else 1
            to_own[old, 3] = self.shape[old] - 1 if flip else 0
        turned = self.data.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        return replace(self, data=turned, affine=self.affine @ to_own)


def check_size(shape: tuple[int, ...]) -> None:
    """ValueError unless the shape is that of a volume that fits some memory."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"Expected a volume (D, H, W); got the shape {tuple(shape)}.")
    if math.prod(shape) > _MAX_VOXELS:
        raise ValueError(f"A volume of {' x '.join(map(str, shape))} voxels is too large.")


def _check_affine(affine: NDArray[np.float64]) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("The affine has to be 4 x 4 finite numbers.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    flat = not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3
    if flat or affine[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(
            f"The affine does not map a volume to a volume: {affine.tolist()}. Expected three "
            "independent directions in its columns, and 0, 0, 0, 1 in its last row."
        )


def _world_axes(affine: NDArray[np.float64]) -> tuple[int, ...]:
    """For each axis of the data the world axis that it is nearest to, each taken once."""
    cosines = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    return max(permutations(range(3)), key=lambda worlds: cosines[worlds, range(3)].sum())


def _apply(affine: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = np.asarray(points, np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return moved


def _inverse(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.inv(affine).astype(np.float64)


def _interpolated(
    data: NDArray[np.float32], to_own: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Linear; beyond the outermost voxels' centres, the edge goes on."""
    from scipy.ndimage import affine_transform  # not needed to read and write: not at the top

    found: NDArray[np.float32] = affine_transform(
        data, to_own, output_shape=shape, order=1, mode="nearest"
    )
    return found


def _inside(
    to_own: NDArray[np.float64], grid: tuple[int, int, int], own: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Which voxels of a grid have their centre in one of our voxels."""
    inside = np.ones(grid, bool)
    index = np.ogrid[tuple(slice(n) for n in grid)]
    for row, size in zip(to_own, own, strict=False):
        place = sum(row[axis] * index[axis] for axis in range(3)) + row[3]
        inside &= (place > -0.5 - _RIM) & (place < size - 0.5 + _RIM)
    return inside
