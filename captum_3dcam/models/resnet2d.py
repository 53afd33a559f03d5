"""ResNet-50, the 2D network of the 3DCAM paper (its Table 7).

Residual networks of He, Zhang, Ren, Sun (CVPR 2016, arXiv 1512.03385), with the stride of a
bottleneck in its 3x3 convolution, as in torchvision. Names and shapes are those of torchvision's
weight files; load them with :func:`captum_3dcam.models.load_checkpoint`.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from captum_3dcam.models.preprocessing import Preprocessing

_EXPANSION = 4  # output channels of a block / channels of its 3x3 convolution
_WIDTHS = (64, 128, 256, 512)
_STRIDES = (1, 2, 2, 2)
_STEM_WIDTH = 64


class _Bottleneck(nn.Module):
    """relu(x + expand(relu(conv3x3(relu(reduce(x)))))), projected where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = _EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class ResNet(nn.Module):
    """2D ResNet of bottlenecks: images (N, C, H, W) of any size, from :attr:`PREPROCESSING`.

    The output is logits (N, classes).

    Args:
        blocks: number of bottleneck blocks of each of the four stages.
        num_classes: number of classes.
        in_channels: number of input channels; three in the public weight files.

    Raises ValueError unless there are four stages of one block or more.

    >>> import torch
    >>> model = ResNet(blocks=(1, 1, 1, 1), num_classes=5).eval()
    >>> model(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """

    LAYERS: ClassVar[dict[str, str]] = {
        "conv": "relu",
        "layer1": "layer1",
        "layer2": "layer2",
        "layer3": "layer3",
        "layer4": "layer4",
    }
    """The stem and the four stages: their names in the paper, and the names of the modules."""
    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing(
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(224, 224)
    )
    """The mean and deviation of torchvision's weights; whole images, resized without a crop. With
    the crop it is ``get_preprocessing("imagenet")``."""

    def __init__(
        self, blocks: Sequence[int], num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        if len(blocks) != len(_WIDTHS) or min(blocks) < 1:
            raise ValueError(
                f"blocks={blocks!r}: expected four numbers of blocks, each 1 or more, e.g. "
                "(3, 4, 6, 3)."
            )
        self.conv1 = nn.Conv2d(in_channels, _STEM_WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_WIDTH)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = (_STEM_WIDTH, *(_EXPANSION * width for width in _WIDTHS))
        self.layer1, self.layer2, self.layer3, self.layer4 = map(
            _stage, blocks, inputs, _WIDTHS, _STRIDES
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(blocks: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(inputs, width, stride)
    rest = (_Bottleneck(_EXPANSION * width, width, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def resnet50(num_classes: int = 1000) -> ResNet:
    """Build the 2D ResNet-50 (blocks 3, 4, 6, 3) with random weights.

    >>> sum(parameter.numel() for parameter in resnet50().parameters())
    25557032
    """
    return ResNet((3, 4, 6, 3), num_classes)
