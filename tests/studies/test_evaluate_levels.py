"""The study of levels: boxes at a level, and the best one."""

import json

import pytest
import torch

import evaluate_levels

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ious_of_a_map_by_hand():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = True
    heat = torch.zeros(1, 1, 8, 8)
    heat[0, 0, 2:6, 2:6] = 0.4
    heat[0, 0, 3:5, 3:5] = 1.0
    heat[0, 0, 0, 0] = 0.9  # another component
    ious = evaluate_levels.ious_of_map(heat, mask)
    assert ious["half the maximum"] == pytest.approx(4 / 16)
    assert ious["0.3"] == ious["mean"] == ious["best"] == 1
    zero = evaluate_levels.ious_of_map(torch.zeros(1, 1, 8, 8), mask)
    assert set(zero.values()) == {0.0}


def test_one_level_is_the_best_for_all():
    names = [*evaluate_levels.LEVELS, *map(str, evaluate_levels.SHARES), "best"]
    first = dict.fromkeys(names, 0.0) | {"0.2": 0.9, "0.3": 0.6, "best": 0.9}
    second = dict.fromkeys(names, 0.0) | {"0.2": 0.1, "0.3": 0.6, "best": 0.7}
    summary = evaluate_levels.summarize([first, second])
    assert summary["at"] == 0.3
    assert summary["one level"] == pytest.approx(0.6)
    assert summary["best"] == pytest.approx(0.8)


def test_a_run_writes_a_row_for_each_method(tmp_path):
    report = evaluate_levels.main(
        ["--worlds", "regions", "--scenes", "2", "--steps", "1", "--output", str(tmp_path)]
    )
    assert json.loads((tmp_path / "levels.json").read_text()) == report
    assert list(report["regions"]) == ["all"]
    assert list(report["regions"]["all"]) == list(evaluate_levels.EXPLAINED)
    assert "regions, all: WhatWhere" in (tmp_path / "levels.md").read_text()
