"""Scan: a volume with its voxel spacing and orientation, and its slices as images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from captum_3dcam.io import Volume
from captum_3dcam.visualization._inputs import Array, Values, as_volume, choose_window
from captum_3dcam.visualization._planes import Geometry, Plane, apply_window, rows_first
from captum_3dcam.visualization.style import Style


@dataclass(frozen=True, eq=False)
class Scan:
    """An array (D, H, W) with what is known of its voxels, where there is no ``io.Volume``.

    Args:
        data: (D, H, W), of any range.
        spacing: of the voxels along D, H and W, in mm. Axes are then in mm from the centre of
            the first voxel, otherwise in voxels.
        orientation: the directions in which D, H and W grow, of L, R, A, P, S, I: "SPL" for slices
            from feet to head, rows from front to back, columns from the patient's right to left.
            Slices are then axial, coronal and sagittal, in radiological convention (the patient's
            right on the left, superior or anterior at the top), with letters at their edges.

    >>> import torch
    >>> Scan(torch.rand(8, 16, 16), spacing=(5, 1, 1))
    Scan(spacing=(5, 1, 1), orientation=None)
    """

    data: Values = field(repr=False)
    spacing: Sequence[float] | None = None
    orientation: Sequence[str] | None = None


AnyVolume = Values | Volume | Scan


class ScanImages:
    """The grey images of a volume that maps are drawn over; without a volume, black ones."""

    def __init__(self, original: AnyVolume | None, maps: Sequence[Array], style: Style) -> None:
        if not isinstance(original, (Volume, Scan)):
            original = None if original is None else Scan(original)
        data = None if original is None else original.data
        for heat in maps:
            self._data = as_volume(data, heat, style.method)
        d, h, w = self._data.shape
        spacing, orientation = (
            (None, None) if original is None else (original.spacing, original.orientation)
        )
        self.geometry = Geometry((d, h, w), spacing, orientation)
        self._window = choose_window(style.window, self._data)

    def slice(self, plane: Plane, index: int) -> Array:
        return apply_window(rows_first(self._data.take(index, plane.axis), plane), self._window)

    def projection(self, plane: Plane) -> Array:
        """The maximum along each line across the plane, NaN left out."""
        maxima = np.fmax.reduce(self._data, plane.axis)
        return apply_window(rows_first(maxima, plane), self._window)
