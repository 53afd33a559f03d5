"""The report as JSON, and its summary."""

import json

import numpy as np
import pytest
import torch
from explanation_inputs import LAYERS, network, pixels, scan, video

from captum_3dcam import explain
from captum_3dcam.explanation import Windows
from captum_3dcam.explanation._report import _corners, make_report, summarize, to_json
from captum_3dcam.localization import Segment, Tube

pytestmark = pytest.mark.usefixtures("one_thread")


def report_of(explanation):
    return json.loads(to_json(make_report(explanation, {"map": "map.npz"}, "explain it")))


def test_the_parts_of_a_report():
    explanation = explain(network("image"), pixels(), [2, 0], layers=LAYERS, class_names={0: "run"})
    report = report_of(explanation)
    assert list(report) == [
        "input", "model", "results", "files", "settings", "warnings", "command", "versions",
    ]  # fmt: skip
    assert report["input"] == {
        "kind": "image", "fingerprint": explanation.fingerprint, "size": [24, 32],
        "model_size": [24, 32],
    }  # fmt: skip
    assert report["model"]["layers"] == LAYERS
    assert [(each["class"], each["name"]) for each in report["results"]] == [
        (2, "class 2"), (0, "run"),
    ]  # fmt: skip
    assert report["results"][1]["score"] == explanation.scores[0, 1].item()
    assert (report["files"], report["command"]) == ({"map": "map.npz"}, "explain it")


def test_windows_of_a_report():
    def margin(output):
        return output[:, 0] - output[:, 1]

    explanation = explain(network("video"), video(), margin, layers=LAYERS, windows=Windows(4))
    (result,) = report_of(explanation)["results"]
    assert result["class"] == result["name"] == "margin"
    times = explanation.times
    for row, window in zip(result["windows"], explanation.windows[0][0], strict=True):
        assert (row["start"], row["stop"]) == (list(window.start), list(window.stop))
        seconds = [times.at(window.start[0]), times.at(window.stop[0])]
        assert row["seconds"] == pytest.approx(seconds)
        assert (row["score"], row["probability"]) == (window.score, window.factor)
        assert (row["class"], row["predicted"]) == ("margin", window.predicted)


def test_the_peak_of_a_scan_in_mm():
    explanation = explain(network("volume"), scan(), 1, layers=LAYERS)
    peak = report_of(explanation)["results"][0]["peak"]
    d, h, w = map(int, np.unravel_index(explanation.heat_map().numpy().argmax(), (8, 12, 10)))
    assert peak["voxel"] == [d, h, w]
    assert peak["mm"] == pytest.approx([5 - 2 * w, 1.5 * h - 3, 4 * d + 1])
    line, files = summarize(explanation, ["map.npz"], "out").splitlines()
    assert f"; peak at voxel ({d}, {h}, {w}), {5 - 2 * w}, {1.5 * h - 3:g}, {4 * d + 1} mm" in line
    assert files == "wrote map.npz into out"
    tensor = explain(network("volume"), scan().to_tensor(), 1, layers=LAYERS)
    assert report_of(tensor)["results"][0]["peak"] == {"voxel": [d, h, w]}
    assert f"; peak at voxel ({d}, {h}, {w}); box" in summarize(tensor, ["map.npz"], "out")


def test_numbers_and_texts_of_json():
    tube = Tube(2, torch.tensor([[1.0, 2, 3, 4.0000001]]), 0.5, 10.0)
    text = to_json(
        {"tube": tube, "segment": Segment(1, 3, 0.5, 10.0), "text": "[\n1\n]", "x": None}
    )
    assert json.loads(text) == {
        "tube": {
            "start": 2, "end": 3, "seconds": [0.2, 0.3], "score": 0.5, "boxes": [[1, 2, 3, 4]],
        },
        "segment": {"start": 1, "end": 3, "seconds": [0.1, 0.3], "score": 0.5},
        "text": "[\n1\n]", "x": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="Out of range float values"):
        to_json({"score": float("nan")})


def test_a_thin_box_is_not_printed_as_empty():
    box = {"box": torch.tensor([0.06, 249.56, 0.94, 250.44])}
    assert _corners(box) == "0, 249, 1, 251"
    assert _corners({"box": torch.tensor([0.9999, 2, 3.0001, 4])}) == "1, 2, 3, 4"
    assert _corners({"start": [1, 2, 3], "stop": [4, 5, 6]}) == "[1:4, 2:5, 3:6]"


def test_a_summary_line_of_each_class():
    explanation = explain(
        network("video"), video(), [1, 2], layers=LAYERS, class_names={0: "a", 1: "b"}
    )
    first, second, _ = summarize(explanation, [], "out").splitlines()
    tube = explanation.tubes()[0]
    seconds = "{:.2f} to {:.2f} s".format(*tube.seconds)
    score, probability = explanation.scores[0, 0], explanation.probabilities[0, 0]
    assert first == (
        f"1 b: score {score:.2f}, probability {probability:.2f}; tube over frames {tube.start} to "
        f"{tube.end - 1} ({seconds})"
    )
    assert second.startswith("class 2: score ")
