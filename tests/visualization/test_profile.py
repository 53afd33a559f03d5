"""The temporal profile and its segments."""

import numpy as np
import pytest
import torch
from figures import MOVING, pixels

from captum_3dcam import FrameTimes
from captum_3dcam.localization import Segment
from captum_3dcam.visualization import Style, visualize_temporal_profile


def test_a_profile_is_the_mean_over_space_with_segments_from_their_first_to_their_last_frame():
    figure, ax = visualize_temporal_profile(
        MOVING, [Segment(1, 3, 0.5)], fps=2, start=10, title="run"
    )
    (line,) = ax.get_lines()
    means = [sum(v for row in frame for v in row) / 24 for frame in MOVING[0, 0].tolist()]
    np.testing.assert_allclose(line.get_ydata(), means)
    (span,) = ax.patches
    extent = span.get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose(extent.intervalx, [11 / 2, 13 / 2])
    assert ax.get_xlim() == (10 / 2, 15 / 2)
    assert ax.get_title() == "run"
    pixels(figure)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_a_signal_is_its_own_profile(shape):
    _, ax = visualize_temporal_profile(torch.arange(5.0).reshape(shape))
    assert ax.get_lines()[0].get_ydata().tolist() == [0, 1, 2, 3, 4]


def test_a_profile_with_negative_values_is_not_cut_and_has_a_line_at_zero():
    _, ax = visualize_temporal_profile(torch.tensor([-3.0, 1.0]))
    profile, zero = ax.get_lines()
    assert profile.get_ydata().tolist() == [-3, 1]
    assert set(zero.get_ydata()) == {0}
    assert ax.get_ylim()[0] < -3
    _, ax = visualize_temporal_profile(torch.tensor([-3.0, 1.0]), style=Style(sign="negative"))
    assert ax.get_lines()[0].get_ydata().tolist() == [3, 0]
    assert ax.get_ylabel() == "mean −attribution"


def test_segments_of_a_batch_or_another_clip_raise():
    with pytest.raises(TypeError, match="localization.segments"):
        visualize_temporal_profile(MOVING, [[Segment(1, 3, 0.5)]])
    with pytest.raises(ValueError, match="frames 5 to 6, and the clip has 5"):
        visualize_temporal_profile(MOVING, [Segment(5, 7, 0.5)])


def test_frames_at_their_own_times():
    edges = np.array([1.0, 1.1, 1.5, 1.6, 3.0, 3.1])
    _, ax = visualize_temporal_profile(MOVING, [Segment(1, 3, 0.5)], fps=FrameTimes(edges))
    (line,) = ax.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [1.05, 1.3, 1.55, 2.3, 3.05])
    (span,) = ax.patches
    extent = span.get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose(extent.intervalx, [1.1, 1.6])
    assert ax.get_xlim() == (1.0, 3.1)
    assert ax.get_xlabel() == "time (s)"


def test_a_clip_of_a_video_with_times():
    times = FrameTimes(np.arange(11) ** 2.0)
    _, ax = visualize_temporal_profile(MOVING, fps=times, start=5)
    assert ax.get_xlim() == (25.0, 100.0)
    for start in (-1, 6):
        with pytest.raises(ValueError, match="times of 10 frames; expected those of the clip's 5"):
            visualize_temporal_profile(MOVING, fps=times, start=start)


def test_the_profile_of_a_zero_map_says_so():
    _, ax = visualize_temporal_profile(MOVING * 0)
    assert [text.get_text() for text in ax.texts] == ["the map is zero"]
    _, ax = visualize_temporal_profile(MOVING)
    assert not ax.texts
