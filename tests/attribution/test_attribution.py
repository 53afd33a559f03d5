"""The classes: the method's equations end to end, its invariants, and whose class it shows."""

import copy
import pickle

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    CONV,
    POOL,
    conv_net,
    naive_layer_map,
    naive_pairs,
    naive_what_where,
    random_input,
)
from torch import nn

from captum_3dcam import (
    CounterfactualCAM,
    CounterfactualCAM2D,
    CounterfactualCAM3D,
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
    frames_to_clip,
    functional,
    tokens_to_grid,
)

METHOD = [LayerwiseGlobalLocalCAM, CounterfactualCAM]
BASELINES = [
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseXGradCAM,
]
ALL = [*METHOD, *BASELINES, LayerwiseWhatWhereCAM]


@st.composite
def cases(draw, max_rank=3):
    """A random network of some rank and depth, and a batch for it."""
    rank = draw(st.integers(1, max_rank))
    depth = draw(st.integers(1, 3))
    size = tuple(draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank)))
    seed = draw(st.integers(0, 10**6))
    net = conv_net(rank, depth, inplace=draw(st.booleans()), seed=seed)
    return net, random_input(draw(st.integers(1, 3)), size, seed=seed), list(range(depth))


def names(layers):
    return [str(layer) for layer in layers]


# ---------------------------------------------------------------------------- the equations


