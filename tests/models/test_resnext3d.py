"""3D ResNeXt: blocks as published, and layers re-derived naively."""

import math

import pytest
import torch
import torch.nn.functional as F
from backbones import naive_norm, outputs_of, shapes_of, shuffled_norms
from torch import nn

from captum_3dcam.models._bottleneck import Bottleneck
from captum_3dcam.models.resnext3d import ResNeXt3D, resnext50_3d, resnext101_3d


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


def test_resnext_101_and_50_differ_only_in_the_third_stage(resnext):
    shorter = shapes_of(resnext50_3d())
    longer = shapes_of(resnext)
    assert shorter.items() < longer.items()
    more = {name.rpartition(".conv")[0] for name in longer.keys() - shorter if ".conv" in name}
    assert more == {f"layer3.{block}" for block in range(6, 23)}


def test_the_stem_is_captured_after_its_relu(small):
    x = torch.randn(1, 3, 4, 16, 16)
    stem = small.LAYERS["conv"]
    outputs = outputs_of(small, ["bn1", stem, "maxpool"], x)
    assert torch.equal(outputs[stem][0], outputs["bn1"][0].clamp(min=0))
    assert (outputs["bn1"][0] < 0).any()
    assert outputs["maxpool"][0].shape == (1, 64, 2, 4, 4)


def naive_bottleneck(block: Bottleneck, x: torch.Tensor, stride: int) -> torch.Tensor:
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
def test_a_bottleneck_equals_the_naive_one(inputs, stride):
    block = shuffled_norms(Bottleneck(ResNeXt3D._design, inputs, width=64, stride=stride))
    assert isinstance(block.downsample, nn.Identity) == ((inputs, stride) == (128, 1))
    x = torch.randn(2, inputs, 3, 5, 4)
    torch.testing.assert_close(block(x), naive_bottleneck(block, x, stride), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resnext_equals_the_naive_one(small):
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


@pytest.mark.parametrize("blocks", [(3, 4, 23), (3, 4, 23, 3, 1), (3, 0, 23, 3)])
def test_other_than_four_stages_are_refused(blocks):
    with pytest.raises(ValueError) as error:
        ResNeXt3D(blocks)
    assert str(error.value) == (
        f"blocks={blocks!r}: expected four numbers of blocks, each 1 or more, e.g. (3, 4, 23, 3)."
    )
