"""The networks of the study ``cuda``, with random weights, at sizes that they are used at.

The two residual networks are those of the other studies (``_resnet.py``), with their stem and
stages as layers. The others are what their libraries build, with the layers that
``suggest_layers`` chooses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from _benchmark_runs import make_network
from _resnet import LAYERS
from captum_3dcam import Layer
from zoo_cost import PUBLISHED
from zoo_networks import FAMILIES, find_libraries


@dataclass(frozen=True)
class Network:
    """A network, and the input and layers to explain it with."""

    library: str
    build: Callable[[], nn.Module]
    """In eval mode; its output is scores (N, classes)."""
    shape: tuple[int, ...]
    """Of the input."""
    layers: tuple[tuple[str, str | None], ...]
    """Name and layout, in the order in which they run."""
    input_layout: str | None = None
    convolutional: bool = True
    """Whether a memory format makes a difference."""
    rank: int = 0
    """Which of the highest classes is explained: the first whose map is not zero."""

    @property
    def is_plain(self) -> bool:
        """Whether input and layers are (N, C, *S), which is all that other packages read."""
        return self.input_layout is None and not any(layout for _, layout in self.layers)


class Scores(nn.Module):
    """Scores (N, classes) of a model that returns something else, so that all packages take it.

    Of an output with ``logits`` these; of a segmentation (N, C, *S) the sum of a class's scores
    over the positions where it is predicted.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        returned = self.model(x)
        logits: Tensor = getattr(returned, "logits", returned)
        if logits.ndim == 2:
            return logits
        scores = logits.flatten(2)
        return scores.where(scores == scores.amax(dim=1, keepdim=True), 0).sum(dim=2)


class Subject(NamedTuple):
    """A network on a device, with its input, and the class of each sample."""

    network: nn.Module
    x: Tensor
    layers: Sequence[Layer]
    classes: list[int]
    num_classes: int
    input_layout: str | None
    is_plain: bool


# ----------------------------------------------------------------------------------------- networks


def residual(name: str, shape: tuple[int, ...]) -> Network:
    return Network("torch", partial(make_network, name), shape, plain(LAYERS))


def of_family(name: str, build: Any, shape: tuple[int, ...], **options: Any) -> Network:
    """A family of ``zoo_networks.py``, as ``build`` makes it of the library's module."""
    family = replace(FAMILIES[name], build=build, shapes=(shape,))
    layers = tuple((f"model.{layer}", layout) for layer, layout, _ in family.layers)
    options = {"layers": layers, **options}
    return Network(family.library, lambda: Scores(family.model()), shape, **options)


def plain(names: Sequence[str]) -> tuple[tuple[str, None], ...]:
    return tuple((name, None) for name in names)


def x3d_m(_: Any) -> nn.Module:
    x3d = import_module("pytorchvideo.models.x3d")
    return x3d.create_x3d(input_clip_length=16, input_crop_size=224)


def videomae_b(hf: Any) -> nn.Module:
    return hf.VideoMAEForVideoClassification(hf.VideoMAEConfig(num_labels=400))


NETWORKS = {
    "r3d_18": residual("r3d_18", (8, 3, 16, 112, 112)),
    "ResNet-50": residual("resnet50_2d", (32, 3, 224, 224)),
    "VideoMAE-B": of_family(
        "VideoMAE",
        videomae_b,
        (1, 16, 3, 224, 224),
        layers=(("model.videomae.encoder.layer.10.intermediate", "N L C"),),
        input_layout="N T C H W",
        convolutional=False,
        rank=1,
    ),
    "Swin UNETR": of_family("Swin UNETR", PUBLISHED["Swin UNETR"][0], (1, 1, 96, 96, 96)),
    "X3D-M": of_family("X3D", x3d_m, (1, 3, 16, 224, 224)),
}


# ------------------------------------------------------------------------------------------ subject


def missing_library(network: Network) -> str | None:
    """Why the network cannot be built, or None."""
    find_libraries()
    if find_spec(network.library) is None:
        return f"{network.library} is not installed"
    return None


def make_subject(network: Network, device: str, channels_last: bool = False) -> Subject:
    """Raises what the library raises, where it does not fit the environment."""
    find_libraries()
    model = network.build().to(device)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(network.shape, generator=generator).to(device)
    if channels_last:
        memory_format = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        model, x = model.to(memory_format=memory_format), x.to(memory_format=memory_format)
    with torch.no_grad():
        scores = model(x)
    return Subject(
        network=model,
        x=x,
        layers=[Layer(name, layout=layout) for name, layout in network.layers],
        classes=scores.topk(network.rank + 1).indices[:, -1].tolist(),
        num_classes=scores.shape[1],
        input_layout=network.input_layout,
        is_plain=network.is_plain,
    )
