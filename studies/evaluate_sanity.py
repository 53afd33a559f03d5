"""Sanity: is a map about what the network has learned, and about the class that it is asked about?

Three tests of every method, over all five layers of the network of synthetic actions:

- the network's parameters are randomised, block after block from the output down. How alike is the
  map still (Spearman's rank correlation of absolute values, and SSIM)? A map that stays alike is
  not about the network. Several randomisations; all methods see the same ones. Maps that are zero
  at most places are alike by SSIM whatever they show: the map of another clip says how much;
- the places that a map calls most important are deleted from the clip, which leaves a blurred one,
  or inserted into that. How does the probability follow? The area under the curve, with the clip's
  probability at 1 and the blurred one's at 0: low is good for deletion, high for insertion. A
  random map is the baseline. (With black as what is left, a tenth of all places at random takes the
  probability away: a test of black dots, not of the map. --baseline zero shows it.) A clip whose
  probability blurring changes by less than .5 is left out of the normalised area: dividing by
  little would let it outweigh all others;
- each clip's map is compared with those of other classes: 1 is a map that does not know the class.

    python studies/evaluate_sanity.py

writes sanity.json, sanity.md and sanity.png. The target is each clip's highest class. Intervals are
95 % bootstrap intervals over clips. Needs the extra ``demo`` for the progress bar.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

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
from study import METHODS, Method, mean_interval, table, write
from trained_networks.action_net import LAYERS, WEIGHTS, load_action_net

HELD_OUT_SEED = 10**6  # as in train_actions.py
STEPS = [*LAYERS, "fc"]  # what is randomised
METRICS = {name: SIMILARITIES[name] for name in ("absolute_rank_correlation", "ssim")}
TITLES = {"absolute_rank_correlation": "Spearman", "ssim": "SSIM"}
MODES = ("deletion", "insertion")
BASELINES = ("blur", "mean", "zero")
RANDOM = "random map"
LEAST_SPAN = 0.5  # of the probability, from the clip to the bare one
BATCH = 16
# Okabe and Ito's colours, and a grey; markers and dashes for who does not see them.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", "-.", ":")


class Randomized(NamedTuple):
    """What was randomised at each step, and how alike the maps are, by metric."""

    steps: tuple[str, ...]
    similarities: dict[str, Tensor]
    """(S, N)"""
    floor: dict[str, Tensor]
    """(N,): to the trained network's map of another clip."""


def load_clips(number: int, seed: int) -> Tensor:
    clips = SyntheticActions(number, seed=seed)
    return torch.stack([clips[index].clip for index in range(number)])


# --------------------------------------------------------------------------------- the tests


def randomized(
    network: nn.Module, method: Method, layers: Sequence[str], clips: Tensor, seeds: Sequence[int]
) -> Randomized:
    """The mean over the seeds; a constant map, which has no ranking, is left out of it."""
    found = [
        parameter_randomization(
            network,
            lambda subject: method(subject, layers),
            clips,
            layers=STEPS,
            comparison=MapComparison(METRICS, seed=seed),
        )
        for seed in seeds
    ]
    means = {
        name: torch.stack([each.similarities[name] for each in found]).nanmean(dim=0)
        for name in METRICS
    }
    maps = explain(method(network, layers), clips)
    floor = {name: metric(maps, maps.roll(1, dims=0)) for name, metric in METRICS.items()}
    return Randomized(found[0].steps, means, floor)


def other_labels(attribution: Any, clips: Tensor, seed: int) -> dict[str, Tensor]:
    """How alike the maps of three other classes are: (3, N) by metric."""
    comparison = MapComparison(METRICS, seed=seed)
    return label_sensitivity(attribution, clips, comparison=comparison).similarities


