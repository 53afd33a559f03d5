"""One map over its image: what is drawn where, under which colour scale."""

import inspect
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import visualization as captum_visualization
from figures import HEAT, IMAGE, SIGNED, pixels, values
from matplotlib import colormaps

from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.visualization import (
    Overlays,
    Style,
    render_image_attr,
    visualize_image_attr,
)


def test_a_map_of_any_size_covers_its_image():
    _, ax = visualize_image_attr(HEAT, IMAGE)
    grey, heat = ax.images
    assert list(grey.get_extent()) == list(heat.get_extent()) == [-0.5, 59.5, 39.5, -0.5]
    np.testing.assert_array_equal(values(heat), HEAT[0, 0])
    assert heat.get_clim() == (0, 2)
    np.testing.assert_allclose(values(grey), 1)


def test_the_hot_spot_is_drawn_at_its_position():
    figure, ax = visualize_image_attr(HEAT, IMAGE)
    ax.set_position([0, 0, 1, 1])
    figure.set_layout_engine("none")
    drawn = pixels(figure)
    height, width = drawn.shape[:2]
    coloured = np.abs(drawn - 255).sum(axis=2) > 60
    rows, columns = np.nonzero(coloured)
    assert rows.mean() / height == pytest.approx(1.5 / 4, abs=0.03)
    assert columns.mean() / width == pytest.approx(4.5 / 6, abs=0.03)


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("blended_heat_map", 2),
        ("heat_map", 1),
        ("masked_image", 2),
        ("alpha_scaling", 2),
        ("original_image", 1),
    ],
)
def test_methods(method, count):
    image = np.full((40, 60, 3), 128, np.uint8)
    figure, ax = visualize_image_attr(HEAT, image, method)
    assert len(ax.images) == count
    drawn = pixels(figure)[40:-40, 40:-40]
    # Far from the hot spot: the grey image, the scale's black, a black cover, a white one.
    corner = {"heat_map": 0, "masked_image": 0, "alpha_scaling": 255}.get(method, 128)
    assert np.abs(drawn[-1, 0] - corner).max() <= 4
    assert (np.abs(drawn - corner).max() > 40) == (method != "original_image")
    if method in ("masked_image", "alpha_scaling"):
        assert ax.images[1].get_alpha()[1, 4] == 0  # the image is bare where the map is highest


def test_opacity_follows_the_map_up_to_alpha_overlay():
    _, ax = visualize_image_attr(HEAT, IMAGE, alpha_overlay=0.6)
    opacity = ax.images[1].get_alpha()
    assert opacity.max() == pytest.approx(0.6)
    assert (opacity[HEAT[0, 0] == 0] == 0).all()
    _, ax = visualize_image_attr(HEAT / 4, IMAGE, alpha_overlay=0.6, vmax=2.0)
    assert ax.images[1].get_alpha().max() == pytest.approx(0.6 * 0.5)  # the root of a quarter


def test_the_figure_and_axis_given_are_drawn_on():
    figure, axes = plt.subplots(1, 2)
    result = visualize_image_attr(HEAT, IMAGE, plt_fig_axis=(figure, axes[1]), title="second")
    assert result == (figure, axes[1])
    assert [len(ax.images) for ax in axes] == [0, 2]
    assert axes[1].get_title() == "second"
    plt.close(figure)


def test_a_colour_bar_has_the_scale_of_the_map():
    figure, _ = visualize_image_attr(HEAT, IMAGE, show_colorbar=True)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "attribution"
    assert bar.get_ylim() == (0, 2)


def test_a_zero_map_is_drawn_without_a_warning():
    figure, ax = visualize_image_attr(HEAT * 0, IMAGE, show_colorbar=True)
    assert ax.images[1].get_clim() == (0, 1)
    pixels(figure)


# -------------------------------------------------------------------------------- as in Captum


def test_a_map_of_three_columns_has_no_channels():
    _, ax = visualize_image_attr(torch.arange(6.0).reshape(1, 2, 3), method="heat_map")
    assert values(ax.images[0]).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_arguments_are_those_of_captum_in_their_order():
    captum = list(inspect.signature(captum_visualization.visualize_image_attr).parameters)
    assert list(inspect.signature(visualize_image_attr).parameters)[: len(captum)] == captum


