"""What is drawn, where, and under which colour scale; nothing shown by surprise."""

import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from captum_3dcam.cam import temporal_profile
from captum_3dcam.visualization import (
    animate_video_attr,
    visualize_image_attr,
    visualize_video_attr,
)

HEAT = torch.zeros(1, 1, 4, 6)
HEAT[..., 1, 4] = 2.0
IMAGE = np.full((40, 60, 3), 255, np.uint8)
CLIP = np.full((5, 40, 60, 3), 255, np.uint8)
MOVING = torch.zeros(1, 1, 5, 4, 6)
for t in range(5):
    MOVING[0, 0, t, 1, t] = t + 1.0


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


@pytest.fixture(autouse=True)
def nothing_shown():
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's registry"


def test_a_map_covers_its_image_whatever_its_size():
    _, ax = visualize_image_attr(HEAT, IMAGE)
    grey, heat = ax.images
    assert list(grey.get_extent()) == list(heat.get_extent()) == [-0.5, 59.5, 39.5, -0.5]
    np.testing.assert_array_equal(heat.get_array(), HEAT[0, 0])
    assert heat.get_clim() == (0, 2)
    np.testing.assert_allclose(grey.get_array(), 1)


def test_the_hot_spot_is_drawn_where_the_map_has_it():
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
    [("blended_heat_map", 2), ("heat_map", 1), ("alpha_scaling", 2), ("original_image", 1)],
)
def test_methods(method, count):
    figure, ax = visualize_image_attr(HEAT, IMAGE, method=method)
    assert len(ax.images) == count
    drawn = pixels(figure)
    assert drawn.min() < 255 or method == "original_image"


def test_opacity_follows_the_map_up_to_alpha_overlay():
    _, ax = visualize_image_attr(HEAT, IMAGE, alpha_overlay=0.6)
    opacity = ax.images[1].get_alpha()
    assert opacity.max() == pytest.approx(0.6)
    assert (opacity[HEAT[0, 0] == 0] == 0).all()
    _, ax = visualize_image_attr(HEAT / 4, IMAGE, alpha_overlay=0.6, vmax=2.0)
    assert ax.images[1].get_alpha().max() == pytest.approx(0.6 * 0.5)  # the root of a quarter


def test_drawing_on_an_axis_that_one_has():
    figure, axes = plt.subplots(1, 2)
    found = visualize_image_attr(HEAT, IMAGE, plt_fig_axis=(figure, axes[1]), title="second")
    assert found == (figure, axes[1])
    assert [len(ax.images) for ax in axes] == [0, 2]
    assert axes[1].get_title() == "second"
    plt.close(figure)


def test_a_colour_bar_has_the_maps_scale():
    figure, _ = visualize_image_attr(HEAT, IMAGE, show_colorbar=True)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "attribution"
    assert bar.get_ylim() == (0, 2)


def test_a_zero_map_is_drawn_without_a_warning():
    figure, ax = visualize_image_attr(HEAT * 0, IMAGE, show_colorbar=True)
    assert ax.images[1].get_clim() == (0, 1)
    pixels(figure)


def test_a_strip_has_one_scale_for_all_frames_and_the_profile_below():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], fps=2, start=10)
    *strip, profile = axes
    assert [ax.get_title() for ax in strip] == ["5.00 s", "6.00 s", "7.00 s"]
    for ax, frame in zip(strip, (0, 2, 4), strict=True):
        assert ax.images[1].get_clim() == (0, 5)
        np.testing.assert_array_equal(ax.images[1].get_array(), MOVING[0, 0, frame])
    line, dots = profile.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [5, 5.5, 6, 6.5, 7])
    np.testing.assert_allclose(line.get_ydata(), temporal_profile(MOVING)[0])
    np.testing.assert_allclose(dots.get_xdata(), [5, 6, 7])
    assert profile.get_xlabel() == "time (s)"
    assert profile.get_ylabel() == "mean attribution"
    pixels(figure)


