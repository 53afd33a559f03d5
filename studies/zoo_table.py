"""Print the table of docs/your_model.md: the layers of layers="auto", and how exact the values are.

    python studies/zoo_table.py

The difference is the largest between a layer map and its derivation from plain hooks.
"""

import argparse
import warnings

import torch

from _naive_maps import naive_maps
from _report import print_table
from captum_3dcam import LayerwiseGlobalLocalCAM
from zoo_networks import FAMILIES, Family, installed


def row(name: str, family: Family) -> list[str]:
    """The cells of a family's row."""
    model, inputs = family.model(), family.inputs()
    cam = LayerwiseGlobalLocalCAM(model, layers="auto")
    maps = cam.attribute(inputs, family.target, per_layer=True)
    naive = naive_maps(model, inputs, family, cam.layers)
    difference = max(float((a - b).abs().max()) for a, b in zip(maps, naive, strict=True))
    layers = [
        f"`{layer.name}`" + (f" ({layer.layout})" if layer.layout else "")
        + (f" [{layer.index}]" if layer.index is not None else "")
        for layer in cam.layers
    ]  # fmt: skip
    return [name, family.library, "0", ", ".join(layers), f"{difference:.0e}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    header = ["family", "library", "lines of glue", "layers", "difference"]
    print_table(header, (row(name, FAMILIES[name]) for name in installed(options.families)))


if __name__ == "__main__":
    main()
