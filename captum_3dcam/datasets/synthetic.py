"""Synthetic actions: textured actors on a drifting, cluttered background, with exact truth.

The class of a clip is the *motion* of its actor alone. Its look, its size, and where it stands
in the middle frame are drawn without regard to the class, so that the middle frame of a clip of
one actor says nothing about it. Everything follows from a seed; nothing is downloaded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from captum_3dcam._validation import check_integer
from captum_3dcam.localization import Tube

ACTIONS = ("left", "right", "up", "down", "clockwise", "counter-clockwise", "grow", "shake")

# Lengths in units of the frame's side, so that any resolution shows the same scene.
_TRAVEL = (0.28, 0.40)  # of left, right, up and down, over the clip
_ORBIT = (0.08, 0.11)  # radius of the circle
_TURNS = (1.0, 1.3)
_GROWTH = (2.0, 2.8)  # last size by first size
_SHAKE = (0.05, 0.08)  # amplitude
_SHAKE_PERIOD = (3.5, 5.0)  # frames
_RADIUS = (0.06, 0.16)  # of the actor, in the middle frame
_MAX_ACTORS = 3
_DRIFT = 0.006  # the background's highest speed, a frame
_MARGIN = 0.22  # so that from 12 frames on an actor's centre stays in the frame


class ActionClip(NamedTuple):
    """A clip and its truth; A actors, T frames."""

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
        """The boxes as A tubes over the whole clip, each with a score of 1.

        >>> [(t.start, t.end) for t in SyntheticActions(1, frames=8, size=32, actors=2)[0].tubes]
        [(0, 8), (0, 8)]
        """
        return [Tube(0, boxes, score=1.0) for boxes in self.boxes]


class ActionVideo(NamedTuple):
    """An untrimmed video of several actions, one after the other, with pauses."""

    video: Tensor
    """(3, L, H, W), RGB in [0, 1]."""
    labels: Tensor
    """(S,) indices into :data:`ACTIONS`."""
    segments: Tensor
    """(S, 2) first frame and the one after the last."""
    boxes: Tensor
    """(S, L, 4), x0, y0, x1, y1 in pixels, inclusive-exclusive; nan outside the segment."""

    @property
    def tubes(self) -> list[Tube]:
        """The boxes of each segment as S tubes, each with a score of 1.

        >>> video = SyntheticActionVideos(1, actions=3, size=32)[0]
        >>> [[t.start, t.end] for t in video.tubes] == video.segments.tolist()
        True
        """
        pairs = zip(self.boxes, self.segments.tolist(), strict=True)
        return [Tube(start, boxes[start:end], score=1.0) for boxes, (start, end) in pairs]


class SyntheticActions(Dataset[ActionClip]):
    """Clips of one or more actors, each doing one of the eight :data:`ACTIONS`.

    Clip i of a seed is always the same, but for rounding in the last digit, which depends on the
    number of threads. With one actor the classes take turns, i % 8; several actors of a clip do
    different actions and never overlap. The actors' diameters in the middle frame are 12 to 32 % of
    the frame's side, evenly in their logarithm. From 8 frames and a size of 32 on, an actor shows
    in every frame; below that, a frame that shows nothing of it has an empty mask and a box of nan.

    Raises ValueError for frames < 4, size < 16, actors other than 1 to 3, and a negative length
    or seed; IndexError for a clip beyond the last.

    >>> data = SyntheticActions(8, seed=3, frames=8, size=32)
    >>> data[1].clip.shape, ACTIONS[data[1].labels[0]], data[1].boxes.shape
    (torch.Size([3, 8, 32, 32]), 'right', torch.Size([1, 8, 4]))
    """

    def __init__(
        self, length: int, seed: int = 0, *, frames: int = 16, size: int = 64, actors: int = 1
    ) -> None:
        _check(length=(length, 0), seed=(seed, 0), frames=(frames, 4), size=(size, 16))
        _check(actors=(actors, 1))
        if actors > _MAX_ACTORS:
            raise ValueError(f"actors={actors}: a frame has room for {_MAX_ACTORS} at most.")
        self.length, self.seed, self.frames, self.size = length, seed, frames, size
        self.actors = actors

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ActionClip:
        rng = _generator(self, index, self.actors)
        labels = rng.choice(len(ACTIONS), self.actors, replace=False)
        if self.actors == 1:
            labels = np.array([index % len(ACTIONS)])
        actors = _separate_actors(labels, self.frames, rng)
        scene = _background(self.frames, self.size, rng)
        masks = torch.stack([_paint(scene, actor, rng) for actor in actors])
        return ActionClip(scene, torch.from_numpy(labels), mask_boxes(masks), masks)


class SyntheticActionVideos(Dataset[ActionVideo]):
    """Untrimmed videos: ``actions`` actors come one after the other, with empty pauses between.

    Each acts for 16 to 32 frames; the pauses last 8 to 24. Only the actor's coming and going
    and its motion tell the segments apart: the background runs on. An action may come twice.

    Videos differ in length, so a DataLoader takes them one by one, with ``batch_size=None``.
    Raises as :class:`SyntheticActions`, and ValueError for actions < 1.

    >>> video = SyntheticActionVideos(1, actions=2, size=32)[0]
    >>> video.segments.shape, bool((video.segments[0] < video.segments[1]).all())
    (torch.Size([2, 2]), True)
    """

    def __init__(self, length: int, seed: int = 0, *, actions: int = 4, size: int = 64) -> None:
        _check(length=(length, 0), seed=(seed, 0), actions=(actions, 1), size=(size, 16))
        self.length, self.seed, self.actions, self.size = length, seed, actions, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ActionVideo:
        rng = _generator(self, index, 0)
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


def freeze(clip: Tensor, frame: int | None = None) -> Tensor:
    """The clip (..., T, H, W) with one frame, by default that at T // 2, shown all the time.

    Raises IndexError for a frame that the clip has not.

    >>> freeze(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)).flatten()
    tensor([2., 2., 2.])
    """
    frame = clip.shape[-3] // 2 if frame is None else frame
    return clip[..., [frame], :, :].expand_as(clip).clone()


# ------------------------------------------------------------------------------------ motion


@dataclass(frozen=True)
class _Actor:
    """Where an actor is and how large, in units of the frame's side."""

    centres: np.ndarray
    """(T, 2), x and y."""
    radii: np.ndarray
    """(T,)"""

    @classmethod
    def draw(cls, label: int, frames: int, rng: Generator) -> "_Actor":
        # Everything that the middle frame shows is drawn before the label is looked at.
        centre = rng.uniform(_MARGIN, 1 - _MARGIN, 2)
        radius = math.exp(rng.uniform(*np.log(_RADIUS)))
        offset, growth = _MOTIONS[label](frames, rng)
        middle = frames // 2
        return cls(centre + offset - offset[middle], radius * growth / growth[middle])


