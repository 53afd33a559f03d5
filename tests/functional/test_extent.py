"""The extent of what decides: from its formula, by hand, and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    conv_net,
    naive_effects,
    naive_pairs,
    naive_pooled,
    naive_where,
    positive,
    random_input,
)
from torch import nn
from torch.testing import assert_close

from captum_3dcam import functional
from captum_3dcam.attribution import ExtentCAM, LayerwiseWhatWhereCAM
from captum_3dcam.functional import Effect, effect_for, extent


def naive_extent(pairs, size):
    """Of one sample: [(C, *S_k) activation and gradient] -> (*size)."""
    nets, energies = naive_effects(pairs, positive)
    what = np.zeros(size)
    for signed in naive_pooled(nets, size):
        peak = abs(signed).max()
        what += (1 + (signed / peak if peak > 0 else 0)) / 2 / len(nets)
    return what * naive_where(energies, size)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_agrees_with_its_naive_derivation(rank, depth, seed):
    net = conv_net(rank, depth, seed=seed).double()
    x = random_input(2, (7, 6, 5)[:rank], seed=seed).double()
    layers = list(range(depth))
    pairs = naive_pairs(net, x, layers, [2, 2])
    found = ExtentCAM(net, [str(layer) for layer in layers]).attribute(x, target=2)
    for i, sample in enumerate(found[:, 0].numpy()):
        expected = naive_extent([(a[i], g[i]) for a, g in pairs], tuple(x.shape[2:]))
        np.testing.assert_allclose(sample, expected, rtol=1e-6, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


def test_what_is_a_half_where_nothing_speaks_for_or_against():
    net, energy = torch.tensor([[[2.0, 0.0, -1.0]]]), torch.ones(1, 1, 3)
    assert_close(extent([Effect(net, energy)], (3,)), torch.tensor([[[1.0, 0.5, 0.25]]]))
    both = extent([Effect(net, energy), Effect(-net, energy)], (3,))
    assert_close(both, torch.tensor([[[0.5, 0.5, 0.5]]]))


def test_without_anything_for_the_score_there_is_no_map():
    zeros = torch.zeros(1, 1, 4)
    assert not extent([Effect(zeros, zeros)], (4,)).any()
    assert not extent([Effect(-torch.ones(1, 1, 4), zeros)] * 2, (4,)).any()
    one = extent([Effect(zeros, zeros), Effect(torch.ones(1, 1, 4), torch.ones(1, 1, 4))], (4,))
    assert_close(one, torch.full((1, 1, 4), 0.75))


def test_energy_against_the_score_does_not_count():
    activation = torch.tensor([[[3.0, 3.0, 3.0, 0.0]]])  # an object over most of the layer
    gradient = torch.ones_like(activation)
    energy = effect_for(activation, gradient).energy[0, 0]
    assert energy[0] > energy[3]
    with_signs = functional.effect(activation, gradient).energy[0, 0]
    assert with_signs[0] < with_signs[3]


def test_a_large_region_is_covered():
    """Over three quarters of the image, whose mean is nearly that of the region."""
    first = nn.Conv2d(1, 1, 1)
    nn.init.ones_(first.weight)
    nn.init.zeros_(first.bias)
    net = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torch.zeros(1, 1, 16, 16)
    x[..., :12] = 1.0
    attribution = ExtentCAM(net, "1").attribute(x)[0, 0]
    assert_close(attribution[:, :11], torch.full((16, 11), 2 / 3))  # (1 + 0.25 / 0.75) / 2
    assert attribution[:, 13:].max() < 1e-6
    by_all_energy = LayerwiseWhatWhereCAM(net, "1").attribute(x)[0, 0]
    assert_close(by_all_energy[:, :11], torch.full((16, 11), 1 / 9))  # 0.25² / 0.75²


SHALLOW = conv_net(2, depth=2, seed=4), random_input(2, (9, 8), seed=4)


def test_layers_and_order_and_scale():
    net, x = SHALLOW
    cam = ExtentCAM(net, ["0", "1"])
    fused = cam.attribute(x, target=1)
    assert_close(ExtentCAM(net, ["1", "0"]).attribute(x, target=1), fused, rtol=1e-4, atol=1e-5)
    scaled = cam.attribute(x, target=lambda scores: 1e3 * scores[:, 1])
    assert_close(scaled, fused, rtol=1e-4, atol=1e-5)
    for name, layer_map in zip(["0", "1"], cam.attribute(x, 1, per_layer=True), strict=True):
        assert_close(layer_map, ExtentCAM(net, name).attribute(x, 1))
    assert not torch.allclose(fused, LayerwiseWhatWhereCAM(net, ["0", "1"]).attribute(x, 1))


def test_it_can_be_differentiated():
    net, x = SHALLOW
    x = x.clone().requires_grad_()
    ExtentCAM(net, ["0", "1"]).attribute(x, target=1, create_graph=True).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()


def test_what_a_bias_can_hold_is_not_seen():
    activation, gradient = torch.randn(2, 1, 4, 6, 5, dtype=torch.float64)
    plain, shifted = (effect_for(activation + by, gradient) for by in (0.0, 7.0))
    assert_close(plain, shifted)


def test_errors():
    with pytest.raises(TypeError, match=r"expected Effect\(net, energy\)"):
        extent([(torch.ones(1, 1, 3), torch.ones(1, 1, 3))], (3,))
    with pytest.raises(ValueError, match="same shape"):
        effect_for(torch.ones(1, 1, 3), torch.ones(1, 1, 4))
    with pytest.raises(TypeError, match="fusion"):
        ExtentCAM(SHALLOW[0], "0", fusion="sum")
