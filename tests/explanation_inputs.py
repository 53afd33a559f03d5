"""Inputs of each kind, as ``explain`` takes them, and what a network receives of them."""

from pathlib import Path

import numpy as np
import torch
from networks import conv_net
from PIL import Image

from captum_3dcam.explanation import Reading
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Video, Volume, open_video

LAYERS = ["0", "1"]
FPS = 10
RATE = Reading(fps=FPS)
AFFINE = np.array([[0, 0, -2.0, 5], [0, 1.5, 0, -3], [4.0, 0, 0, 1], [0, 0, 0, 1]])


def network(kind, seed=0):
    """With four classes."""
    rank, channels = {"image": (2, 3), "video": (3, 3), "volume": (3, 1)}[kind]
    return conv_net(rank, inputs=channels, seed=seed)


def pixels(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frames(length=8, seed=0):
    shape = (length, 16, 20, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def video(length=8, seed=0):
    """Of frames of unequal durations."""
    times = FrameTimes([0.0, *np.cumsum(np.resize([0.1, 0.2, 0.1, 0.4], length))])
    return Video(frames(length, seed), times.fps, times)


def scan(seed=0):
    return Volume(np.random.default_rng(seed).random((8, 12, 10), dtype=np.float32), AFFINE)


def received(array):
    """The input of the network for pixels, frames or a scan, without a preprocessing."""
    if isinstance(array, Volume):
        return array.to_tensor()
    return torch.from_numpy(array).movedim(-1, 0)[None] / 255


def write_images(folder, array):
    """A folder of images, which is a video."""
    Path(folder).mkdir()
    for number, frame in enumerate(array):
        Image.fromarray(frame).save(Path(folder, f"{number}.png"))
    return folder


def sample(kind):
    """An input, what the network receives of it, and the arguments that it needs."""
    if kind == "image":
        return pixels(), received(pixels()), {}
    if kind == "video":
        return open_video(video()), received(frames()), {}
    return scan(), received(scan()), {}
