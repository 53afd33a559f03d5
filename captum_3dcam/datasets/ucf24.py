"""UCF101-24: videos of 24 actions with a box around each actor in each frame.

Soomro, Zamir, Shah, 2012, arXiv 1212.0402. The boxes are the corrected ones of Singh, Saha,
Sapienza, Torr, Cuzzolin, ICCV 2017, arXiv 1611.08563: one pickle, ``pyannot.pkl``.
"""

import math
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from captum_3dcam.datasets._files import Problem, box_problems, path_inside
from captum_3dcam.datasets._frames import MAX_FRAMES, FrameSource, VideoSize
from captum_3dcam.datasets._restricted_pickle import load_pickle
from captum_3dcam.datasets._splits import check_split, find_folder, read_video_list
from captum_3dcam.datasets._video_dataset import ClipSpan, GroundTruth, VideoDataset

CLASSES = (
    *("Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving"),
    *("Fencing", "FloorGymnastics", "GolfSwing", "HorseRiding", "IceDancing", "LongJump"),
    *("PoleVault", "RopeClimbing", "SalsaSpin", "SkateBoarding", "Skiing", "Skijet"),
    *("SoccerJuggling", "Surfing", "TennisSwing", "TrampolineJumping", "VolleyballSpiking"),
    "WalkingWithDog",
)
"""The 24 actions in the order of their labels."""

_FRAME_SIZE = (240, 320)  # of all videos of UCF101


class TubeAnnotation(NamedTuple):
    """The boxes of one actor in consecutive frames."""

    start: int
    """The first frame, from 0."""
    boxes: NDArray[np.float32]
    """(L, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive; one per frame."""

    @property
    def stop(self) -> int:
        """The first frame after the tube."""
        return self.start + len(self.boxes)


class VideoAnnotation(NamedTuple):
    """The annotation of one video in ``pyannot.pkl``."""

    frames: int
    """The number of frames."""
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
        boxes = np.full((len(self.tubes), stop - start, 4), math.nan, dtype=np.float32)
        for rows, tube in zip(boxes, self.tubes, strict=True):
            frames = np.arange(max(start, tube.start), min(stop, tube.stop))
            rows[frames - start] = tube.boxes[frames - tube.start]
        return boxes


