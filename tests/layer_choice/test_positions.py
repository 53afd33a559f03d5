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


# ------------------------------------------------------------------- other than tokens in an order


def names_of(model, x):
    return [layer.module for layer in suggest_layers(model.eval(), x)]


def block(inputs=3, rank=2, stride=2):
    conv = nn.Conv2d if rank == 2 else nn.Conv3d
    return nn.Sequential(conv(inputs, 8, 3, stride, 1), nn.ReLU())


class Changed(nn.Module):
    """Between two blocks, the frame is turned or cut, so that the second is not where it seems."""

    def __init__(self, change):
        super().__init__()
        self.change, self.before, self.after = change, block(), block(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.after(self.change(self.before(x))).amax((2, 3)))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x.flip(3),
        lambda x: x.flip(2),
        lambda x: x[..., 8:24, 8:24],
        lambda x: x.roll(8, 3),
    ],
)
def test_a_frame_that_is_turned_or_cut_inside_of_the_model(change):
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64)
    assert names_of(Changed(change), x) == ["before"]
    assert names_of(Changed(lambda x: x), x) == ["before", "after"]


class Slices(nn.Module):
    """The planes of a volume along one of its axes, each as an image."""

    def __init__(self, axis):
        super().__init__()
        self.axis, self.net, self.head = axis, block(1), nn.Linear(8, 3)

    def forward(self, x):
        planes = self.net(x.movedim(self.axis, 1).flatten(0, 1)).amax((2, 3))
        return self.head(planes.unflatten(0, (len(x), -1)).square().sum(dim=1))


def test_planes_along_another_axis_than_the_first():
    torch.manual_seed(0)
    volume = torch.rand(1, 1, 16, 16, 16)
    (layer,) = suggest_layers(Slices(2).eval(), volume)
    assert (layer.module, layer.layout) == ("net", "(N T) C H W")
    with pytest.raises(ValueError, match="they change elsewhere than the input does"):
        suggest_layers(Slices(3).eval(), volume)


class TimeMajor(nn.Module):
    """All samples' first frames, then their second ones."""

    def __init__(self):
        super().__init__()
        self.net, self.head = block(), nn.Linear(8, 4)

    def forward(self, x):
        frames = self.net(x.permute(2, 0, 1, 3, 4).flatten(0, 1)).square().mean((2, 3))
        return self.head(frames.unflatten(0, (x.shape[2], -1)).sum(dim=0))


def test_frames_of_several_samples_that_come_time_by_time():
    torch.manual_seed(0)
    model, clips = TimeMajor().eval(), torch.rand(2, 3, 4, 16, 16)
    (layer,) = suggest_layers(model, clips)
    assert layer.layout == "(T N) C H W"
    cam = GlobalLocalCAM3D(model, "auto")
    one_by_one = [GlobalLocalCAM3D(model, "auto").attribute(clip[None], 1) for clip in clips]
    torch.testing.assert_close(cam.attribute(clips, 1), torch.cat(one_by_one))


class OverTime(nn.Module):
    """Features of frames, and what reads them as a sequence: eight steps are no 2 x 2 x 2 grid."""

    def __init__(self, reader):
        super().__init__()
        self.frames, self.reader, self.head = block(rank=3), reader, nn.Linear(8, 3)

    def forward(self, x):
        x = self.reader(self.frames(x).mean((3, 4)).mT)
        return self.head((x[0] if isinstance(x, tuple) else x).amax(dim=1))


@pytest.mark.parametrize(
    "reader",
    [
        lambda: nn.LSTM(8, 8, batch_first=True),
        lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()),
        lambda: Block(8),
    ],
)
def test_a_sequence_over_time_is_no_grid(reader):
    torch.manual_seed(0)
    assert names_of(OverTime(reader()), torch.rand(1, 3, 16, 32, 32)) == ["frames"]


class Latents(nn.Module):
    """A fixed number of vectors that read all positions; and a table that reads none."""

    def __init__(self):
        super().__init__()
        self.stem, self.mlp, self.head = block(), Block(8), nn.Linear(8, 3)
        self.table = nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU())
        self.register_buffer("coordinates", torch.rand(1, 2, 16, 16))
        self.latents = nn.Parameter(torch.randn(1, 64, 8))

    def forward(self, x):
        x = (self.stem(x) + self.table(self.coordinates)).flatten(2)
        read = (self.latents @ x).softmax(dim=2) @ x.mT
        return self.head(self.mlp(self.latents + read).amax(dim=1))


def test_latents_and_tables_are_no_layers_of_the_input():
    torch.manual_seed(0)
    assert names_of(Latents(), torch.rand(1, 3, 32, 32)) == ["stem"]


