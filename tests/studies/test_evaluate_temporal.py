"""The temporal study: profiles, segments and scores by hand, and a small run."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from study_helpers import Painter, cells, painting, run
from torch import nn

import evaluate_temporal as temporal
from _report import to_json
from captum_3dcam.evaluation import Bootstrap, Interval
from captum_3dcam.metrics import temporal_hit, temporal_map


class Lamps(nn.Module):
    """The logit of class c is proportional to the maximum of channel c."""

    def forward(self, clips):
        return 40 * clips.amax(dim=(2, 3, 4))


class LitVideos:
    """Three lamps: 0 is lit in [10, 30) and [60, 80), 1 in [40, 60); 90 frames, of 2 x 2 px."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        segments = torch.tensor([[10, 30], [60, 80], [40, 60]]) + index
        labels = torch.tensor([0, 0, 1])
        video = torch.zeros(3, 90, 2, 2)
        for label, (start, end) in zip(labels, segments, strict=True):
            video[label, start:end] = 1.0
        return SimpleNamespace(video=video, labels=labels, segments=segments)


def target_channel(inputs, targets):
    return inputs[torch.arange(len(inputs)), targets][:, None]


def test_windows_cover_every_frame():
    for frames in range(16, 60):
        starts = temporal.window_starts(frames)
        covered = {t for start in starts for t in range(start, start + 16)}
        assert covered == set(range(frames))
        assert starts == sorted(set(starts))
    with pytest.raises(ValueError, match="needs 16 frames, one window; this one has 15"):
        temporal.window_starts(15)


def test_overlapping_windows_are_averaged():
    windows = SimpleNamespace(starts=[0, 8, 10], frames=26)
    profile = temporal.stitch(windows, torch.tensor([[1.0], [4.0], [7.0]]).expand(-1, 16))
    expected = [1.0] * 8 + [2.5] * 2 + [4.0] * 6 + [5.5] * 8 + [7.0] * 2
    assert profile.tolist() == expected


def test_a_window_is_weighted_by_its_probability_not_by_the_maximum_of_its_map():
    clips = torch.arange(2).float().reshape(2, 1, 1, 1, 1).expand(2, 1, 16, 2, 2)
    windows = temporal.Windows([0, 16], 32, clips, torch.tensor([[0.8, 0.2], [0.5, 0.0]]), [0, 1])
    requests = []

    def paint(inputs, targets):
        requests.extend(zip(inputs.amax(dim=(1, 2, 3, 4)).tolist(), targets, strict=True))
        ramp = torch.arange(16.0).reshape(1, 1, 16, 1, 1)
        return ramp * 100**inputs

    profiles = temporal.explained_profiles(windows, Painter(paint, []))
    ramp = torch.arange(16) / 15
    torch.testing.assert_close(profiles[0], torch.cat([0.8 * ramp, 0.5 * ramp]))
    torch.testing.assert_close(profiles[1], torch.cat([0.2 * ramp, 0 * ramp]))
    assert sorted(requests) == [(0.0, 0), (0.0, 1), (1.0, 0)]  # none of probability 0


def test_negligible_probabilities_and_thresholded_classes():
    class Fixed(nn.Module):
        def forward(self, clips):
            return torch.tensor([[0.90, 0.06, 0.04], [0.4, 0.3, 0.3], [0.02, 0.96, 0.02]]).log()

    windows = temporal.classify_windows(Fixed(), torch.zeros(3, 32, 2, 2), 0.5)
    assert windows.starts == [0, 8, 16]
    expected = [[0.90, 0.06, 0.0], [0.4, 0.3, 0.3], [0.0, 0.96, 0.0]]
    torch.testing.assert_close(windows.probabilities, torch.tensor(expected))
    assert windows.classes == [0, 1]
    assert temporal.classify_windows(Fixed(), torch.zeros(3, 32, 2, 2), 0.95).classes == [1]


def test_a_map_that_is_the_ground_truth_finds_all_segments():
    options = temporal.parse([])
    methods = {
        "ground truth": painting(target_channel),
        "zero": painting(lambda inputs, targets: torch.zeros_like(inputs[:, :1])),
    }
    rows, ground_truth = temporal.detect_in_videos(Lamps(), LitVideos(), methods, options)
    bootstrap = Bootstrap(resamples=20)
    summary = temporal.summarize(rows["ground truth"], ground_truth, bootstrap)
    assert set(summary.values()) == {Interval(1.0, 1.0, 1.0)}
    for video, detected in zip(ground_truth, rows["ground truth"], strict=True):
        order = detected.detections["segments"][:, 0].argsort()
        assert torch.equal(
            detected.detections["segments"][order], video["segments"].sort(dim=0).values
        )
    zero = temporal.summarize(rows["zero"], ground_truth, bootstrap)
    assert set(zero.values()) == {Interval(0.0, 0.0, 0.0)}
    # [0, 90) against a segment of 20 frames: tIoU 2/9. Class 0 has two segments, so recall 1/2.
    whole = temporal.summarize(rows["whole video"], ground_truth, bootstrap)
    assert [whole[f"mAP@{t}"].value for t in (0.1, 0.2, 0.3)] == [0.75, 0.75, 0.0]
    assert whole["hit"].value == pytest.approx((40 / 90 + 20 / 90) / 2)
    probability = temporal.summarize(rows["probability"], ground_truth, bootstrap)
    assert 0 < probability["mAP"].value < 1


