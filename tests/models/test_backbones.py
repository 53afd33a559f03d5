"""The paper's networks: names, shapes and counts as published, layers re-derived by hand."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.models.i3d import I3D, _MaxPool, _Mixed, _Unit, i3d, same_padding
from captum_3dcam.models.resnext3d import (
    ResNeXt3D,
    _Bottleneck,
    resnext50_3d,
    resnext101_3d,
)

FACTS = Path(__file__).parents[3] / "shared" / "facts"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(make, *arguments, **keywords):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*arguments, **keywords)


@pytest.fixture(scope="module")
def resnext() -> ResNeXt3D:
    return seeded(resnext101_3d).eval()


@pytest.fixture(scope="module")
def inception() -> I3D:
    return seeded(i3d).eval()


@pytest.fixture(scope="module")
def small() -> ResNeXt3D:
    return seeded(ResNeXt3D, (1, 2, 1, 1), num_classes=7).eval()


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def outputs_of(model: nn.Module, names, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What each named module gave, in the order of its calls, in one forward pass."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _, __, y, name=name: found[name].append(y))
        for name in names
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def shuffled_norms(module: nn.Module) -> nn.Module:
    """In eval mode, with batch norms that do something."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm3d):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_()
    return module.eval()


def naive_norm(x: torch.Tensor, norm: nn.BatchNorm3d, eps: float) -> torch.Tensor:
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        centred = (x[:, c] - norm.running_mean[c]) / math.sqrt(norm.running_var[c] + eps)
        out[:, c] = centred * norm.weight[c] + norm.bias[c]
    return out


# -------------------------------------------------------------------------- names and shapes


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnext", "resnext101_3d_kinetics400_state_dict.json"),
        ("inception", "i3d_rgb_kinetics400_state_dict.json"),
    ],
)
def test_names_and_shapes_are_those_of_the_public_checkpoints(name, file, request):
    if not (FACTS / file).is_file():
        pytest.skip("needs the names of the public checkpoints")
    published = json.loads((FACTS / file).read_text(encoding="utf-8"))["state_dict"]
    assert shapes_of(request.getfixturevalue(name)) == published


@pytest.mark.parametrize(("name", "count"), [("resnext", 48_340_816), ("inception", 12_697_264)])
def test_the_number_of_parameters(name, count, request):
    model = request.getfixturevalue(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("make", "blocks"), [(resnext101_3d, [3, 4, 23, 3]), (resnext50_3d, [3, 4, 6, 3])]
)
def test_the_number_of_blocks(make, blocks):
    model = make(num_classes=5)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    assert [len(stage) for stage in stages] == blocks
    for stage in stages:
        projected = [not isinstance(block.downsample, nn.Identity) for block in stage]
        assert projected == [True] + [False] * (len(stage) - 1)
    assert model.fc.out_features == 5


def test_a_resnext_101_and_50_differ_in_the_third_stage_alone(resnext):
    shorter = shapes_of(resnext50_3d())
    longer = shapes_of(resnext)
    assert shorter.items() < longer.items()
    more = {name.rpartition(".conv")[0] for name in longer.keys() - shorter if ".conv" in name}
    assert more == {f"layer3.{block}" for block in range(6, 23)}


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        (
            "resnext",
            (16, 112, 112),
            {
                "conv": (64, 16, 56, 56),
                "layer1": (256, 8, 28, 28),
                "layer2": (512, 4, 14, 14),
                "layer3": (1024, 2, 7, 7),
                "layer4": (2048, 1, 4, 4),
            },
        ),
        (
            "inception",
            (16, 224, 224),
            {
                "layer1": (480, 8, 28, 28),
                "layer2": (832, 4, 14, 14),
                "layer3": (1024, 2, 7, 7),
            },
        ),
    ],
)
def test_the_papers_layers_run_once_and_have_its_shapes(name, size, expected, request):
    model = request.getfixturevalue(name)
    assert list(model.LAYERS) == list(expected)
    assert model.PREPROCESSING.size == size[1:]
    found = outputs_of(model, model.LAYERS.values(), torch.rand(1, 3, *size))
    calls = Counter({layer: len(outputs) for layer, outputs in found.items()})
    assert set(calls.values()) == {1}
    shapes = {paper: tuple(found[own][0].shape[1:]) for paper, own in model.LAYERS.items()}
    assert shapes == expected


