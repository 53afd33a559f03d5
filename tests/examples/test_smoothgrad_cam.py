"""NoiseTunnel over this package's maps: the average by hand, the printed shares."""

import re
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import smoothgrad_cam
from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.datasets import SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED, load_action_net

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_smoothed_map_is_the_mean_over_noisy_clips():
    cam = GlobalLocalCAM3D(load_action_net(), ["layer2"])
    clip = SyntheticActions(2, seed=HELD_OUT_SEED)[1].clip[None]
    options = SimpleNamespace(type="smoothgrad", samples=6, noise=0.04)
    # A class that the network would not choose for this clip.
    smoothed = smoothgrad_cam.smooth(cam, clip, 4, options)
    torch.manual_seed(0)
    maps = []
    for copies in (4, 2):  # copies in memory at once
        shape = (copies, *clip.shape[1:])
        noisy = clip + torch.normal(torch.zeros(shape), torch.full(shape, 0.04))
        maps += [cam.attribute(each[None], target=4) for each in noisy]
    torch.testing.assert_close(smoothed, sum(maps) / 6, atol=1e-4, rtol=1e-3)


def test_a_run(tmp_path, capsys):
    options = ["--output", str(tmp_path), "--samples", "2", "--layers", "stem", "layer1"]
    smoothgrad_cam.main([*options, "--clip", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"Probability of 'right': 1\.00, under noise (0\.\d\d|1\.00)", printed)
    sample = SyntheticActions(2, seed=HELD_OUT_SEED)[1]
    network = load_action_net()
    cam = GlobalLocalCAM3D(network, ["stem", "layer1"])
    heat = cam.attribute(sample.clip[None], target=1)[0, 0]
    share = float(heat[sample.masks[0]].sum() / heat.sum())
    assert f"plain, {share:.0%} on the actor" in printed
    assert f"chance, {float(sample.masks[0].float().mean()):.0%} on the actor" in printed
    assert re.search(r"smoothgrad, \d+% on the actor", printed)
    with Image.open(tmp_path / "smoothgrad.png") as image:
        assert image.size[0] > 900
