"""From maps to places and times: masks, boxes, space-time tubes and temporal segments.

Maps are (N, 1, *S), as the attribution classes return them, of any rank. A box is
(x0, y0, x1, y1) in pixels, inclusive-exclusive as in torchvision: x1 - x0 is its width. In
general it has 2 numbers an axis, the last axis first: a clip's cuboid is (x0, y0, t0, x1, y1, t1).

The work is done by NumPy and SciPy; tensors come back on the device of what was given. Whatever
is a list is ordered by score, the best first. Where nothing is found, the result is empty.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import check_choice

Array = NDArray[Any]

SELECTIONS = ("largest", "all", "union")
_OTSU_BINS = 256


class Boxes(NamedTuple):
    """Boxes (B, 2R) float32 over R axes, and their scores (B,), the highest first."""

    boxes: Tensor
    scores: Tensor


@dataclass(frozen=True, eq=False)
class Tube:
    """A box in each frame of [start, end): boxes (L, 2R) over the R axes of a frame.

    Raises ValueError for boxes of another shape, no frames, or ``fps`` that is not positive.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    >>> tube = Tube(start=5, boxes=boxes, score=0.9, fps=10)
    >>> tube.end, tube.bounds.tolist(), tube.seconds
    (7, [0.0, 0.0, 5.0, 3.0, 2.0, 7.0], (0.5, 0.7))
    """

    start: int
    boxes: Tensor
    score: float
    fps: float | None = None

    def __post_init__(self) -> None:
        _check_fps(self.fps)
        shape = tuple(self.boxes.shape)
        if len(shape) != 2 or not len(self.boxes) or not shape[1] or shape[1] % 2:
            raise ValueError(
                "A tube has one box or more of 2 numbers an axis, (L, 4) for frames (H, W); got "
                f"boxes of shape {shape}."
            )

    @property
    def end(self) -> int:
        """The first frame after the tube."""
        return self.start + len(self.boxes)

    @property
    def bounds(self) -> Tensor:
        """The cuboid around all of it, (x0, y0, t0, x1, y1, t1)."""
        lower, upper = self.boxes.chunk(2, dim=1)
        time = self.boxes.new_tensor([[self.start], [self.end]])
        return torch.cat((lower.amin(0), time[0], upper.amax(0), time[1]))

    @property
    def seconds(self) -> tuple[float, float]:
        """start / fps and end / fps; ValueError without fps."""
        return _seconds(self.start, self.end, self.fps)


@dataclass(frozen=True)
class Segment:
    """Frames [start, end) of a clip. ValueError unless start < end, and for fps <= 0.

    >>> Segment(start=5, end=10, score=0.9, fps=25).seconds
    (0.2, 0.4)
    """

    start: int
    end: int
    score: float
    fps: float | None = None

    def __post_init__(self) -> None:
        _check_fps(self.fps)
        if not self.start < self.end:
            raise ValueError(
                f"A segment covers the frames [start, end), at least one; got [{self.start}, "
                f"{self.end})."
            )

    @property
    def seconds(self) -> tuple[float, float]:
        """start / fps and end / fps; ValueError without fps."""
        return _seconds(self.start, self.end, self.fps)


# -------------------------------------------------------------------------------------- masks


def binarize(maps: Tensor, method: str = "relative", value: float | None = None) -> Tensor:
    """Where each map is strictly above a threshold of its own: (N, 1, *S) -> bool (N, 1, *S).

    The threshold is one for all of a sample's space-time, rounded to the map's precision:

    - ``"relative"``: value · max, with value in [0, 1), 0.5 by default;
    - ``"quantile"``: the value-quantile, with value in [0, 1), 0.9 by default;
    - ``"mean"``: value · mean, with value >= 0, 1 by default;
    - ``"otsu"``: that of the largest variance between the two classes, at the centre of one of
      256 bins between minimum and maximum (Otsu, 1979, eq. 18). It takes no value.

    Only positive values count: a threshold below zero is taken as zero, so that a map without a
    positive value gives an empty mask by every method, and a constant map by all but the first.

    Raises TypeError and ValueError for maps that are not real (N, 1, *S), NaN and Inf, an unknown
    method, and a value out of its range.

    >>> maps = torch.tensor([[[0.0, 1.0, 2.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]])
    >>> binarize(maps).int().tolist()
    [[[0, 0, 0, 1]], [[0, 0, 0, 0]]]
    >>> binarize(maps, "mean").int().tolist()
    [[[0, 0, 1, 1]], [[0, 0, 0, 0]]]
    """
    threshold = _threshold(method, value)
    _check_maps(maps)
    mask = np.zeros(maps.shape, dtype=bool)
    for sample, values in zip(mask[:, 0], _arrays(maps), strict=True):
        sample[...] = _above(values, threshold(values))
    return torch.from_numpy(mask).to(maps.device)


def _above(values: Array, threshold: float) -> Array:
    # In the map's own precision, so that 0.6 in float32 is not above the threshold 0.6.
    above: Array = values > values.dtype.type(max(threshold, 0.0))
    return above


def _relative(values: Array, value: float) -> float:
    return value * float(values.max())


def _quantile(values: Array, value: float) -> float:
    # Interpolated or not, the same lies strictly above it; so it keeps the map's precision.
    return float(np.quantile(values, value, method="lower"))


def _mean(values: Array, value: float) -> float:
    # From the minimum on: a sum's rounding must not put a constant map above its own mean.
    low = values.min()
    return value * float(low + np.subtract(values, low, dtype=np.float64).mean())


def _otsu(values: Array) -> float:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high
    places = np.subtract(values, low, dtype=np.float64) / (high - low)
    bins = np.minimum((places * _OTSU_BINS).astype(int), _OTSU_BINS - 1)
    counts = np.bincount(bins.ravel(), minlength=_OTSU_BINS).astype(float)
    # Whole numbers: over a gap in the histogram the variance is the same to the last bit, and
    # the first bin is taken, not one that rounding chose.
    below, moment = counts.cumsum()[:-1], (counts * np.arange(_OTSU_BINS)).cumsum()
    between = (moment[-1] * below - values.size * moment[:-1]) ** 2
    between /= below * (values.size - below)
    return low + (float(between.argmax()) + 0.5) / _OTSU_BINS * (high - low)


class _Rule(NamedTuple):
    threshold: Callable[[Array, float], float]
    default: float
    limit: float


_RULES = {
    "relative": _Rule(_relative, 0.5, 1.0),
    "quantile": _Rule(_quantile, 0.9, 1.0),
    "mean": _Rule(_mean, 1.0, math.inf),
}
THRESHOLDS = (*_RULES, "otsu")


def _threshold(method: str, value: float | None) -> Callable[[Array], float]:
    """What gives a map's threshold; a ValueError for a method or value that is none."""
    check_choice("method", method, THRESHOLDS)
    if method not in _RULES:
        if value is not None:
            raise ValueError(
                f"method={method!r} finds its own threshold and takes no value; got {value}."
            )
        return _otsu
    rule = _RULES[method]
    factor = rule.default if value is None else value
    if not 0 <= factor < rule.limit:
        raise ValueError(
            f"value={value} is out of range: method={method!r} takes 0 <= value < {rule.limit:g}."
        )
    return lambda values: rule.threshold(values, factor)


# --------------------------------------------------------------------------------- components


def components(mask: Tensor, connectivity: int | None = None) -> tuple[Tensor, Tensor]:
    """The connected components of each mask: labels (N, 1, *S) and their counts (N,), int64.

    Labels run from 1 to the sample's count, in the order in which a scan meets the components,
    the last axis fastest; 0 is outside the mask. Two places are neighbours if they are at most
    one step apart along at most ``connectivity`` axes: all axes by default (8 neighbours in 2D,
    26 in 3D); 1 leaves 4 and 6.

    Raises TypeError and ValueError for a mask that is not bool (N, 1, *S), and for a connectivity
    that is not from 1 to the number of axes.

    >>> labels, counts = components(torch.tensor([[[[True, False], [False, True]]]]))
    >>> labels.tolist(), counts.tolist()
    ([[[[1, 0], [0, 1]]]], [1])
    >>> components(torch.tensor([[[[True, False], [False, True]]]]), connectivity=1)[0].tolist()
    [[[[1, 0], [0, 2]]]]
    """
    _check_mask(mask)
    rank = mask.ndim - 2
    labels = np.zeros(mask.shape, dtype=np.int64)
    counts = np.zeros(len(mask), dtype=np.int64)
    for i, sample in enumerate(mask.cpu().numpy()[:, 0]):
        labels[i, 0], counts[i] = _label(sample, _check_connectivity(connectivity, rank))
    return torch.from_numpy(labels).to(mask.device), torch.from_numpy(counts).to(mask.device)


def _label(mask: Array, connectivity: int) -> tuple[Array, int]:
    ndimage = _ndimage()
    structure = ndimage.generate_binary_structure(mask.ndim, connectivity)
    labels, count = ndimage.label(mask, structure)
    return labels, count


def _ndimage() -> Any:
    # Imported late: importing the package must not wait for it.
    from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]

    return ndimage