@settings(max_examples=60)
@given(cases(), st.booleans())
def test_agrees_with_the_naive_derivation(case, align_corners):
    net, x, layers = case
    targets = net(x).argmax(1).tolist()
    pairs = naive_pairs(net, x, layers, targets)
    for method, sign in zip(METHOD, (1, -1), strict=True):
        found = method(net, names(layers), align_corners=align_corners).attribute(x)
        size = tuple(x.shape[2:])
        maps = [naive_layer_map(a, g, size, sign, align_corners) for a, g in pairs]
        np.testing.assert_allclose(found.numpy(), sum(maps), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_agrees_with_the_naive_derivation_in_double_precision(rank):
    """Without rounding in the way: 1e-10 relative, for both equations, at another size."""
    net = conv_net(rank, depth=3, seed=3).double()
    x = random_input(3, (7, 6, 5)[:rank]).double()
    pairs = naive_pairs(net, x, [0, 1, 2], [3, 0, 1])
    size = (9, 4, 11)[:rank]
    for method, sign in zip(METHOD, (1, -1), strict=True):
        explain = method(net, ["0", "1", "2"])
        found = explain.attribute(x, target=[3, 0, 1], output_size=size)
        expected = sum(naive_layer_map(a, g, size, sign) for a, g in pairs)
        assert found.any()
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=60)
@given(cases(), st.floats(1e-6, 1e6))
def test_what_where_agrees_with_its_naive_derivation(case, scale):
    net, x, layers = case
    net, x, targets = net.double(), x.double(), [2] * len(x)
    pairs = naive_pairs(net, x, layers, targets)
    modules = [net[i] for i in layers]
    found = LayerwiseWhatWhereCAM(Scaled(net, scale), modules).attribute(x, targets)
    for i, sample in enumerate(found[:, 0].numpy()):
        alone = [(a[i], g[i]) for a, g in pairs]
        expected = naive_what_where(alone, tuple(x.shape[2:]))
        # The roots of energies that are zero but for rounding are not small.
        np.testing.assert_allclose(sample, expected, rtol=1e-6, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


def test_what_where_takes_many_layers_and_shallow_gradients():
    """Where a product of energies, or the square of a small gradient, underflows in float32."""
    net, x = conv_net(2, depth=2, seed=5), random_input(2, (9, 9))
    modules = [net[0], net[1]]
    plain = LayerwiseWhatWhereCAM(net, modules).attribute(x, target=1)
    many = LayerwiseWhatWhereCAM(net, modules * 12).attribute(x, target=1)
    faint = LayerwiseWhatWhereCAM(Scaled(net, 1e-25), modules).attribute(x, target=1)
    assert plain.amax() > 0.1
    torch.testing.assert_close(many, plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(faint, plain, atol=1e-5, rtol=1e-4)


@settings(max_examples=30)
@given(cases(), st.randoms(use_true_random=False))
def test_what_where_does_not_mind_the_order_and_gives_single_layers(case, random):
    net, x, layers = case
    shuffled = random.sample(layers, len(layers))
    explain = LayerwiseWhatWhereCAM(net, names(layers))
    in_order = explain.attribute(x, target=0)
    reordered = LayerwiseWhatWhereCAM(net, names(shuffled)).attribute(x, target=0)
    torch.testing.assert_close(reordered, in_order, atol=1e-5, rtol=1e-4)
    for layer, found in zip(layers, explain.attribute(x, 0, per_layer=True), strict=True):
        single = LayerwiseWhatWhereCAM(net, str(layer)).attribute(x, target=0)
        torch.testing.assert_close(found, single)


def test_what_where_does_not_see_what_a_bias_can_hold():
    """A constant moved from a channel into the next bias: the same network, the same map."""

    class Shifted(nn.Module):
        def __init__(self, net, by):
            super().__init__()
            self.first, self.shift, self.head, self.by = net[0], nn.Identity(), net[1:], by

        def forward(self, x):
            return self.head(self.shift(self.first(x) + self.by) - self.by)

    net, x = conv_net(3, seed=2).double(), random_input(2, (4, 6, 5)).double()
    for method, same in ((LayerwiseWhatWhereCAM, True), (LayerwiseHiResCAM, False)):
        plain, shifted = [
            method(Shifted(net, by).eval(), "shift").attribute(x, target=1) for by in (0.0, 7.0)
        ]
        assert torch.allclose(plain, shifted, atol=1e-9) == same


def test_a_layer_of_one_place_says_nothing_and_harms_nothing():
    net, x = conv_net(2, depth=2, seed=1), random_input(2, (8, 8))
    whole = nn.Sequential(*net[:2], nn.Conv2d(3, 3, 4), nn.Flatten())
    with_it = LayerwiseWhatWhereCAM(whole, ["0", "1", "2"]).attribute(x, target=0)
    without = LayerwiseWhatWhereCAM(whole, ["0", "1"]).attribute(x, target=0)
    assert without.amax() > 0
    # It halves nothing but the mean over layers: "what" has one more, empty, term.
    torch.testing.assert_close(with_it, without * 2 / 3, atol=1e-6, rtol=1e-5)
    assert not LayerwiseWhatWhereCAM(whole, "2").attribute(x, target=0).any()


def test_what_where_of_a_faint_sample_beside_a_strong_one():
    net, x = conv_net(2, depth=2, seed=5), random_input(2, (9, 9))
    modules, factors = [net[0], net[1]], torch.tensor([[1.0], [1e-25]])
    plain = LayerwiseWhatWhereCAM(net, modules).attribute(x, target=1)
    uneven = LayerwiseWhatWhereCAM(Scaled(net, factors), modules).attribute(x, target=1)
    torch.testing.assert_close(uneven, plain, atol=1e-5, rtol=1e-4)


def test_what_where_interpolates_as_asked():
    net, x = conv_net(2, depth=2, seed=5), random_input(1, (9, 9))
    linear, *others = [
        LayerwiseWhatWhereCAM(net, ["0", "1"], **options).attribute(x, target=1)
        for options in ({}, {"align_corners": True}, {"interpolate_mode": "nearest"})
    ]
    assert linear.any()
    assert not any(torch.allclose(linear, other) for other in others)


def test_what_where_has_no_fusion():
    with pytest.raises(TypeError, match="fusion"):
        LayerwiseWhatWhereCAM(conv_net(2), "0", fusion="sum")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("layer", ["0.0", "0.1", "1.0", "1.1"])
def test_one_layer_of_grad_cam_is_captums(rank, layer):
    """Also before an in-place ReLU, which overwrites what the convolution gave."""
    net, size = conv_net(rank, inplace=True), (6, 5, 7)[:rank]
    x = random_input(2, size)
    captums = LayerGradCam(net, net.get_submodule(layer))
    native = captums.attribute(x, [1, 3], relu_attributions=True).detach()
    mode = functional.LINEAR_MODES[rank]
    expected = functional.normalize(LayerAttribution.interpolate(native, size, mode))
    found = LayerwiseGradCAM(net, layer).attribute(x, target=[1, 3])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", BASELINES)
def test_baselines_over_layers_are_their_rule_layer_by_layer(method):
    net, x = conv_net(3), random_input(2, (4, 6, 6))
    pairs = naive_pairs(net, x, [0, 1], [1, 2])
    expected = sum(
        functional.layer_map(method.rule(torch.tensor(a), torch.tensor(g)), x.shape[2:])
        for a, g in pairs
    )
    found = method(net, ["0", "1"]).attribute(x, target=[1, 2])
    assert found.any()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# -------------------------------------------------------------------------------- invariants


@settings(max_examples=60)
@given(cases(), st.sampled_from(METHOD + BASELINES), st.sampled_from(functional.FUSIONS))
def test_shape_and_range(case, method, fusion):
    net, x, layers = case
    found = method(net, names(layers), fusion=fusion).attribute(x)
    assert found.shape == (x.shape[0], 1, *x.shape[2:])
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= (len(layers) if fusion == "sum" else 1) + 1e-6


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_any_output_size_and_dtype(size, output_size, dtype):
    rank = min(len(size), len(output_size))
    net, x = conv_net(rank).to(dtype), random_input(2, tuple(size[:rank])).to(dtype)
    found = LayerwiseGlobalLocalCAM(net, ["0", "1"]).attribute(x, output_size=output_size[:rank])
    assert found.shape == (2, 1, *output_size[:rank])
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@settings(max_examples=30)
@given(cases(), st.sampled_from(ALL))
def test_a_batch_equals_its_samples_one_by_one(case, method):
    net, x, layers = case
    explain = method(net, names(layers))
    one_by_one = torch.cat([explain.attribute(sample[None]) for sample in x])
    torch.testing.assert_close(explain.attribute(x), one_by_one, atol=1e-4, rtol=1e-4)


class Scaled(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.factor * self.net(x)


@settings(max_examples=30)
@given(cases(), st.sampled_from([1e-3, 0.5, 3.0, 1e3]))
def test_scaling_the_score_changes_nothing(case, factor):
    net, x, layers = case
    for method in [m for m in ALL if m is not LayerwiseGradCAMPlusPlus]:
        plain = method(net, names(layers)).attribute(x, target=1)
        scaled = method(Scaled(net, factor), [net[i] for i in layers]).attribute(x, target=1)
        torch.testing.assert_close(scaled, plain, atol=1e-4, rtol=1e-4)


@settings(max_examples=30)
@given(cases())
def test_the_counterfactual_is_the_map_of_the_negated_model(case):
    net, x, layers = case
    modules = [net[i] for i in layers]
    negated = LayerwiseGlobalLocalCAM(Scaled(net, -1), modules).attribute(x, target=2)
    counterfactual = CounterfactualCAM(net, modules).attribute(x, target=2)
    torch.testing.assert_close(counterfactual, negated)


@settings(max_examples=30)
@given(cases())
def test_supports_are_disjoint_layer_by_layer(case):
    net, x, layers = case
    for_it, against_it = [
        method(net, names(layers)).attribute(x, per_layer=True) for method in METHOD
    ]
    for plus, minus in zip(for_it, against_it, strict=True):
        assert not (plus * minus).any()


@settings(max_examples=30)
@given(cases(), st.randoms())
def test_a_sum_is_that_of_single_layers_in_any_order(case, random):
    net, x, layers = case
    shuffled = random.sample(layers, len(layers))
    found = LayerwiseGlobalLocalCAM(net, names(layers)).attribute(x)
    singles = [LayerwiseGlobalLocalCAM(net, str(i)).attribute(x) for i in layers]
    torch.testing.assert_close(found, sum(singles), atol=1e-6, rtol=1e-5)
    reordered = LayerwiseGlobalLocalCAM(net, names(shuffled))
    torch.testing.assert_close(found, reordered.attribute(x), atol=1e-6, rtol=1e-5)
    per_layer = reordered.attribute(x, per_layer=True)
    assert len(per_layer) == len(layers)
    for i, layer_map in zip(shuffled, per_layer, strict=True):
        torch.testing.assert_close(layer_map, singles[i], atol=1e-6, rtol=1e-5)


@settings(max_examples=20)
@given(cases())
def test_top_k_is_each_class_by_itself(case):
    net, x, layers = case
    for method in METHOD:
        explain = method(net, names(layers))
        maps, classes = explain.attribute_top_k(x, k=3)
        assert maps.shape == (x.shape[0], 3, *x.shape[2:])
        assert torch.equal(classes, net(x).topk(3).indices)
        for i in range(3):
            expected = explain.attribute(x, target=classes[:, i])
            torch.testing.assert_close(maps[:, i : i + 1], expected)
        torch.testing.assert_close(maps[:, :1], explain.attribute(x))


def over_the_batch(maps):
    """A fusion whose result for a sample depends on the others."""
    total = maps.sum(dim=0)
    return total / total.max()


@pytest.mark.parametrize("fusion", [*functional.FUSIONS, over_the_batch])
def test_many_classes_are_each_class_by_itself(fusion):
    explain = GlobalLocalCAM2D(conv_net(2), ["0", "1"], fusion=fusion)
    x, classes = random_input(2, (6, 6)), [*range(3)] * 4
    expected = [explain.attribute(x, target) for target in classes]
    assert torch.equal(explain.attribute_classes(x, classes), torch.cat(expected, dim=1))


def test_top_k_takes_the_options_of_attribute():
    net, x = conv_net(2), random_input(2, (6, 6))
    options = {"attribute_to_layer_input": True, "output_size": (3, 5)}
    explain = GlobalLocalCAM2D(net, ["0", "1"])
    maps, _ = explain.attribute_top_k(x, 1, **options)
    torch.testing.assert_close(maps, explain.attribute(x, **options))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_in_place_relu_after_a_layer_changes_nothing(rank):
    x = random_input(2, (5, 6, 7)[:rank])
    for method in ALL:
        found, expected = [
            method(conv_net(rank, inplace=inplace), ["0.0", "1.0"]).attribute(x)
            for inplace in (True, False)
        ]
        assert torch.equal(found, expected)


# --------------------------------------------------------------------- the third dimension


def framewise(net2d):
    """The 3D network that runs a 2D one on each frame and means its scores over time."""
    convolutions = []
    for block in net2d[:2]:
        conv = block[0]
        spatial = [(1, *conv.kernel_size), (1, *conv.stride), (0, *conv.padding)]
        lifted = nn.Conv3d(conv.in_channels, conv.out_channels, *spatial)
        lifted.weight.data, lifted.bias.data = conv.weight.data[:, :, None], conv.bias.data
        convolutions.append(nn.Sequential(lifted, nn.ReLU()))
    grid = nn.AdaptiveAvgPool3d((1, 2, 2))
    return nn.Sequential(*convolutions, grid, nn.Flatten(), net2d[-1]).eval()


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_still_clip_is_its_image(num_frames):
    net2d, image = conv_net(2), random_input(2, (7, 9))
    clip = image[:, :, None].expand(-1, -1, num_frames, -1, -1)
    for flat, lifted in (
        (GlobalLocalCAM2D, GlobalLocalCAM3D),
        (CounterfactualCAM2D, CounterfactualCAM3D),
        (LayerwiseWhatWhereCAM, LayerwiseWhatWhereCAM),
    ):
        expected = flat(net2d, ["0", "1"]).attribute(image, target=1)
        found = lifted(framewise(net2d), ["0", "1"]).attribute(clip, target=1)
        assert found.any()
        torch.testing.assert_close(
            found, expected[:, :, None].expand_as(found), atol=1e-5, rtol=1e-4
        )


def test_reversing_time_reverses_the_map():
    torch.manual_seed(1)
    conv1, conv2 = (
        nn.Conv3d(2, 3, 3, padding=1),
        nn.Conv3d(3, 3, 3, padding=1),
    )
    head = nn.Linear(3 * 5, 4)

    def network(one, two, order):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = one, two

            def forward(self, x):
                x = self.two(self.one(x).relu()).relu().mean((3, 4))
                return head(x[:, :, order].flatten(1))

        return Net()

    def reversed_in_time(conv):
        flipped = copy.deepcopy(conv)
        flipped.weight.data = conv.weight.data.flip(2)
        return flipped

    forward = network(conv1, conv2, [0, 1, 2, 3, 4])
    backward = network(reversed_in_time(conv1), reversed_in_time(conv2), [4, 3, 2, 1, 0])
    clip = random_input(2, (5, 6, 6))
    found = GlobalLocalCAM3D(backward, ["one", "two"]).attribute(clip.flip(2), target=1)
    expected = GlobalLocalCAM3D(forward, ["one", "two"]).attribute(clip, target=1)
    assert not torch.allclose(expected, expected.flip(2))
    torch.testing.assert_close(found.flip(2), expected, atol=1e-5, rtol=1e-4)


# --------------------------------------------------------------------- whose class it shows


class TwoDetectors(nn.Module):
    """Class 0 is red, class 1 green: what each looks at is known, place by place.

    ``detect`` finds both colours; ``compare`` gives each class its own colour as evidence, the
    other as evidence against it, and takes only what is clearly there. So the gradient at
    ``detect`` lies on the objects, and differs between the classes.
    """

    def __init__(self, rank):
        super().__init__()
        self.detect = CONV[rank](2, 2, 1, bias=False)
        self.detect.weight.data = torch.eye(2).reshape(self.detect.weight.shape)
        self.compare = CONV[rank](2, 4, 1)  # red, green, minus green, minus red
        self.compare.weight.data = torch.eye(2).repeat(2, 1).reshape(self.compare.weight.shape)
        self.compare.bias.data.fill_(-0.5)
        self.pool, self.rank = POOL[rank](1), rank

    def forward(self, x):
        found = self.compare(self.detect(x).relu()).relu()
        red, green = self.pool(found).flatten(1)[:, :2].unbind(1)
        return torch.stack([red - green, green - red], dim=1)


def scene(rank):
    """A red and a green object, apart from each other, moving where there is time."""
    size = (8, 12, 12)[3 - rank :]
    generator = torch.Generator().manual_seed(0)
    x = 0.2 * torch.rand(1, 2, *size, generator=generator)
    masks = torch.zeros(2, *size, dtype=torch.bool)
    for t in range(size[0] if rank == 3 else 1):
        frame = (t,) if rank == 3 else ()
        masks[(0, *frame, slice(1, 4), slice(t % 4, t % 4 + 3))] = True
        masks[(1, *frame, slice(7, 11), slice(8 - t % 4, 12 - t % 4))] = True
    for colour in range(2):
        x[0, colour][masks[colour]] = 1
    return x, masks


def energy(attribution, mask):
    return float(attribution[0, 0][mask].sum() / attribution.sum())


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("target", [0, 1])
def test_each_class_lights_its_own_object_and_its_counterfactual_the_other(rank, target):
    net, (x, masks) = TwoDetectors(rank).eval(), scene(rank)
    own, other = masks[target], masks[1 - target]
    explain, against = LayerwiseGlobalLocalCAM(net, "detect"), CounterfactualCAM(net, "detect")
    assert energy(explain.attribute(x, target=target), own) > 0.999
    assert energy(against.attribute(x, target=target), other) > 0.999
    new = LayerwiseWhatWhereCAM(net, "detect").attribute(x, target=target)
    assert energy(new, own) > 0.999
    # The place alone: each of the object's pixels is marked, and by at least half.
    assert explain.attribute(x, target=target)[0, 0][own].min() > 0.5


def test_both_classes_from_one_forward():
    net, (x, masks) = TwoDetectors(3).eval(), scene(3)
    maps, classes = GlobalLocalCAM3D(net, "detect").attribute_top_k(x, k=2)
    for i, target in enumerate(classes[0]):
        assert energy(maps[:, i : i + 1], masks[target]) > 0.999


def test_under_global_pooling_the_last_layers_map_is_switched_not_shaped_by_the_class():
    """The method's limit: there beta is constant over space, so only its sign counts."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    head = nn.Linear(3, 4)
    head.weight.data = torch.tensor([[1.0, 2, -1], [0.5, 0, 3], [-3, 1, 1], [1, 1, -2.5]])
    model, x = nn.Sequential(net, head).eval(), random_input(1, (6, 6))
    maps = [GlobalLocalCAM2D(model, "0.1").attribute(x, target=c) for c in range(4)]
    agnostic = functional.normalize(functional.channel_sum(net[:2](x).detach()))
    for layer_map, weights in zip(maps, head.weight, strict=True):
        expected = agnostic if weights.sum() > 0 else torch.zeros_like(agnostic)
        torch.testing.assert_close(layer_map, expected)
    assert [bool(m.any()) for m in maps] == [True, True, False, False]


# --------------------------------------------------------------- grids, inputs, and options


class VideoTransformer(nn.Module):
    """Patches of space-time as tokens, a class token, two blocks of attention."""

    grid = (2, 3, 4)

    def __init__(self, norm_first):
        super().__init__()
        self.patch = nn.Conv3d(3, 16, (2, 4, 4), stride=(2, 4, 4))
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                16, 2, 32, dropout=0, batch_first=True, norm_first=norm_first
            )
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


GRID = tokens_to_grid(VideoTransformer.grid, prefix_tokens=1)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_video_transformer(training, norm_first):
    """Also in eval mode, where torch has a fused path that passes the layers' parts by."""
    model, x = VideoTransformer(norm_first).train(training), torch.randn(2, 3, 4, 12, 16)
    hidden, kept = model.blocks[1].linear1, []
    handle = hidden.register_forward_hook(lambda module, args, output: kept.append(output))
    scores = model(x)
    handle.remove()
    gradient = torch.autograd.grad(scores[:, 1].sum(), kept[0])[0]
    pair = [GRID(tensor.detach()) for tensor in (kept[0], gradient)]
    expected = functional.layer_map(functional.global_local(*pair), (4, 12, 16))
    assert expected.any()

    layers = [Layer(f"blocks.{i}.linear1", reshape=GRID) for i in range(2)]
    maps = GlobalLocalCAM3D(model, layers).attribute(x, target=1, per_layer=True)
    assert [m.shape for m in maps] == [(2, 1, 4, 12, 16)] * 2
    torch.testing.assert_close(maps[1], expected, atol=1e-4, rtol=1e-3)


def test_sums_that_layer_normalisation_cancels_are_said_to_be_noise():
    x = torch.randn(2, 3, 4, 12, 16)
    before_norm, after_norm = VideoTransformer(True).eval(), VideoTransformer(False).eval()
    for model, kind in ((before_norm, "gradient"), (after_norm, "activation")):
        for method in METHOD:
            with pytest.warns(UserWarning, match=f"'blocks.0' the sum of the {kind} over channels"):
                method(model, Layer("blocks.0", reshape=GRID)).attribute(x)
        LayerwiseHiResCAM(model, Layer("blocks.0", reshape=GRID)).attribute(x)


def test_the_warning_points_at_the_caller():
    x, layer = torch.randn(1, 3, 4, 12, 16), Layer("blocks.0", reshape=GRID)
    model = VideoTransformer(True).eval()
    explain = GlobalLocalCAM3D(model, layer)
    callable_fusion = GlobalLocalCAM3D(model, layer, fusion=lambda maps: maps.sum(0))
    for call in (
        lambda: explain.attribute(x),
        lambda: explain.attribute(x, per_layer=True),
        lambda: explain.attribute_top_k(x, 1),
        lambda: callable_fusion.attribute(x),
    ):
        with pytest.warns(UserWarning, match="cancels") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ordinary_networks_are_not_warned_of(dtype):
    """The gradient of a linear head after pooling: a sum of weights of mixed sign."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(200, 512, 1, generator=generator).to(dtype) / 22
    ratios = [cancellation(w[None].expand(-1, -1, 4)) for w in weights]
    assert sum(ratio <= 1 for ratio in ratios) <= 200 * 0.03


def cancellation(x):
    return functional.channel_sum(x).flatten(1).norm(dim=1) / functional.rounding_noise(x)


def test_one_cancelling_sample_among_others_is_noticed():
    x = torch.randn(2, 16, 5)
    assert (cancellation(x) <= 1).tolist() == [False, False]
    x[1] -= x[1].mean(0)
    assert (cancellation(x) <= 1).tolist() == [False, True]


@pytest.mark.parametrize("method", [*METHOD, LayerwiseGradCAM, LayerwiseWhatWhereCAM])
def test_of_layers_of_several_precisions_the_highest_counts_in_any_order(method):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv1d(2, 3, 3).bfloat16(), nn.Conv1d(3, 4, 3)
            self.third, self.head = nn.Conv1d(4, 4, 3).double(), nn.Linear(4, 3).double()

        def forward(self, x):
            x = self.second(self.first(x.bfloat16()).float())
            return self.head(self.third(x.double()).mean(2))

    model, x = Mixed(), torch.randn(2, 2, 12)
    names = ["first", "second", "third"]
    found = [method(model, order).attribute(x, 0) for order in (names, names[::-1])]
    assert [each.dtype for each in found] == [torch.float64] * 2
    torch.testing.assert_close(*found)


def test_of_a_batch_one_sample_is_enough_for_the_warning():
    class Centred(nn.Module):
        """Its gradient cancels over channels in the last sample alone."""

        def __init__(self):
            super().__init__()
            self.layer, self.weight = nn.Conv1d(2, 16, 1), nn.Parameter(torch.randn(16, 5))

        def forward(self, x):
            y = self.layer(x)
            last = torch.arange(len(x))[:, None, None] == len(x) - 1
            return ((y - last * y.mean(1, keepdim=True)) * self.weight).sum((1, 2))

    torch.manual_seed(0)
    model, x = Centred(), torch.randn(3, 2, 5)
    with pytest.warns(UserWarning, match="of the gradient over channels cancels"):
        LayerwiseGlobalLocalCAM(model, "layer").attribute(x)


def test_of_nothing_and_of_one_channel_no_sum_cancels():
    x = torch.zeros(2, 3, 4)
    assert cancellation(x).isnan().all()
    x[:, 0] = 1e-20
    assert (cancellation(x[:, :1]) > 1).all()


def test_a_2d_network_over_folded_frames_is_its_framewise_3d_twin():
    net2d, clip = conv_net(2), random_input(2, (4, 7, 9))

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net2d

        def forward(self, x):
            return self.net(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).mean(1)

    layers = [Layer(f"net.{i}", reshape=frames_to_clip(4)) for i in range(2)]
    found = GlobalLocalCAM3D(Folded(), layers).attribute(clip, target=1)
    expected = GlobalLocalCAM3D(framewise(net2d), ["0", "1"]).attribute(clip, target=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"for a batch of 2. If it folds frames into the batch"):
        LayerwiseGlobalLocalCAM(Folded(), "net.0").attribute(clip, output_size=(7, 9))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fast, self.slow = conv_net(3, inputs=2), conv_net(3, inputs=2, seed=1)

    def forward(self, fast, slow, weight=1.0):
        return self.fast(fast) + weight * self.slow(slow)


def test_several_inputs_and_additional_arguments():
    model = TwoInputs().eval()
    fast, slow = random_input(2, (8, 6, 6)), random_input(2, (2, 6, 6), seed=1)
    explain = GlobalLocalCAM3D(model, ["fast.0", "slow.0"])
    maps = explain.attribute((fast, slow), 1, 0.5, per_layer=True)
    single = [GlobalLocalCAM3D(net, "0") for net in (model.fast, model.slow)]
    torch.testing.assert_close(maps[0], single[0].attribute(fast, 1))
    expected = single[1].attribute(slow, 1, output_size=(8, 6, 6))
    torch.testing.assert_close(maps[1], expected)
    assert explain.attribute((fast, slow), 1, 0.0).shape == (2, 1, 8, 6, 6)


def test_a_tuple_of_one_comes_back_as_a_tuple_of_one():
    net, x = conv_net(2), random_input(2, (5, 5))
    explain = GlobalLocalCAM2D(net, "0")
    (found,) = explain.attribute((x,))
    assert torch.equal(found, explain.attribute(x))


def test_regression_and_dense_scores():
    net, x = conv_net(2, classes=1), random_input(2, (5, 5))
    expected = GlobalLocalCAM2D(net, "0").attribute(x)
    assert torch.equal(GlobalLocalCAM2D(lambda x: net(x)[:, 0], net[0]).attribute(x), expected)
    torch.testing.assert_close(
        GlobalLocalCAM2D(lambda x: net(x).sum(), net[0]).attribute(x), expected
    )
    dense = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 1)).eval()
    found = GlobalLocalCAM2D(dense, "1").attribute(x, target=(2, 3, 1))
    assert found[0, 0].nonzero().tolist() in ([], [[3, 1]])  # a 1x1 head sees one place


@pytest.mark.parametrize("fusion", ["mean", "max", lambda maps: maps.amin(0)])
def test_fusion_is_that_of_the_layer_maps(fusion):
    net, x = conv_net(2), random_input(2, (6, 6))
    maps = GlobalLocalCAM2D(net, ["0", "1"]).attribute(x, per_layer=True)
    found = GlobalLocalCAM2D(net, ["0", "1"], fusion=fusion).attribute(x)
    torch.testing.assert_close(found, functional.fuse(maps, 2, fusion))


def test_interpolation_options_reach_the_maps():
    net, x = conv_net(2), random_input(1, (9, 9))
    options = [{}, {"align_corners": True}, {"interpolate_mode": "nearest"}]
    found = [GlobalLocalCAM2D(net, "1", **option).attribute(x, 0) for option in options]
    assert all(f.any() for f in found)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_one_number_stands_for_every_axis():
    net, x = conv_net(2), random_input(1, (9, 7))
    for size in (5, np.int64(5), [5, np.int64(5)]):
        assert GlobalLocalCAM2D(net, "0").attribute(x, output_size=size).shape == (1, 1, 5, 5)


def test_an_interpolation_of_another_rank_is_named_before_the_model_runs():
    explain = LayerwiseGlobalLocalCAM(conv_net(3), "0", interpolate_mode="bilinear")
    with pytest.raises(ValueError, match="'bilinear' is for 2 spatial axes; the map has 3"):
        explain.attribute(random_input(1, (4, 4, 4)))


def test_attributions_survive_copy_and_pickle():
    net, x = conv_net(2), random_input(1, (6, 6))
    explain = GlobalLocalCAM2D(net, ["0", Layer("1", reshape=None)], fusion="max")
    expected = explain.attribute(x)
    for other in (copy.deepcopy(explain), pickle.loads(pickle.dumps(explain))):
        assert torch.equal(other.attribute(x), expected)


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("method", "rank"),
    [
        (GlobalLocalCAM2D, 2),
        (CounterfactualCAM2D, 2),
        (GlobalLocalCAM3D, 3),
        (CounterfactualCAM3D, 3),
    ],
)
def test_a_pinned_rank_says_so(method, rank):
    other = 5 - rank
    net, x = conv_net(other), random_input(1, (4,) * other)
    message = f"{method.__name__} makes maps of {rank} spatial axes; .* asks for {other}: "
    with pytest.raises(ValueError, match=message):
        method(net, "0").attribute(x)
    assert method(conv_net(rank), "0").attribute(random_input(1, (4,) * rank)).ndim == rank + 2


def test_a_layer_of_another_rank_says_so():
    net, x = conv_net(2), random_input(1, (6, 6))
    with pytest.raises(ValueError, match=r"'0' gives 2 spatial axes, .* to have 3: \(4, 6, 6\)"):
        LayerwiseGlobalLocalCAM(net, "0").attribute(x, output_size=(4, 6, 6))


@pytest.mark.parametrize("output_size", [None, (), 0, (0, 3), (-1, 2)])
def test_a_size_that_is_none_is_named(output_size):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    x = torch.zeros(1, 3) if output_size in (None, ()) else torch.zeros(1, 3, 3, 3)
    with pytest.raises(ValueError, match="gives no size for the map. Pass output_size"):
        LayerwiseGlobalLocalCAM(net, "0").attribute(x, output_size=output_size)


def test_unknown_options_are_refused_when_the_object_is_made():
    net = conv_net(2)
    with pytest.raises(ValueError, match="fusion='median' is not known"):
        GlobalLocalCAM2D(net, "0", fusion="median")
    with pytest.raises(ValueError, match="interpolate_mode='cubic' is not known"):
        GlobalLocalCAM2D(net, "0", interpolate_mode="cubic")
    with pytest.raises(ValueError, match=r"fusion=\['sum'\] is not known"):
        GlobalLocalCAM2D(net, "0", fusion=["sum"])
    with pytest.raises(ValueError, match="'trilinear' is for 3 spatial axes; the map has 2"):
        GlobalLocalCAM2D(net, "0", interpolate_mode="trilinear")
    with pytest.raises(TypeError, match="device_ids must be a list of ints; received '1'. Sev"):
        GlobalLocalCAM2D(net, "0", "1")
    with pytest.raises(TypeError, match="unexpected keyword"):
        GlobalLocalCAM2D(net, "0", layer_fusion="sum")
