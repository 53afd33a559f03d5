"""The pixels of a map over its image, from a table of colours: for the frames of a video."""

from functools import lru_cache

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._inputs import Array

# Of the square root of the magnitude, to which the opacity of a blended map is proportional.
_MAX_LEVEL = 1023


def render_pixels(heat: Tensor, image: Array, colors: ColorScale) -> Array:
    """RGB bytes (H, W, 3) of a map (H, W) over an image of its size, (H, W) or (H, W, 3) bytes."""
    method = colors.style.method
    if method in ("heat_map", "blended_heat_map"):
        index = _levels(heat, colors).mul_(256).add_(_grey(image))
        return np.take(_table_of(colors), index.numpy(), axis=0)
    rgb = np.broadcast_to(image if image.ndim == 3 else image[..., None], (*heat.shape, 3))
    if method == "original_image":
        return np.array(rgb)
    strength = (heat.abs() / colors.vmax).clamp(max=1)[..., None]
    white = 0 if method == "masked_image" else 255
    blended = (torch.from_numpy(rgb.astype(np.float32)) - white) * strength + white
    return np.asarray(blended.round().byte())


def _levels(heat: Tensor, colors: ColorScale) -> Tensor:
    """The row of the palette for each value, int32."""
    levels = (heat.abs() / colors.vmax).clamp_(max=1).sqrt_().mul_(_MAX_LEVEL).round_()
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
    """RGB bytes (levels * 256, 3): each level's colour over each of 256 greys."""
    colours = np.frombuffer(palette).reshape(-1, 1, 3)
    opacities = np.frombuffer(opacity).reshape(-1, 1, 1)
    grey = np.linspace(0, 1, 256)[:, None]
    blended = grey + opacities * (colours - grey)
    table: Array = (255 * blended).round().astype(np.uint8).reshape(-1, 3)
    return table
