"""A long video explained as a stream: what is written, the truth it is held against, memory."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import explain_long_video
from captum_3dcam import GlobalLocalCAM3D, LayerwiseWhatWhereCAM
from captum_3dcam.datasets import ACTIONS, SyntheticActions, SyntheticActionVideos
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import load_map
from captum_3dcam.sliding import MapChunk, SlidingWindowCAM, Window, shot_boundaries
from explain_long_video import HELD_OUT_SEED, Segment, Timeline
from trained_networks.action_net import LAYERS, load_action_net

SECONDS = 18
FRAMES = SECONDS * 25


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A report, its folder, and the video that it is about."""
    folder = tmp_path_factory.mktemp("long") / "new"
    options = ["--minutes", str(SECONDS / 60), "--size", "64", "--threads", "1"]
    report = explain_long_video.main([*options, "--output", str(folder)])
    data = SyntheticActionVideos(10, HELD_OUT_SEED, size=64)
    videos = [data[i] for i in range(10)]
    return report, folder, videos


@pytest.fixture(scope="module")
def whole(run):
    """The same explained in one piece."""
    video = torch.cat([v.video for v in run[2]], dim=1)[None, :, :FRAMES]
    cam = LayerwiseWhatWhereCAM(load_action_net(), LAYERS)
    sliding = SlidingWindowCAM(cam, 16, 8, batch_size=4)
    return sliding.attribute_windows(video, boundaries=shot_boundaries(video[0]))


def test_the_map_on_disk_is_that_of_the_whole_video(run, whole):
    _, folder, _ = run
    data, metadata = load_map(folder / "long_video.npz")
    assert data.shape == (FRAMES, 16, 16)
    expected = F.avg_pool2d(whole.attribution[0, 0], 4)
    # The drawing of frames depends on how many are drawn at once, in the last digit.
    np.testing.assert_allclose(data, expected.numpy(), atol=1e-4)
    windows = whole.windows[0]
    assert [each["start"] for each in metadata["windows"]] == [w.start[0] for w in windows]
    assert [each["stop"] for each in metadata["windows"]] == [w.stop[0] for w in windows]
    assert [each["class"] for each in metadata["windows"]] == [
        ACTIONS[w.predicted] for w in windows
    ]
    for each, window in zip(metadata["windows"], windows, strict=True):
        assert each["probability"] == pytest.approx(window.factor, abs=1e-3)
    assert (metadata["fps"], metadata["frames"]) == (25, FRAMES)


def test_the_scenes_found_are_the_scenes_made(run):
    _, folder, videos = run
    ends = np.cumsum([v.video.shape[1] for v in videos])
    expected = [int(end) for end in ends if end < FRAMES]
    assert len(expected) >= 2
    assert load_map(folder / "long_video.npz").metadata["boundaries"] == expected


def test_the_truth_is_that_of_the_videos(run, whole):
    report, _, videos = run
    segments, start = [], 0
    for video in videos:
        for (a, b), label in zip(video.segments.tolist(), video.labels.tolist(), strict=True):
            if start + a < FRAMES:
                segments.append((start + a, min(start + b, FRAMES), label))
        start += video.video.shape[1]
    assert explain_long_video.synthetic(FRAMES, 64).truth == segments
    acting = torch.zeros(FRAMES, dtype=torch.bool)
    for a, b, _ in segments:
        acting[a:b] = True
    profile = temporal_profile(whole.attribution)[0]
    truth = report["truth"]
    assert truth["share_of_time_in_actions"] == pytest.approx(float(acting.float().mean()))
    share = float(profile[acting].sum() / profile.sum())
    assert truth["share_of_map_in_actions"] == pytest.approx(share, abs=1e-3)
    assert share > truth["share_of_time_in_actions"] + 0.1
    assert truth["windows_within_an_action"] >= 4
    assert truth["right"] > 0.7


def test_windows_are_held_against_the_action_that_they_lie_in():
    windows = [
        Window((start,), (start + 16,), predicted, predicted, 0.0, 1.0)
        for start, predicted in ((0, 3), (16, 4), (32, 5), (50, 6))
    ]
    timeline = Timeline([1.0] * 66, windows, [])
    truth = [Segment(2, 34, 3), Segment(48, 60, 6)]
    found = explain_long_video.against_truth(timeline, truth, 66)
    assert found["windows_within_an_action"] == 2
    assert found["right"] == 0.5
    assert found["share_of_map_in_actions"] == pytest.approx(44 / 66)
    assert found["share_of_time_in_actions"] == pytest.approx(44 / 66)


def test_the_picture_shows_a_row(run):
    report, folder, _ = run
    with Image.open(folder / "long_video.png") as picture:
        assert picture.size[0] > 1000
        assert 250 < picture.size[1] < 600
    # Nothing, where another test in this process has held more before.
    assert 0 <= report["peak_memory_mib"] < 1.5 * 1024