# -------------------------------------------------------------------------------------- boxes


def boxes(
    maps: Tensor,
    mask: Tensor | None = None,
    select: str = "largest",
    connectivity: int | None = None,
) -> list[Boxes]:
    """Bounding boxes of a mask, and the map's maximum in each as its score: one Boxes a sample.

    Args:
        maps: (N, 1, *S), of R axes.
        mask: bool (N, 1, *S); by default ``binarize(maps)``, above half the maximum.
        select: ``"largest"``, the box of the component of most pixels (of equals, of the highest
            score, then of the first in :func:`components`); ``"all"``, one for each component;
            ``"union"``, one around the whole mask.
        connectivity: that of :func:`components`.

    Returns:
        N times boxes (B, 2R), for images (B, 4), and scores (B,). An empty mask has B = 0.

    Raises:
        TypeError, ValueError: as :func:`binarize` and :func:`components`, for a mask of another
            shape than the maps, and for an unknown ``select``.

    >>> maps = torch.zeros(1, 1, 4, 6)
    >>> maps[0, 0, 0, 5], maps[0, 0, 1:3, 1:4] = 4.0, 3.0
    >>> boxes(maps)[0].boxes.tolist()
    [[1.0, 1.0, 4.0, 3.0]]
    >>> boxes(maps, select="all")[0]
    Boxes(boxes=tensor([[5., 0., 6., 1.],
            [1., 1., 4., 3.]]), scores=tensor([4., 3.]))
    """
    check_choice("select", select, SELECTIONS)
    _check_maps(maps)
    connectivity = _check_connectivity(connectivity, maps.ndim - 2)
    found = (
        _sample_boxes(values, inside, select, connectivity) for values, inside in _pairs(maps, mask)
    )
    return [Boxes(_tensor(b, maps.device), _tensor(s, maps.device)) for b, s in found]


