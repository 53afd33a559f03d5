"""With a real classifier: does the map of a class lie where its photograph is?

EfficientNet-Lite0 looks at mosaics of four photographs, 2 x 2, and is asked about the class of
each in turn: the class that it gives to that photograph alone, at the same 112 x 112 pixels. A map
should lie in that photograph's cell: the share of its energy there, and whether its highest pixel
is there, are .25 by chance. A map that is zero has no energy anywhere, and scores 0.

    python studies/evaluate_mosaics.py --mosaics 32
    python studies/evaluate_mosaics.py --mosaics 0 --paste 64

``--paste`` pastes one photograph, at a random size and place, on a texture, and asks about the
highest class of the whole picture: energy, hit and MaxBoxAcc V2 (all contours, the mean over IoU
.3, .5 and .7, one threshold for all pictures). What looks at nothing is shown beside: the whole
frame, and a map that is highest in the centre.

Every method is asked over several sets of layers, of two families: the outputs of blocks, which
are linear bottlenecks, and the last ReLUs inside of them, with that of the head. Intervals are
95 % bootstrap intervals over mosaics, or pictures, of the same eight photographs: they do not say
what other photographs would give. The photographs are scikit-image's and scikit-learn's; nothing is
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
from study import METHODS as STUDIED
from study import Array, Method, mean_interval, quantile_interval, table, write
from trained_networks.efficientnet import SIZE, Photograph, fit, load_efficientnet, preprocess

try:
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_images
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(
        "The photographs and the progress bar need their packages: pip install "
        "'captum_3dcam[demo]'."
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
    f"{family}: {choice}": layers[places]
    for family, layers in FAMILIES.items()
    for choice, places in CHOICES.items()
}
# These do not add the maps of layers up, so that each set of layers is a run of its own.
PRODUCTS: dict[str, Method] = {
    f"{name} (product)": partial(STUDIED[name], fusion="product")
    for name in ("LayerCAM", "HiResCAM")
}
METHODS = {**STUDIED, **PRODUCTS}
JOINT = ("WhatWhere", *PRODUCTS)

CELL = SIZE // 2
# x0, y0, x1, y1 of the four cells, row by row.
CELLS = torch.tensor([[x, y, x + CELL, y + CELL] for y in (0, CELL) for x in (0, CELL)])
TEXTURES = ("gravel", "grass", "brick")
PASTED = (64, 160)  # the smallest and the largest side of a pasted photograph
BATCH = 4


class Picture(NamedTuple):
    """What the network sees, (3, 224, 224), and each class that it is asked about, with its box."""

    inputs: Tensor
    targets: list[int]
    boxes: Tensor
    """(targets, 4)"""
    names: list[str]


class Scores(NamedTuple):
    """Of one map of each target, in the order of the pictures."""

    energy: Array
    hit: Array
    ious: Array
    """(N, K), at each threshold τ; without any for mosaics."""


# --------------------------------------------------------------------------------- pictures


def load_photographs() -> dict[str, Image.Image]:
    """Eight photographs, RGB, by name."""
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
    return {name: Image.fromarray(image).convert("RGB") for name, image in pixels.items()}


def load_tiles() -> dict[str, Tensor]:
    """The photographs as the network takes them, (3, 112, 112)."""
    return {
        name: F.interpolate(preprocess(Photograph(name, fit(image))), (CELL, CELL), mode="area")[0]
        for name, image in load_photographs().items()
    }


@torch.no_grad()
def top_classes(network: nn.Module, pictures: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(network(picture[None]).argmax(dim=1)) for name, picture in pictures.items()}


def draw_mosaics(
    number: int, tiles: Mapping[str, Tensor], classes: Mapping[str, int], seed: int
) -> list[Picture]:
    """Mosaics of four photographs of different classes; ValueError where there are fewer."""
    # Of photographs of one class, the first: the cell of a class must be the only one.
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
        Picture(arrange([tiles[name] for name in draw]), [classes[n] for n in draw], CELLS, draw)
        for draw in draws
    ]


def arrange(tiles: Sequence[Tensor]) -> Tensor:
    """Four tiles (3, h, w), row by row -> (3, 2 h, 2 w)."""
    return torch.cat([torch.cat(list(tiles[row : row + 2]), dim=2) for row in (0, 2)], dim=1)


def draw_pasted(number: int, network: nn.Module, seed: int) -> list[Picture]:
    """One photograph each, at a random size and place on a texture; its target is the top class."""
    rng = np.random.default_rng(seed)
    photographs = {name: fit(image) for name, image in load_photographs().items()}
    textures = [
        fit(Image.fromarray(getattr(skimage.data, name)()).convert("RGB")) for name in TEXTURES
    ]
    pictures = []
    for _ in range(number):
        name = str(rng.choice(list(photographs)))
        side = int(rng.integers(PASTED[0], PASTED[1] + 1))
        x, y = rng.integers(0, SIZE - side + 1, 2).tolist()
        pixels = textures[rng.integers(len(textures))].copy()
        small = Image.fromarray(photographs[name]).resize((side, side), Image.Resampling.BICUBIC)
        pixels[y : y + side, x : x + side] = np.asarray(small)
        inputs = preprocess(Photograph(name, pixels))[0]
        target = top_classes(network, {name: inputs})[name]
        boxes = torch.tensor([[x, y, x + side, y + side]])
        pictures.append(Picture(inputs, [target], boxes, [name]))
    return pictures


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

    One run is enough for all sets, unless a method is ``joint``: the others sum the maps of layers.
    """
    if joint:
        return {
            name: method(network, layers).attribute(inputs, target=targets)
            for name, layers in layer_sets.items()
        }
    every = list(dict.fromkeys(layer for layers in layer_sets.values() for layer in layers))
    found = method(network, every).attribute(inputs, target=targets, per_layer=True)
    maps = dict(zip(every, found, strict=True))
    return {
        name: torch.stack([maps[layer] for layer in layers]).sum(dim=0)
        for name, layers in layer_sets.items()
    }


