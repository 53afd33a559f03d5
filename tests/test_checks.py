"""The checks that several rooms share."""

import pytest

from captum_3dcam.checks import check_choice


def test_choices_are_listed():
    check_choice("split", 2, (1, 2))
    with pytest.raises(ValueError, match=r"^split=3 is not known. Choose one of 1, 2\.$"):
        check_choice("split", 3, (1, 2))
