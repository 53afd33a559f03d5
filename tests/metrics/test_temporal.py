"""Temporal hits and mAP against worked numbers and loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import metrics


def video(segments, labels, scores=None):
    result = {
        "segments": torch.tensor(segments, dtype=torch.float32).reshape(-1, 2),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return result if scores is None else result | {"scores": torch.tensor(scores)}


def test_temporal_hit_by_hand():
    profiles = torch.tensor([[0.0, 1, 5, 5], [3.0, 0, 0, 0], [1.0, 1, 1, 1]])
    segments = [torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 4]]), torch.tensor([[0, 4]])]
    assert metrics.temporal_hit(profiles, segments).tolist() == [True, False, False]
    assert metrics.temporal_hit(profiles, segments, 1.0).tolist() == [True, False, False]
    assert metrics.temporal_hit(profiles, segments, 1.5).tolist() == [True, True, False]
    metric = metrics.TemporalHit(tolerance=1.5)
    metric.update(profiles[:1], segments[:1])
    metric.update(profiles[1:], segments[1:])
    assert metric.compute().item() == pytest.approx(2 / 3)


def test_average_precision_by_hand():
    hits = torch.tensor([True, False, True, False, True])
    # Precision 1, 1/2, 2/3, 1/2, 3/5 at recall 1/4, 1/4, 2/4, 2/4, 3/4.
    assert metrics.average_precision(hits, 4).item() == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # The precision of a later hit, where it is higher, counts for an earlier one.
    late = torch.tensor([False, True, True])
    assert metrics.average_precision(late, 2).item() == pytest.approx(2 / 3)
    assert metrics.average_precision(hits[:0], 2) == 0


def test_a_ground_truth_is_matched_once_and_by_the_highest_score():
    target = [video([[0, 10]], [1])]
    preds = [video([[0, 10], [0, 9]], [1, 1], [0.5, 0.9])]
    assert metrics.temporal_map(preds, target).item() == 1
    target = [video([[0, 10], [20, 30]], [1, 1])]
    # Both detections overlap the first segment only: the second is a false positive.
    assert metrics.temporal_map(preds, target).item() == 0.5


def test_a_detection_takes_the_best_segment_that_is_free():
    target = [video([[0, 10], [0, 7]], [1, 1])]
    preds = [video([[0, 10], [0, 9]], [1, 1], [0.9, 0.8])]
    # The second overlaps the first segment more (.9), which is taken, but also the other (.78).
    assert metrics.temporal_map(preds, target, (0.5, 0.8)).tolist() == [1, 0.5]


def test_classes_and_videos_are_separate():
    target = [video([[0, 4]], [0]), video([[0, 4]], [1]), video([], [])]
    preds = [
        video([[0, 4], [0, 4]], [1, 5], [0.9, 0.9]),  # of a class of another video, and of no video
        video([[0, 4]], [1], [0.8]),
        video([[0, 4]], [1], [0.7]),
    ]
    per_class = metrics.temporal_average_precision(preds, target, (0.5,))
    assert {label: float(ap) for label, ap in per_class.items()} == {0: 0, 1: 0.5}
    assert metrics.temporal_map(preds, target).item() == 0.25


def naive_map(preds, target, tiou):
    """The protocol written with lists."""
    precisions = []
    for label in sorted({int(v) for t in target for v in t["labels"]}):
        free = [
            [
                s
                for s, v in zip(t["segments"].tolist(), t["labels"].tolist(), strict=True)
                if v == label
            ]
            for t in target
        ]
        count = sum(map(len, free))
        ranked = sorted(
            (-score, number, segment)
            for number, p in enumerate(preds)
            for score, segment, v in zip(
                p["scores"].tolist(), p["segments"].tolist(), p["labels"].tolist(), strict=True
            )
            if v == label
        )
        points, true_positives = [], 0
        for rank, (_, number, (start, end)) in enumerate(ranked, 1):
            best = None
            for candidate in free[number]:
                common = max(0, min(end, candidate[1]) - max(start, candidate[0]))
                iou = common / (end - start + candidate[1] - candidate[0] - common)
                if iou >= tiou and (best is None or iou > best[0]):
                    best = iou, candidate
            if best:
                free[number].remove(best[1])
                true_positives += 1
            points.append((true_positives / count, true_positives / rank))
        area, recall = 0.0, 0.0
        for r, _ in points:
            area += (r - recall) * max(p for q, p in points if q >= r)
            recall = r
        precisions.append(area)
    return np.mean(precisions)


def random_videos(seed, videos=4):
    generator = np.random.default_rng(seed)

    def segments(count):
        start = generator.random(count) * 10
        return np.stack([start, start + 0.5 + 4 * generator.random(count)], axis=1).tolist()

    def one(count, scored):
        labels = generator.integers(0, 3, count).tolist()
        return video(segments(count), labels, generator.random(count).tolist() if scored else None)

    preds = [one(generator.integers(0, 9), True) for _ in range(videos)]
    return preds, [one(generator.integers(1, 5), False) for _ in range(videos)]


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_map_equals_the_protocol_in_lists(seed):
    preds, target = random_videos(seed)
    tious = (0.1, 0.3, 0.5)
    expected = [naive_map(preds, target, tiou) for tiou in tious]
    assert metrics.temporal_map(preds, target, tious).tolist() == pytest.approx(expected)
    metric = metrics.TemporalMAP(tious)
    metric.update(preds[:1], target[:1])
    metric.update(preds[1:], target[1:])
    result = metric.compute()
    assert [float(v) for v in result["per_tiou"]] == pytest.approx(expected)
    assert result["map"].item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        ([], [video([[0, 1]], [0])], "of the same videos; received 0 and 1"),
        (
            [video([[0, 1]], [0])],
            [video([[0, 1]], [0])],
            r"preds\[0\]: expected segments.*'scores': None",
        ),
        (
            [video([], [], [])],
            [{"segments": torch.zeros(2), "labels": torch.zeros(2)}],
            r"target\[0\]: expected",
        ),
        ([video([], [], [])], [video([], [])], "needs a ground-truth segment"),
    ],
)
def test_errors(preds, target, message):
    with pytest.raises(ValueError, match=message):
        metrics.temporal_map(preds, target)


NAN_LABEL = {"segments": torch.zeros(1, 2), "labels": torch.tensor([torch.nan])}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.temporal_map(None, []), TypeError, "preds=None: expected a list of dicts"),
        (lambda: metrics.temporal_map([3], [3]), TypeError, r"preds\[0\] is 3; expected a dict of"),
        (
            lambda: metrics.temporal_map([{"segments": [[0, 1]]}], [{}]),
            TypeError,
            r"Expected preds\[0\]\['segments'\] as a tensor; got list",
        ),
        (
            lambda: metrics.temporal_map([video([], [], [])], [video([[0, 1]], [0])], ()),
            ValueError,
            r"tiou_thresholds=\(\) is empty or not in \(0, 1\]",
        ),
        (
            lambda: metrics.temporal_map([video([], [], [])], [NAN_LABEL]),
            ValueError,
            r"target\[0\]: expected finite labels; received NaN or Inf",
        ),
        (
            lambda: metrics.match_detections([], [], 0.5, 0.5),
            ValueError,
            "label=0.5: expected an integer",
        ),
        (
            lambda: metrics.average_precision(torch.ones(2), 1),
            ValueError,
            r"Expected hits, bool \(M,\), by falling score; received shape \(2,\) of torch.float32",
        ),
        (
            lambda: metrics.TemporalMAP().compute(),
            ValueError,
            r"TemporalMAP has no video: call update\(\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_arguments_that_do_not_fit_raise(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_videos_have_no_detections():
    hits, ground_truths = metrics.match_detections([], [], 0, 0.5)
    assert hits.tolist() == []
    assert ground_truths == 0


def test_average_precision_without_a_ground_truth():
    with pytest.raises(ValueError, match="at least one ground truth; received 0"):
        metrics.average_precision(torch.tensor([True]), 0)
