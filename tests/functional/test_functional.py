"""The tensor maths against loops and the worked numbers of the method."""

import math
import weakref
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import naive_channel_sum, naive_layer_map, naive_linear, naive_normalize

from captum_3dcam import functional

ALPHA = torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])
BETA = torch.tensor([[[[2.0, -1.0], [1.0, 4.0]]]])
# Rows are channels, columns places: the sums of products are not the product of the sums.
G = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]])
A = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]])

RULES = {
    "grad_cam": functional.grad_cam,
    "grad_cam_plus_plus": functional.grad_cam_plus_plus,
    "x_grad_cam": functional.x_grad_cam,
    "layer_cam": functional.layer_cam,
    "hi_res_cam": functional.hi_res_cam,
}

sizes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 6), min_size=r, max_size=r))


@st.composite
def activations_and_gradients(draw):
    size = draw(sizes)
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (batch, channels, *size)
    return tuple(torch.randn(shape, generator=generator) for _ in range(2))


# ---------------------------------------------------------------------------- worked numbers


def test_layer_map_at_the_layers_own_size():
    found = functional.layer_map((BETA, ALPHA), (2, 2))
    assert found.flatten().tolist() == [0.125, 0, 0.125, 1]


def test_counterfactual_at_the_layers_own_size():
    # One channel: the channel sums are the tensors themselves.
    found = functional.layer_map(functional.counterfactual(ALPHA, BETA), (2, 2))
    assert found.flatten().tolist() == [0, 0.75, 0, 0]


@pytest.mark.parametrize(
    ("align_corners", "expected"),
    [
        (
            False,
            [
                [0.1250, 0.1172, 0, 0],
                [0.1367, 0.1504, 0.1074, 0.0508],
                [0.1367, 0.2285, 0.4824, 0.6445],
                [0.125, 0.2734, 0.7109, 1],
            ],
        ),
        (
            True,
            [
                [0.125, 0.1042, 0, 0],
                [0.1389, 0.1667, 0.1667, 0.1389],
                [0.1389, 0.2431, 0.375, 0.5347],
                [0.125, 0.3333, 0.625, 1],
            ],
        ),
    ],
)
def test_layer_map_upsampled_in_space_and_time(align_corners, expected):
    beta, alpha = BETA[:, :, None], ALPHA[:, :, None]
    found = functional.layer_map((beta, alpha), (2, 4, 4), align_corners=align_corners)
    assert found.shape == (1, 1, 2, 4, 4)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(expected), atol=5e-5, rtol=0)
    torch.testing.assert_close(found[0, 0, 1], found[0, 0, 0])


def test_the_product_of_sums_is_neither_layer_cam_nor_hi_res_cam():
    beta, alpha = functional.global_local(A, G)
    assert (beta * alpha).flatten().tolist() == [8, 0]
    assert functional.layer_cam(A, G)[0].flatten().tolist() == [4, 1]
    assert (G * A).sum(1).flatten().tolist() == [4, -1]
    assert functional.hi_res_cam(A, G)[0].flatten().tolist() == [4, 0]


def test_relu_comes_after_upsampling():
    x = torch.tensor([[[-4.0, 2.0]]])
    after = functional.normalize(functional.upsample(x, (4,)))
    before = functional.normalize(functional.upsample(x.relu(), (4,)))
    assert after.flatten().tolist() == [0, 0, 0.25, 1]
    assert before.flatten().tolist() == [0, 0.25, 0.75, 1]


def test_half_precision_sums_do_not_overflow():
    x = torch.full((1, 512, 1), 1000.0, dtype=torch.float16)
    assert x.sum(1).isinf().all()
    total = functional.channel_sum(x)
    assert total.item() == 512_000
    assert total.dtype == torch.float32
    assert functional.channel_sum(x.double()).dtype == torch.float64


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_half_precision_rules_are_those_of_float32(rule):
    generator = torch.Generator().manual_seed(0)
    pair = [100 * torch.randn(1, 64, 5, 5, generator=generator).half() for _ in range(2)]
    (half,), (full,) = rule(*pair), rule(*(x.float() for x in pair))
    assert half.isfinite().all()
    torch.testing.assert_close(half, full)


def test_temporal_profile_is_the_mean_over_space():
    attribution = torch.arange(24.0).reshape(2, 1, 3, 2, 2)
    expected = [[attribution[n, 0, t].numpy().mean() for t in range(3)] for n in range(2)]
    assert functional.temporal_profile(attribution).tolist() == expected


# ------------------------------------------------------------------------------ re-derivation


