"""Layouts by name: any order and folding of axes gives (N, C, *S), or an error that names it."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import conv_net, random_input
from torch import nn

from captum_3dcam import (
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    frames_to_clip,
    tokens_to_grid,
)
from captum_3dcam._layout import Layout, spatial_order


def arrange(text, x, batch_size, rank=None, shapes=()):
    return Layout.from_text(text).arrange(x, batch_size, rank, shapes)


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


# ------------------------------------------------------------------------------- axes by name


@st.composite
def laid_out_tensors(draw):
    """A tensor (N, C, *S), the same in some layout, and the layout's text."""
    spatial = draw(st.sampled_from(["T", "H", "TH", "HW", "ZY", "DHW", "THW", "ZYX"]))
    sizes = {name: draw(st.integers(1, 4)) for name in ["N", "C", *spatial]}
    order = draw(st.permutations(list(sizes)))
    breaks = [True, *(draw(st.booleans()) for _ in order[1:])]
    groups = []
    for name, begins in zip(order, breaks, strict=True):
        groups.append([]) if begins else None
        groups[-1].append(name)
    text = []
    for group in groups:
        open_one = draw(st.sampled_from([name for name in group if name != "N"] or [None]))
        words = [n if n in ("N", open_one) else f"{n}={sizes[n]}" for n in group]
        text.append(f"({' '.join(words)})" if len(words) > 1 else words[0])
    original = torch.randn(list(sizes.values()))
    permuted = original.permute([list(sizes).index(name) for name in order])
    folded = permuted.reshape([torch.Size(sizes[n] for n in group).numel() for group in groups])
    return original, folded, " ".join(text)


@given(laid_out_tensors())
def test_any_order_and_folding_of_axes_is_undone(case):
    original, laid_out, text = case
    assert torch.equal(arrange(text, laid_out, len(original)), original)


@given(laid_out_tensors())
def test_any_order_and_folding_of_axes_is_restored(case):
    original, laid_out, text = case
    layout = Layout.from_text(text)
    assert torch.equal(layout.restore(original), laid_out)
    assert layout.is_channels_first == (layout.axes == tuple((name,) for name in layout.names))
    with pytest.raises(ValueError, match=r"has the axes N C .*; received"):
        layout.restore(original[None])


@given(laid_out_tensors())
def test_an_input_of_any_layout_has_the_size_of_the_original(case):
    original, laid_out, text = case
    layout = Layout.from_text(text)
    if any(
        "N" in names and len(names) > 1 and set(names) - {"N"} - set(layout.given)
        for names in layout.axes
    ):
        with pytest.raises(ValueError, match="it leaves the sizes of .* open"):
            layout.sizes(laid_out.shape)
    else:
        assert layout.sizes(laid_out.shape) == (len(original), tuple(original.shape[2:]))


@pytest.mark.parametrize(
    ("text", "shape", "index"),
    [
        ("N H W C", (2, 3, 4, 5), lambda n, c, h, w: (n, h, w, c)),
        ("N W H C", (2, 4, 3, 5), lambda n, c, h, w: (n, w, h, c)),
        ("(N H) C W", (6, 5, 4), lambda n, c, h, w: (n * 3 + h, c, w)),
        ("(H N) W C", (6, 4, 5), lambda n, c, h, w: (h * 2 + n, w, c)),
        ("N (W=4 H) C", (2, 12, 5), lambda n, c, h, w: (n, w * 3 + h, c)),
        ("(N=2 H W=4) C", (24, 5), lambda n, c, h, w: ((n * 3 + h) * 4 + w, c)),
    ],
)
def test_each_entry_lies_where_its_names_say(text, shape, index):
    x = numbered(*shape)
    arranged = arrange(text, x, batch_size=2)
    assert arranged.shape == (2, 5, 3, 4)
    for position in ((0, 0, 0, 0), (1, 4, 2, 3), (1, 2, 0, 3), (0, 3, 2, 1)):
        assert arranged[position] == x[index(*position)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("N H W T C", "T H W"),
        ("X Y Z N C", "Z Y X"),
        ("W D H", "D H W"),
        ("F H W", "H W F"),
        ("N L0 L1 T C", "T L0 L1"),
    ],
)
def test_time_or_depth_comes_first_and_unknown_names_last(names, expected):
    assert spatial_order(names.split()) == expected.split()


