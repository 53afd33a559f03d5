"""The study of what speaks against a class: its columns by hand, and a run."""

import json

import pytest
import torch
from scipy.ndimage import gaussian_filter
from study_helpers import cells
from torch import nn

import evaluate_counterfactual
from _worlds import Scene
from evaluate_counterfactual import Case, Question

pytestmark = pytest.mark.usefixtures("one_thread")


class Sums(nn.Module):
    """The score of class c is the sum of channel c."""

    def forward(self, x):
        return x.flatten(2).sum(dim=2)


def make_scene():
    """Two objects of two pixels each, in channels of their own, and a third of one pixel."""
    inputs, masks = torch.zeros(3, 4, 5), torch.zeros(3, 4, 5, dtype=torch.bool)
    for number, (row, columns) in enumerate([(0, [0, 1]), (1, [2, 3]), (3, [4])]):
        inputs[number, row, columns] = 1.0
        masks[number, row, columns] = True
    return Scene(inputs, [0, 1, 2], masks)


def question_of(scene):
    return Question(Sums(), [], scene.inputs[None], 0, 1)


def test_columns_by_hand(monkeypatch):
    monkeypatch.setattr(evaluate_counterfactual, "OCCLUDED", 2 / 20)
    scene = make_scene()
    heat = torch.zeros(1, 1, 4, 5)
    heat[0, 0, 1, 2:4] = torch.tensor([4.0, 2.0])  # the rival
    heat[0, 0, 0, 0], heat[0, 0, 3, 4], heat[0, 0, 2, 2] = 1.0, 1.0, 2.0 - 1e-6
    rival, own, others, hit, change, rises = evaluate_counterfactual.measure(
        heat, scene, 0, question_of(scene)
    )
    assert (rival, own, others) == pytest.approx((0.6, 0.1, 0.7), abs=1e-5)
    assert (hit, rises) == (1, 1)
    blurred = gaussian_filter(scene.inputs[None].numpy(), [0, 0, 0.4, 0.5], mode="nearest")
    x = scene.inputs[None].clone()
    x[:, :, 1, 2:4] = torch.from_numpy(blurred)[:, :, 1, 2:4]
    probabilities = (Sums()(y).double().softmax(1)[0, 0] for y in (x, scene.inputs[None]))
    after, before = ((p / (1 - p)).log() for p in probabilities)
    assert change == pytest.approx(float(after - before))
    zero = evaluate_counterfactual.measure(heat * 0, scene, 0, question_of(scene))
    assert zero[:4] == [0, 0, 0, 0]


def test_the_last_object_has_the_first_as_its_rival():
    scene = make_scene()
    heat = scene.masks[:1].float()[None]
    assert evaluate_counterfactual.measure(heat, scene, 2, question_of(scene))[0] == 1
    assert evaluate_counterfactual.measure(heat, scene, 0, question_of(scene))[1] == 1


def test_ties_are_occluded_at_random_and_always_as_many():
    x = torch.rand(1, 2, 8, 8)
    occluded = evaluate_counterfactual.occlude(x, torch.zeros(1, 1, 8, 8), 0.25)
    changed = (occluded != x).all(dim=1)
    assert int(changed.sum()) == 16
    assert not changed[0, :2].all()


def test_methods_explain_why_not_the_class():
    """A linear network whose evidence is in known pixels."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), Sums()).eval()
    network[0].weight.data.copy_(torch.eye(3).reshape(3, 3, 1, 1))
    nn.init.constant_(network[0].bias, 0.1)
    scene = make_scene()
    question = Question(network, ["1"], scene.inputs[None], 0, 1)
    heats = {name: make(question) for name, make in evaluate_counterfactual.METHODS.items()}
    named = heats["RivalCAM, rival named"][0, 0]
    assert named[scene.masks[1]].sum() / named.sum() > 0.9
    both = heats["RivalCAM"][0, 0]
    assert both[scene.masks[2]].any()
    assert not both[scene.masks[0]].any()
    assert not heats["3DCAM's counterfactual"].any()


def run(folder, *arguments):
    return evaluate_counterfactual.main([*arguments, "--output", str(folder)])


def test_a_run_writes_the_table_and_the_figure(tmp_path):
    options = ["--scenes", "2", "--seeds", "0", "1", "--steps", "2"]
    report = run(tmp_path, "--worlds", "lesions", *options)
    saved = json.loads((tmp_path / "counterfactual.json").read_text())
    assert saved["worlds"]["lesions"]["networks"] == 2
    assert (tmp_path / "counterfactual.png").stat().st_size > 1000
    scores = report["worlds"]["lesions"]["scores"]
    assert set(scores) == {*evaluate_counterfactual.METHODS, evaluate_counterfactual.CHANCE}
    chance = scores[evaluate_counterfactual.CHANCE]
    assert 0 < chance["rival"].value < 0.1
    assert len(chance["networks"]["rival"]) == 2
    text = (tmp_path / "counterfactual.md").read_text()
    assert len(cells(text, "RivalCAM")[0]) == len(evaluate_counterfactual.COLUMNS)


def test_actions_are_clips_of_two_actors():
    options = type("Options", (), {"scenes": 1, "weights": [evaluate_counterfactual.WEIGHTS]})
    (case,) = evaluate_counterfactual.action_cases(options)
    assert isinstance(case, Case)
    assert len(case.scenes[0].labels) == 2
    assert case.network(case.scenes[0].inputs[None]).shape == (1, 8)


def test_mosaics_have_four_cells():
    pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite_pytorch")
    (case,) = evaluate_counterfactual.mosaic_cases(type("Options", (), {"mosaics": 1}))
    (scene,) = case.scenes
    assert scene.masks.float().mean(dim=(1, 2)).tolist() == [0.25] * 4
    assert len(set(scene.labels)) == 4
