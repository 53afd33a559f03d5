"""THUMOS14 and MultiTHUMOS from the published files to temporal mAP."""

import json

import numpy as np
import pytest
import torch
from study_helpers import cells, run
from torch import nn
from untrimmed_on_disk import MULTI, THUMOS, write_lit_video, write_multithumos, write_thumos

import evaluate_thumos as thumos
import paper_tables
from captum_3dcam.datasets import THUMOS14
from captum_3dcam.metrics import temporal_map
from captum_3dcam.models import Preprocessing

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path):
    write_thumos(tmp_path / "data")
    return tmp_path / "data"


def json_of(rows):
    results = {}
    for video, start, end, name, score in rows:
        results.setdefault(video, []).append(
            {"segment": [start, end], "label": name, "score": score}
        )
    return json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}})


PERFECT = [
    (video, start, end, name, 0.9)
    for name, rows in THUMOS.items()
    if name != "Ambiguous"
    for video, start, end in rows
]


# --------------------------------------------------------------------------- given detections


def test_perfect_detections(root, tmp_path):
    (tmp_path / "d.json").write_text(json_of(PERFECT))
    report = run(thumos, tmp_path, "--root", root, "--detections", tmp_path / "d.json")
    scores = report["scores"]["detections"]
    assert scores["mAP"] == 1
    assert scores["classes"] == {"CliffDiving": [1.0] * 7, "Diving": [1.0] * 7}
    assert scores["detections"] == 4
    assert report["about"] == (
        "thumos14, test: 3 videos, 4 instances of 2 classes, 2 ambiguous segments. Temporal mAP "
        "at tIoU."
    )
    text = (tmp_path / "thumos14.md").read_text()
    assert cells(text, "detections") == [["1.000"] * 8 + ["4"]]
    assert json.loads((tmp_path / "thumos14.json").read_text()) == report


def test_what_is_ambiguous_does_not_count_and_what_is_not_annotated_is_wrong(root, tmp_path):
    """The best score is of a segment that is no diving."""

    def score(*wrong):
        (tmp_path / "d.json").write_text(json_of([*PERFECT, *wrong]))
        report = run(thumos, tmp_path, "--root", root, "--detections", tmp_path / "d.json")
        return report["scores"]["detections"]["classes"]["Diving"][0]

    assert score(("video_test_0000006", 5.5, 6.0, "Diving", 0.99)) == 1
    assert score(("video_test_0001292", 0.0, 0.5, "Diving", 0.99)) == 1
    for video, start, end in (
        ("video_test_0000006", 5.6, 6.0),
        ("video_test_0000011", 5.5, 6.0),
        ("video_test_0009999", 5.5, 6.0),
    ):
        assert score((video, start, end, "Diving", 0.99)) == pytest.approx(3 / 4)


def test_the_text_of_the_challenge(root, tmp_path):
    """Numbers of the classes from the published list; .mp4 after a name."""
    numbers = {"CliffDiving": 22, "Diving": 26}
    (tmp_path / "detclasslist.txt").write_text("7 BaseballPitch\n22 CliffDiving\n26 Diving\n")
    lines = [f"{v}.mp4 {s} {e} {numbers[name]} {c}\n" for v, s, e, name, c in PERFECT]
    (tmp_path / "d.txt").write_text("".join(lines) + "\n")
    arguments = ["--root", root, "--detections", tmp_path / "d.txt"]
    with pytest.raises(SystemExit, match=r"line 1: '26' is no class .* Pass --class-list"):
        run(thumos, tmp_path, *arguments)
    report = run(thumos, tmp_path, *arguments, "--class-list", tmp_path / "detclasslist.txt")
    assert report["scores"]["detections"]["mAP"] == 1
    (tmp_path / "d.txt").write_text("".join(f"{v} {s} {e} {n} {c}\n" for v, s, e, n, c in PERFECT))
    assert run(thumos, tmp_path, *arguments)["scores"]["detections"]["mAP"] == 1


def test_overlapping_actions_of_multithumos(tmp_path):
    write_multithumos(tmp_path / "data")
    rows = [(v, s, e, name, 0.5) for name, each in MULTI.items() for v, s, e in each]
    rows = [row for row in rows if "test" in row[0]]
    # The run is detected a second too long, and Jump not at all.
    rows = [(v, s, e + (name == "Run"), name, c) for v, s, e, name, c in rows if name != "Jump"]
    (tmp_path / "d.json").write_text(json_of(rows))
    report = run(
        thumos, tmp_path, "--dataset", "multithumos", "--root", tmp_path / "data",
        "--detections", tmp_path / "d.json", "--tious", 0.5, 0.6, 0.7,
    )  # fmt: skip
    # [0.5, 2.5) of 1 s: tIoU .5; [0, 3) of 2 s: .67.
    assert report["scores"]["detections"]["classes"] == {
        "Diving": [1.0] * 3,
        "Run": [1.0, pytest.approx(1 / 4), 0.0],
        "Jump": [0.0] * 3,
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.json", "{", "it cannot be read"),
        ("d.json", '{"results": []}', "it cannot be read"),
        ("d.json", '{"results": {"video_test_0000006": [{"segment": [1]}]}}', "it cannot be read"),
        ("d.json", json_of([("v", 2.0, 1.0, "Diving", 0.5)]), "expected start <= end"),
        ("d.json", json_of([("v", 1.0, 2.0, "Golf", 0.5)]), "'Golf' is no class of the dataset.$"),
        ("d.txt", "v 1 2 Diving\n", "line 1: expected 'video start end class confidence'"),
        ("d.txt", "v 1 x Diving 0.5\n", "line 1: expected 'video start end class confidence'"),
        ("d.txt", "v 1 nan Diving 0.5\n", "line 1: expected start <= end, and finite numbers"),
    ],
)
def test_detections_that_cannot_be_read(root, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match=message):
        run(thumos, tmp_path, "--root", root, "--detections", tmp_path / name)