def frame_boxes(
    maps: Tensor,
    mask: Tensor | None = None,
    select: str = "largest",
    connectivity: int | None = None,
) -> list[list[Boxes]]:
    """The :func:`boxes` of each frame of clips (N, 1, T, *S): for each sample a list of T Boxes.

    The threshold is the clip's, not each frame's: frames that the network did not look at stay
    empty. ``connectivity`` counts the axes of a frame. Raises as :func:`boxes`, and ValueError
    for maps without an axis of space beside that of time.

    >>> maps = torch.zeros(1, 1, 3, 4, 4)
    >>> maps[0, 0, 1, 1:3, 2:4], maps[0, 0, 2, 0, 0] = 1.0, 0.4
    >>> [frame.boxes.tolist() for frame in frame_boxes(maps)[0]]
    [[], [[2.0, 1.0, 4.0, 3.0]], []]
    """
    _check_clips(maps)
    mask = binarize(maps) if mask is None else _check_mask(mask, maps)
    return [
        boxes(clip.transpose(0, 1), inside.transpose(0, 1), select, connectivity)
        for clip, inside in zip(maps, mask, strict=True)
    ]


def _sample_boxes(
    values: Array, mask: Array, select: str, connectivity: int
) -> tuple[Array, Array]:
    """Boxes (B, 2R) and scores (B,), the highest first."""
    labels, count = (mask, int(mask.any())) if select == "union" else _label(mask, connectivity)
    if not count:
        return np.zeros((0, 2 * mask.ndim)), np.zeros(0)
    ndimage, labels = _ndimage(), labels.astype(np.int32, copy=False)
    found = np.array([_corners(slices) for slices in ndimage.find_objects(labels)])
    scores = np.array(ndimage.maximum(values, labels, np.arange(1, count + 1)))
    order = _best_first(scores)
    if select == "largest":
        pixels = np.bincount(labels.ravel())[1:]
        order = order[[pixels[order].argmax()]]
    return found[order], scores[order]


