"""Metrics of two maps, and what they must return."""

import pytest
import torch

from captum_3dcam.sanity import SIMILARITIES, MapComparison


def test_the_metrics_are_computed_by_name():
    a, b = torch.rand(2, 3, 1, 6, 6)
    similarities = MapComparison().compare(a, b)
    assert list(similarities) == list(SIMILARITIES)
    for name, metric in SIMILARITIES.items():
        assert torch.equal(similarities[name], metric(a, b))


@pytest.mark.parametrize(
    ("metric", "received"),
    [(lambda a, b: 1.0, "float"), (lambda a, b: a, r"shape \(2, 1, 4\)")],
)
def test_metrics_return_one_value_per_sample(metric, received):
    x = torch.rand(2, 1, 4)
    expected = rf"must return a tensor \(N,\), here \(2,\); 'mine' returned {received}"
    with pytest.raises(ValueError, match=expected):
        MapComparison({"mine": metric}).compare(x, x)
