"""The times of frames: from edges, at frames, of some of the frames."""

import numpy as np
import pytest

from captum_3dcam import FrameTimes
from captum_3dcam.frame_times import check_rate, frame_time

VARIABLE = FrameTimes([0.5, 0.6, 1.0, 1.1, 3.1])


def test_the_time_of_a_frame_is_its_edge():
    assert [VARIABLE.at(t) for t in range(5)] == [0.5, 0.6, 1.0, 1.1, 3.1]
    np.testing.assert_array_equal(VARIABLE.at(np.arange(5)), VARIABLE.edges)
    assert len(VARIABLE) == 4
    assert VARIABLE.fps == pytest.approx(4 / 2.6)


def test_between_and_beyond_frames_times_are_linear():
    assert VARIABLE.at(1.5) == pytest.approx(0.8)
    assert VARIABLE.at([3.25, 3.75]).tolist() == pytest.approx([1.6, 2.6])
    assert VARIABLE.at(-2) == pytest.approx(0.3)
    assert VARIABLE.at(5.5) == pytest.approx(6.1)


def test_edges_are_kept_exactly():
    edges = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 400))
    times = FrameTimes(edges)
    assert (times.at(np.arange(400)) == edges).all()


@pytest.mark.parametrize(
    ("frames", "edges"),
    [
        ([0, 1, 2, 3], [0.5, 0.6, 1.0, 1.1, 3.1]),
        ([1, 2], [0.6, 1.0, 1.1]),
        ([0, 2], [0.5, 1.0, 3.1]),
        (range(0, 4, 3), [0.5, 1.1, 3.1]),
        ([2], [1.0, 1.1]),
    ],
)
def test_some_of_the_frames_last_until_the_next_one(frames, edges):
    assert VARIABLE.take(frames).edges.tolist() == edges


def test_a_mask_selects_frames():
    assert VARIABLE.take(np.array([True, False, True, False])) == VARIABLE.take([0, 2])


def test_a_constant_rate():
    times = FrameTimes.from_rate(30, 29.97)
    np.testing.assert_allclose(times.edges, np.arange(31) / 29.97)
    assert times.fps == pytest.approx(29.97)
    assert frame_time(times, 12) == pytest.approx(frame_time(29.97, 12))


def test_equal_times_are_equal():
    same = FrameTimes([0.5, 0.6, 1.0, 1.1, 3.1])
    assert same == VARIABLE
    assert hash(same) == hash(VARIABLE)
    assert FrameTimes([0, 1]) != VARIABLE
    assert VARIABLE != 25
    assert repr(VARIABLE) == "FrameTimes(4 frames, 0.5 to 3.1 s)"
    with pytest.raises(ValueError, match="read-only"):
        VARIABLE.edges[0] = 0


INVALID = [[], [0.0], [0.0, 0.0], [1.0, 0.5], [0.0, np.nan], [0.0, np.inf], [[0.0, 1.0]], 3.0]


@pytest.mark.parametrize("edges", INVALID)
def test_edges_must_ascend(edges):
    with pytest.raises(ValueError, match="expected T \\+ 1 finite, strictly ascending times"):
        FrameTimes(edges)


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match="edges='soon': expected numbers, in seconds"):
        FrameTimes("soon")
    with pytest.raises(ValueError, match="fps=0: expected a finite number above 0"):
        FrameTimes.from_rate(3, 0)
    with pytest.raises(ValueError, match=r"frames=\[4\]: expected frames from 0 to 3"):
        VARIABLE.take([4])
    with pytest.raises(ValueError, match="frame=nan: expected finite numbers of frames"):
        VARIABLE.at(np.nan)
    with pytest.raises(ValueError, match="expected a mask of 4 bools"):
        VARIABLE.take([True, False])
    with pytest.raises(ValueError, match="times of 4 frames, and there are 5. Pass those of the"):
        check_rate(VARIABLE, 5)
