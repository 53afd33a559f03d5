"""Does SmoothGrad put more of a map on the actor?

Captum's NoiseTunnel adds Gaussian noise to a clip and averages the maps (Smilkov et al., arXiv
1706.03825). Held-out synthetic clips of one actor are explained for their class, plain and
smoothed. Printed is the share of each map in the actor's mask, beside chance, the actor's share of
the clip; and the probability of the class, without and with noise: noise that changes the answer
explains another one.

    python studies/evaluate_smoothgrad.py
    python studies/evaluate_smoothgrad.py --noise 0.1 --samples 32 --method HiResCAM
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from captum.attr import NoiseTunnel
from torch import Tensor, nn

from _arguments import at_least, make_parser
from _methods import METHODS
from _report import table, write_report
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from captum_3dcam.metrics import energy_inside
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

TYPES = ("smoothgrad", "smoothgrad_sq", "vargrad")
COLUMNS = ("plain", "smoothed", "chance", "probability", "noisy")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    network = load_action_net()
    cam = METHODS[options.method](network, options.layers)
    rows = []
    for number, sample in enumerate(SyntheticActions(options.clips, seed=HELD_OUT_SEED)):
        plain, smoothed = explain(cam, sample, number, options)
        rows.append(
            {
                "class": ACTIONS[sample.labels[0]],
                "plain": share(plain, sample),
                "smoothed": share(smoothed, sample),
                "chance": round(float(sample.masks.float().mean()), 4),
                "probability": probability(network, sample, 1, 0, number),
                "noisy": probability(network, sample, options.samples, options.noise, number),
            }
        )
    means = {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in COLUMNS}
    settings = {
        key: value for key, value in vars(options).items() if key not in ("clips", "output")
    }
    report = {**settings, "clips": rows, "mean": means}
    head = (
        f"Share of the map in the actor's mask: {options.method}, plain and by {options.type} "
        f"({options.samples} copies, noise {options.noise})"
    )
    cells = [
        [row["class"], *(f"{row[key]:.2f}" for key in COLUMNS)]
        for row in (*rows, {"class": "mean", **means})
    ]
    text = f"{head}\n\n{table(['class', *COLUMNS], cells)}"
    write_report(options.output, "smoothgrad", report, text)
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--clips", type=positive, default=8, help="held-out clips (default: 8, one of each class)")
    add("--method", choices=METHODS, default="GlobalLocal", help="(default: GlobalLocal)")
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add("--type", choices=TYPES, default="smoothgrad", help="of NoiseTunnel (default: smoothgrad)")
    add("--samples", type=positive, default=16, help="noisy copies of a clip (default: 16)")
    add("--noise", type=float, default=0.05, help="its standard deviation (default: 0.05)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.noise <= 0:
        parser.error(f"--noise: expected a positive number; got {options.noise}")
    return options


def explain(
    cam: Any, sample: ActionClip, seed: int, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """The map (1, 1, T, H, W) of the clip's class, plain and smoothed."""
    inputs = sample.clip[None]
    # Without a target, each noisy copy would be explained for its own highest class.
    target = int(sample.labels[0])
    plain = cam.attribute(inputs, target=target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        smoothed = NoiseTunnel(cam).attribute(
            inputs,
            target=target,
            nt_type=options.type,
            nt_samples=options.samples,
            nt_samples_batch_size=4,  # copies in memory at once
            stdevs=options.noise,
        )
    return plain, smoothed


@torch.no_grad()
def probability(
    network: nn.Module, sample: ActionClip, samples: int, noise: float, seed: int
) -> float:
    """Of the clip's class, the mean over copies with such noise."""
    generator = torch.Generator().manual_seed(seed)
    copies = (
        sample.clip + noise * torch.randn(sample.clip.shape, generator=generator)
        for _ in range(samples)
    )
    label = sample.labels[0]
    values = [float(network(copy[None]).softmax(dim=1)[0, label]) for copy in copies]
    return round(sum(values) / samples, 4)


def share(attribution: Tensor, sample: ActionClip) -> float:
    """The share of the map in the actor's mask, in [0, 1]; 0 for a map that is zero."""
    return round(float(energy_inside(attribution[0], sample.masks)), 4)


if __name__ == "__main__":
    main()
