"""Print the table of docs/your_model.md: the layers of layers="auto", and how exact the values are.

    python studies/zoo_table.py            # without the column of costs
    python studies/zoo_table.py --cost     # alone on the machine: minutes

The difference is the largest between a layer map and its derivation from plain hooks. The cost is
the time of attribute(), relative to one forward and one backward pass to the same layers, on a
batch that takes 20 ms at least; medians of alternating runs, on one thread.
"""

import argparse
import warnings
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from _naive_maps import naive_activations, naive_maps
from captum_3dcam import LayerwiseGlobalLocalCAM
from zoo_networks import FAMILIES, Family, find_libraries

_MIN_SECONDS = 0.02
_RUNS = 7


def row(name: str, family: Family, with_cost: bool) -> list[str]:
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
    cells = [name, family.library, "0", ", ".join(layers), f"{difference:.0e}"]
    return [*cells, f"{cost(cam, model, inputs, family):.2f}"] if with_cost else cells


def cost(cam: LayerwiseGlobalLocalCAM, model: Any, inputs: Any, family: Family) -> float:
    """The time of attribute(), relative to one forward and one backward pass."""
    batch = inputs
    while _seconds(partial(_passes, model, batch, family, cam)) < _MIN_SECONDS:
        batch = _twice(batch)
    times: dict[str, list[float]] = {"attribute": [], "passes": []}
    for _ in range(_RUNS):
        times["passes"].append(_seconds(partial(_passes, model, batch, family, cam)))
        times["attribute"].append(_seconds(partial(cam.attribute, batch, family.target)))
    return median(times["attribute"]) / median(times["passes"])


def _passes(model: Any, inputs: Any, family: Family, cam: LayerwiseGlobalLocalCAM) -> None:
    naive_activations(model, inputs, family, cam.layers)


def _twice(inputs: Any) -> Any:
    """A batch of twice the size."""
    if isinstance(inputs, Tensor):
        return torch.cat([inputs, inputs])
    return [_twice(x) for x in inputs]


def _seconds(run: Any) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cost", action="store_true", help="add the column of costs")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    find_libraries()
    head = ["family", "library", "lines of glue", "layers", "difference"]
    head += ["cost"] if options.cost else []
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for name in options.families:
        if find_spec(FAMILIES[name].library):
            print(f"| {' | '.join(row(name, FAMILIES[name], options.cost))} |", flush=True)


if __name__ == "__main__":
    main()
