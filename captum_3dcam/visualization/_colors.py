"""The colours of a map: its scale, and the layers that are drawn over its image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage

from captum_3dcam.visualization._inputs import Array
from captum_3dcam.visualization.style import Style

# Perceptually uniform, and legible in every kind of colour blindness; so is red against blue.
_SEQUENTIAL, _DIVERGING = "inferno", "RdBu_r"
_GREY_LEVELS = Normalize(0, 1)
Extent = tuple[float, float, float, float]
_LABELS = {"absolute_value": "|attribution|", "negative": "−attribution"}


@dataclass(frozen=True)
class ColorScale:
    """A style with its sign and the top of its scale chosen for the maps that are drawn.

    A ``vmax`` of 0 is that of maps without any value to draw.
    """

    style: Style
    vmax: float = 0.0
    unit: str = ""

    @classmethod
    def from_maps(cls, style: Style, maps: Sequence[Array]) -> "ColorScale":
        """One scale for all maps: what the style leaves open is chosen by their values."""
        sign = style.sign or ("all" if any(heat.min() < 0 for heat in maps) else "positive")
        scale = cls(replace(style, sign=sign))
        return scale.fit([scale.select(heat) for heat in maps])

    def fit(self, values: Sequence[Array]) -> "ColorScale":
        """With the largest magnitude of the values at the top, unless the style has a ``vmax``."""
        peak = max(float(np.abs(heat).max()) for heat in values)
        return replace(self, vmax=self.style.vmax or peak)

    def select(self, heat: Array) -> Array:
        """The values of the chosen sign, 0 elsewhere."""
        if self.style.sign == "positive":
            return np.maximum(heat, 0)
        if self.style.sign == "negative":
            return np.maximum(-heat, 0)
        return np.abs(heat) if self.style.sign == "absolute_value" else heat

    def apply(self, images: Sequence[Array], kind: str) -> tuple[list[Array], "ColorScale"]:
        """The images to draw and their scale: this one, or [0, 1] if each is divided by its own.

        ``kind`` says what an image is, for the label: "frame", "slice".
        """
        if self.style.scale != "each":
            return list(images), self
        peaks = [np.abs(image).max() for image in images]
        relative = [image / (peak or 1) for image, peak in zip(images, peaks, strict=True)]
        return relative, replace(self, vmax=float(self.vmax > 0), unit=f" / {kind}'s maximum")

    def note(self, heat: Array) -> str:
        """What a reader must know of a map of which nothing is drawn."""
        if self.style.method == "original_image" or self.select(heat).any():
            return ""
        return f"no {self.style.sign} values" if heat.any() else "the map is zero"

    @property
    def plain(self) -> "ColorScale":
        """The same, to draw what was explained without a map."""
        return replace(self, style=replace(self.style, method="original_image"))

    @property
    def has_bar(self) -> bool:
        """Whether colours are drawn that need a scale."""
        return self.vmax > 0 and self.style.method in ("heat_map", "blended_heat_map")

    def strength(self, heat: Any) -> Any:
        """The magnitudes of a map by that at the top of the scale, 0 to 1."""
        return abs(heat / (self.vmax or 1.0)).clip(0, 1)

    @property
    def norm(self) -> Normalize:
        top = self.vmax or 1.0
        return Normalize(-top if self.style.sign == "all" else 0, top)

    @property
    def cmap(self) -> str | Colormap:
        return self.style.cmap or (_DIVERGING if self.style.sign == "all" else _SEQUENTIAL)

    @property
    def label(self) -> str:
        return _LABELS.get(self.style.sign or "", "attribution") + self.unit


class ImageLayer(NamedTuple):
    """Values, and their colours and opacity."""

    data: Array
    cmap: str | Colormap
    norm: Normalize
    alpha: Array | None = None


def image_layers(heat: Array, image: Array, colors: ColorScale) -> list[ImageLayer]:
    """The layers of the style's method, from the bottom up."""
    method = colors.style.method
    strength = colors.strength(heat)
    if method == "heat_map":
        return [ImageLayer(heat, colors.cmap, colors.norm)]
    if method == "blended_heat_map":
        is_base = image.ndim == 2 or colors.style.base == "color"
        base = image if is_base else image.mean(axis=-1)
        # The square root, because low values would vanish twice: dark and transparent.
        opacity = colors.style.alpha_overlay * np.sqrt(strength)
        return [
            ImageLayer(base, "gray", _GREY_LEVELS),
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
    options: dict[str, Any] = {"extent": extent, "interpolation": "bilinear"}
    return [
        ax.imshow(layer.data, layer.cmap, layer.norm, alpha=layer.alpha, **options)
        for layer in image_layers(heat, image, colors)
    ]
