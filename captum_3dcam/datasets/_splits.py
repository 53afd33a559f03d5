"""Text files of the video datasets: splits, lists of videos and of classes.

Their readers raise FileNotFoundError for a missing file, and ValueError, which names the line, for
a malformed line and for a name that is listed twice or is not a path inside a folder.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._files import path_inside, read_lines

_SUBSETS = ("train", "test")


def check_split(subset: str, split: int = 1) -> None:
    """Raise ValueError for an unknown subset or split."""
    check_choice("subset", subset, _SUBSETS)
    check_choice("split", split, (1, 2, 3))


def find_folder(root: Path, names: Collection[str], pattern: str) -> Path:
    """The first of the folders ``root / name`` that contains a file matching the pattern."""
    folders = [root / name for name in names]
    for folder in folders:
        if any(folder.glob(pattern)):
            return folder
    searched = " or ".join(repr(str(folder)) for folder in folders)
    raise FileNotFoundError(f"There is no file {pattern!r} in {searched}.")


def read_class_splits(
    root: Path, folders: Collection[str], subset: str, split: int
) -> tuple[list[str], list[str]]:
    """The classes, in alphabetical order, and videos ``<class>/<video>`` of HMDB51 and JHMDB.

    There is one file per class, ``<class>_test_split<split>.txt``, with one line per video,
    ``<video>.avi <part>``: 0 is in neither subset, 1 training, 2 test. They are in the first of
    the folders ``root / folder`` that has such files.
    """
    check_split(subset, split)
    ending = f"_test_split{split}.txt"
    files = sorted(find_folder(root, folders, f"?*{ending}").glob(f"?*{ending}"))
    classes = [path.name.removesuffix(ending) for path in files]
    videos: list[str] = []
    for name, path in zip(classes, files, strict=True):
        parts: dict[str, int] = {}
        for location, line in read_lines(path, "split"):
            match = re.fullmatch(r"(\S.*)\.avi\s+([012])", line)
            if match is None:
                raise ValueError(
                    f"{location}: expected a video and 0, 1 or 2, as in 'name.avi 1'; got {line!r}."
                )
            _check_name(match[1], "video", parts, location)
            parts[match[1]] = int(match[2])
        part = 1 + _SUBSETS.index(subset)
        videos += [f"{name}/{video}" for video, number in parts.items() if number == part]
    return classes, videos


def read_video_list(path: Path, classes: Sequence[str] | None = None) -> list[str]:
    """The videos in a list of UCF101, as ``<class>/<video>``.

    A line is ``<class>/<video>.avi`` or ``<class>/<video>.avi <label>``, with labels from 1; the
    lists of UCF101-24 omit ``.avi``. With ``classes``, the class and label are checked too.
    """
    videos: dict[str, None] = {}
    for location, line in read_lines(path, "list of videos"):
        name, *labels = line.split()
        if len(labels) > 1:
            raise ValueError(
                f"{location}: expected 'class/video.avi' and at most one label; got {line!r}."
            )
        name = name.removesuffix(".avi")
        _check_name(name, "class/video", videos, location)
        if classes is not None:
            _check_label(name.split("/")[0], labels, classes, location)
        videos[name] = None
    return list(videos)


def _check_label(name: str, labels: list[str], classes: Sequence[str], location: str) -> None:
    if name not in classes:
        raise ValueError(f"{location}: the class {name!r} is not in the list of classes.")
    expected = str(classes.index(name) + 1)
    if labels not in ([], [expected]):
        raise ValueError(f"{location}: {name!r} is class {expected}; the label is {labels[0]!r}.")


def read_class_index(path: Path) -> list[str]:
    """The classes in classInd.txt of UCF101, where a line is ``<number> <class>``, from 1."""
    classes: list[str] = []
    for location, line in read_lines(path, "list of classes"):
        expected = str(len(classes) + 1)
        number, *names = line.split()
        if number != expected or len(names) != 1:
            raise ValueError(
                f"{location}: expected the number {expected} and a class, as in '{expected} "
                f"Archery'; got {line!r}."
            )
        _check_name(names[0], "class", classes, location)
        classes.append(names[0])
    return classes


def _check_name(name: str, form: str, previous: Collection[str], location: str) -> None:
    path_inside(Path(), name, location)
    if name.count("/") != form.count("/"):
        raise ValueError(f"{location}: expected a name of the form {form!r}; got {name!r}.")
    if name in previous:
        raise ValueError(f"{location}: {name!r} is listed twice.")
