"""Errors of the command line, and how they are printed."""

_MAX_LENGTH = 700


class UsageError(Exception):
    """The arguments are wrong, or do not fit the input or the model."""


class FailedError(Exception):
    """The arguments are right, but the computation failed."""


def one_line(error: BaseException) -> str:
    """The message without line breaks, behind the type of an unexpected error.

    >>> one_line(ValueError("one\\n  two")), one_line(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = " ".join(str(error).split())
    if not isinstance(error, (UsageError, FailedError, ValueError, FileNotFoundError, ImportError)):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}... (--debug shows all)"
