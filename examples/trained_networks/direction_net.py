"""A small 3D ResNet that tells whether what moves in real footage goes left or right.

It was trained on the vehicles of two shots of ``bikes.mp4``, and recognises the direction of a
cyclist and of a pedestrian in two other shots. ``studies/train_directions.py`` made the weights;
``examples/weights/README.md`` is their model card.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from captum_3dcam.models import Preprocessing

WEIGHTS = Path(__file__).parents[1] / "weights" / "direction_net.pt"
CLASSES = ("left", "right")
CLIP_LENGTH = 16  # frames
SIZE = 68  # the shorter side of a frame, a quarter of the footage's
TRAINING_SHOTS = ("van", "cars")
HELD_OUT_SHOTS = ("rider", "walker")  # other scenes, and nothing that moves in both
WIDTHS = (16, 16, 24, 32)
# Along time, height and width: 16x68x160 voxels become 8x9x20.
STRIDES = ((1, 2, 2), (1, 1, 1), (2, 2, 2), (1, 2, 2))


class Block(nn.Module):
    """relu(shortcut(x) + conv(relu(conv(x)))), where the shortcut is a 1x1x1 convolution."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU()
        projection = nn.Conv3d(inputs, width, 1, stride, bias=False)
        self.shortcut = nn.Sequential(projection, nn.BatchNorm3d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DirectionNet(nn.Module):
    """(N, 3, T, H, W), RGB in [0, 1] -> (N, 2) logits of CLASSES; any T, H, W."""

    LAYERS = ("layer2", "layer3")
    PREPROCESSING = Preprocessing(size=SIZE)

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv3d(3, WIDTHS[0], (5, 7, 7), STRIDES[0], (2, 3, 3), bias=False)
        # Filters whose sum over time is zero ignore what does not move; training starts there.
        stem.weight.data -= stem.weight.data.mean(dim=2, keepdim=True)
        self.stem = nn.Sequential(stem, nn.BatchNorm3d(WIDTHS[0]), nn.ReLU())
        self.layer1 = Block(WIDTHS[0], WIDTHS[1], STRIDES[1])
        self.layer2 = Block(WIDTHS[1], WIDTHS[2], STRIDES[2])
        self.layer3 = Block(WIDTHS[2], WIDTHS[3], STRIDES[3])
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(WIDTHS[3], len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x - 0.5))))
        return self.fc(self.pool(x).flatten(1))


def load_direction_net(path: Path = WEIGHTS) -> DirectionNet:
    """The trained network in eval mode, on the CPU. Raises FileNotFoundError without weights."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no weights at {str(path)!r}. Train them: "
            f"python studies/train_directions.py --output {path}"
        )
    network = DirectionNet()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
