"""A map over its image: the layers that a method draws over each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage

from captum_3dcam.visualization._color_scale import ColorScale
from captum_3dcam.visualization._inputs import Array

Extent = tuple[float, float, float, float]
_GREY_LEVELS = Normalize(0, 1)


class ImageLayer(NamedTuple):
    """Values, and their colours and opacity."""

    data: Array
    cmap: str | Colormap
    norm: Normalize
    alpha: Array | None = None


def image_layers(heat: Array, image: Array, colors: ColorScale) -> list[ImageLayer]:
    """The layers of the style's method, from the bottom up."""
    method = colors.style.method
    strength = np.clip(np.abs(heat) / colors.vmax, 0, 1)
    if method == "heat_map":
        return [ImageLayer(heat, colors.cmap, colors.norm)]
    if method == "blended_heat_map":
        grey = image.mean(axis=-1) if image.ndim == 3 else image
        # The square root, because low values would vanish twice: dark and transparent.
        opacity = colors.style.alpha_overlay * np.sqrt(strength)
        return [
            ImageLayer(grey, "gray", _GREY_LEVELS),
            ImageLayer(heat, colors.cmap, colors.norm, opacity),
        ]
    below = ImageLayer(image, "gray", _GREY_LEVELS)
    if method == "original_image":
        return [below]
    cover = np.full_like(heat, 0 if method == "masked_image" else 1)
    return [below, ImageLayer(cover, "gray", _GREY_LEVELS, 1 - strength)]


def draw_map(
    ax: Axes, heat: Array, image: Array, colors: ColorScale, extent: Extent | None = None
) -> list[AxesImage]:
    """Draw a map of any size over the whole of its image, by default in the image's pixels."""
    height, width = image.shape[:2]
    extent = extent or (-0.5, width - 0.5, height - 0.5, -0.5)
    return [
        ax.imshow(
            layer.data,
            extent=extent,
            cmap=layer.cmap,
            norm=layer.norm,
            alpha=layer.alpha,
            interpolation="bilinear",
        )
        for layer in image_layers(heat, image, colors)
    ]


def update_map(artists: Sequence[AxesImage], heat: Array, image: Array, colors: ColorScale) -> None:
    """Show another map and image in what :func:`draw_map` returned."""
    for artist, layer in zip(artists, image_layers(heat, image, colors), strict=True):
        artist.set_data(layer.data)
        artist.set_alpha(layer.alpha)


def blend_layers(heat: Array, image: Array, colors: ColorScale) -> Array:
    """RGB bytes (H, W, 3) of a map as large as its image."""
    blended = np.zeros((*heat.shape, 3), np.float32)
    for layer in image_layers(heat, image, colors):
        rgb = layer.data
        if rgb.ndim == 2:
            rgb = colormaps.get_cmap(layer.cmap)(layer.norm(layer.data))[..., :3]
        blended += (rgb - blended) * (1.0 if layer.alpha is None else layer.alpha[..., None])
    pixels: Array = (blended * 255).round().astype(np.uint8)
    return pixels
