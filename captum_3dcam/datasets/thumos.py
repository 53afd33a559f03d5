"""THUMOS14 and MultiTHUMOS: untrimmed videos with the times of their actions.

Idrees et al., *The THUMOS challenge on action recognition for videos "in the wild"*, CVIU 2017,
arXiv 1604.06182; Yeung et al., *Every moment counts*, IJCV 2017, arXiv 1507.05738.
"""

import math
import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._files import (
    Problem,
    check_index,
    collect_problems,
    path_inside,
    read_lines,
)
from captum_3dcam.datasets._splits import find_folder
from captum_3dcam.io import open_video

_AMBIGUOUS = "Ambiguous"
_NAMES_OF_SUBSETS = {"val": "video_validation_", "test": "video_test_"}
_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm")
# Where the published archives have the files of THUMOS14.
_FOLDERS = (
    "annotation",
    "annotations",
    "annotations/annotation",
    "TH14_Temporal_annotations_{}/annotation",
    "TH14_Temporal_Annotations_{}/annotations/annotation",
    ".",
)
_ARCHIVES = {"val": "validation", "test": "Test"}

Instance = tuple[str, float, float]
"""A video, and the start and end of an action in it, in seconds."""


class UntrimmedVideo(NamedTuple):
    """The actions of a video, which may overlap. The file itself is not read."""

    video: str
    """One of the dataset's ``videos``."""
    segments: Tensor
    """(B, 2), float64: [start, end) in seconds."""
    labels: Tensor
    """(B,) indices into the dataset's ``classes``."""
    ignored: Tensor
    """(A, 2): segments that are too ambiguous to be counted, as :func:`temporal_map` takes."""
    path: Path
    """The video file or folder of frames; it may be missing."""

    @property
    def target(self) -> dict[str, Tensor]:
        """The segments and labels as the metrics take them.

        >>> empty = torch.zeros(0, 2)
        >>> sorted(UntrimmedVideo("a", empty, empty[:, 0], empty, Path("a.mp4")).target)
        ['labels', 'segments']
        """
        return {"segments": self.segments, "labels": self.labels}


