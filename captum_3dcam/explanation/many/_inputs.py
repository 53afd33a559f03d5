"""Which inputs a folder, a pattern, a list or a manifest names."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob, has_magic
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._validation import show, warn
from captum_3dcam.explanation._identity import REPORT, files_in
from captum_3dcam.io import dicom_kind
from captum_3dcam.io.kinds import kind_of_suffix

STATE = ".captum_3dcam"
"""The folder with the state of a run, in its output."""
_MANIFESTS = {".csv": ",", ".tsv": "\t"}
_COLUMNS = ("path", "target", "group")
_MAX_SHOWN = 3


class Item(NamedTuple):
    """One input of many."""

    path: Path
    name: str
    """Its path below the folder that all of them lie in, with slashes; unique."""
    target: Any = None
    """That of the manifest; None for the run's."""
    group: str = ""
    salt: str = ""
    """Of the run, without which nobody can look for names that have a key."""

    @property
    def key(self) -> str:
        """What tells it from the others without its name."""
        return hashlib.sha256(f"{self.salt} {self.name}".encode()).hexdigest()[:12]

    def state(self) -> str:
        """What changes with its content and its target."""
        return f"{self.stat()[1]} {self.target!r}"

    def stat(self) -> tuple[int, str]:
        """Its size in bytes, and what changes with its content; (0, "") if there is none."""
        states = [each.stat() for each in files_in(self.path)]
        text = " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in states)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12] if states else ""
        return sum(state.st_size for state in states), digest


def list_items(inputs: Any, output: Path, root: Path | None = None) -> list[Item]:
    """The inputs in the order of their names, or of the list or manifest.

    ``root`` is the folder that all of them lie in; by default the innermost.

    Raises ArgumentError where there are none, and for a manifest without a path.

    >>> folder = getfixture("tmp_path")
    >>> for name in ("b.png", "a.mp4", "notes.txt"):
    ...     (folder / name).touch()
    >>> [item.name for item in list_items([folder / "b.png", folder / "a.mp4"], folder / "out")]
    ['b.png', 'a.mp4']
    """
    own_root, rows = _rows(inputs, output)
    if not rows:
        raise ArgumentError(f"inputs={show(inputs)}: there is nothing to explain.")
    paths = [Path(os.path.abspath(row["path"])) for row in rows]
    parents = [path.parent for path in paths]
    root = Path(os.path.abspath(root or own_root or os.path.commonpath(parents)))
    outside = next((path for path in paths if not path.is_relative_to(root)), None)
    if outside is not None:
        raise ArgumentError(f"{str(outside)!r} is not in {str(root)!r}, as all inputs should be.")
    # A name on disk may be no text; its bytes are then written as \xff.
    relative = [os.fsencode(path.relative_to(root).as_posix()) for path in paths]
    names = [name.decode("utf-8", "backslashreplace") for name in relative]
    targets = [None if row.get("target") == "" else row.get("target") for row in rows]
    groups = [str(row.get("group") or "") for row in rows]
    pairs = {(name, str(target)) for name, target in zip(names, targets, strict=True)}
    several = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}
    items = [
        Item(path, f"{name}~{target}" if name in several else name, target, group)
        for path, name, target, group in zip(paths, names, targets, groups, strict=True)
    ]
    return _distinct(items)


def _distinct(items: Sequence[Item]) -> list[Item]:
    """Each once; ArgumentError for two that would have one result."""
    by_name: dict[str, Item] = {}
    for item in items:
        if by_name.setdefault(item.name, item) != item:
            raise ArgumentError(
                f"inputs: {item.name!r} is named twice, with different groups or targets."
            )
    return list(by_name.values())


