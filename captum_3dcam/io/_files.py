"""At the door of a file: what is there, what cannot be read, and writing it whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from secrets import token_hex
from typing import Any

StrPath = str | PathLike[str]


def existing(path: StrPath, what: str) -> Path:
    """The path of a file that is there; FileNotFoundError otherwise."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no {what} {str(path)!r}.")
    return Path(path)


@contextmanager
def reading(path: StrPath, what: str) -> Iterator[None]:
    """Inside, whatever a damaged file raises becomes a ValueError that names the file.

    >>> with reading("a.png", "a picture"):
    ...     raise EOFError
    Traceback (most recent call last):
    ValueError: 'a.png' cannot be read as a picture: EOFError
    """
    try:
        yield
    except Exception as error:  # decoders of damaged data raise whatever they meet
        if type(error) is MemoryError:  # PyAV has a kind of its own, for files that claim too much
            raise
        why = str(error) or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as {what}: {why}") from error


@contextmanager
def whole_or_not(path: StrPath, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """A place beside ``path`` to write to; the file goes to ``path`` when all of it is there.

    On any error, Ctrl-C included, nothing is left, and a file that was there before stays as it
    was. Raises ValueError for another suffix, FileNotFoundError without the folder.
    """
    target = Path(path).resolve()
    suffix = next((s for s in suffixes if target.name.lower().endswith(s)), None)
    if suffix is None:
        raise ValueError(f"{str(path)!r} should end on {' or '.join(suffixes)}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to write to.")
    beside = target.with_name(f".{token_hex(8)}{suffix}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def import_extra(module: str, need: str, extra: str) -> Any:
    """An optional module; without it, ImportError that says which extra of the package has it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{need}: pip install 'captum_3dcam[{extra}]'.") from error
