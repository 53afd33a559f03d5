"""A small 3D classifier of synthetic scans, trained in 15 seconds, and the scans.

A scan shows a phantom: an ellipsoid of noisy tissue in a brighter shell, rotated in the scanner.
Its class is the lesion in it: none, a bright blob, or a ring, which is a bright hollow sphere.
Voxels are not cubes, and no two scans have the same grid. Everything follows from a seed; nothing
is downloaded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from captum_3dcam.io import Volume

Array = NDArray[np.float64]

CLASSES = ("none", "blob", "ring")
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
SIZE = (32, 32, 32)  # of the network's input
ORIENTATION = "SPL"  # of its axes: slices from feet to head, the patient's front on top
HELD_OUT_SEED = 10**6  # of scans that are used for no training

_SHAPE = (40, 48, 56)
_SPACING = ((1.8, 2.4), (1.4, 1.7))  # between slices, and within one, in mm
_HALF_AXES = np.array([34.0, 30.0, 34.0])  # of the phantom, along the world's x, y, z, in mm
_SHELL = 0.88  # its inner surface, in units of the half axes
_RADIUS = (8.0, 12.0)  # of a lesion, in mm
_MAX_TILT = 0.35  # along each axis of the rotation vector, in radians
_AXIAL = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]])  # D, H, W grow to S, P, L


class Scan(NamedTuple):
    """A scan and its ground truth."""

    volume: Volume
    label: int
    """Index into :data:`CLASSES`."""
    lesion: Array
    """(3,), the lesion's centre in world coordinates, in mm; nan without a lesion."""
    mask: NDArray[np.bool_]
    """(D, H, W), the voxels of the lesion, the inside of a ring included."""


def make_scan(index: int, seed: int = HELD_OUT_SEED) -> Scan:
    """Scan ``index`` of a seed, of class ``index % 3``; the same at every call."""
    rng = np.random.default_rng([seed, index])
    label = index % len(CLASSES)
    grid = Volume(np.zeros(_SHAPE), _oblique(rng))
    middle = grid.to_world((np.array(_SHAPE) - 1) / 2)
    points = grid.to_world(np.stack(np.indices(_SHAPE), axis=-1))
    radius = rng.uniform(*_RADIUS)
    centre = middle + _in_ball(rng) * (_SHELL * _HALF_AXES - radius)

    depth = np.linalg.norm((points - middle) / _HALF_AXES, axis=-1)
    distance = np.linalg.norm(points - centre, axis=-1) / radius
    lesion = (np.zeros_like, _blob, _ring)[label](distance)
    tissue = np.where(depth < _SHELL, 100 + 12 * _smooth_noise(rng) + 70 * lesion, 130)
    data = np.where(depth < 1, tissue, 0) + rng.normal(0, 6, _SHAPE)
    if not label:
        centre, distance = np.full(3, np.nan), np.full(_SHAPE, np.inf)
    return Scan(grid.with_data(data), label, centre, distance < 1)


def _blob(distance: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(12 * (distance - 0.8))))


def _ring(distance: Array) -> Array:
    return np.exp(-(((distance - 0.75) / 0.2) ** 2))


def _oblique(rng: Generator) -> Array:
    """The affine of an axial scan, rotated about a random axis."""
    slices, pixels = (rng.uniform(*limits) for limits in _SPACING)
    affine = np.eye(4)
    rotation = Rotation.from_rotvec(rng.uniform(-_MAX_TILT, _MAX_TILT, 3)).as_matrix()
    affine[:3, :3] = rotation @ _AXIAL * [slices, pixels, pixels]
    affine[:3, 3] = rng.uniform(-60, 60, 3)
    return affine


def _in_ball(rng: Generator) -> Array:
    direction = rng.normal(size=3)
    return np.asarray(direction / np.linalg.norm(direction) * rng.uniform() ** (1 / 3))


def _smooth_noise(rng: Generator) -> Array:
    coarse = torch.from_numpy(rng.normal(size=(1, 1, 8, 8, 8)))
    return F.interpolate(coarse, _SHAPE, mode="trilinear")[0, 0].numpy()


# -------------------------------------------------------------------------------- the network


class VolumeNet(nn.Module):
    """(N, 1, D, H, W), in the scan's own units -> (N, 3) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _convolution(1, 8)
        self.layer2 = _convolution(8, 16, stride=2)
        self.layer3 = _convolution(16, 32, stride=2)
        self.layer4 = _convolution(32, 32)
        self.pool = nn.AdaptiveMaxPool3d(1)
        self.fc = nn.Linear(32, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1((x - 100) / 50))
        return self.fc(self.pool(self.layer4(self.layer3(x))).flatten(1))


def _convolution(inputs: int, width: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, width, 3, stride, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.ReLU())


def preprocess(scan: Volume, size: tuple[int, int, int] = SIZE) -> Volume:
    """The scan in the network's orientation, resampled to its size."""
    return scan.reorient(ORIENTATION).resample(size=size)


def train(
    scans: int = 240,
    epochs: int = 6,
    seed: int = 0,
    build: Callable[[], nn.Module] = VolumeNet,
    size: tuple[int, int, int] = SIZE,
) -> nn.Module:
    """The network that ``build`` returns, trained on scans of this seed, in eval mode."""
    volumes = (preprocess(make_scan(i, seed).volume, size) for i in range(scans))
    inputs = torch.cat([volume.to_tensor() for volume in volumes])
    labels = torch.arange(scans) % len(CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        steps = epochs * -(-scans // 8)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        for _ in range(epochs):
            for batch in torch.randperm(scans).split(8):
                flips = [axis for axis in (2, 3, 4) if torch.rand(()) < 0.5]
                loss = F.cross_entropy(network(inputs[batch].flip(flips)), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, scans: int = 48) -> float:
    """On held-out scans, in [0, 1]."""
    correct = 0
    for i in range(scans):
        scan = make_scan(i)
        correct += int(network(preprocess(scan.volume).to_tensor()).argmax()) == scan.label
    return correct / scans
