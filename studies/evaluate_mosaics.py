"""With a real classifier: does the map of a class lie where its photograph is?

EfficientNet-Lite0 classifies mosaics of four photographs, 2 x 2. The class of each photograph is
explained in turn: the class that the network gives to that photograph alone, at the same 112 x 112
pixels. A map should lie in that photograph's cell: the share of its energy there, and whether its
maximum is there, are .25 by chance. A map that is zero has no energy anywhere, and scores 0.

    python studies/evaluate_mosaics.py --mosaics 32
    python studies/evaluate_mosaics.py --mosaics 0 --paste 64

``--paste`` pastes one photograph, at a random size and position, on a texture, and explains the
highest class of the whole image: energy, hit and MaxBoxAcc V2 (all contours, the mean over IoU .3,
.5 and .7, one threshold for all images). Beside it are two baselines that ignore the image: the
whole frame, and a map that is highest in the centre.

Every method is evaluated over several sets of layers, of two families: the outputs of blocks, which
are linear bottlenecks, and the last ReLUs inside them, with that of the head. Intervals are 95 %
bootstrap intervals over mosaics, or images, of the same eight photographs: they do not say what
other photographs would give. The photographs are those of scikit-image and scikit-learn; nothing is
downloaded. Needs the extra ``demo``.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _intervals import Array, mean_interval, quantile_interval
from _methods import METHODS as SUMMED
from _methods import Method
from _report import table, write_report
from captum_3dcam import Layer
from captum_3dcam.evaluation import MAX_BOX_ACC_IOUS, Bootstrap, Interval
from captum_3dcam.metrics import (
    boxes_to_mask,
    cam_thresholds,
    energy_inside,
    hit_point,
    paired_iou,
    protocol_name,
    scoremap_ious,
)
from trained_networks.efficientnet import SIZE, Pixels, crop, load_efficientnet, preprocess

try:
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_images
except ImportError as error:
    raise ImportError(
        "The photographs need their packages: pip install 'captum_3dcam[demo]'."
    ) from error

NETWORKS: dict[str, Callable[[], nn.Module]] = {"lite0": load_efficientnet}
BLOCKS = (0, 2, 4, 10, 14, 15)
FAMILIES = {
    "blocks": [f"_blocks.{block}" for block in BLOCKS],
    "activations": [*(f"_blocks.{block}._swish" for block in BLOCKS), "_swish"],
}
CHOICES = {
    "last": slice(-1, None),
    "last two": slice(-2, None),
    "last three": slice(-3, None),
    "all": slice(None),
    "first two": slice(2),
}
LAYER_SETS = {
    f"{family}: {choice}": layers[chosen]
    for family, layers in FAMILIES.items()
    for choice, chosen in CHOICES.items()
}
# These do not sum the maps of layers, so each set of layers needs a run of its own.
PRODUCTS: dict[str, Method] = {
    f"{name} (product)": partial(SUMMED[name], fusion="product")
    for name in ("LayerCAM", "HiResCAM")
}
METHODS = {**SUMMED, **PRODUCTS}
JOINT = ("WhatWhere", *PRODUCTS)

CELL = SIZE // 2
# x0, y0, x1, y1 of the four cells, row by row.
CELLS = torch.tensor([[x, y, x + CELL, y + CELL] for y in (0, CELL) for x in (0, CELL)])
TEXTURES = ("gravel", "grass", "brick")
PASTED_SIDES = (64, 160)  # the smallest and the largest, of a pasted photograph
BATCH = 4


class LocatedImage(NamedTuple):
    """An input of the network, and each class to explain, with the box of its photograph."""

    inputs: Tensor
    """(3, 224, 224)"""
    targets: list[int]
    boxes: Tensor
    """(targets, 4)"""
    names: list[str]


class Scores(NamedTuple):
    """Of the map of each target, in the order of the images."""

    energy: Array
    hit: Array
    ious: Array
    """(N, K), at each threshold τ; K is 0 for mosaics."""


# ----------------------------------------------------------------------------------- images


def load_photographs() -> dict[str, Pixels]:
    """Eight photographs by name, (H, W, 3) RGB bytes."""
    china, flower = load_sample_images().images
    pixels = {
        "china": china,
        "flower": flower,
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "camera": skimage.data.camera(),
        "astronaut": skimage.data.astronaut(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
    }
    return {name: to_rgb(image) for name, image in pixels.items()}


def to_rgb(pixels: Pixels) -> Pixels:
    """Grey images (H, W) have three equal channels then."""
    return np.array(Image.fromarray(pixels).convert("RGB"))


def load_tiles() -> dict[str, Tensor]:
    """The photographs as cells of the network's input, (3, 112, 112)."""
    return {
        name: F.interpolate(preprocess(crop(pixels)), (CELL, CELL), mode="area")[0]
        for name, pixels in load_photographs().items()
    }


