"""One map over its video: frames, labels, and the profile below."""

import numpy as np
import pytest
import torch
from figures import CLIP, MOVING, grid_positions, pixels, values
from matplotlib.figure import Figure

from captum_3dcam import FrameTimes
from captum_3dcam.functional import temporal_profile
from captum_3dcam.localization import Tube
from captum_3dcam.visualization import Overlays, Style, visualize_video_attr


def test_frames_share_one_scale_and_have_the_profile_below():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], fps=2, start=10)
    *frames, profile = axes
    assert [ax.get_title() for ax in frames] == ["5.00 s", "6.00 s", "7.00 s"]
    for ax, frame in zip(frames, (0, 2, 4), strict=True):
        assert ax.images[1].get_clim() == (0, 5)
        np.testing.assert_array_equal(values(ax.images[1]), MOVING[0, 0, frame])
    line, dots = profile.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [5.25, 5.75, 6.25, 6.75, 7.25])
    np.testing.assert_allclose(line.get_ydata(), temporal_profile(MOVING)[0])
    np.testing.assert_allclose(dots.get_xdata(), [5.25, 6.25, 7.25])
    assert profile.get_xlabel() == "time (s)"
    assert profile.get_ylabel() == "mean attribution"
    pixels(figure)


def test_without_fps_labels_are_frame_numbers():
    _, axes = visualize_video_attr(MOVING, CLIP, frames=3, title="moving")
    assert [ax.get_title() for ax in axes[:-1]] == ["0", "2", "4"]
    assert axes[-1].get_xlabel() == "frame"
    assert axes[0].figure.get_suptitle() == "moving"


def test_columns_make_a_grid_with_the_profile_below():
    figure, axes = visualize_video_attr(MOVING, CLIP, frames=5, style=Style(columns=2))
    assert grid_positions(axes) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)]
    assert list(axes[-1].get_subplotspec().colspan) == [0, 1]
    pixels(figure)


def test_no_more_than_four_frames_are_in_a_row():
    attr, clip = torch.rand(12, 4, 6), torch.rand(12, 8, 8, 3)
    for frames, columns in ((3, 3), (4, 4), (5, 3), (8, 4), (9, 3)):
        _, axes = visualize_video_attr(attr, clip, frames=frames)
        expected = [(i // columns, i % columns) for i in range(frames)]
        assert grid_positions(axes[:-1]) == expected
    _, axes = visualize_video_attr(attr, clip, frames=12, style=Style(columns=12))
    assert {row for row, _ in grid_positions(axes[:-1])} == {0}


def test_raw_frames_are_above_their_maps():
    clip = torch.rand(5, 8, 8, 3)
    style = Style(raw=True, columns=2)
    figure, axes = visualize_video_attr(MOVING, clip, frames=[0, 2, 4], style=style)
    assert grid_positions(axes) == [(0, 0), (0, 1), (2, 0), (1, 0), (1, 1), (3, 0), (4, 0)]
    for raw, own, frame in zip(axes[:3], axes[3:6], (0, 2, 4), strict=True):
        (image,) = raw.images
        np.testing.assert_allclose(values(image), clip[frame], rtol=1e-6)
        np.testing.assert_array_equal(values(own.images[1]), MOVING[0, 0, frame])
    assert [ax.get_title() for ax in axes] == ["0", "2", "4", "", "", "", ""]
    pixels(figure)


def test_a_zero_map_says_so_on_its_frames():
    figure, axes = visualize_video_attr(MOVING * 0, CLIP, frames=2)
    assert [[text.get_text() for text in ax.texts] for ax in axes[:2]] == [["the map is zero"]] * 2
    assert figure.axes == axes  # without a colour bar
    _, axes = visualize_video_attr(MOVING, CLIP, frames=2, style=Style(raw=True))
    assert not any(ax.texts for ax in axes)


def test_the_figure_and_axes_given_are_drawn_on():
    figure = Figure()
    given = list(figure.subplots(1, 3))
    style = Style(plt_fig_axis=(figure, given))
    own, axes = visualize_video_attr(MOVING, CLIP, frames=2, style=style)
    assert (own, axes) == (figure, given)
    assert [len(ax.images) for ax in given] == [2, 2, 0]
    with pytest.raises(ValueError, match="needs 6 axes; plt_fig_axis has 3"):
        visualize_video_attr(MOVING, CLIP, style=style)


def test_grey_videos_and_tensors():
    grey = torch.rand(5, 8, 8)
    for video in (grey, grey[..., None], grey.numpy()):
        _, axes = visualize_video_attr(MOVING[0], video, frames=1)
        np.testing.assert_allclose(values(axes[0].images[0]), grey[0])


def test_only_a_heat_map_needs_no_video():
    _, axes = visualize_video_attr(MOVING, frames=2, style=Style("heat_map"))
    assert [len(ax.images) for ax in axes] == [1, 1, 0]
    with pytest.raises(ValueError, match="pass it after attr, or choose method='heat_map'"):
        visualize_video_attr(MOVING)


@pytest.mark.parametrize(
    ("attr", "video", "message"),
    [
        (MOVING, CLIP[:4], "The map has 5 frames and the video 4"),
        (torch.zeros(2, 1, 5, 4, 4), CLIP, r"one map \(T, H, W\)"),
        (MOVING, torch.zeros(5, 3, 8, 8), r"tensor.movedim\(1, -1\)"),
    ],
)
def test_invalid_maps_and_videos_raise(attr, video, message):
    with pytest.raises(ValueError, match=message):
        visualize_video_attr(attr, video)


@pytest.mark.parametrize("frames", [0, [], [5], [-1]])
def test_frames_outside_the_clip_raise(frames):
    with pytest.raises(ValueError, match="must be a positive number, or frames from 0 to 4"):
        visualize_video_attr(MOVING, CLIP, frames=frames)


def test_an_fps_that_is_not_positive_raises():
    with pytest.raises(ValueError, match="fps=0: expected a finite number above 0"):
        visualize_video_attr(MOVING, CLIP, fps=0)


def test_frames_are_labelled_by_their_own_times():
    times = FrameTimes([0.0, 0.1, 0.5, 0.6, 3.0, 3.1])
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], fps=times)
    assert [ax.get_title() for ax in axes[:-1]] == ["0.00 s", "0.50 s", "3.00 s"]
    _, dots = axes[-1].get_lines()
    np.testing.assert_allclose(dots.get_xdata(), [0.05, 0.55, 3.05])
    with pytest.raises(ValueError, match="fps holds the times of 4 frames"):
        visualize_video_attr(MOVING, CLIP, fps=times.take(range(4)))


def test_the_legend_names_the_tubes_in_the_frames_shown():
    box = torch.tensor([[0.0, 0, 2, 2]])
    tubes = {
        "shown": Tube(2, box, 1.0),
        "between": Tube(1, box, 1.0),
        "long": Tube(3, box.repeat(2, 1), 1.0),
    }
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], overlays=Overlays(tubes=tubes))
    legend = axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["shown", "long"]
    drawn = [ax.patches[0].get_linestyle() for ax in axes[1:3]]
    assert [line.get_linestyle() for line in legend.get_lines()] == drawn
    hidden = Overlays(tubes={"between": tubes["between"]})
    _, axes = visualize_video_attr(MOVING, CLIP, frames=[0, 2, 4], overlays=hidden)
    assert axes[-1].get_legend() is None
