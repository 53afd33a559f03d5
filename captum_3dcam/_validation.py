"""Input validation that several modules share."""

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

    >>> describe(Tensor(2, 3)), describe([1])
    ('shape (2, 3)', 'list')
    """
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"shape {tuple(shape)}"
