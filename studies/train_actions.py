"""Train the recogniser of synthetic actions, from a seed.

    python studies/train_actions.py --seed 0 --output out/action_net.pt

writes the weights and, beside them, the measurements (.json): the accuracy on held-out clips, and
on the same clips frozen at their middle frame, which shows the actor and not its motion; chance is
one in eight.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from captum_3dcam.datasets import ActionClip, SyntheticActions, freeze
from trained_networks.action_net import HELD_OUT_SEED, ActionNet

BATCH = 16
LEARNING_RATE = 3e-3


def stack(samples: list[ActionClip]) -> tuple[Tensor, Tensor]:
    return torch.stack([s.clip for s in samples]), torch.stack([s.labels[0] for s in samples])


def loader(data: SyntheticActions) -> DataLoader[ActionClip]:
    # Clip i is of class i % 8: unshuffled, batches are balanced, and no clip is used twice.
    return DataLoader(data, BATCH, collate_fn=stack, num_workers=1, prefetch_factor=8)


def train(clips: int, seed: int, frozen: bool = False) -> nn.Module:
    """The trained network, in eval mode; ``frozen`` trains on frozen clips."""
    torch.manual_seed(seed)
    network = ActionNet().to(memory_format=torch.channels_last_3d).train()
    batches = loader(SyntheticActions(clips, seed=seed))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    # With 5 steps in all, the warm-up would have length 0, and OneCycleLR would divide by it.
    steps = max(6, len(batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    progress = tqdm(batches, desc="training", unit="batch")
    for inputs, labels in progress:
        inputs = freeze(inputs) if frozen else inputs
        scores = network(inputs.contiguous(memory_format=torch.channels_last_3d))
        loss = F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        correct = (scores.argmax(1) == labels).float().mean().item()
        progress.set_postfix(loss=f"{loss.item():.2f}", accuracy=f"{correct:.2f}")
    return network.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def accuracy(network: nn.Module, clips: int, frozen: bool = False) -> float:
    """On held-out clips, in [0, 1]."""
    correct = 0
    name = "frozen clips" if frozen else "held-out clips"
    for inputs, labels in tqdm(loader(SyntheticActions(clips, seed=HELD_OUT_SEED)), desc=name):
        inputs = freeze(inputs) if frozen else inputs
        correct += (network(inputs).argmax(1) == labels).sum().item()
    return correct / clips


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--output", type=Path, default=Path("out/action_net.pt"))
    add("--seed", type=int, default=0)
    add("--clips", type=positive, default=4800, help="to train on, each used once")
    add("--held-out", type=positive, default=512, help="clips to measure on")
    add("--frozen", action="store_true", help="train on frozen clips")
    options = parser.parse_args(arguments)

    options.output.parent.mkdir(parents=True, exist_ok=True)  # before the long work, not after
    start = time.perf_counter()
    network = train(options.clips, options.seed, options.frozen)
    seconds = time.perf_counter() - start
    figures: dict[str, object] = {
        "seed": options.seed,
        "clips": options.clips,
        "trained_on_frozen_clips": options.frozen,
        "training_seconds": round(seconds, 1),
        "held_out_clips": options.held_out,
        "accuracy": accuracy(network, options.held_out),
        "frozen_clip_accuracy": accuracy(network, options.held_out, frozen=True),
    }
    torch.save(network.state_dict(), options.output)
    options.output.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return figures


if __name__ == "__main__":
    main()
