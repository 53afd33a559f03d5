"""The benchmark of the metrics on small maps. No assertion depends on how long a run took."""

import importlib
import json
import sys

import numpy as np
import pytest

import _report as script_report

pytest.importorskip("cv2")
pytest.importorskip("torchmetrics")

SMALL = ["--size", "40", "--repeats", "2", "--seeds", "0", "1"]


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("benchmark_metrics")


def test_the_table_and_the_file_have_every_measurement(script, tmp_path, capsys):
    report = script.main([*SMALL, "--output", str(tmp_path)])
    on_disk = json.loads((tmp_path / "metrics_beside_opencv.json").read_text())
    assert on_disk == script_report.to_json(report)
    expected = [
        (what, kind, version)
        for kind in script.MAPS
        for version in ("V1", "V2")
        for what in ("boxes", "MaxBoxAcc")
    ]
    assert [(row["what"], row["map"], row["version"]) for row in report["rows"]] == expected
    printed = capsys.readouterr().out
    assert report["machine"] in printed
    assert "1 threads; " in printed
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [(cells[0][2:], *cells[1:3]) for cells in rows] == expected
    for row, cells in zip(report["rows"], rows, strict=True):
        assert cells[3].startswith(f"{row['opencv_ms'][1]:.2f} (")
        for key in ("opencv_ms", "ours_ms", "ratio"):
            assert 0 < row[key][0] <= row[key][1] <= row[key][2]


def test_the_kinds_of_maps_can_be_chosen(script, tmp_path):
    rows = script.main([*SMALL, "--kinds", "one Gaussian", "--output", str(tmp_path)])["rows"]
    assert {row["map"] for row in rows} == {"one Gaussian"}


def test_a_map_is_determined_by_its_kind_and_seed(script):
    for make in script.MAPS.values():
        first, again, other = (make(40, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert first.shape == (40, 40)
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_a_different_box_is_an_error(script, monkeypatch, tmp_path):
    correct = script.contour_boxes

    def wrong(*arguments):
        boxes, index = correct(*arguments)
        boxes[-1, 2] += 1
        return boxes, index

    monkeypatch.setattr(script, "contour_boxes", wrong)
    with pytest.raises(AssertionError, match="boxes of V1 differ from those of OpenCV"):
        script.main([*SMALL, "--kinds", "noise", "--output", str(tmp_path)])


def test_a_different_score_is_an_error(script, monkeypatch, tmp_path):
    correct = script.opencv_correct
    monkeypatch.setattr(script, "opencv_correct", lambda *arguments: ~correct(*arguments))
    with pytest.raises(AssertionError, match="MaxBoxAcc V1 is"):
        script.main([*SMALL, "--kinds", "one Gaussian", "--output", str(tmp_path)])


def test_times_are_summarized_by_their_quartiles(script):
    seconds = {"OpenCV": [0.002, 0.004, 0.006], "ours": [0.001, 0.001, 0.006]}
    row = script.summarize(seconds)
    assert row["opencv_ms"] == (3, 4, 5)
    assert row["ours_ms"] == (1, 1, 3.5)
    assert row["ratio"] == (0.375, 0.5, 0.75)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats: expected an integer of at least 1; got '0'"),
        (["--size", "8"], "--size: expected an integer of at least 32; got '8'"),
        (["--kinds", "stripes"], "invalid choice: 'stripes'"),
    ],
)
def test_arguments_that_do_not_fit(script, capsys, arguments, message):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert message in capsys.readouterr().err


def test_without_opencv_the_error_names_the_extra(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "benchmark_metrics")
    with pytest.raises(ImportError, match=r"captum_3dcam\[test\]"):
        importlib.import_module("benchmark_metrics")
