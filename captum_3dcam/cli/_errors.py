"""What can go wrong, in words: what was asked cannot be, or it was tried and failed."""

_LONGEST = 700


class WrongUseError(Exception):
    """The command line asks for something that cannot be."""


class FailedError(Exception):
    """What was asked was tried, and failed."""


def in_a_line(error: BaseException) -> str:
    """The message without line breaks; the type is named where the message is not this package's.

    >>> in_a_line(ValueError("one\\n  two")), in_a_line(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = " ".join(str(error).split())
    if not isinstance(
        error, (WrongUseError, FailedError, ValueError, FileNotFoundError, ImportError)
    ):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... (--debug shows all)"