def test_a_call_of_captum_works_unchanged():
    call = (SIGNED[0].numpy()[..., None].repeat(3, 2), np.ones((2, 3, 3)))
    figure, axes = plt.subplots(1, 2)
    settings = ("heat_map", "all", (figure, axes[0]), 2, None, 0.5, True, "title", (6, 6), False)
    captum_visualization.visualize_image_attr(*call, *settings)
    settings = (*settings[:2], (figure, axes[1]), *settings[3:])
    visualize_image_attr(*call, *settings)
    assert axes[0].get_title() == axes[1].get_title() == "title"
    theirs, ours = (ax.images[0] for ax in axes)
    scale = ours.get_clim()[1]
    np.testing.assert_allclose(values(theirs), np.clip(values(ours) / scale, -1, 1), rtol=1e-6)
    plt.close(figure)


@pytest.mark.parametrize("outlier_perc", [0.5, 2, 30, 60])
@pytest.mark.parametrize("sign", ["positive", "negative", "absolute_value", "all"])
def test_outliers_are_those_of_captum(sign, outlier_perc):
    attr = torch.randn(20, 30, generator=torch.Generator().manual_seed(4)) ** 3
    _, ax = visualize_image_attr(attr, method="heat_map", sign=sign, outlier_perc=outlier_perc)
    (heat,) = ax.images
    drawn = np.clip(values(heat) / heat.get_clim()[1], -1, 1)
    theirs = captum_visualization._normalize_attr(attr.numpy(), sign, outlier_perc)
    np.testing.assert_allclose(drawn, theirs, rtol=1e-5)


def test_outliers_of_a_zero_map_and_invalid_percentages():
    _, ax = visualize_image_attr(HEAT * 0, IMAGE, outlier_perc=2)
    assert ax.images[1].get_clim() == (0, 1)
    _, ax = visualize_image_attr(HEAT, IMAGE, outlier_perc=2, vmax=3.0)
    assert ax.images[1].get_clim() == (0, 3)
    with pytest.raises(ValueError, match="outlier_perc=101: expected a percentage"):
        visualize_image_attr(HEAT, IMAGE, outlier_perc=101)


# -------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("sign", ["positive", "negative", "absolute_value", "all"])
@pytest.mark.parametrize(
    "method", ["blended_heat_map", "heat_map", "masked_image", "alpha_scaling"]
)
@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("base", ["grey", "color"])
def test_rendered_pixels_are_the_blend_of_image_and_colours(sign, method, floats, base):
    if sign == "all" and method in ("masked_image", "alpha_scaling"):
        return  # refused by Style
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    heat = rng.uniform(-1, 2, (4, 6)).astype(np.float32)
    style = Style(method, sign, vmax=1.5, base=base)
    rendered = render_image_attr(heat, frame / np.float32(255) if floats else frame, style)
    assert rendered.dtype == np.uint8
    for y in range(4):
        for x in range(6):
            selected = {"negative": -min(heat[y, x], 0), "positive": max(heat[y, x], 0)}
            value = selected.get(sign, heat[y, x] if sign == "all" else abs(heat[y, x]))
            share = np.clip(value / 1.5, -1, 1)
            errors = [
                np.abs(rendered[y, x] - 255 * _blended(rgb, near, method, sign, base)).max()
                for rgb in [frame[y, x] / 255]
                for near in (share - 1 / 512, share, share + 1 / 512)
            ]
            assert min(errors) <= 1.5  # a colour map has 256 colours: one or its neighbour


def _blended(rgb, share, method, sign, base):
    if method == "masked_image":
        return rgb * min(abs(share), 1)
    if method == "alpha_scaling":
        return 1 - (1 - rgb) * min(abs(share), 1)
    colour = colormaps["RdBu_r"]((share + 1) / 2) if sign == "all" else colormaps["inferno"](share)
    if method == "heat_map":
        return np.array(colour[:3])
    below = rgb.mean() if base == "grey" else rgb
    return below + 0.8 * math.sqrt(min(abs(share), 1)) * (np.array(colour[:3]) - below)


