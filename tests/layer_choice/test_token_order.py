"""Tokens in the order of positions, in another that a layout names, and in none."""

import pytest
import torch
from torch import nn

from captum_3dcam import GlobalLocalCAM2D, GlobalLocalCAM3D, suggest_layers, survey_layers
from captum_3dcam._layer_choice.choice import choose_layers


class Block(nn.Module):
    """Attention of one token to all, and an MLP."""

    def __init__(self, channels=16):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(channels), Attention(channels)
        self.fc, self.act, self.out = nn.Linear(channels, 32), nn.ReLU(), nn.Linear(32, channels)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.out(self.act(self.fc(x)))


class Attention(nn.Module):
    """With a layer over the heads, whose tensor has an entry for each pair of tokens."""

    def __init__(self, channels):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))
        self.heads = nn.Linear(2, 2)

    def forward(self, x):
        q, k, v = (f(x).unflatten(2, (2, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = self.heads((q @ k.mT).movedim(1, -1)).movedim(-1, 1)
        return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


class Tokens(nn.Module):
    """Patches, of which ``order`` makes tokens (N, L, C), and what a transformer does with them."""

    def __init__(self, embed, order):
        super().__init__()
        self.embed, self.order = embed, order
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.order(self.embed(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).relu().mean(dim=1))


def in_units(x):
    """2 x 2 positions after each other, as Hiera has them."""
    x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, H/2, 2, W/2, 2)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(1, 4)


def in_columns(x):
    return x.transpose(2, 3).flatten(2).mT


def in_rows(x):
    return x.flatten(2).mT


def frames_last(x):
    return x.permute(0, 3, 4, 2, 1).flatten(1, 3)


def network(order, rank=2):
    torch.manual_seed(0)
    embed = nn.Conv2d(3, 16, 4, 4) if rank == 2 else nn.Conv3d(3, 16, (1, 4, 4), (1, 4, 4))
    return Tokens(embed, order).eval()


@pytest.mark.parametrize("as_tuple", [False, True])
def test_rows_are_the_order_of_positions(as_tuple):
    x = torch.rand(2, 3, 32, 32)
    (layer,) = suggest_layers(network(in_rows), (x,) if as_tuple else x)
    assert (layer.module, layer.layout) == ("blocks.2.act", "N L C")


@pytest.mark.parametrize("order", [in_units, in_columns])
def test_tokens_in_an_order_that_no_layout_names_are_left_out(order):
    """Read as rows, they would give a map of the right shape with its parts exchanged."""
    net, x = network(order), torch.rand(2, 3, 32, 32)
    names = [row.name for row in survey_layers(net, x)]
    assert names == ["embed"]
    assert GlobalLocalCAM2D(net, "auto").attribute(x).shape == (2, 1, 32, 32)


def test_tokens_whose_time_runs_fastest():
    net, clip = network(frames_last, rank=3), torch.rand(1, 3, 4, 32, 32)
    cam = GlobalLocalCAM3D(net, "auto")
    cam.attribute(clip)
    assert [(layer.name, layer.layout) for layer in cam.layers] == [("blocks.2.act", "N (H W T) C")]


def test_a_network_whose_tokens_change_everywhere_keeps_the_order_before():
    """Where each token sees all alike, no change tells where it came from."""

    class Mixing(nn.Module):
        def forward(self, x):
            return x + 100 * x.mean(dim=1, keepdim=True)

    net = network(in_rows)
    net.blocks.insert(1, Mixing())
    (layer,) = suggest_layers(net, torch.rand(1, 3, 32, 32))
    assert (layer.module, layer.layout) == ("blocks.3.act", "N L C")


def test_pairs_of_tokens_are_no_grid():
    """64 tokens attend to 64: a tensor (N, 64, 64, 2), as of channels last."""
    net = network(in_rows)
    net.embed = nn.Conv2d(3, 16, 8, 8)
    surveyed = choose_layers(net, torch.rand(1, 3, 64, 64)).surveyed
    names = [row.name for row in surveyed]
    assert "blocks.0.attention.v" in names
    assert not any("heads" in name for name in names)


def test_the_input_and_the_model_are_as_before():
    net, x = network(in_rows), torch.rand(1, 3, 32, 32)
    before = x.clone()
    suggest_layers(net, x)
    assert torch.equal(x, before)
    assert not any(module._forward_hooks for module in net.modules())
