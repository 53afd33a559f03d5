"""Errors of :func:`captum_3dcam.explain`."""

from collections.abc import Iterator
from contextlib import contextmanager


class ArgumentError(ValueError):
    """An argument is wrong, or does not fit the input or the model."""


class ModelError(RuntimeError):
    """The model raises an error, or returns no scores."""


class FailedInputsError(RuntimeError):
    """Some of many inputs could not be explained."""


@contextmanager
def argument_errors(prefix: str = "", *more: type[Exception]) -> Iterator[None]:
    """Raise a ValueError, or an error of the other types, as an ArgumentError with the prefix."""
    types: tuple[type[Exception], ...] = (ValueError, *more)
    try:
        yield
    except types as error:
        raise ArgumentError(f"{prefix}{error}") from error


_EXPECTED = (ModelError, FailedInputsError, ValueError, FileNotFoundError, ImportError)


def message_of(error: BaseException) -> str:
    """The message without line breaks, behind the type of an unexpected error.

    >>> message_of(ValueError("one\\n  two")), message_of(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, _EXPECTED) else f"{type(error).__name__}: {text}"