def _corners(slices: Sequence[slice]) -> list[int]:
    """A box, the last axis first."""
    axes = slices[::-1]
    return [axis.start for axis in axes] + [axis.stop for axis in axes]


def _best_first(scores: Array) -> Array:
    """Of equal scores the first stays first."""
    return np.argsort(-scores, kind="stable")


# -------------------------------------------------------------------------------------- tubes


def tubes(
    maps: Tensor,
    mask: Tensor | None = None,
    connectivity: int | None = None,
    fps: float | None = None,
) -> list[list[Tube]]:
    """Space-time tubes of clips (N, 1, T, *S): one for each component of the mask in space-time.

    A tube has in each frame the bounding box of what the component has there. Its score is the
    mean over its frames of the map's maximum in the component there, as :func:`link`'s is.

    Args:
        maps: (N, 1, T, *S).
        mask: bool (N, 1, T, *S); by default ``binarize(maps)``, above half the maximum.
        connectivity: that of :func:`components`; the axis of time counts.
        fps: frames per second, for :attr:`Tube.seconds`.

    Raises:
        TypeError, ValueError: as :func:`frame_boxes`, and for ``fps`` that is not positive.

    >>> maps = torch.zeros(1, 1, 4, 3, 8)
    >>> for t in (1, 2, 3):
    ...     maps[0, 0, t, 1:3, t : t + 2] = 1.0
    >>> (tube,) = tubes(maps, fps=2)[0]
    >>> tube.boxes.int().tolist(), tube.seconds
    ([[1, 1, 3, 3], [2, 1, 4, 3], [3, 1, 5, 3]], (0.5, 2.0))
    """
    _check_fps(fps)
    _check_clips(maps)
    connectivity = _check_connectivity(connectivity, maps.ndim - 2)
    return [
        sorted(
            _sample_tubes(values, inside, connectivity, fps, maps.device),
            key=lambda tube: -tube.score,
        )
        for values, inside in _pairs(maps, mask)
    ]


def _sample_tubes(
    values: Array, mask: Array, connectivity: int, fps: float | None, device: torch.device
) -> Iterator[Tube]:
    labels, _ = _label(mask, connectivity)
    space = tuple(range(1, mask.ndim))
    for label, slices in enumerate(_ndimage().find_objects(labels), start=1):
        inside = labels[slices] == label
        # A component is connected, so none of its frames between the first and last is empty.
        peaks = np.where(inside, values[slices], -np.inf).max(axis=space)
        origin = [axis.start for axis in slices[:0:-1]] * 2
        yield Tube(
            start=slices[0].start,
            boxes=_tensor(_frame_corners(inside) + origin, device),
            score=float(peaks.mean(dtype=np.float64)),
            fps=fps,
        )


def _frame_corners(inside: Array) -> Array:
    """The box around what is inside in each frame, (L, *S) -> (L, 2R); no frame is empty."""
    lower, upper = [], []
    for axis in range(inside.ndim - 1, 0, -1):
        others = tuple(other for other in range(1, inside.ndim) if other != axis)
        shadow = np.asarray(inside.any(axis=others))
        lower.append(shadow.argmax(axis=1))
        upper.append(shadow.shape[1] - shadow[:, ::-1].argmax(axis=1))
    return np.stack(lower + upper, axis=1)