# ---------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("prefix", [0, 1, 5, 64])
@pytest.mark.parametrize("grid", [(6,), (2, 3), (2, 3, 4)])
def test_tokens_are_those_of_the_patch_embedding_after_their_prefix(prefix, grid):
    tokens = numbered(2, prefix + torch.Size(grid).numel(), 5)
    arranged = arrange("N L C", tokens, 2, len(grid), [(2, 5, *grid)])
    assert torch.equal(arranged, tokens_to_grid(grid, prefix)(tokens))


def test_tokens_that_run_over_space_first():
    tokens = numbered(2, 1 + 4 * 3 * 2, 5)
    arranged = arrange("N (H W T) C", tokens, 2, 3, [(2, 7, 2, 4, 3)])
    assert arranged.shape == (2, 5, 2, 4, 3)
    for t, h, w in ((0, 0, 0), (1, 3, 2), (1, 0, 1)):
        assert torch.equal(arranged[:, :, t, h, w], tokens[:, 1 + (h * 3 + w) * 2 + t])


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 9, 3, 2)],  # a convolution on each of two frames
        [(2, 9, 2, 3, 2)],  # a convolution over time and space
        [(2, 9, 2, 3, 2), (4, 8, 7, 7), (4, 7, 7)],
        [(2, 9, 5, 3, 2), (4, 9, 3, 2)],  # pooled over time afterwards
        [(4, 9, 3, 2), (2, 9, 5, 2, 3)],  # beside a grid of another number of frames
    ],
)
def test_tokens_of_frames_in_the_batch(shapes):
    tokens = numbered(4, 1 + 6, 5)
    expected = frames_to_clip(2)(tokens_to_grid((3, 2), 1)(tokens))
    assert torch.equal(arrange("(N T) L C", tokens, 2, 3, shapes), expected)
    assert torch.equal(arrange("(N T) (H W) C", tokens, 2, 3, shapes), expected)


def test_tokens_of_time_and_of_space():
    """In one axis, after a class token; in two axes; of positions in the batch."""
    clip, shapes = numbered(2, 5, 2, 3, 4), [(2, 9, 2, 3, 4)]
    tokens = clip.flatten(3).permute(0, 2, 3, 1)
    folded = torch.cat([torch.zeros(2, 1, 5), tokens.flatten(1, 2)], dim=1)
    by_position = clip.permute(0, 3, 4, 2, 1).reshape(24, 2, 5)
    for text, x in (
        ("N (T L) C", folded),
        ("N (T=2 L) C", folded),
        ("N T L C", tokens),
        ("N L T C", tokens.transpose(1, 2)),
        ("(N H W) T C", by_position),
        ("(N L) T C", by_position),
    ):
        assert torch.equal(arrange(text, x, 2, 3, shapes), clip), text


GRIDS = [
    # of the patch embedding; an attention map; what a head, a window or a query gives
    (2, 16, 7, 7),
    (2, 4, 50, 50),
    (2, 50, 16),
    (2, 8, 7, 6),
    (2, 4, 50, 4),
    (4, 25, 16),
    (8, 49, 49),
]


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_grids_that_count_which_fits_the_tokens_best(order):
    tokens = numbered(2, 50, 16)
    expected = tokens_to_grid((7, 7), 1)(tokens)
    assert torch.equal(arrange("N L C", tokens, 2, 2, GRIDS[::order]), expected)


