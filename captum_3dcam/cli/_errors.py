"""Errors of the command line, and how they are printed."""

from collections.abc import Iterator
from contextlib import contextmanager

_MAX_LENGTH = 700


class UsageError(Exception):
    """The arguments are wrong, or do not fit the input or the model."""


class FailedError(Exception):
    """The arguments are right, but the computation failed."""


@contextmanager
def usage_errors(prefix: str = "", *more: type[Exception]) -> Iterator[None]:
    """Raise a ValueError, or an error of the other types, as a UsageError with the prefix."""
    types: tuple[type[Exception], ...] = (ValueError, *more)
    try:
        yield
    except types as error:
        raise UsageError(f"{prefix}{error}") from error


def one_line(error: BaseException) -> str:
    """The message without line breaks, behind the type of an unexpected error.

    >>> one_line(ValueError("one\\n  two")), one_line(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = " ".join(str(error).split())
    if not isinstance(error, (UsageError, FailedError, ValueError, FileNotFoundError, ImportError)):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}... (--debug shows all)"
