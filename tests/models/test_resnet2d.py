"""2D ResNet-50: torchvision's names and shapes, and layers re-derived naively.

tests/zoo/test_resnet50.py compares it with those of torchvision and timm.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from backbones import naive_norm, outputs_of, seeded, shapes_of, shuffled_norms
from torch import nn

from captum_3dcam import GlobalLocalCAM2D
from captum_3dcam.models import PRESETS, ResNet, load_checkpoint, resnet50
from captum_3dcam.models._bottleneck import Bottleneck


@pytest.fixture(scope="module")
def full():
    return seeded(resnet50).eval()


@pytest.fixture(scope="module")
def small():
    return seeded(ResNet, (1, 2, 1, 1), num_classes=7).eval()


def published_shapes() -> dict[str, list[int]]:
    """Those of torchvision's resnet50 files, which have no num_batches_tracked in old versions."""
    shapes = {"conv1.weight": [64, 3, 7, 7], "fc.weight": [1000, 2048], "fc.bias": [1000]}

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = [channels]
        shapes[f"{name}.num_batches_tracked"] = []

    norm("bn1", 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), 1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            convolutions = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for number, (outputs, from_, side) in enumerate(convolutions, 1):
                shapes[f"{prefix}.conv{number}.weight"] = [outputs, from_, side, side]
                norm(f"{prefix}.bn{number}", outputs)
            if block == 0:
                shapes[f"{prefix}.downsample.0.weight"] = [4 * width, inputs, 1, 1]
                norm(f"{prefix}.downsample.1", 4 * width)
            inputs = 4 * width
    return shapes


def test_names_and_shapes_are_those_of_torchvisions_weights(full):
    published = published_shapes()
    assert shapes_of(full) == published
    assert len(list(full.parameters())) == 161
    assert len(published) == 320
    assert sum("num_batches_tracked" not in name for name in published) == 267
    assert sum(parameter.numel() for parameter in full.parameters()) == 25_557_032


@pytest.mark.parametrize("with_counters", [True, False])
def test_the_public_file_loads(full, tmp_path, with_counters):
    """As torchvision's file is: a bare state dict; the first versions had no counters."""
    state = {
        name: tensor
        for name, tensor in full.state_dict().items()
        if with_counters or "num_batches_tracked" not in name
    }
    torch.save(state, tmp_path / "resnet50-0676ba61.pth")
    loaded = load_checkpoint(tmp_path / "resnet50-0676ba61.pth", resnet50())
    assert torch.equal(loaded.fc.weight, full.fc.weight)
    other = load_checkpoint(tmp_path / "resnet50-0676ba61.pth", resnet50(5), skip="fc")
    assert torch.equal(other.layer4[2].conv3.weight, full.layer4[2].conv3.weight)


def test_the_sizes_of_the_layers(full):
    outputs = outputs_of(full, full.LAYERS.values(), torch.rand(1, 3, 224, 224))
    shapes = {paper: tuple(outputs[own][0].shape[1:]) for paper, own in full.LAYERS.items()}
    assert shapes == {
        "conv": (64, 112, 112),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
    }
    assert all(len(calls) == 1 for calls in outputs.values())


def naive_bottleneck(block: Bottleneck, x: torch.Tensor, stride: int) -> torch.Tensor:
    y = torch.einsum("nihw,oi->nohw", x, block.conv1.weight[:, :, 0, 0])
    y = naive_norm(y, block.bn1, 1e-5).clamp(min=0)
    y = F.conv2d(F.pad(y, (1,) * 4), block.conv2.weight, stride=stride)
    y = naive_norm(y, block.bn2, 1e-5).clamp(min=0)
    y = torch.einsum("nihw,oi->nohw", y, block.conv3.weight[:, :, 0, 0])
    y = naive_norm(y, block.bn3, 1e-5)
    if isinstance(block.downsample, nn.Sequential):
        convolution, norm = block.downsample
        x = torch.einsum(
            "nihw,oi->nohw", x[:, :, ::stride, ::stride], convolution.weight[..., 0, 0]
        )
        x = naive_norm(x, norm, 1e-5)
    return (x + y).clamp(min=0)


@pytest.mark.parametrize(("inputs", "stride"), [(64, 1), (64, 2), (24, 1), (24, 2)])
@torch.no_grad()
def test_a_bottleneck_equals_the_naive_one(inputs, stride):
    block = shuffled_norms(Bottleneck(ResNet._design, inputs, width=16, stride=stride))
    assert isinstance(block.downsample, nn.Identity) == ((inputs, stride) == (64, 1))
    x = torch.randn(2, inputs, 7, 6)
    torch.testing.assert_close(block(x), naive_bottleneck(block, x, stride), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resnet_equals_the_naive_one(small):
    x = torch.randn(2, 3, 45, 38)
    y = F.conv2d(F.pad(x, (3,) * 4), small.conv1.weight, stride=2)
    y = naive_norm(y, small.bn1, 1e-5).clamp(min=0)
    y = F.max_pool2d(F.pad(y, (1,) * 4, value=-math.inf), 3, 2)
    stages = [(small.layer1, 1), (small.layer2, 2), (small.layer3, 2), (small.layer4, 2)]
    for stage, stride in stages:
        for number, block in enumerate(stage):
            y = naive_bottleneck(block, y, 1 if number else stride)
    expected = y.mean(dim=(2, 3)) @ small.fc.weight.T + small.fc.bias
    torch.testing.assert_close(small(x), expected, rtol=1e-3, atol=1e-3)


def test_the_layers_are_fused_to_one_map(small):
    image = ResNet.PREPROCESSING(torch.rand(3, 50, 70))[None, :, :64, :64]
    heat = GlobalLocalCAM2D(small, list(small.LAYERS.values())).attribute(image)
    assert heat.shape == (1, 1, 64, 64)
    assert heat.any()


def test_the_mean_and_deviation_are_torchvisions():
    preset = PRESETS["imagenet"]
    assert (ResNet.PREPROCESSING.mean, ResNet.PREPROCESSING.std) == (preset.mean, preset.std)


@pytest.mark.parametrize("classes", [1, 101])
@torch.no_grad()
def test_any_number_of_classes_channels_and_pixels(classes):
    model = ResNet((1, 1, 1, 1), classes, in_channels=1).eval()
    for size in ((1, 1), (17, 31), (224, 8)):
        assert model(torch.rand(2, 1, *size)).shape == (2, classes)


@pytest.mark.parametrize("blocks", [(3, 4, 23), (3, 4, 23, 3, 1), (3, 0, 23, 3)])
def test_other_than_four_stages_are_refused(blocks):
    with pytest.raises(ValueError) as error:
        ResNet(blocks)
    assert str(error.value) == (
        f"blocks={blocks!r}: expected four numbers of blocks, each 1 or more, e.g. (3, 4, 6, 3)."
    )