def curves(
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
    """(N,); NaN for a clip whose probability is too near to the bare one's."""
    span = (curve.scores[:, 0] - curve.scores[:, -1]).abs()
    return torch.where(span >= LEAST_SPAN, curve.normalized_auc, torch.nan)


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
    blind = random_maps(curve_clips, options.seed)
    followed = {RANDOM: curves(network, curve_clips, blind, options)}
    cascades, labels = {}, {}
    for name in tqdm(methods, desc="methods", unit="method"):
        method = methods[name]
        attribution = method(network, options.layers)
        cascades[name] = randomized(network, method, options.layers, clips, range(options.repeats))
        labels[name] = other_labels(attribution, clips, options.seed)
        maps = explain(attribution, curve_clips)
        followed[name] = curves(network, curve_clips, maps, options)
    settings = ("seed", "clips", "repeats", "curve_clips", "steps", "baseline", "layers")
    report: dict[str, Any] = {name: getattr(options, name) for name in settings}
    report["randomized"] = list(next(iter(cascades.values())).steps)
    report["randomization"] = {
        name: summarize_cascade(found, bootstrap) for name, found in cascades.items()
    }
    report["labels"] = {
        name: {metric: mean_interval(found[metric].T.numpy(), bootstrap) for metric in METRICS}
        for name, found in labels.items()
    }
    report["curves"] = {
        name: {mode: summarize_curve(found[mode], bootstrap) for mode in MODES}
        for name, found in followed.items()
    }
    return report


def summarize_cascade(found: Randomized, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """Of each metric the mean over clips: at each step, over all steps, and of other clips."""
    return {
        metric: {
            "steps": [mean_interval(step.numpy(), bootstrap) for step in values],
            "mean": mean_interval(values.T.numpy(), bootstrap),
            "another_clip": mean_interval(found.floor[metric].numpy(), bootstrap),
        }
        for metric, values in found.similarities.items()
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
            [cascade_row(name, found[metric]) for name, found in report["randomization"].items()],
        )
        for metric in METRICS
    ]
    labels = table(
        ["", *(TITLES[metric] for metric in METRICS)],
        [[name, *found.values()] for name, found in report["labels"].items()],
    )
    areas = table(
        ["", *(f"{mode}, {unit}" for mode in MODES for unit in ("normalised AUC", "AUC"))],
        [
            [name, *(found[mode][unit] for mode in MODES for unit in ("normalized_auc", "auc"))]
            for name, found in report["curves"].items()
        ],
    )
    kept = " and ".join(f"{report['curves'][RANDOM][mode]['clips']} for {mode}" for mode in MODES)
    return "\n\n".join(
        [
            f"# Randomised parameters, {report['clips']} clips, {report['repeats']} randomisations",
            "The similarity to the trained network's map, less is better. Mean and 95 % interval "
            "over clips.",
            *cascade,
            "# Other labels",
            "The similarity of the maps of other classes, less is better.",
            labels,
            f"# Deletion (less is better) and insertion (more is), {report['curve_clips']} clips",
            f"To and from {report['baseline']}. Normalised over the clips whose probability that "
            f"changes by {LEAST_SPAN} or more: {kept}.",
            areas,
        ]
    )


def cascade_row(name: str, found: Mapping[str, Any]) -> list[str]:
    steps = [f"{interval.value:.3f}" for interval in found["steps"]]
    return [name, *steps, str(found["mean"]), f"{found['another_clip'].value:.3f}"]


# ------------------------------------------------------------------------------------ figure


def draw(report: Mapping[str, Any]) -> Figure:
    """One panel a metric, one line a method: the mean over clips at every step.

    Beside the lines, apart, the similarity to the map of another clip.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for ax, metric in zip(panels, METRICS, strict=True):
        for position, (name, found) in enumerate(report["randomization"].items()):
            heights = [1.0, *(interval.value for interval in found[metric]["steps"])]
            style = look(position)
            ax.plot(range(len(heights)), heights, label=name, **style)
            ax.plot([len(heights)], [found[metric]["another_clip"].value], **style)
        ax.axvline(len(report["randomized"]) + 0.5, color="lightgrey", linewidth=0.8)
        finish(ax, ["trained", *report["randomized"], "another clip"], TITLES[metric])
    panels[0].set_ylabel("similarity to the trained network's map")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def look(position: int) -> dict[str, Any]:
    return {
        "color": COLORS[position % len(COLORS)],
        "marker": MARKERS[position % len(MARKERS)],
        "linestyle": DASHES[position % len(DASHES)],
        "markersize": 6,
        "linewidth": 1.8,
    }


def finish(ax: Axes, steps: Sequence[str], title: str) -> None:
    ax.set_title(title)
    ax.set_xticks(range(len(steps)), steps, rotation=30, ha="right")
    ax.set_xlabel("randomised from the output down to")
    ax.axhline(0, color="grey", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    network = load_action_net(options.weights)
    report = study(network, {name: METHODS[name] for name in options.methods}, options)
    write(options.output, "sanity", report, text_of(report))
    draw(report).savefig(options.output / "sanity.png", dpi=100)
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--clips", type=int, default=8, help="to randomise on, and for labels; two or more (8)")
    add("--repeats", type=int, default=3, help="randomisations (default: 3)")
    add("--curve-clips", type=int, default=16, help="for deletion and insertion (default: 16)")
    add("--steps", type=int, default=12, help="of deletion and insertion (default: 12)")
    add("--baseline", choices=BASELINES, default="blur", help="what is left (default: blur)")
    add("--seed", type=int, default=HELD_OUT_SEED, help="of the clips and the bootstrap")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    for name, least in {"clips": 2, "repeats": 1, "curve_clips": 1, "steps": 1}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')}: give {least} or more")
    return options


if __name__ == "__main__":
    main()
