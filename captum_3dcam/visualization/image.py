"""One map over its image: as a figure, or as pixels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap

from captum_3dcam._validation import check_instance, check_number
from captum_3dcam.visualization._colors import ColorScale, draw_map
from captum_3dcam.visualization._figures import (
    MARGIN,
    AnyFigure,
    FigureAxis,
    finish_figure,
    grid_mosaic,
    hide_frame,
    make_axes,
)
from captum_3dcam.visualization._inputs import (
    Array,
    Values,
    as_array,
    as_images,
    as_map,
    as_pixels,
)
from captum_3dcam.visualization._rendering import render_pixels
from captum_3dcam.visualization._text import LITERAL, wrap_to, write_note
from captum_3dcam.visualization.overlays import OverlayArtist, Overlays
from captum_3dcam.visualization.style import Style, check_drawing

_WIDTH = 6.0  # inches, of an image
_MIN_HEIGHT, _MAX_HEIGHT = 1.0, 23.0  # inches, of an image however wide or high


def visualize_image_attr(
    attr: Values,
    original_image: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    plt_fig_axis: tuple[AnyFigure, Axes | Sequence[Axes]] | None = None,
    outlier_perc: float = 0,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
    *,
    vmax: float | None = None,
    base: str = "grey",
    raw: bool = False,
    overlays: Overlays = Overlays(),
) -> FigureAxis:
    """Draw one map over its image.

    A drop-in for Captum's function of this name: its arguments in its order, hence their number,
    with other defaults. :class:`Style` describes those that are not described here.

    Args:
        attr: the map, (H', W') or with leading axes of size 1; or (H, W, C) of C = 1 or 3 channels,
            as Captum has them, which are summed.
        original_image: (H, W), (H, W, 1) or (H, W, 3); it may be left out for "heat_map".
        outlier_perc: the percentage of the map's sum above the top of the colour scale, as in
            Captum. By default 0: the largest magnitude is at the top. ``vmax`` overrides it.
        overlays: boxes to draw with their scores, as ``localization.boxes(maps)[i]``.

    Returns the figure and the map's axis. Raises ValueError for arguments out of range, and for
    shapes or values that are not a map or image.

    >>> import torch
    >>> fig, ax = visualize_image_attr(torch.rand(1, 1, 7, 7), torch.rand(28, 28, 3))
    >>> len(ax.images)
    2
    """
    style = Style(
        method=method,
        sign=sign,
        vmax=vmax,
        cmap=cmap,
        alpha_overlay=alpha_overlay,
        base=base,
        raw=raw,
        show_colorbar=show_colorbar,
        fig_size=fig_size,
        plt_fig_axis=plt_fig_axis,
        use_pyplot=use_pyplot,
    )
    check_drawing(style, title)
    heat = as_array(attr)
    if heat.ndim == 3 and len(heat) > 1 and heat.shape[-1] in (1, 3):
        heat = heat.sum(axis=-1)
    heat = as_map(heat, 2)
    image = as_images(original_image, 2, heat, style)
    colors = ColorScale.from_maps(style, [heat])
    values = colors.select(heat)
    if vmax is None:
        colors = replace(colors, vmax=_without_outliers(values, outlier_perc))
    # Before the figure is made: an error must not leave one in pyplot.
    check_instance("overlays", overlays, Overlays)
    if overlays.tubes or overlays.segments:
        raise ValueError("An image has no frames: draw tubes and segments with a video.")
    artist = OverlayArtist(overlays, 1, heat.shape, image.shape[:2])
    height = min(max(_WIDTH * image.shape[0] / image.shape[1], _MIN_HEIGHT), _MAX_HEIGHT)
    title = title and wrap_to(title, _WIDTH, "large")
    height += 0.15 + 0.2 * (title.count("\n") + 1) if title else 0
    columns = 1 + style.raw
    width = _WIDTH * columns + (MARGIN if show_colorbar else 0)
    fig, axes = make_axes(style, grid_mosaic(1, columns, columns), (width, height))
    for ax, scale in zip(axes, [colors.plain, colors][-len(axes) :], strict=True):
        hide_frame(ax)
        draw_map(ax, values, image, scale)
    write_note(ax, colors.note(heat))
    artist.draw(ax, 0)
    if title is not None:
        ax.set_title(title, **LITERAL)
    finish_figure(fig, style, None, [([ax], colors)])
    return FigureAxis(fig, ax)


def render_image_attr(
    attr: Values, original_image: Values | None = None, style: Style = Style()
) -> Array:
    """The image with the map over it as pixels, (H, W, 3) RGB bytes of the image's size.

    With ``Style(raw=True)`` the image is beside it, and the width 2 W. Without a ``vmax`` in the
    style, each image has a colour scale of its own. For a video with its time, title and colour
    bar: :func:`overlay_frames`.

    Args and Raises as in :func:`visualize_image_attr`.

    >>> import torch
    >>> style = Style(sign="positive", vmax=2.0)
    >>> render_image_attr(torch.rand(7, 7), torch.rand(28, 28, 3), style).shape
    (28, 28, 3)
    """
    check_drawing(style, title=None)
    heat = as_map(attr, 2)
    image = as_pixels(original_image, 2, heat, style)
    return render_pixels(heat, image, ColorScale.from_maps(style, [heat]))


def _without_outliers(values: Array, outlier_perc: float) -> float:
    """The magnitude up to which the smallest ones sum to all but ``outlier_perc`` percent."""
    outlier_perc = check_number("outlier_perc", outlier_perc)
    if not 0 <= outlier_perc <= 100:
        raise ValueError(f"outlier_perc={outlier_perc}: expected a percentage, 0 to 100.")
    magnitudes = np.sort(np.abs(values).ravel())
    sums = magnitudes.cumsum(dtype=np.float64)
    if not outlier_perc:
        return float(magnitudes[-1])
    return float(magnitudes[np.searchsorted(sums, sums[-1] * (1 - outlier_perc / 100))])