def test_of_grids_that_fit_alike_the_last_one_counts():
    tokens = numbered(1, 12, 5)
    for last in ((3, 4), (4, 3), (2, 6)):
        shapes = [(1, 5, 2, 6), (1, 5, 3, 4), (1, 5, *last), (1, 5, 13, 1)]
        assert torch.equal(arrange("N L C", tokens, 1, 2, shapes), tokens_to_grid(last)(tokens))


def test_tokens_are_not_taken_for_a_sequence_of_their_channels():
    """(N, L, C) would be read as a grid of C positions: with the class token, in the second."""
    for length, channels in ((100, 64), (63, 64), (64, 64)):
        tokens = numbered(2, length + 1, channels)
        shapes = [(2, channels, length), tuple(tokens.shape), (2, length + 1, 3 * channels)]
        arranged = arrange("N L C", tokens, 2, 1, shapes)
        assert torch.equal(arranged, tokens[:, 1:].transpose(1, 2)), (length, channels)
    with pytest.raises(ValueError, match="no grid of 100 tokens came before it"):
        arrange("N L C", numbered(2, 100, 64), 2, 1, [(2, 100, 64), (2, 100, 192)])


def test_windows_are_not_taken_for_a_grid():
    tokens = numbered(1, 16 * 16, 64)
    shapes = [(1, 64, 16, 16), (4, 64, 64), (4, 64, 192)]
    arranged = arrange("N L C", tokens, 1, 2, shapes)
    assert torch.equal(arranged, tokens_to_grid((16, 16))(tokens))


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "text",
    [
        *("", "N", "N C", "N H W", "C H W", "NCHW", "n c h w", "N C H H", None, 5),
        *("N C (H", "N C H)", "N C ()", "N C ((H W))", "N C (H 3)", "N C 3", "N C H,W", "N C *"),
        *("N C H=", "(N T=) C H", "N C H=0", "N C H=-1", "N C H=2.5", "N C H = 2", "N C ..."),
    ],
)
def test_a_text_that_is_no_layout(text):
    message = (
        f"layout={text!r}: expected the names of all axes in their order, N (batch), C "
        "(channels) and at least one other, as 'N H W C', 'N L C' (tokens) or "
        "'(N T) C H W' (frames folded into the batch)."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        Layout.from_text(text)
    if text is not None:
        with pytest.raises(ValueError, match=re.escape(message)):
            Layer("0", layout=text)
        with pytest.raises(ValueError, match=re.escape(message)):
            LayerwiseGradCAM(conv_net(2), "0", input_layout=text)


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("N H W C", (2, 3, 4), "it has 3 axes"),
        ("N L C", (2, 3, 4, 5), "it has 4 axes"),
        ("(N T) C H W", (5, 4, 3, 3), "5 is no multiple of N=2"),
        ("(N T=4) C H W", (16, 4, 3, 3), "its axis 0 has 16 entries"),
        ("(N T=4) C H W", (6, 4, 3, 3), "6 is no multiple of N=2 T=4"),
        ("N C H=5 W", (2, 4, 3, 3), "3 is no multiple of H=5"),
        ("N C H=3 W", (2, 4, 6, 3), "its axis 2 has 6 entries"),
        ("N L C", (2, 50, 8), "no grid of 50 tokens came before it"),
        ("N (H W) C", (2, 50, 8), "no grid of 50 tokens came before it"),
        ("(N L) C", (98, 8), "no grid of 49 tokens came before it"),
        ("(N L) C H", (98, 8, 3), "no grid of 49 tokens came before it"),
    ],
)
def test_a_tensor_that_cannot_have_the_layout(text, shape, reason):
    message = (
        f"layout={text!r} does not fit a tensor of shape {shape}: {reason}. Name its axes in "
        "their order, with a size where it is open, as (N T=8)."
    )
    # Too few tokens, too many, another rank, and a batch that cannot have prefix tokens.
    shapes = [(2, 8, 8, 8), (2, 8, 7, 1), (2, 8, 2, 5, 5), (2, 8, 12, 4), (2, 8, 2, 24, 2)]
    with pytest.raises(ValueError, match=re.escape(message)):
        arrange(text, torch.zeros(shape), 2, 2, [] if "(N" not in text else shapes)


