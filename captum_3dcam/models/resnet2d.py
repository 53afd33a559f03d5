"""ResNet-50, the 2D network of the 3DCAM paper (its Table 7).

Residual networks of He, Zhang, Ren, Sun (CVPR 2016, arXiv 1512.03385), with the stride of a
bottleneck in its 3x3 convolution, as in torchvision. Names and shapes are those of torchvision's
weight files; load them with :func:`captum_3dcam.models.load_checkpoint`.
"""

from collections.abc import Sequence
from typing import ClassVar

from captum_3dcam.models._bottleneck import IMAGES, BottleneckNetwork, Design
from captum_3dcam.models.preprocessing import Preprocessing


class ResNet(BottleneckNetwork):
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

    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing(
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(224, 224)
    )
    """The mean and deviation of torchvision's weights; whole images, resized without a crop. With
    the crop it is ``get_preprocessing("imagenet")``."""

    _design = Design(
        IMAGES,
        widths=(64, 128, 256, 512),
        expansion=4,
        groups=1,
        stem_stride=2,
        blocks=(3, 4, 6, 3),
    )

    def __init__(
        self, blocks: Sequence[int], num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__(blocks, num_classes, in_channels)


def resnet50(num_classes: int = 1000) -> ResNet:
    """Build the 2D ResNet-50 (blocks 3, 4, 6, 3) with random weights.

    >>> sum(parameter.numel() for parameter in resnet50().parameters())
    25557032
    """
    return ResNet((3, 4, 6, 3), num_classes)