@settings(max_examples=60)
@given(activations_and_gradients(), st.data())
def test_layer_map_equals_loops(pair, data):
    activation, gradient = pair
    rank = activation.ndim - 2
    size = tuple(data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank)))
    align_corners = data.draw(st.booleans())
    for rule, sign in ((functional.global_local, 1), (functional.counterfactual, -1)):
        found = functional.layer_map(rule(activation, gradient), size, align_corners=align_corners)
        expected = naive_layer_map(activation.numpy(), gradient.numpy(), size, sign, align_corners)
        assert found.shape == (len(activation), 1, *size)
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@settings(max_examples=40)
@given(activations_and_gradients())
def test_upsampling_commutes_with_the_channel_sum(pair):
    size = tuple(2 * s + 1 for s in pair[0].shape[2:])
    first = functional.upsample(functional.channel_sum(pair[0]), size)
    last = functional.channel_sum(functional.upsample(pair[0], size))
    torch.testing.assert_close(first, last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(5,), (1,), (3, 1), (4, 7), (2, 3, 5)])
def test_naive_pieces_are_torchs(size):
    """The oracle of the tests above, held against torch itself."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, *[3] * len(size), generator=generator)
    np.testing.assert_allclose(naive_channel_sum(x.numpy()), x.sum(1).numpy(), atol=1e-6)
    mode = functional.LINEAR_MODES[len(size)]
    for corners in (False, True):
        expected = torch.nn.functional.interpolate(x, size, mode=mode, align_corners=corners)
        found = naive_linear(x[0, 0].numpy(), size, corners)
        np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(*[st.integers(1, 6)] * 3),
    new=st.tuples(*[st.integers(1, 11)] * 3),
    corners=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_an_axis_after_the_other_is_trilinear(old, new, corners, dtype):
    generator = torch.Generator().manual_seed(sum(old))
    x = torch.randn(2, 3, *old, generator=generator, dtype=dtype)
    expected = torch.nn.functional.interpolate(x, new, mode="trilinear", align_corners=corners)
    before = x.clone()
    found = functional.upsample(x, new, align_corners=corners)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.dtype == dtype
    assert torch.equal(x, before)
    assert found.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_what_is_given_to_be_drawn_and_fused_is_not_written_to():
    generator = torch.Generator().manual_seed(0)
    for rank in (1, 2, 3):
        size = (3, 4, 5)[:rank]
        factors = tuple(torch.randn(2, 1, *size, generator=generator) for _ in range(2))
        maps = [torch.rand(2, 1, *size, generator=generator) for _ in range(3)]
        before = [each.clone() for each in (*factors, *maps)]
        functional.layer_map(factors, size)  # of the size that they have
        functional.normalize(factors[0])
        functional.what_where([functional.Effect(*factors)] * 2, size)
        for fusion in functional.FUSIONS:
            for count in (1, 3):
                fused = functional.fuse(maps[:count], count, fusion)
                assert fused is not maps[0]
        assert all(map(torch.equal, before, (*factors, *maps)))


def naive_rule(name, activation, gradient):
    """The published baselines, one sample, channel and place at a time."""
    found = np.zeros((activation.shape[0], *activation.shape[2:]))
    places = list(product(*(range(s) for s in activation.shape[2:])))
    for n, c in product(range(activation.shape[0]), range(activation.shape[1])):
        a, g = activation[n, c], gradient[n, c]
        total, weight = sum(a[p] for p in places), 0.0
        if name == "grad_cam":
            weight = sum(g[p] for p in places) / len(places)
        elif name == "x_grad_cam":
            weight = sum(g[p] * a[p] for p in places) / total if total else 0.0
        elif name == "grad_cam_plus_plus":
            for p in places:
                denominator = 2 * g[p] ** 2 + total * g[p] ** 3
                weight += g[p] ** 2 / denominator * max(g[p], 0) if denominator else 0.0
        for p in places:
            local = {"layer_cam": max(g[p], 0), "hi_res_cam": g[p]}
            found[(n, *p)] += a[p] * local.get(name, weight)
    return np.maximum(found, 0)[:, None]


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=30)
@given(pair=activations_and_gradients())
def test_baselines_equal_loops(name, pair):
    activation, gradient = (x.double() for x in pair)
    (found,) = RULES[name](activation, gradient)
    expected = naive_rule(name, activation.numpy(), gradient.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["grad_cam_plus_plus", "x_grad_cam"])
def test_a_zero_denominator_weighs_nothing(name):
    activation = torch.tensor([[[1.0, -1.0], [1.0, 3.0]]])  # channel 0 sums to zero
    gradient = torch.zeros(1, 2, 2) if name == "grad_cam_plus_plus" else torch.ones(1, 2, 2)
    (found,) = RULES[name](activation, gradient)
    expected = [0, 0] if name == "grad_cam_plus_plus" else [1, 3]
    assert found.flatten().tolist() == expected
    # 2 + G ΣA = 0 at G = -1/2, ΣA = 4
    (found,) = functional.grad_cam_plus_plus(torch.tensor([[[4.0]]]), torch.tensor([[[-0.5]]]))
    assert found.item() == 0


# -------------------------------------------------------------------------------- invariants


@settings(max_examples=60)
@given(activations_and_gradients())
def test_normalize_is_in_the_unit_interval_per_sample(pair):
    x = pair[0]
    found = functional.normalize(x)
    np.testing.assert_allclose(
        found.numpy(), np.stack([naive_normalize(s) for s in x.numpy()]), atol=1e-6
    )
    for sample, normalized in zip(x, found, strict=True):
        assert normalized.min() >= 0
        assert normalized.max() == (1 if sample.max() > 0 else 0)


@pytest.mark.parametrize("value", [0.0, -1.0, -1e-30])
def test_a_map_without_positive_values_is_zero(value):
    x = torch.tensor([[[value, value - 1]], [[3.0, 1.0]]])
    assert functional.normalize(x).tolist() == [[[0, 0]], [[1, pytest.approx(1 / 3)]]]


@settings(max_examples=40)
@given(activations_and_gradients(), st.floats(-6, 6), st.floats(-6, 6))
def test_positive_factors_change_nothing(pair, log_score, log_activation):
    activation, gradient = pair
    size = activation.shape[2:]
    plain = functional.layer_map(functional.global_local(activation, gradient), size)
    scaled = functional.global_local(
        activation * math.exp(log_activation), gradient * math.exp(log_score)
    )
    torch.testing.assert_close(functional.layer_map(scaled, size), plain, atol=1e-5, rtol=1e-4)


@settings(max_examples=40)
@given(activations_and_gradients())
def test_supports_of_the_map_and_its_counterfactual_are_disjoint(pair):
    size = tuple(2 * s for s in pair[0].shape[2:])
    both = [
        functional.layer_map(rule(*pair), size)
        for rule in (functional.global_local, functional.counterfactual)
    ]
    assert not (both[0] * both[1]).any()


# ------------------------------------------------------------------------------------ fusion

MAPS = [torch.tensor([[[0.25, 0.0, 1.0]]]), torch.tensor([[[1.0, 0.5, 0.5]]]), torch.ones(1, 1, 3)]
FUSED = {
    "sum": [2.25, 1.5, 2.5],
    "mean": [0.75, 0.5, 2.5 / 3],
    "max": [1, 1, 1],
    "product": [0.25, 0, 0.5],
    "geometric_mean": [0.25 ** (1 / 3), 0, 0.5 ** (1 / 3)],
}


@pytest.mark.parametrize("fusion", functional.FUSIONS)
def test_fusions(fusion):
    found = functional.fuse(iter(MAPS), 3, fusion)
    np.testing.assert_allclose(found.flatten().numpy(), FUSED[fusion], rtol=1e-6)


def test_a_geometric_mean_of_many_maps_does_not_underflow():
    maps = [torch.full((1, 1, 1), 0.1) for _ in range(100)]
    assert functional.fuse(maps, 100, "geometric_mean").item() == pytest.approx(0.1, rel=1e-4)


def test_a_callable_fuses_the_stacked_maps():
    found = functional.fuse(MAPS, 3, lambda stacked: stacked.median(dim=0).values)
    assert found.flatten().tolist() == [1, 0.5, 1]


@pytest.mark.parametrize("fusion", functional.FUSIONS)
def test_named_fusions_hold_two_maps_at_most(fusion):
    alive = weakref.WeakSet()

    def maps():
        for i in range(6):
            layer_map = torch.full((1, 1, 2), i / 6)
            alive.add(layer_map)
            yield layer_map
            del layer_map
            assert len(alive) <= 2, "earlier maps are still held when the next is made"

    functional.fuse(maps(), 6, fusion)


@pytest.mark.parametrize("result", [lambda m: m, lambda m: m[0, 0], lambda m: 3])
def test_a_callable_of_another_shape_is_refused(result):
    with pytest.raises(ValueError, match=r"takes the stacked maps \(3, 1, 1, 3\) and returns one"):
        functional.fuse(MAPS, 3, result)


def test_an_unknown_fusion_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="fusion='median' is not known. Choose one of 'sum', 'm"):
        functional.fuse(MAPS, 3, "median")


# ------------------------------------------------------------------------------------ errors


def test_fuse_expects_as_many_maps_as_their_count():
    for fusion in ("sum", "product", lambda stacked: stacked.sum(0)):
        for maps, count in (([], 1), (MAPS[:2], 3), (MAPS, 2), (iter(()), 2)):
            received = len(list(maps)) if isinstance(maps, (list, tuple)) else 0
            message = f"as many layer maps as count={count}; received {received}. Pass each map"
            with pytest.raises(ValueError, match=message):
                functional.fuse(maps, count, fusion)


def test_fuse_expects_maps_of_one_shape():
    with pytest.raises(ValueError, match=r"a map of \(1, 1, 3\) and one of \(1, 1, 4\). Resize"):
        functional.fuse([torch.zeros(1, 1, 3), torch.zeros(1, 1, 4)], 2)
    with pytest.raises(TypeError, match="layer_maps=3: expected a list or an iterator of tensors"):
        functional.fuse(3, 2)
    with pytest.raises(TypeError, match=r"layer_maps\[0\] as a tensor; got int"):
        functional.fuse([3], 1)


X = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    "function",
    [functional.channel_sum, functional.normalize, lambda x: functional.upsample(x, (2, 2))],
)
def test_tensors_are_floats_with_a_batch_and_channels(function):
    for x in (None, [1.0], X.numpy()):
        with pytest.raises(TypeError, match="Expected x as a tensor; got"):
            function(x)
    for x in (X.long(), X > 0):
        with pytest.raises(TypeError, match="Expected x of floating-point numbers; got torch"):
            function(x)
    for x in (X[0, 0, 0], X[:, :0], X[..., :0], torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"Expected x \(N, C, \*S\), none of them empty; rec"):
            function(x)


EVERY_RULE = [
    functional.global_local,
    functional.counterfactual,
    functional.grad_cam,
    functional.grad_cam_plus_plus,
    functional.x_grad_cam,
    functional.layer_cam,
    functional.hi_res_cam,
    functional.effect,
]


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_rules_take_an_activation_and_its_gradient(rule):
    with pytest.raises(TypeError, match="Expected gradient as a tensor; got NoneType"):
        rule(X, None)
    with pytest.raises(ValueError, match=r"of the same shape; received .* and shape \(2, 2, 4"):
        rule(X, X[:, :2])
    with pytest.raises(ValueError, match="with at least one spatial axis"):
        rule(X[..., 0, 0], X[..., 0, 0])


@pytest.mark.parametrize("size", [(0, 2), (2.0, 2), (True, 2), (None, 2), ("2", 2), ([2], 2)])
def test_sizes_are_positive_integers(size):
    for call in (
        lambda: functional.upsample(X, size),
        lambda: functional.layer_map((X[:, :1],), size),
        lambda: functional.what_where([functional.effect(X, X)], size),
        lambda: functional.coarsest_grid([size]),
    ):
        with pytest.raises(ValueError, match="expected a positive integer for each spatial axis"):
            call()
    with pytest.raises(TypeError, match=r"size=4: expected a list of integers"):
        functional.upsample(X, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.layer_map((), (2, 2)), "factors: expected at least one tensor"),
        (lambda: functional.layer_map((X, X[:1]), (2, 2)), "of the same N; received"),
        (lambda: functional.shared_layer_map([], (2, 2)), "calls: expected at least one call"),
        (lambda: functional.shared_layer_map([(X,), (X, X)], (2, 2)), "as many factors"),
        (
            lambda: functional.what_where([], (2, 2)),
            "effects: expected those of at least",
        ),
        (lambda: functional.coarsest_grid([]), "expected at least one size"),
        (lambda: functional.coarsest_grid([(2,), (2, 2)]), "all of as many spatial axes"),
        (lambda: functional.temporal_profile(X[:, :1, :0]), r"expects a map \(N, 1, T, \*S\)"),
        (lambda: functional.check_interpolation("bilinear", False, 0), "rank=0: expected an int"),
    ],
)
def test_collections_that_do_not_fit_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: functional.layer_map(X, (2, 2)),
            "factors=Tensor .*: expected a list of tensors",
        ),
        (lambda: functional.what_where([(X, X)], (2, 2)), r"expected Effect\(net, energy\)"),
        (lambda: functional.temporal_profile(None), "Expected attribution as a tensor"),
        (lambda: functional.check_interpolation(None, "yes"), "align_corners='yes': expected True"),
    ],
)
def test_arguments_of_another_type_raise(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 1, 2, 2), (4,)), ((1, 1), ()), ((1,) * 6, (2,) * 4)]
)
def test_upsample_says_which_sizes_do_not_fit(shape, size):
    with pytest.raises(ValueError, match="as many sizes as x has spatial axes, from 1 to 3"):
        functional.upsample(torch.zeros(shape), size)


def test_interpolation_modes_are_checked():
    assert functional.check_interpolation(None, True) is None
    assert functional.check_interpolation("nearest", False) == "nearest"
    with pytest.raises(ValueError, match="interpolate_mode='cubic' is not known"):
        functional.check_interpolation("cubic", False)
    with pytest.raises(ValueError, match="align_corners=True has no meaning for .*'nearest'"):
        functional.check_interpolation("nearest", True)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "bicubic", "bilinear"])
def test_other_modes_are_torchs(mode):
    x = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        functional.upsample(x, (7, 5), mode), torch.nn.functional.interpolate(x, (7, 5), mode=mode)
    )
