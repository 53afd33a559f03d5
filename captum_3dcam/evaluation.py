"""Which method localises best, and does any beat a box that looks at nothing?

:func:`evaluate` runs attributions over samples with a known place, one sample at a time, and keeps
what each map scored; all else, the best threshold and the confidence intervals too, is derived
from that. A run can be stopped and gone on with, and shared among processes.

Three rows are always there, of boxes that are held for the whole time:

- ``chance``: the mean over 100 boxes a sample, with corners drawn uniformly from the frame;
- ``whole frame``;
- ``centre box``: half of the frame's width and height.

Their boxes are taken as they are, and have no threshold to choose. Their energy and hit are those
of a map that is uniform inside the box, and of a point drawn from it: the share of the box's
pixels, in space and time, that are truth. For ``chance`` it is the share of all pixels.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from captum_3dcam._progress import load_tqdm
from captum_3dcam.datasets import ActionClip, LocalizedImage, VideoClip
from captum_3dcam.metrics import (
    boxes_to_mask,
    cam_thresholds,
    clip_ious,
    count_correct,
    energy_inside,
    hit_point,
    paired_iou,
    protocol_name,
    tube_iou,
)
from captum_3dcam.models import Preprocessing

Array = npt.NDArray[np.float64]

IOU_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""δ: the IoU that a frame's box must reach."""
MAX_BOX_ACC = (0.3, 0.5, 0.7)
"""The δ over which MaxBoxAcc is the mean."""
BASELINES = ("chance", "whole frame", "centre box")
COLUMNS = ("energy", "hit", "hit_intersect", "max_box_acc", "max_box_acc_per_sample", "tube_iou")
"""What :meth:`Evaluation.table` shows by default."""

_CHANCE_BOXES = 100
_FORMAT = 1  # of a checkpoint; raised when what is stored, or what it means, changes


class Sample(NamedTuple):
    """One clip, image or volume, a class, and where it is."""

    inputs: Tensor
    """(C, *S), as the model takes it, without the batch axis."""
    target: int
    """The class to explain."""
    boxes: Tensor
    """(T, 4): x0, y0, x1, y1 in pixels, inclusive-exclusive, in each frame; NaN where there is
    none. An image is one frame, (1, 4); a volume has a frame a slice. (B, T, 4) where the class
    is in B places: a box found is held against the best of them."""
    mask: Tensor | None = None
    """(*S), bool: where the energy belongs, if that is known better than by the boxes."""


class Samples(Protocol):
    """A list of :class:`Sample`, or a dataset of them: the same one at the same index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Attribution(Protocol):
    """The classes of :mod:`captum_3dcam.attribution`, and what has a method like theirs."""

    def attribute(self, inputs: Tensor, target: Any = None) -> Any:
        """Inputs (1, C, *S) -> a map (1, 1, *S)."""


class Scores(NamedTuple):
    """What one map scored on one sample, or (with an axis N more in front) all maps of a row."""

    energy: Any
    """The share of the map inside the mask, else the boxes: (N,)."""
    hit: Any
    """Whether the map's highest pixel lies in its frame's box: (N,)."""
    hit_intersect: Any
    """Whether the box around the map above half its maximum meets the truth: (N,)."""
    accuracy: Array
    """The share of annotated frames whose box has IoU >= δ, at each threshold τ: (N, D, K)."""
    tube_iou: Array
    """IoU of the tube, at each threshold τ: (N, K)."""


class Interval(NamedTuple):
    """A score and its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Record = dict[str, Scores]


