"""The small worlds: what a scene shows, and that the ground truth is where it says."""

import numpy as np
import pytest
import torch
from torch import nn

import _worlds

pytestmark = pytest.mark.usefixtures("one_thread")
WORLDS = list(_worlds.RECIPES)
CLASSES = {"digits": 10, "lesions": 3, "regions": 4}


@pytest.fixture(autouse=True)
def digits_are_installed():
    pytest.importorskip("sklearn")


def draw(name, seed=0, held_out=True):
    recipe = _worlds.RECIPES[name]
    return recipe.draw(recipe.objects, np.random.default_rng(seed), held_out)


@pytest.mark.parametrize("name", WORLDS)
def test_scenes_follow_from_a_seed(name):
    first, again, other = draw(name), draw(name), draw(name, 1)
    assert torch.equal(first.inputs, again.inputs)
    assert first.labels == again.labels
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("name", WORLDS)
def test_objects_are_of_different_classes_and_do_not_overlap(name):
    for seed in range(20):
        scene = draw(name, seed)
        assert scene.inputs.shape[1:] == scene.masks.shape[1:]
        assert len(set(scene.labels)) == len(scene.masks) == _worlds.RECIPES[name].objects
        assert set(scene.labels) <= set(range(CLASSES[name]))
        assert (scene.masks.sum(0) <= 1).all()
        assert scene.masks.flatten(1).any(dim=1).all()


def test_strokes_and_lesions_are_brighter_than_the_rest():
    for name in ("digits", "lesions"):
        for seed in range(5):
            scene = draw(name, seed)
            inside = scene.masks.any(dim=0)
            assert scene.inputs[0][inside].mean() > scene.inputs[0][~inside].mean() + 0.3


def test_stripes_have_the_direction_of_their_class():
    """Along the stripes neighbours are alike, and across them they are not."""
    for seed in range(12):
        scene = draw("regions", seed)
        pixels, mask = scene.inputs[0], scene.masks[0]
        steps = {0: (1, 0), 1: (1, -1), 2: (0, 1), 3: (1, 1)}  # y, x
        shifted = {label: pixels.roll(step, (0, 1)) for label, step in steps.items()}
        alike = {label: float((pixels * other)[mask].mean()) for label, other in shifted.items()}
        (label,) = scene.labels
        assert alike[label] > alike[(label + 2) % 4] + 0.1
        assert 0.05 < mask.float().mean() < 0.75


def test_held_out_digits_are_not_those_of_the_training(monkeypatch):
    images, targets = _worlds._digits()
    bright = images.clone()
    bright[: _worlds.TRAINING_DIGITS] = 0.0
    monkeypatch.setattr(_worlds, "_digits", lambda: (bright, targets))
    assert draw("digits", held_out=True).masks.any()
    assert not draw("digits", held_out=False).masks.any()


@pytest.mark.parametrize("name", WORLDS)
def test_a_network_is_trained_from_a_seed(name):
    before = torch.random.get_rng_state()
    first, again = (_worlds.trained_network(name, seed=3, steps=2) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not first.training
    scene = draw(name)
    assert first(scene.inputs[None]).shape == (1, CLASSES[name])
    assert [first.get_submodule(layer) for layer in first.layers] == first.blocks


def test_training_learns():
    network = _worlds.trained_network("regions", steps=60)
    assert _worlds.accuracy(network, _worlds.draw_regions, 40) > 0.6


def test_accuracy_counts_the_right_ones():
    class First(nn.Module):
        def forward(self, x):
            return torch.eye(4)[[0]]

    scenes = _worlds.held_out_scenes(_worlds.draw_regions, 20, 1)
    expected = sum(scene.labels[0] == 0 for scene in scenes) / 20
    assert _worlds.accuracy(First(), _worlds.draw_regions, 20) == pytest.approx(expected)


def test_a_world_and_its_sets_of_layers():
    world = _worlds.make_world("lesions", 2, steps=1)
    assert list(world.layer_sets) == ["layer1", "layer2", "layer3", "layer4", "last two", "all"]
    assert world.layer_sets["last two"] == ["layer3", "layer4"]
    assert len(world.scenes) == 2
    with pytest.raises(ValueError, match="objects=2: an image has one region"):
        _worlds.draw_regions(2, np.random.default_rng(0))
