"""Which of two actors is doing it? Explain the trained action recogniser, where the truth is known.

Two actors of a held-out synthetic clip do different things. The recogniser is asked about the
action of each in turn: its map should lie on that actor. How much of each map does is printed, by
method, beside chance: the share of the clip that the actor is. Drawn are the maps of both classes
with the counterfactual of the higher one below them, and each class's map alone, with the box found
in each frame, the tube found over the clip, and the true tubes of both actors.

    python examples/explain_actions.py                    # a clip where it sees both actions
    python examples/explain_actions.py --clip 7 --target up down left
    python examples/explain_actions.py --method GlobalLocalCAM3D --layers stem layer1 layer2

The clip is the first whose two highest classes are those of its actors, so that there are two
decisions to explain. The weights are those of weights/README.md, with its card.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_3dcam import (
    CounterfactualCAM3D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from captum_3dcam.localization import Tube, binarize, frame_boxes, tubes
from captum_3dcam.metrics import energy_inside, tube_iou
from captum_3dcam.visualization import (
    Overlays,
    Style,
    animate_video_attr,
    save_animation,
    visualize_attr_panels,
    visualize_video_attr,
)
from trained_networks.action_net import LAYERS, ActionNet, load_action_net

METHODS: dict[str, Callable[..., LayerwiseCAM]] = {
    "LayerwiseWhatWhereCAM": LayerwiseWhatWhereCAM,
    "LayerwiseHiResCAM, product": partial(LayerwiseHiResCAM, fusion="product"),
    "GlobalLocalCAM3D": GlobalLocalCAM3D,
    "LayerwiseGradCAM": LayerwiseGradCAM,
    "CounterfactualCAM3D": CounterfactualCAM3D,
}
HELD_OUT_SEED = 10**6  # as in train_actions.py: the network has not seen these clips
CLIPS = 10**4
SHOWN = 6  # frames of a strip
FPS = 8  # of the animation: two seconds


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    network = load_action_net()
    number = first_recognised(network) if options.clip is None else options.clip
    sample = held_out()[number]
    actors = [ACTIONS[label] for label in sample.labels]
    targets = options.target or actors
    scores = probabilities(network, sample.clip)

    maps = {
        name: {target: explain(method, network, sample, target, options) for target in targets}
        for name, method in METHODS.items()
    }
    highest = max(targets, key=lambda target: scores[target])
    against = maps["CounterfactualCAM3D"][highest]
    draw_classes(maps[options.method], against, highest, scores, sample, options)
    found = {
        target: draw_target(attribution, target, scores[target], sample, options)
        for target, attribution in maps[options.method].items()
    }
    report = {
        "clip": number,
        "actors": actors,
        "method": options.method,
        "layers": options.layers,
        "probability": {target: round(scores[target], 4) for target in targets},
        "counterfactual": highest,
        "tube_iou": {target: overlap(tube, target, sample) for target, tube in found.items()},
        "chance": [round(float(mask.float().mean()), 4) for mask in sample.masks],
        "share": {
            name: {target: shares(attribution, sample) for target, attribution in of.items()}
            for name, of in maps.items()
        },
    }
    path = options.output / "explain_actions.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_shares(report)
    print(f"Wrote {path}, actions.png and, for each class, a frame strip (.png) and a .gif.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clip", type=int, help="number of a held-out clip (default: the first recognised one)")
    add("--target", nargs="+", choices=ACTIONS, help="classes to explain (default: the actors')")
    add("--layers", nargs="+", default=LAYERS, help="layers by name (default: all five depths)")
    add("--method", choices=METHODS, default="LayerwiseWhatWhereCAM", help="whose maps are drawn")
    add("--threshold", type=float, default=0.2, help="of boxes and tubes, by the map's maximum")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.clip is not None and not 0 <= options.clip < CLIPS:
        parser.error(f"--clip {options.clip}: there are the clips 0 to {CLIPS - 1}")
    if not 0 <= options.threshold < 1:
        parser.error(f"--threshold {options.threshold}: expected a share of the maximum, 0 to 1")
    return options


# ----------------------------------------------------------------------------------- the clip


def held_out() -> SyntheticActions:
    return SyntheticActions(CLIPS, seed=HELD_OUT_SEED, actors=2)


def first_recognised(network: ActionNet) -> int:
    """The first clip whose two highest classes are those of its actors."""
    clips = held_out()
    return next(i for i in range(CLIPS) if recognised(network, clips[i]))


def recognised(network: ActionNet, sample: ActionClip) -> bool:
    scores = probabilities(network, sample.clip)
    highest = sorted(scores, key=lambda name: scores[name])[-len(sample.labels) :]
    return set(highest) == {ACTIONS[label] for label in sample.labels}


@torch.no_grad()
def probabilities(network: ActionNet, clip: Tensor) -> dict[str, float]:
    """Of each action, for a clip (3, T, H, W)."""
    return dict(zip(ACTIONS, network(clip[None]).softmax(dim=1)[0].tolist(), strict=True))


# ------------------------------------------------------------------------------- explaining it


def explain(
    method: Callable[..., LayerwiseCAM],
    network: ActionNet,
    sample: ActionClip,
    target: str,
    options: argparse.Namespace,
) -> Tensor:
    """The map (1, 1, T, H, W) of one class."""
    cam = method(network, options.layers)
    return cam.attribute(sample.clip[None], target=ACTIONS.index(target))


def shares(attribution: Tensor, sample: ActionClip) -> list[float]:
    """How much of the map lies in each actor's mask, 0 to 1; 0 for a map that is zero."""
    masks = sample.masks
    return [
        round(float(share), 4) for share in energy_inside(attribution[0].expand_as(masks), masks)
    ]


