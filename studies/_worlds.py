"""Small worlds whose ground truth is known, each with a network that is trained in a minute.

- ``digits``: handwritten digits (of scikit-learn) on a canvas cluttered with pieces of others; a
  2D network with strides, batch normalisation and global average pooling.
- ``lesions``: volumes of noisy tissue with lesions of three kinds and bright specks; a 3D network
  with max-pooling, also at its end.
- ``regions``: images of which a large region has stripes, whose direction is the class; a 2D
  network with max-pooling and global average pooling.

A network is trained on scenes of one object. Everything follows from a seed; nothing is
downloaded.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

Array = npt.NDArray[np.float64]

HELD_OUT_SEED = 10**6  # of scenes that are used for no training
BATCH = 16


class Scene(NamedTuple):
    """An input and the objects in it."""

    inputs: Tensor
    """(C, *S)"""
    labels: list[int]
    """The class of each object."""
    masks: Tensor
    """(objects, *S), bool."""


class World(NamedTuple):
    """A network in eval mode, the sets of its layers to explain, and scenes."""

    network: nn.Module
    layer_sets: dict[str, list[Any]]
    scenes: list[Scene]


Draw = Callable[[int, Generator, bool], Scene]
"""Draws a scene of so many objects of different classes, held out or of the training."""


def layer_sets(layers: Sequence[Any]) -> dict[str, list[Any]]:
    """Each layer alone, the last two, and all."""
    names = [getattr(layer, "name", layer) for layer in layers]
    sets = {name: [layer] for name, layer in zip(names, layers, strict=True)}
    return sets | {"last two": list(layers[-2:]), "all": list(layers)}


def held_out_scenes(draw: Draw, number: int, objects: int) -> list[Scene]:
    return [draw(objects, np.random.default_rng([HELD_OUT_SEED, i]), True) for i in range(number)]


def train(network: nn.Module, draw: Draw, steps: int, seed: int) -> nn.Module:
    """The network trained on ``steps`` batches of scenes of one object, in eval mode."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.train().parameters(), weight_decay=0.01)
    # With 5 steps in all, the warm-up would have length 0, and OneCycleLR would divide by it.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=max(6, steps), pct_start=0.2
    )
    for _ in range(steps):
        scenes = [draw(1, rng, False) for _ in range(BATCH)]
        labels = torch.tensor([scene.labels[0] for scene in scenes])
        loss = F.cross_entropy(network(torch.stack([scene.inputs for scene in scenes])), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, draw: Draw, number: int = 100) -> float:
    """On held-out scenes of one object, in [0, 1]."""
    scenes = held_out_scenes(draw, number, 1)
    predictions = torch.cat([network(scene.inputs[None]).argmax(dim=1) for scene in scenes])
    return float(np.mean([p == s.labels[0] for p, s in zip(predictions, scenes, strict=True)]))


class WorldNet(nn.Module):
    """Blocks ``layer1``, ``layer2``, ... of convolution and ReLU, pooling, and a linear head."""

    def __init__(self, blocks: Sequence[nn.Module], pool: nn.Module, width: int, classes: int):
        super().__init__()
        for number, block in enumerate(blocks, start=1):
            self.add_module(f"layer{number}", block)
        self.blocks, self.pool, self.fc = list(blocks), pool, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits

    @property
    def layers(self) -> list[str]:
        return [f"layer{number}" for number in range(1, len(self.blocks) + 1)]


def _block(rank: int, inputs: int, width: int, stride: int = 1, norm: bool = False) -> nn.Module:
    convolution = (nn.Conv2d, nn.Conv3d)[rank - 2](inputs, width, 3, stride, 1, bias=not norm)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    parts = [convolution, nn.BatchNorm2d(width)] if norm else [convolution]
    return nn.Sequential(*parts, nn.ReLU())


def noise(shape: Sequence[int], cells: int, rng: Generator) -> Tensor:
    """Smooth noise of standard deviation 1 on a grid, from ``cells`` values along each axis."""
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *[cells] * len(shape)))).float()
    mode = ("bilinear", "trilinear")[len(shape) - 2]
    smooth = F.interpolate(coarse, tuple(shape), mode=mode)[0, 0]
    return smooth / smooth.std()


# ------------------------------------------------------------------------------------------ digits

CANVAS = 56
DIGIT_SIDES = (18, 24)  # pixels
PIECES = 4  # of other digits, as clutter
PIECE = 4  # pixels of the 8 x 8 of a digit
TRAINING_DIGITS = 1300  # the others are held out


