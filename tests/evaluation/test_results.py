"""The table and the JSON of an evaluation."""

import json

import pytest
from evaluation_samples import FirstChannel, random_samples

from captum_3dcam.evaluation import BASELINES, Interval, evaluate


def test_table_and_file(tmp_path):
    result = evaluate({"a|b": FirstChannel()}, random_samples(2))
    lines = result.table(["hit", "box_acc@0.5"]).splitlines()
    assert lines[:2] == ["| | hit | box_acc@0.5 |", "|---|---|---|"]
    summary = result.summary["a|b"]
    assert lines[2] == f"| a\\|b | {summary['hit']} | {summary['box_acc@0.5']} |"
    assert len(lines) == 2 + 1 + len(BASELINES)
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    result.save(tmp_path / "new" / "result.json")
    saved = json.loads((tmp_path / "new" / "result.json").read_text(encoding="utf-8"))
    assert saved["rows"]["a|b"]["hit"] == summary["hit"]._asdict()
    assert "one threshold for the dataset" in saved["protocols"]["max_box_acc"]
    assert "one threshold per clip" in saved["protocols"]["max_box_acc_per_sample"]
    with pytest.raises(
        ValueError, match=r"column='hits' is not known. Choose one of 'energy', 'hit'"
    ):
        result.table(["hits"])
