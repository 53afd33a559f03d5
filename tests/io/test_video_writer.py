"""Videos written with the times of their frames, as ffmpeg and this package read them back."""

import re
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence

from captum_3dcam.io import FrameTimes, read_video, write_video
from video_formats import ffmpeg_command

EDGES = [2.0, 2.04, 2.44, 2.5, 3.5, 3.533, 3.6, 4.4]
FRAMES = np.repeat(30 * np.arange(7, dtype=np.uint8), 16 * 16 * 3).reshape(7, 16, 16, 3)


def shown_by_ffmpeg(path):
    """The times of the frames, and the duration of the video."""
    if ffmpeg_command() is None:
        pytest.skip("needs the ffmpeg command")
    options = ["-fps_mode", "passthrough", "-vf", "showinfo", "-f", "null", "-"]
    command = [ffmpeg_command(), "-i", path, *options]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    hours, minutes, seconds = map(
        float, re.search(r"Duration: (\d+):(\d+):([\d.]+)", text).groups()
    )
    times = [float(time) for time in re.findall(r"pts_time:([\d.]+)", text)]
    return times, 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize("frames", [FRAMES, FRAMES[:, :15, :13]])
def test_an_mp4_shows_each_frame_at_its_time(tmp_path, frames):
    pytest.importorskip("av")
    path = tmp_path / "out.mp4"
    write_video(iter(frames), path, FrameTimes(EDGES))
    again = read_video(path)
    np.testing.assert_allclose(again.times.edges, np.array(EDGES) - 2, atol=2e-5)
    np.testing.assert_allclose(again.frames.mean(axis=(1, 2, 3)), 30 * np.arange(7), atol=3)
    times, duration = shown_by_ffmpeg(path)
    np.testing.assert_allclose(times, np.array(EDGES[:-1]) - 2, atol=1e-4)
    assert duration == pytest.approx(2.4, abs=0.011)


def test_an_mp4_ends_with_its_last_frame(tmp_path):
    av = pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 40, (40, 16, 16, 3), dtype=np.uint8).cumsum(0)
    edges = np.concatenate([0.04 * np.arange(20), 0.8 + 0.4 * np.arange(21)])
    write_video((frames % 256).astype(np.uint8), tmp_path / "out.mp4", FrameTimes(edges))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(8.8, abs=0.001)


@pytest.mark.parametrize("fps", [24, 29.97, 7])
def test_times_at_a_constant_rate_are_that_rate(tmp_path, fps):
    pytest.importorskip("av")
    write_video(FRAMES, tmp_path / "rate.mp4", fps)
    write_video(FRAMES, tmp_path / "times.mp4", FrameTimes.from_rate(7, fps))
    by_rate, by_times = read_video(tmp_path / "rate.mp4"), read_video(tmp_path / "times.mp4")
    np.testing.assert_allclose(by_rate.times.edges, np.arange(8) / fps, rtol=1e-4)
    np.testing.assert_allclose(by_times.times.edges, by_rate.times.edges, atol=5e-5)


def test_an_mp4_of_frames_that_are_shown_for_no_time(tmp_path):
    pytest.importorskip("av")
    edges = [0.0, 1e-7, 2e-7, 0.1, 0.2, 0.3, 0.4, 0.5]
    write_video(FRAMES, tmp_path / "out.mp4", FrameTimes(edges))
    times = read_video(tmp_path / "out.mp4").times
    assert len(times) == 7
    np.testing.assert_allclose(times.edges[3:], edges[3:], atol=1e-4)


def test_a_gif_shows_each_frame_for_its_duration(tmp_path):
    write_video(FRAMES, tmp_path / "out.gif", FrameTimes(EDGES))
    with Image.open(tmp_path / "out.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    ends = np.cumsum(durations)
    np.testing.assert_allclose(ends, 1000 * np.array(EDGES[1:]) - 2000, atol=5.01)
    assert min(durations) >= 20


def test_a_gif_frame_has_a_minimum_duration(tmp_path):
    with pytest.raises(ValueError, match=r"A frame is shown for 0.01\d* s; expected at least 0.02"):
        write_video(FRAMES[:2], tmp_path / "out.gif", FrameTimes([0.0, 0.012, 0.5]))
    # 20 ms that begin halfway between hundredths stay 20 ms, however the sums are rounded.
    times = FrameTimes([0.0, *(0.025 + 0.02 * np.arange(40))])
    write_video(np.resize(FRAMES, (40, 16, 16, 3)), tmp_path / "out.gif", times)
    with Image.open(tmp_path / "out.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [30, *[20] * 39]


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
@pytest.mark.parametrize(("count", "there_are"), [(6, "there are 6"), (8, "there are more")])
def test_times_are_those_of_the_frames(tmp_path, suffix, count, there_are):
    frames = [FRAMES[0]] * count
    with pytest.raises(ValueError, match=f"times of 7 frames, and {there_are}"):
        write_video(frames, tmp_path / f"out.{suffix}", FrameTimes(EDGES))
    assert not list(tmp_path.iterdir())


DAY = 86400


@pytest.mark.parametrize("step", [3600, DAY, 400 * DAY])
def test_an_mp4_shows_frames_for_days(tmp_path, step):
    pytest.importorskip("av")
    write_video(FRAMES, tmp_path / "out.mp4", FrameTimes(step * np.arange(8)))
    np.testing.assert_allclose(
        read_video(tmp_path / "out.mp4").times.edges, step * np.arange(8), rtol=1e-6
    )
    write_video(FRAMES, tmp_path / "rate.mp4", fps=1 / step)
    np.testing.assert_allclose(
        read_video(tmp_path / "rate.mp4").times.edges, step * np.arange(8), rtol=1e-6
    )


def test_an_mp4_refuses_frames_beyond_its_maximum(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="shown for 1e\\+10 s; expected at most 2147483647 s"):
        write_video(FRAMES, tmp_path / "out.mp4", fps=1e-10)


@pytest.mark.parametrize("times", [FrameTimes(1000 * np.arange(8)), 0.001])
def test_a_gif_frame_has_a_maximum_duration(tmp_path, times):
    with pytest.warns(UserWarning, match="shown for 1000 s. A GIF shows it for 655.35 s, its max"):
        write_video(FRAMES, tmp_path / "out.gif", times)
    with Image.open(tmp_path / "out.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [655_350] * 7


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_rate_may_be_of_numpy(tmp_path, suffix):
    pytest.importorskip("av")
    write_video(FRAMES, tmp_path / f"out.{suffix}", fps=np.float32(25))
    assert read_video(tmp_path / f"out.{suffix}").fps == pytest.approx(25)
