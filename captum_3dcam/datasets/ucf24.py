"""UCF101-24: videos of 24 actions with a box around every actor, frame by frame.

Soomro, Zamir, Shah, 2012, arXiv 1212.0402. The boxes are the corrected ones of Singh, Saha,
Sapienza, Torr, Cuzzolin, ICCV 2017, arXiv 1611.08563: one pickle, ``pyannot.pkl``.
"""

import math
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._files import Problem, inside
from captum_3dcam.datasets._frames import Footage, FrameSource
from captum_3dcam.datasets._restricted_pickle import load_plain
from captum_3dcam.datasets._splits import find_folder, read_video_list
from captum_3dcam.datasets.clips import Truth, Video, VideoDataset, Window

CLASSES = (
    *("Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving"),
    *("Fencing", "FloorGymnastics", "GolfSwing", "HorseRiding", "IceDancing", "LongJump"),
    *("PoleVault", "RopeClimbing", "SalsaSpin", "SkateBoarding", "Skiing", "Skijet"),
    *("SoccerJuggling", "Surfing", "TennisSwing", "TrampolineJumping", "VolleyballSpiking"),
    "WalkingWithDog",
)
"""The 24 actions in the order of their labels."""

_SIZE = (240, 320)  # of every frame of UCF101
_MAX_FRAMES = 2**22  # of all videos together; there are 555,157


class TubeAnnotation(NamedTuple):
    """One actor, from a frame on without a break."""

    start: int
    """The first frame, from 0."""
    boxes: NDArray[np.float32]
    """(L, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive: one a frame."""

    @property
    def stop(self) -> int:
        """The first frame after the tube."""
        return self.start + len(self.boxes)

    def meets(self, start: int, stop: int) -> bool:
        """Whether it has a box in one of the frames [start, stop)."""
        return self.start < stop and start < self.stop


class VideoAnnotation(NamedTuple):
    """What ``pyannot.pkl`` says of one video."""

    frames: int
    """How many there are."""
    label: int
    """An index into :data:`CLASSES`."""
    tubes: tuple[TubeAnnotation, ...]

    def boxes(self, start: int, stop: int) -> NDArray[np.float32]:
        """(A, stop - start, 4): the tubes' boxes in frames [start, stop), nan where there is none.

        >>> tube = TubeAnnotation(1, np.float32([[0, 0, 5, 5], [1, 0, 6, 5]]))
        >>> VideoAnnotation(3, 0, (tube,)).boxes(0, 2)
        array([[[nan, nan, nan, nan],
                [ 0.,  0.,  5.,  5.]]], dtype=float32)
        """
        found = np.full((len(self.tubes), stop - start, 4), math.nan, dtype=np.float32)
        for place, tube in zip(found, self.tubes, strict=True):
            if tube.meets(start, stop):
                low, high = max(start, tube.start), min(stop, tube.stop)
                place[low - start : high - start] = tube.boxes[low - tube.start : high - tube.start]
        return found


class UCF101_24(VideoDataset):  # noqa: N801  (its name)
    """The clips of UCF101-24, with a box in each frame for each actor.

    On disk: ``pyannot.pkl``, ``testlist01.txt`` and, if there is one, ``trainlist01.txt`` (without
    it all other videos are for training), in ``splitfiles`` or beside it; the frames, 25 a second,
    as ``rgb-images/<class>/<video>/00001.jpg``, or the videos, ``<class>/<video>.avi``. A sample is
    a :class:`VideoClip` whose boxes (A, T, 4) are those of all of the video's A actors.

    Args:
        root: the folder.
        subset: ``"train"`` or ``"test"``.
        clip_length: the frames of a clip; None for whole videos.
        annotated_only: leave out the clips without any box.

    Raises:
        ValueError: for another subset or clip_length, and for damaged annotations and lists.
        FileNotFoundError: without ``pyannot.pkl`` or the list.

    A video in a list that has no annotation is left out; :meth:`check` finds it.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        *,
        clip_length: int | None = 16,
        annotated_only: bool = False,
    ) -> None:
        check_choice("subset", subset, ("train", "test"))
        self._root = Path(root)
        self._file = self._find("pyannot.pkl")
        annotations = load_pyannot(self._file)
        names = self._names(subset, annotations)
        self._unknown = [name for name in names if name not in annotations]
        known = [name for name in names if name in annotations]
        self._annotations = [annotations[name] for name in known]
        videos = [Video(name, annotations[name].label, self._source(name)) for name in known]
        lengths = [annotation.frames for annotation in self._annotations]
        super().__init__(CLASSES, videos, clip_length, lengths)
        if annotated_only:
            self.clips = [window for window in self.clips if self._has_boxes(window)]

    def check(self) -> list[Problem]:
        """All that is wrong with the dataset's files, which are all read; [] if nothing is."""
        unknown = [
            Problem(self._file, f"{str(self._file)!r} has no annotation of the listed {name!r}.")
            for name in self._unknown
        ]
        return unknown + super().check()

    def _find(self, name: str) -> Path:
        return find_folder(self._root, ("splitfiles", "."), name) / name

    def _names(self, subset: str, annotations: dict[str, VideoAnnotation]) -> list[str]:
        try:
            return list(read_video_list(self._find(f"{subset}list01.txt")))
        except FileNotFoundError:
            if subset == "test":
                raise
        test = read_video_list(self._find("testlist01.txt"))
        return [name for name in annotations if name not in test]

    def _source(self, name: str) -> FrameSource:
        folder = inside(self._root / "rgb-images", name, f"{str(self._file)!r}")
        return FrameSource(folder, self._root / f"{name}.avi")

    def _has_boxes(self, window: Window) -> bool:
        annotation = self._annotations[window.video]
        stop = annotation.frames if window.stop is None else window.stop
        return any(tube.meets(window.start, stop) for tube in annotation.tubes)

    def _truth(self, video: int, start: int, stop: int, size: tuple[int, int]) -> Truth:
        return Truth(torch.from_numpy(self._annotations[video].boxes(start, stop)), None)

    def _check_truth(self, video: int, footage: Footage | None, problems: list[Problem]) -> None:
        annotation, name = self._annotations[video], self.videos[video]
        frames, (height, width) = footage or Footage(annotation.frames, _SIZE)
        if frames != annotation.frames:
            path = self._sources[video].path
            problems.append(
                Problem(
                    path,
                    f"{str(path)!r} has {frames} frames; {str(self._file)!r} expects "
                    f"{annotation.frames}.",
                )
            )
        for number, (start, boxes) in enumerate(annotation.tubes):
            is_right = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:])
            is_right &= boxes[:, 2:] <= np.array([width, height])
            wrong = np.flatnonzero(~is_right.all(axis=1))
            if len(wrong):
                first = f"frame {start + wrong[0]}, {boxes[wrong[0]].tolist()}"
                problems.append(
                    Problem(
                        self._file,
                        f"{str(self._file)!r}, video {name!r}, tube {number}: {len(wrong)} of "
                        f"{len(boxes)} boxes are empty or reach out of the frame of {width} x "
                        f"{height}; the first is that of {first}.",
                    )
                )


