"""How much of the map of a video transformer's tokens lies on the actor?

The transformer is trained on synthetic actions, in half a minute of one core, unless there are
weights. Each held-out clip is explained for its class, and the share of each layer's map in the
actor's mask is printed beside two bounds: chance, the actor's share of the clip; and the share that
the mask itself has after its reduction to the grid of tokens, whose cells are 4 frames of 8 x 8
pixels.

    python studies/evaluate_transformer.py
    python studies/evaluate_transformer.py --weights out/video_transformer.pt --method HiResCAM
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _arguments import at_least, make_parser
from _methods import METHODS
from _report import table, write_report
from captum_3dcam import Layer, tokens_to_grid
from captum_3dcam.datasets import ActionClip, SyntheticActions
from captum_3dcam.metrics import energy_inside
from trained_networks.action_net import HELD_OUT_SEED
from trained_networks.video_transformer import (
    GRID,
    LAYERS,
    VideoTransformer,
    accuracy,
    load_video_transformer,
    train,
)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__)
    add, positive = parser.add_argument, at_least(1)
    add("--weights", type=Path, help="of an earlier run (default: train)")
    add("--clips", type=positive, default=480, help="to train on (default: 480)")
    add("--epochs", type=positive, default=6, help="of training (default: 6)")
    add("--held-out", type=positive, default=16, help="clips to explain (default: 16)")
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add("--method", choices=METHODS, default="GlobalLocal", help="(default: GlobalLocal)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.weights:
        network = load_video_transformer(options.weights)
    else:
        network = train(options.clips, options.epochs)
        options.output.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), options.output / "video_transformer.pt")

    shares = evaluate(network, options.method, options.layers, options.held_out)
    report = {
        "method": options.method,
        "clips": options.held_out,
        "accuracy": accuracy(network, options.held_out),
        "share": shares,
    }
    head = (
        f"Accuracy on {options.held_out} held-out clips: {report['accuracy']:.2f}. Share of the "
        f"map in the actor's mask, {options.method}:"
    )
    rows = [[name, f"{share:.3f}"] for name, share in shares.items()]
    write_report(options.output, "transformer", report, f"{head}\n\n{table(['', 'share'], rows)}")
    return report


def evaluate(
    network: VideoTransformer, method: str, layers: Sequence[str], clips: int
) -> dict[str, float]:
    """The mean share over held-out clips: of each layer, of the fused map, and of the bounds."""
    to_grid = tokens_to_grid(GRID, prefix_tokens=1)
    cam = METHODS[method](network, [Layer(name, to_grid) for name in layers])
    rows = []
    for sample in SyntheticActions(clips, seed=HELD_OUT_SEED):
        request: dict[str, Any] = {"target": int(sample.labels[0])}
        layer_maps = cam.attribute(sample.clip[None], **request, per_layer=True)
        fused = cam.attribute(sample.clip[None], **request)
        maps = [*layer_maps, fused, torch.ones_like(fused), through_grid(sample)]
        rows.append([float(energy_inside(each[0], sample.masks)) for each in maps])
    means = torch.tensor(rows).mean(dim=0).tolist()
    names = [*layers, "fused", "chance", "the mask on the grid"]
    return {name: round(mean, 4) for name, mean in zip(names, means, strict=True)}


def through_grid(sample: ActionClip) -> Tensor:
    """The actor's mask, averaged over the grid's cells and upsampled, (1, 1, T, H, W)."""
    cells = F.adaptive_avg_pool3d(sample.masks[None].float(), GRID)
    return F.interpolate(cells, sample.clip.shape[1:], mode="trilinear")


if __name__ == "__main__":
    main()