def random_detections(rng, count, labels=3):
    starts = rng.integers(0, 40, count)
    ends = starts + rng.integers(1, 30, count)
    rows = zip(starts, ends, rng.random(count), rng.integers(0, labels, count), strict=True)
    return temporal.detections([tuple(map(float, row)) for row in rows])


def test_every_resample_has_the_temporal_map_of_its_repeated_videos():
    rng = np.random.default_rng(5)
    predicted = [random_detections(rng, n) for n in (9, 0, 6, 12)]
    # The third class is in the last video alone, so that some resamples do not have it.
    ground_truth = [
        random_detections(rng, n, labels) for n, labels in ((4, 2), (2, 2), (0, 2), (9, 3))
    ]
    counts = rng.multinomial(4, [0.25] * 4, size=25).astype(float)
    counts = counts[(counts[:, [0, 1, 3]]).any(axis=1)]
    assert (ground_truth[3]["labels"] == 2).any()
    assert (counts[:, 3] == 0).any()
    values = temporal.mean_average_precisions(predicted, ground_truth, counts)
    for resample, precisions in zip(counts.astype(int), values, strict=True):
        lists = [
            [video for video, times in zip(side, resample, strict=True) for _ in range(times)]
            for side in (predicted, ground_truth)
        ]
        expected = temporal_map(*lists, temporal.TIOUS)
        np.testing.assert_allclose(precisions, expected)
    assert 0 < values[:, 0].mean() < 1


def test_average_precision_by_hand():
    correct = np.array([True, False, True])
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    precisions = temporal.average_precisions(weights, correct, np.array([2.0, 3.0, 0.0]))
    assert precisions[:2] == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert math.isnan(precisions[2])


def test_a_hit_is_shared_among_the_highest_frames():
    ground_truth = {"segments": torch.tensor([[2.0, 4.0]]), "labels": torch.tensor([7])}
    profiles = torch.rand(20, 6)
    expected = temporal_hit(profiles, [ground_truth["segments"]] * 20)
    hits = [temporal.hits({7: profile}, ground_truth).tolist() for profile in profiles]
    assert hits == [[float(hit)] for hit in expected]
    assert 0 < sum(hit for (hit,) in hits) < 20
    plateau = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    assert temporal.hits({7: plateau}, ground_truth).tolist() == [0.5]
    assert temporal.hits({7: torch.zeros(6)}, ground_truth).tolist() == [0.0]
    assert temporal.hits({3: plateau}, ground_truth).tolist() == []  # predicted, not present


def test_random_segments_are_of_the_same_classes():
    like = random_detections(np.random.default_rng(0), 40)
    segments = temporal.random_segments(like, 50, np.random.default_rng(1))
    assert torch.equal(segments["labels"], like["labels"])
    starts, ends = segments["segments"].T
    assert (starts < ends).all()
    assert starts.min() >= 0
    assert ends.max() <= 50
    assert len(set(segments["scores"].tolist())) == 40


def test_the_whole_study(tmp_path):
    arguments = ["--videos", 2, "--methods", "GradCAM", "WhatWhere", "--layers", "layer3", "layer4"]
    report = run(temporal, tmp_path / "a", *arguments)
    run(temporal, tmp_path / "b", *arguments)
    for name in ("temporal.json", "temporal.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a/temporal.json").read_text()) == to_json(report)
    assert list(report["scores"]) == [
        "GradCAM",
        "WhatWhere",
        "probability",
        "whole video",
        "random",
    ]
    assert report["segments"]["ground truth"] == 8
    scores = report["scores"]["GradCAM"]
    assert scores["mAP"].value > report["scores"]["random"]["mAP"].value
    row = cells((tmp_path / "a/temporal.md").read_text(), "GradCAM")[0]
    assert row[0] == f"{scores['mAP@0.1'].value:.3f}"
    assert row[7:] == [str(scores["mAP"]), str(scores["hit"]), str(report["segments"]["GradCAM"])]


def test_too_few_videos_are_refused(capsys):
    with pytest.raises(SystemExit):
        temporal.parse(["--videos", "0"])
    assert "--videos: expected an integer of at least 1; got '0'" in capsys.readouterr().err
