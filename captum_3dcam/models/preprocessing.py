"""Preprocessing of RGB frames for a network, and its inverse for figures."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import check_positive, describe

_TOLERANCE = 1e-3  # by which resizing and half precision may leave [0, 1]


@dataclass(frozen=True)
class Preprocessing:
    """Resize RGB frames and scale them: x in [0, 1] -> x · ``scale`` − ``mean``.

    The whole frame is resized, without a crop, so that boxes and maps scale along with it. For
    another size use ``dataclasses.replace(preprocessing, size=(64, 64))``.

    Raises ValueError for a scale that is not positive, a mean without three numbers, and a size
    that is not (H, W).

    >>> prepare = Preprocessing(scale=2.0, mean=(1.0, 1.0, 1.0), size=(8, 8))  # to [-1, 1]
    >>> clip = torch.zeros(3, 4, 24, 32, dtype=torch.uint8)
    >>> prepare(clip).shape, prepare(clip).unique()
    (torch.Size([3, 4, 8, 8]), tensor([-1.]))
    >>> prepare.scale_boxes(torch.tensor([16, 12, 32, 24]), from_size=(24, 32))
    tensor([4., 4., 8., 8.])
    """

    scale: float
    """The factor; 255 for networks trained on values from 0 to 255."""
    mean: tuple[float, float, float]
    """The mean of R, G and B that is subtracted after scaling."""
    size: tuple[int, int] | None = None
    """(H, W) of the network's input; None keeps the size of the frames."""

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean={self.mean!r}: expected three finite numbers, of R, G and B.")
        if self.size is not None:
            _check_size(self.size, "size")

    def __call__(self, clip: Tensor) -> Tensor:
        """Convert a clip (..., 3, T, H, W) or an image (3, H, W) to the network's input.

        Values are uint8, or floats in [0, 1]. Each frame is resized bilinearly with antialiasing.

        Raises TypeError for another dtype, ValueError for another shape or range.
        """
        _check_rgb(clip)
        frames = _to_float(clip)
        if self.size is not None and self.size != tuple(clip.shape[-2:]):
            # All frames and colours as the channels of one image, which are resized independently.
            channels = frames.reshape(1, -1, *frames.shape[-2:])
            resized = F.interpolate(channels, self.size, mode="bilinear", antialias=True)
            frames = resized.reshape(*frames.shape[:-2], *self.size)
        return frames * self.scale - self._mean_like(frames)

    def restore(self, clip: Tensor) -> Tensor:
        """Convert a network's input, of the same shapes, back to RGB in [0, 1]; the size stays.

        >>> prepare = Preprocessing(255.0, (114.7748, 107.7354, 99.4750))
        >>> clip = torch.rand(3, 2, 4, 4)
        >>> torch.allclose(prepare.restore(prepare(clip)), clip, atol=1e-6)
        True
        """
        _check_rgb(clip)
        clip = _as_float(clip)
        return ((clip + self._mean_like(clip)) / self.scale).clamp(0, 1)

    def scale_boxes(self, boxes: Tensor, from_size: tuple[int, int]) -> Tensor:
        """Scale boxes (..., 4), x0, y0, x1, y1, of frames of ``from_size`` (H, W) to ``size``."""
        if boxes.ndim < 1 or boxes.shape[-1] != 4:
            raise ValueError(
                f"scale_boxes expects boxes (..., 4), x0, y0, x1, y1; got {describe(boxes)}."
            )
        height, width = _check_size(from_size, "from_size")
        new_height, new_width = self.size or (height, width)
        x, y = new_width / width, new_height / height
        boxes = _as_float(boxes)
        return boxes * boxes.new_tensor([x, y, x, y])

    def _mean_like(self, clip: Tensor) -> Tensor:
        axes = (3, 1, 1) if clip.ndim == 3 else (3, 1, 1, 1)
        return clip.new_tensor(self.mean).reshape(axes)


def _as_float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float()


def _check_size(size: tuple[int, int], name: str) -> tuple[int, int]:
    if len(size) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in size):
        raise ValueError(f"{name}={size!r}: expected (H, W), two positive integers.")
    return size


def _check_rgb(clip: Tensor) -> None:
    channel_axis = -3 if clip.ndim == 3 else -4
    if clip.ndim < 3 or clip.shape[channel_axis] != 3 or not clip.numel():
        raise ValueError(
            "Expected RGB, a clip (..., 3, T, H, W) or an image (3, H, W), and not empty; got "
            f"{describe(clip)}. Convert frames (T, H, W, 3) with .movedim(-1, 0), and images "
            "(N, 3, H, W) with .unsqueeze(2)."
        )


def _to_float(clip: Tensor) -> Tensor:
    """Return RGB in [0, 1], float32 or float64."""
    if clip.dtype == torch.uint8:
        return clip.float() / 255
    if not clip.is_floating_point():
        raise TypeError(
            f"Expected RGB as torch.uint8, or as floats in [0, 1]; got {clip.dtype}. Convert "
            "integers from 0 to 255 with .to(torch.uint8)."
        )
    low, high = clip.min().item(), clip.max().item()
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        bytes_as_floats = low >= 0 and 1 < high <= 255
        advice = "Divide them by 255." if bytes_as_floats else "Is the clip already preprocessed?"
        raise ValueError(
            f"Expected RGB floats in [0, 1]; got values from {low:g} to {high:g}. {advice}"
        )
    return clip if clip.dtype == torch.float64 else clip.float()