class _UntrimmedVideos(Dataset[UntrimmedVideo]):
    """Videos in the order of their names, and the instances of each class."""

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        *,
        videos: str | PathLike[str] | None = None,
    ) -> None:
        check_choice("subset", subset, _NAMES_OF_SUBSETS)
        self.root, self.subset = Path(root), subset
        instances, ambiguous = self._read(self.root, subset)
        self.classes = tuple(instances)
        self._folder = self.root / "videos" if videos is None else Path(videos)
        self._rows: dict[str, list[tuple[float, float, int]]] = {}
        self._ignored: dict[str, list[tuple[float, float]]] = {}
        for label, each in enumerate(instances.values()):
            for video, start, end in each:
                self._rows.setdefault(video, []).append((start, end, label))
        for video, start, end in ambiguous:
            self._ignored.setdefault(video, []).append((start, end))
        self.videos = tuple(sorted({*self._rows, *self._ignored}))

    @staticmethod
    def _read(root: Path, subset: str) -> tuple[dict[str, list[Instance]], list[Instance]]:
        """The instances of each class, and the ambiguous ones."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(root={self.root.resolve().name!r}, subset={self.subset!r}, "
            f"videos={len(self)}, classes={len(self.classes)})"
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> UntrimmedVideo:
        """Raises IndexError."""
        check_index(index, len(self))
        video = self.videos[index]
        rows = torch.tensor(sorted(self._rows.get(video, [])), dtype=torch.float64).reshape(-1, 3)
        ignored = torch.tensor(sorted(self._ignored.get(video, [])), dtype=torch.float64)
        return UntrimmedVideo(
            video, rows[:, :2], rows[:, 2].long(), ignored.reshape(-1, 2), self._path(video)
        )

    def check(self) -> list[Problem]:
        """Report videos that are missing or end before their annotation, and empty segments.

        Every video is decoded, which takes long.
        """
        problems: list[Problem] = []
        for index in range(len(self)):
            item = self[index]
            name = f"{item.video!r}"
            spans = torch.cat([item.segments, item.ignored])
            for start, end in spans[spans[:, 0] == spans[:, 1]].tolist():
                message = f"{name}: the segment from {start:g} to {end:g} s is empty."
                problems.append(Problem(item.path, message))
            with collect_problems(problems, item.path):
                if not item.path.exists():
                    raise FileNotFoundError(f"There is no video {str(item.path)!r}.")
                duration = float(open_video(item.path).times.edges[-1])
                if len(spans) and spans.max() > duration + 1:  # annotated to a tenth of a second
                    problems.append(
                        Problem(
                            item.path,
                            f"{str(item.path)!r} ends after {duration:.1f} s; an action is "
                            f"annotated until {float(spans.max()):.1f} s.",
                        )
                    )
        return problems

    def _path(self, video: str) -> Path:
        """A folder of frames, or a file with one of the usual suffixes; else that of an MP4."""
        folder = self._folder / video
        files = [self._folder / f"{video}{suffix}" for suffix in _SUFFIXES]
        return next((path for path in (folder, *files) if path.exists()), files[0])


class THUMOS14(_UntrimmedVideos):
    """THUMOS14's temporal annotations; a sample is an :class:`UntrimmedVideo`.

    ``root`` contains ``<class>_val.txt`` or ``<class>_test.txt`` for each class, with a line
    ``<video> <start> <end>`` in seconds for each instance, and optionally ``Ambiguous_val.txt``;
    in the folder ``annotation``, as in the published archives, or in ``root`` itself. The classes
    are those with a file, in alphabetical order: 20 as published. All videos with a line are
    listed, also those with ambiguous instances alone.

    Args:
        root: the folder of the annotations.
        subset: ``"val"``, on which methods are trained, or ``"test"``.
        videos: the folder of the files ``<video>.mp4``, or of folders of frames; by default
            ``root/videos``. Nothing in it needs to exist: annotations are read alone.

    Raises:
        ValueError: for an unknown subset, and a malformed line, which it names.
        FileNotFoundError: if there are no annotations.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     _ = Path(root, "Diving_test.txt").write_text("video_test_0000006  1.5 4.0\\n")
    ...     _ = Path(root, "Ambiguous_test.txt").write_text("video_test_0000006  8.0 9.0\\n")
    ...     data = THUMOS14(root)
    >>> data.classes, data[0].segments.tolist(), data[0].ignored.tolist()
    (('Diving',), [[1.5, 4.0]], [[8.0, 9.0]])
    """

    @staticmethod
    def _read(root: Path, subset: str) -> tuple[dict[str, list[Instance]], list[Instance]]:
        ending = f"_{subset}.txt"
        names = [folder.format(_ARCHIVES[subset]) for folder in _FOLDERS]
        folder = find_folder(root, names, f"?*{ending}")
        instances = {
            path.name.removesuffix(ending): _read_instances(path)
            for path in sorted(folder.glob(f"?*{ending}"))
            if not path.name.startswith(".")
        }
        ambiguous = instances.pop(_AMBIGUOUS, [])
        return instances, ambiguous


class MultiTHUMOS(_UntrimmedVideos):
    """MultiTHUMOS: all actions of THUMOS14's videos, 65 classes as published, which overlap.

    ``root`` contains ``class_list.txt``, with a line ``<number> <class>`` (or ``<class>``) for each
    class in the order of the labels, and ``annotations/<class>.txt`` with lines as in
    :class:`THUMOS14`; or the folder ``multithumos`` does. The subset of a video is in its name,
    ``video_validation_...`` or ``video_test_...``. Arguments and errors are those of
    :class:`THUMOS14`; no segment is ambiguous.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     _ = Path(root, "class_list.txt").write_text("1 Run\\n2 Jump\\n")
    ...     Path(root, "annotations").mkdir()
    ...     for name in ("Run", "Jump"):
    ...         file = Path(root, "annotations", f"{name}.txt")
    ...         _ = file.write_text("video_test_0000004 0.5 2.0\\n")
    ...     data = MultiTHUMOS(root)
    >>> data[0].segments.tolist(), data[0].labels.tolist()
    ([[0.5, 2.0], [0.5, 2.0]], [0, 1])
    """

    @staticmethod
    def _read(root: Path, subset: str) -> tuple[dict[str, list[Instance]], list[Instance]]:
        folder = find_folder(root, (".", "multithumos"), "class_list.txt")
        instances = {
            name: [
                each
                for each in _read_instances(folder / "annotations" / f"{name}.txt")
                if each[0].startswith(_NAMES_OF_SUBSETS[subset])
            ]
            for name in _read_classes(folder / "class_list.txt")
        }
        return instances, []


def _read_instances(path: Path) -> list[Instance]:
    instances = []
    for location, line in read_lines(path, "list of segments"):
        parts = line.split()
        if len(parts) != 3 or not all(map(_is_time, parts[1:])):
            raise ValueError(
                f"{location}: expected a video, and the start and end of an action in seconds, as "
                f"in 'video_test_0000004  0.2 1.1'; got {line[:80]!r}."
            )
        video, start, end = parts[0], float(parts[1]), float(parts[2])
        path_inside(Path(), video, location)
        if start > end:
            raise ValueError(f"{location}: the action ends at {end:g} s, before {start:g} s.")
        instances.append((video, start, end))
    return instances


def _is_time(text: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) is not None and math.isfinite(float(text))


def _read_classes(path: Path) -> list[str]:
    classes: list[str] = []
    first = None
    for location, line in read_lines(path, "list of classes"):
        *numbers, name = line.split()
        path_inside(Path(), name, location)
        if len(numbers) > 1 or not all(number.isdecimal() for number in numbers):
            raise ValueError(
                f"{location}: expected a number and a class, as in '1 BaseballPitch'; got "
                f"{line[:80]!r}."
            )
        number = int(numbers[0]) if numbers else None
        first = number if not classes else first
        expected = None if first is None else first + len(classes)
        if number != expected:
            raise ValueError(
                f"{location}: expected the number {expected}; got {line[:80]!r}. The classes are "
                "numbered in their order."
            )
        if name in classes:
            raise ValueError(f"{location}: {name!r} is listed twice.")
        classes.append(name)
    return classes