def test_a_picture_of_several_minutes_has_rows_up_to_ten(tmp_path):
    heights = []
    for minutes in (2, 30):
        frames = minutes * 60
        source = explain_long_video.Source("slow", 1.0, iter, [Segment(3, 9, 1)])
        windows = [Window((a,), (a + 16,), 2, 2, 0.0, 0.5) for a in range(0, frames - 16, 16)]
        timeline = Timeline([0.1] * frames, windows, [50])
        explain_long_video.draw(timeline, source, tmp_path / "rows.png")
        with Image.open(tmp_path / "rows.png") as picture:
            heights.append(picture.size[1])
    assert heights == [round((3 * rows + 0.8) * 90) for rows in (2, 10)]


def test_a_video_file_and_one_class_for_all(tmp_path, capsys):
    av = pytest.importorskip("av")
    clips = [SyntheticActions(8, seed=HELD_OUT_SEED, frames=24)[i].clip for i in (0, 1)]
    video = tmp_path / "two scenes.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in (torch.cat(clips, dim=1) * 255).byte().permute(1, 2, 3, 0).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    options = ["--output", str(tmp_path), "--size", "64", "--stride", "16", "--target", "whole"]
    report = explain_long_video.main([str(video), *options])
    assert (report["video"], report["fps"], report["frames"]) == ("two scenes.mp4", 10, 48)
    assert "truth" not in report
    data, metadata = load_map(tmp_path / "long_video.npz")
    assert data.shape == (48, 16, 16)
    assert metadata["boundaries"] == [24]
    (explained,) = {window["class"] for window in metadata["windows"]}
    assert explained in (ACTIONS[0], ACTIONS[1])
    assert f"{explained!r} is the most probable" in capsys.readouterr().out
    assert [window["start"] for window in metadata["windows"]] == [0, 8, 24, 32]


def test_a_run_that_ends_early_leaves_no_half_written_file(tmp_path):
    def maps():
        yield torch.rand(4, 8, 8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_long_video.write_map(tmp_path / "map.npz", maps(), 8, dict)
    assert list(tmp_path.iterdir()) == []


def test_a_map_is_pooled_to_its_edges():
    (found,) = explain_long_video.pooled([torch.arange(15.0).reshape(1, 3, 5)], 2)
    assert found.tolist() == [[[3, 5, 6.5], [10.5, 12.5, 14]]]


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--minutes", "0", "expected a positive number; got '0'"),
        ("--minutes", "nan", "expected a positive number; got 'nan'"),
        ("--size", "64.5", "expected a positive number; got '64.5'"),
        ("--target", "jump", "expected one of whole, left, right"),
    ],
)
def test_options_that_do_not_fit(option, value, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        explain_long_video.main([option, value])
    assert message in capsys.readouterr().err


def test_targets_by_name_and_number():
    target = explain_long_video.target
    assert (target("whole"), target("up"), target("7")) == ("whole", 2, 7)


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        explain_long_video.main(["--help"])
    assert "python examples/explain_long_video.py --minutes 10" in capsys.readouterr().out


def test_what_is_written_is_not_kept(tmp_path):
    """Of a hundred pieces of the map, at most two at a time."""
    alive, most = [], 0

    def pieces():
        nonlocal most
        for number in range(100):
            values = np.full((1, 1, 4, 6, 6), number, np.float32)
            alive.append(weakref.ref(values))
            piece = MapChunk(4 * number, torch.from_numpy(values), [])
            del values
            yield piece
            most = max(most, sum(ref() is not None for ref in alive))

    timeline = Timeline([], [], [])
    maps = explain_long_video.pooled(explain_long_video.watched(pieces(), timeline), 2)
    explain_long_video.write_map(tmp_path / "map.npz", maps, 400, dict)
    assert most <= 2
    data, metadata = load_map(tmp_path / "map.npz")
    assert np.array_equal(data, np.arange(100.0).repeat(4)[:, None, None] * np.ones((3, 3)))
    assert timeline.profile == data[:, 0, 0].tolist()
    assert metadata == {}


# ---------------------------------------------------------------------- over a scene change


def test_the_recognisers_map_does_not_leak_over_a_cut():
    """Two scenes of 24 frames: how much the second's map hangs on which scene came before it,
    and how much of the map lies in the four frames around the cut, 8 % by chance."""
    cam = GlobalLocalCAM3D(load_action_net(), ["layer1", "layer2", "layer3"])
    sliding = SlidingWindowCAM(cam, 16, 8)
    clips = [SyntheticActions(8, seed=HELD_OUT_SEED, frames=24)[i].clip for i in range(8)]
    hangs, near = {}, {}
    for boundaries in ((), (24,)):
        shares, leaks = [], []
        for i in range(0, 6, 2):
            one, two = (
                sliding.attribute(torch.cat([first, clips[i + 1]], 1)[None], boundaries=boundaries)
                for first in (clips[i], clips[i + 2])
            )
            profile = temporal_profile(one)[0]
            shares.append(float(profile[22:26].sum() / profile.sum()))
            second, other = one[:, :, 24:], two[:, :, 24:]
            leaks.append(float((second - other).abs().sum() / (second + other).sum()))
        hangs[boundaries], near[boundaries] = np.mean(leaks), np.mean(shares)
    assert hangs[()] > 0.08
    assert hangs[24,] == 0
    assert near[()] > 0.2
    assert near[24,] < 0.13
