"""Input validation that several modules share."""

import reprlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MAX_TEXT = 200  # characters of a value in an error message
_NOTES: ContextVar[list[str] | None] = ContextVar("_NOTES", default=None)
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _MAX_TEXT


def check_choice(name: str, choice: object, choices: Iterable[object]) -> None:
    """ValueError that lists the choices, unless ``choice`` is one.

    >>> check_choice("gate", "pool", ("pool", "grid"))
    """
    choices = list(choices)
    # By type, because arrays compare elementwise and False is 0.
    is_comparable = isinstance(choice, str) or is_number(choice, Integral)
    if not is_comparable or choice not in choices:
        raise ValueError(
            f"{name}={show(choice)} is not known. Choose one of {', '.join(map(repr, choices))}."
        )


def check_flag(name: str, value: object) -> None:
    """TypeError unless the value is a bool.

    >>> check_flag("multi_contour", True)
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={show(value)}: expected True or False.")


def check_text(name: str, value: object) -> None:
    """TypeError unless the value is a str.

    >>> check_text("title", "What the network saw")
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={show(value)}: expected text. Write it in quotes, or use str().")


def check_integer(name: str, value: Any, minimum: int | None = 1) -> int:
    """The value as Python's int; ValueError unless it is an integer of at least ``minimum``.

    >>> check_integer("seed", 0, minimum=0)
    0
    """
    if not is_number(value, Integral) or (minimum is not None and value < minimum):
        limit = "" if minimum is None else f", {minimum} or more"
        raise ValueError(f"{name}={show(value)}: expected an integer{limit}.")
    return int(value)


def check_number(name: str, value: Any) -> float:
    """The value as Python's number; TypeError unless it is a real one, or a tensor or array of it.

    >>> check_number("vmax", torch.tensor(0.5))
    0.5
    """
    is_array = isinstance(value, (Tensor, np.ndarray, np.generic))
    number: Any = value.item() if is_array and value.shape == () else value
    if not is_number(number, Real):
        raise TypeError(f"{name}={show(value)}: expected a number.")
    result: float = number
    return result


def is_number(value: object, kind: type) -> bool:
    """Whether the value is of this abstract type of numbers, and no bool.

    >>> is_number(3, Integral), is_number(True, Integral)
    (True, False)
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def check_positive(name: str, value: object) -> float:
    """The value as Python's number; an error unless it is finite and above 0.

    >>> check_positive("fps", 25.0)
    25.0
    """
    number = check_number(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name}={show(value)}: expected a finite number above 0.")
    return number


def check_instance(name: str, value: object, kind: type) -> None:
    """TypeError unless the value is of this class.

    >>> check_instance("error", ValueError(), Exception)
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}={show(value)}: expected {kind.__name__}(...).")


def check_sequence(name: str, value: object, of: str) -> Sequence[Any]:
    """The value itself; TypeError unless it is a list, a tuple or another sequence, but no text.

    >>> check_sequence("boxes", [], of="tensors")
    []
    """
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise TypeError(f"{name}={show(value)}: expected a list of {of}.")
    return value


def check_numbers(name: str, values: object) -> tuple[float, ...]:
    """Python's numbers of a list, or of an array or tensor of one axis; TypeError for others.

    >>> check_numbers("thresholds", torch.tensor([0.25, 0.5]))
    (0.25, 0.5)
    """
    if isinstance(values, Tensor):
        check_tensor(name, values)
    if isinstance(values, (Tensor, np.ndarray)) and values.ndim == 1:
        values = values.tolist()
    items = check_sequence(name, values, of="numbers")
    return tuple(check_number(f"{name}[{i}]", item) for i, item in enumerate(items))


def check_integers(name: str, values: object, minimum: int | None = 1) -> tuple[int, ...]:
    """Python's ints of such values; ValueError for one that is no integer of at least ``minimum``.

    >>> check_integers("size", np.array([4, 6]))
    (4, 6)
    """
    numbers = check_numbers(name, values)
    return tuple(check_integer(f"{name}[{i}]", n, minimum) for i, n in enumerate(numbers))


def check_tensor(name: str, value: object) -> Tensor:
    """The value itself; TypeError unless it is a dense tensor of real numbers.

    >>> check_tensor("box", torch.zeros(4))
    tensor([0., 0., 0., 0.])
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"Expected {name} as a tensor; got {type(value).__name__}. Convert numbers and arrays "
            "with torch.as_tensor."
        )
    if value.layout != torch.strided:
        raise TypeError(f"Expected {name} as a dense tensor; got {value.layout}. Use .to_dense().")
    if value.is_complex():
        raise TypeError(f"Expected real {name}; got {value.dtype}. Use .abs() or .real.")
    return value


def check_floats(name: str, value: object) -> Tensor:
    """The value itself; TypeError unless it is a dense tensor of floating-point numbers.

    >>> check_floats("x", torch.zeros(3))
    tensor([0., 0., 0.])
    """
    x = check_tensor(name, value)
    if not x.is_floating_point():
        raise TypeError(
            f"Expected {name} of floating-point numbers; got {x.dtype}. Convert it with .float()."
        )
    return x


def describe(value: object) -> str:
    """What was received, for error messages: a tensor's or array's shape, else the type.

    >>> describe(torch.zeros(2, 3)), describe([1])
    ('shape (2, 3)', 'list')
    """
    shape = getattr(value, "shape", None)
    # A class of tensors has a descriptor of this name.
    return f"shape {tuple(shape)}" if isinstance(shape, tuple) else type(value).__name__


def show(value: object) -> str:
    """The value for error messages, cut short; a tensor's or array's type and shape.

    >>> show("linear"), show(torch.zeros(2, 3))
    ("'linear'", 'Tensor of shape (2, 3)')
    """
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} of {describe(value)}"
    text = _REPR.repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def warn(message: str) -> None:
    """A UserWarning at the line outside of this package that led to it.

    Captum's decorators and wrappers, as NoiseTunnel, stand between that line and ours.
    """
    notes = _NOTES.get()
    if notes is not None and message not in notes:
        notes.append(message)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level + 1)


@contextmanager
def noted_warnings(notes: list[str]) -> Iterator[None]:
    """Append the text of each warning of this package to ``notes`` too, once.

    >>> notes = []
    >>> with noted_warnings(notes), warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     warn("The model is in train mode.")
    >>> notes
    ['The model is in train mode.']
    """
    token = _NOTES.set(notes)
    try:
        yield
    finally:
        _NOTES.reset(token)


def _is_library(module: str) -> bool:
    return module.split(".")[0] in ("captum", "captum_3dcam", "contextlib")
