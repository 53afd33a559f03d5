"""Whether files hold as many bytes of values as a header describes."""

import os
from pathlib import Path

from captum_3dcam._validation import warn

_MAX_PADDING = 512  # bytes, a block of a disk or tape


def check_value_file(path: Path, expected: int, start: int, advice: str) -> None:
    """Raise ValueError unless the file has ``start`` bytes and then the values alone.

    With a start of -1, the values are at its end.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path.name!r} of its values.")
    received = path.stat().st_size - max(start, 0)
    if received < expected or (start >= 0 and received > expected):
        raise ValueError(
            f"the file of its values {path.name!r} has {received:,} bytes; its header describes "
            f"{expected:,}. {advice if received > expected else 'It is truncated.'}"
        )


def warn_of_end(path: Path, size: int) -> None:
    """Warn of the last ``size`` bytes of a file, those after its values."""
    if size > 0:
        with path.open("rb") as file:
            file.seek(-min(size, _MAX_PADDING + 1), os.SEEK_END)
            warn_of_rest(path, file.read(), size)


def warn_of_rest(path: Path, rest: bytes, size: int) -> None:
    """Warn of bytes after the values in the file of a header: it may describe too few.

    Zeros that fill a block are none of the values.
    """
    if size > _MAX_PADDING or any(rest):
        warn(
            f"{str(path)!r} has {size:,} bytes or more after the values that its header "
            "describes. They are not read; check its size."
        )
