"""The recogniser asked about each of two actors: shares and tubes re-derived, what is drawn."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

import explain_actions
from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from captum_3dcam.localization import Tube
from trained_networks.action_net import load_action_net


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The example as ``make demo`` runs it: the folder and the report."""
    folder = tmp_path_factory.mktemp("actions")
    return folder, explain_actions.main(["--output", str(folder)])


@pytest.fixture(scope="module")
def sample(run):
    return SyntheticActions(100, seed=10**6, actors=2)[run[1]["clip"]]


def test_the_clip_is_the_first_whose_two_highest_classes_are_its_actors(run):
    network = load_action_net()
    clips = SyntheticActions(100, seed=10**6, actors=2)
    fits = []
    for number in range(run[1]["clip"] + 1):
        with torch.no_grad():
            highest = network(clips[number].clip[None])[0].topk(2).indices.tolist()
        fits.append(sorted(highest) == sorted(clips[number].labels.tolist()))
    assert fits == [False] * run[1]["clip"] + [True]


def test_the_clips_are_none_that_the_network_was_trained_on(run):
    assert explain_actions.held_out().seed == 10**6
    assert explain_actions.held_out().actors == 2


def test_the_report_is_written(run):
    folder, report = run
    assert json.loads((folder / "explain_actions.json").read_text()) == report
    assert report["method"] == "LayerwiseWhatWhereCAM"
    assert set(report["share"]) == set(explain_actions.METHODS)
    assert all(list(of) == report["actors"] for of in report["share"].values())


def test_shares_and_chance_are_those_of_loops(run, sample):
    report = run[1]
    network = load_action_net()
    for label, name in zip(sample.labels.tolist(), report["actors"], strict=True):
        assert ACTIONS[label] == name
        cam = LayerwiseWhatWhereCAM(network, report["layers"])
        heat = cam.attribute(sample.clip[None], target=label)[0, 0].double().numpy()
        for actor, mask in enumerate(sample.masks.numpy()):
            inside = sum(heat[place] for place in zip(*mask.nonzero(), strict=True))
            found = report["share"]["LayerwiseWhatWhereCAM"][name][actor]
            assert found == pytest.approx(inside / heat.sum(), abs=1e-4)
    sizes = [mask.sum() / mask.size for mask in sample.masks.numpy()]
    assert report["chance"] == pytest.approx(sizes, abs=1e-4)