@cache
def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits are scikit-learn's: pip install 'captum_3dcam[demo]'."
        ) from error
    data = load_digits()
    return torch.from_numpy(data.images).float() / 16, torch.from_numpy(data.target)


def draw_digits(objects: int, rng: Generator, held_out: bool) -> Scene:
    """A canvas (1, 56, 56) with digits that do not overlap; the mask is that of their strokes."""
    images, targets = _digits()
    part = slice(TRAINING_DIGITS, None) if held_out else slice(TRAINING_DIGITS)
    images, targets = images[part], targets[part]
    canvas = torch.zeros(CANVAS, CANVAS)
    for _ in range(PIECES):
        y, x = rng.integers(0, 8 - PIECE + 1, 2)
        piece = images[rng.integers(len(images)), y : y + PIECE, x : x + PIECE]
        _paste(canvas, _resize(piece, int(rng.integers(8, 13))), rng)
    labels = rng.choice(10, objects, replace=False).tolist()
    masks = torch.zeros(objects, CANVAS, CANVAS, dtype=torch.bool)
    windows = _free_windows(objects, rng)
    for label, mask, window in zip(labels, masks, windows, strict=True):
        same = (targets == label).nonzero().flatten()
        digit = images[same[rng.integers(len(same))]]
        strokes = _resize(digit, window[0].stop - window[0].start)
        mask[window] = strokes > 0.3
        canvas[window] = torch.maximum(canvas[window], strokes)
    noisy = canvas + 0.1 * torch.from_numpy(rng.normal(size=canvas.shape)).float()
    return Scene(noisy[None], labels, masks)


def _resize(image: Tensor, side: int) -> Tensor:
    return F.interpolate(image[None, None], (side, side), mode="bilinear")[0, 0]


def _paste(canvas: Tensor, piece: Tensor, rng: Generator) -> None:
    side = len(piece)
    y, x = rng.integers(0, CANVAS - side + 1, 2)
    window = canvas[y : y + side, x : x + side]
    window.copy_(torch.maximum(window, piece))


def _free_windows(number: int, rng: Generator) -> list[tuple[slice, slice]]:
    """Squares that do not overlap."""
    sides = rng.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1, number).tolist()
    while True:
        corners = [rng.integers(0, CANVAS - side + 1, 2).tolist() for side in sides]
        squares = [
            tuple(slice(start, start + side) for start in corner)
            for corner, side in zip(corners, sides, strict=True)
        ]
        taken = np.zeros((CANVAS, CANVAS), dtype=int)
        for y, x in squares:
            taken[y, x] += 1
        if taken.max() <= 1:
            return [(y, x) for y, x in squares]


def make_digit_net() -> WorldNet:
    widths = (16, 32, 48, 64, 64)
    blocks = [
        _block(2, inputs, width, stride, norm=True)
        for inputs, width, stride in zip((1, *widths), widths, (1, 2, 2, 2, 1), strict=False)
    ]
    return WorldNet(blocks, nn.AdaptiveAvgPool2d(1), widths[-1], 10)


# ----------------------------------------------------------------------------------------- lesions

LESIONS = ("blob", "ring", "rod")
VOLUME = (32, 32, 32)
RADII = (4.0, 6.5)  # voxels
SPECKS = 6


def draw_lesions(objects: int, rng: Generator, held_out: bool = True) -> Scene:
    """A volume (1, 32, 32, 32) with lesions of different kinds; a mask has their inside."""
    grid = np.stack(np.indices(VOLUME), axis=-1).astype(np.float64)
    volume = 0.5 * noise(VOLUME, 8, rng).numpy() + rng.normal(0, 0.3, VOLUME)
    for _ in range(SPECKS):
        distance = np.linalg.norm(grid - rng.uniform(0, VOLUME[0], 3), axis=-1)
        volume += 2.0 * np.exp(-((distance / 1.2) ** 2))
    labels = rng.choice(len(LESIONS), objects, replace=False).tolist()
    centres: list[Array] = []
    masks = []
    for label in labels:
        radius = rng.uniform(*RADII)
        centre = _free_centre(centres, rng)
        centres.append(centre)
        distance = _distance(grid - centre, radius, LESIONS[label], rng)
        profile = _ring(distance) if LESIONS[label] == "ring" else _solid(distance)
        volume += 2.0 * profile
        masks.append(distance < 1)
    inputs = torch.from_numpy(volume).float()[None]
    return Scene(inputs, labels, torch.from_numpy(np.stack(masks)))


