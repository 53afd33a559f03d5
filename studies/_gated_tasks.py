"""What the study of gates trains: clips, and a backbone for them."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_3dcam.datasets import ACTIONS, HMDB51, UCF101, SyntheticActions, VideoClip
from captum_3dcam.models import (
    I3D,
    I3DFlow,
    ResNeXt3D,
    TwoStream,
    i3d,
    i3d_flow,
    load_checkpoint,
    optical_flow,
    resnext101_3d,
)
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, WEIGHTS, load_action_net

CLIP_LENGTH = 16
STREAMS = ("rgb", "flow", "rgb+flow")

Clip = Tensor | Sequence[Tensor]
"""What a network takes: a clip, or RGB and flow."""


class Sample(NamedTuple):
    """A preprocessed clip, its class, and the name of its video."""

    clip: Clip
    label: int
    video: str


class SyntheticClips(Dataset[Sample]):
    """Videos of three consecutive clips; one action takes all three."""

    def __init__(self, videos: int, seed: int, size: int) -> None:
        data = SyntheticActions(videos, seed, frames=3 * CLIP_LENGTH, size=size)
        self.samples = [
            Sample(clip, int(sample.labels[0]), str(video))
            for video, sample in enumerate(data)
            for clip in sample.clip.split(CLIP_LENGTH, dim=1)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class DiskClips(Dataset[Sample]):
    """The clips of a dataset on disk, as one or both streams take them."""

    def __init__(
        self, data: UCF101 | HMDB51, streams: Sequence[Callable[[VideoClip], Tensor]]
    ) -> None:
        self.data, self.streams = data, streams

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        sample = self.data[index]
        inputs = tuple(stream(sample) for stream in self.streams)
        return Sample(inputs if len(inputs) > 1 else inputs[0], sample.label, sample.video)


@dataclass(frozen=True)
class RGBInput:
    """The frames of a clip as a network takes them."""

    preprocess: Callable[[Tensor], Tensor]

    def __call__(self, sample: VideoClip) -> Tensor:
        return self.preprocess(sample.clip)


@dataclass(frozen=True)
class FlowInput:
    """The flow of a clip as the flow stream takes it; computed once, and kept in a folder."""

    folder: Path

    def __call__(self, sample: VideoClip) -> Tensor:
        path = self.folder / f"{sample.video}-{int(sample.frames[0])}.pt"
        if not path.exists():
            flow = I3DFlow.PREPROCESSING(optical_flow(sample.clip))
            path.parent.mkdir(parents=True, exist_ok=True)
            save_atomically(path, flow.half())
        kept: Tensor = torch.load(path, weights_only=True)
        return kept.float()


def save_atomically(path: Path, content: Any) -> None:
    """Also where several workers save the same file."""
    new = path.with_suffix(f".{os.getpid()}.new")
    torch.save(content, new)
    new.replace(path)


@dataclass(frozen=True)
class Task:
    """Data, and a backbone to train on it."""

    name: str
    classes: int
    layers: Mapping[str, tuple[str, ...]]
    """From the paper's names to the modules: one, or one in each stream."""
    backbone: Callable[[], nn.Module]
    train: Callable[[int], Dataset[Sample]]
    """From a seed to the training clips."""
    test: Dataset[Sample]
    workers: int = 0
    stream: str = "rgb"
    paper_table: str = "9"
    """That of the network; of the synthetic actions' network, whose layers have the same names."""


def synthetic_task(options: argparse.Namespace) -> Task:
    stem, *stages = LAYERS
    return Task(
        f"synthetic-{options.videos}-{options.held_out}-{options.size}",
        len(ACTIONS),
        {"conv": (stem,), **{name: (name,) for name in stages}},
        lambda: load_action_net(options.checkpoint or WEIGHTS),
        lambda seed: SyntheticClips(options.videos, seed, options.size),
        SyntheticClips(options.held_out, HELD_OUT_SEED, options.size),
    )


def disk_task(options: argparse.Namespace) -> Task:
    if options.root is None:
        raise SystemExit(f"--dataset {options.dataset} needs --root, the folder of the dataset.")
    if options.model != "i3d" and options.stream != "rgb":
        raise SystemExit(f"--stream {options.stream} needs --model i3d, which has a flow stream.")
    kind = {"ucf101": UCF101, "hmdb51": HMDB51}[options.dataset]
    train, test = (kind(options.root, subset, split=options.split) for subset in ("train", "test"))
    classes = len(train.classes)
    network: type[ResNeXt3D | I3D] = I3D if options.model == "i3d" else ResNeXt3D
    inputs = {"rgb": RGBInput(network.PREPROCESSING), "flow": FlowInput(options.output / "flow")}
    names = options.stream.split("+")
    streams = [inputs[name] for name in names]
    prefixes = [f"{name}." for name in names] if len(names) > 1 else [""]

    def backbone() -> nn.Module:
        parts = [_load(options, name, classes) for name in names]
        return TwoStream(*parts) if len(parts) > 1 else parts[0]

    is_i3d = network is I3D
    return Task(
        "-".join(
            [options.dataset, str(options.split), *([f"i3d {options.stream}"] if is_i3d else [])]
        ),
        classes,
        {name: tuple(p + module for p in prefixes) for name, module in network.LAYERS.items()},
        backbone,
        lambda seed: DiskClips(train, streams),
        DiskClips(test, streams),
        options.workers,
        options.stream,
        "10" if is_i3d else "9",
    )


def _load(options: argparse.Namespace, stream: str, classes: int) -> nn.Module:
    """A stream's network for so many classes, with the other weights of its checkpoint."""
    if stream == "flow":
        network, checkpoint, head = i3d_flow(classes), options.flow_checkpoint, "logits"
    elif options.model == "i3d":
        network, checkpoint, head = i3d(classes), options.checkpoint, "logits"
    else:
        network, checkpoint, head = resnext101_3d(classes), options.checkpoint, "fc"
    return network if checkpoint is None else load_checkpoint(checkpoint, network, skip=(head,))
