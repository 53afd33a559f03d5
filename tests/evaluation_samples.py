"""Attributions whose maps are given, and samples, so that every score can be computed by hand."""

import numpy as np
import torch

from captum_3dcam.evaluation import Sample

NAN_BOX = [float("nan")] * 4


class FirstChannel:
    """The map of a sample is its first channel."""

    def __init__(self):
        self.targets = []

    def attribute(self, inputs, target=None):
        assert len(inputs) == 1
        self.targets.append(target)
        return inputs[:, :1]


class Reversed(FirstChannel):
    def attribute(self, inputs, target=None):
        return -super().attribute(inputs, target)


class Interrupted(FirstChannel):
    """The run stops at the sample with one target."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def attribute(self, inputs, target=None):
        if target == self.at:
            raise KeyboardInterrupt
        return super().attribute(inputs, target)


def sample(heatmap, boxes, target=0, mask=None):
    return Sample(torch.as_tensor(heatmap)[None].float(), target, torch.tensor(boxes).float(), mask)


def random_samples(count, size=(3, 8, 8), seed=0):
    """Random maps, and a random box that stays for all frames."""
    rng = np.random.default_rng(seed)
    samples = []
    for target in range(count):
        corners = np.sort([rng.permutation(9)[:2] for _ in range(2)], axis=1)
        boxes = np.tile(corners.T.reshape(-1), (int(np.prod(size[:-2])), 1))
        samples.append(sample(rng.random(size) ** 3, boxes, target))
    return samples