@pytest.mark.parametrize("count", [1, 4])
def test_tokens_in_excess_that_come_last(count):
    class Registers(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(in_rows)
            self.net.order = self.append
            self.registers = nn.Parameter(torch.randn(1, count, 16))

        def append(self, x):
            return torch.cat([in_rows(x), self.registers.expand(len(x), -1, -1)], dim=1)

        def forward(self, x):
            return self.net(x)

    assert names_of(Registers(), torch.rand(1, 3, 32, 32)) == ["net.embed"]


class Careful(nn.Module):
    """Takes what its training data were, and nothing else."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.net = dtype, nn.Sequential(block(), block(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        assert x.dtype == self.dtype
        assert x.min() >= 0
        assert x.max() <= (1 if x.dtype in (torch.float32, torch.bool) else 255)
        return self.head(self.net(x.float()).amax((2, 3)))


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(2, 3, 32, 32),
        torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
        torch.randint(0, 256, (1, 3, 32, 32)),
        torch.rand(1, 3, 32, 32) > 0.5,
        torch.zeros(1, 3, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.bool),
    ],
    ids=["float", "uint8", "int64", "bool", "zeros", "false"],
)
def test_inputs_stay_in_their_range(x):
    torch.manual_seed(0)
    assert names_of(Careful(x.dtype), x) == ["net.0", "net.1"]


class Guarded(nn.Module):
    """Reads its input through a function, which may refuse it."""

    def __init__(self, read):
        super().__init__()
        self.read, self.net, self.head = read, nn.Sequential(block(), block(8)), nn.Linear(8, 3)

    def forward(self, x, *arguments):
        return self.head(self.net(self.read(x, *arguments)).amax((2, 3)))


def standardised(x):
    assert x.mean().abs() < 1e-3
    return x


def one_hot(x):
    assert (x.sum(dim=1) == 1).all()
    return x


def windowed(x):
    return (x.clamp(-200, 300) + 200) / 500


ODD_INPUTS = {
    "standardised": (standardised, torch.randn(1, 3, 64, 64)),
    "one-hot": (one_hot, torch.eye(3)[torch.randint(3, (1, 64, 64))].movedim(-1, 1)),
    "air": (windowed, torch.full((1, 3, 64, 64), -1024.0)),
    "all above a threshold": (lambda x: (x > 0.5).float(), torch.full((1, 3, 64, 64), 0.9)),
    "white": (lambda x: x.float() / 255, torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)),
}


@pytest.mark.parametrize("read, x", ODD_INPUTS.values(), ids=ODD_INPUTS)
def test_inputs_that_cannot_be_changed_in_every_way(read, x):
    """Valid for the model, so its layers are found; those of its changed copies may not be."""
    torch.manual_seed(0)
    x = x - x.mean() if read is standardised else x
    assert names_of(Guarded(read), x) == ["net.0", "net.1"]


@pytest.mark.parametrize("share", [0.5, 0.6, 1.0])
def test_a_mask_beside_the_input(share):
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., : int(64 * share), : int(64 * share)] = 1
    model = Guarded(lambda x, mask: x * mask).eval()
    found = [layer.module for layer in suggest_layers(model, torch.rand(1, 3, 64, 64), mask)]
    assert found == ["net.0", "net.1"]


class Turned(Guarded):
    """And what comes after the first block is turned."""

    def __init__(self, read):
        super().__init__(read)
        self.net = Changed(lambda x: x.flip(3).transpose(2, 3))

    def forward(self, x, *arguments):
        return self.net(self.read(x, *arguments))


def test_what_is_turned_is_found_in_such_inputs_too():
    torch.manual_seed(0)
    air = torch.full((1, 3, 64, 64), -1024.0)
    assert names_of(Turned(windowed), air) == ["net.before"]
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32, :32] = 1
    model = Turned(lambda x, mask: x * mask).eval()
    (layer,) = suggest_layers(model, torch.rand(1, 3, 64, 64), mask)
    assert layer.module == "net.before"


def test_a_stem_in_inference_mode():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.net, self.head = block(), block(8), nn.Linear(8, 3)

        def forward(self, x):
            with torch.inference_mode():
                x = self.stem(x)
            return self.head(self.net(x.clone()).amax((2, 3)))

    torch.manual_seed(0)
    assert names_of(Frozen(), torch.rand(1, 3, 64, 64)) == ["net"]


# ------------------------------------------------------------------- tokens that change everywhere


class Mixing(nn.Module):
    """Each token sees all alike, so that no change after it tells where it came from."""

    def forward(self, x):
        return x + 100 * x.mean(dim=1, keepdim=True)


class Merged(nn.Module):
    """Four neighbours become one token, after all have been mixed."""

    def __init__(self):
        super().__init__()
        self.first, self.mix, self.merge, self.second = (
            Block(),
            Mixing(),
            nn.Linear(64, 16),
            Block(),
        )

    def forward(self, x):
        x = self.mix(self.first(x)).mT.unflatten(2, (8, 8))
        x = x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return self.second(self.merge(x.flatten(1, 2)))


def test_merged_tokens_have_the_order_of_those_they_are_merged_from():
    net = network(in_rows)
    net.blocks = nn.ModuleList([Merged()])
    assert names_of(net, torch.rand(1, 3, 32, 32)) == ["blocks.0.first", "blocks.0.merge"]


class Reordered(nn.Module):
    """Tokens in rows, then in units, then mixed."""

    def __init__(self):
        super().__init__()
        self.rows, self.units, self.mix, self.last = Block(), Block(), Mixing(), Block()

    def forward(self, x):
        x = in_units(self.rows(x).mT.unflatten(2, (8, 8)))
        return self.last(self.mix(self.units(x)))


def test_tokens_that_are_reordered_stay_so():
    net = network(in_rows)
    net.blocks = nn.ModuleList([Reordered()])
    assert names_of(net, torch.rand(1, 3, 32, 32)) == ["blocks.0.rows.act"]


def test_one_token_in_excess_that_comes_last_on_a_fine_grid():
    """Reading it as the first one moves all others by a small step."""
    net = network(in_rows)
    net.register = nn.Parameter(torch.randn(1, 1, 16))
    net.order = lambda x: torch.cat([in_rows(x), net.register.expand(len(x), -1, -1)], dim=1)
    assert names_of(net, torch.rand(1, 3, 64, 64)) == ["embed"]
