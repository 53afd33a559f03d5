"""Which frames are read, of files and of videos in memory, against naive selection."""

import numpy as np
import pytest

from captum_3dcam.io import FrameTimes, Sampling, Video, open_video, read_video

EDGES = [0.0, 0.1, 0.2, 0.3, 0.7, 0.8, 1.6, 1.7, 1.8, 1.9, 2.0]
FRAMES = np.repeat(np.arange(10, dtype=np.uint8), 4 * 6 * 3).reshape(10, 4, 6, 3)
VIDEO = Video(FRAMES, 5.0, FrameTimes(EDGES))


def numbers(video):
    return [int(frame[0, 0, 0]) for frame in video]


@pytest.mark.parametrize(
    ("sampling", "frames", "edges"),
    [
        (Sampling(), range(10), EDGES),
        (Sampling(stride=3), [0, 3, 6, 9], [0.0, 0.3, 1.6, 1.9, 2.0]),
        (Sampling(stride=4, frames=2), [0, 4], [0.0, 0.7, 1.8]),
        (Sampling(start=0.3), range(3, 10), EDGES[3:]),
        (Sampling(start=0.3000000001, end=0.8), [3, 4], [0.3, 0.7, 0.8]),
        (Sampling(start=0.15, end=1.65, stride=2), [2, 4, 6], [0.2, 0.7, 1.6, 1.7]),
        (Sampling(end=0.2), [0, 1], [0.0, 0.1, 0.2]),
        (Sampling(frames=10), range(10), EDGES),
        # At 0.5 and 1.5 s, the frames 3 and 5 are shown.
        (Sampling(frames=2), [3, 5], [0.3, 0.8, 1.7]),
        # At 0.2, 0.6, 1.0, 1.4 and 1.8 s: 2, 3, 5, 5, 8, and no frame twice.
        (Sampling(frames=5), [2, 3, 5, 6, 8], [0.2, 0.3, 0.8, 1.6, 1.8, 2.0]),
        (Sampling(frames=1, start=0.8), [5], [0.8, 1.6]),
    ],
)
def test_sampled_frames_keep_their_times(sampling, frames, edges):
    video = open_video(VIDEO, sampling=sampling)
    np.testing.assert_allclose(video.times.edges, edges)  # before an iteration
    assert numbers(video) == list(frames)
    assert [time for time, _ in video.timed()] == pytest.approx(edges[:-1])
    assert video.frame_count == len(frames)
    assert video.fps == pytest.approx(len(frames) / (edges[-1] - edges[0]))
    whole = read_video(VIDEO, sampling=sampling)
    assert whole.times == video.times
    assert numbers(whole.frames) == list(frames)


def test_the_times_are_known_after_an_iteration():
    video = open_video(VIDEO, sampling=Sampling(stride=3))
    small = video.resized((2, None))
    assert small.size == (2, 3)
    assert video.frame_count is None
    assert len(list(small)) == 4
    assert video.frame_count == 4


def test_an_interval_without_frames():
    for sampling in (Sampling(start=5.0), Sampling(start=5.0, frames=3)):
        with pytest.raises(ValueError, match="no frames from 5 s to the end: it ends at 2 s"):
            list(open_video(VIDEO, sampling=sampling))
    message = r"no frames from 0.9 s to 1.5 s: none starts there, and the next one at \d"
    with pytest.raises(ValueError, match=message):
        read_video(VIDEO, sampling=Sampling(start=0.9, end=1.5))


def test_more_frames_than_there_are():
    with pytest.raises(ValueError, match="frames=11: there are 10 frames from 0 s to the end"):
        list(open_video(VIDEO, sampling=Sampling(frames=11)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames=0: expected an integer, 1 or more"),
        ({"stride": 1.5}, "stride=1.5: expected an integer, 1 or more"),
        ({"start": -1}, "start=-1, end=None: expected 0 <= start < end, in seconds"),
        ({"start": 2, "end": 2}, "start=2, end=2: expected 0 <= start < end"),
        ({"end": float("nan")}, "expected 0 <= start < end"),
    ],
)
def test_invalid_samplings(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)
