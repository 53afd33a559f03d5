"""The study of worlds: its measures against oracles and by hand, and a run."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from study_helpers import cells
from torch.testing import assert_close

import evaluate_worlds
from captum_3dcam import LayerwiseLayerCAM, LayerwiseWhatWhereCAM
from evaluate_worlds import METHODS

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_average_precision_is_that_of_scikit_learn(voxels):
    metrics = pytest.importorskip("sklearn.metrics")
    values, inside = (np.array(each) for each in zip(*[*voxels, (3, True)], strict=True))
    expected = metrics.average_precision_score(inside, values)
    heat, mask = torch.from_numpy(values).float(), torch.from_numpy(inside)
    result = evaluate_worlds.average_precision(heat, mask)
    assert result == pytest.approx(expected)
    assert evaluate_worlds.average_precision(heat.exp() ** 2, mask) == pytest.approx(expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_best_box_is_at_any_level(rank):
    mask = torch.zeros([10] * rank, dtype=torch.bool)
    mask[(slice(2, 6),) * rank] = True
    heat = mask * 0.1
    heat[(slice(3, 5),) * rank] = 1.0
    heat[(slice(8, 9),) * rank] = 0.5  # a smaller component
    assert evaluate_worlds.best_box_iou(heat, mask) == 1
    assert evaluate_worlds.best_box_iou(heat**4, mask) == 1
    heat[(slice(3, 5),) * rank] = 0.0
    assert evaluate_worlds.best_box_iou(torch.zeros_like(heat), mask) == 0
    shifted = mask.roll(2, 0).float()
    assert evaluate_worlds.best_box_iou(shifted, mask) == pytest.approx(2 / 6)


def test_maps_of_pairs_are_those_of_the_classes():
    world = evaluate_worlds.WORLDS["regions"](
        type("Options", (), {"scenes": 1, "seed": 0, "steps": 1})
    )
    scene, layers = world.scenes[0], world.layer_sets["all"]
    inputs, target = scene.inputs[None], scene.labels[0]
    pairs = evaluate_worlds.pairs_of(world.network, layers, inputs, target)
    for name, method in (("WhatWhere", LayerwiseWhatWhereCAM), ("LayerCAM", LayerwiseLayerCAM)):
        expected = method(world.network, layers).attribute(inputs, target=target)
        assert_close(METHODS[name](pairs, inputs.shape[2:]), expected)


def test_every_method_draws_a_map_of_any_rank():
    for rank in (1, 2, 3):
        pairs = [
            (torch.randn(1, 4, *[size] * rank), torch.randn(1, 4, *[size] * rank))
            for size in (8, 4)
        ]
        for name, draw in METHODS.items():
            heat = draw(pairs, [9] * rank)
            assert heat.shape == (1, 1, *[9] * rank), name
            assert heat.min() >= 0
            assert heat.isfinite().all()


def test_wins_count_ties_for_all_and_deletion_is_low():
    scores = {"ap": 0.5, "deletion": 0.2, "insertion": float("nan")}
    worlds = {"w": {"all": {"A": scores, "B": {**scores, "deletion": 0.1}}}}
    assert evaluate_worlds.wins(worlds, "ap", ["A", "B"]) == {"A": 1, "B": 1}
    assert evaluate_worlds.wins(worlds, "deletion", ["A", "B"]) == {"A": 0, "B": 1}
    assert evaluate_worlds.wins(worlds, "insertion", ["A", "B"]) == {"A": 0, "B": 0}


def test_a_run_writes_tables_of_all_columns(tmp_path):
    arguments = ["--worlds", "lesions", "--scenes", "1", "--steps", "1", "--curves", "1"]
    methods = ["--methods", "GradCAM", "WhatWhere"]
    report = evaluate_worlds.main([*arguments, *methods, "--output", str(tmp_path)])
    saved = json.loads((tmp_path / "worlds.json").read_text())
    assert set(saved["worlds"]["lesions"]) == set(report["worlds"]["lesions"])
    assert "all" in saved["worlds"]["lesions"]
    text = (tmp_path / "worlds.md").read_text()
    assert text.startswith("# ap")
    assert len(cells(text, "lesions: layer1")[0]) == 2
    mean = np.mean([each["GradCAM"]["ap"] for each in report["worlds"]["lesions"].values()])
    shown = cells(text, "**lesions: mean**")[0][0]
    assert float(shown) == pytest.approx(mean, abs=0.006)
