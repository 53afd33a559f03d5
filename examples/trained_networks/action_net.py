"""A small 3D ResNet that recognises the synthetic actions, with its trained weights.

Residual blocks as in He et al. (arXiv 1512.03385) with 3x3x3 convolutions, as in Hara, Kataoka,
Satoh (arXiv 1711.09577), global average pooling and a linear head. ``studies/train_actions.py``
made the weights; ``examples/weights/README.md`` is their model card.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from captum_3dcam.datasets import ACTIONS

WEIGHTS = Path(__file__).parents[1] / "weights" / "action_net.pt"
LAYERS = ["stem", "layer1", "layer2", "layer3", "layer4"]
HELD_OUT_SEED = 10**6  # of clips that are used for no training
WIDTHS = (16, 16, 32, 48, 64)
# Along time, height and width: 16x64x64 voxels become 4x8x8.
STRIDES = ((1, 2, 2), (2, 1, 1), (1, 2, 2), (2, 2, 2), (1, 1, 1))


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))), with a 1x1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU()
        same = inputs == width and stride == (1, 1, 1)
        self.shortcut = nn.Identity() if same else projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def projection(inputs: int, width: int, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, width, 1, stride, bias=False), nn.BatchNorm3d(width))


class ActionNet(nn.Module):
    """(N, 3, T, H, W), RGB in [0, 1] -> (N, 8) logits."""

    def __init__(self, num_classes: int = len(ACTIONS)) -> None:
        super().__init__()
        stem = nn.Conv3d(3, WIDTHS[0], 5, STRIDES[0], 2, bias=False)
        # Filters whose sum over time is zero ignore what does not move. Without this, training
        # finds the motion late for some seeds.
        stem.weight.data -= stem.weight.data.mean(dim=2, keepdim=True)
        self.stem = nn.Sequential(stem, nn.BatchNorm3d(WIDTHS[0]), nn.ReLU())
        self.layer1 = Block(WIDTHS[0], WIDTHS[1], STRIDES[1])
        self.layer2 = Block(WIDTHS[1], WIDTHS[2], STRIDES[2])
        self.layer3 = Block(WIDTHS[2], WIDTHS[3], STRIDES[3])
        self.layer4 = Block(WIDTHS[3], WIDTHS[4], STRIDES[4])
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(WIDTHS[4], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x - 0.5)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pool(x).flatten(1))


def load_action_net(path: Path = WEIGHTS) -> ActionNet:
    """The trained network in eval mode, on the CPU. Raises FileNotFoundError without weights."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no weights at {str(path)!r}. Train them: python studies/train_actions.py "
            f"--output {path}"
        )
    network = ActionNet()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