@torch.no_grad()
def top_classes(network: nn.Module, images: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(network(image[None]).argmax(dim=1)) for name, image in images.items()}


def draw_mosaics(
    number: int, tiles: Mapping[str, Tensor], classes: Mapping[str, int], seed: int
) -> list[LocatedImage]:
    """Mosaics of four photographs of different classes. Raises ValueError for fewer classes."""
    # Of photographs of one class only the first is used, so that a class has one cell.
    names = [
        name for i, name in enumerate(tiles) if classes[name] not in list(classes.values())[:i]
    ]
    if len(names) < len(CELLS):
        raise ValueError(
            f"A mosaic needs photographs of {len(CELLS)} different classes; the network gives "
            f"these: {dict(classes)}."
        )
    rng = np.random.default_rng(seed)
    draws = [rng.choice(names, len(CELLS), replace=False).tolist() for _ in range(number)]
    return [
        LocatedImage(
            arrange([tiles[name] for name in draw]), [classes[n] for n in draw], CELLS, draw
        )
        for draw in draws
    ]


def arrange(tiles: Sequence[Tensor]) -> Tensor:
    """Four tiles (3, h, w), row by row -> (3, 2 h, 2 w)."""
    return torch.cat([torch.cat(list(tiles[row : row + 2]), dim=2) for row in (0, 2)], dim=1)


def draw_pasted(number: int, network: nn.Module, seed: int) -> list[LocatedImage]:
    """One photograph each, at a random size and position on a texture, and its top class."""
    rng = np.random.default_rng(seed)
    photographs = {name: crop(pixels) for name, pixels in load_photographs().items()}
    textures = [crop(to_rgb(getattr(skimage.data, name)())) for name in TEXTURES]
    images = []
    for _ in range(number):
        name = str(rng.choice(list(photographs)))
        side = int(rng.integers(PASTED_SIDES[0], PASTED_SIDES[1] + 1))
        x, y = rng.integers(0, SIZE - side + 1, 2).tolist()
        pixels = textures[rng.integers(len(textures))].copy()
        small = Image.fromarray(photographs[name]).resize((side, side), Image.Resampling.BICUBIC)
        pixels[y : y + side, x : x + side] = np.asarray(small)
        inputs = preprocess(pixels)[0]
        target = top_classes(network, {name: inputs})[name]
        boxes = torch.tensor([[x, y, x + side, y + side]])
        images.append(LocatedImage(inputs, [target], boxes, [name]))
    return images


# ----------------------------------------------------------------------------------- scores


def maps_of_sets(
    method: Method,
    joint: bool,
    network: nn.Module,
    layer_sets: Mapping[str, Sequence[str]],
    inputs: Tensor,
    targets: list[int],
) -> dict[str, Tensor]:
    """The map (N, 1, H, W) of every set of layers.

    One run serves all sets, unless a method is ``joint``: the others sum the maps of layers.
    """

    def make(layers: Sequence[str]) -> Any:
        # A block of this network runs one ReLU twice; its last call is explained.
        return method(network, [Layer(name, calls="last") for name in layers])

    if joint:
        return {
            name: make(layers).attribute(inputs, target=targets)
            for name, layers in layer_sets.items()
        }
    every = list(dict.fromkeys(layer for layers in layer_sets.values() for layer in layers))
    layer_maps = make(every).attribute(inputs, target=targets, per_layer=True)
    maps = dict(zip(every, layer_maps, strict=True))
    return {
        name: torch.stack([maps[layer] for layer in layers]).sum(dim=0)
        for name, layers in layer_sets.items()
    }


