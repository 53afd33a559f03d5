"""A long video explained as a stream: the map on disk, the timeline, scene changes."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import explain_long_video
from captum_3dcam import GlobalLocalCAM3D, LayerwiseWhatWhereCAM
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import load_map
from captum_3dcam.sliding import SlidingWindowCAM, Window, shot_boundaries
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net
from trained_networks.action_video import LongActionVideo

pytestmark = pytest.mark.usefixtures("one_thread")

SCENES = 2


@pytest.fixture
def small(monkeypatch):
    """Frames of the size that the network was trained on, to be quick."""
    video = partial(LongActionVideo, size=64)
    monkeypatch.setattr(explain_long_video, "LongActionVideo", video)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: profile, windows, boundaries, segments, fps."""
    calls = []
    original = explain_long_video.draw

    def spy(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(explain_long_video, "draw", spy)
    return calls


def test_the_map_is_that_of_the_whole_video(small, drawn, tmp_path):
    explain_long_video.main(["--scenes", str(SCENES), "--output", str(tmp_path)])
    video = LongActionVideo(SCENES, size=64)
    frames = torch.cat([torch.from_numpy(chunk) for chunk in video.chunks(64)])
    inputs = (frames.movedim(-1, 0) / 255)[None]
    sliding = SlidingWindowCAM(LayerwiseWhatWhereCAM(load_action_net(), LAYERS), 16, batch_size=4)
    boundaries = shot_boundaries(inputs[0])
    whole = sliding.attribute_windows(inputs, boundaries=boundaries)

    data, metadata = load_map(tmp_path / "long_video.npz")
    assert data.shape == (len(frames), 16, 16)
    expected = F.avg_pool2d(whole.attribution[0, 0], 4)
    np.testing.assert_allclose(data, expected.numpy(), atol=1e-4)
    assert metadata == {"fps": 25}
    ((profile, windows, cuts, segments, fps),) = drawn
    np.testing.assert_allclose(profile, temporal_profile(whole.attribution)[0], atol=1e-4)
    assert [window[:4] for window in windows] == [window[:4] for window in whole.windows[0]]
    assert (segments, fps) == (video.segments, 25)
    # The detected scenes are the scenes of the video.
    assert cuts == boundaries == [video.scenes[0].video.shape[1]]
    with Image.open(tmp_path / "long_video.png") as image:
        assert image.size == (1260, 360)


def test_the_timeline_shows_windows_and_segments():
    windows = [Window((8,), (24,), 2, 2, 0.0, 0.5), Window((24,), (40,), 3, 3, 0.0, 1.0)]
    figure = explain_long_video.draw([0.1] * 50, windows, [24], [(10, 20, 2)], 10.0)
    below = figure.axes[1]
    bars = [
        (bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2), bar.get_alpha())
        for bar in below.patches
    ]
    assert bars == [
        (0.8, pytest.approx(1.6), 2, 0.5),
        (2.4, pytest.approx(1.6), 3, 1.0),
        (1.0, 1.0, 2, None),
    ]
    assert below.patches[2].get_facecolor()[3] == 0
    assert [text.get_text() for text in below.get_yticklabels()] == list(ACTIONS)
    (scene_changes,) = below.collections
    assert scene_changes.get_segments()[0][:, 0].tolist() == [2.4, 2.4]
    assert below.get_xlim() == (0, 5)


def test_a_video_file(drawn, tmp_path):
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
    explain_long_video.main([str(video), "--layers", "layer2", "--output", str(tmp_path)])
    data, metadata = load_map(tmp_path / "long_video.npz")
    assert data.shape == (48, 28, 28)
    assert metadata["fps"] == 10
    ((_, windows, boundaries, segments, _),) = drawn
    assert boundaries == [24]
    assert segments == []
    assert [window.start[0] for window in windows] == [0, 8, 24, 32]


# ---------------------------------------------------------------------- over a scene change


def test_the_recognisers_map_does_not_leak_over_a_cut():
    """Two scenes of 24 frames: how much the second scene's map depends on the first scene, and
    the share of the map in the four frames around the cut, 8 % by chance."""
    cam = GlobalLocalCAM3D(load_action_net(), ["layer1", "layer2", "layer3"])
    sliding = SlidingWindowCAM(cam, 16, 8)
    clips = [SyntheticActions(8, seed=HELD_OUT_SEED, frames=24)[i].clip for i in range(8)]
    dependence, near = {}, {}
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
        dependence[boundaries], near[boundaries] = np.mean(leaks), np.mean(shares)
    assert dependence[()] > 0.08
    assert dependence[24,] == 0
    assert near[()] > 0.2
    assert near[24,] < 0.13
