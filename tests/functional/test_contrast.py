"""Log-odds and margins: from their definitions, in any shape, and where classes are certain."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from captum_3dcam.functional import contrast


def naive_log_odds(row):
    """Of one sample's scores, by the definition."""
    return [
        row[c] - math.log(sum(math.exp(y - max(others)) for y in others)) - max(others)
        for c in range(len(row))
        for others in [[y for k, y in enumerate(row) if k != c]]
    ]


scores_of_classes = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


@given(scores_of_classes)
def test_log_odds_are_what_the_definition_says(row):
    result = contrast(torch.tensor([row], dtype=torch.float64))
    assert_close(result, torch.tensor([naive_log_odds(row)], dtype=torch.float64))


@given(scores_of_classes, st.floats(-50, 50))
def test_log_odds_keep_the_order_and_do_not_see_a_constant(row, constant):
    scores = torch.tensor([row], dtype=torch.float64)
    result = contrast(scores)
    order = scores.argsort(dim=1, stable=True)
    sorted_result = result.gather(1, order)[0]
    assert (sorted_result.diff() >= -1e-9).all()
    assert_close(contrast(scores + constant), result, atol=1e-9, rtol=1e-9)


def test_the_gradient_is_that_of_the_log_probability_over_the_rest():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    for c in range(5):
        (of_odds,) = torch.autograd.grad(contrast(scores)[:, c].sum(), scores)
        (of_logarithm,) = torch.autograd.grad(scores.log_softmax(1)[:, c].sum(), scores)
        rest = 1 - scores.softmax(1)[:, [c]]
        assert_close(of_odds * rest, of_logarithm)


def test_a_certain_class_has_a_gradient():
    scores = torch.tensor([[200.0, 3.0, 1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(contrast(scores)[:, 0].sum(), scores)
    rivals = torch.tensor([3.0, 1.0]).softmax(0)
    assert_close(gradient, torch.tensor([[1.0, *(-rivals).tolist()]]))
    (saturated,) = torch.autograd.grad(scores.log_softmax(1)[:, 0].sum(), scores)
    assert not saturated.any()


def test_a_margin_to_one_rival_and_to_one_for_each_sample():
    scores = torch.tensor([[1.0, 4.0, 9.0], [2.0, 2.0, 5.0]])
    assert contrast(scores, 1).tolist() == [[-3, 0, 5], [0, 0, 3]]
    for rivals in ([1, 2], (1, 2), torch.tensor([1, 2])):
        assert contrast(scores, rivals).tolist() == [[-3, 0, 5], [-3, -3, 0]]


def test_positions_of_a_segmentation_are_contrasted_apart():
    scores = torch.randn(2, 3, 4, 5)
    for rival in (None, 2, [0, 1]):
        result = contrast(scores, rival)
        assert result.shape == scores.shape
        assert_close(result[:, :, 1, 3], contrast(scores[:, :, 1, 3], rival))


def test_a_single_score_is_its_own_log_odds():
    for shape in ((3,), (3, 1), (3, 1, 4)):
        scores = torch.randn(shape)
        assert_close(contrast(scores), scores)


def test_half_precision_becomes_single():
    scores = torch.tensor([[1.0, 2.0]], dtype=torch.float16)
    assert contrast(scores).dtype == contrast(scores, 0).dtype == torch.float32
    assert_close(contrast(scores), torch.tensor([[-1.0, 1.0]]))


def test_two_classes_are_each_others_rival():
    scores = torch.randn(4, 2)
    assert_close(contrast(scores)[:, 0], contrast(scores, 1)[:, 0])


@pytest.mark.parametrize(
    ("scores", "rival", "error", "text"),
    [
        (torch.zeros(2, 3), "rock", ValueError, r"rival='rock': expected an integer, 0 or more"),
        (torch.zeros(2, 3), -1, ValueError, r"rival=-1: expected an integer, 0 or more"),
        (torch.zeros(2, 3), 3, IndexError, r"rival=\[3\] is out of range: .* classes 0 to 2"),
        (torch.zeros(2, 3), [0, 1, 2], ValueError, "one class, or one for each of the 2 samples"),
        (torch.zeros(2, 3), [], ValueError, "one class, or one for each of the 2 samples"),
        (torch.zeros(2, 1), 0, ValueError, "Leave rival out: a single score is a logit"),
        (torch.zeros(2), 0, ValueError, "Leave rival out: a single score is a logit"),
        (torch.zeros(2, 3).long(), None, TypeError, "scores"),
    ],
)
def test_errors(scores, rival, error, text):
    with pytest.raises(error, match=text):
        contrast(scores, rival)
