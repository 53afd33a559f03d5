"""Checks at the door that several rooms share."""

from collections.abc import Iterable


def check_choice(name: str, choice: object, known: Iterable[object]) -> None:
    """ValueError that lists the choices, unless ``choice`` is one.

    >>> check_choice("gate", "pool", ("pool", "grid"))
    """
    choices = list(known)
    if choice not in choices:
        raise ValueError(
            f"{name}={choice!r} is not known. Choose one of {', '.join(map(repr, choices))}."
        )
