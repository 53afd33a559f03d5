"""One map over its image."""

from matplotlib.colors import Colormap

from captum_3dcam.localization import Boxes
from captum_3dcam.visualization._box_overlays import Outlines
from captum_3dcam.visualization._figures import (
    FigureAxis,
    bare,
    figure_axis,
    set_title,
    show,
    title_of,
)
from captum_3dcam.visualization._inputs import Values, as_map, as_pictures
from captum_3dcam.visualization.style import Look, colour_bar, draw


def visualize_image_attr(
    attr: Values,
    original_image: Values | None = None,
    method: str = "blended_heat_map",
    sign: str | None = None,
    *,
    boxes: Boxes | None = None,
    box_size: tuple[int, int] | None = None,
    class_name: str | None = None,
    class_score: float | None = None,
    vmax: float | None = None,
    plt_fig_axis: FigureAxis | None = None,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> FigureAxis:
    """Draw one map over its image.

    Args:
        attr: the map, (H', W') or with leading axes of size 1.
        original_image: (H, W), (H, W, 1) or (H, W, 3); it may be left out for "heat_map".
        method: "blended_heat_map" (the map over the grey image, the more opaque the higher),
            "heat_map" (the map alone), "masked_image" (the image, black where the map is low),
            "alpha_scaling" (white where it is low) or "original_image".
        sign: what of the map is drawn: "positive", "negative" (its magnitude),
            "absolute_value", or "all", under a diverging scale centred at zero. By default "all"
            if the map has a negative value, else "positive".
        boxes: to draw with their scores, as ``localization.boxes(maps)[i]``.
        box_size: the (H, W) whose pixels boxes are counted in, by default the map's.
        class_name, class_score: for the title.
        vmax: the value at the top of the colour scale, by default the largest magnitude. Give the
            same one to compare several maps.
        plt_fig_axis: the figure and axis to draw on; a new one by default.
        cmap: by default inferno, and red against blue for "all".
        alpha_overlay: opacity of a blended heat map at the top of the scale, 0 to 1.
        use_pyplot: make the figure by pyplot, and show it.

    Raises:
        ValueError: for an unknown method or sign, and for shapes and values that are none of these.

    >>> import torch
    >>> fig, ax = visualize_image_attr(torch.rand(1, 1, 7, 7), torch.rand(28, 28, 3))
    >>> len(ax.images)
    2
    """
    look = Look(method, sign, cmap, alpha_overlay, vmax)
    heat = as_map(attr, 2)
    image = as_pictures(original_image, 2, heat, method)
    look = look.settle([heat])
    values = look.values(heat)
    look = look.over([values])
    # Before the figure is made: what is wrong must not leave one in pyplot.
    outlines = Outlines(
        1, None if boxes is None else [boxes], None, box_size or heat.shape, image.shape[:2]
    )
    size = fig_size or (6, 6 * image.shape[0] / image.shape[1])
    fig, ax = figure_axis(plt_fig_axis, size, use_pyplot)
    bare(ax)
    draw(ax, values, image, look)
    outlines.draw(ax, 0)
    set_title(ax, title_of(title, class_name, class_score))
    if show_colorbar:
        colour_bar(fig, [ax], look)
    show(use_pyplot)
    return fig, ax
