"""A folder of inputs, a network, and what is compared of results."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from captum_3dcam.io import load_map

LAYERS = ["0", "2"]
OPTIONS = {"layers": LAYERS, "preprocessing": "none"}


def environment(**more):
    """Of a process of its own, in which this module and the package are found."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def network():
    """A network of images of 24 x 32, the same in each process."""
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(36, 3)).eval()


def write_image(path, seed=0, size=(24, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_images(folder, count=6):
    """Images in two folders, one of another size, and one that is damaged."""
    for number in range(count):
        write_image(Path(folder) / ("a" if number % 2 else "b") / f"{number}.png", number)
    write_image(Path(folder) / "wide.png", 9, (24, 40))
    (Path(folder) / "damaged.png").write_text("this is no image")


def contents(folder):
    """Of each result its map and report, without what differs from run to run."""
    results = {}
    for path in sorted(Path(folder).rglob("report.json")):
        report = json.loads(path.read_text())
        for key in ("seconds", "command", "versions", "item"):
            report.pop(key)
        name = path.parent.relative_to(folder).as_posix()
        results[name] = (report, load_map(path.parent / "map.npz").data.tobytes())
    return results
