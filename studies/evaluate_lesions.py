"""Does a map find the lesion that a classifier decided by: layers="auto" beside a person's guess?

    python studies/evaluate_lesions.py

trains small 3D DenseNets of MONAI on the synthetic scans of ``volume_net.py`` (minutes), and prints
how often the map's highest voxel lies in the lesion, over held-out scans whose lesion the network
names: with the layers that ``layers="auto"`` chooses, and with the last dense block alone, which
is what guides for Grad-CAM recommend.
"""

import argparse
import math
import warnings
from collections.abc import Iterator
from importlib import import_module

import torch
from torch import Tensor, nn

from _report import print_table
from captum_3dcam import (
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.attribution import LayerwiseCAM
from trained_networks import volume_net
from zoo_networks import find_libraries

SIZE = (64, 64, 64)
GUESS = "features.denseblock4"
METHODS = {
    "3DCAM": LayerwiseGlobalLocalCAM,
    "What x Where": LayerwiseWhatWhereCAM,
    "Grad-CAM": LayerwiseGradCAM,
}


class DenseNet(nn.Module):
    """MONAI's, with fewer and narrower layers, on scans in their own units."""

    def __init__(self) -> None:
        super().__init__()
        self.net = import_module("monai.networks.nets").DenseNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=len(volume_net.CLASSES),
            init_features=16,
            growth_rate=12,
            block_config=(3, 3, 3, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net((x - 100) / 50)
        return logits


def hits(cam: LayerwiseCAM, scans: list[tuple[Tensor, Tensor, int]]) -> float:
    """The share of scans in which the map's highest voxel lies in the lesion."""
    inside = [bool(mask.flatten()[cam.attribute(x, label).argmax()]) for x, mask, label in scans]
    return sum(inside) / len(inside) if inside else math.nan


@torch.no_grad()
def explained_scans(
    network: nn.Module, count: int
) -> tuple[list[tuple[Tensor, Tensor, int]], float]:
    """Held-out scans whose lesion the network names: input, mask and class; its accuracy."""
    scans, correct = [], 0
    for index in range(count):
        scan = volume_net.make_scan(index)
        x = volume_net.preprocess(scan.volume, SIZE).to_tensor()
        named = int(network(x).argmax()) == scan.label
        correct += named
        if named and scan.label:
            mask = scan.volume.with_data(scan.mask.astype(float))
            scans.append((x, volume_net.preprocess(mask, SIZE).to_tensor() > 0.5, scan.label))
    return scans, correct / count


def rows_of(seed: int, options: argparse.Namespace) -> Iterator[list[object]]:
    """The rows of a network that is trained from a seed: one for each choice of layers."""
    network = volume_net.train(options.training, options.epochs, seed, DenseNet, SIZE)
    scans, accuracy = explained_scans(network, options.scans)
    for name, layers in (("auto", "auto"), ("guess", f"net.{GUESS}")):
        shares = [f"{hits(method(network, layers), scans):.2f}" for method in METHODS.values()]
        yield [seed, f"{accuracy:.2f}", len(scans), name, *shares]


def main(arguments: list[str] | None = None) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--training", type=int, default=240, help="scans (default: 240)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--scans", type=int, default=96, help="held out (default: 96)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of maps that are zero: they are no hit
    find_libraries()
    rows = (row for seed in options.seeds for row in rows_of(seed, options))
    print_table(["seed", "accuracy", "scans", "layers", *METHODS], rows)


if __name__ == "__main__":
    main()
