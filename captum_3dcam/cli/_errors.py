"""How errors are printed."""

from captum_3dcam._errors import message_of

_MAX_LENGTH = 700


def one_line(error: BaseException) -> str:
    """The message, or its beginning, behind the type of an unexpected error.

    >>> one_line(ValueError("one\\n  two")), one_line(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = message_of(error)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}... (--debug shows all)"
