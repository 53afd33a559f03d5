"""What do the paper's networks cost to explain? Time and memory of every method, at full size.

    python studies/explain_backbones.py --model resnext101_3d --checkpoint resnext-101.pth

explains one clip by every method over all of the paper's layers together, and prints the seconds of
each, the lowest and highest value of its map, and the peak memory of the process so far. Without a
checkpoint the weights are random: the costs are the same, the maps are meaningless. The time of the
first method includes what torch does once, such as choosing its kernels.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from _arguments import make_parser
from _memory import peak_resident_mib
from _methods import METHODS
from _report import table
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.models import i3d, load_checkpoint, resnext50_3d, resnext101_3d

MODELS: dict[str, Callable[[int], Any]] = {
    "resnext101_3d": resnext101_3d,
    "resnext50_3d": resnext50_3d,
    "i3d": i3d,
}
HEADER = ("class", "seconds", "lowest", "highest", "peak memory, GiB")
_CLIP_SIZE = 128  # pixels a side of the synthetic clip, before it is resized


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = MODELS[options.model](options.classes)
    if options.checkpoint:
        load_checkpoint(options.checkpoint, model)
    model.eval()

    preprocess = model.PREPROCESSING
    if options.size:
        preprocess = replace(preprocess, size=(options.size, options.size))
    data = SyntheticActions(1, seed=options.seed, frames=options.frames, size=_CLIP_SIZE)
    clip = preprocess(data[0].clip)[None]
    report = {
        "model": options.model,
        "weights": str(options.checkpoint or "random"),
        "input": list(clip.shape),
        "threads": torch.get_num_threads(),
        "rows": [measure(name, model, clip) for name in METHODS],
    }
    print(table(HEADER, [cells(row) for row in report["rows"]]))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--model", choices=MODELS, default="resnext101_3d")
    add("--checkpoint", type=Path, help="weights for load_checkpoint (default: random ones)")
    add("--classes", type=int, default=400, help="of the checkpoint (default: 400)")
    add("--frames", type=int, default=16, help="of the clip, 4 or more (default: 16)")
    add("--size", type=int, help="pixels a side (default: as the network was trained)")
    add("--threads", type=int, help="of torch (default: its own choice)")
    add("--seed", type=int, default=0, help="of the clip and of random weights (default: 0)")
    add("--output", type=Path, default=Path("out/backbones.json"), help="JSON file to write")
    return parser.parse_args(arguments)


def measure(name: str, model: nn.Module, clip: torch.Tensor) -> dict[str, Any]:
    """One method over the layers of the paper, for the highest class."""
    method = METHODS[name](model, layers=list(model.LAYERS.values()))
    start = perf_counter()
    attribution = method.attribute(clip)
    seconds = perf_counter() - start
    return {
        "class": METHODS[name].__name__,
        "seconds": round(seconds, 3),
        "lowest": attribution.min().item(),
        "highest": attribution.max().item(),
        "map": list(attribution.shape),
        "peak_gib": peak_resident_mib() / 2**10,
    }


def cells(row: dict[str, Any]) -> list[str]:
    numbers = [row["seconds"], row["lowest"], row["highest"], row["peak_gib"]]
    return [row["class"], *(f"{number:.2f}" for number in numbers)]


if __name__ == "__main__":
    main()