Motion = tuple[np.ndarray, np.ndarray]


def _phase(frames: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, frames)


def _slide(x: float, y: float) -> Callable[[int, Generator], Motion]:
    def motion(frames: int, rng: Generator) -> Motion:
        travel = rng.uniform(*_TRAVEL) * _phase(frames)
        return travel[:, None] * np.array([x, y]), np.ones(frames)

    return motion


def _orbit(direction: int) -> Callable[[int, Generator], Motion]:
    def motion(frames: int, rng: Generator) -> Motion:
        start, turns, radius = rng.uniform(0, math.tau), rng.uniform(*_TURNS), rng.uniform(*_ORBIT)
        angle = start + direction * math.tau * turns * _phase(frames)
        # y points down, so a growing angle is clockwise on the screen.
        return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.ones(frames)

    return motion


def _grow(frames: int, rng: Generator) -> Motion:
    return np.zeros((frames, 2)), np.exp(math.log(rng.uniform(*_GROWTH)) * _phase(frames))


def _shake(frames: int, rng: Generator) -> Motion:
    axis, phase = rng.uniform(0, math.tau, 2)
    swing = np.sin(math.tau * np.arange(frames) / rng.uniform(*_SHAKE_PERIOD) + phase)
    direction = np.array([math.cos(axis), math.sin(axis)])
    return rng.uniform(*_SHAKE) * swing[:, None] * direction, np.ones(frames)


_MOTIONS = (
    _slide(-1, 0),
    _slide(1, 0),
    _slide(0, -1),
    _slide(0, 1),
    _orbit(1),
    _orbit(-1),
    _grow,
    _shake,
)


def _separate_actors(labels: np.ndarray, frames: int, rng: Generator) -> list[_Actor]:
    """Actors that keep apart in every frame; drawn anew until they do."""
    while True:
        actors = [_Actor.draw(int(label), frames, rng) for label in labels]
        pairs = [(a, b) for i, a in enumerate(actors) for b in actors[:i]]
        if all(_apart(a, b) for a, b in pairs):
            return actors


def _apart(a: _Actor, b: _Actor) -> bool:
    distance = np.linalg.norm(a.centres - b.centres, axis=1)
    return bool((distance > _REACH * (a.radii + b.radii)).all())


# ----------------------------------------------------------------------------------- picture

_HARMONICS = (2, 3, 4, 5)
_BUMP = 0.08
_REACH = 1 + len(_HARMONICS) * _BUMP  # the farthest a blob's edge lies, by its radius


