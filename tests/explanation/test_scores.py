"""Scores and probabilities of the classes, and the names of classes."""

import pytest
import torch

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation._scores import RETURNS, Scores, check_scores
from captum_3dcam.explanation._target import Target

SCORES = torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 0.25]])


def test_probabilities():
    logits, likely, values = (Scores([], returns) for returns in RETURNS)
    expected = SCORES.exp() / SCORES.exp().sum(1, keepdim=True)
    torch.testing.assert_close(logits.normalize(SCORES), expected)
    for target in range(3):
        torch.testing.assert_close(logits.probabilities(SCORES, target), expected[:, target])
        assert torch.equal(likely.probabilities(SCORES, target), SCORES[:, target])
        assert values.probabilities(SCORES, target).isnan().all()
    assert likely.normalize(SCORES) is SCORES
    for single in (SCORES[:, :1], SCORES[:, 0]):
        expected = 1 / (1 + (-single.flatten()).exp())
        torch.testing.assert_close(logits.probabilities(single, None), expected)


def test_a_function_of_the_output_has_no_probability():
    for returns in RETURNS:
        scores = Scores([], returns)
        assert scores.probabilities(SCORES, lambda output: output[:, 1]).isnan().all()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), [[1, 0]]),
        (Target(top=2), [[1, 0], [2, 2]]),
        (Target((2, -1)), [2, -1]),
    ],
)
def test_the_targets_of_all_samples(target, expected):
    assert Scores([], "logits").targets(SCORES, target) == expected


def test_a_single_score_needs_no_target():
    for scores in (SCORES[:, 0], SCORES[:, :1]):
        assert Scores([], "logits").targets(scores, Target()) == [None]


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (SCORES, Target((3,)), r"target: target 3 is out of range: .* takes 0 to 2"),
        (SCORES, Target(((1, 2),)), r"target: target \(1, 2\) does not fit an output of shape"),
        (SCORES, Target(top=4), "target: k must be from 1 to the 3 classes; received 4"),
        (SCORES[:, :, None], Target(), r"target: An output of shape \(2, 3, 1\) needs a target"),
        (SCORES[:, :, None], Target(top=2), r"target: attribute_top_k needs scores of shape"),
    ],
)
def test_targets_that_do_not_fit(scores, target, message):
    with pytest.raises(ArgumentError, match=message):
        Scores([], "logits").targets(scores, target)


def test_predictions_of_each_sample():
    rows = Scores(["run", "golf"], "logits").predictions(SCORES, [[1, 0], 2])
    probabilities = SCORES.softmax(1)
    assert [[each.target for each in row] for row in rows] == [[1, 2], [0, 2]]
    assert [[each.name for each in row] for row in rows] == [
        ["golf", "class 2"],
        ["run", "class 2"],
    ]
    assert [[each.score for each in row] for row in rows] == [[3.0, 2.0], [0.5, 0.25]]
    assert rows[1][0].probability == pytest.approx(probabilities[1, 0].item())


@pytest.mark.parametrize(
    ("target", "name"),
    [(0, "run"), (1, "golf"), (2, "class 2"), (-1, "golf"), (-3, "class -3"),
     ((0, 1), "class (0, 1)"), (None, "score"), (len, "len")],
)  # fmt: skip
def test_names_of_classes(target, name):
    assert Scores(["run", "golf"], "logits").class_name(target) == name
    if target == -1:  # names of some classes: the last one is not known
        assert Scores(["run", "golf"], "logits", are_some=True).class_name(-1) == "class -1"


# ----------------------------------------------------------------------------- scores in range

ALREADY = (
    "The model's scores are from 0.25 to 0.75, and their sum over the classes is 1: these are "
    'probabilities already. Pass returns="probabilities".'
)
NEVER = (
    "The model's scores are from -600 to 2: no classifier is trained to such logits. Check the "
    "preprocessing (mean, standard deviation), and whether the weights are loaded."
)
SEVERAL = (
    "The model's scores are from 0.1 to 0.9: these seem to be probabilities of a multi-label "
    'network. If so, pass returns="probabilities"; as logits they would be normalized again.'
)
NOT = (
    "The model's scores are from -1 to 3: these are no probabilities. If the model returns logits, "
    'leave out returns="probabilities".'
)


@pytest.mark.parametrize(
    ("scores", "returns", "message"),
    [
        ([[-1.0, 3.0]], "logits", None),
        ([[0.25, 0.75]], "logits", ALREADY),
        ([[0.25, 0.75]], "probabilities", None),
        ([[0.25, 0.25]], "logits", None),
        ([[0.25, 0.9, 0.1, 0.75, 0.3]], "logits", SEVERAL),
        ([[0.25, 0.9, 0.1, 0.75, 0.3]], "probabilities", None),
        ([[0.25, 1.9, 0.1, 0.75, 0.3]], "logits", None),
        ([[0.25, 0.75], [0.2, 0.2]], "logits", None),
        ([[-600.0, 2.0]], "logits", NEVER),
        ([[-499.0, 499.0]], "logits", None),
        ([[-1.0, 3.0]], "probabilities", NOT),
        ([[0.0, 1.005]], "probabilities", None),
        ([[1.02, 0.0]], "probabilities", NOT.replace("-1 to 3", "0 to 1.02")),
        ([[900.0]], "logits", None),
        ([900.0], "logits", None),
        ([[float("nan"), 900.0]], "logits", None),
        ([[-600.0, 2.0]], "values", None),
        ([[float("inf"), 900.0]], "logits", None),
    ],
)
def test_scores_that_cannot_be(scores, returns, message):
    assert check_scores(torch.tensor(scores), returns) == message
