"""Where did a video transformer look? Its tokens as a grid, and the hidden layers of its MLPs.

A token layer needs a ``reshape``: here 256 tokens are a grid of 4 x 8 x 8 behind a class token. Of
each block the hidden layer of the MLP is explained, not the residual stream, which a layer
normalisation reads: there the gradient's sum over channels is zero. The last block is left out,
because behind it only the class token is read.

    python examples/explain_transformer.py              # trains the transformer in half a minute
    python examples/explain_transformer.py --weights out/video_transformer.pt --clip 3
    python examples/explain_transformer.py --layers blocks.1.mlp.1
"""

import argparse
from pathlib import Path

import torch

from captum_3dcam import GlobalLocalCAM3D, Layer, tokens_to_grid
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks import video_transformer
from trained_networks.action_net import HELD_OUT_SEED


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.weights:
        network = video_transformer.load_video_transformer(options.weights)
    else:
        print("Training the blocks of the transformer on synthetic actions.", flush=True)
        network = video_transformer.train()
        torch.save(network.state_dict(), options.output / "video_transformer.pt")

    sample = SyntheticActions(options.clip + 1, seed=HELD_OUT_SEED)[options.clip]
    target = int(sample.labels[0])
    to_grid = tokens_to_grid(video_transformer.GRID, prefix_tokens=1)
    cam = GlobalLocalCAM3D(network, [Layer(name, to_grid) for name in options.layers])
    layer_maps = cam.attribute(sample.clip[None], target=target, per_layer=True)
    fused = cam.attribute(sample.clip[None], target=target)

    maps = dict(zip([*options.layers, "fused"], [*layer_maps, fused], strict=True))
    chance = float(sample.masks.float().mean())
    print(f"Share of the map of {ACTIONS[target]!r} on the actor; chance is {chance:.0%}:")
    for name, attribution in maps.items():
        print(f"{name:20}{float(energy_inside(attribution[0], sample.masks)):.0%}")
    figure, _ = visualize_attr_panels(
        list(maps.values()),
        sample.clip.movedim(0, -1),
        list(maps),
        frames=4,
        title=f"{ACTIONS[target]!r} in a video transformer",
        style=Style(scale="row"),  # each map its own: a sum over layers is larger than one
    )
    figure.savefig(options.output / "transformer.png", dpi=90)
    print(f"Wrote transformer.png to {options.output}.")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--weights", type=Path, help="of an earlier run (default: train)")
    add("--clip", type=int, default=0, help="number of a held-out clip (default: 0)")
    add("--layers", nargs="+", default=video_transformer.LAYERS, help="names (default: two MLPs)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