def _noise(size: int, cells: int, rng: Generator) -> Tensor:
    """(3, size, size) smooth colour noise in [0, 1], ``cells`` blobs across; it tiles."""
    grid = torch.from_numpy(rng.uniform(0, 1, (1, 3, cells, cells))).float()
    around = F.pad(grid, (0, 1, 0, 1), mode="circular")
    return F.interpolate(around, size + 1, mode="bilinear", align_corners=True)[0, :, :-1, :-1]


def _background(frames: int, size: int, rng: Generator) -> Tensor:
    """(3, T, H, W): clutter that drifts as a whole, and shapes that ride on it."""
    side = 2 * size
    canvas = 0.55 * _noise(side, 10, rng) + 0.45 * _noise(side, 48, rng)
    still = canvas[:, None]
    for _ in range(10):
        radius = math.exp(rng.uniform(*np.log(_RADIUS))) / 2
        _paint(still, _Actor(rng.uniform(0, 1, (1, 2)), np.array([radius])), rng)
    angle, speed = rng.uniform(0, math.tau), rng.uniform(0, _DRIFT) * size
    step = speed * np.array([math.cos(angle), math.sin(angle)])
    start = rng.uniform(0, side, 2)
    return torch.stack([_window(canvas, start + t * step, size) for t in range(frames)], dim=1)


def _window(canvas: Tensor, corner: np.ndarray, size: int) -> Tensor:
    """A (3, size, size) view of the canvas, which repeats without end, at a fractional corner."""
    whole = np.floor(corner).astype(int)
    x, y = (float(part) for part in corner - whole)
    columns = torch.arange(whole[0], whole[0] + size + 1) % canvas.shape[-1]
    rows = torch.arange(whole[1], whole[1] + size + 1) % canvas.shape[-2]
    patch = canvas[:, rows][:, :, columns]
    patch = (1 - y) * patch[:, :-1] + y * patch[:, 1:]
    return (1 - x) * patch[..., :-1] + x * patch[..., 1:]


def _paint(scene: Tensor, actor: _Actor, rng: Generator) -> Tensor:
    """Draw a textured blob into ``scene`` (3, T, H, W); its mask (T, H, W)."""
    frames, size = scene.shape[1], scene.shape[-1]
    phases = rng.uniform(0, math.tau, len(_HARMONICS))
    bumps = rng.uniform(-_BUMP, _BUMP, len(_HARMONICS))
    texture = _texture(rng)
    columns, rows = (_reached(actor, axis, size) for axis in (0, 1))
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
    grid = torch.stack([u, v], dim=-1) / _REACH
    tiled = texture.expand(frames, -1, -1, -1)
    colours = F.grid_sample(tiled, grid, padding_mode="border", align_corners=False).movedim(0, 1)
    region = scene[:, :, rows, columns]
    region.copy_(torch.where(inside, colours, region))
    mask = torch.zeros(frames, size, size, dtype=torch.bool)
    mask[:, rows, columns] = inside
    return mask


def _reached(actor: _Actor, axis: int, size: int) -> slice:
    """The pixels along one axis that an actor can touch: far fewer than all."""
    reach = _REACH * actor.radii
    low, high = (actor.centres[:, axis] - reach).min(), (actor.centres[:, axis] + reach).max()
    return slice(max(0, math.floor(low * size)), min(size, math.ceil(high * size)))


def _texture(rng: Generator) -> Tensor:
    """(1, 3, 32, 32): two strong colours in patches, so that the eye and the network see motion."""
    patches = _noise(32, int(rng.integers(3, 7)), rng)[:1]
    colours = torch.from_numpy(rng.uniform(0, 1, (2, 3, 1, 1))).float()
    return torch.where(patches > 0.5, colours[0], colours[1])[None]


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes (..., 4), inclusive-exclusive, of masks (..., H, W); nan where one is empty."""
    columns, rows = masks.any(dim=-2).float(), masks.any(dim=-1).float()
    first = [axis.argmax(dim=-1) for axis in (columns, rows)]
    last = [axis.shape[-1] - axis.flip(-1).argmax(dim=-1) for axis in (columns, rows)]
    boxes = torch.stack([*first, *last], dim=-1).float()
    return boxes.where(masks.any(dim=-1).any(dim=-1, keepdim=True), math.nan)


# ------------------------------------------------------------------------------------- checks


def _generator(data: SyntheticActions | SyntheticActionVideos, index: int, kind: int) -> Generator:
    if not 0 <= index < len(data):
        raise IndexError(f"Sample {index} was asked for; there are {len(data)}, from 0.")
    return np.random.default_rng([data.seed, kind, index])


def _check(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        check_integer(name, value, least)