def overlap(tube: Tube | None, target: str, sample: ActionClip) -> float | None:
    """The IoU of a tube with that of the actor who does this; None where nobody does."""
    doing = [i for i, label in enumerate(sample.labels) if ACTIONS[label] == target]
    if not doing:
        return None
    boxes = torch.full_like(sample.boxes[0], torch.nan)
    if tube is not None:
        boxes[tube.start : tube.end] = tube.boxes
    return round(float(tube_iou(boxes, sample.boxes[doing[0]])), 4)


# -------------------------------------------------------------------------------- drawing it


def draw_classes(
    maps: dict[str, Tensor],
    against: Tensor,
    highest: str,
    scores: dict[str, float],
    sample: ActionClip,
    options: argparse.Namespace,
) -> None:
    """Each class's map, and the counterfactual of the highest, below each other."""
    figure, _ = visualize_attr_panels(
        [*maps.values(), against],
        sample.clip.movedim(0, -1),
        [*(f"{target} ({scores[target]:.2f})" for target in maps), "counterfactual"],
        frames=SHOWN,
        style=Style(scale="row"),  # the counterfactual is a sum over layers
        title=f"{options.method}, and what speaks against {highest!r}",
    )
    figure.savefig(options.output / "actions.png", dpi=90)


def draw_target(
    attribution: Tensor, target: str, score: float, sample: ActionClip, options: argparse.Namespace
) -> Tube | None:
    """A strip and an animation of one class; the best tube found, if there is any."""
    mask = binarize(attribution, value=options.threshold)
    best = next(iter(tubes(attribution, mask)[0]), None)
    truth = {
        f"truth: {ACTIONS[label]}": tube
        for label, tube in zip(sample.labels, sample.tubes, strict=True)
    }
    found = {} if best is None else {f"found ({best.score:.2f})": best}
    overlays = Overlays(boxes=frame_boxes(attribution, mask)[0], tubes={**found, **truth})
    name = f"{target} ({score:.2f})"
    video = sample.clip.movedim(0, -1)
    figure, _ = visualize_video_attr(
        attribution, video, frames=SHOWN, overlays=overlays, title=f"{options.method}: {name}"
    )
    figure.savefig(options.output / f"actions_{target}.png", dpi=90)
    animation = animate_video_attr(attribution, video, fps=FPS, overlays=overlays, title=name)
    save_animation(animation, options.output / f"actions_{target}.gif", dpi=70)
    return best


def print_shares(report: dict[str, Any]) -> None:
    chosen = ", ".join(f"{name} {score:.2f}" for name, score in report["probability"].items())
    print(f"Held-out clip {report['clip']}. Probability: {chosen}.")
    for target, iou in report["tube_iou"].items():
        known = "nobody does it" if iou is None else f"IoU of its tube with the true one {iou:.2f}"
        print(f"{report['method']}, {target}: {known}.")
    print("\nShare of the map in the mask of the actor who does")
    print(f"{'':30}{'asked about':>18}" + "".join(f"{name:>18}" for name in report["actors"]))
    for name, of in report["share"].items():
        for target, row in of.items():
            print(f"{name:30}{target:>18}" + "".join(f"{share:18.2f}" for share in row))
    print(f"{'chance':30}{'':18}" + "".join(f"{share:18.2f}" for share in report["chance"]) + "\n")


if __name__ == "__main__":
    main()
