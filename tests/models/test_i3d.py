"""I3D: the order of its parts as published, and layers re-derived naively."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from backbones import naive_norm, outputs_of, seeded, shapes_of, shuffled_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_3dcam.models import load_checkpoint
from captum_3dcam.models.i3d import (
    I3D,
    I3DFlow,
    _MaxPool,
    _Mixed,
    _pad_same,
    _Unit,
    i3d,
    i3d_flow,
)

SIZE, KERNEL, STRIDE = st.integers(1, 40), st.integers(1, 7), st.integers(1, 3)


@given(size=SIZE, kernel=KERNEL, stride=STRIDE)
def test_same_padding_is_the_minimum_for_all_outputs(size, kernel, stride):
    outputs = math.ceil(size / stride)
    total = next(
        total for total in itertools.count() if (size + total - kernel) // stride + 1 >= outputs
    )
    padded = _pad_same(torch.ones(1, 1, 1, size, 1), (1, kernel, 1), (1, stride, 1))
    before = int(padded.flatten().argmax())
    after = padded.numel() - size - before
    assert padded.sum() == size
    assert before + after == total
    assert after - before in (0, 1)  # TensorFlow puts the odd one after


def naive_indices(size: int, kernel: int, stride: int) -> list[list[int]]:
    """For each output along an axis, the indices of the inputs under its kernel; None: padding."""
    before = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2
    starts = [i * stride - before for i in range(math.ceil(size / stride))]
    return [[j if 0 <= j < size else None for j in range(s, s + kernel)] for s in starts]


def naive_windows(x: torch.Tensor, kernel, stride):
    """Each output's position and the window (N, C, *kernel) of its inputs, with zeros outside."""
    axes = [naive_indices(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    for position in itertools.product(*(range(len(axis)) for axis in axes)):
        window = torch.zeros(*x.shape[:2], *kernel)
        lists = [axis[i] for axis, i in zip(axes, position, strict=True)]
        for corner in itertools.product(*map(range, kernel)):
            t, h, w = (chosen[i] for chosen, i in zip(lists, corner, strict=True))
            if None not in (t, h, w):
                window[(..., *corner)] = x[..., t, h, w]
        yield position, window


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=20)
@given(size=SIZES, kernel=st.sampled_from([1, 3, 7]), stride=st.sampled_from([1, 2]))
@torch.no_grad()
def test_a_unit_equals_the_naive_one(size, kernel, stride):
    torch.manual_seed(1)
    unit = shuffled_norms(_Unit(2, 3, kernel, stride))
    x = torch.randn(1, 2, *size)
    y = torch.full((1, 3, *(math.ceil(side / stride) for side in size)), math.nan)
    for position, window in naive_windows(x, (kernel,) * 3, (stride,) * 3):
        y[(..., *position)] = torch.einsum("nithw,oithw->no", window, unit.conv3d.weight)
    expected = naive_norm(y, unit.bn, 1e-3).clamp(min=0)
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-4)


POOLS = [
    ((1, 3, 3), (1, 2, 2)),
    ((3, 3, 3), (2, 2, 2)),
    ((2, 2, 2), (2, 2, 2)),
    ((3, 3, 3), (1, 1, 1)),
]


@settings(max_examples=20)
@given(size=SIZES, pool=st.sampled_from(POOLS))
def test_a_max_pool_equals_the_naive_one(size, pool):
    torch.manual_seed(1)
    kernel, stride = pool
    x = torch.randn(1, 2, *size)
    pooled = _MaxPool(kernel, stride)(x)
    assert pooled.shape[2:] == tuple(map(math.ceil, torch.tensor(size) / torch.tensor(stride)))
    for position, window in naive_windows(x, kernel, stride):
        assert torch.equal(pooled[(..., *position)], window.amax(dim=(2, 3, 4)))


@torch.no_grad()
def test_a_mixed_block_equals_the_naive_one():
    block = shuffled_norms(_Mixed(6, 2, 3, 4, 5, 6, 7))
    x = torch.rand(1, 6, 3, 5, 4)

    def unit(name, x, padding):
        one = getattr(block, name)
        y = F.conv3d(F.pad(x, (padding,) * 6), one.conv3d.weight)
        return naive_norm(y, one.bn, 1e-3).clamp(min=0)

    pooled = F.max_pool3d(F.pad(x, (1,) * 6), 3, 1)
    branches = [
        unit("b0", x, 0),
        unit("b1b", unit("b1a", x, 0), 1),
        unit("b2b", unit("b2a", x, 0), 1),
        unit("b3b", pooled, 0),
    ]
    assert [branch.shape[1] for branch in branches] == [2, 4, 6, 7]
    torch.testing.assert_close(block(x), torch.cat(branches, 1), rtol=1e-4, atol=1e-4)


