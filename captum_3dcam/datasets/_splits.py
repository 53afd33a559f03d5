"""The text files that say which video belongs where: splits and lists of classes."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path

from captum_3dcam.datasets._files import inside, read_lines

SUBSETS = ("train", "test")


def find_folder(root: Path, names: Collection[str], pattern: str) -> Path:
    """The first of the folders ``root / name`` that has a file of the pattern.

    Raises FileNotFoundError that lists where it looked.
    """
    folders = [root / name for name in names]
    for folder in folders:
        if any(folder.glob(pattern)):
            return folder
    looked = " or ".join(repr(str(folder)) for folder in folders)
    raise FileNotFoundError(f"There is no file {pattern!r} in {looked}.")


def read_class_splits(folder: Path, split: int, subset: str) -> dict[str, list[str]]:
    """The videos of a subset in HMDB51's and JHMDB's splits, by class, in order of the alphabet.

    The folder has a file a class, ``<class>_test_split<split>.txt``, with a line
    ``<video>.avi <part>`` a video; the parts are 0 (in neither), 1 (training) and 2 (test).

    Raises ValueError that names the line, for one of another form and for a video listed twice.
    """
    ending = f"_test_split{split}.txt"
    files = sorted(folder.glob(f"?*{ending}"))
    part = SUBSETS.index(subset) + 1
    return {path.name.removesuffix(ending): _read_parts(path, part) for path in files}


def _read_parts(path: Path, part: int) -> list[str]:
    parts: dict[str, int] = {}
    for place, line in read_lines(path, "split"):
        found = re.fullmatch(r"(\S.*)\.avi\s+([012])", line)
        if found is None:
            raise ValueError(
                f"{place}: expected a video and 0, 1 or 2, as in 'name.avi 1'; got {line!r}."
            )
        parts[_new_name(found[1], "video", parts, place)] = int(found[2])
    return [name for name, number in parts.items() if number == part]


def read_video_list(path: Path, classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """The videos of a list of UCF101's, ``<class>/<video>``, in its order.

    A line is ``<class>/<video>.avi`` or ``<class>/<video>.avi <label>``, labels from 1 on; the
    ``.avi`` may be missing, as in the lists of UCF101-24.

    Raises FileNotFoundError, and ValueError that names the line, for one of another form, a
    video listed twice and, with ``classes``, a class that is none of them or a wrong label.
    """
    videos: dict[str, None] = {}
    for place, line in read_lines(path, "list of videos"):
        name, *labels = line.split()
        if len(labels) > 1:
            raise ValueError(
                f"{place}: expected 'class/video.avi', and a label or none; got {line!r}."
            )
        name = _new_name(name.removesuffix(".avi"), "class/video", videos, place)
        if classes is not None:
            _check_label(name.split("/")[0], labels, classes, place)
        videos[name] = None
    return tuple(videos)


def _check_label(name: str, labels: Sequence[str], classes: Sequence[str], place: str) -> None:
    if name not in classes:
        near = get_close_matches(name, classes, n=3) or classes[:3]
        raise ValueError(
            f"{place}: there is no class {name!r}. The nearest are {', '.join(map(repr, near))}."
        )
    expected = str(classes.index(name) + 1)
    if labels and labels[0] != expected:
        raise ValueError(f"{place}: {name!r} is class {expected}; the label is {labels[0]!r}.")


def read_class_index(path: Path) -> tuple[str, ...]:
    """The classes of UCF101's classInd.txt, a line ``<number> <class>`` each, from 1 on.

    Raises FileNotFoundError, and ValueError that names the line, for one of another form, a
    number out of order, and a class listed twice.
    """
    classes: dict[str, None] = {}
    for place, line in read_lines(path, "list of classes"):
        expected = str(len(classes) + 1)
        number, *names = line.split()
        if number != expected or len(names) != 1:
            raise ValueError(
                f"{place}: expected the number {expected} and a class, as in '{expected} "
                f"Archery'; got {line!r}."
            )
        classes[_new_name(names[0], "class", classes, place)] = None
    return tuple(classes)


def _new_name(name: str, form: str, names: Collection[str], place: str) -> str:
    """A name of the form, in which no path can hide, and which is none of the names before it."""
    inside(Path(), name, place)
    if name.count("/") != form.count("/"):
        raise ValueError(f"{place}: expected a name of the form {form!r}; got {name!r}.")
    if name in names:
        raise ValueError(f"{place}: {name!r} is listed twice.")
    return name
