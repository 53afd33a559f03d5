"""Errors of :func:`captum_3dcam.explain`, and warnings that are kept for the report."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class ArgumentError(ValueError):
    """An argument is wrong, or does not fit the input or the model."""


class ModelError(RuntimeError):
    """The model raises an error, or returns no scores."""


@contextmanager
def argument_errors(prefix: str = "", *more: type[Exception]) -> Iterator[None]:
    """Raise a ValueError, or an error of the other types, as an ArgumentError with the prefix."""
    types: tuple[type[Exception], ...] = (ValueError, *more)
    try:
        yield
    except types as error:
        raise ArgumentError(f"{prefix}{error}") from error


@contextmanager
def noted_warnings(notes: list[str]) -> Iterator[None]:
    """Append the text of each UserWarning to ``notes``, once; all are issued at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            received = list(caught)
    for each in received:
        if issubclass(each.category, UserWarning) and str(each.message) not in notes:
            notes.append(str(each.message))
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
