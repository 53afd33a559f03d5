"""3D ResNeXt, the main network of the 3DCAM paper.

Residual networks with 3x3x3 convolutions (Hara, Kataoka, Satoh, CVPR 2018, arXiv 1711.09577) in 32
groups (Xie et al., CVPR 2017, arXiv 1611.05431). Names and shapes are those of the public Kinetics
checkpoints; load them with :func:`captum_3dcam.models.load_checkpoint`.
"""

from collections.abc import Sequence
from typing import ClassVar

from captum_3dcam.models._bottleneck import CLIPS, BottleneckNetwork, Design
from captum_3dcam.models.preprocessing import Preprocessing


class ResNeXt3D(BottleneckNetwork):
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

    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing(
        mean=(114.7748 / 255, 107.7354 / 255, 99.4750 / 255), std=1 / 255, size=(112, 112)
    )
    """RGB from 0 to 255 minus a mean, as for the public checkpoints, which were trained on clips of
    16 frames."""

    _design = Design(
        CLIPS,
        widths=(128, 256, 512, 1024),
        expansion=2,
        groups=32,
        stem_stride=(1, 2, 2),
        blocks=(3, 4, 23, 3),
    )

    def __init__(self, blocks: Sequence[int], num_classes: int = 400, in_channels: int = 3) -> None:
        super().__init__(blocks, num_classes, in_channels)


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
