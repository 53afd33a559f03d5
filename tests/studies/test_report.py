"""Tables, JSON files and intervals of the studies."""

import math

import numpy as np
import pytest

import _intervals
import _methods
import _report
from captum_3dcam.evaluation import Bootstrap


def test_every_method_is_studied():
    names = {method.__name__ for method in _methods.METHODS.values()}
    assert names == {
        "LayerwiseGlobalLocalCAM",
        "CounterfactualCAM",
        "LayerwiseGradCAM",
        "LayerwiseGradCAMPlusPlus",
        "LayerwiseLayerCAM",
        "LayerwiseHiResCAM",
        "LayerwiseXGradCAM",
        "LayerwiseWhatWhereCAM",
    }


def test_an_interval_is_of_means_over_resampled_rows():
    values = np.array([[0.0, 1.0], [4.0, np.nan], [2.0, 2.0]])
    bootstrap = Bootstrap(resamples=40, seed=3)
    means = []
    for draw in bootstrap.counts(3):
        drawn = [v for row, times in zip(values, draw, strict=True) for v in list(row) * int(times)]
        means.append(np.nanmean(drawn))
    interval = _intervals.mean_interval(values, bootstrap)
    expected = (9 / 5, *np.quantile(means, [0.025, 0.975]))
    assert interval == pytest.approx(expected)


def test_the_mean_of_nan_is_nan_and_null_in_json():
    interval = _intervals.mean_interval(np.array([np.nan, np.nan]), Bootstrap(resamples=5))
    assert all(math.isnan(x) for x in interval)
    assert _report.to_json({"x": interval})["x"] == {"value": None, "low": None, "high": None}


def test_a_bar_in_a_cell_is_escaped():
    assert _report.table(["a", "b"], [["x|y", 1]]).splitlines()[-1] == "| x\\|y | 1 |"
