"""Residual networks at full size, with random weights, for the benchmark.

The layers have torchvision's names. ``r3d_18`` has the shapes of torchvision's network of that name
(Tran et al., arXiv 1711.11248); ``resnet50_2d`` those of its ResNet-50 (He et al., arXiv
1512.03385), and ``resnet50_3d`` is that with a third axis, as in Hara, Kataoka, Satoh (arXiv
1711.09577).
"""

from typing import Any

from torch import Tensor, nn

LAYERS = ["stem", "layer1", "layer2", "layer3", "layer4"]
WIDTHS = (64, 128, 256, 512)
CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Basic(nn.Module):
    """relu(x + conv(relu(conv(x)))), with 3x3(x3) convolutions."""

    expansion = 1

    def __init__(self, rank: int, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = CONV[rank](inputs, width, 3, stride, 1, bias=False)
        self.bn1 = NORM[rank](width)
        self.conv2 = CONV[rank](width, width, 3, 1, 1, bias=False)
        self.bn2 = NORM[rank](width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(rank, inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """relu(x + expand(relu(conv(relu(reduce(x)))))), with 1x1, 3x3 and 1x1 convolutions."""

    expansion = 4

    def __init__(self, rank: int, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = CONV[rank](inputs, width, 1, bias=False)
        self.bn1 = NORM[rank](width)
        self.conv2 = CONV[rank](width, width, 3, stride, 1, bias=False)
        self.bn2 = NORM[rank](width)
        self.conv3 = CONV[rank](width, outputs, 1, bias=False)
        self.bn3 = NORM[rank](outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(rank, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return self.relu(y)


def shortcut(rank: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity, or a 1x1(x1) convolution where the shape changes."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(CONV[rank](inputs, outputs, 1, stride, bias=False), NORM[rank](outputs))


class ResNet(nn.Module):
    """(N, 3, *S) -> (N, classes) logits: a stem, four stages of blocks, a mean, a linear head."""

    def __init__(
        self,
        rank: int,
        stem: nn.Module,
        block: type[Basic] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int = 400,
    ) -> None:
        super().__init__()
        self.rank = rank
        self.stem = stem
        inputs = WIDTHS[0]
        for stage, (count, width) in enumerate(zip(blocks, WIDTHS, strict=True), start=1):
            blocks_of_stage = []
            for position in range(count):
                stride = 2 if stage > 1 and position == 0 else 1
                blocks_of_stage.append(block(rank, inputs, width, stride))
                inputs = width * block.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks_of_stage))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for name in LAYERS:
            x = getattr(self, name)(x)
        return self.fc(x.flatten(2).mean(dim=2))


def stem_of(rank: int, size: Any, stride: Any, pool: bool) -> nn.Sequential:
    padding = tuple(n // 2 for n in size)
    conv = CONV[rank](3, WIDTHS[0], size, stride, padding, bias=False)
    stem = [conv, NORM[rank](WIDTHS[0]), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, MAX_POOL[rank](3, 2, 1)) if pool else nn.Sequential(*stem)


def r3d_18(num_classes: int = 400) -> ResNet:
    """33.4 million parameters with 400 classes.

    >>> import torch
    >>> r3d_18().eval()(torch.rand(1, 3, 4, 16, 16)).shape
    torch.Size([1, 400])
    """
    stem = stem_of(3, (3, 7, 7), (1, 2, 2), pool=False)
    return ResNet(3, stem, Basic, (2, 2, 2, 2), num_classes)


def resnet50_3d(num_classes: int = 400) -> ResNet:
    """47.0 million parameters with 400 classes."""
    stem = stem_of(3, (7, 7, 7), (1, 2, 2), pool=True)
    return ResNet(3, stem, Bottleneck, (3, 4, 6, 3), num_classes)


def resnet50_2d(num_classes: int = 1000) -> ResNet:
    """25.6 million parameters with 1000 classes, as torchvision's."""
    return ResNet(2, stem_of(2, (7, 7), 2, pool=True), Bottleneck, (3, 4, 6, 3), num_classes)


NETWORKS = {"r3d_18": r3d_18, "resnet50_3d": resnet50_3d, "resnet50_2d": resnet50_2d}
