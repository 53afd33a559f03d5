"""Intervals against a loop over resamples."""

import numpy as np
import pytest
from evaluation_samples import FirstChannel, Reversed, random_samples

from captum_3dcam.evaluation import IOU_THRESHOLDS, MAX_BOX_ACC_IOUS, Bootstrap, evaluate


def naive_means(scores, chosen):
    """Every score over the samples of one resample, with loops."""
    deltas = dict(zip(IOU_THRESHOLDS, range(len(IOU_THRESHOLDS)), strict=True))
    steps = range(scores.tube_iou.shape[1])
    average = lambda values: sum(values) / len(chosen)  # noqa: E731
    result = {}
    for name in ("energy", "hit", "hit_intersect", "ap"):
        result[name] = average([getattr(scores, name)[i] for i in chosen])
    for delta, d in deltas.items():
        table = scores.accuracy[:, d]
        result[f"box_acc@{delta}"] = max(average([table[i, k] for i in chosen]) for k in steps)
        result[f"box_acc@{delta}_per_sample"] = average([max(table[i]) for i in chosen])
    for suffix in ("", "_per_sample"):
        parts = [result[f"box_acc@{delta}{suffix}"] for delta in MAX_BOX_ACC_IOUS]
        result[f"max_box_acc{suffix}"] = sum(parts) / 3
    tubes = scores.tube_iou
    result["tube_iou"] = max(average([tubes[i, k] for i in chosen]) for k in steps)
    result["tube_iou_per_sample"] = average([max(tubes[i]) for i in chosen])
    return result


@pytest.mark.parametrize("group_size", [1, 2])
def test_intervals_equal_a_loop_over_resamples(group_size):
    result = evaluate(
        {"map": FirstChannel(), "reversed": Reversed()},
        random_samples(6),
        bootstrap=Bootstrap(40, 0.8, seed=5, group_size=group_size),
    )
    groups = np.arange(6).reshape(-1, group_size)
    drawn = np.random.default_rng(5).integers(len(groups), size=(40, len(groups)))
    for row, scores in result.scores.items():
        value = naive_means(scores, range(6))
        draws = [naive_means(scores, groups[draw].reshape(-1)) for draw in drawn]
        assert result.summary[row].keys() == value.keys()
        for name, interval in result.summary[row].items():
            ends = np.percentile([draw[name] for draw in draws], [10, 90])
            assert interval == pytest.approx((value[name], *ends)), (row, name)
    energy = result.summary["map"]["energy"]
    assert energy.low < energy.value < energy.high


def test_equal_samples_give_intervals_of_zero_width():
    """All samples have the same scores, whatever is drawn."""
    clips = random_samples(1) * 5
    for name, interval in evaluate({"map": FirstChannel()}, clips).summary["map"].items():
        assert interval.low == pytest.approx(interval.high), name


def test_a_wider_confidence_gives_a_wider_interval_and_another_seed_another():
    samples = random_samples(8)
    bootstraps = [Bootstrap(confidence=0.5), Bootstrap(), Bootstrap(seed=1)]
    result = [
        evaluate({"map": FirstChannel()}, samples, bootstrap=bootstrap).summary["map"]["energy"]
        for bootstrap in bootstraps
    ]
    assert result[1].low < result[0].low < result[0].high < result[1].high
    assert result[1] != result[2]
    assert result[1].value == result[2].value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, "resamples=0: expected an integer, 1 or more"),
        ({"group_size": 0}, "group_size=0: expected an integer, 1 or more"),
        ({"confidence": 95}, r"confidence=95: expected a fraction in \(0, 1\), such as 0.95"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        Bootstrap(**options)


def test_samples_that_cannot_be_grouped_are_an_error_before_any_work():
    attribution = FirstChannel()
    with pytest.raises(ValueError, match="group_size=2 does not divide the 3 samples"):
        evaluate({"map": attribution}, random_samples(3), bootstrap=Bootstrap(group_size=2))
    assert not attribution.targets