def grid(
    model: Callable[..., Tensor],
    methods: Mapping[str, Callable[[Any, Any], Attribution]],
    layer_sets: Mapping[str, Sequence[Any]],
) -> dict[str, Attribution]:
    """Every method over every set of layers, named ``"method: layers"``.

    A method is a class of :mod:`captum_3dcam.attribution`, or what makes one of (model, layers).

    >>> from captum_3dcam import LayerwiseHiResCAM
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> list(grid(model, {"HiResCAM": LayerwiseHiResCAM}, {"both": ["0", "1"], "last": ["1"]}))
    ['HiResCAM: both', 'HiResCAM: last']
    """
    return {
        f"{method}: {layers}": make(model, chosen)
        for layers, chosen in layer_sets.items()
        for method, make in methods.items()
    }


def evaluate(
    attributions: Mapping[str, Attribution],
    samples: Samples,
    *,
    tolerance: float = 0.0,
    device: torch.device | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    group_size: int = 1,
) -> "Evaluation":
    """Score the maps of all attributions on all samples, and those of :data:`BASELINES`.

    Where :mod:`torch.distributed` is initialised, each process takes its share of the samples and
    all of them return the whole result; it does not depend on their number.

    Args:
        attributions: by the name of their row; see :func:`grid`.
        samples: a list or dataset of :class:`Sample`.
        tolerance: pixels; a hit is less than that from the frame's box, or inside.
        device: where the inputs are moved; by default they stay.
        checkpoint: a folder, in which every finished sample is kept at once. A run that was
            stopped goes on from there, with the same result.
        progress: show a bar; it needs the extra ``progress``.
        resamples, confidence, seed: of the percentile bootstrap over samples.
        group_size: so many consecutive samples are drawn together by the bootstrap, for samples
            that depend on each other, as several actors of one clip.

    Raises:
        ValueError: for samples, maps and options that do not fit, and for the checkpoint of
            another run; ImportError for ``progress`` without tqdm.

    >>> class Corner:
    ...     def attribute(self, inputs, target=None):
    ...         return torch.eye(4)[:, :1].expand(1, 1, 4, 4)  # the first row
    >>> top = Sample(torch.zeros(3, 4, 4), 0, torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
    >>> found = evaluate({"row": Corner()}, [top])
    >>> print(found.table(["energy", "hit"]))
    | | energy | hit |
    |---|---|---|
    | row | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |
    | chance | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    | whole frame | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    | centre box | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    """
    _check(attributions, samples, tolerance)
    bootstrap = Bootstrap(resamples, confidence, seed, group_size)
    bootstrap.check(len(samples))
    bar = _bar(progress)
    run = _fingerprint(attributions, samples, tolerance)
    rank, world = _process()
    mine = range(rank, len(samples), world)
    with _kept(checkpoint, run, rank) as (done, keep):
        records = {index: done[index] for index in mine if index in done}
        for index in bar(mine, records):
            record = _score(attributions, samples[index], index, tolerance, device)
            keep(index, record)
            records[index] = record
    everywhere = _gather(records)
    names = (*attributions, *BASELINES)
    return Evaluation(
        {name: _stack(everywhere[i][name] for i in range(len(samples))) for name in names},
        bootstrap,
        run,
    )


def prepared_sample(
    found: VideoClip | ActionClip | LocalizedImage, prepare: Preprocessing, target: int
) -> Sample:
    """A sample of :mod:`captum_3dcam.datasets` as a network takes it, boxes and masks with it.

    The mask is that of all actors together. There is none where a frame with a box has none: what
    a map puts on an actor who is not masked would count as lost.

    >>> from captum_3dcam.datasets import SyntheticActions
    >>> prepare = Preprocessing(scale=1.0, mean=(0.5, 0.5, 0.5), size=(32, 32))
    >>> sample = prepared_sample(SyntheticActions(1, size=64)[0], prepare, target=0)
    >>> sample.inputs.shape, sample.boxes.shape, sample.mask.shape
    (torch.Size([3, 16, 32, 32]), torch.Size([1, 16, 4]), torch.Size([16, 32, 32]))
    """
    if isinstance(found, LocalizedImage):
        pictures, boxes, masks = found.image, found.boxes[:, None], None
    else:
        pictures, boxes, masks = found.clip, found.boxes, found.masks
    inputs = prepare(pictures)
    boxes = prepare.scale_boxes(boxes, (pictures.shape[-2], pictures.shape[-1]))
    return Sample(inputs, target, boxes, _joined_mask(boxes, masks, inputs.shape[1:]))


