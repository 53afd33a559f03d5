"""The input validation that several modules share."""

import threading

import numpy as np
import pytest
import torch

from captum_3dcam._validation import (
    check_choice,
    check_flag,
    check_floats,
    check_instance,
    check_integer,
    check_integers,
    check_number,
    check_numbers,
    check_positive,
    check_sequence,
    check_tensor,
    check_text,
    describe,
    noted_warnings,
    show,
    warn,
)


def test_choices_are_listed():
    check_choice("split", 2, (1, 2))
    with pytest.raises(ValueError, match=r"^split=3 is not known. Choose one of 1, 2\.$"):
        check_choice("split", 3, (1, 2))
    for choice in (True, 1.0, None, torch.tensor([1, 2]), np.array([1, 2])):
        with pytest.raises(ValueError, match=r"^split=.* is not known. Choose one of 1, 2\.$"):
            check_choice("split", choice, (1, 2))


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(1)])
def test_integers_are_pythons_and_numpys(value):
    received = check_integer("count", value)
    assert received == value
    assert type(received) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True, np.float64(2)])
def test_what_is_no_integer_is_named(value):
    with pytest.raises(ValueError) as error:
        check_integer("count", value)
    assert str(error.value) == f"count={value!r}: expected an integer, 1 or more."


def test_the_minimum_of_an_integer():
    assert check_integer("seed", 0, 0) == 0
    with pytest.raises(ValueError, match=r"^size=15: expected an integer, 16 or more\.$"):
        check_integer("size", 15, 16)
    assert check_integer("start", -3, minimum=None) == -3
    with pytest.raises(ValueError, match=r"^start=0\.5: expected an integer\.$"):
        check_integer("start", 0.5, minimum=None)


def test_positive_numbers():
    assert check_positive("fps", 29.97) == 29.97
    for value in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError) as error:
            check_positive("fps", value)
        assert str(error.value) == f"fps={value!r}: expected a finite number above 0."


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), torch.tensor(0.5), np.array(0.5), torch.tensor(0.5).half()]
)
def test_a_number_may_be_a_tensor_or_an_array_of_one(value):
    received = check_number("vmax", value)
    assert received == 0.5
    assert type(received) is float


NO_NUMBERS = [None, True, "0.5", 1j, [0.5], torch.tensor([0.5]), np.array("a"), torch.tensor(True)]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_raises(value):
    for check in (check_number, check_positive):
        with pytest.raises(TypeError, match=r"^vmax=.*: expected a number\.$"):
            check("vmax", value)


@pytest.mark.parametrize(
    "values", [[0.25, 0.5], (0.25, 0.5), torch.tensor([0.25, 0.5]), np.array([0.25, 0.5])]
)
def test_numbers_of_a_list_a_tensor_or_an_array(values):
    assert check_numbers("thresholds", values) == (0.25, 0.5)


@pytest.mark.parametrize("values", [None, 0.5, "12", {0.5}, iter([1]), torch.zeros(2, 2)])
def test_what_is_no_list_of_numbers_raises(values):
    with pytest.raises(TypeError, match=r"^thresholds=.*: expected a list of numbers\.$"):
        check_numbers("thresholds", values)


def test_the_number_that_is_none_is_named():
    with pytest.raises(TypeError, match=r"^size\[1\]='a': expected a number\.$"):
        check_integers("size", [2, "a"])
    with pytest.raises(ValueError, match=r"^size\[0\]=0: expected an integer, 1 or more\.$"):
        check_integers("size", [0, 2])
    assert check_integers("at", range(3), minimum=None) == (0, 1, 2)


@pytest.mark.parametrize(
    ("check", "value", "text"),
    [
        (check_flag, 1, "expected True or False"),
        (check_flag, None, "expected True or False"),
        (check_text, None, "expected text. Write it in quotes, or use str()"),
        (check_text, b"lion", "expected text"),
    ],
)
def test_flags_and_texts(check, value, text):
    for right in {check_flag: (True, np.bool_(False)), check_text: ("", "lion")}[check]:
        check("option", right)
    with pytest.raises(TypeError) as error:
        check("option", value)
    assert str(error.value).startswith(f"option={value!r}: {text}")


def test_classes_and_sequences():
    check_instance("error", ValueError(), Exception)
    with pytest.raises(TypeError, match=r"^error=3: expected Exception\(\.\.\.\)\.$"):
        check_instance("error", 3, Exception)
    for value in ([], (), range(3)):
        assert check_sequence("boxes", value, of="tensors") is value
    for value in (None, "text", b"text", {}, set(), torch.zeros(2)):
        with pytest.raises(TypeError, match=r"^boxes=.*: expected a list of tensors\.$"):
            check_sequence("boxes", value, of="tensors")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1.0], "Expected maps as a tensor; got list. Convert numbers and arrays"),
        (np.zeros(2), "Expected maps as a tensor; got ndarray."),
        (
            torch.eye(2).to_sparse(),
            "Expected maps as a dense tensor; got torch.sparse_coo. Use .to_d",
        ),
        (
            torch.zeros(2, dtype=torch.complex64),
            "Expected real maps; got torch.complex64. Use .abs",
        ),
    ],
)
def test_what_is_no_dense_real_tensor_raises(value, text):
    for check in (check_tensor, check_floats):
        with pytest.raises(TypeError) as error:
            check("maps", value)
        assert str(error.value).startswith(text)


def test_floats_are_no_integers_or_bools():
    x = torch.zeros(2, dtype=torch.bfloat16)
    assert check_floats("x", x) is x
    for dtype in (torch.int64, torch.bool):
        assert check_tensor("x", x.to(dtype)).dtype == dtype
        with pytest.raises(TypeError, match=f"^Expected x of floating-point numbers; got {dtype}."):
            check_floats("x", x.to(dtype))


def test_values_in_messages_are_short():
    assert show(torch.zeros(2, 3)) == "Tensor of shape (2, 3)"
    assert show(np.zeros(3)) == "ndarray of shape (3,)"
    assert show(0.5) == "0.5"
    assert len(show([["x" * 1000] * 6] * 6)) < 250


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(2, 3), "shape (2, 3)"),
        (np.zeros(4), "shape (4,)"),
        ([1, 2], "list"),
        (None, "NoneType"),
        (torch.Tensor, "_TensorMeta"),
    ],
)
def test_what_was_received_is_described(value, text):
    assert describe(value) == text


@pytest.mark.filterwarnings("default")
def test_warnings_are_noted_once_and_issued(recwarn):
    notes, inner = [], []

    def warn_in_part():
        with noted_warnings(inner):
            warn("second")
            raise KeyError

    with noted_warnings(notes):
        for _ in range(2):
            warn("first")
        with pytest.raises(KeyError):
            warn_in_part()
        warn("third")
    warn("not noted")
    assert (notes, inner) == (["first", "third"], ["second"])
    texts = [str(each.message) for each in recwarn]
    assert texts == ["first", "second", "third", "not noted"]
    assert all(each.filename == __file__ for each in recwarn)


def test_warnings_of_another_thread_are_not_noted():
    def warn_elsewhere():
        thread = threading.Thread(target=warn, args=("elsewhere",))
        thread.start()
        thread.join()

    notes = []
    with noted_warnings(notes), pytest.warns(UserWarning, match="elsewhere"):
        warn_elsewhere()
    assert notes == []
