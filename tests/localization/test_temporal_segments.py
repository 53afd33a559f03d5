"""Segments against loops, scikit-image and worked numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from localization_reference import by_score, clip_of_rectangles
from skimage import filters

from captum_3dcam import FrameTimes
from captum_3dcam import localization as loc
from captum_3dcam.functional import temporal_profile


def naive_segments(profile, high, low, min_length, max_gap):
    """From the definition: every interval that is a longest run, then join, then drop."""
    peak, frames = max(profile), len(profile)
    above = [x > max(low * peak, 0) for x in profile]
    runs = [
        [start, end]
        for start in range(frames)
        for end in range(start + 1, frames + 1)
        if all(above[start:end])
        and (start == 0 or not above[start - 1])
        and (end == frames or not above[end])
        and any(x > max(high * peak, 0) for x in profile[start:end])
    ]
    position = 0
    while position + 1 < len(runs):
        if runs[position + 1][0] - runs[position][1] <= max_gap:
            runs[position : position + 2] = [[runs[position][0], runs[position + 1][1]]]
        else:
            position += 1
    return by_score(
        [((s, e), max(profile[s:e])) for s, e in runs if e - s >= min_length],
    )


@settings(max_examples=150)
@given(
    st.lists(st.integers(-2, 8), min_size=1, max_size=24),
    st.sampled_from([(0.5, 0.25), (0.75, 0.0), (0.0, 0.0), (0.625, 0.625), (0.9, 0.3)]),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_segments_equal_loops(profile, levels, min_length, max_gap):
    # Integers and binary fractions: values at a threshold are exactly at it in both.
    high, low = levels
    profiles = torch.tensor([profile, profile[::-1]], dtype=torch.float64)
    result = loc.segments(profiles, high, low, min_length, max_gap)
    for values, segments in zip(profiles.tolist(), result, strict=True):
        expected = naive_segments(values, high, low, min_length, max_gap)
        assert [((s.start, s.end), s.score) for s in segments] == expected


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_hysteresis_equals_scikit_image(profile):
    profile = torch.tensor([profile], dtype=torch.float64)
    covered = torch.zeros(profile.shape[1], dtype=torch.bool)
    for segment in loc.segments(profile, high=0.7, low=0.4)[0]:
        covered[segment.start : segment.end] = True
    peak = profile.max().item()
    expected = filters.apply_hysteresis_threshold(profile[0].numpy(), 0.4 * peak, 0.7 * peak)
    assert covered.tolist() == expected.tolist()


def spans(profile, **options):
    (result,) = loc.segments(torch.tensor([profile]), **options)
    return sorted((s.start, s.end) for s in result)


def test_segments_by_hand():
    profile = [0.0, 3.0, 8.0, 4.0, 0.0, 3.0, 0.0, 6.0]
    assert spans(profile) == [(1, 4), (7, 8)]  # 3 at frame 5 is above 2, but never above 4
    assert spans(profile, low=0.5) == [(2, 3), (7, 8)]  # 4 is not strictly above 4
    assert spans(profile, high=0.3, low=0.3) == [(1, 4), (5, 6), (7, 8)]
    assert spans(profile, min_length=2) == [(1, 4)]
    assert spans(profile, max_gap=2) == [(1, 4), (7, 8)]
    assert spans(profile, max_gap=3) == [(1, 8)]
    # Gaps are closed before short segments are dropped.
    assert spans([8.0, 0.0, 8.0, 0.0, 0.0, 8.0], max_gap=1, min_length=3) == [(0, 3)]


def test_segments_are_ordered_by_score_then_by_time():
    (result,) = loc.segments(torch.tensor([[6.0, 0.0, 8.0, 0.0, 6.0]]), fps=2.0)
    assert result == [
        loc.Segment(2, 3, 8.0, 2.0),
        loc.Segment(0, 1, 6.0, 2.0),
        loc.Segment(4, 5, 6.0, 2.0),
    ]
    assert [s.seconds for s in result] == [(1.0, 1.5), (0.0, 0.5), (2.0, 2.5)]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_profile_without_positive_values_has_no_segment(value):
    profile = torch.tensor([[value] * 4, [value, value, 1.0, value]])
    result = loc.segments(profile, high=0, low=0)
    assert result == [[], [loc.Segment(2, 3, 1.0)]]


def test_each_profile_has_its_own_maximum():
    profile = torch.tensor([[0.0, 1.0, 0.0], [100.0, 0.0, 60.0]])
    assert [[(s.start, s.end) for s in result] for result in loc.segments(profile)] == [
        [(1, 2)],
        [(0, 1), (2, 3)],
    ]


def test_segments_of_the_temporal_profile_of_a_map():
    maps = clip_of_rectangles([[], [(0, 0, 4, 4, 1.0)], [(2, 0, 6, 4, 1.0)], [], []])
    (segment,) = loc.segments(temporal_profile(maps), fps=10)[0]
    assert (segment.start, segment.end, segment.seconds) == (1, 3, (0.1, 0.3))


def test_empty_segments_raise():
    with pytest.raises(ValueError, match=r"Expected a segment \[start, end\).*got \[3, 3\)"):
        loc.Segment(3, 3, 1.0)


@pytest.mark.parametrize(("high", "low"), [(0.3, 0.5), (1, 0.5), (0.5, -0.1), (float("nan"), 0)])
def test_hysteresis_levels_out_of_range_raise(high, low):
    with pytest.raises(ValueError, match=f"high={high}, low={low}: .* 0 <= low <= high < 1"):
        loc.segments(torch.ones(1, 4), high, low)


@pytest.mark.parametrize("profile", [torch.ones(4), torch.ones(1, 0), torch.ones(1, 1, 4)])
def test_profiles_are_validated(profile):
    with pytest.raises(ValueError, match=r"Expected a profile \(N, T\) .*temporal_profile\(maps\)"):
        loc.segments(profile)


def test_a_list_is_no_profile():
    with pytest.raises(TypeError, match="Expected profile as a tensor; got list"):
        loc.segments([1.0])


def test_seconds_are_those_of_the_frames():
    times = FrameTimes([0.0, 0.1, 0.5, 0.6, 3.0, 3.1])
    profile = torch.tensor([[0.0, 5.0, 5.0, 0.0, 8.0]])
    late, early = loc.segments(profile, fps=times)[0]
    assert (early.seconds, late.seconds) == ((0.1, 0.6), (3.0, 3.1))
    assert early == loc.Segment(1, 3, 5.0, times)
    with pytest.raises(ValueError, match="fps holds the times of 5 frames, and there are 4. Pass"):
        loc.segments(profile[:, :4], fps=times)