def test_more_tokens_than_a_prefix_has_are_of_another_grid():
    with pytest.raises(ValueError, match="no grid of 114 tokens came before it"):
        arrange("N L C", torch.zeros(1, 114, 8), 1, 2, [(1, 8, 7, 7), (1, 8, 11, 11)])


def test_a_layout_beside_a_reshape():
    with pytest.raises(ValueError, match="layout and reshape exclude each other. Pass one of them"):
        Layer("0", layout="N H W C", reshape=frames_to_clip(2))


# ------------------------------------------------------------------------- layers of networks


class ChannelsLast(nn.Module):
    """Works on (N, *S, C) between two convolutions, as Swin and ConvNeXt do."""

    def __init__(self, rank):
        super().__init__()
        net = conv_net(rank, depth=2)
        self.first, self.second, self.head = net[0], net[1], net[2:]
        self.mlp = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 3), nn.Softplus())
        self.back = nn.Identity()

    def forward(self, x):
        y = self.mlp(self.first(x).movedim(1, -1))
        return self.head(self.second(self.back(y.movedim(-1, 1))))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", [LayerwiseGlobalLocalCAM, LayerwiseHiResCAM, LayerwiseLayerCAM])
def test_a_channels_last_layer_is_the_same_as_its_permutation(rank, method):
    model, x = ChannelsLast(rank).eval(), random_input(2, (5, 6, 7)[:rank])
    text = " ".join(["N", *"THW"[:rank], "C"])
    expected = method(model, "back").attribute(x, target=1)
    assert expected.any()
    torch.testing.assert_close(
        method(model, Layer("mlp", layout=text)).attribute(x, target=1), expected
    )


