"""Preprocessing of a volume: its grid, a window of its values, and a normalisation."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_3dcam._validation import check_choice, check_floats, check_number, describe, show
from captum_3dcam.io import Volume

NORMALIZATIONS = ("none", "unit", "zscore")
_MIN_SPREAD = 1e-12  # of a constant volume
# Of Hounsfield units: fat is at -100, and the noise of water goes below, but z-scores do not.
_MAX_LOWEST = -10


@dataclass(frozen=True)
class VolumePreprocessing:
    """Resample a volume, clip its values to a window, and normalise them.

    ``normalize`` is "none"; "unit": the window, or else the range of the values, to [0, 1]; or
    "zscore": to mean 0 and standard deviation 1. Called on a tensor, the grid stays:
    :meth:`resample` changes that of a volume.

    Raises ValueError or TypeError for values other than described.

    >>> import torch
    >>> lung = VolumePreprocessing((-1350, 150), "unit", units="HU")
    >>> lung(torch.tensor([-2000.0, -600, 150, 3000]).reshape(1, 1, 2, 2)).flatten()
    tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """

    window: tuple[float, float] | None = None
    """(LOW, HIGH): for radiology's level and width, level − width / 2 and level + width / 2."""
    normalize: str = "none"
    """"none", "unit" or "zscore"."""
    units: str | None = None
    """Of the window: "HU" for Hounsfield units, or None."""
    orientation: str | None = None
    """The directions in which D, H and W grow, such as "SPL"; None keeps the scan's."""
    spacing: float | tuple[float, float, float] | None = None
    """Of the voxels along D, H and W, in mm; one number for all."""
    size: tuple[int, int, int] | None = None
    """(D, H, W), instead of a spacing."""

    def __post_init__(self) -> None:
        check_choice("normalize", self.normalize, NORMALIZATIONS)
        if self.units is not None:
            check_choice("units", self.units, ("HU",))
        if self.window is not None:
            _check_window(self.window)
        if self.size is not None and self.spacing is not None:
            raise ValueError("size and spacing both resample: pass one of them.")
        if isinstance(self.size, tuple | list) and len(self.size) != 3:
            raise ValueError(f"size={show(self.size)}: expected (D, H, W) for volumes.")

    @property
    def resamples(self) -> bool:
        """Whether it has an orientation, a spacing or a size."""
        return (self.orientation, self.spacing, self.size) != (None, None, None)

    def resample(self, volume: Volume) -> Volume:
        """The volume in this orientation, and in this spacing or size; itself without them.

        Raises ValueError for invalid ones, and for a spacing that leaves one voxel of several.

        >>> import numpy as np
        >>> scan = Volume(np.zeros((8, 16, 16)), np.diag([5.0, 2.0, 2.0, 1.0]))
        >>> VolumePreprocessing(spacing=4.0).resample(scan)
        Volume(shape=(10, 8, 8), spacing=(4.0, 4.0, 4.0), orientation='RAS')
        """
        oriented = volume if self.orientation is None else volume.reorient(self.orientation.upper())
        if self.size is not None:
            return oriented.resample(size=self.size)
        if self.spacing is None:
            return oriented
        resampled = oriented.resample(spacing=self.spacing)
        if any(new == 1 < old for new, old in zip(resampled.shape, oriented.shape, strict=True)):
            new, old = (" x ".join(map(str, each.shape)) for each in (resampled, oriented))
            raise ValueError(
                f"spacing={show(self.spacing)}: of the {old} voxels, {new} are left. Pass it in mm."
            )
        return resampled

    def __call__(self, volume: Tensor) -> Tensor:
        """Convert values (C, D, H, W), in any number of axes, to the network's input."""
        x = check_floats("the volume", volume)
        if not x.numel():
            raise ValueError(f"Expected a volume that is not empty; received {describe(x)}.")
        if self.window is not None:
            x = x.clamp(*self.window)
        if self.normalize == "unit":
            low, high = self.window or (x.min(), x.max())
            return (x - low) / max(float(high - low), _MIN_SPREAD)
        if self.normalize == "zscore":
            return (x - x.mean()) / x.std().clamp(min=_MIN_SPREAD)
        return x

    def check_units(self, volume: Tensor) -> str | None:
        """Why the values cannot be of the window's units; None if they may be.

        In Hounsfield units air is -1000, fat -100 and water 0, so that a scan has values below -10,
        unless all air and fat was cut off.

        >>> import torch
        >>> lung = VolumePreprocessing((-1350, 150), "unit", units="HU")
        >>> print(lung.check_units(torch.tensor([0.0, 128.0, 255.0])))
        The window from -1350 to 150 is in Hounsfield units (air -1000, water 0), and the values \
are from 0 to 255: they are something else, such as grey values or stored values before the \
rescale slope and intercept. Convert the scan, or pass a window in its own units.
        """
        if self.units is None or self.window is None:
            return None
        low, high = float(volume.min()), float(volume.max())
        if low < _MAX_LOWEST:
            return None
        return (
            f"The window from {self.window[0]:g} to {self.window[1]:g} is in Hounsfield units (air "
            f"-1000, water 0), and the values are from {low:g} to {high:g}: they are something "
            "else, such as grey values or stored values before the rescale slope and intercept. "
            "Convert the scan, or pass a window in its own units."
        )


def _check_window(window: Any) -> None:
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise ValueError(f"window={show(window)}: expected (LOW, HIGH).")
    low, high = (check_number("window", value) for value in window)
    if not -float("inf") < low < high < float("inf"):
        raise ValueError(f"window={show(window)}: expected finite numbers, LOW < HIGH.")