def link(
    frames: Sequence[Sequence[Boxes]],
    min_iou: float = 0.3,
    max_gap: int = 0,
    min_length: int = 1,
    fps: float | None = None,
) -> list[list[Tube]]:
    """Join the boxes of consecutive frames, as :func:`frame_boxes` gives them, into tubes.

    Frame by frame, the last boxes of the tubes so far and the frame's boxes are paired one to
    one, the pair of the largest IoU first; a box without a tube begins one. Where two pairs
    overlap alike, the tube that began first and the box of the higher score go first.

    Args:
        frames: for each sample, for each frame, its Boxes.
        min_iou: the least IoU of a pair, 0 to 1.
        max_gap: how many frames in a row may have no box of a tube; in those its box is
            interpolated linearly.
        min_length: the least frames of a tube, interpolated ones included.
        fps: frames per second, for :attr:`Tube.seconds`.

    Returns:
        For each sample its tubes. The score is the mean of the boxes' that were joined.

    Raises:
        TypeError, ValueError: for boxes that are not finite (B, 2R) with scores (B,), and for
            other arguments out of their range.

    >>> maps = torch.zeros(1, 1, 4, 3, 8)
    >>> for t in (0, 1, 3):
    ...     maps[0, 0, t, 0:2, t : t + 4] = 1.0
    >>> [(tube.start, tube.end) for tube in link(frame_boxes(maps))[0]]
    [(0, 2), (3, 4)]
    >>> (tube,) = link(frame_boxes(maps), max_gap=1)[0]
    >>> tube.boxes[2].tolist()
    [2.0, 0.0, 6.0, 2.0]
    """
    if not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou={min_iou} is out of range: an IoU goes from 0 to 1.")
    max_gap = _check_at_least("max_gap", max_gap, 0)
    min_length = _check_at_least("min_length", min_length, 1)
    _check_fps(fps)
    for sample in frames:
        _check_frames(sample)
    return [
        sorted(
            (
                track.tube(fps, sample[0].boxes.device)
                for track in _tracks(sample, min_iou, max_gap)
                if len(track.boxes) >= min_length
            ),
            key=lambda tube: -tube.score,
        )
        for sample in frames
    ]


@dataclass
class _Track:
    """A tube that may still grow."""

    start: int
    boxes: list[Array]
    scores: list[float]

    @property
    def end(self) -> int:
        return self.start + len(self.boxes)

    def extend(self, frame: int, box: Array, score: float) -> None:
        """Up to the box in this frame, by boxes on the way in the frames before it."""
        self.boxes.extend(np.linspace(self.boxes[-1], box, frame - self.end + 2)[1:])
        self.scores.append(score)

    def tube(self, fps: float | None, device: torch.device) -> Tube:
        boxes = _tensor(np.stack(self.boxes), device)
        return Tube(self.start, boxes, sum(self.scores) / len(self.scores), fps)


def _tracks(frames: Sequence[Boxes], min_iou: float, max_gap: int) -> list[_Track]:
    tracks: list[_Track] = []
    live: list[_Track] = []
    for t, frame in enumerate(frames):
        found, scores = (x.detach().cpu().double().numpy() for x in frame)
        live = [track for track in live if t - track.end <= max_gap]
        begun = []
        matches = _match([track.boxes[-1] for track in live], found, min_iou)
        for j, (box, score) in enumerate(zip(found, scores.tolist(), strict=True)):
            if j in matches:
                live[matches[j]].extend(t, box, score)
            else:
                begun.append(_Track(t, [box], [score]))
        live += begun
        tracks += begun
    return tracks


def _match(lasts: list[Array], found: Array, min_iou: float) -> dict[int, int]:
    """Which of the last boxes each found box goes to, greedily by IoU and one to one."""
    if not lasts or not len(found):
        return {}
    ious = _pairwise_iou(np.stack(lasts), found)
    matches: dict[int, int] = {}
    for pair in _best_first(ious.ravel()):
        i, j = divmod(int(pair), len(found))
        if ious[i, j] < min_iou:
            break
        if j not in matches and i not in matches.values():
            matches[j] = i
    return matches


