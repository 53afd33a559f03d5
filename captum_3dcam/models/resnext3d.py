"""3D ResNeXt, the main network of the 3DCAM paper.

Residual networks with 3x3x3 convolutions (Hara, Kataoka, Satoh, CVPR 2018, arXiv 1711.09577) in 32
groups (Xie et al., CVPR 2017, arXiv 1611.05431). Names and shapes are those of the public Kinetics
checkpoints; load them with :func:`captum_3dcam.models.load_checkpoint`.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from captum_3dcam.models.preprocessing import Preprocessing

_GROUPS = 32
_EXPANSION = 2  # output channels of a block / channels of its 3x3x3 convolution
_WIDTHS = (128, 256, 512, 1024)
_STRIDES = (1, 2, 2, 2)
_STEM_WIDTH = 64


class _Bottleneck(nn.Module):
    """relu(x + expand(relu(grouped(relu(reduce(x)))))), projected where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = _EXPANSION * width
        self.conv1 = nn.Conv3d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, groups=_GROUPS, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            convolution = nn.Conv3d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class ResNeXt3D(nn.Module):
    """3D ResNeXt: clips (N, C, T, H, W) of any size, from :attr:`PREPROCESSING`, -> logits.

    Args:
        blocks: number of bottleneck blocks of each of the four stages.
        num_classes: number of classes.
        in_channels: number of input channels; three in the public checkpoints.

    Raises ValueError unless there are four stages of one block or more.

    >>> import torch
    >>> model = ResNeXt3D(blocks=(1, 1, 1, 1), num_classes=5).eval()
    >>> model(torch.rand(2, 3, 4, 32, 32)).shape
    torch.Size([2, 5])
    """

    LAYERS: ClassVar[dict[str, str]] = {
        "conv": "relu",
        "layer1": "layer1",
        "layer2": "layer2",
        "layer3": "layer3",
        "layer4": "layer4",
    }
    """The layers fused in the paper: their names there, and the names of the modules."""
    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing(
        mean=(114.7748 / 255, 107.7354 / 255, 99.4750 / 255), std=1 / 255, size=(112, 112)
    )
    """RGB from 0 to 255 minus a mean, as for the public checkpoints, which were trained on clips of
    16 frames."""

    def __init__(self, blocks: Sequence[int], num_classes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        if len(blocks) != len(_WIDTHS) or min(blocks) < 1:
            raise ValueError(
                f"blocks={blocks!r}: expected four numbers of blocks, each 1 or more, e.g. "
                "(3, 4, 23, 3)."
            )
        self.conv1 = nn.Conv3d(in_channels, _STEM_WIDTH, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(_STEM_WIDTH)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        inputs = (_STEM_WIDTH, *(_EXPANSION * width for width in _WIDTHS))
        self.layer1, self.layer2, self.layer3, self.layer4 = map(
            _stage, blocks, inputs, _WIDTHS, _STRIDES
        )
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(inputs[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
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


def resnext101_3d(num_classes: int = 400) -> ResNeXt3D:
    """Build 3D ResNeXt-101 (blocks 3, 4, 23, 3) with random weights.

    >>> sum(parameter.numel() for parameter in resnext101_3d().parameters())
    48340816
    """
    return ResNeXt3D((3, 4, 23, 3), num_classes)


def resnext50_3d(num_classes: int = 400) -> ResNeXt3D:
    """Build 3D ResNeXt-50 (blocks 3, 4, 6, 3) with random weights.

    >>> sum(parameter.numel() for parameter in resnext50_3d().parameters())
    26685264
    """
    return ResNeXt3D((3, 4, 6, 3), num_classes)
