"""Input validation that several modules share."""

import sys
import warnings
from collections.abc import Iterable
from numbers import Integral


def check_choice(name: str, choice: object, choices: Iterable[object]) -> None:
    """ValueError that lists the choices, unless ``choice`` is one.

    >>> check_choice("gate", "pool", ("pool", "grid"))
    """
    choices = list(choices)
    if choice not in choices:
        raise ValueError(
            f"{name}={choice!r} is not known. Choose one of {', '.join(map(repr, choices))}."
        )


def check_integer(name: str, value: object, minimum: int = 1) -> int:
    """The value as Python's int; ValueError unless it is an integer of at least ``minimum``.

    >>> check_integer("seed", 0, minimum=0)
    0
    """
    if not isinstance(value, Integral) or int(value) < minimum:
        raise ValueError(f"{name}={value!r}: expected an integer, {minimum} or more.")
    return int(value)


def check_positive(name: str, value: float) -> float:
    """The value itself; ValueError unless it is a finite number above 0.

    >>> check_positive("fps", 25.0)
    25.0
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}={value!r}: expected a finite number above 0.")
    return value


def describe(value: object) -> str:
    """What was received, for error messages: a tensor's or array's shape, else the type.

    >>> import torch
    >>> describe(torch.zeros(2, 3)), describe([1])
    ('shape (2, 3)', 'list')
    """
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"shape {tuple(shape)}"


def warn(message: str) -> None:
    """A UserWarning at the line outside of this package that led to it.

    Captum's decorators and wrappers, as NoiseTunnel, stand between that line and ours.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level + 1)


def _is_library(module: str) -> bool:
    return module.split(".")[0] in ("captum", "captum_3dcam", "contextlib")
