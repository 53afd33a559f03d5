"""How errors are printed."""

from captum_3dcam._errors import FailedInputsError, ModelError

_MAX_LENGTH = 700
_PLAIN = (ModelError, FailedInputsError, ValueError, FileNotFoundError, ImportError)


def one_line(error: BaseException) -> str:
    """The message without line breaks, behind the type of an unexpected error.

    >>> one_line(ValueError("one\\n  two")), one_line(ZeroDivisionError("by zero"))
    ('one two', 'ZeroDivisionError: by zero')
    """
    text = " ".join(str(error).split())
    if not isinstance(error, _PLAIN):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}... (--debug shows all)"
