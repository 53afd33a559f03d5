"""The input validation that several modules share."""

import numpy as np
import pytest
import torch

from captum_3dcam._validation import check_choice, check_integer, check_positive, describe


def test_choices_are_listed():
    check_choice("split", 2, (1, 2))
    with pytest.raises(ValueError, match=r"^split=3 is not known. Choose one of 1, 2\.$"):
        check_choice("split", 3, (1, 2))


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(1)])
def test_integers_are_pythons_and_numpys(value):
    received = check_integer("count", value)
    assert received == value
    assert type(received) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, np.float64(2)])
def test_what_is_no_integer_is_named(value):
    with pytest.raises(ValueError) as error:
        check_integer("count", value)
    assert str(error.value) == f"count={value!r}: expected an integer, 1 or more."


def test_the_minimum_of_an_integer():
    assert check_integer("seed", 0, 0) == 0
    with pytest.raises(ValueError, match=r"^size=15: expected an integer, 16 or more\.$"):
        check_integer("size", 15, 16)


def test_positive_numbers():
    assert check_positive("fps", 29.97) == 29.97
    for value in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError) as error:
            check_positive("fps", value)
        assert str(error.value) == f"fps={value!r}: expected a finite number above 0."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(2, 3), "shape (2, 3)"),
        (np.zeros(4), "shape (4,)"),
        ([1, 2], "list"),
        (None, "NoneType"),
    ],
)
def test_what_was_received_is_described(value, text):
    assert describe(value) == text
