"""Style: how maps are drawn, and the figure that they are drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure

from captum_3dcam._validation import (
    check_choice,
    check_flag,
    check_instance,
    check_integer,
    check_number,
    check_numbers,
    check_positive,
    check_text,
    show,
)

METHODS = ("blended_heat_map", "heat_map", "masked_image", "alpha_scaling", "original_image")
SIGNS = ("positive", "absolute_value", "negative", "all")
_SCALES = ("shared", "row", "each")
_BASES = ("grey", "color")


def repr_changed(settings: Any) -> str:
    """The repr of a dataclass, without the fields that have their default."""
    values = ((field, getattr(settings, field.name)) for field in fields(settings))
    changed = (f"{field.name}={value!r}" for field, value in values if value != field.default)
    return f"{type(settings).__name__}({', '.join(changed)})"


@dataclass(frozen=True)
class Style:
    """How maps are drawn, for any number of figures; derive others by ``dataclasses.replace``.

    Args:
        method: "blended_heat_map" (the map over the grey image, the more opaque the higher),
            "heat_map" (the map alone), "masked_image" (the image, black where the map is low),
            "alpha_scaling" (white where it is low) or "original_image".
        sign: which values are drawn: "positive", "negative" (their magnitude), "absolute_value",
            or "all", under a diverging scale centred at zero. By default "all" if a map has a
            negative value, else "positive".
        scale: "shared", one colour scale for the figure; "row", one for each map in panels; or
            "each", one for each image, which shows where but hides in which frame or slice. By
            default "shared", but "row" in panels of maps whose maxima differ more than 5 times.
        vmax: the value at the top of the colour scale, by default the largest magnitude. Give the
            same one to compare figures.
        cmap: by default inferno, and red against blue for "all".
        alpha_overlay: opacity of a blended heat map at the top of the scale, 0 to 1.
        base: "grey", or "color" for a blended map over the image's own colours.
        raw: draw what was explained without the map, too: to the left of a map, or above a row of
            frames or slices. Of the figure's axes, those of it are the first.
        window: (low, high), the values of a volume that are black and white. By default its
            0.5th and 99.5th percentile.
        show_colorbar: draw the colour scale beside the images.
        columns: images in a row, by default at most 4; the others go into further rows.
        fig_size: (width, height) in inches, by default what suits the images.
        plt_fig_axis: a figure and its axes to draw on, one for each image; by default a new figure.
        use_pyplot: make the figure with pyplot, and show it.

    Raises TypeError for values of another type, and ValueError for values out of range and for
    settings that contradict each other.

    >>> from dataclasses import replace
    >>> replace(Style(vmax=1.0), sign="positive")
    Style(sign='positive', vmax=1.0)
    """

    method: str = "blended_heat_map"
    sign: str | None = None
    scale: str | None = None
    vmax: float | None = None
    cmap: str | Colormap | None = None
    alpha_overlay: float = 0.8
    base: str = "grey"
    raw: bool = False
    window: tuple[float, float] | None = None
    show_colorbar: bool = True
    columns: int | None = None
    fig_size: tuple[float, float] | None = None
    plt_fig_axis: tuple[Figure | SubFigure, Axes | Sequence[Axes]] | None = None
    use_pyplot: bool = False

    def __repr__(self) -> str:
        return repr_changed(self)

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if self.sign is not None:
            check_choice("sign", self.sign, SIGNS)
        check_choice("base", self.base, _BASES)
        check_flag("raw", self.raw)
        if self.scale is not None:
            check_choice("scale", self.scale, _SCALES)
        if self.vmax is not None:
            object.__setattr__(self, "vmax", check_positive("vmax", self.vmax))
        if self.columns is not None:
            check_integer("columns", self.columns)
        if not 0 <= check_number("alpha_overlay", self.alpha_overlay) <= 1:
            raise ValueError(f"alpha_overlay={self.alpha_overlay}: expected an opacity, 0 to 1.")
        check_flag("show_colorbar", self.show_colorbar)
        check_flag("use_pyplot", self.use_pyplot)
        _check_cmap(self.cmap)
        _check_window(self.window)
        _check_fig_size(self.fig_size)
        _check_figure(self.plt_fig_axis)
        if self.vmax is not None and self.scale in ("row", "each"):
            raise ValueError(
                f"vmax={self.vmax} sets one scale for all images, scale={self.scale!r} several. "
                "Leave one of them out."
            )
        if self.sign == "all" and self.method in ("masked_image", "alpha_scaling"):
            raise ValueError(
                f"method={self.method!r} cannot tell negative attribution from positive. Choose "
                "sign='positive', 'negative' or 'absolute_value'."
            )


def check_drawing(style: object, title: object) -> None:
    """TypeError unless the arguments that all figures have are a Style, and a text or None."""
    check_instance("style", style, Style)
    if title is not None:
        check_text("title", title)


def _check_cmap(cmap: object) -> None:
    is_known = isinstance(cmap, str) and cmap in colormaps
    if not (cmap is None or is_known or isinstance(cmap, Colormap)):
        raise ValueError(
            f"cmap={show(cmap)} is not known. Choose one of list(matplotlib.colormaps), or pass a "
            "Colormap."
        )


def _check_window(window: object) -> None:
    limits = (0, 1) if window is None else check_numbers("window", window)
    if len(limits) != 2 or not -inf < limits[0] < limits[1] < inf:
        raise ValueError(
            f"window={show(window)}: expected (low, high), the values that are black and white."
        )


def _check_fig_size(fig_size: object) -> None:
    sides = (1, 1) if fig_size is None else check_numbers("fig_size", fig_size)
    if len(sides) != 2 or not all(0 < side < inf for side in sides):
        raise ValueError(f"fig_size={show(fig_size)}: expected (width, height), in inches.")


def _check_figure(plt_fig_axis: Any) -> None:
    if plt_fig_axis is None:
        return
    is_pair = isinstance(plt_fig_axis, (tuple, list)) and len(plt_fig_axis) == 2
    figure, axes = plt_fig_axis if is_pair else (None, None)
    several = axes if isinstance(axes, (Sequence, np.ndarray)) else [axes]
    if not isinstance(figure, (Figure, SubFigure)) or not all(isinstance(a, Axes) for a in several):
        raise TypeError(
            f"plt_fig_axis={show(plt_fig_axis)}: expected a figure and its axes, (fig, ax) or "
            "(fig, [ax, ...]), as plt.subplots(1, n) returns them."
        )
