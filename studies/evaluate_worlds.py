"""By which measure is what x where behind, and do its variants mend it? Six worlds.

    python studies/evaluate_worlds.py

explains each object of held-out scenes of

- ``digits``, ``lesions`` and ``regions`` of ``_worlds.py``, by networks that are trained here;
- ``actions``: clips of two actors, by the network of synthetic actions (or ``--weights``);
- ``mosaics`` and ``pasted``: photographs, by EfficientNet-Lite0 (extra ``demo``).

The maps of all methods are of one forward and backward pass. No increasing function of a map
changes the first four columns:

- ``ap``: average precision of the voxels against the object's mask;
- ``box``: the box of the largest component above a level, at the level that is best for each map;
  the share of maps with an IoU of .3, .5 and .7, on average (MaxBoxAcc over all levels);
- ``insertion``, ``deletion``: normalised area under the curve of the probability, from and to the
  blurred input (for the sets of layers in ``CURVES``, and ``--curves`` objects at most);
- ``energy``: the share of the map on the object, which sharpening a map does change.

The report has each value by world and layers, the mean over layers, and how often each is the best.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from tqdm.auto import tqdm

import _worlds
from _arguments import at_least, make_parser
from _report import table, write_report
from _variants import VARIANTS, Map, Pair
from _worlds import Scene, World
from captum_3dcam import Layer, functional
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.metrics import boxes_to_mask, energy_inside
from captum_3dcam.sanity import Perturbation, perturbation_curve
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, WEIGHTS, load_action_net

COLUMNS = ("ap", "box", "insertion", "deletion", "energy")
LOW_IS_GOOD = {"deletion"}
CURVES = ("all", "last two", "activations: all", "activations: last two")
LEVELS = np.geomspace(0.002, 0.8, 24)  # shares of the voxels
IOUS = (0.3, 0.5, 0.7)
STEPS = 12  # of insertion and deletion
MIN_SPAN = 0.3  # of the probability, between the input and the blurred one


# ---------------------------------------------------------------------------------- the methods


def summed(rule: functional.LayerRule) -> Map:
    def draw(pairs: Sequence[Pair], size: Sequence[int]) -> Tensor:
        maps = (functional.layer_map(rule(*pair), size) for pair in pairs)
        return functional.fuse(maps, len(pairs))

    return draw


METHODS: dict[str, Map] = {
    "GradCAM": summed(functional.grad_cam),
    "GradCAM++": summed(functional.grad_cam_plus_plus),
    "LayerCAM": summed(functional.layer_cam),
    "HiResCAM": summed(functional.hi_res_cam),
    "XGradCAM": summed(functional.x_grad_cam),
    **VARIANTS,
}


class PairsCAM(LayerwiseCAM):
    """Keeps the activation and the gradient of each layer."""

    rule = staticmethod(lambda activation, gradient: (activation, gradient))

    def _fused(self, factors: Any, recording: Any, geometry: Any) -> Iterator[Tensor]:
        self.pairs: list[Pair] = [calls[0].factors for calls in factors]
        yield torch.ones(geometry.batch_size, 1, *geometry.size)


def pairs_of(network: nn.Module, layers: Sequence[Any], inputs: Tensor, target: Any) -> list[Pair]:
    cam = PairsCAM(network, list(layers))
    cam.attribute(inputs, target=target, output_size=1)
    return cam.pairs


# ----------------------------------------------------------------------------------- the worlds


def action_world(options: argparse.Namespace) -> World:
    clips = SyntheticActions(options.scenes, seed=HELD_OUT_SEED, actors=2)
    drawn = [clips[index] for index in range(options.scenes)]
    scenes = [Scene(clip.clip, clip.labels.tolist(), clip.masks) for clip in drawn]
    return World(load_action_net(options.weights), _worlds.layer_sets(LAYERS), scenes)


def photograph_world(options: argparse.Namespace, pasted: bool) -> World:
    import evaluate_mosaics as mosaics

    network = mosaics.load_efficientnet()
    if pasted:
        images = mosaics.draw_pasted(options.scenes, network, HELD_OUT_SEED)
    else:
        tiles = mosaics.load_tiles()
        classes = mosaics.top_classes(network, tiles)
        images = mosaics.draw_mosaics(options.scenes // 2, tiles, classes, HELD_OUT_SEED)
    size = (mosaics.SIZE, mosaics.SIZE)
    scenes = [
        Scene(
            image.inputs,
            image.targets,
            torch.stack([boxes_to_mask(box[None], size) for box in image.boxes]),
        )
        for image in images
    ]
    sets = {
        name: [Layer(layer, calls="last") for layer in layers]
        for name, layers in mosaics.LAYER_SETS.items()
    }
    return World(network, sets, scenes)


WORLDS: dict[str, Callable[[argparse.Namespace], World]] = {
    **{
        name: lambda options, name=name: _worlds.make_world(
            name, options.scenes, options.seed, options.steps
        )
        for name in _worlds.RECIPES
    },
    "actions": action_world,
    "mosaics": partial(photograph_world, pasted=False),
    "pasted": partial(photograph_world, pasted=True),
}


# ----------------------------------------------------------------------------------- the scores


def average_precision(heat: Tensor, mask: Tensor) -> float:
    """Of the voxels of a map; equal values are one threshold."""
    values, inside = heat.flatten().double().numpy(), mask.flatten().numpy()
    order = np.argsort(-values, kind="stable")
    is_last = np.append(np.diff(values[order]) != 0, True)
    counts = np.flatnonzero(is_last) + 1
    true_positives = inside[order].cumsum()[is_last]
    recall = true_positives / true_positives[-1]
    return float((true_positives / counts * np.diff(recall, prepend=0)).sum())


def best_box_iou(heat: Tensor, mask: Tensor) -> float:
    """Of the box of the largest component above a level, at the best of all levels."""
    values = heat.numpy()
    ordered = np.sort(values, axis=None)
    ground_truth = _box(mask.numpy())
    best = 0.0
    for share in LEVELS:
        level = ordered[int((1 - share) * (values.size - 1))]
        labels, count = ndimage.label(values >= level if level > 0 else values > 0)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            best = max(best, _iou(_box(labels == sizes.argmax() + 1), ground_truth))
    return best


Box = npt.NDArray[np.int64]


def _box(mask: npt.NDArray[np.bool_]) -> Box:
    """The first voxel along each axis, and the last plus one: (2, D)."""
    voxels = np.argwhere(mask)
    return np.stack([voxels.min(axis=0), voxels.max(axis=0) + 1])


def _iou(a: Box, b: Box) -> float:
    sides = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])
    shared = np.prod(np.maximum(sides, 0))
    return float(shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared))


def curve_area(network: nn.Module, inputs: Tensor, heat: Tensor, target: int, mode: str) -> float:
    """NaN where blurring changes the probability by too little to divide by."""
    perturbation = Perturbation(mode, "blur", STEPS)
    curve = perturbation_curve(network, inputs, heat, target, perturbation, batch_size=STEPS + 1)
    span = float((curve.scores[0, 0] - curve.scores[0, -1]).abs())
    return float(curve.normalized_auc[0]) if span >= MIN_SPAN else float("nan")


def evaluate_world(
    world: World, methods: Mapping[str, Map], curves: int, name: str
) -> dict[str, dict[str, dict[str, float]]]:
    """The means over objects, by layers, method and column."""
    every = {str(layer): layer for layers in world.layer_sets.values() for layer in layers}
    rows: dict[tuple[str, str], list[list[float]]] = {}
    objects = [(s, i) for s in world.scenes for i in range(len(s.labels))]
    for number, (scene, index) in enumerate(tqdm(objects, desc=name, unit="object")):
        inputs, target, mask = scene.inputs[None], scene.labels[index], scene.masks[index]
        pairs = dict(
            zip(every, pairs_of(world.network, list(every.values()), inputs, target), strict=True)
        )
        for set_name, layers in world.layer_sets.items():
            own = [pairs[str(layer)] for layer in layers]
            for method, draw in methods.items():
                heat = draw(own, mask.shape)
                row = [
                    average_precision(heat, mask),
                    float(np.mean([best_box_iou(heat[0, 0], mask) >= iou for iou in IOUS])),
                    *[float("nan")] * 2,
                    float(energy_inside(heat[:, 0], mask[None])),
                ]
                if number < curves and set_name in CURVES:
                    row[2:4] = [
                        curve_area(world.network, inputs, heat, target, mode)
                        for mode in ("insertion", "deletion")
                    ]
                rows.setdefault((set_name, method), []).append(row)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for (set_name, method), values in rows.items():
        means = np.nanmean(np.ma.masked_invalid(values), axis=0)
        filled = np.ma.filled(means, np.nan).tolist()
        scores.setdefault(set_name, {})[method] = dict(zip(COLUMNS, filled, strict=True))
    return scores


# ------------------------------------------------------------------------------------ the study


def wins(worlds: Mapping[str, Any], column: str, methods: Sequence[str]) -> dict[str, int]:
    """In how many sets of layers each method is the best; ties count for all."""
    counts = dict.fromkeys(methods, 0)
    for world in worlds.values():
        for each in world.values():
            values = {m: each[m][column] for m in methods if not np.isnan(each[m][column])}
            best = (min if column in LOW_IS_GOOD else max)(values.values(), default=None)
            for method, value in values.items():
                counts[method] += value == best
    return counts


def text_of(report: Mapping[str, Any], methods: Sequence[str]) -> str:
    parts = []
    for column in COLUMNS:
        rows: list[list[object]] = []
        for name, world in report["worlds"].items():
            values = {s: [each[m][column] for m in methods] for s, each in world.items()}
            known = {s: v for s, v in values.items() if not np.isnan(v).all()}
            if known:
                mean = np.mean(list(known.values()), axis=0)
                rows += [[f"{name}: {s}", *map(_show, v)] for s, v in known.items()]
                rows.append([f"**{name}: mean**", *map(_show, mean)])
        best = wins(report["worlds"], column, methods)
        rows.append(["best in so many sets", *best.values()])
        parts.append(f"# {column}\n\n{table(['', *methods], rows)}")
    return "\n\n".join(parts)


def _show(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    add("--scenes", type=positive, default=20, help="of each world (default: 20)")
    add("--curves", type=at_least(0), default=16, help="objects for insertion and deletion (16)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--weights", type=Path, default=WEIGHTS, help="of the network of actions")
    add("--seed", type=at_least(0), default=0, help="of the networks that are trained here")
    add("--steps", type=positive, help="to train these; by default the recipe's")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)

    methods = {name: METHODS[name] for name in options.methods}
    report: dict[str, Any] = {"scenes": options.scenes, "seed": options.seed, "worlds": {}}
    for name in options.worlds:
        world = WORLDS[name](options)
        report["worlds"][name] = evaluate_world(world, methods, options.curves, name)
    write_report(options.output, "worlds", report, text_of(report, options.methods))
    return report


if __name__ == "__main__":
    main()
