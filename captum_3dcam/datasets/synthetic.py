"""Synthetic actions: textured actors on a drifting, cluttered background, with ground truth.

The class of a clip is the *motion* of its actor alone. The actor's texture, its size and its
position in the middle frame are drawn independently of the class, so the middle frame of a clip
with one actor contains no information about it. Samples are determined by a seed.
"""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam._validation import check_integer
from captum_3dcam.datasets._files import check_index
from captum_3dcam.localization import Tube

ACTIONS = ("left", "right", "up", "down", "clockwise", "counter-clockwise", "grow", "shake")

# Lengths are fractions of the frame's side, so that every resolution shows the same scene.
_TRAVEL = (0.28, 0.40)  # left, right, up and down, over the clip
_ORBIT = (0.08, 0.11)  # radius of the circle
_TURNS = (1.0, 1.3)
_GROWTH = (2.0, 2.8)  # last size / first size
_SHAKE = (0.05, 0.08)  # amplitude
_SHAKE_PERIOD = (3.5, 5.0)  # frames
_RADIUS = (0.06, 0.16)  # of the actor, in the middle frame
_MAX_ACTORS = 3
_MAX_DRIFT = 0.006  # of the background, per frame
_MARGIN = 0.22  # with 12 or more frames, an actor's centre stays in the frame


class ActionClip(NamedTuple):
    """A clip of T frames with the ground truth of its A actors."""

    clip: Tensor
    """(3, T, H, W), RGB in [0, 1]."""
    labels: Tensor
    """(A,) indices into :data:`ACTIONS`."""
    boxes: Tensor
    """(A, T, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive: tight around the mask."""
    masks: Tensor
    """(A, T, H, W), bool."""

    @property
    def tubes(self) -> list[Tube]:
        """The boxes as A tubes, which span the clip and have a score of 1.

        >>> [(t.start, t.end) for t in SyntheticActions(1, frames=8, size=32, actors=2)[0].tubes]
        [(0, 8), (0, 8)]
        """
        return [Tube(0, boxes, score=1.0) for boxes in self.boxes]


class ActionVideo(NamedTuple):
    """An untrimmed video of L frames with S consecutive actions and pauses between them."""

    video: Tensor
    """(3, L, H, W), RGB in [0, 1]."""
    labels: Tensor
    """(S,) indices into :data:`ACTIONS`."""
    segments: Tensor
    """(S, 2), first frame and last frame + 1."""
    boxes: Tensor
    """(S, L, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive; nan outside the segment."""

    @property
    def tubes(self) -> list[Tube]:
        """The boxes as S tubes, which span their segments and have a score of 1.

        >>> video = SyntheticActionVideos(1, actions=3, size=32)[0]
        >>> [[t.start, t.end] for t in video.tubes] == video.segments.tolist()
        True
        """
        pairs = zip(self.boxes, self.segments.tolist(), strict=True)
        return [Tube(start, boxes[start:end], score=1.0) for boxes, (start, end) in pairs]


