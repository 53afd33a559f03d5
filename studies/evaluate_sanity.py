"""Sanity: does a map depend on the network's parameters, and on the class that is explained?

Three tests of every method, over all five layers of the network of synthetic actions:

- **Randomised parameters.** The network's parameters are randomised, block after block from the
  output down. How similar is the map still (Spearman's rank correlation of absolute values, and
  SSIM)? A map that stays similar does not depend on the network. Several randomisations, the same
  for all methods. Maps that are mostly zero are similar by SSIM whatever they show; the similarity
  to the map of another clip is the reference.
- **Deletion and insertion.** The voxels with the highest attribution are deleted from the clip,
  until a blurred clip is left, or inserted into the blurred clip. The area under the curve of the
  probability, with the clip's probability at 1 and the blurred one's at 0, is low for good deletion
  and high for good insertion. A random map is the baseline. A clip whose probability blurring
  changes by less than .5 is left out of the normalised area: dividing by little would let it
  outweigh all others. (With --baseline zero, black voxels alone remove the probability: of all
  voxels, a tenth at random suffices.)
- **Other classes.** Each clip's map is compared with those of other classes: 1 is a map that does
  not depend on the class.

    python studies/evaluate_sanity.py

writes sanity.json, sanity.md and sanity.png. The target is each clip's highest class. Intervals are
95 % bootstrap intervals over clips.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _intervals import mean_interval
from _methods import METHODS, Method
from _report import table, write_report
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import Bootstrap
from captum_3dcam.sanity import (
    SIMILARITIES,
    MapComparison,
    Perturbation,
    PerturbationCurve,
    label_sensitivity,
    parameter_randomization,
    perturbation_curve,
)
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, WEIGHTS, load_action_net

BLOCKS = [*LAYERS, "fc"]  # whose parameters are randomised
METRICS = {name: SIMILARITIES[name] for name in ("absolute_rank_correlation", "ssim")}
TITLES = {"absolute_rank_correlation": "Spearman", "ssim": "SSIM"}
MODES = ("deletion", "insertion")
BASELINES = ("blur", "mean", "zero")
RANDOM = "random map"
MIN_SPAN = 0.5  # of the probability, between the clip and the blurred one
BATCH = 16
# The colours of Okabe and Ito, and grey; markers and dashes tell lines apart without colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", "-.", ":")


class Randomized(NamedTuple):
    """The parts that were randomised step by step, and the similarity of the maps, by metric."""

    steps: tuple[str, ...]
    similarities: dict[str, Tensor]
    """(S, N)"""
    other_clip: dict[str, Tensor]
    """(N,): to the trained network's map of another clip."""


def load_clips(number: int, seed: int) -> Tensor:
    clips = SyntheticActions(number, seed=seed)
    return torch.stack([clips[index].clip for index in range(number)])


# --------------------------------------------------------------------------------- the tests


def randomize(
    network: nn.Module, method: Method, layers: Sequence[str], clips: Tensor, seeds: Sequence[int]
) -> Randomized:
    """The mean over the seeds, without constant maps, which have no ranking."""
    results = [
        parameter_randomization(
            network,
            lambda randomized: method(randomized, layers),
            clips,
            layers=BLOCKS,
            comparison=MapComparison(METRICS, seed=seed),
        )
        for seed in seeds
    ]
    means = {
        name: torch.stack([each.similarities[name] for each in results]).nanmean(dim=0)
        for name in METRICS
    }
    maps = explain(method(network, layers), clips)
    other_clip = {name: metric(maps, maps.roll(1, dims=0)) for name, metric in METRICS.items()}
    return Randomized(results[0].steps, means, other_clip)


def compare_classes(attribution: Any, clips: Tensor, seed: int) -> dict[str, Tensor]:
    """The similarity of the maps of three other classes, (3, N) by metric."""
    comparison = MapComparison(METRICS, seed=seed)
    return label_sensitivity(attribution, clips, comparison=comparison).similarities


def perturb(
    network: nn.Module, clips: Tensor, maps: Tensor, options: argparse.Namespace
) -> dict[str, PerturbationCurve]:
    return {
        mode: perturbation_curve(
            network,
            clips,
            maps,
            perturbation=Perturbation(mode, options.baseline, options.steps, options.seed),
            batch_size=BATCH,
        )
        for mode in MODES
    }


def normalized_auc(curve: PerturbationCurve) -> Tensor:
    """(N,); NaN for a clip whose probability is too close to that of the blurred clip."""
    span = (curve.scores[:, 0] - curve.scores[:, -1]).abs()
    return torch.where(span >= MIN_SPAN, curve.normalized_auc, torch.nan)


def explain(attribution: Any, clips: Tensor) -> Tensor:
    return torch.cat([attribution.attribute(batch) for batch in clips.split(BATCH)])


def random_maps(clips: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(clips), 1, *clips.shape[2:], generator=generator)


# --------------------------------------------------------------------------------- the study


