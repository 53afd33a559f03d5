"""Checks at the door that several rooms share."""

from collections.abc import Iterable
from numbers import Integral


def check_choice(name: str, choice: object, known: Iterable[object]) -> None:
    """ValueError that lists the choices, unless ``choice`` is one.

    >>> check_choice("gate", "pool", ("pool", "grid"))
    """
    choices = list(known)
    if choice not in choices:
        raise ValueError(
            f"{name}={choice!r} is not known. Choose one of {', '.join(map(repr, choices))}."
        )


def check_whole(name: str, value: object, least: int = 1) -> None:
    """ValueError unless ``value`` is a whole number, Python's or NumPy's, and ``least`` or more.

    >>> check_whole("seed", 0, least=0)
    """
    if not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, {least} or more.")
