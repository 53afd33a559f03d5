"""What speaks against a class: does a map mark the rival, and does the score rise without it?

    python studies/evaluate_counterfactual.py

explains "why not this class" where the answer is known, because another object is in the scene:

- ``actions``: clips of two actors with different actions, by the network of synthetic actions
  (``--weights`` for several);
- ``lesions``: volumes with two lesions of different kinds, by networks of ``_worlds.py``;
- ``mosaics``: mosaics of 2 x 2 photographs, by EfficientNet-Lite0 (extra ``demo``).

Each object's class is explained in turn, and the next object's class is its rival. The columns are
the share of the map on the rival, on the explained object, and on all objects but that; whether the
highest voxel is on the rival; and what happens when the 5 % highest voxels are replaced by those of
the blurred input: the change of log p / (1 - p), p the probability of the explained class, and the
share of scenes in which it rises. Intervals are 95 % bootstrap intervals over scenes. The figure
has the first scene of each.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from tqdm.auto import tqdm

import _worlds
from _arguments import at_least, make_parser
from _intervals import mean_interval
from _report import table, write_report
from _worlds import Scene
from captum_3dcam import CounterfactualCAM, Layer, LayerwiseGradCAM, LayerwiseWhatWhereCAM
from captum_3dcam.attribution import RivalCAM
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import Bootstrap
from captum_3dcam.functional import contrast
from captum_3dcam.metrics import boxes_to_mask, energy_inside
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, WEIGHTS, load_action_net

WORLDS = ("actions", "lesions", "mosaics")
COLUMNS = ("rival", "own", "others", "hit", "change", "rises")
OCCLUDED = 0.05  # of the voxels
BLUR = 0.1  # standard deviation, as a share of each axis
CHANCE = "chance, random voxels"


class Case(NamedTuple):
    """A network, its layers, and scenes of several objects."""

    network: nn.Module
    layers: list[Any]
    scenes: list[Scene]


class Question(NamedTuple):
    """Why not the class ``own``, beside the class ``rival``, of inputs (1, C, *S)."""

    network: nn.Module
    layers: list[Any]
    inputs: Tensor
    own: int
    rival: int


Explain = Callable[[Question], Tensor]
"""The map (1, 1, *S) of what speaks against the class."""


# ---------------------------------------------------------------------------------- the methods


def explain_rival(question: Question, named: bool) -> Tensor:
    rival = question.rival if named else None
    cam = RivalCAM(question.network, question.layers, rival=rival)
    return cam.attribute(question.inputs, target=question.own)


def explain_negated(question: Question, method: Any, margin: bool) -> Tensor:
    """By another method, for the negated score, or that of the rival less that of the class."""

    def score(logits: Tensor) -> Tensor:
        rival = logits[:, question.rival] if margin else 0
        return rival - logits[:, question.own]

    return method(question.network, question.layers).attribute(question.inputs, target=score)


def explain_as_the_paper(question: Question) -> Tensor:
    cam = CounterfactualCAM(question.network, question.layers)
    return cam.attribute(question.inputs, target=question.own)


METHODS: dict[str, Explain] = {
    "3DCAM's counterfactual": explain_as_the_paper,
    "Grad-CAM, negated score": partial(explain_negated, method=LayerwiseGradCAM, margin=False),
    "Grad-CAM, rival less class": partial(explain_negated, method=LayerwiseGradCAM, margin=True),
    "what x where, negated score": partial(
        explain_negated, method=LayerwiseWhatWhereCAM, margin=False
    ),
    "RivalCAM": partial(explain_rival, named=False),
    "RivalCAM, rival named": partial(explain_rival, named=True),
}


# ----------------------------------------------------------------------------------- the scenes


def action_cases(options: argparse.Namespace) -> list[Case]:
    clips = SyntheticActions(options.scenes, seed=HELD_OUT_SEED, actors=2)
    drawn = [clips[index] for index in range(options.scenes)]
    scenes = [Scene(clip.clip, clip.labels.tolist(), clip.masks) for clip in drawn]
    return [Case(load_action_net(path), list(LAYERS), scenes) for path in options.weights]


def lesion_cases(options: argparse.Namespace) -> list[Case]:
    recipe = _worlds.RECIPES["lesions"]
    scenes = _worlds.held_out_scenes(recipe.draw, options.scenes, recipe.objects)
    networks = (_worlds.trained_network("lesions", seed, options.steps) for seed in options.seeds)
    return [Case(network, network.layers, scenes) for network in networks]


def mosaic_cases(options: argparse.Namespace) -> list[Case]:
    from evaluate_mosaics import (
        FAMILIES,
        SIZE,
        draw_mosaics,
        load_efficientnet,
        load_tiles,
        top_classes,
    )

    network, tiles = load_efficientnet(), load_tiles()
    images = draw_mosaics(options.mosaics, tiles, top_classes(network, tiles), HELD_OUT_SEED)
    scenes = [
        Scene(
            image.inputs,
            image.targets,
            torch.stack([boxes_to_mask(box[None], (SIZE, SIZE)) for box in image.boxes]),
        )
        for image in images
    ]
    layers = [Layer(name, calls="last") for name in FAMILIES["activations"]]
    return [Case(network, layers, scenes)]


CASES: dict[str, Callable[[argparse.Namespace], list[Case]]] = {
    "actions": action_cases,
    "lesions": lesion_cases,
    "mosaics": mosaic_cases,
}


# ----------------------------------------------------------------------------------- the scores


def measure(heat: Tensor, scene: Scene, own: int, question: Question) -> list[float]:
    """The columns of a map (1, 1, *S) that explains the object number ``own``."""
    rival = (own + 1) % len(scene.labels)
    others = scene.masks[[i for i in range(len(scene.labels)) if i != own]].any(dim=0)
    masks = torch.stack([scene.masks[rival], scene.masks[own], others])
    shares = energy_inside(heat[0].expand(3, *heat.shape[2:]), masks).tolist()
    hit = bool(heat.any()) and bool(masks[0].flatten()[heat.argmax()])
    change = change_without(question, heat)
    return [*shares, float(hit), change, float(change > 0)]


@torch.no_grad()
def change_without(question: Question, heat: Tensor) -> float:
    """Of the log-odds of the class, when the highest voxels of a map are occluded."""
    occluded = occlude(question.inputs, heat, OCCLUDED)
    before, after = (
        contrast(question.network(x).double())[0, question.own].item()
        for x in (question.inputs, occluded)
    )
    return after - before


def occlude(inputs: Tensor, heat: Tensor, share: float) -> Tensor:
    """The highest voxels of a map (1, 1, *S) replaced by the blurred input; ties at random."""
    sigma = [0, 0, *(BLUR * length for length in inputs.shape[2:])]
    blurred = torch.from_numpy(gaussian_filter(inputs.numpy(), sigma, mode="nearest"))
    shuffled = torch.randperm(heat.numel(), generator=torch.Generator().manual_seed(0))
    order = shuffled[heat.flatten()[shuffled].argsort(descending=True, stable=True)]
    marked = torch.zeros(heat.numel(), dtype=torch.bool)
    marked[order[: round(share * heat.numel())]] = True
    return torch.where(marked.reshape(heat.shape), blurred, inputs)


def evaluate_case(case: Case, name: str) -> dict[str, list[list[list[float]]]]:
    """By method the columns of each object of each scene: (scenes, objects, columns)."""
    explained = {**METHODS, CHANCE: lambda question: torch.ones_like(question.inputs[:, :1])}
    rows: dict[str, list[list[list[float]]]] = {method: [] for method in explained}
    for scene in tqdm(case.scenes, desc=name, unit="scene"):
        questions = [
            Question(case.network, case.layers, scene.inputs[None], label, rival)
            for label, rival in zip(scene.labels, [*scene.labels[1:], scene.labels[0]], strict=True)
        ]
        for method, explain in explained.items():
            rows[method].append(
                [
                    measure(explain(question), scene, own, question)
                    for own, question in enumerate(questions)
                ]
            )
    return rows


def summarize(
    cases: Sequence[Mapping[str, list[list[list[float]]]]], seed: int
) -> dict[str, dict[str, Any]]:
    """The mean over objects, scenes and networks, with intervals over scenes; and by network."""
    bootstrap = Bootstrap(seed=seed)
    summary: dict[str, dict[str, Any]] = {}
    for method in cases[0]:
        values = np.stack([np.asarray(case[method]) for case in cases])
        by_scene = values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1, len(COLUMNS))
        summary[method] = {
            name: mean_interval(by_scene[:, :, i], bootstrap) for i, name in enumerate(COLUMNS)
        }
        of_networks = values.mean(axis=(1, 2)).T.tolist()
        summary[method]["networks"] = dict(zip(COLUMNS, of_networks, strict=True))
    return summary


# ----------------------------------------------------------------------------------- the figure


def draw(cases: Mapping[str, Case]) -> Figure:
    """The first scene of each world: what speaks for the class, and two maps of what is against.

    Each map is scaled to the frame or slice that is shown.
    """
    figure = Figure(figsize=(8, 2.2 * len(cases)), layout="constrained")
    for axes, (name, case) in zip(
        np.reshape(figure.subplots(len(cases), 4), (len(cases), 4)), cases.items(), strict=True
    ):
        scene = case.scenes[0]
        own, rival = scene.labels[:2]
        question = Question(case.network, case.layers, scene.inputs[None], own, rival)
        cam = LayerwiseWhatWhereCAM(case.network, case.layers)
        heats = {
            f"{name}: class, rival (dashed)": None,
            "for the class": cam.attribute(question.inputs, target=own),
            "3DCAM's counterfactual": explain_as_the_paper(question),
            "RivalCAM, rival named": explain_rival(question, named=True),
        }
        index = _best_slice(scene)
        for ax, (title, heat) in zip(axes, heats.items(), strict=True):
            ax.imshow(_pixels(scene.inputs[(slice(None), *index)]).numpy())
            if heat is not None:
                shown = heat[0, 0][index].numpy()
                ax.imshow(shown, cmap="inferno", alpha=0.6, vmin=0, vmax=shown.max() or 1.0)
            for mask, style in zip(scene.masks[:2], ("solid", "dashed"), strict=True):
                ax.contour(mask[index].float().numpy(), [0.5], colors="white", linestyles=style)
            ax.set_title(title, fontsize=7)
            ax.set_axis_off()
    return figure


def _best_slice(scene: Scene) -> tuple[int, ...]:
    """The frame, or slice, that shows most of the object of which it shows less; () of an image."""
    if scene.masks.ndim == 3:
        return ()
    return (int(scene.masks[:2].flatten(2).sum(dim=2).amin(dim=0).argmax()),)


def _pixels(image: Tensor) -> Tensor:
    """(C, H, W) of any range -> (H, W, 3) in [0, 1]."""
    grey = image - image.min()
    return (grey / grey.max()).expand(3, *image.shape[1:]).movedim(0, -1)


# ------------------------------------------------------------------------------------ the study


def text_of(report: Mapping[str, Any]) -> str:
    parts = []
    for name, world in report["worlds"].items():
        parts.append(
            f"# {name}: {world['scenes']} scenes, {world['networks']} network(s), accuracy on "
            f"scenes of several objects that the highest class is one of them "
            f"{world['accuracy']:.2f}"
        )
        rows = [
            [method, *(each[column] for column in COLUMNS)]
            for method, each in world["scores"].items()
        ]
        parts.append(table(["", *COLUMNS], rows))
    return "\n\n".join(parts)


@torch.no_grad()
def accuracy(case: Case) -> float:
    """How often the highest class is one of the objects'."""
    highest = [int(case.network(scene.inputs[None]).argmax()) for scene in case.scenes]
    return float(np.mean([h in s.labels for h, s in zip(highest, case.scenes, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    add("--scenes", type=positive, default=20, help="of actions and lesions (default: 20)")
    add("--mosaics", type=positive, default=16, help="(default: 16)")
    add("--weights", type=Path, nargs="+", default=[WEIGHTS], help="of networks of actions")
    add("--seeds", type=at_least(0), nargs="+", default=[0, 1, 2], help="of networks of lesions")
    add("--steps", type=positive, help="to train these; by default the recipe's")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)

    report: dict[str, Any] = {"occluded": OCCLUDED, "blur": BLUR, "worlds": {}}
    shown = {}
    for name in options.worlds:
        cases = CASES[name](options)
        shown[name] = cases[0]
        report["worlds"][name] = {
            "scenes": len(cases[0].scenes),
            "networks": len(cases),
            "accuracy": float(np.mean([accuracy(case) for case in cases])),
            "scores": summarize([evaluate_case(case, name) for case in cases], HELD_OUT_SEED),
        }
    write_report(options.output, "counterfactual", report, text_of(report))
    draw(shown).savefig(options.output / "counterfactual.png", dpi=120)
    return report


if __name__ == "__main__":
    main()
