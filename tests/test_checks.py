"""The checks that several rooms share."""

import numpy as np
import pytest

from captum_3dcam.checks import check_choice, check_whole


def test_choices_are_listed():
    check_choice("split", 2, (1, 2))
    with pytest.raises(ValueError, match=r"^split=3 is not known. Choose one of 1, 2\.$"):
        check_choice("split", 3, (1, 2))


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(1)])
def test_whole_numbers_are_pythons_and_numpys(value):
    check_whole("count", value)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, np.float64(2)])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(ValueError) as error:
        check_whole("count", value)
    assert str(error.value) == f"count={value!r}: expected a whole number, 1 or more."


def test_the_least_whole_number():
    check_whole("seed", 0, 0)
    with pytest.raises(ValueError, match=r"^size=15: expected a whole number, 16 or more\.$"):
        check_whole("size", 15, 16)
