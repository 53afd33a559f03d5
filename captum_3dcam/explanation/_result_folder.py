"""The folder of a result: it belongs to one input, and holds a complete result or none."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Any

from captum_3dcam._errors import ArgumentError
from captum_3dcam._restoration import Restoration
from captum_3dcam.explanation._identity import REPORT
from captum_3dcam.io import dicom_kind

_OWN_NAMES = re.compile(
    r"(map|maps|figure|layers|methods|montage|overlay|report)(_[^/\\]*)?\.(nii\.gz|[a-z0-9]{3,4})"
)
_STAGING = re.compile(r"\.[0-9a-f]{16}")


def default_folder(path: Path, kind: str) -> str:
    """The folder's name; not that of a scan or a DICOM file, which may be a patient's."""
    is_medical = may_name_a_patient(path, kind)
    return "scan_explained" if is_medical else f"{_stem(path)}_explained"


def may_name_a_patient(path: Path, kind: str) -> bool:
    """Whether it is of a scan or a DICOM file."""
    try:
        return kind == "volume" or dicom_kind(path) is not None
    except ValueError:  # a file that only its suffix calls DICOM
        return True


def _stem(path: Path) -> str:
    """The name without its suffix; that of a folder as it is.

    >>> _stem(Path("scans/head.nii.gz")), _stem(Path("my.clip.mp4"))
    ('head', 'my.clip')
    """
    name = path.absolute().name
    return name if path.is_dir() else Path(name.removesuffix(".gz")).stem


def resolve_folder(requested: Path | None, default: str, identity: str) -> Path:
    """The folder of a result: the one requested, or the default with a number if it is another's.

    ``identity`` is the input's :func:`fingerprint`, as in the report. Raises ArgumentError if the
    requested folder holds the result of another input, or other files that could be overwritten,
    and if nothing can be written to it.
    """
    folder = _choose(default, identity) if requested is None else requested
    _check_writable(folder)
    if _owner(folder) not in (None, identity):
        raise ArgumentError(
            f"output {str(folder)!r}: the folder holds the result of another input. Pass another "
            "one."
        )
    if others := _other_files(folder):
        raise ArgumentError(
            f"output {str(folder)!r}: the folder holds {others[0]}, which is not of a result and "
            "could be overwritten. Pass another one."
        )
    return folder


def clear(folder: Path) -> None:
    """Delete a result, also one that a process was killed in writing; nothing else."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _STAGING.fullmatch(path.name):
            rmtree(path, ignore_errors=True)
        elif _OWN_NAMES.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to, whose files are moved to ``folder`` at the end.

    On any error it is deleted, and the result's folder is as it was. Files of an earlier result of
    the same input are replaced, and deleted if there are no new ones of their names.
    """
    made = _make(folder)
    staging = folder / f".{token_hex(8)}"  # _STAGING
    try:
        staging.mkdir()
        yield staging
        with Restoration():  # holds Ctrl-C back: all files are moved, or none
            _move(staging, folder)
    finally:
        rmtree(staging, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # it is not empty
                each.rmdir()


def _choose(default: str, identity: str) -> Path:
    names = (Path(default if number == 1 else f"{default}_{number}") for number in count(1))
    return next(
        name for name in names if _owner(name) in (None, identity) and not _other_files(name)
    )


def _check_writable(folder: Path) -> None:
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise ArgumentError(f"output {str(folder)!r}: a file of that name exists.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"output {str(folder)!r}: the folder {str(existing)!r} cannot be written to."
        )


def _owner(folder: Path) -> str | None:
    """The fingerprint of the input whose result the folder holds; "" if it is not known."""
    report = read_report(folder)
    if report is None:
        return None
    identity = report.get("input")
    return str(identity.get("fingerprint", "")) if isinstance(identity, dict) else ""


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report in the folder: None if there is none, empty if it is not one of ours."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _make(folder: Path) -> list[Path]:
    """Make the folder; return those that are new, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _move(staging: Path, folder: Path) -> None:
    new = {path.name for path in staging.iterdir()}
    for name in _files_of(folder) - new:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == REPORT):  # the report comes last
        (staging / name).replace(folder / name)


def _other_files(folder: Path) -> list[str]:
    """Files whose names a result may have, and that are not of the result in the folder."""
    if not folder.is_dir():
        return []
    own = {REPORT, *_files_of(folder)}
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if _OWN_NAMES.fullmatch(name) and name not in own]


def _files_of(folder: Path) -> set[str]:
    """The names of the files that the report in the folder lists, if they are names of ours."""
    files = (read_report(folder) or {}).get("files")
    names = files.values() if isinstance(files, dict) else ()
    return {name for name in names if isinstance(name, str) and _OWN_NAMES.fullmatch(name)}