def score(maps: Tensor, boxes: Tensor, thresholds: Tensor) -> Scores:
    """Maps (N, 1, H, W) against one box each, (N, 4)."""
    masks = torch.stack([boxes_to_mask(box[None], tuple(maps.shape[2:])) for box in boxes])
    truth = list(boxes[:, None])
    ious = (
        scoremap_ious(maps, truth, thresholds, multi_contour=True, box_format="xyxy")
        if len(thresholds)
        else torch.zeros(len(maps), 0)
    )
    return Scores(
        energy_inside(maps[:, 0], masks).numpy(),
        hit_point(maps, truth, tolerance=0).double().numpy(),
        ious.double().numpy(),
    )


def evaluate_pictures(
    network: nn.Module,
    pictures: Sequence[Picture],
    methods: Mapping[str, Method],
    layer_sets: Mapping[str, Sequence[str]],
    thresholds: Tensor,
    description: str,
) -> dict[tuple[str, str], Scores]:
    """Of every method over every set of layers, by (set, method)."""
    found: dict[tuple[str, str], list[Scores]] = {}
    samples = [
        (picture.inputs, target, box)
        for picture in pictures
        for target, box in zip(picture.targets, picture.boxes, strict=True)
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
                    found.setdefault((layers, name), []).append(scores)
            bar.update(len(inputs))
    return {key: joined(parts) for key, parts in found.items()}


def joined(parts: Sequence[Scores]) -> Scores:
    return Scores(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def summarize(scores: Scores, groups: int, bootstrap: Bootstrap) -> dict[str, Interval]:
    """The mean of each score, and its interval over the groups of consecutive targets."""
    found = {
        "energy": mean_interval(scores.energy.reshape(groups, -1), bootstrap),
        "hit": mean_interval(scores.hit.reshape(groups, -1), bootstrap),
    }
    if scores.ious.shape[1]:
        found["max_box_acc"] = max_box_acc_interval(scores.ious, bootstrap)
    return found


def max_box_acc_interval(ious: Array, bootstrap: Bootstrap) -> Interval:
    """MaxBoxAcc of (N, K): each draw chooses its threshold for each δ anew."""
    counts = np.concatenate([np.ones((1, len(ious))), bootstrap.counts(len(ious))])
    best = [(counts @ (ious >= delta)).max(axis=1) / len(ious) for delta in MAX_BOX_ACC_IOUS]
    return quantile_interval(np.mean(best, axis=0), bootstrap)


def baselines(boxes: Tensor, thresholds: Tensor) -> dict[str, Scores]:
    """What looks at nothing: a map that is the same everywhere, and one highest in the centre."""
    frame = torch.tensor([0, 0, SIZE, SIZE])
    share = paired_iou(boxes, frame).numpy()  # a box's IoU with the frame is its share of it
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
    pictures = draw_mosaics(options.mosaics, tiles, classes, options.seed)
    found = evaluate_pictures(
        network,
        pictures,
        {name: METHODS[name] for name in options.methods},
        {name: LAYER_SETS[name] for name in options.layer_sets},
        torch.zeros(0),
        "mosaics",
    )
    bootstrap = Bootstrap(seed=options.seed)
    report: dict[str, Any] = {
        "network": options.network,
        "seed": options.seed,
        "mosaics": len(pictures),
        "chance": 1 / len(CELLS),
        "classes": classes,
        "targets_in_top_5": targets_in_top(network, pictures, 5),
        "layer_sets": {name: LAYER_SETS[name] for name in options.layer_sets},
        "scores": nested(found, len(pictures), bootstrap),
    }
    text = [
        f"# {len(pictures)} mosaics, {len(pictures) * len(CELLS)} targets",
        f"Chance is {report['chance']:.2f}. Of the targets, {report['targets_in_top_5']:.0%} are "
        "among the mosaic's five highest classes. Mean and 95 % interval over mosaics.",
        *tables(report["scores"], options.methods),
    ]
    write(options.output, "mosaics", report, "\n\n".join(text))
    return report


def study_pasted(network: nn.Module, options: argparse.Namespace) -> dict[str, Any]:
    pictures = draw_pasted(options.paste, network, options.seed)
    thresholds = cam_thresholds()
    found = evaluate_pictures(
        network,
        pictures,
        {name: METHODS[name] for name in options.methods},
        {name: LAYER_SETS[name] for name in options.layer_sets},
        thresholds,
        "pasted photographs",
    )
    bootstrap = Bootstrap(seed=options.seed)
    boxes = torch.cat([picture.boxes for picture in pictures])
    blind = {
        name: summarize(scores, len(pictures), bootstrap)
        for name, scores in baselines(boxes, thresholds).items()
    }
    report: dict[str, Any] = {
        "network": options.network,
        "seed": options.seed,
        "pictures": len(pictures),
        "chance": blind["whole frame"]["energy"].value,
        "protocol": protocol_name(MAX_BOX_ACC_IOUS, "dataset", multi_contour=True),
        "layer_sets": {name: LAYER_SETS[name] for name in options.layer_sets},
        "baselines": blind,
        "scores": nested(found, len(pictures), bootstrap),
    }
    names = list(blind["whole frame"])
    text = [
        f"# {len(pictures)} photographs pasted on textures",
        f"Chance, the share of the picture that is the photograph, is {report['chance']:.3f}. "
        f"max_box_acc is {report['protocol']}. Mean and 95 % interval over pictures.",
        table(["", *names], [[row, *(scores[n] for n in names)] for row, scores in blind.items()]),
        *tables(report["scores"], options.methods),
    ]
    write(options.output, "pasted", report, "\n\n".join(text))
    return report


@torch.no_grad()
def targets_in_top(network: nn.Module, pictures: Sequence[Picture], k: int) -> float:
    """The share of targets that are among a picture's k highest classes."""
    inside = [
        target in network(picture.inputs[None]).topk(k).indices[0]
        for picture in pictures
        for target in picture.targets
    ]
    return float(np.mean(inside))


def nested(
    found: Mapping[tuple[str, str], Scores], groups: int, bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, Interval]]]:
    """The summaries by set, then method."""
    scores: dict[str, dict[str, dict[str, Interval]]] = {}
    for (layers, method), values in found.items():
        scores.setdefault(layers, {})[method] = summarize(values, groups, bootstrap)
    return scores


def tables(
    scores: Mapping[str, Mapping[str, Mapping[str, Interval]]], methods: Sequence[str]
) -> list[str]:
    """One a score: a row a set of layers, a column a method."""
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--mosaics", type=int, default=32, help="how many (default: 32)")
    add("--paste", type=int, nargs="?", const=64, default=0, help="how many pictures (64)")
    add("--seed", type=int, default=0, help="of the pictures and the bootstrap (default: 0)")
    add("--network", choices=NETWORKS, default="lite0")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layer-sets", nargs="+", choices=LAYER_SETS, default=list(LAYER_SETS))
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if min(options.mosaics, options.paste) < 0 or not options.mosaics + options.paste:
        parser.error("give a number of mosaics, or of pictures to paste on")
    return options


if __name__ == "__main__":
    main()