def score(maps: Tensor, boxes: Tensor, thresholds: Tensor) -> Scores:
    """Maps (N, 1, H, W) by one box each, (N, 4)."""
    masks = torch.stack([boxes_to_mask(box[None], tuple(maps.shape[2:])) for box in boxes])
    ground_truth = list(boxes[:, None])
    ious = (
        scoremap_ious(maps, ground_truth, thresholds, multi_contour=True, box_format="xyxy")
        if len(thresholds)
        else torch.zeros(len(maps), 0)
    )
    return Scores(
        energy_inside(maps[:, 0], masks).numpy(),
        hit_point(maps, ground_truth, tolerance=0).double().numpy(),
        ious.double().numpy(),
    )


def evaluate_images(
    network: nn.Module,
    images: Sequence[LocatedImage],
    methods: Mapping[str, Method],
    layer_sets: Mapping[str, Sequence[str]],
    thresholds: Tensor,
    description: str,
) -> dict[tuple[str, str], Scores]:
    """The scores of every method over every set of layers, by (set, method)."""
    batches: dict[tuple[str, str], list[Scores]] = {}
    samples = [
        (image.inputs, target, box)
        for image in images
        for target, box in zip(image.targets, image.boxes, strict=True)
    ]
    with tqdm(total=len(samples), desc=description, unit="target") as bar:
        for start in range(0, len(samples), BATCH):
            inputs, targets, boxes = zip(*samples[start : start + BATCH], strict=True)
            for name, method in methods.items():
                maps = maps_of_sets(
                    method, name in JOINT, network, layer_sets, torch.stack(inputs), list(targets)
                )
                for layers, attribution in maps.items():
                    scores = score(attribution, torch.stack(boxes), thresholds)
                    batches.setdefault((layers, name), []).append(scores)
            bar.update(len(inputs))
    return {
        key: Scores(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        for key, parts in batches.items()
    }


def summarize(scores: Scores, groups: int, bootstrap: Bootstrap) -> dict[str, Interval]:
    """The mean of each score, and its interval over groups of consecutive targets."""
    summary = {
        "energy": mean_interval(scores.energy.reshape(groups, -1), bootstrap),
        "hit": mean_interval(scores.hit.reshape(groups, -1), bootstrap),
    }
    if scores.ious.shape[1]:
        summary["max_box_acc"] = max_box_acc_interval(scores.ious, bootstrap)
    return summary


def max_box_acc_interval(ious: Array, bootstrap: Bootstrap) -> Interval:
    """MaxBoxAcc of (N, K): each resample chooses its threshold for each δ anew."""
    counts = np.concatenate([np.ones((1, len(ious))), bootstrap.counts(len(ious))])
    best = [(counts @ (ious >= delta)).max(axis=1) / len(ious) for delta in MAX_BOX_ACC_IOUS]
    return quantile_interval(np.mean(best, axis=0), bootstrap)


def baselines(boxes: Tensor, thresholds: Tensor) -> dict[str, Scores]:
    """Maps that ignore the image: the same value everywhere, and a Gaussian in the centre."""
    frame = torch.tensor([0, 0, SIZE, SIZE])
    share = paired_iou(boxes, frame).numpy()  # a box's IoU with the frame is its share of the frame
    middle = (torch.arange(SIZE) - (SIZE - 1) / 2) / (SIZE / 4)
    centre = torch.exp(-(middle**2 + middle[:, None] ** 2) / 2)
    centres = centre.expand(len(boxes), 1, -1, -1)
    return {
        "whole frame": Scores(share, share, share[:, None]),
        "centre": score(centres, boxes, thresholds),
    }


# --------------------------------------------------------------------------------- the study


def study_mosaics(network: nn.Module, options: argparse.Namespace) -> dict[str, Any]:
    tiles = load_tiles()
    classes = top_classes(network, tiles)
    images = draw_mosaics(options.mosaics, tiles, classes, options.seed)
    scores = evaluate_images(
        network,
        images,
        {name: METHODS[name] for name in options.methods},
        {name: LAYER_SETS[name] for name in options.layer_sets},
        torch.zeros(0),
        "mosaics",
    )
    bootstrap = Bootstrap(seed=options.seed)
    report: dict[str, Any] = {
        "network": options.network,
        "seed": options.seed,
        "mosaics": len(images),
        "chance": 1 / len(CELLS),
        "classes": classes,
        "targets_in_top_5": targets_in_top(network, images, 5),
        "layer_sets": {name: LAYER_SETS[name] for name in options.layer_sets},
        "scores": nested(scores, len(images), bootstrap),
    }
    text = [
        f"# {len(images)} mosaics, {len(images) * len(CELLS)} targets",
        f"Chance is {report['chance']:.2f}. Of the targets, {report['targets_in_top_5']:.0%} are "
        "among the mosaic's five highest classes. Mean and 95 % interval over mosaics.",
        *tables(report["scores"], options.methods),
    ]
    write_report(options.output, "mosaics", report, "\n\n".join(text))
    return report


def study_pasted(network: nn.Module, options: argparse.Namespace) -> dict[str, Any]:
    images = draw_pasted(options.paste, network, options.seed)
    thresholds = cam_thresholds()
    scores = evaluate_images(
        network,
        images,
        {name: METHODS[name] for name in options.methods},
        {name: LAYER_SETS[name] for name in options.layer_sets},
        thresholds,
        "pasted photographs",
    )
    bootstrap = Bootstrap(seed=options.seed)
    boxes = torch.cat([image.boxes for image in images])
    ignorant = {
        name: summarize(baseline, len(images), bootstrap)
        for name, baseline in baselines(boxes, thresholds).items()
    }
    report: dict[str, Any] = {
        "network": options.network,
        "seed": options.seed,
        "images": len(images),
        "chance": ignorant["whole frame"]["energy"].value,
        "protocol": protocol_name(MAX_BOX_ACC_IOUS, "dataset", multi_contour=True),
        "layer_sets": {name: LAYER_SETS[name] for name in options.layer_sets},
        "baselines": ignorant,
        "scores": nested(scores, len(images), bootstrap),
    }
    names = list(ignorant["whole frame"])
    text = [
        f"# {len(images)} photographs pasted on textures",
        f"Chance, the photograph's share of the image, is {report['chance']:.3f}. "
        f"max_box_acc is {report['protocol']}. Mean and 95 % interval over images.",
        table(["", *names], [[row, *(each[n] for n in names)] for row, each in ignorant.items()]),
        *tables(report["scores"], options.methods),
    ]
    write_report(options.output, "pasted", report, "\n\n".join(text))
    return report


@torch.no_grad()
def targets_in_top(network: nn.Module, images: Sequence[LocatedImage], k: int) -> float:
    """The share of targets that are among an image's k highest classes."""
    inside = [
        target in network(image.inputs[None]).topk(k).indices[0]
        for image in images
        for target in image.targets
    ]
    return float(np.mean(inside))


def nested(
    scores: Mapping[tuple[str, str], Scores], groups: int, bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, Interval]]]:
    """The summaries by set, then method."""
    summaries: dict[str, dict[str, dict[str, Interval]]] = {}
    for (layers, method), values in scores.items():
        summaries.setdefault(layers, {})[method] = summarize(values, groups, bootstrap)
    return summaries


