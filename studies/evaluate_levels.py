"""At which level of a map is the box of its object? Levels that follow from the map alone.

    python studies/evaluate_levels.py

draws the box of the largest component above a level, for each object in the worlds of
``evaluate_worlds.py``, over all layers, and compares it with the object's own box: the mean IoU, by
method and level. ``best`` is the level that is best for each map, which no user knows; ``one
level`` is the share of the maximum, of .02 to .8, that is best for the whole world.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _report import table, write_report
from _worlds import World
from captum_3dcam.localization import binarize
from evaluate_worlds import METHODS, WORLDS, Box, _box, _iou, best_box_iou, pairs_of
from trained_networks.action_net import WEIGHTS

Level = Callable[[Tensor], Tensor]
"""The mask of a map, both (1, 1, *S)."""
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEVELS: dict[str, Level] = {
    "half the maximum": binarize,
    "mean": lambda heat: binarize(heat, "mean"),
    "Otsu": lambda heat: binarize(heat, "otsu"),
    "Otsu of the square root": lambda heat: binarize(heat.sqrt(), "otsu"),
    "effective": lambda heat: binarize(heat, "effective"),
}
EXPLAINED = ("GradCAM", "GradCAM++", "LayerCAM", "HiResCAM", "WhatWhere")
SETS = ("all", "activations: all", "activations: last two")


def largest_box(mask: Tensor) -> Box | None:
    labels, count = ndimage.label(mask[0, 0].numpy())
    if not count:
        return None
    return _box(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def ious_of_map(heat: Tensor, mask: Tensor) -> dict[str, float]:
    """By level, and at each share of the maximum."""
    ground_truth = _box(mask.numpy())
    masks = {name: level(heat) for name, level in LEVELS.items()}
    masks |= {str(share): binarize(heat, "relative", share) for share in SHARES}
    boxes = {name: largest_box(each) for name, each in masks.items()}
    ious = {name: 0.0 if box is None else _iou(box, ground_truth) for name, box in boxes.items()}
    return ious | {"best": best_box_iou(heat[0, 0], mask)}


def evaluate_world(
    world: World, methods: Sequence[str], name: str
) -> dict[str, dict[str, dict[str, float]]]:
    """The mean IoU by layers, method and level."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    objects = [(s, i) for s in world.scenes for i in range(len(s.labels))]
    for scene, index in tqdm(objects, desc=name, unit="object"):
        for set_name in filter(world.layer_sets.get, SETS):
            layers = world.layer_sets[set_name]
            pairs = pairs_of(world.network, layers, scene.inputs[None], scene.labels[index])
            for method in methods:
                heat = METHODS[method](pairs, scene.masks.shape[1:])
                ious = ious_of_map(heat, scene.masks[index])
                rows.setdefault(set_name, {}).setdefault(method, []).append(ious)
    return {
        set_name: {method: summarize(each) for method, each in of_set.items()}
        for set_name, of_set in rows.items()
    }


def summarize(ious: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each level; of the shares, that of the one that is best on average."""
    means = {name: float(np.mean([each[name] for each in ious])) for name in ious[0]}
    one = max(SHARES, key=lambda share: means[str(share)])
    levels = {name: means[name] for name in LEVELS}
    return {**levels, "one level": means[str(one)], "at": one, "best": means["best"]}


def text_of(report: Mapping[str, Any]) -> str:
    columns = [*LEVELS, "one level", "at", "best"]
    rows = [
        [f"{world}, {set_name}: {method}", *(f"{scores[name]:.2f}" for name in columns)]
        for world, sets in report.items()
        for set_name, of_set in sets.items()
        for method, scores in of_set.items()
    ]
    return table(["", *columns], rows)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    add("--scenes", type=positive, default=20, help="of each world (default: 20)")
    add("--methods", nargs="+", choices=METHODS, default=list(EXPLAINED))
    add("--weights", type=Path, default=WEIGHTS, help="of the network of actions")
    add("--seed", type=at_least(0), default=0, help="of the networks that are trained here")
    add("--steps", type=positive, help="to train these; by default the recipe's")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options: argparse.Namespace = parser.parse_args(arguments)
    report = {
        name: evaluate_world(WORLDS[name](options), options.methods, name)
        for name in options.worlds
    }
    write_report(options.output, "levels", report, text_of(report))
    return report


if __name__ == "__main__":
    main()
