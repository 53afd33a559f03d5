"""The long synthetic video: its frames and ground truth are those of its scenes."""

import numpy as np
import torch

from captum_3dcam.datasets import SyntheticActionVideos
from trained_networks.action_net import HELD_OUT_SEED
from trained_networks.action_video import LongActionVideo


def test_the_frames_are_those_of_the_scenes_at_each_pass():
    video = LongActionVideo(2, size=32)
    first, again = list(video.chunks(50)), list(video.chunks(50))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    scenes = [scene.video for scene in SyntheticActionVideos(2, HELD_OUT_SEED, size=32)]
    assert sorted({len(chunk) for chunk in first})[-1] == 50
    # A chunk ends where a scene does.
    ends = np.cumsum([len(chunk) for chunk in first]).tolist()
    assert scenes[0].shape[1] in ends
    expected = torch.cat(scenes, dim=1).movedim(0, -1).numpy()
    frames = np.concatenate(first)
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(frames / 255, expected, atol=0.5 / 255 + 1e-4)


def test_the_segments_count_frames_from_the_start_of_the_video():
    segments, start = [], 0
    for scene in SyntheticActionVideos(3, HELD_OUT_SEED, size=64):
        for (a, b), label in zip(scene.segments.tolist(), scene.labels.tolist(), strict=True):
            segments.append((start + a, start + b, label))
        start += scene.video.shape[1]
    assert LongActionVideo(3, size=64).segments == segments