def test_the_stem_is_captured_after_its_relu(small):
    x = torch.randn(1, 3, 4, 16, 16)
    stem = small.LAYERS["conv"]
    found = outputs_of(small, ["bn1", stem, "maxpool"], x)
    assert torch.equal(found[stem][0], found["bn1"][0].clamp(min=0))
    assert (found["bn1"][0] < 0).any()
    assert found["maxpool"][0].shape == (1, 64, 2, 4, 4)


@pytest.mark.parametrize("make", [lambda: ResNeXt3D((1, 1, 1, 1), 6), lambda: I3D(6)])
def test_all_layers_of_the_paper_make_one_map(make):
    model = seeded(make).eval()
    clip = model.PREPROCESSING(torch.rand(3, 8, 20, 20))[None, :, :, :64, :64]
    cam = GlobalLocalCAM3D(model, layers=list(model.LAYERS.values()))
    attribution = cam.attribute(clip)
    assert attribution.shape == (1, 1, 8, 64, 64)
    assert attribution.max() > attribution.min() >= 0


# -------------------------------------------------------------------------- layers by hand


def naive_bottleneck(block: _Bottleneck, x: torch.Tensor, stride: int) -> torch.Tensor:
    y = naive_norm(
        torch.einsum("nithw,oi->nothw", x, block.conv1.weight[:, :, 0, 0, 0]), block.bn1, 1e-5
    ).clamp(min=0)
    width = y.shape[1] // 32
    groups = []
    for group in range(32):
        own = slice(group * width, (group + 1) * width)
        padded = F.pad(y[:, own], (1,) * 6)
        groups.append(F.conv3d(padded, block.conv2.weight[own], stride=stride))
    y = naive_norm(torch.cat(groups, 1), block.bn2, 1e-5).clamp(min=0)
    y = torch.einsum("nithw,oi->nothw", y, block.conv3.weight[:, :, 0, 0, 0])
    y = naive_norm(y, block.bn3, 1e-5)
    if isinstance(block.downsample, nn.Sequential):
        convolution, norm = block.downsample
        strided = x[:, :, ::stride, ::stride, ::stride]
        x = torch.einsum("nithw,oi->nothw", strided, convolution.weight[:, :, 0, 0, 0])
        x = naive_norm(x, norm, 1e-5)
    return (x + y).clamp(min=0)