def test_a_strip_without_a_rate_counts_frames():
    _, axes = visualize_video_attr(MOVING, CLIP, frames=3, title="moving")
    assert [ax.get_title() for ax in axes[:-1]] == ["0", "2", "4"]
    assert axes[-1].get_xlabel() == "frame"
    assert axes[0].figure.get_suptitle() == "moving"


def test_an_animation_has_every_frame(tmp_path):
    path = tmp_path / "map.gif"
    animate_video_attr(MOVING, CLIP, fps=5, fig_size=(3, 3)).save(path, writer="pillow", dpi=40)
    with Image.open(path) as gif:
        frames = []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            assert gif.info["duration"] == 200
    assert len(frames) == 5
    for before, after in pairwise(frames):
        assert np.abs(after - before)[2 * len(after) // 3 :].max() > 100  # the cursor has moved
    # Purple at the bottom of the scale, yellow at its top, where the spot is in the last frame.
    pictures = [frame[: len(frame) // 2, : int(0.7 * frame.shape[1])] for frame in frames]
    yellow = [(picture[..., 0] - picture[..., 2]).max() for picture in pictures]
    assert yellow[0] < 30
    assert yellow[-1] > 60


def test_grey_videos_and_tensors():
    grey = torch.rand(5, 8, 8)
    for video in (grey, grey[..., None], grey.numpy()):
        _, axes = visualize_video_attr(MOVING[0], video, frames=1)
        np.testing.assert_allclose(axes[0].images[0].get_array(), grey[0])


@pytest.mark.parametrize(
    ("attr", "image", "message"),
    [
        (torch.zeros(2, 1, 4, 4), IMAGE, r"one map \(H, W\), .* got shape \(2, 1, 4, 4\)"),
        (torch.zeros(4), IMAGE, "Choose one sample"),
        (HEAT, IMAGE.transpose(2, 0, 1), r"channels-last, .* got shape \(3, 40, 60\)"),
        (HEAT, IMAGE.astype(float), r"bytes, or floats in \[0, 1\]; got float64 from 255 to 255"),
        (HEAT, -np.ones((4, 4)), "Undo the model's preprocessing"),
    ],
)
def test_pictures_that_do_not_fit_are_named(attr, image, message):
    with pytest.raises(ValueError, match=message):
        visualize_image_attr(attr, image)


def test_clips_of_another_length_are_named():
    with pytest.raises(ValueError, match="The map has 5 frames and the video 4"):
        visualize_video_attr(MOVING, CLIP[:4])
    with pytest.raises(ValueError, match=r"one map \(T, H, W\)"):
        animate_video_attr(torch.zeros(2, 1, 5, 4, 4), CLIP)


def test_channels_that_are_not_last_are_pointed_at():
    with pytest.raises(ValueError, match=r"tensor.movedim\(1, -1\)"):
        visualize_video_attr(MOVING, torch.zeros(5, 3, 8, 8))


@pytest.mark.parametrize("frames", [0, [], [5], [-1]])
def test_frames_that_are_not_there_are_named(frames):
    with pytest.raises(ValueError, match="must be a positive number, or frames from 0 to 4"):
        visualize_video_attr(MOVING, CLIP, frames=frames)


def test_a_rate_that_is_none_and_a_broken_map_are_named():
    with pytest.raises(ValueError, match="fps must be positive; got 0"):
        visualize_video_attr(MOVING, CLIP, fps=0)
    with pytest.raises(ValueError, match="attr holds NaN or Inf"):
        visualize_image_attr(HEAT / 0 * 0, IMAGE)


def test_rounding_outside_the_unit_interval_and_half_precision_are_drawn():
    _, ax = visualize_image_attr(HEAT.bfloat16(), torch.full((1, 4, 6, 3), 1.0005))
    assert ax.images[0].get_array().max() == 1
    visualize_image_attr(HEAT, torch.ones(1, 4, 6, 3).bfloat16())


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="method='masked_image' is not known. Choose one of blen"):
        visualize_image_attr(HEAT, IMAGE, method="masked_image")