def load_pyannot(path: str | PathLike[str]) -> dict[str, VideoAnnotation]:
    """The annotations of UCF101-24 by video, ``<class>/<video>``, from ``pyannot.pkl``.

    Nothing in the pickle is run. Its boxes, x, y, width and height from 1 on in bytes that
    would overflow, become x0, y0, x1, y1 from 0 on; whether they lie in the frame is left to
    :meth:`UCF101_24.check`.

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.

    >>> import pickle, tempfile
    >>> tube = {"label": 2, "sf": 3, "ef": 4, "boxes": np.uint8([[200, 1, 100, 20]])}
    >>> video = {"numf": 9, "label": 2, "annotations": [tube]}
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     pickle.dump({"Biking/v_Biking_g01_c01": video}, file)
    ...     file.flush()
    ...     load_pyannot(file.name)["Biking/v_Biking_g01_c01"].tubes[0].boxes
    array([[199.,   0., 299.,  20.]], dtype=float32)
    """
    annotations: dict[str, VideoAnnotation] = {}
    room = _MAX_FRAMES
    for name, record in _expect(dict, load_plain(path), f"{str(path)!r}").items():
        place = f"{str(path)!r}, video {name[:80]!r}"
        inside(Path(), name, f"{str(path)!r}")
        annotations[name] = _video(record, place)
        label = annotations[name].label
        if label >= len(CLASSES) or name.split("/")[0] != CLASSES[label]:
            raise ValueError(
                f"{place}: label {label} is not that of its class. The labels are those of the 24 "
                "classes in alphabetical order, from 0."
            )
        # Clips are listed beforehand: a damaged number would list them without end.
        room -= annotations[name].frames
        if room < 0:
            raise ValueError(f"{place}: there are more than {_MAX_FRAMES} frames up to here.")
    return annotations


def _video(record: Any, place: str) -> VideoAnnotation:
    frames, label = _whole(record, "numf", place, least=1), _whole(record, "label", place)
    tubes = []
    for number, tube in enumerate(_field(record, "annotations", place, list)):
        at = f"{place}, tube {number}"
        tubes.append(_tube(tube, at))
        if tubes[-1].stop > frames:
            raise ValueError(f"{at}: it ends at frame {tubes[-1].stop}; the video has {frames}.")
        if _whole(tube, "label", at) != label:
            raise ValueError(f"{at}: its label is not its video's, {label}.")
    return VideoAnnotation(frames, label, tuple(tubes))


def _tube(record: Any, place: str) -> TubeAnnotation:
    start, stop = (_whole(record, key, place) for key in ("sf", "ef"))
    stored = _field(record, "boxes", place, np.ndarray)
    if stored.shape != (stop - start, 4):
        raise ValueError(
            f"{place}: frames {start} to {stop} need boxes ({stop - start}, 4); got {stored.shape}."
        )
    with np.errstate(all="ignore"):  # said below
        corner, size = np.hsplit(stored.astype(np.float64), 2)
        boxes = np.hstack([corner - 1, corner - 1 + size]).astype(np.float32)
    if not np.isfinite(boxes).all():
        raise ValueError(f"{place}: its boxes are not all finite.")
    return TubeAnnotation(start, boxes)


def _whole(record: Any, key: str, place: str, least: int = 0) -> int:
    value = _field(record, key, place, int | np.integer)
    if not least <= value <= _MAX_FRAMES:
        raise ValueError(f"{place}: {key!r} is not a number from {least} to {_MAX_FRAMES}.")
    return int(value)


def _field(record: Any, key: str, place: str, kind: Any) -> Any:
    if key not in _expect(dict, record, place):
        raise ValueError(f"{place}: there is no {key!r}.")
    return _expect(kind, record[key], f"{place}, {key!r}")


def _expect(kind: Any, value: Any, place: str) -> Any:
    # A ValueError as for other damage: the type is the file's, not the caller's.
    if not isinstance(value, kind) or isinstance(value, bool):
        name = getattr(kind, "__name__", "integer")
        raise ValueError(f"{place}: expected a {name}; got a {type(value).__name__}.")  # noqa: TRY004
    return value
