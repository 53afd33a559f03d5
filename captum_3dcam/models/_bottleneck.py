"""Residual networks of bottleneck blocks (He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385)."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

_STEM_WIDTH = 64
_STRIDES = (1, 2, 2, 2)


class Operators(NamedTuple):
    """PyTorch's modules of a number of dimensions."""

    convolution: Any
    norm: Any
    max_pool: Any
    average_pool: Any


IMAGES = Operators(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
CLIPS = Operators(nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d)


class Design(NamedTuple):
    """What tells one family of these networks from another."""

    operators: Operators
    widths: tuple[int, ...]
    """Channels of the 3x3(x3) convolutions of each stage."""
    expansion: int
    """Output channels of a block / channels of its 3x3(x3) convolution."""
    groups: int
    stem_stride: int | tuple[int, ...]
    blocks: tuple[int, ...]
    """Blocks of each stage, for example."""


class Bottleneck(nn.Module):
    """relu(x + expand(relu(conv(relu(reduce(x)))))), projected where the shape changes.

    The stride is that of the 3x3(x3) convolution.
    """

    def __init__(self, design: Design, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        convolution, norm = design.operators[:2]
        outputs = design.expansion * width
        self.conv1 = convolution(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = convolution(width, width, 3, stride, 1, groups=design.groups, bias=False)
        self.bn2 = norm(width)
        self.conv3 = convolution(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            projection = convolution(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class BottleneckNetwork(nn.Module):
    """A stem, four stages of bottlenecks, average pooling and a linear layer, by a design.

    Raises ValueError unless there are four stages of one block or more.
    """

    LAYERS: ClassVar[dict[str, str]] = {
        "conv": "relu",
        "layer1": "layer1",
        "layer2": "layer2",
        "layer3": "layer3",
        "layer4": "layer4",
    }
    """The stem and the four stages: their names in the paper, and the names of the modules."""
    _design: ClassVar[Design]

    def __init__(self, blocks: Sequence[int], num_classes: int, in_channels: int) -> None:
        super().__init__()
        design = self._design
        convolution, norm, max_pool, average_pool = design.operators
        if len(blocks) != len(design.widths) or min(blocks) < 1:
            raise ValueError(
                f"blocks={blocks!r}: expected four numbers of blocks, each 1 or more, e.g. "
                f"{design.blocks}."
            )
        self.conv1 = convolution(in_channels, _STEM_WIDTH, 7, design.stem_stride, 3, bias=False)
        self.bn1 = norm(_STEM_WIDTH)
        self.relu = nn.ReLU()
        self.maxpool = max_pool(3, 2, 1)
        inputs = (_STEM_WIDTH, *(design.expansion * width for width in design.widths))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(design, *of_stage)
            for of_stage in zip(blocks, inputs, design.widths, _STRIDES, strict=False)
        )
        self.avgpool = average_pool(1)
        self.fc = nn.Linear(inputs[-1], num_classes)
        for module in self.modules():
            if isinstance(module, convolution):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(design: Design, blocks: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    first = Bottleneck(design, inputs, width, stride)
    rest = (
        Bottleneck(design, design.expansion * width, width, stride=1) for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)