def test_the_scores_are_those_of_the_metric(root):
    data = THUMOS14(root)
    rng = np.random.default_rng(3)
    by_video = {
        video: [
            thumos.Detection(s, s + rng.uniform(0.5, 2), rng.random(), int(rng.integers(2)))
            for s in rng.uniform(0, 5, 6)
        ]
        for video in data.videos
    }
    scores = thumos.score(data, by_video, (0.3, 0.5))
    expected = temporal_map(
        [thumos.as_tensors(by_video[video]) for video in data.videos],
        [item.target for item in data],
        (0.3, 0.5),
        [item.ignored for item in data],
    )
    assert [scores["mAP@0.3"], scores["mAP@0.5"]] == pytest.approx(expected.tolist())


# ------------------------------------------------------------------------- segments from maps


class Lamps(nn.Module):
    """The logit of class c is high where channel c is bright anywhere in the clip."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes
        self.relu = nn.ReLU()

    def forward(self, x):
        lit = self.relu(x - 0.5)
        scores = 40 * lit.flatten(2).amax(dim=2) - 4
        return scores[:, : self.classes]


@pytest.fixture
def lamps(monkeypatch):
    def build(classes, checkpoint=None):
        prepare = Preprocessing(size=(24, 32))
        return paper_tables.Network(Lamps(classes).eval(), {"lamps": "relu"}, prepare, True)

    monkeypatch.setitem(paper_tables.NETWORKS, "resnext101_3d", build)


def test_windows_cover_every_frame():
    for frames in range(1, 50):
        chunks = torch.arange(float(frames)).reshape(1, frames, 1, 1).split(7, dim=1)
        windows = list(thumos.windows_of(chunks))
        assert all(window.shape == (1, 16, 1, 1) for window in windows)
        assert {int(t) for window in windows for t in window.flatten()} == set(range(frames))


@pytest.mark.usefixtures("lamps")
def test_from_videos_to_segments(tmp_path):
    """Two lamps in two videos: the segments of the maps are when they are lit."""
    pytest.importorskip("av")
    write_thumos(tmp_path / "data", {n: r for n, r in THUMOS.items() if n != "Ambiguous"})
    for video in ("video_test_0000006", "video_test_0000011"):
        lit = [
            (channel, start, end)
            for channel, name in enumerate(("CliffDiving", "Diving"))
            for v, start, end in THUMOS[name]
            if v == video
        ]
        write_lit_video(tmp_path / "videos" / f"{video}.mkv", lit, seconds=6)
    report = run(
        thumos, tmp_path, "--root", tmp_path / "data", "--videos", tmp_path / "videos",
        "--methods", "HiResCAM", "--threshold", 0.4, "--min-length", 4, "--multi-label",
    )  # fmt: skip
    scores = report["scores"]
    assert list(scores) == ["HiResCAM", "whole video"]
    assert scores["HiResCAM"]["mAP@0.7"] == 1
    assert scores["whole video"]["mAP@0.3"] < 0.5
    written = json.loads((tmp_path / "thumos14-HiResCAM.json").read_text())["results"]
    (dive,) = written["video_test_0000011"]
    assert dive["label"] == "Diving"
    np.testing.assert_allclose(dive["segment"], [0.4, 1.6], atol=0.06)
    # What was written can be scored again.
    again = run(
        thumos, tmp_path / "again", "--root", tmp_path / "data",
        "--detections", tmp_path / "thumos14-HiResCAM.json",
    )  # fmt: skip
    assert again["scores"]["detections"] == scores["HiResCAM"]


@pytest.mark.usefixtures("lamps")
def test_overlapping_actions_in_a_folder_of_frames(tmp_path):
    """MultiTHUMOS with names of the checkpoint in another order."""
    pytest.importorskip("av")
    instances = {
        "Diving": [("video_test_0000006", 1.0, 3.0)],
        "Run": [("video_test_0000006", 2.0, 4.0)],
    }
    write_multithumos(tmp_path / "data", instances)
    # The network's classes are run, diving: their lamps are channels 0 and 1.
    path = tmp_path / "videos" / "video_test_0000006.mkv"
    write_lit_video(path, [(1, 1.0, 3.0), (0, 2.0, 4.0)], seconds=5)
    (tmp_path / "names.txt").write_text("run\ndiving\n")
    report = run(
        thumos, tmp_path, "--dataset", "multithumos", "--root", tmp_path / "data",
        "--videos", tmp_path / "videos", "--methods", "HiResCAM", "--multi-label",
        "--class-names", tmp_path / "names.txt",
    )  # fmt: skip
    assert report["scores"]["HiResCAM"]["mAP@0.7"] == 1


def test_a_missing_video(root, tmp_path, lamps):
    with pytest.raises(SystemExit, match=r"There is no video .*video_test_0000006\.mp4'"):
        run(thumos, tmp_path, "--root", root)


def test_random_weights_are_said(root):
    options = thumos.parse(["--root", str(root)])
    text = thumos.describe(THUMOS14(root), options)
    assert text.endswith("resnext101_3d has random weights: it has learned nothing.")