def test_the_parts_run_in_the_order_of_the_paper(inception):
    order, hooks = [], []
    for name, module in inception.named_children():
        hooks.append(module.register_forward_hook(lambda *_, name=name: order.append(name)))
    with torch.no_grad():
        inception(torch.rand(1, 3, 8, 32, 32))
    for hook in hooks:
        hook.remove()
    assert order == [
        "Conv3d_1a_7x7",
        "MaxPool3d_2a_3x3",
        "Conv3d_2b_1x1",
        "Conv3d_2c_3x3",
        "MaxPool3d_3a_3x3",
        "Mixed_3b",
        "Mixed_3c",
        "MaxPool3d_4a_3x3",
        "Mixed_4b",
        "Mixed_4c",
        "Mixed_4d",
        "Mixed_4e",
        "Mixed_4f",
        "MaxPool3d_5a_2x2",
        "Mixed_5b",
        "Mixed_5c",
        "dropout",
        "logits",
    ]


def test_sizes_are_halved_as_in_the_paper_and_rounded_up(inception):
    halved = ["Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "MaxPool3d_3a_3x3", "MaxPool3d_4a_3x3"]
    halved += ["MaxPool3d_5a_2x2"]
    outputs = outputs_of(inception, halved, torch.rand(1, 3, 11, 45, 70))
    shapes = [tuple(outputs[name][0].shape[2:]) for name in halved]
    assert shapes == [(6, 23, 35), (6, 12, 18), (6, 6, 9), (3, 3, 5), (2, 2, 3)]


@pytest.mark.parametrize("frames", [1, 8, 9, 16, 17, 24, 33])
@torch.no_grad()
def test_the_logits_are_averaged_over_time(inception, frames):
    x = torch.rand(2, 3, frames, 40, 33)
    features = outputs_of(inception, ["Mixed_5c"], x)["Mixed_5c"][0]
    steps = math.ceil(frames / 8)
    assert features.shape == (2, 1024, steps, 2, 2)
    weight, bias = inception.logits.conv3d.weight[:, :, 0, 0, 0], inception.logits.conv3d.bias
    windows = [features[:, :, t : t + 2] for t in range(max(steps - 1, 1))]
    expected = torch.stack([w.mean(dim=(2, 3, 4)) @ weight.T + bias for w in windows], dim=2)
    torch.testing.assert_close(inception.time_logits(x), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inception(x), expected.mean(2), rtol=1e-3, atol=1e-3)


def test_dropout_applies_to_the_features_in_training_only():
    x = torch.rand(2, 3, 8, 64, 64)
    with torch.no_grad():
        dropping, keeping = (seeded(I3D, 4, dropout=p) for p in (1.0, 0.0))
        bias = dropping.logits.conv3d.bias
        torch.testing.assert_close(dropping(x), bias.expand(2, 4))
        assert not torch.allclose(keeping(x), bias.expand(2, 4))
        torch.testing.assert_close(dropping.eval()(x), keeping.eval()(x))
    assert i3d().dropout.p == 0.5


def test_the_momentum_of_batch_normalisation():
    unit = _Unit(2, 3, kernel=1)
    x = torch.randn(4, 2, 3, 4, 5)
    unit(x)
    mean = torch.einsum("nithw,oi->o", x, unit.conv3d.weight[:, :, 0, 0, 0]) / (4 * 3 * 4 * 5)
    torch.testing.assert_close(unit.bn.running_mean, 0.01 * mean.detach())
    norms = [module for module in i3d().modules() if isinstance(module, nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


# ---------------------------------------------------------------------------------- flow stream


def test_the_flow_stream_has_the_names_of_rgb_and_two_channels(inception):
    flow = seeded(i3d_flow)
    expected = shapes_of(inception)
    expected["Conv3d_1a_7x7.conv3d.weight"] = [64, 2, 7, 7, 7]
    assert shapes_of(flow) == expected
    assert sum(parameter.numel() for parameter in flow.parameters()) == 12_675_312
    assert (flow.LAYERS, flow.dropout.p) == (I3D.LAYERS, 0.5)


@torch.no_grad()
def test_the_flow_stream_is_the_same_network_after_its_first_convolution(inception):
    flow = seeded(i3d_flow).eval()
    state = flow.state_dict() | {
        name: tensor
        for name, tensor in inception.state_dict().items()
        if name != "Conv3d_1a_7x7.conv3d.weight"
    }
    flow.load_state_dict(state)
    inception_of_two = I3D(in_channels=2).eval()
    inception_of_two.load_state_dict(state)
    x = torch.rand(1, 2, 8, 32, 32)
    assert torch.equal(flow(x), inception_of_two(x))


def test_a_checkpoint_of_rgb_is_not_one_of_flow(tmp_path, inception):
    torch.save(inception.state_dict(), tmp_path / "rgb_imagenet.pt")
    with pytest.raises(ValueError, match=r"Conv3d_1a_7x7.conv3d.weight \(expected \(64, 2, 7, 7"):
        load_checkpoint(tmp_path / "rgb_imagenet.pt", i3d_flow())


def test_the_preprocessing_of_the_flow_stream():
    flow = torch.tensor([15.0, -30.0])[:, None, None, None].expand(2, 4, 224, 224)
    prepared = I3DFlow.PREPROCESSING(flow)
    assert prepared[:, 0, 0, 0].tolist() == [0.75, -1.0]
    assert I3DFlow.PREPROCESSING.size == I3D.PREPROCESSING.size
