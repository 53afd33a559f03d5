"""The shots of ``bikes.mp4`` with what moves in them, by optical flow."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from trained_networks import bikes
from trained_networks.direction_net import DirectionNet

MOVING = 1.0  # pixels per frame, at the network's size


class Footage(NamedTuple):
    """Frames at the size of the network's input, and the speed of each pixel."""

    frames: Tensor
    """(3, T, H, W), RGB in [0, 1]."""
    speed: Tensor
    """(T, H, W), to the right, in pixels per frame; the last frame has that of the one before."""

    def between(self, start: int, end: int) -> "Footage":
        return Footage(self.frames[:, start:end], self.speed[start:end])

    def above_mirror_image(self) -> "Footage":
        frames, speed = self.frames.flip(-1), -self.speed.flip(-1)
        return Footage(torch.cat([self.frames, frames], -2), torch.cat([self.speed, speed], -2))

    def moving(self, label: int) -> Tensor:
        """(T, H, W): the pixels that go left (0) or right (1)."""
        return self.speed > MOVING if label else self.speed < -MOVING


def read_shot(name: str) -> Footage:
    """A shot by its name in ``bikes.SHOTS``."""
    clip = torch.from_numpy(bikes.read_clip(*bikes.SHOTS[name]).frames)
    frames = DirectionNet.PREPROCESSING(clip.movedim(-1, 0))
    return Footage(frames, horizontal_speed(frames))


def horizontal_speed(frames: Tensor) -> Tensor:
    """(3, T, H, W) -> (T, H, W), by the optical flow from each frame to the next (TV-L1)."""
    from skimage.registration import optical_flow_tvl1  # of the extra demo

    grey = frames.mean(dim=0).numpy()
    flows = [optical_flow_tvl1(*pair)[1] for pair in pairwise(grey)]
    return torch.stack([torch.from_numpy(flow).float() for flow in [*flows, flows[-1]]])
