"""The pixels of a map over its image, from a table of colours: for the frames of a video."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._inputs import Array

# Of the square root of the magnitude, to which the opacity of a blended map is proportional.
_MAX_LEVEL = 1023


def render_pixels(heat: Array, image: Array, colors: ColorScale) -> Array:
    """RGB bytes (H, W, 3) of a map (h, w) over an image, (H, W) or (H, W, 3) bytes.

    With the image itself to the left of it, (H, 2 W, 3), if the style says so.
    """
    values = torch.from_numpy(colors.select(heat))[None, None]
    resized = F.interpolate(values, image.shape[:2], mode="bilinear")[0, 0]
    pixels = _blend(resized, image, colors)
    return np.concatenate([_rgb(image), pixels], axis=1) if colors.style.raw else pixels


def _blend(heat: Tensor, image: Array, colors: ColorScale) -> Array:
    method = colors.style.method
    if method in ("heat_map", "blended_heat_map"):
        return _look_up(_levels(heat, colors).mul_(256), image, colors)
    rgb = _rgb(image)
    if method == "original_image":
        return np.array(rgb)
    strength = colors.strength(heat)[..., None]
    white = 0 if method == "masked_image" else 255
    blended = (torch.from_numpy(rgb.astype(np.float32)) - white) * strength + white
    return np.asarray(blended.round().byte())


def _rgb(image: Array) -> Array:
    return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*image.shape[:2], 3))


def _look_up(first: Tensor, image: Array, colors: ColorScale) -> Array:
    """Colours from the table, from its rows ``first`` on: those of grey, or of each channel."""
    table = _table_of(colors)
    if image.ndim == 2 or colors.style.base == "grey":
        return np.take(table, first.add_(_grey(image)).numpy(), axis=0)
    pixels = np.empty_like(image)
    for channel in range(3):
        rows = first.numpy() + image[..., channel]
        pixels[..., channel] = np.take(table[:, channel], rows)
    return pixels


def _levels(heat: Tensor, colors: ColorScale) -> Tensor:
    """The row of the palette for each value, int32."""
    levels: Tensor = colors.strength(heat).sqrt_().mul_(_MAX_LEVEL).round_()
    if colors.style.sign == "all":
        levels = torch.where(heat < 0, -levels, levels) + _MAX_LEVEL
    return levels.int()


def _grey(image: Array) -> Tensor:
    """The mean of the colours in bytes, (H, W) int32."""
    if image.ndim == 2:
        return torch.from_numpy(image.astype(np.int32))
    total = image[..., 0].astype(np.uint16) + image[..., 1] + image[..., 2]
    return torch.from_numpy(((total + 1) // 3).astype(np.int32))


def _table_of(colors: ColorScale) -> Array:
    first = -_MAX_LEVEL if colors.style.sign == "all" else 0
    root = np.arange(first, _MAX_LEVEL + 1, dtype=np.float64) / _MAX_LEVEL
    values = np.sign(root) * root**2
    normalized = (values + 1) / 2 if first else values
    palette = colormaps.get_cmap(colors.cmap)(normalized)[:, :3]
    is_opaque = colors.style.method == "heat_map"
    opacity = np.ones_like(root) if is_opaque else colors.style.alpha_overlay * np.abs(root)
    return _table(palette.tobytes(), opacity.tobytes())


@lru_cache(maxsize=4)
def _table(palette: bytes, opacity: bytes) -> Array:
    """RGB bytes (levels * 256, 3): each level's colour over each of 256 values of a channel."""
    colours = np.frombuffer(palette).reshape(-1, 1, 3)
    opacities = np.frombuffer(opacity).reshape(-1, 1, 1)
    grey = np.linspace(0, 1, 256)[:, None]
    blended = grey + opacities * (colours - grey)
    table: Array = (255 * blended).round().astype(np.uint8).reshape(-1, 3)
    return table
