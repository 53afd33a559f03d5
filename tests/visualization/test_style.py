"""Style: validation, signs, and scales, by what is drawn with them."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from figures import CLIP, HEAT, IMAGE, MOVING, SIGNED, pixels, values

from captum_3dcam.functional import temporal_profile
from captum_3dcam.visualization import Style, visualize_image_attr, visualize_video_attr


def test_a_style_is_frozen_and_replaced():
    style = Style(sign="positive", vmax=2.0)
    with pytest.raises(FrozenInstanceError):
        style.vmax = 3.0
    assert replace(style, vmax=3.0) == Style(sign="positive", vmax=3.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "heatmap"}, "method='heatmap' is not known. Choose one of 'blend"),
        ({"sign": "both"}, "sign='both' is not known"),
        ({"scale": "frame"}, "scale='frame' is not known. Choose one of 'shared', 'row', 'each'"),
        ({"scale": "each", "vmax": 2.0}, "vmax=2.0 sets one scale for all images, scale='each'"),
        ({"scale": "row", "vmax": 2.0}, "vmax=2.0 sets one scale for all images, scale='row'"),
        ({"base": "gray"}, "base='gray' is not known. Choose one of 'grey', 'color'"),
        ({"vmax": 0}, "vmax=0: expected a finite number above 0"),
        ({"vmax": float("nan")}, "vmax=nan: expected a finite number"),
        ({"alpha_overlay": 1.1}, "alpha_overlay=1.1: expected an opacity, 0 to 1"),
        ({"window": (5, 5)}, r"window=\(5, 5\): expected \(low, high\)"),
        ({"window": (0, 1, 2)}, r"window=\(0, 1, 2\): expected \(low, high\)"),
        ({"window": (0, float("inf"))}, "expected \\(low, high\\)"),
        ({"columns": 0}, "columns=0: expected an integer, 1 or more"),
        ({"cmap": "rainbows"}, "cmap='rainbows' is not known. Choose one of list"),
        ({"cmap": 3}, "cmap=3 is not known"),
        ({"fig_size": (0, 4)}, r"fig_size=\(0, 4\): expected \(width, height\), in inches"),
        ({"fig_size": (4,)}, r"fig_size=\(4,\): expected \(width, height\)"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        Style(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vmax": "1"}, "vmax='1': expected a number"),
        ({"alpha_overlay": None}, "alpha_overlay=None: expected a number"),
        ({"window": 5}, "window=5: expected a list of numbers"),
        ({"show_colorbar": 1}, "show_colorbar=1: expected True or False"),
        ({"raw": "yes"}, "raw='yes': expected True or False"),
        ({"use_pyplot": "yes"}, "use_pyplot='yes': expected True or False"),
        ({"fig_size": "large"}, "fig_size='large': expected a list of numbers"),
        ({"plt_fig_axis": 3}, r"plt_fig_axis=3: expected a figure and its axes, \(fig, ax\)"),
        ({"plt_fig_axis": (None, None)}, "expected a figure and its axes"),
    ],
)
def test_settings_of_another_type_raise(settings, message):
    with pytest.raises(TypeError, match=message):
        Style(**settings)


def test_the_top_of_the_scale_may_be_a_tensor():
    assert Style(vmax=torch.tensor(2.0)) == Style(vmax=2.0)


@pytest.mark.parametrize(
    ("sign", "rule", "limits", "label"),
    [
        ("positive", lambda v: v if v > 0 else 0, (0, 2), "attribution"),
        ("negative", lambda v: -v if v < 0 else 0, (0, 4), "−attribution"),
        ("absolute_value", abs, (0, 4), "|attribution|"),
        ("all", lambda v: v, (-4, 4), "attribution"),
        (None, lambda v: v, (-4, 4), "attribution"),
    ],
)
def test_the_sign_selects_values_colour_map_and_label(sign, rule, limits, label):
    figure, ax = visualize_image_attr(SIGNED, sign=sign, method="heat_map", show_colorbar=True)
    (heat,) = ax.images
    expected = [[rule(v) for v in row] for row in SIGNED[0].tolist()]
    np.testing.assert_allclose(values(heat), expected)
    assert heat.get_clim() == limits
    assert heat.cmap.name == ("RdBu_r" if sign in ("all", None) else "inferno")
    assert figure.axes[-1].get_ylabel() == label


def test_a_signed_map_is_transparent_at_zero_and_equally_opaque_at_both_ends():
    _, ax = visualize_image_attr(SIGNED, np.ones((2, 3)), alpha_overlay=0.9)
    expected = [[0.9 * (abs(v) / 4) ** 0.5 for v in row] for row in SIGNED[0].tolist()]
    np.testing.assert_allclose(ax.images[1].get_alpha(), expected, rtol=1e-6)


def test_a_non_negative_map_has_a_scale_from_zero_unless_sign_is_all():
    _, ax = visualize_image_attr(HEAT, IMAGE, sign="all", cmap="PuOr")
    assert ax.images[1].get_clim() == (-2, 2)
    assert ax.images[1].cmap.name == "PuOr"
    assert visualize_image_attr(HEAT, IMAGE)[1].images[1].get_clim() == (0, 2)


@pytest.mark.parametrize("method", ["masked_image", "alpha_scaling"])
def test_sign_all_with_a_method_that_hides_the_sign_raises(method):
    with pytest.raises(ValueError, match="cannot tell negative .* Choose sign='positive'"):
        Style(method, "all")
    with pytest.raises(ValueError, match="cannot tell negative .* Choose sign='positive'"):
        visualize_image_attr(SIGNED, np.ones((2, 3)), method)
    _, ax = visualize_image_attr(SIGNED, np.ones((2, 3)), method, "absolute_value")
    np.testing.assert_allclose(ax.images[1].get_alpha(), 1 - SIGNED[0].abs() / 4)


def test_scale_each_divides_each_frame_by_its_maximum_and_leaves_the_profile():
    style = Style(scale="each")
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=5, style=style)
    for ax, frame in zip(axes, range(5), strict=False):
        np.testing.assert_allclose(values(ax.images[1]), MOVING[0, 0, frame] / (frame + 1))
        assert ax.images[1].get_clim() == (0, 1)
    assert figure.axes[-1].get_xlabel() == "attribution / frame's maximum"
    assert axes[-1].get_ylabel() == "mean attribution"
    np.testing.assert_allclose(axes[-1].get_lines()[0].get_ydata(), temporal_profile(MOVING)[0])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("sign", [None, "positive", "negative", "all"])
def test_constant_maps_are_drawn_without_a_warning(value, sign):
    attr = torch.full((2, 4, 4), value)
    style = Style(sign=sign, scale="each", fig_size=(4, 3))
    figure, _ = visualize_video_attr(attr, np.zeros((2, 8, 8)), style=style)
    pixels(figure)