def _distance(offset: Array, radius: float, kind: str, rng: Generator) -> Array:
    """From the centre, in radii; a rod is twice as long and half as wide."""
    distance = np.linalg.norm(offset, axis=-1)
    if kind != "rod":
        return np.asarray(distance / radius)
    axis = rng.normal(size=3)
    along = offset @ (axis / np.linalg.norm(axis))
    across = np.sqrt(np.maximum(distance**2 - along**2, 0))
    return np.hypot(along / (1.6 * radius), across / (0.45 * radius))


def _solid(distance: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(12 * (distance - 0.8))))


def _ring(distance: Array) -> Array:
    return np.exp(-(((distance - 0.75) / 0.2) ** 2))


def _free_centre(others: Sequence[Array], rng: Generator) -> Array:
    margin, apart = RADII[1], 2.2 * RADII[1]
    while True:
        centre = rng.uniform(margin, VOLUME[0] - margin, 3)
        if all(np.linalg.norm(centre - other) > apart for other in others):
            return centre


def make_lesion_net() -> WorldNet:
    widths = (8, 16, 32, 32)
    blocks = [
        nn.Sequential(*([nn.MaxPool3d(2)] if number in (1, 2) else []), _block(3, inputs, width))
        for number, (inputs, width) in enumerate(zip((1, *widths), widths, strict=False))
    ]
    return WorldNet(blocks, nn.AdaptiveMaxPool3d(1), widths[-1], len(LESIONS))


# ----------------------------------------------------------------------------------------- regions

DIRECTIONS = 4  # of the stripes
SIDE = 64
REGION_RADII = (14.0, 30.0)  # pixels: 15 to 60 % of the image
WAVELENGTHS = (5.0, 7.0)  # pixels


def draw_regions(objects: int, rng: Generator, held_out: bool = True) -> Scene:
    """An image (1, 64, 64), of which one large region has stripes of some direction."""
    if objects != 1:
        raise ValueError(f"objects={objects}: an image has one region.")
    label = int(rng.integers(DIRECTIONS))
    y, x = (np.indices((SIDE, SIDE)) - rng.uniform(20, SIDE - 20, 2)[:, None, None]).astype(float)
    angle, radius = np.arctan2(y, x), rng.uniform(*REGION_RADII)
    edge = 1 + 0.15 * np.cos(3 * angle + rng.uniform(0, math.tau))
    mask = np.hypot(x, y) < radius * edge
    direction = math.pi * label / DIRECTIONS + rng.uniform(-0.15, 0.15)
    phase = (x * math.cos(direction) + y * math.sin(direction)) / rng.uniform(*WAVELENGTHS)
    stripes = np.sin(math.tau * (phase + rng.uniform()))
    clutter = noise((SIDE, SIDE), 22, rng).numpy()
    pixels = np.where(mask, stripes, clutter) + 0.7 * rng.normal(size=(SIDE, SIDE))
    return Scene(torch.from_numpy(pixels).float()[None], [label], torch.from_numpy(mask)[None])


def make_region_net() -> WorldNet:
    widths = (16, 32, 48, 64)
    blocks = [
        nn.Sequential(*([nn.MaxPool2d(2)] if number else []), _block(2, inputs, width))
        for number, (inputs, width) in enumerate(zip((1, *widths), widths, strict=False))
    ]
    return WorldNet(blocks, nn.AdaptiveAvgPool2d(1), widths[-1], DIRECTIONS)


# ------------------------------------------------------------------------------------------ worlds


class Recipe(NamedTuple):
    """How a world is made."""

    build: Callable[[], WorldNet]
    draw: Draw
    steps: int
    """Batches to train on."""
    objects: int
    """Of a scene that is explained."""


RECIPES = {
    "digits": Recipe(make_digit_net, draw_digits, 700, 2),
    "lesions": Recipe(make_lesion_net, draw_lesions, 300, 2),
    "regions": Recipe(make_region_net, draw_regions, 300, 1),
}


def trained_network(name: str, seed: int = 0, steps: int | None = None) -> WorldNet:
    """The network of a recipe, trained from a seed."""
    recipe = RECIPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.build()
        train(network, recipe.draw, recipe.steps if steps is None else steps, seed)
    return network


def make_world(name: str, scenes: int, seed: int = 0, steps: int | None = None) -> World:
    """A trained network and held-out scenes."""
    recipe = RECIPES[name]
    network = trained_network(name, seed, steps)
    return World(
        network, layer_sets(network.layers), held_out_scenes(recipe.draw, scenes, recipe.objects)
    )