def tables(
    scores: Mapping[str, Mapping[str, Mapping[str, Interval]]], methods: Sequence[str]
) -> list[str]:
    """One of each score: a row a set of layers, a column a method."""
    names = next(iter(next(iter(scores.values())).values()))
    return [
        table(
            [name, *methods],
            [
                [layers, *(row[method][name] for method in methods)]
                for layers, row in scores.items()
            ],
        )
        for name in names
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    network = NETWORKS[options.network]()
    studies = {
        "mosaics": study_mosaics if options.mosaics else None,
        "pasted": study_pasted if options.paste else None,
    }
    return {name: study(network, options) for name, study in studies.items() if study}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser, count = make_parser(__doc__), at_least(0)
    add = parser.add_argument
    add("--mosaics", type=count, default=32, help="how many (default: 32)")
    add("--paste", type=count, nargs="?", const=64, default=0, help="how many images (64)")
    add("--seed", type=int, default=0, help="of the images and the bootstrap (default: 0)")
    add("--network", choices=NETWORKS, default="lite0")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layer-sets", nargs="+", choices=LAYER_SETS, default=list(LAYER_SETS))
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if not options.mosaics + options.paste:
        parser.error("expected a number of --mosaics, or of images to --paste")
    return options


if __name__ == "__main__":
    main()
