"""I3D: Inception with filters inflated over time, one of the networks of the 3DCAM paper.

The RGB and flow streams of Carreira and Zisserman (CVPR 2017, arXiv 1705.07750). Names and shapes
are those of the public PyTorch checkpoints; load them with
:func:`captum_3dcam.models.load_checkpoint`.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_3dcam.models.flow import FlowPreprocessing
from captum_3dcam.models.preprocessing import Preprocessing

Triple = tuple[int, int, int]
_FEATURES = 1024
_POOLED_STEPS = 2  # time steps that the last average pooling covers


def _pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad with zeros as TensorFlow's SAME, for ceil(size / stride) outputs along each axis."""
    padding: list[int] = []
    axes = zip(x.shape[2:], kernel, stride, strict=True)
    for size, width, step in reversed(list(axes)):  # F.pad starts with the last axis
        total = max((math.ceil(size / step) - 1) * step + width - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


class _Unit(nn.Module):
    """Convolution with SAME padding, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        # torch's momentum is the weight of the new batch; in TensorFlow it is a decay of 0.99.
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv3d(_pad_same(x, self.kernel, self.stride))))
        return out


class _MaxPool(nn.Module):
    """Max pooling with SAME zero padding; activations after a ReLU are not below zero."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """The four branches of Inception: 1x1x1; 1x1x1 and 3x3x3, twice; max pooling and 1x1x1."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3: int):
        super().__init__()
        self.b0 = _Unit(inputs, b0, 1)
        self.b1a = _Unit(inputs, b1a, 1)
        self.b1b = _Unit(b1a, b1b, 3)
        self.b2a = _Unit(inputs, b2a, 1)
        self.b2b = _Unit(b2a, b2b, 3)
        self.b3a = _MaxPool((3, 3, 3), (1, 1, 1))
        self.b3b = _Unit(inputs, b3, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


class _Logits(nn.Module):
    """A linear layer at each position in time and space, named as in the checkpoints."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(_FEATURES, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3d(x)
        return out


class I3D(nn.Module):
    """I3D: clips (N, C, T, H, W) of any size, from :attr:`PREPROCESSING`, -> logits (N, classes).

    Args:
        num_classes: number of classes.
        in_channels: number of input channels; three in the public checkpoints.
        dropout: dropout probability of the features.

    >>> model = I3D(num_classes=5).eval()
    >>> model(torch.rand(1, 3, 16, 32, 32)).shape
    torch.Size([1, 5])
    """

    LAYERS: ClassVar[dict[str, str]] = {
        "layer1": "Mixed_3c",
        "layer2": "Mixed_4f",
        "layer3": "Mixed_5c",
    }
    """The layers fused in the paper: their names there, and the names of the modules."""
    PREPROCESSING: ClassVar[Preprocessing | FlowPreprocessing] = Preprocessing(
        mean=0.5, std=0.5, size=(224, 224)
    )
    """RGB in [-1, 1], as for the public checkpoints."""

    def __init__(self, num_classes: int = 400, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(in_channels, 64, 7, stride=2)
        self.MaxPool3d_2a_3x3 = _MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _MaxPool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = _Mixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = _Mixed(256, 128, 128, 192, 32, 96, 64)
        self.MaxPool3d_4a_3x3 = _MaxPool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = _Mixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = _Mixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = _Mixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = _Mixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = _Mixed(528, 256, 160, 320, 32, 128, 128)
        self.MaxPool3d_5a_2x2 = _MaxPool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = _Mixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = _Mixed(832, 384, 192, 384, 48, 128, 128)
        self.dropout = nn.Dropout(dropout)
        self.logits = _Logits(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.time_logits(x).mean(dim=2)

    def time_logits(self, x: Tensor) -> Tensor:
        """Compute logits over time, (N, classes, T') with T' = max(ceil(T / 8) - 1, 1).

        Each is of two successive steps of 8 frames; neighbours overlap by one step.

        >>> I3D(num_classes=5).eval().time_logits(torch.rand(1, 3, 32, 32, 32)).shape
        torch.Size([1, 5, 3])
        """
        x = self._features(x)
        window = (min(_POOLED_STEPS, x.shape[2]), *x.shape[3:])
        pooled = F.avg_pool3d(x, window, stride=1)
        logits: Tensor = self.logits(self.dropout(pooled))
        return logits.flatten(2)

    def _features(self, x: Tensor) -> Tensor:
        x = self.MaxPool3d_2a_3x3(self.Conv3d_1a_7x7(x))
        x = self.MaxPool3d_3a_3x3(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)))
        x = self.MaxPool3d_4a_3x3(self.Mixed_3c(self.Mixed_3b(x)))
        x = self.Mixed_4f(self.Mixed_4e(self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))))
        x = self.Mixed_5c(self.Mixed_5b(self.MaxPool3d_5a_2x2(x)))
        return x


class I3DFlow(I3D):
    """The flow stream: flow (N, 2, T, H, W), from :attr:`PREPROCESSING`, -> logits (N, classes).

    All but the first convolution, which has two input channels, is as in :class:`I3D`. The channels
    are the displacements along x and along y.

    Args:
        num_classes: number of classes.
        dropout: dropout probability of the features.

    >>> flow = torch.full((2, 16, 64, 64), 20.0)  # of frames of 64x64
    >>> I3DFlow(num_classes=5).eval()(I3DFlow.PREPROCESSING(flow)[None]).shape
    torch.Size([1, 5])
    """

    PREPROCESSING: ClassVar[FlowPreprocessing] = FlowPreprocessing(size=(224, 224), bound=20.0)
    """Of frames or of their flow: displacements from -20 to 20 pixels, in [-1, 1]."""

    def __init__(self, num_classes: int = 400, dropout: float = 0.5) -> None:
        super().__init__(num_classes, in_channels=2, dropout=dropout)


def i3d(num_classes: int = 400) -> I3D:
    """Build the RGB I3D with random weights.

    >>> sum(parameter.numel() for parameter in i3d().parameters())
    12697264
    """
    return I3D(num_classes)


def i3d_flow(num_classes: int = 400) -> I3DFlow:
    """Build the flow stream of I3D with random weights.

    >>> sum(parameter.numel() for parameter in i3d_flow().parameters())  # 64 · 7³ fewer than RGB
    12675312
    """
    return I3DFlow(num_classes)