def _pairwise_iou(a: Array, b: Array) -> Array:
    """(A, 2R) and (B, 2R) -> (A, B)."""
    return np.asarray(iou(torch.from_numpy(a)[:, None], torch.from_numpy(b)[None]))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 2R) at the same places; the shapes broadcast.

    Zero where neither has an extent, and where a box is NaN.

    >>> iou(torch.tensor([2.0, 2.0, 5.0, 5.0]), torch.tensor([2.0, 2.0, 6.0, 6.0]))
    tensor(0.5625)
    """
    (low_a, high_a), (low_b, high_b) = a.chunk(2, dim=-1), b.chunk(2, dim=-1)
    common = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = (high_a - low_a).prod(-1) + (high_b - low_b).prod(-1) - common
    return torch.where(union > 0, common / union, 0)


# ----------------------------------------------------------------------------------- segments


def segments(
    profile: Tensor,
    high: float = 0.5,
    low: float = 0.25,
    min_length: int = 1,
    max_gap: int = 0,
    fps: float | None = None,
) -> list[list[Segment]]:
    """When the profile (N, T) of a map was high: for each sample its segments.

    By hysteresis: a segment is a longest run of frames above low · max that somewhere is above
    high · max, where max is the sample's own; both strictly. Then segments at most ``max_gap``
    frames apart become one, and those of less than ``min_length`` frames are dropped. The score
    is the profile's maximum in the segment. A profile without a positive value has none.

    Args:
        profile: (N, T), as :func:`captum_3dcam.functional.temporal_profile` gives it.
        high, low: fractions of the maximum, 0 <= low <= high < 1.
        min_length, max_gap: in frames.
        fps: frames per second, for :attr:`Segment.seconds`.

    Raises:
        TypeError, ValueError: for a profile that is not real, finite and (N, T), and for other
            arguments out of their range.

    >>> profile = torch.tensor([[0.0, 3.0, 8.0, 4.0, 0.0, 3.0, 0.0, 6.0]])
    >>> for segment in segments(profile, fps=2)[0]:
    ...     print(segment, segment.seconds)
    Segment(start=1, end=4, score=8.0, fps=2) (0.5, 2.0)
    Segment(start=7, end=8, score=6.0, fps=2) (3.5, 4.0)
    """
    _check_fps(fps)
    max_gap = _check_at_least("max_gap", max_gap, 0)
    min_length = _check_at_least("min_length", min_length, 1)
    if not 0 <= low <= high < 1:
        raise ValueError(
            f"high and low are fractions of the maximum, 0 <= low <= high < 1; got high={high}, "
            f"low={low}."
        )
    _check_profile(profile)
    return [
        sorted(
            (
                Segment(start, end, float(values[start:end].max()), fps)
                for start, end in _close(_hysteresis(values, high, low), max_gap)
                if end - start >= min_length
            ),
            key=lambda segment: -segment.score,
        )
        for values in _arrays(profile[:, None])
    ]


def _hysteresis(values: Array, high: float, low: float) -> list[tuple[int, int]]:
    above_low = _above(values, _relative(values, low))
    above_high = _above(values, _relative(values, high))
    edges = np.flatnonzero(np.diff(np.pad(above_low, 1).astype(int)))
    runs = edges.reshape(-1, 2).tolist()
    return [(start, end) for start, end in runs if above_high[start:end].any()]


def _close(runs: list[tuple[int, int]], max_gap: int) -> list[tuple[int, int]]:
    closed: list[tuple[int, int]] = []
    for start, end in runs:
        if closed and start - closed[-1][1] <= max_gap:
            start, _ = closed.pop()
        closed.append((start, end))
    return closed


# ------------------------------------------------------------------------------- at the door


def _arrays(maps: Tensor) -> Iterator[Array]:
    """Each sample (*S) in float32 at least: half precision is not NumPy's."""
    dtype = torch.promote_types(maps.dtype, torch.float32)
    for sample in maps.detach()[:, 0]:
        yield sample.to("cpu", dtype).numpy()


def _pairs(maps: Tensor, mask: Tensor | None) -> Iterator[tuple[Array, Array]]:
    """Each sample's map and mask."""
    mask = binarize(maps) if mask is None else _check_mask(mask, maps)
    return zip(_arrays(maps), mask.cpu().numpy()[:, 0], strict=True)