def _rows(inputs: Any, output: Path) -> tuple[Path | None, list[Mapping[str, Any]]]:
    """The folder of the inputs, if one was named; and a path of each, with what else is known."""
    if not isinstance(inputs, (str, PathLike)):
        if not isinstance(inputs, Iterable):
            raise ArgumentError(
                f"inputs={show(inputs)}: expected a folder, a pattern, a list of paths, or a CSV."
            )
        return None, [_row(each) for each in inputs]
    path = Path(inputs)
    if path.is_dir():
        return Path(os.path.abspath(path)), [{"path": each} for each in _walk(path, output)]
    if path.is_file():
        is_manifest = path.suffix.lower() in _MANIFESTS
        return None, _read_manifest(path) if is_manifest else [{"path": path}]
    if has_magic(str(inputs)):
        inside = Path(os.path.abspath(output))
        matches = map(Path, sorted(glob(str(inputs), recursive=True)))
        return None, [
            {"path": each}
            for each in matches
            if not Path(os.path.abspath(each)).is_relative_to(inside)
        ]
    raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")


def _row(each: Any) -> Mapping[str, Any]:
    if isinstance(each, Mapping) and "path" in each and set(each) <= set(_COLUMNS):
        return each
    if isinstance(each, (str, PathLike)):
        return {"path": each}
    raise ArgumentError(
        f'inputs: {show(each)} is neither a path nor a dict with "path", "target" and "group".'
    )


def _read_manifest(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a CSV; its paths are relative to it."""
    with argument_errors(f"{str(path)!r}: ", UnicodeDecodeError, csv.Error):
        text = path.read_text(encoding="utf-8-sig")
        lines = csv.reader(text.splitlines(), delimiter=_MANIFESTS[path.suffix.lower()])
        head, *body = [[cell.strip() for cell in line] for line in lines if line] or [[]]
    columns = [name.lower() for name in head]
    if len(set(columns)) < len(columns):
        raise ArgumentError(f"{str(path)!r}: two columns have one name, among {columns}.")
    rows = [dict(zip_longest(columns, line[: len(columns)], fillvalue="")) for line in body]
    if "path" not in columns:
        raise ArgumentError(
            f"{str(path)!r}: expected the columns {', '.join(_COLUMNS)}, of which path is needed, "
            f"in UTF-8, separated by {_MANIFESTS[path.suffix.lower()]!r}; received "
            f"{', '.join(columns) or 'an empty file'}."
        )
    if unused := [name for name in columns if name not in _COLUMNS]:
        warn(f"{str(path)!r}: of its columns only {', '.join(_COLUMNS)} are used, not {unused}.")
    for number, row in enumerate(rows, start=2):
        if not row["path"]:
            raise ArgumentError(f"{str(path)!r}, line {number}: the path is missing.")
    return [{**row, "path": path.parent / row["path"]} for row in rows]


def _walk(folder: Path, output: Path) -> list[Path]:
    """The inputs in a folder and those below: files by their suffix, and folders of DICOM files."""
    ignored: list[str] = []
    paths = list(_walk_into(folder, Path(os.path.abspath(output)), ignored))
    if ignored:
        more = ", ..." if len(ignored) > _MAX_SHOWN else ""
        warn(
            f"{len(ignored)} file(s) or folder(s) cannot be opened, or have no suffix of an image, "
            f"a video or a scan, and are passed over: "
            f"{', '.join(map(repr, ignored[:_MAX_SHOWN]))}{more}. A list or a CSV names any."
        )
    return paths


def _walk_into(folder: Path, output: Path, ignored: list[str]) -> Iterator[Path]:
    try:
        visible = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError:
        ignored.append(folder.name)
        return
    if _is_series(visible):
        yield folder
        return
    for each in visible:
        if each.is_dir():
            is_result = os.path.exists(each / REPORT) or os.path.exists(each / STATE)
            if not is_result and Path(os.path.abspath(each)) != output:
                yield from _walk_into(each, output, ignored)
        elif kind_of_suffix(each) is None:
            ignored.append(each.name)
        elif each.suffix.lower() != ".img" or not each.with_suffix(".hdr").exists():
            yield each


def _is_series(visible: Sequence[Path]) -> bool:
    """Whether the first file is DICOM, of a volume: its slices lie in files of their own."""
    first = next((each for each in visible if each.is_file()), None)
    if first is None or kind_of_suffix(first) not in (None, "volume"):
        return False
    try:
        return dicom_kind(first) == "volume"
    except ValueError:  # a damaged one
        return False
