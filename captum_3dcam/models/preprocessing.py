"""From frames as they are read to what a network was trained on, and back for showing."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDING = 1e-3  # how far resizing and half precision may leave [0, 1]


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of RGB frames: a size, and x · ``scale`` − ``mean`` of x in [0, 1].

    The whole frame is resized, without a crop, so that boxes and maps scale along with it. Another
    size is ``dataclasses.replace(preprocessing, size=(64, 64))``.

    Raises ValueError for a scale that is not positive, other than three means, and a size that is
    not (H, W).

    >>> prepare = Preprocessing(scale=2.0, mean=(1.0, 1.0, 1.0), size=(8, 8))  # to [-1, 1]
    >>> clip = torch.zeros(3, 4, 24, 32, dtype=torch.uint8)
    >>> prepare(clip).shape, prepare(clip).unique()
    (torch.Size([3, 4, 8, 8]), tensor([-1.]))
    >>> prepare.scale_boxes(torch.tensor([16, 12, 32, 24]), from_size=(24, 32))
    tensor([4., 4., 8., 8.])
    """

    scale: float
    """What a value of 1 becomes, before the mean is taken off: 255 for networks of bytes."""
    mean: tuple[float, float, float]
    """Of red, green and blue, in the units of ``scale``."""
    size: tuple[int, int] | None = None
    """(H, W) of the network's frames; None keeps the frames' own."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale={self.scale!r}: expected a positive number.")
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean={self.mean!r}: expected three numbers, of R, G and B.")
        if self.size is not None:
            _check_size(self.size, "size")

    def __call__(self, clip: Tensor) -> Tensor:
        """The network's input, of a clip (..., 3, T, H, W) or an image (3, H, W); float.

        Frames are resized one by one, bilinearly and with antialiasing. Values are RGB, bytes or
        floats in [0, 1].

        Raises TypeError for another dtype, ValueError for another shape or range.
        """
        _check_rgb(clip)
        frames = _to_float(clip)
        if self.size is not None and self.size != tuple(clip.shape[-2:]):
            # Planes as channels of one image: each is resized by itself.
            planes = frames.reshape(1, -1, *frames.shape[-2:])
            planes = F.interpolate(planes, self.size, mode="bilinear", antialias=True)
            frames = planes.reshape(*frames.shape[:-2], *self.size)
        return frames * self.scale - self._mean_like(frames)

    def restore(self, clip: Tensor) -> Tensor:
        """RGB in [0, 1] of the network's input (..., 3, T, H, W) or (3, H, W), in its size.

        Raises ValueError for another shape.

        >>> prepare = Preprocessing(255.0, (114.7748, 107.7354, 99.4750))
        >>> clip = torch.rand(3, 2, 4, 4)
        >>> torch.allclose(prepare.restore(prepare(clip)), clip, atol=1e-6)
        True
        """
        _check_rgb(clip)
        clip = _floating(clip)
        return ((clip + self._mean_like(clip)) / self.scale).clamp(0, 1)

    def scale_boxes(self, boxes: Tensor, from_size: tuple[int, int]) -> Tensor:
        """Boxes (..., 4), x0, y0, x1, y1 in a frame ``from_size`` (H, W), in the network's frame.

        Floats; NaN stays. Raises ValueError for other shapes and sizes.
        """
        if boxes.ndim < 1 or boxes.shape[-1] != 4:
            raise ValueError(
                f"scale_boxes expects boxes (..., 4), x0, y0, x1, y1; got {tuple(boxes.shape)}."
            )
        height, width = _check_size(from_size, "from_size")
        new_height, new_width = self.size or (height, width)
        x, y = new_width / width, new_height / height
        boxes = _floating(boxes)
        return boxes * boxes.new_tensor([x, y, x, y])

    def _mean_like(self, clip: Tensor) -> Tensor:
        axes = (3, 1, 1) if clip.ndim == 3 else (3, 1, 1, 1)
        return clip.new_tensor(self.mean).reshape(axes)


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float()


# ------------------------------------------------------------------------------------- checks


def _check_size(size: tuple[int, int], name: str) -> tuple[int, int]:
    if len(size) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in size):
        raise ValueError(f"{name}={size!r}: expected (H, W), two positive integers.")
    return size


def _check_rgb(clip: Tensor) -> None:
    channels_at = -3 if clip.ndim == 3 else -4
    if clip.ndim < 3 or clip.shape[channels_at] != 3 or not clip.numel():
        raise ValueError(
            "Expected RGB, a clip (..., 3, T, H, W) or an image (3, H, W), and not empty; got "
            f"{tuple(clip.shape)}. Frames (T, H, W, 3) become a clip by .movedim(-1, 0), images "
            "(N, 3, H, W) clips of one frame by .unsqueeze(2)."
        )


def _to_float(clip: Tensor) -> Tensor:
    """RGB in [0, 1], at least float32."""
    if clip.dtype == torch.uint8:
        return clip.float() / 255
    if not clip.is_floating_point():
        raise TypeError(
            f"Expected RGB as bytes (torch.uint8) or floats in [0, 1]; got {clip.dtype}. Values "
            "from 0 to 255 become bytes by .to(torch.uint8)."
        )
    low, high = clip.min().item(), clip.max().item()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        divide = " Floats from 0 to 255 came, it seems: divide them by 255."
        raise ValueError(
            f"Expected RGB floats in [0, 1]; got values from {low:g} to {high:g}."
            f"{divide if low >= 0 and 1 < high <= 255 else ' Is the clip preprocessed already?'}"
        )
    return clip if clip.dtype == torch.float64 else clip.float()
