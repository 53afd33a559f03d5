"""Which of two actors does it? Ask a trained action recogniser about one class, then the other.

Two actors of a synthetic clip do different things. The map of a class should lie on the actor who
does it; chance is the actor's share of the clip. Boxes and a tube follow from the map.

    python examples/explain_actions.py
    python examples/explain_actions.py --clip 7 --layers stem layer1 layer2
"""

import argparse
from pathlib import Path

import torch

from captum_3dcam import CounterfactualCAM3D, LayerwiseWhatWhereCAM, localization
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Overlays, Style, visualize_attr_panels, visualize_video_attr
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    network = load_action_net()
    sample = SyntheticActions(options.clip + 1, seed=HELD_OUT_SEED, actors=2)[options.clip]
    inputs, labels = sample.clip[None], sample.labels.tolist()
    with torch.no_grad():
        scores = network(inputs).softmax(dim=1)[0, labels].tolist()
    cam = LayerwiseWhatWhereCAM(network, options.layers)
    maps = [cam.attribute(inputs, target=label) for label in labels]
    top = labels[scores.index(max(scores))]
    against = CounterfactualCAM3D(network, options.layers).attribute(inputs, target=top)

    video = sample.clip.movedim(0, -1)
    names = [f"{ACTIONS[c]} ({score:.2f})" for c, score in zip(labels, scores, strict=True)]
    titles = [*names, f"against {ACTIONS[top]}"]
    by_row = Style(scale="row")  # the counterfactual map is a sum over layers, the others are not
    figure, _ = visualize_attr_panels([*maps, against], video, titles, frames=4, style=by_row)
    figure.savefig(options.output / "actions.png", dpi=90)
    for actor, (label, name, attribution) in enumerate(zip(labels, names, maps, strict=True)):
        shares = energy_inside(attribution[0].expand_as(sample.masks), sample.masks).tolist()
        own, other, chance = shares[actor], shares[1 - actor], sample.masks[actor].float().mean()
        print(f"{name}: {own:.0%} of the map on its actor (chance {chance:.0%}),", end=" ")
        print(f"{other:.0%} on the other actor")
        overlays = boxes_and_tubes(attribution, sample)
        figure, _ = visualize_video_attr(
            attribution, video, frames=4, overlays=overlays, title=name
        )
        figure.savefig(options.output / f"actions_{ACTIONS[label]}.png", dpi=90)
    print(f"Wrote actions.png, and actions_<class>.png for each class, to {options.output}.")


def boxes_and_tubes(attribution, sample) -> Overlays:
    """The box in each frame, and the best tube beside the ground truth of both actors."""
    # Half the maximum, the default, gives small boxes: a map shows what decides, not the object.
    mask = localization.binarize(attribution, value=0.2)
    detected = localization.tubes(attribution, mask)[0][:1]
    tubes = {f"detected ({tube.score:.2f})": tube for tube in detected}
    for label, tube in zip(sample.labels, sample.tubes, strict=True):
        tubes[f"ground truth: {ACTIONS[label]}"] = tube
    return Overlays(boxes=localization.frame_boxes(attribution, mask)[0], tubes=tubes)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--clip", type=int, default=2, help="number of a held-out clip (default: 2)")
    add("--layers", nargs="+", default=LAYERS, help="names (default: all five depths)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