class Transformer(nn.Module):
    """Patches as tokens behind a class token; the attention maps leave modules too."""

    def __init__(self, rank, channels=16):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
        self.patch, self.drop = conv(2, channels, 2, stride=2), nn.Dropout()
        self.token = nn.Parameter(torch.randn(1, 1, channels))
        self.qkv, self.fc = nn.Linear(channels, 3 * channels), nn.Linear(channels, 2 * channels)
        self.out, self.head = nn.Linear(2 * channels, channels), nn.Linear(channels, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        q, k, v = self.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        attention = self.drop((q @ k.transpose(-2, -1)).softmax(-1))
        x = x + (attention @ v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(self.fc(x).relu())).tanh().mean(1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", [LayerwiseGradCAM, LayerwiseWhatWhereCAM])
def test_the_tokens_of_a_transformer_by_name(rank, method):
    size = (8, 10, 12)[:rank]
    model, x = Transformer(rank).eval(), random_input(2, size)
    grid = tuple(n // 2 for n in size)
    expected = method(model, Layer("fc", reshape=tokens_to_grid(grid, 1))).attribute(x, target=1)
    assert expected.any()
    assert torch.equal(method(model, Layer("fc", layout="N L C")).attribute(x, 1), expected)


def test_tokens_without_a_grid_before_them_are_an_error_of_the_layer():
    model = nn.Sequential(nn.Flatten(2), nn.Linear(16, 7), nn.Flatten(), nn.Linear(14, 3))
    cam = GlobalLocalCAM2D(model, Layer("1", layout="N C L"))
    with pytest.raises(ValueError, match="no grid of 7 tokens came before it"):
        cam.attribute(random_input(2, (4, 4)))


class Folded(nn.Module):
    """A 2D network on the frames of clips, which are (N, C, T, H, W), folded, or frames first."""

    def __init__(self, given, frames=4):
        super().__init__()
        self.given, self.frames, self.net = given, frames, conv_net(2)

    def forward(self, x):
        if self.given == "channels first":
            x = x.transpose(1, 2)
        if self.given != "folded":
            x = x.flatten(0, 1)
        return self.net(x).unflatten(0, (-1, self.frames)).mean(1)


CLIP = random_input(2, (4, 6, 7))


@pytest.mark.parametrize("text", ["(N T) C H W", "(N T=4) C H W"])
def test_frames_folded_into_the_batch_by_name(text):
    model = Folded("channels first").eval()
    expected = GlobalLocalCAM3D(
        model, [Layer(f"net.{i}", reshape=frames_to_clip(4)) for i in (0, 1)]
    ).attribute(CLIP, target=1)
    layers = [Layer(f"net.{i}", layout=text) for i in (0, 1)]
    assert torch.equal(GlobalLocalCAM3D(model, layers).attribute(CLIP, target=1), expected)


@pytest.mark.parametrize("output_size", [None, (4, 12, 9), 5])
@pytest.mark.parametrize(
    ("given", "input_layout", "x"),
    [
        ("frames first", "N T C H W", CLIP.transpose(1, 2)),
        ("folded", "(N T=4) C H W", CLIP.transpose(1, 2).flatten(0, 1)),
    ],
)
def test_inputs_of_another_layout_give_the_map_of_a_clip(given, input_layout, x, output_size):
    layer = Layer("net.1", layout="(N T) C H W")
    expected = GlobalLocalCAM3D(Folded("channels first").eval(), layer).attribute(
        CLIP, target=1, output_size=output_size
    )
    cam = GlobalLocalCAM3D(Folded(given).eval(), layer, input_layout=input_layout)
    attribution = cam.attribute(x, target=1, output_size=output_size)
    assert attribution.shape == expected.shape
    torch.testing.assert_close(attribution, expected)
    maps, classes = cam.attribute_top_k(x, 2, output_size=output_size)
    assert maps.shape == (2, 2, *expected.shape[2:])
    assert classes.shape == (2, 2)
    per_sample = cam.attribute(x, target=[0, 3], output_size=output_size)
    assert per_sample.shape == expected.shape


@pytest.mark.parametrize(
    ("input_layout", "message"),
    [
        ("N T C H", r"layout='N T C H' does not fit a tensor of shape \(8, 2, 6, 7, 1\): it has 5"),
        ("(N T) C H W D", r"it leaves the sizes of N and T open"),
        ("(N T=3) C H W D", r"8 is no multiple of T=3"),
        ("N=4 C H W D", r"8 entries"),
    ],
)
def test_an_input_that_cannot_have_its_layout(input_layout, message):
    cam = LayerwiseGradCAM(conv_net(2), "0", input_layout=input_layout)
    with pytest.raises(ValueError, match=message):
        cam.attribute(CLIP.transpose(1, 2).flatten(0, 1)[..., None])


def test_an_input_layout_of_another_rank():
    cam = GlobalLocalCAM2D(Folded("frames first"), "net.0", input_layout="N T C H W")
    with pytest.raises(ValueError, match=r"makes maps of 2 spatial axes; .* asks for 3: \(4, 6, 7"):
        cam.attribute(CLIP.transpose(1, 2))


# -------------------------------------------------------------------------------- merged tokens


@pytest.mark.parametrize("prefix", [0, 1])
def test_tokens_that_stages_merge_have_the_grid_of_the_patches_at_a_stride(prefix):
    patches = (1, 16, 4, 15, 8)  # (N, C, T, H, W)
    for grid in ((4, 8, 4), (4, 4, 2), (2, 8, 4), (1, 4, 2)):
        tokens = numbered(1, prefix + grid[0] * grid[1] * grid[2], 16)
        arranged = arrange("N L C", tokens, 1, 3, [patches])
        assert torch.equal(arranged, tokens_to_grid(grid, prefix)(tokens)), grid
