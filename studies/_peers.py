"""Several layers of a network explained by other packages, for the benchmark.

The extra ``bench`` installs them. They depend on torchvision, which may replace PyTorch, and on a
package named ``tests``; ``make bench`` installs them without their dependencies, into a folder of
their own:

    pip install --no-deps --target peers torchcam==0.5.0 grad-cam==1.5.7 medcam==0.1.22 ttach
    PYTHONPATH=peers python studies/benchmark.py

``missing()`` names those that cannot be imported, and why.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from captum_3dcam.functional import LINEAR_MODES

Explain = Callable[[Tensor, list[int]], Any]
"""Explains (inputs, the class of each sample)."""


class Peer(NamedTuple):
    """A package, and how it explains several layers."""

    distribution: str
    module: str
    """What is imported of it."""
    make: Callable[[nn.Module, Sequence[str]], Explain]


# ----------------------------------------------------------------------------------------- packages


def captum_loop(network: nn.Module, layers: Sequence[str]) -> Explain:
    """LayerGradCam takes one layer: a call for each, its maps upsampled and summed."""

    def explain(x: Tensor, classes: list[int]) -> Tensor:
        size = x.shape[2:]
        fused = torch.zeros(len(x), 1, *size, device=x.device)
        for name in layers:
            cam = LayerGradCam(network, network.get_submodule(name))
            # Its map holds the graph of the pass.
            coarse = cam.attribute(x, target=classes, relu_attributions=True).detach()
            fused += LayerAttribution.interpolate(coarse, tuple(size), LINEAR_MODES[len(size)])
        return fused

    return explain


def torch_cam(network: nn.Module, layers: Sequence[str]) -> Explain:
    """GradCAM over all layers, fused by its maximum, and upsampled to the input's size."""
    methods = importlib.import_module("torchcam.methods")

    def explain(x: Tensor, classes: list[int]) -> Tensor:
        with methods.GradCAM(network, list(layers)) as cam:
            scores = network(x)
            fused = cam.fuse_cams(cam(classes, scores))[:, None]
        size = x.shape[2:]
        return F.interpolate(fused, size, mode=LINEAR_MODES[len(size)])

    return explain


def torch_cam_classes(network: nn.Module, layers: Sequence[str]) -> Callable[..., list[Tensor]]:
    """The same for several classes of each sample, from one forward pass."""
    methods = importlib.import_module("torchcam.methods")

    def explain(x: Tensor, classes: Sequence[list[int]]) -> list[Tensor]:
        size, maps = x.shape[2:], []
        with methods.GradCAM(network, list(layers)) as cam:
            scores = network(x)
            for each in classes:
                fused = cam.fuse_cams(cam(each, scores, retain_graph=True))[:, None]
                maps.append(F.interpolate(fused, size, mode=LINEAR_MODES[len(size)]))
        return maps

    return explain


def pytorch_grad_cam(network: nn.Module, layers: Sequence[str]) -> Explain:
    """GradCAM over all layers; it resizes and averages the maps itself, in NumPy."""
    with placeholder_for_torchvision():
        package = importlib.import_module("pytorch_grad_cam")
        targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    modules = [network.get_submodule(name) for name in layers]

    def explain(x: Tensor, classes: list[int]) -> Any:
        with package.GradCAM(network, modules) as cam:
            return cam(x, [targets.ClassifierOutputTarget(each) for each in classes])

    return explain


def med_cam(network: nn.Module, layers: Sequence[str]) -> Explain:
    """Grad-CAM of each layer at its own size, not fused; one class for the whole batch.

    Of several layers it returns no map; it can write them to files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import has deprecated syntax
        injected = importlib.import_module("medcam.medcam_inject").inject(
            network, backend="gcam", layer=list(layers), label=0
        )

    def explain(x: Tensor, classes: list[int]) -> Any:
        injected(x, label=classes[0])
        network.zero_grad(set_to_none=True)  # it leaves gradients in the parameters
        return injected.get_attention_map()

    return explain


PEERS = {
    "Captum": Peer("captum", "captum", captum_loop),
    "torch-cam": Peer("torchcam", "torchcam.methods", torch_cam),
    "pytorch-grad-cam": Peer("grad-cam", "pytorch_grad_cam", pytorch_grad_cam),
    "M3d-Cam": Peer("medcam", "medcam", med_cam),
}


# ---------------------------------------------------------------------------------------- installed


def missing() -> dict[str, str]:
    """The peers that cannot be imported, and why."""
    reasons = {name: why_missing(peer) for name, peer in PEERS.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def why_missing(peer: Peer) -> str:
    """The error of its import; empty if there is none."""
    try:
        with placeholder_for_torchvision(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(peer.module)
    except Exception as error:  # whatever another package raises
        return f"{type(error).__name__}: {error}"
    return ""


def versions() -> str:
    absent = missing()
    parts = [
        f"{name} missing ({absent[name]})"
        if name in absent
        else f"{name} {version(peer.distribution)}"
        for name, peer in PEERS.items()
    ]
    return ", ".join(parts)


class Placeholder(ModuleType):
    """A module whose every name is a class that cannot be instantiated."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise ImportError(f"{self.__name__}.{name} is a placeholder: torchvision is missing.")

        return type(name, (), {"__init__": refuse})


@contextmanager
def placeholder_for_torchvision() -> Iterator[None]:
    """Inside, torchvision can be imported, whether or not it is installed.

    pytorch-grad-cam imports it, though its GradCAM does not use it. An installed torchvision that
    does not fit the installed PyTorch cannot be imported either.
    """
    try:
        importlib.import_module("torchvision")
    except Exception:
        names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
        before = {name: sys.modules.get(name) for name in names}
        sys.modules.update({name: Placeholder(name) for name in names})
        try:
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
    else:
        yield
