"""Files, for all packages: path checks, read errors, atomic writes; imports of extras."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from secrets import token_hex
from typing import Any

StrPath = str | PathLike[str]


def existing_path(path: StrPath, kind: str) -> Path:
    """Return the path of an existing file; raise FileNotFoundError if there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no {kind} {str(path)!r}.")
    return Path(path)


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
        if type(error) is MemoryError:
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as {kind}: {reason}") from error


@contextmanager
def atomic_write(path: StrPath, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success, rename it to ``path``.

    On any error, Ctrl-C included, the temporary file is deleted and an existing file at ``path``
    is kept. Raises ValueError for a suffix that is not in ``suffixes``, and FileNotFoundError if
    the folder does not exist.
    """
    target = Path(path).resolve()
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


def import_extra(module: str, purpose: str, extra: str) -> Any:
    """Import an optional package; if it is missing, name the extra that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose}: pip install 'captum_3dcam[{extra}]'.") from error