def _tensor(array: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def _seconds(start: int, end: int, fps: float | None) -> tuple[float, float]:
    if fps is None:
        raise ValueError(
            f"The frames [{start}, {end}) have no time in seconds without a frame rate: pass fps "
            "to the function or class that made this."
        )
    return start / fps, end / fps


def _check_maps(maps: Tensor) -> None:
    _check_shape(maps, "maps")
    _check_values(maps, "maps")


def _check_clips(maps: Tensor) -> None:
    _check_maps(maps)
    if maps.ndim < 4:
        raise ValueError(
            "Frames need maps (N, 1, T, *S) with an axis of time and one of space or more; got "
            f"{tuple(maps.shape)}. For a profile over time, use segments()."
        )


def _check_profile(profile: Tensor) -> None:
    if not isinstance(profile, Tensor) or profile.ndim != 2 or not profile.shape[1]:
        raise ValueError(
            f"Expected a profile (N, T) over one frame or more; got {_came(profile)}. Of a map, "
            "captum_3dcam.functional.temporal_profile(map) makes one."
        )
    _check_values(profile, "profile")


def _check_mask(mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """The mask itself, if it is one, and one of these maps."""
    _check_shape(mask, "mask")
    if mask.dtype != torch.bool:
        raise TypeError(f"A mask is bool; got {mask.dtype}. binarize(maps) makes one of maps.")
    if maps is not None and mask.shape != maps.shape:
        raise ValueError(
            f"The mask has shape {tuple(mask.shape)}, the maps have {tuple(maps.shape)}: they must "
            "be the same."
        )
    return mask


def _check_shape(x: Tensor, name: str) -> None:
    if not isinstance(x, Tensor) or x.ndim < 3 or x.shape[1] != 1 or 0 in x.shape[2:]:
        raise ValueError(
            f"Expected {name} (N, 1, *S) of one axis or more, as attribute() returns them; got "
            f"{_came(x)}. Add axes that are missing, {name}[None, None]; or take maps of several "
            f"classes (N, k, *S) as so many samples, {name}.flatten(0, 1)[:, None]."
        )


def _check_values(x: Tensor, name: str) -> None:
    if x.is_complex():
        raise TypeError(f"Expected {name} of real numbers; got {x.dtype}.")
    if not x.isfinite().all():
        raise ValueError(
            f"The {name} must be finite; some values are NaN or Inf. Look for where they arise; "
            "they are not taken as zero here."
        )


def _check_frames(frames: Sequence[Boxes]) -> None:
    widths = set()
    for frame in frames:
        if not isinstance(frame, Boxes):
            raise TypeError(
                "link() takes for each sample a list of Boxes, one a frame, as frame_boxes() gives "
                f"them; got {_came(frame)} for a frame. Pass one sample's frames as [frames]."
            )
        found, scores = frame
        if found.ndim != 2 or found.shape[1] % 2 or scores.shape != found.shape[:1]:
            raise ValueError(
                "Expected in each frame boxes (B, 2R) and scores (B,), as frame_boxes() gives "
                f"them; got {tuple(found.shape)} and {tuple(scores.shape)}."
            )
        _check_values(found, "boxes")
        _check_values(scores, "scores")
        widths.add(found.shape[1])
    if len(widths) > 1:
        raise ValueError(
            "The frames of one sample must have boxes over the same axes; got boxes of "
            f"{' and '.join(map(str, sorted(widths)))} numbers."
        )


def _check_connectivity(connectivity: int | None, rank: int) -> int:
    if connectivity is None:
        return rank
    if operator.index(connectivity) not in range(1, rank + 1):
        raise ValueError(
            f"connectivity={connectivity} is not from 1 to {rank}. It counts the axes along which "
            "neighbours may differ, not the neighbours: in 2D, 1 is 4-connected and 2 is "
            "8-connected. None takes all axes."
        )
    return connectivity


def _check_at_least(name: str, value: int, least: int) -> int:
    if operator.index(value) < least:
        raise ValueError(f"{name}={value} must be an integer of frames, {least} or more.")
    return value


def _check_fps(fps: float | None) -> None:
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps={fps} must be a positive number of frames per second, or None.")


def _came(x: object) -> str:
    return str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__