def study(
    network: nn.Module, methods: Mapping[str, Method], options: argparse.Namespace
) -> dict[str, Any]:
    bootstrap = Bootstrap(seed=options.seed)
    clips = load_clips(options.clips, options.seed)
    curve_clips = load_clips(options.curve_clips, options.seed)
    random = random_maps(curve_clips, options.seed)
    curves = {RANDOM: perturb(network, curve_clips, random, options)}
    cascades, classes = {}, {}
    for name in tqdm(methods, desc="methods", unit="method"):
        method = methods[name]
        attribution = method(network, options.layers)
        cascades[name] = randomize(network, method, options.layers, clips, range(options.repeats))
        classes[name] = compare_classes(attribution, clips, options.seed)
        maps = explain(attribution, curve_clips)
        curves[name] = perturb(network, curve_clips, maps, options)
    settings = ("seed", "clips", "repeats", "curve_clips", "steps", "baseline", "layers")
    report: dict[str, Any] = {name: getattr(options, name) for name in settings}
    report["randomized"] = list(next(iter(cascades.values())).steps)
    report["randomization"] = {
        name: summarize_cascade(cascade, bootstrap) for name, cascade in cascades.items()
    }
    report["labels"] = {
        name: {metric: mean_interval(each[metric].T.numpy(), bootstrap) for metric in METRICS}
        for name, each in classes.items()
    }
    report["curves"] = {
        name: {mode: summarize_curve(each[mode], bootstrap) for mode in MODES}
        for name, each in curves.items()
    }
    return report


def summarize_cascade(cascade: Randomized, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """Of each metric the mean over clips: at each step, over all steps, and to another clip."""
    return {
        metric: {
            "steps": [mean_interval(step.numpy(), bootstrap) for step in values],
            "mean": mean_interval(values.T.numpy(), bootstrap),
            "another_clip": mean_interval(cascade.other_clip[metric].numpy(), bootstrap),
        }
        for metric, values in cascade.similarities.items()
    }


def summarize_curve(curve: PerturbationCurve, bootstrap: Bootstrap) -> dict[str, Any]:
    areas = normalized_auc(curve)
    return {
        "normalized_auc": mean_interval(areas.numpy(), bootstrap),
        "auc": mean_interval(curve.auc.numpy(), bootstrap),
        "clips": int((~areas.isnan()).sum()),
    }


def text_of(report: Mapping[str, Any]) -> str:
    cascade = [
        table(
            [f"{TITLES[metric]}: down to", *report["randomized"], "mean", "another clip"],
            [cascade_row(name, each[metric]) for name, each in report["randomization"].items()],
        )
        for metric in METRICS
    ]
    labels = table(
        ["", *(TITLES[metric] for metric in METRICS)],
        [[name, *each.values()] for name, each in report["labels"].items()],
    )
    areas = table(
        ["", *(f"{mode}, {unit}" for mode in MODES for unit in ("normalised AUC", "AUC"))],
        [
            [name, *(each[mode][unit] for mode in MODES for unit in ("normalized_auc", "auc"))]
            for name, each in report["curves"].items()
        ],
    )
    kept = " and ".join(f"{report['curves'][RANDOM][mode]['clips']} for {mode}" for mode in MODES)
    return "\n\n".join(
        [
            f"# Randomised parameters, {report['clips']} clips, {report['repeats']} randomisations",
            "The similarity to the trained network's map, lower is better. Mean and 95 % interval "
            "over clips.",
            *cascade,
            "# Other classes",
            "The similarity of the maps of other classes, lower is better.",
            labels,
            f"# Deletion (lower is better) and insertion (higher), {report['curve_clips']} clips",
            f"Baseline: {report['baseline']}. Normalised over the clips whose probability it "
            f"changes by {MIN_SPAN} or more: {kept}.",
            areas,
        ]
    )


def cascade_row(name: str, cascade: Mapping[str, Any]) -> list[str]:
    steps = [f"{interval.value:.3f}" for interval in cascade["steps"]]
    return [name, *steps, str(cascade["mean"]), f"{cascade['another_clip'].value:.3f}"]


# ------------------------------------------------------------------------------------ figure


def draw(report: Mapping[str, Any]) -> Figure:
    """A panel for each metric, a line for each method: the mean over clips at every step.

    The separate points on the right are the similarity to the map of another clip.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for ax, metric in zip(panels, METRICS, strict=True):
        for index, (name, cascade) in enumerate(report["randomization"].items()):
            heights = [1.0, *(interval.value for interval in cascade[metric]["steps"])]
            style = line_style(index)
            ax.plot(range(len(heights)), heights, label=name, **style)
            ax.plot([len(heights)], [cascade[metric]["another_clip"].value], **style)
        ax.axvline(len(report["randomized"]) + 0.5, color="lightgrey", linewidth=0.8)
        label_axes(ax, ["trained", *report["randomized"], "another clip"], TITLES[metric])
    panels[0].set_ylabel("similarity to the trained network's map")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def line_style(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
        "markersize": 6,
        "linewidth": 1.8,
    }


def label_axes(ax: Axes, steps: Sequence[str], title: str) -> None:
    ax.set_title(title)
    ax.set_xticks(range(len(steps)), steps, rotation=30, ha="right")
    ax.set_xlabel("randomised from the output down to")
    ax.axhline(0, color="grey", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    network = load_action_net(options.weights)
    report = study(network, {name: METHODS[name] for name in options.methods}, options)
    write_report(options.output, "sanity", report, text_of(report))
    draw(report).savefig(options.output / "sanity.png", dpi=100)
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser, positive = make_parser(__doc__), at_least(1)
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--clips", type=at_least(2), default=8, help="to randomise on, and for classes (8)")
    add("--repeats", type=positive, default=3, help="randomisations (default: 3)")
    add("--curve-clips", type=positive, default=16, help="for deletion and insertion (16)")
    add("--steps", type=positive, default=12, help="of deletion and insertion (default: 12)")
    add("--baseline", choices=BASELINES, default="blur", help="what is left (default: blur)")
    add("--seed", type=int, default=HELD_OUT_SEED, help="of the clips and the bootstrap")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
