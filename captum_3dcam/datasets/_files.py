"""At the door of a dataset: paths that stay in their folder, files that can be read, problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from captum_3dcam._files import existing_path


class Problem(NamedTuple):
    """What is wrong with one file of a dataset; its text is the message, which names the file.

    >>> print(Problem(Path("a.png"), "There is no picture 'a.png'."))
    There is no picture 'a.png'.
    """

    path: Path
    """The file or folder."""
    message: str
    """What was expected and what is there, in sentences."""

    def __str__(self) -> str:
        return self.message


@contextmanager
def noted(problems: list[Problem], path: Path) -> Iterator[None]:
    """Inside, an error that speaks of damaged or missing data becomes a problem of ``path``.

    >>> problems: list[Problem] = []
    >>> with noted(problems, Path("a.txt")):
    ...     text = read_bytes(Path("a.txt"), "list")
    >>> [str(problem) for problem in problems]
    ["There is no list 'a.txt'."]
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        problems.append(Problem(path, str(error)))


def inside(root: Path, entry: str, source: str) -> Path:
    """``root / entry``, where the entry was read from ``source`` and may be anything.

    The entry is a path below the root, with ``/`` between its parts. Raises ValueError, which
    names the source, for one that is empty, absolute, has a drive, a backslash or a NUL, or
    goes through ``.`` or ``..``. Links in the folder itself are its owner's, and are followed.

    >>> inside(Path("data"), "golf/video_1", "list.txt, line 3").as_posix()
    'data/golf/video_1'
    """
    # Windows' rules are the stricter ones; a dataset should be the same one everywhere.
    bad_part = any(part in ("", ".", "..") for part in entry.split("/"))
    if bad_part or PureWindowsPath(entry).anchor or "\\" in entry or "\0" in entry:
        raise ValueError(
            f"{source}: {entry!r} is not the name of something in the dataset's folder. Expected "
            "a relative path without '..', as in 'class/video'."
        )
    return root / entry


def read_bytes(path: Path, what: str) -> bytes:
    """All of a file. Raises FileNotFoundError, and ValueError for one that cannot be read."""
    existing_path(path, what)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"The {what} {str(path)!r} cannot be read: {error}") from error


def read_lines(path: Path, what: str) -> list[tuple[str, str]]:
    """The lines of a UTF-8 text file that are not blank, stripped, each after its place.

    The place, "'list.txt', line 3", is for messages. Raises as :func:`read_bytes`, and
    ValueError for a file that is no text.
    """
    try:
        text = read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"The {what} {str(path)!r} is no UTF-8 text: {error}") from error
    lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    return [
        (f"{str(path)!r}, line {number}", line.strip()) for number, line in lines if line.strip()
    ]