@dataclass(frozen=True)
class SyntheticActions(Dataset[ActionClip]):
    """Clips of one or more actors, each doing one of the eight :data:`ACTIONS`.

    Clip i of a seed is always the same, except for rounding errors that depend on the number of
    threads. With one actor, its class is i % 8; several actors of a clip do different actions and
    never overlap. The actors' diameters in the middle frame are 12 to 32 % of the frame's side,
    log-uniformly distributed. With at least 8 frames and a size of 32, actors are visible in every
    frame; below that, a frame without the actor has an empty mask and a box of nan.

    Raises ValueError for frames < 4, size < 16, actors other than 1 to 3, and a negative length
    or seed; IndexError for an index out of range.

    >>> data = SyntheticActions(8, seed=3, frames=8, size=32)
    >>> data[1].clip.shape, ACTIONS[data[1].labels[0]], data[1].boxes.shape
    (torch.Size([3, 8, 32, 32]), 'right', torch.Size([1, 8, 4]))
    """

    length: int
    seed: int = 0
    _: KW_ONLY
    frames: int = 16
    size: int = 64
    actors: int = 1

    def __post_init__(self) -> None:
        _check_minima(self, length=0, seed=0, frames=4, size=16, actors=1)
        if self.actors > _MAX_ACTORS:
            raise ValueError(f"actors={self.actors}: expected at most {_MAX_ACTORS}.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ActionClip:
        check_index(index, len(self))
        rng = np.random.default_rng([self.seed, self.actors, index])
        labels = rng.choice(len(ACTIONS), self.actors, replace=False)
        if self.actors == 1:
            labels = np.array([index % len(ACTIONS)])
        actors = _separate_actors(labels, self.frames, rng)
        scene = _background(self.frames, self.size, rng)
        masks = torch.stack([_paint(scene, actor, rng) for actor in actors])
        return ActionClip(scene, torch.from_numpy(labels), mask_boxes(masks), masks)


@dataclass(frozen=True)
class SyntheticActionVideos(Dataset[ActionVideo]):
    """Untrimmed videos in which ``actions`` actors appear one after the other.

    Each is visible for 16 to 32 frames; the pauses before, between and after them have 8 to 24
    frames. The background moves on throughout. An action may occur twice.

    Videos differ in length, so a DataLoader needs ``batch_size=None``. Raises as
    :class:`SyntheticActions`, and ValueError for actions < 1.

    >>> video = SyntheticActionVideos(1, actions=2, size=32)[0]
    >>> video.segments.shape, bool((video.segments[0] < video.segments[1]).all())
    (torch.Size([2, 2]), True)
    """

    length: int
    seed: int = 0
    _: KW_ONLY
    actions: int = 4
    size: int = 64

    def __post_init__(self) -> None:
        _check_minima(self, length=0, seed=0, actions=1, size=16)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ActionVideo:
        check_index(index, len(self))
        rng = np.random.default_rng([self.seed, 0, index])
        labels = rng.choice(len(ACTIONS), self.actions)
        pauses = rng.integers(8, 25, self.actions + 1)
        lengths = rng.integers(16, 33, self.actions)
        starts = np.cumsum(pauses[:-1]) + np.cumsum(lengths) - lengths
        segments = np.stack([starts, starts + lengths], axis=1)
        total = int(pauses.sum() + lengths.sum())
        video = _background(total, self.size, rng)
        boxes = torch.full((self.actions, total, 4), math.nan)
        for i, (label, (start, end)) in enumerate(zip(labels, segments, strict=True)):
            actor = _Actor.draw(int(label), int(end - start), rng)
            mask = _paint(video[:, start:end], actor, rng)
            boxes[i, start:end] = mask_boxes(mask)
        return ActionVideo(video, torch.from_numpy(labels), torch.from_numpy(segments), boxes)


def _check_minima(data: object, **minima: int) -> None:
    for name, minimum in minima.items():
        check_integer(name, getattr(data, name), minimum)


def freeze(clip: Tensor, frame: int | None = None) -> Tensor:
    """Repeat one frame of a clip (..., T, H, W), by default the one at T // 2, T times.

    Raises IndexError for a frame out of range.

    >>> freeze(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)).flatten()
    tensor([2., 2., 2.])
    """
    frame = clip.shape[-3] // 2 if frame is None else frame
    return clip[..., [frame], :, :].expand_as(clip).clone()


# ------------------------------------------------------------------------------------ motion


@dataclass(frozen=True)
class _Actor:
    """The position and size of an actor, as fractions of the frame's side."""

    centres: np.ndarray  # (T, 2), x and y
    radii: np.ndarray  # (T,)

    @classmethod
    def draw(cls, label: int, frames: int, rng: Generator) -> "_Actor":
        # What the middle frame shows is drawn before, and so independently of, the motion.
        centre = rng.uniform(_MARGIN, 1 - _MARGIN, 2)
        radius = math.exp(rng.uniform(*np.log(_RADIUS)))
        offset, growth = _MOTIONS[label](frames, rng)
        middle = frames // 2
        return cls(centre + offset - offset[middle], radius * growth / growth[middle])


_Motion = tuple[np.ndarray, np.ndarray]  # offsets (T, 2) and factors of the radius (T,)


def _phase(frames: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, frames)


def _slide(x: int, y: int, frames: int, rng: Generator) -> _Motion:
    travel = rng.uniform(*_TRAVEL) * _phase(frames)
    return travel[:, None] * np.array([x, y]), np.ones(frames)


def _orbit(direction: int, frames: int, rng: Generator) -> _Motion:
    start, turns, radius = rng.uniform(0, math.tau), rng.uniform(*_TURNS), rng.uniform(*_ORBIT)
    angle = start + direction * math.tau * turns * _phase(frames)
    # y points down, so a growing angle is clockwise on the screen.
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.ones(frames)


def _grow(frames: int, rng: Generator) -> _Motion:
    return np.zeros((frames, 2)), np.exp(math.log(rng.uniform(*_GROWTH)) * _phase(frames))


def _shake(frames: int, rng: Generator) -> _Motion:
    axis, phase = rng.uniform(0, math.tau, 2)
    swing = np.sin(math.tau * np.arange(frames) / rng.uniform(*_SHAKE_PERIOD) + phase)
    direction = np.array([math.cos(axis), math.sin(axis)])
    return rng.uniform(*_SHAKE) * swing[:, None] * direction, np.ones(frames)


_MOTIONS: tuple[Callable[[int, Generator], _Motion], ...] = (  # in the order of ACTIONS
    *(partial(_slide, x, y) for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))),
    *(partial(_orbit, direction) for direction in (1, -1)),
    *(_grow, _shake),
)


def _separate_actors(labels: np.ndarray, frames: int, rng: Generator) -> list[_Actor]:
    """Draw actors until they do not overlap in any frame."""
    while True:
        actors = [_Actor.draw(int(label), frames, rng) for label in labels]
        gaps = [
            np.linalg.norm(a.centres - b.centres, axis=1) - _MAX_EDGE * (a.radii + b.radii)
            for a, b in combinations(actors, 2)
        ]
        if all((gap > 0).all() for gap in gaps):
            return actors


# --------------------------------------------------------------------------------- rendering

