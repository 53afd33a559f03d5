"""SmoothGrad over our maps: does averaging over noisy clips bring them closer to the actor?

Captum's NoiseTunnel adds Gaussian noise to the clip and averages the maps (Smilkov et al., arXiv
1706.03825). It takes our classes as it takes its own. The trained action recogniser is explained on
held-out synthetic clips, one actor each, plain and smoothed, for the class that it is right about;
the share of each map in the actor's mask says which is closer, and chance how much of the clip the
actor is. Beside them is the probability of the class, of the clip and on average of noisy ones:
noise that changes the answer explains another one. The figure has both maps of the first clip.

    python examples/smoothgrad_cam.py
    python examples/smoothgrad_cam.py --noise 0.1 --samples 32 --method LayerwiseHiResCAM
    python examples/smoothgrad_cam.py --type vargrad --layers stem layer1 layer2

The noise is given by its standard deviation; a clip's values run from 0 to 1. The weights are those
of weights/README.md, with its card.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from captum.attr import NoiseTunnel
from torch import Tensor

from captum_3dcam import (
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks.action_net import LAYERS, ActionNet, load_action_net

METHODS = {
    method.__name__: method
    for method in (
        GlobalLocalCAM3D,
        LayerwiseGradCAM,
        LayerwiseHiResCAM,
        LayerwiseWhatWhereCAM,
    )
}
TYPES = ("smoothgrad", "smoothgrad_sq", "vargrad")
HELD_OUT_SEED = 10**6  # as in train_actions.py: the network has not seen these clips
COLUMNS = ("plain", "smoothed", "chance", "probability", "noisy")
SHOWN = 6  # frames


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    network = load_action_net()
    data = SyntheticActions(options.clips, seed=HELD_OUT_SEED)
    cam = METHODS[options.method](network, options.layers)
    rows = []
    for number in range(options.clips):
        sample = data[number]
        plain, smoothed = explain(cam, sample, number, options)
        if not rows:
            draw(plain, smoothed, sample, options)
        rows.append(
            {
                "class": ACTIONS[sample.labels[0]],
                "plain": share(plain, sample),
                "smoothed": share(smoothed, sample),
                "probability": probability(network, sample, 1, 0, number),
                "noisy": probability(network, sample, options.samples, options.noise, number),
                "chance": round(float(sample.masks.float().mean()), 4),
            }
        )
    report = {
        "method": options.method,
        "layers": options.layers,
        "type": options.type,
        "samples": options.samples,
        "noise": options.noise,
        "clips": rows,
        "mean": {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in COLUMNS},
    }
    path = options.output / "smoothgrad_cam.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_shares(report)
    print(f"Wrote {path} and smoothgrad_cam.png.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clips", type=int, default=8, help="held-out clips, one a class and so on (default: 8)")
    add("--method", choices=METHODS, default="GlobalLocalCAM3D", help="whose maps are smoothed")
    add("--layers", nargs="+", default=LAYERS, help="layers by name (default: all five depths)")
    add("--type", choices=TYPES, default="smoothgrad", help="of NoiseTunnel")
    add("--samples", type=int, default=16, help="noisy clips for each map (default: 16)")
    add("--noise", type=float, default=0.05, help="its standard deviation (default: 0.05)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if min(options.clips, options.samples) < 1 or options.noise <= 0:
        parser.error("--clips and --samples have to be 1 or more, --noise above 0")
    return options


def explain(
    cam: Any, sample: ActionClip, seed: int, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """The map (1, 1, T, H, W) of the clip, and that of its noisy copies, for its class."""
    inputs = sample.clip[None]
    # Without a target each noisy copy would be explained for its own highest class.
    target = int(sample.labels[0])
    plain = cam.attribute(inputs, target=target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        smoothed = NoiseTunnel(cam).attribute(
            inputs,
            target=target,
            nt_type=options.type,
            nt_samples=options.samples,
            nt_samples_batch_size=4,  # so many copies are in memory at once
            stdevs=options.noise,
        )
    return plain, smoothed


@torch.no_grad()
def probability(
    network: ActionNet, sample: ActionClip, samples: int, noise: float, seed: int
) -> float:
    """Of the clip's class, the mean over copies with such noise."""
    generator = torch.Generator().manual_seed(seed)
    copies = (
        sample.clip + noise * torch.randn(sample.clip.shape, generator=generator)
        for _ in range(samples)
    )
    label = sample.labels[0]
    found = [float(network(copy[None]).softmax(dim=1)[0, label]) for copy in copies]
    return round(sum(found) / samples, 4)


def share(attribution: Tensor, sample: ActionClip) -> float:
    """How much of the map lies in the actor's mask, 0 to 1; 0 for a map that is zero."""
    return round(float(energy_inside(attribution[0], sample.masks)), 4)


def draw(plain: Tensor, smoothed: Tensor, sample: ActionClip, options: argparse.Namespace) -> None:
    """Both maps in frames of the clip, each under its own scale."""
    figure, _ = visualize_attr_panels(
        [plain, smoothed],
        sample.clip.movedim(0, -1),
        [f"plain, {share(plain, sample):.0%}", f"{options.type}, {share(smoothed, sample):.0%}"],
        frames=SHOWN,
        title=f"{options.method} of {ACTIONS[sample.labels[0]]!r}, and how much is on the actor",
        style=Style(scale="row"),
    )
    figure.savefig(options.output / "smoothgrad_cam.png", dpi=90)


def print_shares(report: dict[str, Any]) -> None:
    print(
        f"Share of the map in the actor's mask: {report['method']}, plain and by "
        f"{report['type']} ({report['samples']} copies, noise {report['noise']})"
    )
    print(f"{'class':20}" + "".join(f"{key:>12}" for key in COLUMNS))
    for row in [*report["clips"], {"class": "mean", **report["mean"]}]:
        print(f"{row['class']:20}" + "".join(f"{row[key]:12.2f}" for key in COLUMNS))
    print()


if __name__ == "__main__":
    main()
