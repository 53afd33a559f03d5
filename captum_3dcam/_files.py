"""Files, for all packages: path checks, sizes, read errors, atomic writes; imports of extras."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from secrets import token_hex
from typing import Any

StrPath = str | PathLike[str]

MAX_BYTES_VARIABLE = "CAPTUM_3DCAM_MAX_BYTES"
DEFAULT_MAX_BYTES = 2**31
BYTES_PER_PIXEL = 32
"""Of an image or a frame: RGB bytes, floats, and the copies that converting them makes."""
MAX_DEFLATE_RATIO = 1032
"""The highest compression ratio of gzip, zip and deflated DICOM."""


def existing_path(path: StrPath, kind: str) -> Path:
    """Return the path of an existing file; raise FileNotFoundError if there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no {kind} {str(path)!r}.")
    return Path(path)


class _LimitError(ValueError):
    """The memory limit is exceeded or not a number: not an error of a decoder."""


def max_bytes() -> int:
    """The memory that the content of a file may take: the environment variable or its default."""
    text = os.environ.get(MAX_BYTES_VARIABLE) or str(DEFAULT_MAX_BYTES)
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise _LimitError(
            f"{MAX_BYTES_VARIABLE}={text!r}: expected a number of bytes, such as "
            f"{DEFAULT_MAX_BYTES}, the default."
        )
    return int(text)


def check_size(path: StrPath, size: int, content: str, advice: str = "") -> None:
    """Raise ValueError if the content of a file would take more bytes than :func:`max_bytes`.

    Call it before the memory is allocated: a compressed file can be a thousandth of its content.
    """
    check_bytes(f"{str(path)!r} describes {content}", size, advice)


def check_bytes(subject: str, size: int, advice: str = "") -> None:
    """Raise ValueError if the subject would take more bytes of memory than :func:`max_bytes`."""
    limit = max_bytes()
    if size > limit:
        raise _LimitError(
            f"{subject}, {size:,} bytes in memory; the limit is {limit:,}. {advice}If this is "
            "right and the memory suffices, set the environment variable "
            f"{MAX_BYTES_VARIABLE}={size}."
        )


@contextmanager
def wrap_read_errors(path: StrPath, kind: str) -> Iterator[None]:
    """Turn any error of a decoder into a ValueError that names the file.

    >>> with wrap_read_errors("a.png", "an image"):
    ...     raise EOFError
    Traceback (most recent call last):
    ValueError: 'a.png' cannot be read as an image: EOFError
    """
    try:
        yield
    except Exception as error:  # a decoder may raise any error for damaged data
        # Not isinstance: PyAV raises a subclass of MemoryError for files with a damaged header.
        if type(error) in (MemoryError, _LimitError):
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as {kind}: {reason}") from error


@contextmanager
def atomic_write(path: StrPath, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success, rename it to ``path``.

    On any error, Ctrl-C included, the temporary file is deleted and an existing file at ``path``
    is kept. A symbolic link at ``path`` is replaced; what it refers to is kept. Raises ValueError
    for a suffix that is not in ``suffixes``, and FileNotFoundError if the folder does not exist.
    """
    target = Path(path).absolute()  # not resolved: a link could lead out of the folder
    suffix = next((s for s in suffixes if target.name.lower().endswith(s)), None)
    if suffix is None:
        raise ValueError(f"{str(path)!r} should end on {' or '.join(suffixes)}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to write to.")
    temporary = target.with_name(f".{token_hex(8)}{suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, with a line break at its end, atomically."""
    with atomic_write(path, (path.suffix.lower(),)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def import_extra(module: str, purpose: str, extra: str) -> Any:
    """Import an optional package; if it is missing, name the extra that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose}: pip install 'captum_3dcam[{extra}]'.") from error