def _joined_mask(boxes: Tensor, masks: Tensor | None, size: Sequence[int]) -> Tensor | None:
    if masks is None or (~boxes.isnan().any(dim=-1) & ~masks.flatten(2).any(dim=-1)).any():
        return None
    together = masks.any(dim=0)[None, None].float()
    return F.interpolate(together, tuple(size), mode="nearest-exact")[0, 0] > 0.5


def evenly(length: int, limit: int | None) -> list[int]:
    """So many places of a list, or all, spread over it.

    >>> evenly(10, 3), evenly(2, 3)
    ([0, 3, 6], [0, 1])
    """
    if limit is None or limit >= length:
        return list(range(length))
    return [place * length // limit for place in range(limit)]


# ---------------------------------------------------------------------------------- the result


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: the quantiles of the score over samples drawn with replacement.

    Every row and every score sees the same draws.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    group_size: int = 1

    def check(self, samples: int) -> None:
        """Raise ValueError if it cannot be done with so many samples."""
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(
                f"resamples={self.resamples} and confidence={self.confidence}: expected at least "
                "one draw, and a fraction between 0 and 1 such as 0.95."
            )
        if self.group_size < 1 or samples % self.group_size:
            raise ValueError(
                f"group_size={self.group_size} does not divide the {samples} samples into groups."
            )

    def counts(self, samples: int) -> Array:
        """How often each draw has each sample: (resamples, samples)."""
        groups = samples // self.group_size
        rng = np.random.default_rng(self.seed)
        drawn = rng.integers(groups, size=(self.resamples, groups))
        counts = np.zeros((self.resamples, groups))
        np.add.at(counts, (np.arange(self.resamples)[:, None], drawn), 1)
        return counts.repeat(self.group_size, axis=1)

    def quantiles(self) -> tuple[float, float]:
        """Those at the interval's ends."""
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What :func:`evaluate` found."""

    scores: dict[str, Scores]
    """Each row's scores, sample by sample, the baselines last."""
    bootstrap: Bootstrap
    run: dict[str, Any] = field(repr=False)
    """What was run: samples, attributions, digests of the models and of the first sample."""

    @cached_property
    def summary(self) -> dict[str, dict[str, Interval]]:
        """Of each row, the mean over samples of each score, in [0, 1], and its interval.

        ``energy``, ``hit``, ``hit_intersect``: see :class:`Scores`.
        ``box_acc@δ``: the mean share of frames whose box has IoU >= δ. ``max_box_acc``: the mean
        of that over the δ of :data:`MAX_BOX_ACC`. ``tube_iou``: the mean IoU of tubes. These are
        at the threshold τ, the same for all samples, that is best; with ``_per_sample`` each
        sample has its own, which is never lower and not comparable. An interval's draws choose
        their threshold anew.
        """
        samples = len(next(iter(self.scores.values())).energy)
        every, drawn = np.ones((1, samples)), self.bootstrap.counts(samples)
        return {
            row: _intervals(_means(scores, every), _means(scores, drawn), self.bootstrap)
            for row, scores in self.scores.items()
        }

    def table(self, columns: Sequence[str] = COLUMNS) -> str:
        """Markdown, a row an attribution: value [low, high].

        Raises ValueError for a column that is not in :attr:`summary`.
        """
        known = next(iter(self.summary.values()))
        unknown = [column for column in columns if column not in known]
        if unknown:
            raise ValueError(
                f"There is no column {unknown[0]!r}. Choose from {', '.join(map(repr, known))}."
            )
        head = [["", *columns], ["---"] * (len(columns) + 1)]
        rows = [
            # A bar in a name would start another cell.
            [row.replace("|", "\\|"), *(str(found[column]) for column in columns)]
            for row, found in self.summary.items()
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in (head[0], *rows)]
        lines[0] = lines[0].replace("|  |", "| |")
        return "\n".join([lines[0], f"|{'|'.join(head[1])}|", *lines[1:]])

    def to_json(self) -> str:
        """The summary, what the scores mean, and what was run."""
        found = {
            "rows": {
                row: {name: interval._asdict() for name, interval in found.items()}
                for row, found in self.summary.items()
            },
            "protocols": {
                "max_box_acc": protocol_name(MAX_BOX_ACC, "dataset", clips=True),
                "max_box_acc_per_sample": protocol_name(MAX_BOX_ACC, "per_sample", clips=True),
            },
            "bootstrap": vars(self.bootstrap),
            "run": self.run,
        }
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json`; folders that are missing are made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(self.to_json(), encoding="utf-8")


def _means(scores: Scores, counts: Array) -> dict[str, Array]:
    """Each score over the samples as often as they are counted: (R, N) -> (R,) each."""

    def mean(values: Any) -> Array:
        flat = counts @ np.asarray(values, dtype=np.float64).reshape(counts.shape[1], -1)
        return np.asarray(flat / counts.sum(axis=1, keepdims=True))

    def best(values: Array) -> tuple[Array, Array]:
        """By one threshold for all, and by each sample's own."""
        return mean(values).max(axis=1), mean(values.max(axis=1))[:, 0]

    found = {name: mean(getattr(scores, name))[:, 0] for name in Scores._fields[:3]}
    at = {
        delta: best(scores.accuracy[:, position]) for position, delta in enumerate(IOU_THRESHOLDS)
    }
    tubes = best(scores.tube_iou)
    for choice, suffix in enumerate(("", "_per_sample")):
        found |= {f"box_acc@{delta}{suffix}": values[choice] for delta, values in at.items()}
        over = np.stack([at[delta][choice] for delta in MAX_BOX_ACC])
        found[f"max_box_acc{suffix}"] = over.mean(axis=0)
        found[f"tube_iou{suffix}"] = tubes[choice]
    return found


def _intervals(
    values: Mapping[str, Array], drawn: Mapping[str, Array], bootstrap: Bootstrap
) -> dict[str, Interval]:
    names = list(values)
    ends = np.quantile(np.stack([drawn[n] for n in names]), bootstrap.quantiles(), axis=1)
    return {
        name: Interval(float(values[name][0]), float(low), float(high))
        for name, (low, high) in zip(names, ends.T, strict=True)
    }


def _stack(records: Iterable[Scores]) -> Scores:
    return Scores(*(np.stack(each) for each in zip(*records, strict=True)))


# ---------------------------------------------------------------------------------- one sample


@dataclass(frozen=True)
class _Truth:
    """Where a sample's class is, seen as frames: an image is one."""

    boxes: Tensor
    """(B, T, 4)"""
    inside: Tensor
    """(T, H, W), where energy belongs."""
    near: Tensor
    """(T, H, W), where a point is a hit."""

    @classmethod
    def of(cls, sample: Sample, tolerance: float) -> "_Truth":
        size = sample.inputs.shape[-2:]
        boxes = sample.boxes.detach().cpu().double().reshape(-1, *sample.boxes.shape[-2:])
        inside = torch.stack([boxes_to_mask(frame, size) for frame in boxes.unbind(dim=1)])
        mask = inside if sample.mask is None else sample.mask.cpu().reshape(inside.shape)
        return cls(boxes, mask, inside | (_distance(boxes, size) < tolerance))

    @property
    def present(self) -> Tensor:
        """The annotated frames: (F,) indices."""
        return (~self.boxes.isnan().any(dim=-1)).any(dim=0).nonzero()[:, 0]

    def cuboids(self, frames: Tensor) -> Tensor:
        """The boxes in these frames as boxes in space and time: (F·B, 6)."""
        low, high = self.boxes[:, frames].chunk(2, dim=-1)
        time = frames[:, None].expand(len(self.boxes), -1, 1)
        return torch.cat([low, time, high, time + 1], dim=-1).flatten(0, 1)


def _distance(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """From every pixel to the nearest pixel of its frame's boxes: (T, H, W), Inf without one."""
    # A pixel is in a box if its centre is.
    first, last = (boxes - 0.5).ceil().chunk(2, dim=-1)
    apart = []
    for axis, length in enumerate((size[1], size[0])):
        places = torch.arange(length)
        low, high = first[..., axis, None], last[..., axis, None] - 1
        apart.append(torch.maximum(low - places, places - high).clamp(min=0))
    distances = torch.hypot(apart[0][..., None, :], apart[1][..., :, None])
    return distances.nan_to_num(torch.inf).amin(dim=0)


def _score(
    attributions: Mapping[str, Attribution],
    sample: Sample,
    index: int,
    tolerance: float,
    device: torch.device | str | None,
) -> Record:
    _check_sample(sample, index)
    truth = _Truth.of(sample, tolerance)
    inputs = sample.inputs[None].to(device)
    found = {}
    for name, attribution in attributions.items():
        heat = attribution.attribute(inputs, target=sample.target)
        _check_map(heat, inputs, name)
        found[name] = _score_map(heat.detach().cpu().reshape(truth.inside.shape), truth, tolerance)
    return {**found, **_score_baselines(truth, index)}


def _score_map(heat: Tensor, truth: _Truth, tolerance: float) -> Scores:
    frames, tube = clip_ious(heat, truth.boxes, cam_thresholds(), "xyxy")
    box = truth.cuboids(truth.present)
    return Scores(
        energy_inside(heat[None], truth.inside[None]).item(),
        _hit(heat, truth, tolerance),
        float(hit_point(heat[None], [box], "intersect").item()),
        (count_correct(frames, IOU_THRESHOLDS) / len(frames)).double().numpy(),
        tube[0].numpy(),
    )


def _hit(heat: Tensor, truth: _Truth, tolerance: float) -> float:
    """The pointing game within the frame of the highest pixel; without a box there, no hit."""
    frame = heat.flatten(1).amax(dim=1).argmax()[None]
    return float(hit_point(heat[None], [truth.cuboids(frame)], tolerance=tolerance).item())


def _score_baselines(truth: _Truth, index: int) -> Record:
    height, width = truth.inside.shape[1:]
    corners = np.sort(np.random.default_rng(index).random((_CHANCE_BOXES, 2, 2)), axis=1)
    frame = torch.tensor([0.0, 0.0, width, height], dtype=torch.float64)
    side = torch.tensor([width, height] * 2)
    boxes = {
        "chance": torch.from_numpy(corners.reshape(-1, 4)) * side,
        "whole frame": frame[None],
        "centre box": torch.tensor([[0.25, 0.25, 0.75, 0.75]], dtype=torch.float64) * side,
    }
    # Drawing a place uniformly needs no box: all of the frame is as likely.
    areas = {**boxes, "chance": frame[None]}
    return {name: _score_boxes(boxes[name], areas[name], truth) for name in BASELINES}


def _score_boxes(boxes: Tensor, area: Tensor, truth: _Truth) -> Scores:
    """The mean over boxes (P, 4), each held for the whole time; energy and hit over ``area``."""
    pixels = boxes_to_mask(area, truth.inside.shape[1:])
    ious = paired_iou(boxes[:, None, None], truth.boxes[:, truth.present]).amax(dim=1)
    reached = torch.stack([(ious >= delta).double().mean() for delta in IOU_THRESHOLDS])
    held = boxes[:, None, None].expand(-1, 1, truth.boxes.shape[1], -1)
    tubes = tube_iou(held, truth.boxes).amax(dim=1)
    return Scores(
        truth.inside[:, pixels].double().mean().item(),
        truth.near[:, pixels].double().mean().item(),
        (ious > 0).any(dim=1).double().mean().item(),
        reached[:, None].numpy(),
        tubes.mean()[None].numpy(),
    )


# -------------------------------------------------------------------------------- what was run


def _fingerprint(
    attributions: Mapping[str, Attribution], samples: Samples, tolerance: float
) -> dict[str, Any]:
    """All that a sample's scores depend on, as JSON: a run goes on only from its own like."""
    first = samples[0]
    _check_sample(first, 0)
    mask = () if first.mask is None else (first.mask,)
    digests: dict[nn.Module, str] = {}
    return {
        "format": _FORMAT,
        "samples": len(samples),
        "first sample": _digest((first.inputs, torch.tensor(first.target), first.boxes, *mask)),
        "tolerance": float(tolerance),
        "attributions": {
            name: _description(attribution, digests) for name, attribution in attributions.items()
        },
    }


def _description(attribution: Any, digests: dict[nn.Module, str]) -> dict[str, Any]:
    """The class, its layers and options, and the weights of the model that it explains."""
    model = getattr(attribution, "forward_func", None)
    models = [model] if isinstance(model, nn.Module) else []
    for model in models:
        if model not in digests:
            digests[model] = _digest(model.state_dict().values())
    options = {
        name: getattr(value, "__qualname__", value)
        for name in ("fusion", "interpolate_mode", "align_corners")
        if isinstance(value := getattr(attribution, name, None), (str, bool)) or callable(value)
    }
    return {
        "class": type(attribution).__qualname__,
        "layers": [layer.name for layer in getattr(attribution, "layers", ())],
        **options,
        "models": [digests[model] for model in models],
    }


def _digest(tensors: Iterable[Any]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        if isinstance(tensor, Tensor):  # a state may hold other things beside
            found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            bare = tensor.detach().cpu().contiguous().flatten()
            found.update(bare.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            inner = f"{path}, {key!r}" if path else str(key)
            yield from _differences(there.get(key), here.get(key), inner)
    elif there != here:
        yield f"{path}: {_brief(there)} there, {_brief(here)} here"


def _brief(value: Any) -> str:
    return "none" if value is None else "one" if isinstance(value, dict) else repr(value)


# ---------------------------------------------------------------------------------- checkpoint

Keep = Callable[[int, Record], None]


@contextmanager
def _kept(
    checkpoint: str | os.PathLike[str] | None, run: dict[str, Any], rank: int
) -> Iterator[tuple[dict[int, Record], Keep]]:
    """What is done already, and how to keep what gets done."""
    if checkpoint is None:
        yield {}, lambda index, record: None
        return
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, run, rank)
    done = {i: record for path in sorted(folder.glob("*.jsonl")) for i, record in _read(path)}
    own = folder / f"process-{rank}.jsonl"
    _cut_torn_line(own)
    with own.open("a", encoding="utf-8") as file:

        def keep(index: int, record: Record) -> None:
            file.write(_line(index, record))
            file.flush()

        yield done, keep


def _claim(folder: Path, run: dict[str, Any], rank: int) -> None:
    """Raise ValueError if the folder is another run's. Every process looks; the first writes."""
    path = folder / "run.json"
    if path.exists():
        differences = list(_differences(json.loads(path.read_text(encoding="utf-8")), run))
        if differences:
            more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
            raise ValueError(
                f"The checkpoint {str(folder)!r} is of another run. {'; '.join(differences[:3])}"
                f"{more}. Pass another folder, or delete this one."
            )
    elif rank == 0:
        # Another process sees either no file or all of it.
        new = folder / "run.json.new"
        new.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(path)


def _cut_torn_line(path: Path) -> None:
    """What was being written when the run was stopped; the next line must not hang on to it."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _line(index: int, record: Record) -> str:
    scores = {
        name: [value.tolist() if isinstance(value, np.ndarray) else value for value in found]
        for name, found in record.items()
    }
    return json.dumps({"sample": index, "scores": scores}) + "\n"


def _read(path: Path) -> Iterator[tuple[int, Record]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                kept = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"Line {number} of {str(path)!r} is not JSON: {error}. Delete that line; its "
                    "sample is then done again."
                ) from error
            yield (
                kept["sample"],
                {
                    name: Scores(*values[:3], *map(np.array, values[3:]))
                    for name, values in kept["scores"].items()
                },
            )


# ----------------------------------------------------------------------- processes and progress


def _process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _gather(records: dict[int, Record]) -> dict[int, Record]:
    """All processes' records, in each."""
    _, world = _process()
    if world == 1:
        return records
    parts: list[dict[int, Record]] = [{} for _ in range(world)]
    dist.all_gather_object(parts, records)
    return {index: record for part in parts for index, record in part.items()}


def _bar(progress: bool) -> Callable[[Sequence[int], Mapping[int, Any]], Iterable[int]]:
    """What goes through the samples that are not done yet, under a bar if one is wanted."""
    if not progress:
        return lambda items, done: [i for i in items if i not in done]
    tqdm = load_tqdm()
    rank, world = _process()
    description = "evaluating" if world == 1 else f"evaluating, 1 of {world} processes"
    return lambda items, done: tqdm(
        [i for i in items if i not in done],
        description,
        total=len(items),
        initial=len(done),
        disable=rank > 0,
    )


# --------------------------------------------------------------------------------- at the door


def _check(attributions: Mapping[str, Attribution], samples: Samples, tolerance: float) -> None:
    if not isinstance(attributions, Mapping):
        raise TypeError(
            "attributions is a dict from names to attributions, as grid() makes it; got "
            f"{type(attributions).__name__}."
        )
    taken = [name for name in BASELINES if name in attributions]
    if taken:
        raise ValueError(f"The name {taken[0]!r} is a baseline's, which is always there: rename.")
    if not len(samples):
        raise ValueError("There are no samples to evaluate on.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance!r} is not a distance in pixels, 0 or more.")


def _check_sample(sample: Sample, index: int) -> None:
    size = tuple(sample.inputs.shape[1:])
    if len(size) < 2 or 0 in size:
        raise ValueError(
            f"Sample {index} has inputs of shape {tuple(sample.inputs.shape)}; expected (C, H, W), "
            "(C, T, H, W), or another number of axes before the frame's, without a batch axis."
        )
    frames = prod(size[:-2])
    if sample.boxes.ndim not in (2, 3) or tuple(sample.boxes.shape[-2:]) != (frames, 4):
        raise ValueError(
            f"Sample {index} has boxes of shape {tuple(sample.boxes.shape)}; its inputs "
            f"{tuple(sample.inputs.shape)} have {frames} frames, so ({frames}, 4) was expected, or "
            f"(B, {frames}, 4) for B places, NaN where there is no box."
        )
    if sample.boxes.isnan().any(dim=-1).all():
        raise ValueError(
            f"Sample {index} has a box in none of its frames. Leave samples without a truth out."
        )
    mask = sample.mask
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != size):
        raise ValueError(
            f"Sample {index} has a mask {tuple(mask.shape)} of {mask.dtype}; expected {size}, bool."
        )


def _check_map(heat: Any, inputs: Tensor, name: str) -> None:
    expected = (1, 1, *inputs.shape[2:])
    if not isinstance(heat, Tensor) or tuple(heat.shape) != expected:
        came = tuple(heat.shape) if isinstance(heat, Tensor) else type(heat).__name__
        raise ValueError(
            f"{name!r} gave {came} for inputs {tuple(inputs.shape)}; expected one map {expected}. "
            "Sum over channels, and bring a layer's map to the inputs' size with "
            "captum_3dcam.functional.upsample."
        )