_HARMONICS = (2, 3, 4, 5)
_BUMP = 0.08
_MAX_EDGE = 1 + len(_HARMONICS) * _BUMP  # the largest distance of a blob's edge / its radius


def _noise(size: int, cells: int, rng: Generator) -> Tensor:
    """(3, size, size) smooth, periodic colour noise in [0, 1], from ``cells`` values per axis."""
    grid = torch.from_numpy(rng.uniform(0, 1, (1, 3, cells, cells))).float()
    around = F.pad(grid, (0, 1, 0, 1), mode="circular")
    return F.interpolate(around, size + 1, mode="bilinear", align_corners=True)[0, :, :-1, :-1]


def _background(frames: int, size: int, rng: Generator) -> Tensor:
    """(3, T, H, W): a drifting texture with static shapes on it."""
    side = 2 * size
    canvas = 0.55 * _noise(side, 10, rng) + 0.45 * _noise(side, 48, rng)
    still = canvas[:, None]
    for _ in range(10):
        radius = math.exp(rng.uniform(*np.log(_RADIUS))) / 2
        _paint(still, _Actor(rng.uniform(0, 1, (1, 2)), np.array([radius])), rng)
    angle, speed = rng.uniform(0, math.tau), rng.uniform(0, _MAX_DRIFT) * size
    step = speed * np.array([math.cos(angle), math.sin(angle)])
    start = rng.uniform(0, side, 2)
    return torch.stack([_crop(canvas, start + t * step, size) for t in range(frames)], dim=1)


def _crop(canvas: Tensor, corner: np.ndarray, size: int) -> Tensor:
    """Crop (3, size, size) from the periodic canvas at a fractional corner, bilinearly."""
    column, row = np.floor(corner).astype(int)
    x, y = (float(part) for part in corner - np.floor(corner))
    columns = torch.arange(column, column + size + 1) % canvas.shape[-1]
    rows = torch.arange(row, row + size + 1) % canvas.shape[-2]
    patch = canvas[:, rows][:, :, columns]
    patch = (1 - y) * patch[:, :-1] + y * patch[:, 1:]
    return (1 - x) * patch[..., :-1] + x * patch[..., 1:]


def _paint(scene: Tensor, actor: _Actor, rng: Generator) -> Tensor:
    """Draw a textured blob into ``scene`` (3, T, H, W); return its mask (T, H, W)."""
    frames, size = scene.shape[1], scene.shape[-1]
    phases = rng.uniform(0, math.tau, len(_HARMONICS))
    bumps = rng.uniform(-_BUMP, _BUMP, len(_HARMONICS))
    texture = _texture(rng)
    columns, rows = (_extent(actor, axis, size) for axis in (0, 1))
    pixels = (torch.arange(size) + 0.5) / size
    centres = torch.from_numpy(actor.centres).float().reshape(frames, 2, 1, 1)
    radii = torch.from_numpy(actor.radii).float().reshape(frames, 1, 1)
    u = (pixels[columns] - centres[:, 0]) / radii
    v = (pixels[rows, None] - centres[:, 1]) / radii
    u, v = torch.broadcast_tensors(u, v)
    theta = torch.atan2(v, u)
    edge = torch.ones_like(theta)
    for harmonic, phase, bump in zip(_HARMONICS, phases, bumps, strict=True):
        edge += bump * torch.cos(harmonic * theta + phase)
    inside = torch.hypot(u, v) < edge
    grid = torch.stack([u, v], dim=-1) / _MAX_EDGE
    tiled = texture.expand(frames, -1, -1, -1)
    colours = F.grid_sample(tiled, grid, padding_mode="border", align_corners=False).movedim(0, 1)
    region = scene[:, :, rows, columns]
    region.copy_(torch.where(inside, colours, region))
    mask = torch.zeros(frames, size, size, dtype=torch.bool)
    mask[:, rows, columns] = inside
    return mask


def _extent(actor: _Actor, axis: int, size: int) -> slice:
    """The pixels along one axis that an actor can cover in any frame."""
    radii = _MAX_EDGE * actor.radii
    low, high = (actor.centres[:, axis] - radii).min(), (actor.centres[:, axis] + radii).max()
    return slice(max(0, math.floor(low * size)), min(size, math.ceil(high * size)))


def _texture(rng: Generator) -> Tensor:
    """(1, 3, 32, 32): patches of two random colours, which make rotation and motion visible."""
    patches = _noise(32, int(rng.integers(3, 7)), rng)[:1]
    colours = torch.from_numpy(rng.uniform(0, 1, (2, 3, 1, 1))).float()
    return torch.where(patches > 0.5, colours[0], colours[1])[None]


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes (..., 4), inclusive-exclusive, around masks (..., H, W); nan if one is empty."""
    columns, rows = masks.any(dim=-2).float(), masks.any(dim=-1).float()
    first = [axis.argmax(dim=-1) for axis in (columns, rows)]
    last = [axis.shape[-1] - axis.flip(-1).argmax(dim=-1) for axis in (columns, rows)]
    boxes = torch.stack([*first, *last], dim=-1).float()
    return boxes.where(masks.any(dim=-1).any(dim=-1, keepdim=True), math.nan)
