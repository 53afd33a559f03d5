"""What a map looks like: which sign of it, under which colours and scale, laid over what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from captum_3dcam._validation import check_choice
from captum_3dcam.visualization._inputs import Array

METHODS = ("blended_heat_map", "heat_map", "masked_image", "alpha_scaling", "original_image")
SIGNS = ("positive", "absolute_value", "negative", "all")
_LABELS = {"absolute_value": "|attribution|", "negative": "−attribution"}

# Perceptually uniform, and legible in every kind of colour blindness; so is red against blue.
_SEQUENTIAL, _DIVERGING = "inferno", "RdBu_r"
_UNIT = Normalize(0, 1)
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """How maps are drawn. ``sign`` None and ``vmax`` None are settled by :meth:`over`.

    Raises ValueError for a method, sign, opacity or vmax that is none, and where they fight.
    """

    method: str
    sign: str | None
    cmap: str | Colormap | None
    alpha_overlay: float
    vmax: float | None
    unit: str = ""
    """What the scale is relative to, for its label."""

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if self.sign is not None:
            check_choice("sign", self.sign, SIGNS)
        if not 0 <= self.alpha_overlay <= 1:
            raise ValueError(f"alpha_overlay={self.alpha_overlay} is not an opacity, from 0 to 1.")
        if self.vmax is not None and not 0 < self.vmax < np.inf:
            raise ValueError(
                f"vmax={self.vmax} must be positive: the value at the top of the colour scale."
            )
        if self.sign == "all" and self.method in ("masked_image", "alpha_scaling"):
            raise ValueError(
                f"method={self.method!r} cannot tell negative attribution from positive. Choose "
                "sign='positive', 'negative' or 'absolute_value'."
            )

    def settle(self, heats: Sequence[Array]) -> "Look":
        """With a sign: "all" where a map has a negative value, "positive" where none has."""
        negative = any(heat.min() < 0 for heat in heats)
        return replace(self, sign=self.sign or ("all" if negative else "positive"))

    def values(self, heat: Array) -> Array:
        """What of the map is drawn."""
        if self.sign == "positive":
            return np.maximum(heat, 0)
        if self.sign == "negative":
            return np.maximum(-heat, 0)
        return np.abs(heat) if self.sign == "absolute_value" else heat

    def over(self, values: Iterable[Array]) -> "Look":
        """With the values' largest magnitude at the top of the scale, unless one was given."""
        top = max(float(np.abs(heat).max()) for heat in values)
        return self if self.vmax is not None else replace(self, vmax=top if top > 0 else 1.0)

    @property
    def norm(self) -> Normalize:
        top = 1.0 if self.vmax is None else self.vmax
        return Normalize(-top if self.sign == "all" else 0, top)

    @property
    def colours(self) -> str | Colormap:
        return self.cmap or (_DIVERGING if self.sign == "all" else _SEQUENTIAL)

    @property
    def label(self) -> str:
        return _LABELS.get(self.sign or "", "attribution") + self.unit


def scaled(
    look: Look, shown: Iterable[Array], whole: Array, scale: str, name: str
) -> tuple[list[Array], Look]:
    """The pictures to draw and their look: by the scale of the whole map, or each by its own."""
    check_scale(look, scale, ("shared", "each"))
    if scale == "each":
        return [relative(picture) for picture in shown], relative_look(look, name)
    return list(shown), look.over([whole])


def relative(picture: Array) -> Array:
    """By its own largest magnitude; a picture that is zero stays so."""
    top = np.abs(picture).max()
    return picture / top if top > 0 else picture


def relative_look(look: Look, name: str) -> Look:
    return replace(look, vmax=1.0, unit=f" / {name}'s maximum")


def check_scale(look: Look, scale: str, known: Sequence[str]) -> None:
    check_choice("scale", scale, known)
    if scale != "shared" and look.vmax is not None:
        raise ValueError(
            f"vmax={look.vmax} is one scale for all and scale={scale!r} is not. Leave one out."
        )


# ------------------------------------------------------------------------------- what to draw


class Picture(NamedTuple):
    """One picture of those that lie over each other: values, colours, opacity."""

    data: Array
    cmap: str | Colormap
    norm: Normalize
    alpha: Array | None = None


def pictures(heat: Array, image: Array, look: Look) -> list[Picture]:
    """The pictures that the look's method lays over each other, from the bottom up."""
    top = look.norm.vmax or 1.0
    strength = np.clip(np.abs(heat) / top, 0, 1)
    if look.method == "heat_map":
        return [Picture(heat, look.colours, look.norm)]
    if look.method == "blended_heat_map":
        grey = image.mean(axis=-1) if image.ndim == 3 else image
        # The square root, because low values would vanish twice: dark and transparent.
        opacity = look.alpha_overlay * np.sqrt(strength)
        return [Picture(grey, "gray", _UNIT), Picture(heat, look.colours, look.norm, opacity)]
    below = Picture(image, "gray", _UNIT)
    if look.method == "original_image":
        return [below]
    cover = np.full_like(heat, 0 if look.method == "masked_image" else 1)
    return [below, Picture(cover, "gray", _UNIT, 1 - strength)]


def draw(
    ax: Axes, heat: Array, image: Array, look: Look, extent: Extent | None = None
) -> list[AxesImage]:
    """The map over its picture; in the picture's pixels where no other extent is given."""
    height, width = image.shape[:2]
    # The map covers the picture, whatever its own size.
    extent = extent or (-0.5, width - 0.5, height - 0.5, -0.5)
    return [
        ax.imshow(
            picture.data,
            extent=extent,
            cmap=picture.cmap,
            norm=picture.norm,
            alpha=picture.alpha,
            interpolation="bilinear",
        )
        for picture in pictures(heat, image, look)
    ]


def redraw(drawn: Sequence[AxesImage], heat: Array, image: Array, look: Look) -> None:
    for artist, picture in zip(drawn, pictures(heat, image, look), strict=True):
        artist.set_data(picture.data)
        artist.set_alpha(picture.alpha)


def colour_bar(
    fig: Figure | SubFigure, axes: Sequence[Axes], look: Look, location: str = "right"
) -> None:
    mappable = ScalarMappable(look.norm, look.colours)
    place: dict[str, Any] = {"location": location, "pad": 0.01, "aspect": 25}
    if location == "bottom":
        place["ticks"] = MaxNLocator(3)  # numbers side by side run into each other
    fig.colorbar(mappable, ax=list(axes), label=look.label, **place)
