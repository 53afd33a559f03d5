"""For and against each of several actions at once, like Figure 6 of the 3DCAM paper.

    python studies/draw_multilabel.py

draws two actors of a held-out synthetic clip and the example's trained network: of each of their
actions the map and the counterfactual map, which should lie on the other actor. For each map it
prints the share on the action's own actor and on the other one.

    python studies/draw_multilabel.py --root multithumos --videos videos --checkpoint i3d.pth \
      --class-names multithumos.txt

draws 16 frames of a video of MultiTHUMOS instead, around the time at which most actions overlap (or
``--video`` and ``--start``, in seconds), and all actions that are annotated then.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from _arguments import make_parser
from captum_3dcam import CounterfactualCAM3D, GlobalLocalCAM3D
from captum_3dcam.datasets import ACTIONS, MultiTHUMOS, SyntheticActions, UntrimmedVideo
from captum_3dcam.explanation._class_names import read_names
from captum_3dcam.io import Sampling, read_video
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Style, visualize_attr_panels
from paper_tables import NETWORKS, find_classes
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

CLIP_LENGTH = 16


class Scene(NamedTuple):
    """A clip with several actions, and the network that sees them."""

    network: nn.Module
    layers: Sequence[Any]
    inputs: Tensor
    """(1, C, T, h, w)"""
    frames: np.ndarray
    """(T, H, W, 3)"""
    classes: dict[str, int]
    """Of each action in the clip, the network's class."""
    masks: Tensor | None
    """(A, T, H, W): the actor of each action, if it is known."""


def synthetic_scene(options: argparse.Namespace) -> Scene:
    data = SyntheticActions(options.clip + 1, seed=HELD_OUT_SEED, actors=2)
    sample = data[options.clip]
    classes = {ACTIONS[label]: label for label in sample.labels.tolist()}
    frames = sample.clip.movedim(0, -1).numpy()
    return Scene(load_action_net(), LAYERS, sample.clip[None], frames, classes, sample.masks)


def thumos_scene(options: argparse.Namespace) -> Scene:
    data = MultiTHUMOS(options.root, options.subset, videos=options.videos)
    item, start = choose_moment(list(data), options.video, options.start)
    video = read_video(item.path, sampling=Sampling(CLIP_LENGTH, stride=1, start=start))
    if len(video.frames) < CLIP_LENGTH:
        raise SystemExit(f"{str(item.path)!r} has no {CLIP_LENGTH} frames from {start:g} s on.")
    names = read_names(options.class_names) or list(data.classes)
    own = find_classes(data.classes, names)
    network = NETWORKS[options.model](len(names), options.checkpoint)
    inputs = network.preprocessing(torch.from_numpy(video.frames).movedim(-1, 0))[None]
    end = start + CLIP_LENGTH / video.fps
    shown = sorted(set(item.labels[overlap(item.segments, start, end)].tolist()))
    if not shown:
        raise SystemExit(f"No action of {item.video!r} is annotated from {start:g} to {end:g} s.")
    classes = {data.classes[label]: own[label] for label in shown}
    return Scene(network.module, list(network.layers.values()), inputs, video.frames, classes, None)


def overlap(segments: Tensor, start: float, end: float) -> Tensor:
    """Which segments (B, 2) overlap [start, end).

    >>> overlap(torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 2.5]]), 1.0, 2.0).tolist()
    [False, True, False]
    """
    return (segments[:, 0] < end) & (segments[:, 1] > start)


def choose_moment(
    items: Sequence[UntrimmedVideo], name: str | None, start: float | None
) -> tuple[UntrimmedVideo, float]:
    """The video of that name, or of those with a file the one in which most classes overlap; and
    the time, or the start of the segment at which they do."""
    chosen = [
        item for item in items if (item.path.exists() if name is None else item.video == name)
    ]
    if not chosen:
        what = "No annotated video has a file" if name is None else f"There is no video {name!r}"
        raise SystemExit(f"{what}. --videos is the folder of the videos.")

    def classes_at(item: UntrimmedVideo, time: float) -> int:
        return len(item.labels[overlap(item.segments, time, time + 0.1)].unique())

    moments = [
        (classes_at(item, time), item, time)
        for item in chosen
        for time in ([start] if start is not None else item.segments[:, 0].tolist())
    ]
    _, item, time = max(moments, key=lambda moment: moment[0])
    return item, time


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    scene = (synthetic_scene if options.root is None else thumos_scene)(options)
    with torch.no_grad():
        logits = scene.network(scene.inputs)[0]
    probabilities = logits.sigmoid() if options.multi_label else logits.softmax(dim=0)
    maps, names = [], []
    for number, (name, label) in enumerate(scene.classes.items()):
        for kind, method in (("for", GlobalLocalCAM3D), ("against", CounterfactualCAM3D)):
            attribution = method(scene.network, scene.layers).attribute(scene.inputs, target=label)
            maps.append(attribution[0, 0])
            names.append(f"{kind} {name} ({probabilities[label]:.2f})")
            if scene.masks is not None:
                print(f"{names[-1]}: {shares(attribution, scene.masks, number)}")
    figure, _ = visualize_attr_panels(
        maps, scene.frames, names, frames=options.frames, style=Style(scale="row")
    )
    options.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output / "multilabel.png", dpi=90)
    print(f"Wrote multilabel.png to {options.output}.")


def shares(attribution: Tensor, masks: Tensor, number: int) -> str:
    """How much of a map is on each actor, and by chance on its own."""
    energy = energy_inside(attribution[0].expand_as(masks), masks).tolist()
    own, other = energy[number], sum(energy) - energy[number]
    chance = masks[number].double().mean()
    return f"{own:.0%} on its actor (chance {chance:.0%}), {other:.0%} on the other"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--clip", type=int, default=2, help="number of a held-out synthetic clip (default: 2)")
    add("--root", type=Path, help="the folder of MultiTHUMOS's annotations")
    add("--subset", choices=("val", "test"), default="test", help="(default: test)")
    add("--videos", type=Path, help="the folder of the videos (default: videos, in the root)")
    add("--video", help="name of a video (default: that in which most actions overlap)")
    add("--start", type=float, help="of the clip, in seconds")
    add("--model", choices=NETWORKS, default="i3d", help="(default: i3d)")
    add("--checkpoint", type=Path, help="of the model; without one its weights are random")
    add("--class-names", type=Path, help="of the checkpoint, if not MultiTHUMOS's: a file of names")
    add("--multi-label", action="store_true", help="the classes' probabilities are sigmoids")
    add("--frames", type=int, default=4, help="to draw (default: 4)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