class UCF101_24(VideoDataset):  # noqa: N801  (its name)
    """UCF101-24; a sample is a :class:`VideoClip` with boxes (A, T, 4) of all A actors of a video.

    ``root`` contains ``pyannot.pkl``, ``testlist01.txt`` and optionally ``trainlist01.txt``
    (without it, all other videos are for training), or the folder ``splitfiles`` does; and the
    frames, ``rgb-images/<class>/<video>/00001.jpg``, or the videos, ``<class>/<video>.avi``. Videos
    in a list without an annotation are left out; :meth:`check` reports them.

    Other arguments and errors are those of :class:`UCF101`; there is only one split.

    Args:
        annotated_only: leave out clips without any box.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        *,
        clip_length: int | None = 16,
        annotated_only: bool = False,
    ) -> None:
        check_split(subset)
        self._file = _find(Path(root), "pyannot.pkl")
        annotations = load_pyannot(self._file)
        listed = _read_list(Path(root), subset, annotations)
        self._not_annotated = [name for name in listed if name not in annotations]
        videos = [name for name in listed if name in annotations]
        self._annotations = [annotations[name] for name in videos]
        lengths = [annotation.frames for annotation in self._annotations]
        super().__init__(Path(root), subset, None, CLASSES, videos, clip_length, lengths)
        if annotated_only:
            self.clips = [clip for clip in self.clips if self._has_boxes(clip)]

    def check(self) -> list[Problem]:
        """Read all files of the dataset and return what is wrong with them."""
        problems = [
            Problem(self._file, f"{str(self._file)!r} has no annotation of the listed {name!r}.")
            for name in self._not_annotated
        ]
        return problems + super().check()

    def _frame_source(self, video: str) -> FrameSource:
        return FrameSource(self.root / "rgb-images" / video, self.root / f"{video}.avi")

    def _has_boxes(self, clip: ClipSpan) -> bool:
        assert clip.stop is not None  # the annotations have the lengths of the videos
        boxes = self._annotations[clip.video].boxes(clip.start, clip.stop)
        return not np.isnan(boxes).all()

    def _ground_truth(
        self, video: int, start: int, stop: int, size: tuple[int, int]
    ) -> GroundTruth:
        return GroundTruth(torch.from_numpy(self._annotations[video].boxes(start, stop)), None)

    def _check_ground_truth(
        self, video: int, size: VideoSize | None, problems: list[Problem]
    ) -> None:
        annotation, file = self._annotations[video], f"{str(self._file)!r}"
        frames, image_size = size or VideoSize(annotation.frames, _FRAME_SIZE)
        if frames != annotation.frames:
            path = self._sources[video].path
            message = f"{str(path)!r} has {frames} frames; {file} expects {annotation.frames}."
            problems.append(Problem(path, message))
        for number, (start, boxes) in enumerate(annotation.tubes):
            name = f"{file}, video {self.videos[video]!r}, tube {number} from frame {start}"
            problems += box_problems(torch.from_numpy(boxes), image_size, self._file, name)


def _find(root: Path, name: str) -> Path:
    return find_folder(root, ("splitfiles", "."), name) / name


def _read_list(root: Path, subset: str, annotations: dict[str, VideoAnnotation]) -> list[str]:
    try:
        return read_video_list(_find(root, f"{subset}list01.txt"))
    except FileNotFoundError:
        if subset == "test":
            raise
    test = set(read_video_list(_find(root, "testlist01.txt")))
    return [name for name in annotations if name not in test]


def load_pyannot(path: str | PathLike[str]) -> dict[str, VideoAnnotation]:
    """Load the annotations of UCF101-24 by video, ``<class>/<video>``, from ``pyannot.pkl``.

    The pickle cannot run code. Its boxes (x, y, width, height, counted from 1, in integers whose
    sums would overflow) become x0, y0, x1, y1, counted from 0. :meth:`UCF101_24.check` reports
    boxes that are not inside the frame.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or has another content.

    >>> import pickle, tempfile
    >>> tube = {"label": 2, "sf": 3, "ef": 4, "boxes": np.uint8([[200, 1, 100, 20]])}
    >>> video = {"numf": 9, "label": 2, "annotations": [tube]}
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     pickle.dump({"Biking/v_Biking_g01_c01": video}, file)
    ...     file.flush()
    ...     load_pyannot(file.name)["Biking/v_Biking_g01_c01"].tubes[0].boxes
    array([[199.,   0., 299.,  20.]], dtype=float32)
    """
    records = load_pickle(path)
    if not isinstance(records, dict):
        name = type(records).__name__
        raise ValueError(f"{str(path)!r}: expected a dict; got a {name}.")  # noqa: TRY004
    annotations: dict[str, VideoAnnotation] = {}
    for name, record in records.items():
        path_inside(Path(), str(name), f"{str(path)!r}")
        try:
            annotations[name] = _parse_video(name, record)
        except Exception as error:  # a wrong type or a missing key can raise any error
            is_ours = isinstance(error, ValueError)
            reason = str(error) if is_ours else f"malformed annotation, {error!r}"
            raise ValueError(f"{str(path)!r}, video {name!r}: {reason}") from error
    return annotations


def _parse_video(name: str, record: Any) -> VideoAnnotation:
    frames, label = index(record["numf"]), index(record["label"])
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"'numf' is {frames}, not a number from 1 to {MAX_FRAMES}.")
    if CLASSES.index(name.split("/")[0]) != label:
        raise ValueError(
            f"label {label} is not that of its class. The labels are those of the 24 classes in "
            "alphabetical order, from 0."
        )
    tubes = [
        _parse_tube(tube, frames, label, f"tube {number}")
        for number, tube in enumerate(record["annotations"])
    ]
    return VideoAnnotation(frames, label, tuple(tubes))


def _parse_tube(record: Any, frames: int, label: int, tube: str) -> TubeAnnotation:
    start, stop = index(record["sf"]), index(record["ef"])
    stored = record["boxes"]
    if not 0 <= start <= stop <= frames:
        raise ValueError(f"{tube}: frames {start} to {stop} are not in the video of {frames}.")
    if stored.shape != (stop - start, 4):
        raise ValueError(
            f"{tube}: frames {start} to {stop} need boxes of shape ({stop - start}, 4); got "
            f"{stored.shape}."
        )
    if record["label"] != label:
        raise ValueError(f"{tube}: its label is not that of its video, {label}.")
    with np.errstate(all="ignore"):  # reported below
        corner, size = np.hsplit(np.asarray(stored, np.float64), 2)
        boxes = np.hstack([corner - 1, corner - 1 + size]).astype(np.float32)
    if not np.isfinite(boxes).all():
        raise ValueError(f"{tube}: its boxes are not all finite.")
    return TubeAnnotation(start, boxes)
