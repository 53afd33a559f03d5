"""Preprocessing of RGB frames for a network, and its inverse for figures, boxes and maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._files import check_bytes
from captum_3dcam._validation import check_choice, check_flag, describe, is_number, show
from captum_3dcam.models._frame_geometry import FrameGeometry, check_side_or_size, geometry_of

_TOLERANCE = 1e-3  # by which resizing and half precision may leave [0, 1]
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's mode "L"
_COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class Preprocessing:
    """Resize RGB frames, crop their centre, and compute (x / 255 − ``mean``) / ``std``.

    ``mean`` and ``std`` are those of values in [0, 1], as in torchvision, timm and pytorchvideo; a
    number holds for all channels. A network that was trained on values from 0 to 255 minus a mean
    has that mean / 255, and ``std=1 / 255``; one trained on [-1, 1] has 0.5 and 0.5. Named ones
    are in :func:`get_preprocessing`. Of what a crop removes, the network sees nothing: for whole
    frames pass ``size=(H, W)`` without a crop.

    Raises ValueError or TypeError for values other than described.

    >>> prepare = Preprocessing(mean=0.5, std=0.5, size=12, crop=8)
    >>> clip = torch.zeros(3, 4, 24, 32, dtype=torch.uint8)
    >>> prepare(clip).shape, prepare(clip).unique()
    (torch.Size([3, 4, 8, 8]), tensor([-1.]))

    Frames of 24x32 are resized to 12x16. The crop is columns 4 to 12 of these, and so columns 8
    to 24 of the frames:

    >>> prepare.boxes_to_frame(torch.tensor([0, 0, 8, 8]), frame_size=(24, 32))
    tensor([ 8.,  4., 24., 20.])
    >>> prepare.maps_to_frame(torch.ones(8, 8), frame_size=(24, 32)).shape
    torch.Size([12, 16])
    """

    mean: float | tuple[float, ...] = 0.0
    """Of R, G and B, or of grey, in [0, 1]; one number holds for all."""
    std: float | tuple[float, ...] = 1.0
    """Of the same values and channels."""
    size: int | tuple[int, int] | None = None
    """What frames are resized to: (H, W) stretches them; one number is the length of the shorter
    side, and keeps their aspect ratio; None keeps their size."""
    crop: int | tuple[int, int] | None = None
    """(H, W) of the centre that is kept after resizing; one number for a square; None keeps all."""
    channels: int = 3
    """Of the network's input: 3, or 1 for grey values, 0.299 R + 0.587 G + 0.114 B."""
    antialias: bool = True
    """Whether a frame that is reduced is low-pass filtered. False repeats torchvision's video
    networks, which were trained without."""

    def __post_init__(self) -> None:
        check_choice("channels", self.channels, _COLOURS)
        _check_values("mean", self.mean, self.channels)
        _check_values("std", self.std, self.channels)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if max(_as_tuple(values)) > 1:
                raise ValueError(
                    f"{name}={show(values)}: values in [0, 1] have none above 1. If it is of "
                    "values from 0 to 255, divide mean and std by 255."
                )
        if min(_as_tuple(self.std)) <= 0:
            raise ValueError(f"std={show(self.std)}: expected numbers above 0.")
        check_side_or_size(self.size, "size")
        check_side_or_size(self.crop, "crop")
        check_flag("antialias", self.antialias)
        if self.crop is not None and isinstance(self.size, Sequence):
            self.geometry(self.size)  # a crop that is too large

    def __call__(self, clip: Tensor) -> Tensor:
        """Convert a clip (..., 3, T, H, W) or an image (3, H, W) to the network's input.

        Values are uint8, or floats in [0, 1]. Each frame is resized bilinearly.

        Raises TypeError for another dtype, ValueError for another shape or range, for frames that
        are smaller than the crop, and for a size beyond the memory limit.
        """
        _check_channels(clip, 3)
        geometry = self.geometry((clip.shape[-2], clip.shape[-1]))
        _check_memory(clip, geometry)
        frames = _to_float(clip)
        if self.channels == 1:
            weights = _over_channels(_LUMINANCE, frames)
            frames = (frames * weights).sum(dim=_channel_axis(frames), keepdim=True)
        frames = geometry.crop(self._resize(frames, geometry))
        return (frames - _over_channels(self.mean, frames)) / _over_channels(self.std, frames)

    def _resize(self, frames: Tensor, geometry: FrameGeometry) -> Tensor:
        if geometry.resized == geometry.frame:
            return frames
        # All frames and colours as the channels of one image, which are resized independently.
        channels = frames.reshape(1, -1, *geometry.frame)
        resized = F.interpolate(
            channels, geometry.resized, mode="bilinear", antialias=self.antialias
        )
        return resized.reshape(*frames.shape[:-2], *geometry.resized)

    def restore(self, clip: Tensor) -> Tensor:
        """Convert a network's input back to RGB, or grey, in [0, 1]; the size stays.

        >>> prepare = Preprocessing((0.45, 0.43, 0.39), 1 / 255)  # 0 to 255 minus the mean
        >>> clip = torch.rand(3, 2, 4, 4)
        >>> torch.allclose(prepare.restore(prepare(clip)), clip, atol=1e-6)
        True
        """
        _check_channels(clip, self.channels)
        clip = clip if clip.is_floating_point() else clip.float()
        return (clip * _over_channels(self.std, clip) + _over_channels(self.mean, clip)).clamp(0, 1)

    def geometry(self, frame_size: tuple[int, int]) -> FrameGeometry:
        """For frames of (H, W): their size when resized, and the position of the crop.

        >>> Preprocessing(size=256, crop=224).geometry((480, 640)).resized
        (256, 341)
        """
        return geometry_of(frame_size, self.size, self.crop)

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the network's input for frames of (H, W).

        >>> Preprocessing(size=256).input_size((480, 640))
        (256, 341)
        """
        return self.geometry(frame_size).size

    def seen(self, frame_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the part of the frame (H, W) that the network sees, in pixels.

        >>> Preprocessing(size=240, crop=240).seen((480, 640))
        (80.0, 0.0, 560.0, 480.0)
        """
        height, width = self.input_size(frame_size)
        whole = torch.tensor([0, 0, width, height], dtype=torch.float64)
        x0, y0, x1, y1 = self.boxes_to_frame(whole, frame_size).tolist()
        return x0, y0, x1, y1

    def maps_to_frame(self, maps: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Maps (..., h, w) of the network's input -> over the whole frame (H, W).

        The result has the resolution of the network's: the size that frames are resized to. It is
        0 where the network saw nothing.
        """
        return self.geometry(frame_size).maps_to_frame(maps)

    def boxes_to_input(self, boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Boxes (..., 4), x0, y0, x1, y1, of frames of (H, W) -> in pixels of the network's input.

        A box that the crop cuts extends beyond the input, below 0 or above its size.
        """
        return self.geometry(frame_size).boxes_to_input(boxes)

    def boxes_to_frame(self, boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Boxes (..., 4) in pixels of the network's input -> in pixels of frames of (H, W)."""
        return self.geometry(frame_size).boxes_to_frame(boxes)


def _check_values(name: str, values: object, channels: int) -> None:
    numbers = _as_tuple(values)
    if not all(is_number(number, Real) and math.isfinite(number) for number in numbers):
        raise ValueError(f"{name}={show(values)}: expected finite numbers.")
    if isinstance(values, tuple | list) and len(numbers) != channels:
        kind = _COLOURS[channels]
        raise ValueError(
            f"{name}={show(values)}: expected one number for all channels, or {channels}, for "
            f"channels={channels}, {kind}."
        )


def _as_tuple(values: Any) -> tuple[float, ...]:
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def _channel_axis(clip: Tensor) -> int:
    return -3 if clip.ndim == 3 else -4


def _over_channels(values: float | tuple[float, ...], clip: Tensor) -> Tensor:
    """The values as a tensor that is broadcast over the axes of a clip or an image."""
    return clip.new_tensor(_as_tuple(values)).reshape(-1, *[1] * (-_channel_axis(clip) - 1))


def _check_channels(clip: Tensor, channels: int) -> None:
    if clip.ndim < 3 or clip.shape[_channel_axis(clip)] != channels or not clip.numel():
        raise ValueError(
            f"Expected {_COLOURS[channels]}, a clip (..., {channels}, T, H, W) or an image "
            f"({channels}, H, W), and not empty; received {describe(clip)}. Convert frames "
            f"(T, H, W, {channels}) with .movedim(-1, 0), and images (N, {channels}, H, W) with "
            ".unsqueeze(2)."
        )


def _check_memory(clip: Tensor, geometry: FrameGeometry) -> None:
    """Of resized frames that are larger: a frame of 1 x 100000 makes a huge one of 256 x ..."""
    old, new = math.prod(geometry.frame), math.prod(geometry.resized)
    if new > old:
        check_bytes(
            f"Frames of {geometry.frame} are resized to {geometry.resized}",
            clip.numel() // old * new * torch.float32.itemsize,
            "Pass size=(H, W), or fewer frames at once. ",
        )


def _to_float(clip: Tensor) -> Tensor:
    """Return RGB in [0, 1], float32 or float64."""
    if clip.dtype == torch.uint8:
        return clip.float() / 255
    if not clip.is_floating_point():
        raise TypeError(
            f"Expected RGB as torch.uint8, or as floats in [0, 1]; received {clip.dtype}. Convert "
            "integers from 0 to 255 with .to(torch.uint8)."
        )
    low, high = clip.min().item(), clip.max().item()
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        bytes_as_floats = low >= 0 and 1 < high <= 255
        advice = "Divide them by 255." if bytes_as_floats else "Is the clip already preprocessed?"
        raise ValueError(
            f"Expected RGB floats in [0, 1]; received values from {low:g} to {high:g}. {advice}"
        )
    return clip if clip.dtype == torch.float64 else clip.float()