@pytest.mark.parametrize(("inputs", "stride"), [(128, 1), (128, 2), (48, 1), (48, 2)])
@torch.no_grad()
def test_a_bottleneck_by_hand(inputs, stride):
    block = shuffled_norms(_Bottleneck(inputs, width=64, stride=stride))
    assert isinstance(block.downsample, nn.Identity) == ((inputs, stride) == (128, 1))
    x = torch.randn(2, inputs, 3, 5, 4)
    torch.testing.assert_close(block(x), naive_bottleneck(block, x, stride), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resnext_by_hand(small):
    x = torch.randn(2, 3, 5, 33, 20)
    y = F.conv3d(F.pad(x, (3,) * 6), small.conv1.weight, stride=(1, 2, 2))
    y = naive_norm(y, small.bn1, 1e-5).clamp(min=0)
    y = F.max_pool3d(F.pad(y, (1,) * 6, value=-math.inf), 3, 2)
    for stage, stride in (
        (small.layer1, 1),
        (small.layer2, 2),
        (small.layer3, 2),
        (small.layer4, 2),
    ):
        for number, block in enumerate(stage):
            y = naive_bottleneck(block, y, 1 if number else stride)
    expected = y.mean(dim=(2, 3, 4)) @ small.fc.weight.T + small.fc.bias
    torch.testing.assert_close(small(x), expected, rtol=1e-3, atol=1e-3)


SIZE, KERNEL, STRIDE = st.integers(1, 40), st.integers(1, 7), st.integers(1, 3)


@given(size=SIZE, kernel=KERNEL, stride=STRIDE)
def test_same_padding_is_the_least_that_gives_every_stride_a_place(size, kernel, stride):
    places = math.ceil(size / stride)
    total = next(
        total for total in itertools.count() if (size + total - kernel) // stride + 1 >= places
    )
    before, after = same_padding(size, kernel, stride)
    assert before + after == total
    assert after - before in (0, 1)  # TensorFlow puts the odd one after


def naive_places(size: int, kernel: int, stride: int) -> list[list[int]]:
    """For each output along an axis, the inputs that its kernel lies on; None is padding."""
    before = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2
    starts = [i * stride - before for i in range(math.ceil(size / stride))]
    return [[j if 0 <= j < size else None for j in range(s, s + kernel)] for s in starts]


def naive_windows(x: torch.Tensor, kernel, stride):
    """Each output's place and the window (N, C, *kernel) under it, with zeros outside."""
    axes = [naive_places(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    for place in itertools.product(*(range(len(axis)) for axis in axes)):
        window = torch.zeros(*x.shape[:2], *kernel)
        lists = [axis[i] for axis, i in zip(axes, place, strict=True)]
        for corner in itertools.product(*map(range, kernel)):
            t, h, w = (chosen[i] for chosen, i in zip(lists, corner, strict=True))
            if None not in (t, h, w):
                window[(..., *corner)] = x[..., t, h, w]
        yield place, window


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=20)
@given(size=SIZES, kernel=st.sampled_from([1, 3, 7]), stride=st.sampled_from([1, 2]))
@torch.no_grad()
def test_a_unit_by_hand(size, kernel, stride):
    torch.manual_seed(1)
    unit = shuffled_norms(_Unit(2, 3, kernel, stride))
    x = torch.randn(1, 2, *size)
    y = torch.full((1, 3, *(math.ceil(side / stride) for side in size)), math.nan)
    for place, window in naive_windows(x, (kernel,) * 3, (stride,) * 3):
        y[(..., *place)] = torch.einsum("nithw,oithw->no", window, unit.conv3d.weight)
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
def test_a_max_pool_by_hand(size, pool):
    torch.manual_seed(1)
    kernel, stride = pool
    x = torch.randn(1, 2, *size)
    found = _MaxPool(kernel, stride)(x)
    assert found.shape[2:] == tuple(map(math.ceil, torch.tensor(size) / torch.tensor(stride)))
    for place, window in naive_windows(x, kernel, stride):
        assert torch.equal(found[(..., *place)], window.amax(dim=(2, 3, 4)))


@torch.no_grad()
def test_a_mixed_block_by_hand():
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


def test_i3d_runs_its_parts_in_the_order_of_the_paper(inception):
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


def test_i3d_halves_where_the_paper_does(inception):
    """Odd sizes are rounded up."""
    halved = ["Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "MaxPool3d_3a_3x3", "MaxPool3d_4a_3x3"]
    halved += ["MaxPool3d_5a_2x2"]
    found = outputs_of(inception, halved, torch.rand(1, 3, 11, 45, 70))
    shapes = [tuple(found[name][0].shape[2:]) for name in halved]
    assert shapes == [(6, 23, 35), (6, 12, 18), (6, 6, 9), (3, 3, 5), (2, 2, 3)]


# ---------------------------------------------------------------------------------- over time


@pytest.mark.parametrize("frames", [1, 8, 9, 16, 17, 24, 33])
@torch.no_grad()
def test_i3ds_logits_are_averaged_over_time(inception, frames):
    x = torch.rand(2, 3, frames, 40, 33)
    features = outputs_of(inception, ["Mixed_5c"], x)["Mixed_5c"][0]
    steps = math.ceil(frames / 8)
    assert features.shape == (2, 1024, steps, 2, 2)
    weight, bias = inception.logits.conv3d.weight[:, :, 0, 0, 0], inception.logits.conv3d.bias
    windows = [features[:, :, t : t + 2] for t in range(max(steps - 1, 1))]
    expected = torch.stack([w.mean(dim=(2, 3, 4)) @ weight.T + bias for w in windows], dim=2)
    torch.testing.assert_close(inception.time_logits(x), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inception(x), expected.mean(2), rtol=1e-3, atol=1e-3)


def test_dropout_is_of_the_features_and_in_training_alone():
    x = torch.rand(2, 3, 8, 64, 64)
    with torch.no_grad():
        dropping, keeping = (seeded(I3D, 4, dropout=p) for p in (1.0, 0.0))
        bias = dropping.logits.conv3d.bias
        torch.testing.assert_close(dropping(x), bias.expand(2, 4))
        assert not torch.allclose(keeping(x), bias.expand(2, 4))
        torch.testing.assert_close(dropping.eval()(x), keeping.eval()(x))
    assert i3d().dropout.p == 0.5


# ---------------------------------------------------------------------- any size and number


@pytest.mark.parametrize("make", [lambda **k: ResNeXt3D((1, 1, 1, 1), **k), lambda **k: I3D(**k)])
@pytest.mark.parametrize("classes", [1, 101])
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_any_number_of_classes_channels_and_pixels(make, classes, channels):
    model = make(num_classes=classes, in_channels=channels).eval()
    for size in ((1, 1, 1), (2, 17, 31), (9, 32, 8), (16, 5, 3)):
        logits = model(torch.rand(2, channels, *size))
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["small", "inception"])
@torch.no_grad()
def test_a_batch_is_its_samples(name, request):
    model = request.getfixturevalue(name)
    x = torch.rand(3, 3, 8, 32, 32)
    alone = torch.cat([model(one) for one in x.split(1)])
    torch.testing.assert_close(model(x), alone, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------- in training


def test_i3ds_batch_norm_learns_slowly():
    unit = _Unit(2, 3, kernel=1)
    x = torch.randn(4, 2, 3, 4, 5)
    unit(x)
    mean = torch.einsum("nithw,oi->o", x, unit.conv3d.weight[:, :, 0, 0, 0]) / (4 * 3 * 4 * 5)
    torch.testing.assert_close(unit.bn.running_mean, 0.01 * mean.detach())
    norms = [module for module in i3d().modules() if isinstance(module, nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


@pytest.mark.parametrize("name", ["resnext", "inception"])
def test_random_convolutions_are_hes(name, request):
    """He et al., arXiv 1502.01852: a variance of 2 by the number of outputs that one input has."""
    checked = 0
    for convolution in request.getfixturevalue(name).modules():
        if isinstance(convolution, nn.Conv3d) and convolution.weight.numel() > 20_000:
            weight = convolution.weight
            expected = math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))
            assert weight.std().item() == pytest.approx(expected, rel=0.03)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("make", [lambda: ResNeXt3D((1, 1, 1, 1), 5), lambda: I3D(5)])
def test_every_parameter_is_trained(make):
    model = make()
    logits = model(torch.randn(2, 3, 16, 64, 64))
    F.cross_entropy(logits, torch.tensor([1, 3])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("blocks", [(3, 4, 23), (3, 4, 23, 3, 1), (3, 0, 23, 3)])
def test_other_than_four_stages_are_refused(blocks):
    with pytest.raises(ValueError) as error:
        ResNeXt3D(blocks)
    assert str(error.value) == (
        f"blocks={blocks!r}: expected the number of blocks, 1 or more, of each of the four "
        "stages, e.g. (3, 4, 23, 3)."
    )
