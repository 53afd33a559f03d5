"""How an input is cut."""

import pytest

from captum_3dcam.explanation import ArgumentError, Windows


def test_sizes():
    assert Windows().sizes == ()
    assert Windows(16).sizes == (16,)
    assert Windows([16, 8]).sizes == (16, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "windows: size=0: expected an integer, 1 or more."),
        ({"size": (8, 0)}, r"windows: size\[1\]=0: expected an integer"),
        ({"size": "16"}, "windows: size='16': expected a list of numbers"),
        ({"size": 16, "stride": 1.5}, "windows: stride=1.5: expected an integer"),
        ({"batch_size": 0}, "windows: batch_size=0: expected an integer"),
        ({"boundaries": "all"}, 'windows: boundaries=\'all\': expected "auto", "none", or the fi'),
        ({"boundaries": [0, 5]}, r"windows: boundaries\[0\]=0: expected an integer"),
        ({"boundaries": 5}, "windows: boundaries=5: expected a list of numbers"),
    ],
)
def test_values_that_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Windows(**options)


def test_known_boundaries():
    assert Windows().known_boundaries == Windows(boundaries="none").known_boundaries == ()
    assert Windows(boundaries=[3, 5]).known_boundaries == [3, 5]


def test_axes():
    Windows((8, 8), (4, 4)).check_axes("an image", 2)
    Windows(8, boundaries=[3]).check_axes("a video", 3)
    with pytest.raises(ArgumentError, match=r"windows: size=\(8, 8, 8\): an image has 2 axes"):
        Windows((8, 8, 8)).check_axes("an image", 2)
    with pytest.raises(ArgumentError, match=r"windows: stride=\(4, 4, 4\): an image has 2 axes"):
        Windows(8, (4, 4, 4)).check_axes("an image", 2)
    with pytest.raises(ArgumentError, match="windows: stride needs size"):
        Windows(stride=4).check_axes("an image", 2)
    with pytest.raises(ArgumentError, match="windows: boundaries needs size"):
        Windows(boundaries=[4]).check_axes("a video", 3)
