"""Ambiguous segments: what does not count in temporal mAP, by hand and by a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam import metrics


def video(segments, labels, scores=None):
    result = {
        "segments": torch.tensor(segments, dtype=torch.float64).reshape(-1, 2),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return result if scores is None else result | {"scores": torch.tensor(scores).double()}


def spans(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)


TARGET = [video([[0, 10], [20, 30]], [0, 0])]
PREDS = [video([[40, 50], [0, 10], [60, 70]], [0, 0, 0], [0.9, 0.8, 0.7])]


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        (None, 1 / 4),  # wrong, right, wrong; one of two ground truths
        ([spans()], 1 / 4),
        ([spans((49, 55))], 1 / 2),  # the first overlaps it by 1
        ([spans((50, 55))], 1 / 4),  # touches it only
        ([spans((65, 66))], 1 / 4),  # the last one is below the right one anyway
        ([spans((5, 6), (45, 46))], 1 / 2),  # what is right counts, ambiguous or not
        ([spans((0, 100))], 1 / 2),
    ],
)
def test_a_wrong_detection_that_overlaps_does_not_count(ignored, expected):
    assert metrics.temporal_map(PREDS, TARGET, ignored=ignored).item() == pytest.approx(expected)


def test_only_of_its_own_video():
    target = [*TARGET, video([], [])]
    preds = [*PREDS, video([[0, 10]], [0], [0.95])]
    assert metrics.temporal_map(preds, target).item() == pytest.approx(1 / 6)
    ignored = [spans((0, 100)), spans()]
    assert metrics.temporal_map(preds, target, ignored=ignored).item() == pytest.approx(1 / 4)
    ignored = [spans(), spans((0, 100))]
    assert metrics.temporal_map(preds, target, ignored=ignored).item() == pytest.approx(1 / 4)
    both = [spans((0, 100))] * 2
    assert metrics.temporal_map(preds, target, ignored=both).item() == pytest.approx(1 / 2)


def test_the_matches_are_without_them():
    hits, count = metrics.match_detections(PREDS, TARGET, 0, 0.5)
    assert (hits.tolist(), count) == ([False, True, False], 2)
    hits, count = metrics.match_detections(PREDS, TARGET, 0, 0.5, [spans((45, 46))])
    assert (hits.tolist(), count) == ([True, False], 2)


def test_depends_on_the_threshold():
    """At a tIoU that it does not reach, a detection is wrong, and the ambiguous segment counts."""
    target, preds = [video([[0, 10]], [0])], [video([[0, 6], [0, 9]], [0, 0], [0.9, 0.8])]
    ignored = [spans((0, 2))]
    assert metrics.temporal_map(preds, target, (0.5, 0.8)).tolist() == [1.0, 0.5]
    assert metrics.temporal_map(preds, target, (0.5, 0.8), ignored).tolist() == [1.0, 1.0]


@given(seed=st.integers(0, 10**6))
def test_equals_the_map_without_the_detections_that_do_not_count(seed):
    rng = np.random.default_rng(seed)

    def some(count):
        starts = rng.integers(0, 60, count)
        return np.stack([starts, starts + rng.integers(1, 20, count)], axis=1)

    target = [video(some(4), rng.integers(0, 2, 4).tolist()) for _ in range(3)]
    preds = [video(some(9), rng.integers(0, 2, 9).tolist(), rng.random(9)) for _ in range(3)]
    ignored = [torch.from_numpy(some(2)) for _ in range(3)]
    for tiou in (0.1, 0.5):
        precisions = []
        for label in sorted({int(v) for each in target for v in each["labels"]}):
            ranked = sorted(
                (-float(s), number, i)
                for number, each in enumerate(preds)
                for i, (s, v) in enumerate(zip(each["scores"], each["labels"], strict=True))
                if v == label
            )
            hits, count = metrics.match_detections(preds, target, label, tiou)
            counted = []
            for (_, number, i), hit in zip(ranked, hits.tolist(), strict=True):
                start, end = preds[number]["segments"][i].tolist()
                overlaps = any(min(end, e) > max(start, s) for s, e in ignored[number].tolist())
                if hit or not overlaps:
                    counted.append(hit)
            found, _ = metrics.match_detections(preds, target, label, tiou, ignored)
            assert found.tolist() == counted
            precisions.append(
                float(metrics.average_precision(torch.tensor(counted, dtype=torch.bool), count))
            )
        mean = metrics.temporal_map(preds, target, (tiou,), ignored).item()
        assert mean == pytest.approx(np.mean(precisions))


def test_ignored_segments_of_another_form():
    with pytest.raises(ValueError) as error:
        metrics.temporal_map(PREDS, TARGET, ignored=[])
    assert str(error.value) == (
        "Expected ignored segments of 1 videos; received 0. A video without any has "
        "torch.zeros(0, 2)."
    )
    with pytest.raises(ValueError, match=r"ignored\[0\]: expected segments \(A, 2\); received"):
        metrics.temporal_map(PREDS, TARGET, ignored=[torch.zeros(3)])
    with pytest.raises(TypeError, match=r"ignored\[0\]"):
        metrics.temporal_map(PREDS, TARGET, ignored=[[0, 1]])
    with pytest.raises(TypeError, match="ignored"):
        metrics.temporal_map(PREDS, TARGET, ignored=3)
