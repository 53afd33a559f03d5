"""Which classes to explain: indices, names, counts, positions, functions and lists of them."""

import numpy as np
import pytest
import torch

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation._target import Target, parse_target

NAMES = ["run", "golf", "top3", "2"]
EXPECTED = (
    'expected a class index, "top3" or another count, "each", an index into an output with more '
    "axes such as (1, 4, 8), a class name, or a list of indices and names."
)


def score(output):
    return output[:, 0]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, Target()),
        ("top1", Target()),
        ("top12", Target(top=12)),
        ("each", Target(each=True)),
        (7, Target((7,))),
        (-1, Target((-1,))),
        ("7", Target((7,))),
        (np.int64(7), Target((7,))),
        (torch.tensor(7), Target((7,))),
        ((1, -4, 8), Target(((1, -4, 8),))),
        ("1,-4,8", Target(((1, -4, 8),))),
        ("golf", Target((1,))),
        (["golf", 0, (1, 2)], Target((1, 0, (1, 2)))),
        (score, Target((score,))),
        ("top3", Target((2,))),  # a name comes first
        ("2", Target((3,))),
    ],
)
def test_targets(target, expected):
    assert parse_target(target, NAMES) == expected


def test_without_names_a_count_is_a_count():
    assert parse_target("top3") == Target(top=3)
    assert parse_target("2") == Target((2,))


@pytest.mark.parametrize("target", [True, 1.5, (1, 2.5), [None], [[1]], [], {1}, b"1"])
def test_what_is_no_target(target):
    with pytest.raises(ArgumentError) as error:
        parse_target(target, NAMES)
    assert EXPECTED in str(error.value)


@pytest.mark.parametrize("target", ["gulf", "top0", "top", "1,", "-1", "1.5", "", "9" * 10])
def test_an_unknown_name(target):
    with pytest.raises(ArgumentError) as error:
        parse_target(target, NAMES)
    assert str(error.value) == (
        f"target={target!r}: {EXPECTED} For a name, the 4 names begin with run, golf, top3, 2."
    )
    with pytest.raises(ArgumentError, match="For a name, pass class_names"):
        parse_target(target)
