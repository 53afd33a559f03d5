"""A small video transformer that recognises the synthetic actions, trained in half a minute.

It is a hybrid (Dosovitskiy et al., arXiv 2010.11929, section 3.1). The stem and the first two
stages of ``action_net``, frozen, compute features of 32 x 8 x 16 x 16. Patches of 2 x 2 x 2 of
these are its 256 tokens, behind a class token. Three blocks and a head follow, and are trained.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_3dcam.datasets import ACTIONS, SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED, WIDTHS, load_action_net

GRID = (4, 8, 8)  # tokens along T, H and W
WIDTH, DEPTH, HEADS = 48, 3, 4
# Of each block the hidden layer of its MLP: no layer normalisation reads it, before which the
# gradient's sum over channels is zero. The last block is left out: behind it only the class token
# is read, so no score depends on the other tokens there.
LAYERS = [f"blocks.{i}.mlp.1" for i in range(DEPTH - 1)]
BATCH = 16


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


def train(clips: int = 480, epochs: int = 6, seed: int = 0) -> VideoTransformer:
    """The network trained on clips of this seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoTransformer()
        with torch.no_grad():  # once for all epochs: the stages are frozen
            data = SyntheticActions(clips, seed=seed)
            pairs = [(network.features(sample.clip[None]), sample.labels) for sample in data]
        features, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        # With 5 steps in all, the warm-up would have length 0, and OneCycleLR would divide by it.
        steps = max(6, epochs * -(-clips // BATCH))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        for _ in range(epochs):
            for batch in torch.randperm(clips).split(BATCH):
                loss = F.cross_entropy(network.classify(features[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def load_video_transformer(path: Path) -> VideoTransformer:
    """The network with weights that :func:`train` gave and ``torch.save`` saved, in eval mode."""
    network = VideoTransformer()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, clips: int = 16, seed: int = HELD_OUT_SEED) -> float:
    """On clips of this seed, in [0, 1]."""
    data = SyntheticActions(clips, seed=seed)
    correct = [int(network(s.clip[None]).argmax()) == int(s.labels[0]) for s in data]
    return sum(correct) / clips
