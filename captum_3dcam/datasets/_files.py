"""Shared by the datasets: problems, paths that stay inside a folder, text files, indices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from torch import Tensor

from captum_3dcam._files import existing_path, wrap_read_errors


class Problem(NamedTuple):
    """A problem with one file of a dataset; as a string it is the message, which names the file.

    >>> print(Problem(Path("a.png"), "There is no image file 'a.png'."))
    There is no image file 'a.png'.
    """

    path: Path
    message: str

    def __str__(self) -> str:
        return self.message


@contextmanager
def collect_problems(problems: list[Problem], path: Path) -> Iterator[None]:
    """Append an error about damaged or missing data to ``problems`` instead of raising it."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        problems.append(Problem(path, str(error)))


def box_problems(boxes: Tensor, size: tuple[int, int], path: Path, name: str) -> list[Problem]:
    """A problem if some of the boxes (N, 4) are empty or not inside an image of the size (H, W)."""
    corners, limits = boxes[:, :2], boxes.new_tensor(size[::-1])
    is_valid = (corners >= 0) & (corners < boxes[:, 2:]) & (boxes[:, 2:] <= limits)
    invalid = (~is_valid.all(dim=1)).nonzero().flatten().tolist()
    if not invalid:
        return []
    message = (
        f"{name}: {len(invalid)} of {len(boxes)} boxes are empty or extend beyond the image of "
        f"{size[1]} x {size[0]} pixels; the first is box {invalid[0]}, "
        f"{boxes[invalid[0]].tolist()}."
    )
    return [Problem(path, message)]


def check_index(index: int, length: int) -> None:
    """Raise IndexError, which also ends a loop over a dataset, for an index out of range."""
    if not 0 <= index < length:
        raise IndexError(f"There is no sample {index}: the dataset has {length}, numbered from 0.")


def path_inside(root: Path, entry: str, source: str) -> Path:
    """Return ``root / entry``, where the entry was read from a file and is not trusted.

    Raises ValueError, which names the source, unless it is a relative path below the root, with
    ``/`` between its parts. Links in the folder itself are followed.
    """
    # Windows' rules are the stricter ones; a dataset should be read alike on all systems.
    bad_part = any(part in ("", ".", "..") for part in entry.split("/"))
    if bad_part or PureWindowsPath(entry).anchor or "\\" in entry or "\0" in entry:
        raise ValueError(
            f"{source}: {entry!r} is not a path inside the dataset's folder. Expected a relative "
            "path without '..', as in 'class/video'."
        )
    return root / entry


def read_bytes(path: Path, kind: str) -> bytes:
    """Read a file. Raises FileNotFoundError, and ValueError for one that cannot be read."""
    with wrap_read_errors(existing_path(path, kind), f"a {kind}"):
        return path.read_bytes()


def read_lines(path: Path, kind: str) -> list[tuple[str, str]]:
    """The non-empty lines of a UTF-8 text file, each after its location, "'list.txt', line 3"."""
    data = read_bytes(path, kind)
    with wrap_read_errors(path, "UTF-8 text"):
        text = data.decode("utf-8-sig")
    lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    return [
        (f"{str(path)!r}, line {number}", line.strip()) for number, line in lines if line.strip()
    ]