def test_rendered_pixels_have_the_size_of_the_image_and_the_style():
    style = Style("masked_image", "positive", vmax=4.0)
    rendered = render_image_attr(HEAT, IMAGE, style)
    assert rendered.shape == (40, 60, 3)
    row, column = np.unravel_index(rendered[..., 0].argmax(), (40, 60))
    assert (10 <= row < 20, 40 <= column < 50) == (True, True)
    assert 100 < rendered.max() <= 128  # half of vmax
    assert (render_image_attr(HEAT, IMAGE, Style("original_image")) == 255).all()


def test_a_grey_image_has_no_other_base():
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    pixels = [render_image_attr(HEAT, grey, Style(base=base)) for base in ("grey", "color")]
    np.testing.assert_array_equal(*pixels)


@pytest.mark.parametrize("image", [IMAGE // 2, IMAGE[..., 0] // 2])
def test_raw_pixels_are_to_the_left(image):
    both = render_image_attr(HEAT, image, Style(raw=True))
    assert both.shape == (40, 120, 3)
    assert (both[:, :60] == 127).all()
    np.testing.assert_array_equal(both[:, 60:], render_image_attr(HEAT, image))


# ----------------------------------------------------------------------- the image below and beside


def test_the_base_of_a_blended_map_is_grey_or_in_colour():
    image = np.random.default_rng(0).random((4, 6, 3))
    below = values(visualize_image_attr(HEAT, image)[1].images[0])
    np.testing.assert_allclose(below, image.mean(axis=-1), rtol=1e-6)
    _, ax = visualize_image_attr(HEAT, image, base="color")
    np.testing.assert_allclose(values(ax.images[0]), image, rtol=1e-6)
    np.testing.assert_array_equal(values(ax.images[1]), HEAT[0, 0])


def test_the_raw_image_is_to_the_left_of_its_map():
    image = np.random.default_rng(0).random((4, 6, 3))
    figure, ax = visualize_image_attr(HEAT, image, raw=True, show_colorbar=True, title="lion")
    raw, own, _ = figure.axes
    assert own is ax
    assert [len(each.images) for each in (raw, own)] == [1, 2]
    np.testing.assert_allclose(values(raw.images[0]), image, rtol=1e-6)
    pixels(figure)
    assert raw.get_window_extent().x1 <= own.get_window_extent().x0
    assert own.get_title() == "lion"
    with pytest.raises(ValueError, match="raw=True needs the image, video or volume that was expl"):
        visualize_image_attr(HEAT, method="heat_map", raw=True)


@pytest.mark.parametrize(
    ("heat", "sign", "note"),
    [
        (HEAT * 0, None, ["the map is zero"]),
        (-HEAT, "positive", ["no positive values"]),
        (HEAT, "negative", ["no negative values"]),
        (HEAT * 1e-30, None, []),
        (-HEAT, None, []),
    ],
)
def test_a_map_of_which_nothing_is_drawn_says_why(heat, sign, note):
    figure, ax = visualize_image_attr(heat, IMAGE, sign=sign, show_colorbar=True)
    assert [text.get_text() for text in ax.texts] == note
    assert len(figure.axes) == (1 if note else 2)  # a colour bar would show a scale of nothing


@pytest.mark.parametrize("method", ["masked_image", "alpha_scaling", "original_image"])
def test_what_draws_no_colours_has_no_colour_bar(method):
    figure, ax = visualize_image_attr(HEAT, IMAGE, method, show_colorbar=True)
    assert figure.axes == [ax]


# ------------------------------------------------------------------------------------ overlays


def test_boxes_are_scaled_from_the_map_to_the_image():
    # The map's pixel (1, 4) of 4 x 6 covers rows 10 to 19 and columns 40 to 49 of 40 x 60.
    boxes = Boxes(torch.tensor([[4.0, 1.0, 5.0, 2.0]]), torch.tensor([0.876]))
    _, ax = visualize_image_attr(HEAT, IMAGE, overlays=Overlays(boxes))
    corners = [patch.get_bbox().extents.tolist() for patch in ax.patches]
    assert corners == [[39.5, 9.5, 49.5, 19.5]]
    assert [text.get_text().strip() for text in ax.texts] == ["0.88"]
    _, ax = visualize_image_attr(HEAT, IMAGE, overlays=Overlays(boxes, box_size=(40, 60)))
    assert [patch.get_bbox().extents.tolist() for patch in ax.patches] == [[3.5, 0.5, 4.5, 1.5]]


@pytest.mark.parametrize(
    "overlays",
    [
        Overlays(tubes=[Tube(0, torch.zeros(2, 4), 1.0)]),
        Overlays(segments=[Segment(0, 1, 1.0)]),
    ],
)
def test_tubes_and_segments_over_an_image_raise(overlays):
    with pytest.raises(ValueError, match="An image has no frames"):
        visualize_image_attr(HEAT, IMAGE, overlays=overlays)


# ---------------------------------------------------------------------------------- validation


def test_only_a_heat_map_needs_no_image():
    _, ax = visualize_image_attr(HEAT, method="heat_map")
    assert list(ax.images[0].get_extent()) == [-0.5, 5.5, 3.5, -0.5]
    with pytest.raises(ValueError, match="pass it after attr, or choose method='heat_map'"):
        visualize_image_attr(HEAT)


@pytest.mark.parametrize(
    ("attr", "image", "message"),
    [
        (torch.zeros(2, 1, 4, 4), IMAGE, r"one map \(H, W\), .* got shape \(2, 1, 4, 4\)"),
        (torch.zeros(4), IMAGE, "Choose one sample"),
        (torch.zeros(1, 3, 4, 4), IMAGE, r"sum channels: attr.sum\(1\)"),
        (torch.zeros(0, 4), IMAGE, r"got shape \(0, 4\)"),
        (torch.full((4, 4), 1e39, dtype=torch.float64), IMAGE, "attr holds NaN or Inf"),
        (HEAT / 0 * 0, IMAGE, "attr holds NaN or Inf"),
        (HEAT, IMAGE.transpose(2, 0, 1), r"channels-last, .* got shape \(3, 40, 60\)"),
        (HEAT, IMAGE.astype(float), r"bytes, or floats in \[0, 1\]; got float64 from 255 to 255"),
        (HEAT, -np.ones((4, 4)), "Undo the model's preprocessing"),
        (HEAT, np.zeros((0, 4, 3)), "The image is empty"),
        (HEAT, np.zeros((40, 60, 4)), "must be channels-last"),
    ],
)
def test_invalid_maps_and_images_raise(attr, image, message):
    with pytest.raises(ValueError, match=message):
        visualize_image_attr(attr, image)


@pytest.mark.parametrize(
    ("attr", "image", "message"),
    [
        (
            torch.zeros(4, 4, dtype=torch.complex64),
            IMAGE,
            "Expected real attr; got torch.complex64",
        ),
        (HEAT.to_sparse(), IMAGE, r"dense tensor; got torch.sparse_coo. Use .to_dense\(\)"),
        ([[1.0], [1.0, 2.0]], IMAGE, "attr must hold real numbers, as a tensor or array; got list"),
        (None, IMAGE, "attr must hold real numbers, .*; got NoneType"),
        (HEAT, IMAGE.astype(str), "the image must hold real numbers, .*; got <U3"),
    ],
)
def test_what_holds_no_real_numbers_raises(attr, image, message):
    with pytest.raises(TypeError, match=message):
        visualize_image_attr(attr, image)


def test_invalid_settings_raise():
    with pytest.raises(ValueError, match="method='heatmap' is not known. Choose one of 'blend"):
        visualize_image_attr(HEAT, IMAGE, method="heatmap")


def test_rounding_outside_the_unit_interval_and_half_precision():
    _, ax = visualize_image_attr(HEAT.bfloat16(), torch.full((1, 4, 6, 3), 1.0005))
    assert values(ax.images[0]).max() == 1
    visualize_image_attr(HEAT, torch.ones(1, 4, 6, 3).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_maps_of_any_precision_with_gradients(dtype):
    attr = HEAT.to(dtype)
    if dtype.is_floating_point:
        attr.requires_grad_()
    _, ax = visualize_image_attr(attr, IMAGE)
    np.testing.assert_array_equal(values(ax.images[1]), HEAT[0, 0])


def test_a_batch_of_one_grey_image():
    _, ax = visualize_image_attr(HEAT, torch.full((1, 1, 40, 60), 0.5))
    assert values(ax.images[0]).shape == (40, 60)