def test_probabilities_are_the_networks(run, sample):
    with torch.no_grad():
        expected = load_action_net()(sample.clip[None]).softmax(1)[0, sample.labels]
    assert list(run[1]["probability"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
    first = int(expected.argmax())
    assert run[1]["counterfactual"] == run[1]["actors"][first]


def test_each_map_lies_on_the_actor_that_it_is_asked_about(run):
    report = run[1]
    for actor, name in enumerate(report["actors"]):
        own = report["share"]["LayerwiseWhatWhereCAM"][name][actor]
        other = report["share"]["LayerwiseWhatWhereCAM"][name][1 - actor]
        assert own > 5 * report["chance"][actor]
        assert own > 2 * other


def test_the_pictures(run):
    folder, report = run
    for name in ("actions.png", *(f"actions_{action}.png" for action in report["actors"])):
        with Image.open(folder / name) as picture:
            assert picture.size[0] > 900
            assert len(np.unique(np.asarray(picture.convert("L")))) > 100
    for action in report["actors"]:
        with Image.open(folder / f"actions_{action}.gif") as animation:
            assert animation.n_frames == 16


def test_what_is_drawn(sample, tmp_path, monkeypatch):
    """The found tube and the true ones of both actors, and the boxes of each frame."""
    drawn = {}
    original = explain_actions.visualize_video_attr

    def spy(attr, video, **given):
        drawn.update(given, video=video)
        return original(attr, video, **given)

    monkeypatch.setattr(explain_actions, "visualize_video_attr", spy)
    heat = torch.zeros(1, 1, 16, 64, 64)
    heat[..., 3:9, 10:20, 30:50] = 0.5
    heat[..., 3:9, 12, 32] = 1.0
    heat[..., 3:9, 60:, :2] = 0.3
    options = Namespace(method="any", threshold=0.4, output=tmp_path)
    tube = explain_actions.draw_target(heat, "up", 0.5, sample, options)
    assert (tube.start, tube.end) == (3, 9)
    assert tube.boxes.tolist() == [[30, 10, 50, 20]] * 6
    names = [f"truth: {ACTIONS[label]}" for label in sample.labels]
    assert list(drawn["overlays"].tubes) == ["found (1.00)", *names]
    for name, boxes in zip(names, sample.boxes, strict=True):
        torch.testing.assert_close(drawn["overlays"].tubes[name].boxes, boxes)
    assert [frame.boxes.tolist() for frame in drawn["overlays"].boxes] == [
        [[30, 10, 50, 20]] if 3 <= t < 9 else [] for t in range(16)
    ]
    assert torch.equal(drawn["video"][5, 6, 7], sample.clip[:, 5, 6, 7])


def test_a_map_that_is_zero_has_no_tube(sample, tmp_path):
    options = Namespace(method="any", threshold=0.2, output=tmp_path)
    zero = torch.zeros(1, 1, 16, 64, 64)
    assert explain_actions.draw_target(zero, "up", 0.5, sample, options) is None
    assert explain_actions.overlap(None, ACTIONS[sample.labels[0]], sample) == 0
    assert explain_actions.shares(zero, sample) == [0, 0]


def test_overlap_is_that_of_the_actor_who_does_it():
    boxes = torch.full((2, 4, 4), torch.nan)
    boxes[0, :] = torch.tensor([0.0, 0.0, 4.0, 4.0])
    boxes[1, :2] = torch.tensor([8.0, 8.0, 12.0, 12.0])
    clip = ActionClip(
        torch.zeros(3, 4, 16, 16), torch.tensor([2, 7]), boxes, torch.zeros(2, 4, 16, 16)
    )
    half = Tube(1, torch.tensor([[8.0, 8.0, 12.0, 10.0]] * 2), score=1.0)
    # Frames 0, 1 and 2 are of either; frame 1 of both, and there the IoU is a half.
    assert explain_actions.overlap(half, "shake", clip) == round(0.5 / 3, 4)
    assert explain_actions.overlap(half, "up", clip) == 0
    assert explain_actions.overlap(half, "grow", clip) is None


def test_a_clip_and_classes_of_ones_own(tmp_path, capsys):
    given = "--clip 7 --target left down left --method GlobalLocalCAM3D --layers stem layer1"
    report = explain_actions.main(["--output", str(tmp_path), *given.split()])
    assert (report["clip"], report["actors"]) == (7, ["up", "down"])
    assert list(report["probability"]) == ["left", "down"]
    assert report["tube_iou"]["left"] is None
    assert report["tube_iou"]["down"] is not None
    assert report["layers"] == ["stem", "layer1"]
    assert "GlobalLocalCAM3D, left: nobody does it." in capsys.readouterr().out
    assert (tmp_path / "actions_left.png").exists()


@pytest.mark.parametrize(
    "given, message",
    [
        (["--clip", "10000"], "--clip 10000: there are the clips 0 to 9999"),
        (["--clip", "-1"], "--clip -1: there are the clips 0 to 9999"),
        (["--threshold", "1"], "--threshold 1.0: expected a share of the maximum, 0 to 1"),
        (["--target", "fly"], "invalid choice: 'fly'"),
    ],
)
def test_wrong_uses_say_what_is_right(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        explain_actions.main(given)
    assert message in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        explain_actions.main(["--help"])
    assert "python examples/explain_actions.py --clip 7" in capsys.readouterr().out
