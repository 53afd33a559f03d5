"""Where did a video transformer look? Tokens as a grid, and the hidden layers of its MLPs.

The transformer is a hybrid (Dosovitskiy et al., arXiv 2010.11929, section 3.1): the stem and two
stages of the trained action recogniser, frozen, make features of 32 x 8 x 16 x 16, and patches of
2 x 2 x 2 of these are its 256 tokens, behind a class token. What comes after, three blocks and a
head, is trained here and now on synthetic actions, in half a minute of one core, and is what is
looked at.

A token layer comes with a ``reshape`` to the grid. Of each block the hidden layer of the MLP is
taken, because it is not read by a layer normalisation, before which the gradient's sum over
channels is zero. The last block is left out: there the class token alone is read, so that no score
depends on the other tokens. Printed is how much of the maps of held-out clips lies in the actor's
mask, layer by layer, beside two bounds: chance, the share of the clip that the actor is; and what
the actor's own mask would score after a way through the grid, whose cells are 4 frames of 8 x 8
pixels. Drawn are the layers' maps of the first clip.

    python examples/explain_transformer.py
    python examples/explain_transformer.py --weights out/video_transformer.pt --target left
    python examples/explain_transformer.py --layers blocks.1.mlp.1 --method LayerwiseHiResCAM
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_3dcam import (
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
    tokens_to_grid,
)
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks.action_net import WIDTHS, load_action_net

METHODS = {
    method.__name__: method
    for method in (
        GlobalLocalCAM3D,
        LayerwiseGradCAM,
        LayerwiseHiResCAM,
        LayerwiseWhatWhereCAM,
    )
}
GRID = (4, 8, 8)  # tokens along T, H and W
WIDTH, DEPTH, HEADS = 48, 3, 4
LAYERS = [f"blocks.{i}.mlp.1" for i in range(DEPTH - 1)]
HELD_OUT_SEED = 10**6  # the clips of one seed never show up under another
BATCH = 16
SHOWN = 6  # frames


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    network = load(options.weights) if options.weights else trained(options)
    layers = [Layer(name, tokens_to_grid(GRID, prefix_tokens=1)) for name in options.layers]
    cam = METHODS[options.method](network, layers)
    data = list(clips(options.held_out, HELD_OUT_SEED))
    rows = []
    for sample in data:
        target = ACTIONS.index(options.target) if options.target else int(sample.labels[0])
        maps = cam.attribute(sample.clip[None], target=target, per_layer=True)
        fused = cam.attribute(sample.clip[None], target=target)
        if not rows:
            draw(maps, fused, ACTIONS[target], sample, options)
        bounds = torch.ones_like(fused), through_grid(sample)
        rows.append([share(attribution, sample) for attribution in (*maps, fused, *bounds)])
    means = torch.tensor(rows).mean(dim=0).tolist()
    names = [*options.layers, "fused", "chance", "the mask through the grid"]
    report = {
        "method": options.method,
        "accuracy": accuracy(network, data),
        "clips": options.held_out,
        "share": {name: round(mean, 4) for name, mean in zip(names, means, strict=True)},
    }
    path = options.output / "explain_transformer.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)
    print(f"Wrote {path} and explain_transformer.png.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, help="of an earlier run; by default it trains")
    add("--clips", type=int, default=480, help="to train on (default: 480)")
    add("--epochs", type=int, default=6, help="over them (default: 6)")
    add("--held-out", type=int, default=16, help="clips to explain (default: 16)")
    add("--layers", nargs="+", default=LAYERS, help=f"by name (default: {' '.join(LAYERS)})")
    add("--target", choices=ACTIONS, help="class to explain (default: the true one of each clip)")
    add("--method", choices=METHODS, default="GlobalLocalCAM3D", help="whose maps")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if min(options.clips, options.epochs, options.held_out) < 1:
        parser.error("--clips, --epochs and --held-out have to be 1 or more")
    return options


# -------------------------------------------------------------------------------- the network


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), over tokens (N, tokens, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VideoTransformer(nn.Module):
    """(N, 3, 16, 64, 64), RGB in [0, 1] -> (N, 8) logits."""

    def __init__(self) -> None:
        super().__init__()
        recogniser = load_action_net()
        stages = (recogniser.stem, recogniser.layer1, recogniser.layer2)
        self.stages = nn.Sequential(*stages).requires_grad_(False)
        self.patch = nn.Conv3d(WIDTHS[2], WIDTH, kernel_size=2, stride=2)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        tokens = 1 + GRID[0] * GRID[1] * GRID[2]
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(ACTIONS))

    def train(self, mode: bool = True) -> "VideoTransformer":
        super().train(mode)
        self.stages.eval()  # frozen, their normalisation too
        return self

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))

    def features(self, clip: Tensor) -> Tensor:
        return self.stages(clip - 0.5)

    def classify(self, features: Tensor) -> Tensor:
        patches = self.patch(features).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def trained(options: argparse.Namespace) -> VideoTransformer:
    """A network trained from seed 0; its weights go to the output folder."""
    print(f"Training the blocks on {options.clips} clips, {options.epochs} times.", flush=True)
    network = train(options.clips, options.epochs)
    path = options.output / "video_transformer.pt"
    torch.save(network.state_dict(), path)
    print(f"Wrote {path}.")
    return network


def train(number: int, epochs: int, seed: int = 0) -> VideoTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoTransformer()
        with torch.no_grad():  # once for all epochs: the stages are frozen
            seen = [(network.features(s.clip[None]), s.labels) for s in clips(number, seed)]
        features, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        # With 5 steps in all, the warm-up would have length 0, and OneCycleLR would divide by it.
        steps = max(6, epochs * -(-number // BATCH))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        for _ in range(epochs):
            for batch in torch.randperm(number).split(BATCH):
                loss = F.cross_entropy(network.classify(features[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def load(path: Path) -> VideoTransformer:
    """Weights that an earlier run wrote."""
    if not path.is_file():
        raise SystemExit(f"There are no weights at {str(path)!r}. Without --weights it trains.")
    network = VideoTransformer()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def clips(number: int, seed: int) -> Iterator[ActionClip]:
    """Of one actor each."""
    data = SyntheticActions(number, seed=seed)
    return (data[i] for i in range(number))


@torch.no_grad()
def accuracy(network: VideoTransformer, data: list[ActionClip]) -> float:
    right = [int(network(s.clip[None]).argmax()) == int(s.labels[0]) for s in data]
    return sum(right) / len(right)


# ------------------------------------------------------------------------ measuring, drawing


def share(attribution: Tensor, sample: ActionClip) -> float:
    """How much of the map lies in the actor's mask, 0 to 1; 0 for a map that is zero."""
    return float(energy_inside(attribution[0], sample.masks))


def through_grid(sample: ActionClip) -> Tensor:
    """The actor's mask by the grid's cells, and back, (1, 1, T, H, W): no map of them is finer."""
    cells = F.adaptive_avg_pool3d(sample.masks[None].float(), GRID)
    return F.interpolate(cells, sample.clip.shape[1:], mode="trilinear")


def draw(
    maps: tuple[Tensor, ...],
    fused: Tensor,
    target: str,
    sample: ActionClip,
    options: argparse.Namespace,
) -> None:
    figure, _ = visualize_attr_panels(
        [*maps, fused],
        sample.clip.movedim(0, -1),
        [*options.layers, "fused"],
        frames=SHOWN,
        title=f"{options.method} of {target!r} in a video transformer",
        style=Style(scale="row"),
    )
    figure.savefig(options.output / "explain_transformer.png", dpi=90)


def print_report(report: dict[str, Any]) -> None:
    print(f"Accuracy on {report['clips']} held-out clips: {report['accuracy']:.2f}")
    print(f"\nShare of the map in the actor's mask, {report['method']}")
    for name, mean in report["share"].items():
        print(f"{name:28}{mean:8.2f}")
    print()


if __name__ == "__main__":
    main()
