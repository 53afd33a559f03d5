"""Space-time tubes: the components of a clip's mask, or linked boxes of its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import scipy  # loads scipy.ndimage when it is first used
import torch
from torch import Tensor

from captum_3dcam._validation import (
    check_integer,
    check_number,
    check_sequence,
    check_tensor,
    describe,
)
from captum_3dcam.frame_times import FrameRate
from captum_3dcam.localization._inputs import (
    Array,
    check_clips,
    check_connectivity,
    check_fps,
    check_mask,
    check_values,
    mask_arrays,
    to_arrays,
    to_seconds,
    to_tensor,
)
from captum_3dcam.localization._regions import label_components
from captum_3dcam.localization.bounding_boxes import Boxes, iou
from captum_3dcam.localization.thresholds import binarize


@dataclass(frozen=True, eq=False)
class Tube:
    """One box in each of the frames [start, end): boxes (L, 2R) over the R axes of a frame.

    Raises TypeError or ValueError for boxes of another shape, L = 0, what is no number, and ``fps``
    that is not positive.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    >>> tube = Tube(start=5, boxes=boxes, score=0.9, fps=10)
    >>> tube.end, tube.bounds.tolist(), tube.seconds
    (7, [0.0, 0.0, 5.0, 3.0, 2.0, 7.0], (0.5, 0.7))
    """

    start: int
    boxes: Tensor
    score: float
    fps: FrameRate | None = None

    def __post_init__(self) -> None:
        check_fps(self.fps)
        check_tensor("boxes", self.boxes)
        check_integer("start", self.start, minimum=None)
        check_number("score", self.score)
        if self.boxes.ndim != 2 or not self.boxes.numel() or self.boxes.shape[1] % 2:
            raise ValueError(
                "Expected tube boxes (L, 2R) in at least one frame, (L, 4) for frames (H, W); "
                f"got {describe(self.boxes)}."
            )

    @property
    def end(self) -> int:
        """The first frame after the tube."""
        return self.start + len(self.boxes)

    @property
    def bounds(self) -> Tensor:
        """The cuboid around the tube, (x0, y0, t0, x1, y1, t1)."""
        lower, upper = self.boxes.chunk(2, dim=1)
        time = self.boxes.new_tensor([[self.start], [self.end]])
        return torch.cat((lower.amin(0), time[0], upper.amax(0), time[1]))

    @property
    def seconds(self) -> tuple[float, float]:
        """The start of the first frame and the end of the last one; ValueError without fps."""
        return to_seconds(self.start, self.end, self.fps)


def tubes(
    maps: Tensor,
    mask: Tensor | None = None,
    connectivity: int | None = None,
    fps: FrameRate | None = None,
) -> list[list[Tube]]:
    """Space-time tubes of clips (N, 1, T, *S), one per connected component of the mask.

    In each frame, the box is the bounding box of the component there. The score is the mean over
    frames of the map's maximum in the component.

    Args:
        maps: (N, 1, T, *S).
        mask: bool (N, 1, T, *S); by default ``binarize(maps)``, above half the maximum.
        connectivity: as in :func:`components`; the time axis counts.
        fps: frames per second, or their ``FrameTimes``, for :attr:`Tube.seconds`.

    Raises TypeError or ValueError for arguments that are not as described.

    >>> maps = torch.zeros(1, 1, 4, 3, 8)
    >>> for t in (1, 2, 3):
    ...     maps[0, 0, t, 1:3, t : t + 2] = 1.0
    >>> (tube,) = tubes(maps, fps=2)[0]
    >>> tube.boxes.int().tolist(), tube.seconds
    ([[1, 1, 3, 3], [2, 1, 4, 3], [3, 1, 5, 3]], (0.5, 2.0))
    """
    check_clips(maps)
    fps = check_fps(fps, maps.shape[2])
    connectivity = check_connectivity(connectivity, maps.ndim - 2)
    mask = binarize(maps) if mask is None else check_mask(mask, maps)
    results = []
    for values, inside in zip(to_arrays(maps), mask_arrays(mask), strict=True):
        sample = _component_tubes(values, inside, connectivity, fps, maps.device)
        results.append(sorted(sample, key=attrgetter("score"), reverse=True))
    return results


def _component_tubes(
    values: Array, mask: Array, connectivity: int, fps: FrameRate | None, device: torch.device
) -> Iterator[Tube]:
    labels, _ = label_components(mask, connectivity)
    space = tuple(range(1, mask.ndim))
    for label, slices in enumerate(scipy.ndimage.find_objects(labels), start=1):
        inside = labels[slices] == label
        # A component is connected: it has a pixel in every frame from its first to its last.
        maxima = np.where(inside, values[slices], -np.inf).max(axis=space)
        origin = [axis.start for axis in slices[:0:-1]] * 2
        boxes = to_tensor(_boxes_per_frame(inside) + origin, device)
        yield Tube(slices[0].start, boxes, float(maxima.mean(dtype=np.float64)), fps)


def _boxes_per_frame(mask: Array) -> Array:
    """The bounding box in each frame, (L, *S) -> (L, 2R); no frame is empty."""
    lower, upper = [], []
    for axis in range(mask.ndim - 1, 0, -1):
        others = tuple(other for other in range(1, mask.ndim) if other != axis)
        projection = np.asarray(mask.any(axis=others))
        lower.append(projection.argmax(axis=1))
        upper.append(projection.shape[1] - projection[:, ::-1].argmax(axis=1))
    return np.stack(lower + upper, axis=1)


def link(
    frames: Sequence[Sequence[Boxes]],
    min_iou: float = 0.3,
    max_gap: int = 0,
    min_length: int = 1,
    fps: FrameRate | None = None,
) -> list[list[Tube]]:
    """Link boxes of consecutive frames, as :func:`frame_boxes` returns them, into tubes.

    Greedy matching, frame by frame: of the pairs of a tube's last box and a box of the frame, the
    one with the highest IoU is linked first; each tube and each box is matched at most once, and
    an unmatched box starts a tube. Ties go to the tube that started first, then to the box with
    the higher score.

    Args:
        frames: for each sample and each frame its Boxes.
        min_iou: the minimum IoU of a pair, from 0 to 1.
        max_gap: the maximum number of consecutive frames in which a tube has no matching box;
            there its box is interpolated linearly.
        min_length: the minimum length of a tube in frames, interpolated ones included.
        fps: frames per second, or their ``FrameTimes``, for :attr:`Tube.seconds`.

    Returns:
        For each sample its tubes. The score is the mean score of the linked boxes.

    Raises TypeError or ValueError for arguments that are not as described.

    >>> from captum_3dcam.localization import frame_boxes
    >>> maps = torch.zeros(1, 1, 4, 3, 8)
    >>> for t in (0, 1, 3):
    ...     maps[0, 0, t, 0:2, t : t + 4] = 1.0
    >>> [(tube.start, tube.end) for tube in link(frame_boxes(maps))[0]]
    [(0, 2), (3, 4)]
    >>> (tube,) = link(frame_boxes(maps), max_gap=1)[0]
    >>> tube.boxes[2].tolist()
    [2.0, 0.0, 6.0, 2.0]
    """
    min_iou = check_number("min_iou", min_iou)
    if not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou={min_iou}: expected an IoU, from 0 to 1.")
    max_gap = check_integer("max_gap", max_gap, minimum=0)
    min_length = check_integer("min_length", min_length)
    fps = check_fps(fps)
    results = []
    for sample in check_sequence("frames", frames, of="samples, each a list of Boxes"):
        _check_frames(sample)
        check_fps(fps, len(sample))
        tracks = _link_sample(sample, min_iou, max_gap)
        linked = (_to_tube(track, fps, sample[0].boxes.device) for track in tracks)
        kept = [tube for tube in linked if len(tube.boxes) >= min_length]
        results.append(sorted(kept, key=attrgetter("score"), reverse=True))
    return results


class _Detection(NamedTuple):
    frame: int
    box: Tensor
    score: float


_Track = list[_Detection]


def _link_sample(frames: Sequence[Boxes], min_iou: float, max_gap: int) -> list[_Track]:
    """The detections of each tube, in the order in which the tubes start."""
    tracks: list[_Track] = []
    active: list[_Track] = []
    for t, frame in enumerate(frames):
        boxes, scores = (x.detach().cpu().double() for x in frame)
        active = [track for track in active if t - track[-1].frame - 1 <= max_gap]
        matches = _match([track[-1].box for track in active], boxes, min_iou)
        started = []
        for j, (box, score) in enumerate(zip(boxes, scores.tolist(), strict=True)):
            detection = _Detection(t, box, score)
            if j in matches:
                active[matches[j]].append(detection)
            else:
                started.append([detection])
        active += started
        tracks += started
    return tracks


def _match(last: list[Tensor], boxes: Tensor, min_iou: float) -> dict[int, int]:
    """Greedy one-to-one matching by IoU: {index in boxes: index in last}."""
    if not last or not len(boxes):
        return {}
    ious = iou(torch.stack(last)[:, None], boxes).numpy()
    matches: dict[int, int] = {}
    for pair in np.argsort(-ious.ravel(), kind="stable"):
        i, j = divmod(int(pair), len(boxes))
        if ious[i, j] < min_iou:
            break
        if j not in matches and i not in matches.values():
            matches[j] = i
    return matches


def _to_tube(track: _Track, fps: FrameRate | None, device: torch.device) -> Tube:
    times, boxes, scores = zip(*track, strict=True)
    frames = range(times[0], times[-1] + 1)
    bounds = torch.stack(boxes).numpy().T
    filled = np.stack([np.interp(frames, times, bound) for bound in bounds], axis=1)
    return Tube(times[0], to_tensor(filled, device), sum(scores) / len(scores), fps)


def _check_frames(frames: Sequence[Boxes]) -> None:
    for frame in check_sequence("a sample of frames", frames, of="Boxes, one per frame"):
        if not isinstance(frame, Boxes):
            raise TypeError(
                "Expected for each sample a list of Boxes, one per frame, as frame_boxes() returns "
                f"them; got {describe(frame)} for a frame. Link one sample with link([frames])."
            )
        boxes, scores = check_tensor("boxes", frame.boxes), check_tensor("scores", frame.scores)
        is_matrix = boxes.ndim == 2 and boxes.shape[1] == frames[0].boxes.shape[1]
        if not is_matrix or boxes.shape[1] % 2 or scores.shape != boxes.shape[:1]:
            raise ValueError(
                "Expected in each frame boxes (B, 2R), over the same R axes, and scores (B,); got "
                f"{tuple(boxes.shape)} and {tuple(scores.shape)}."
            )
        check_values(boxes, "boxes")
        check_values(scores, "scores")
