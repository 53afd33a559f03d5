"""The recogniser asked about each of two actors: shares by hand, boxes and tubes, figures."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import explain_actions
from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

pytestmark = pytest.mark.usefixtures("one_thread")

CLIP = 2  # the default
SHARES = re.compile(
    r"(\S+) \([\d.]+\): (\d+)% of the map on its actor \(chance (\d+)%\), (\d+)% on the other"
)


@pytest.fixture(scope="module")
def network():
    return load_action_net()


@pytest.fixture(scope="module")
def sample():
    return SyntheticActions(CLIP + 1, seed=HELD_OUT_SEED, actors=2)[CLIP]


def test_the_default_clip_is_the_first_whose_two_highest_classes_are_its_actors(network):
    fits = []
    for sample in SyntheticActions(CLIP + 1, seed=HELD_OUT_SEED, actors=2):
        with torch.no_grad():
            highest = network(sample.clip[None])[0].topk(2).indices.tolist()
        fits.append(sorted(highest) == sorted(sample.labels.tolist()))
    assert fits == [False] * CLIP + [True]
    assert explain_actions.parse([]).clip == CLIP


def test_shares_scores_and_figures(network, sample, tmp_path, capsys):
    explain_actions.main(["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    with torch.no_grad():
        scores = network(sample.clip[None]).softmax(1)[0, sample.labels].tolist()
    cam = LayerwiseWhatWhereCAM(network, LAYERS)
    names = [ACTIONS[label] for label in sample.labels]
    rows = SHARES.findall(printed)
    assert [row[0] for row in rows] == names
    for actor, (name, *shares) in enumerate(rows):
        assert f"{name} ({scores[actor]:.2f}):" in printed
        heat = cam.attribute(sample.clip[None], target=int(sample.labels[actor]))[0, 0]
        heat = heat.double().numpy()
        expected = [heat[mask].sum() / heat.sum() for mask in sample.masks.numpy()]
        own, other = expected[actor], expected[1 - actor]
        chance = sample.masks[actor].float().mean()
        assert shares == [f"{100 * value:.0f}" for value in (own, chance, other)]
        # Each map lies on the actor whose class is explained.
        assert own > 5 * chance
        assert own > 2 * other
    for name in ("actions.png", *(f"actions_{action}.png" for action in names)):
        with Image.open(tmp_path / name) as image:
            assert image.size[0] > 900
            assert len(np.unique(np.asarray(image.convert("L")))) > 100


def test_boxes_and_tubes_beside_the_ground_truth(sample):
    heat = torch.zeros(1, 1, 16, 64, 64)
    heat[..., 3:9, 10:20, 30:50] = 0.5
    heat[..., 3:9, 12, 32] = 1.0
    heat[..., 3:9, 60:, :2] = 0.1  # below a fifth of the maximum
    overlays = explain_actions.boxes_and_tubes(heat, sample)
    names = [f"ground truth: {ACTIONS[label]}" for label in sample.labels]
    assert list(overlays.tubes) == ["detected (1.00)", *names]
    tube = overlays.tubes["detected (1.00)"]
    assert (tube.start, tube.end) == (3, 9)
    assert tube.boxes.tolist() == [[30, 10, 50, 20]] * 6
    for name, boxes in zip(names, sample.boxes, strict=True):
        torch.testing.assert_close(overlays.tubes[name].boxes, boxes)
    assert [frame.boxes.tolist() for frame in overlays.boxes] == [
        [[30, 10, 50, 20]] if 3 <= t < 9 else [] for t in range(16)
    ]


def test_a_map_that_is_zero_has_no_tube(sample):
    overlays = explain_actions.boxes_and_tubes(torch.zeros(1, 1, 16, 64, 64), sample)
    assert len(overlays.tubes) == 2
    assert all(name.startswith("ground truth: ") for name in overlays.tubes)


def test_another_clip_and_other_layers(tmp_path, capsys):
    options = ["--clip", "7", "--layers", "stem", "layer1", "--output", str(tmp_path)]
    explain_actions.main(options)
    assert [row[0] for row in SHARES.findall(capsys.readouterr().out)] == ["up", "down"]
    assert (tmp_path / "actions_down.png").exists()
