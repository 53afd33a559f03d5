"""When: segments of actions in untrimmed videos, by temporal mAP.

A window slides over held-out synthetic videos of four actions with pauses between them. Each class
that is some window's highest, at a probability above a threshold, is explained in every window; the
map's temporal profile, its maximum made 1, is weighted by the window's probability of the class,
and the mean is taken where windows overlap. Hysteresis makes segments of the profile. A probability
below 5 % counts as none: such a window would not reach the lower threshold, and is not explained.

    python studies/evaluate_temporal.py --videos 16

shows temporal mAP at IoU .1 to .7 in time, and the temporal hit: for each class that is both
predicted and there, whether the profile is highest during the action (the mean, where several
frames are highest). Beside the methods:

- ``probability``: the windows' probabilities themselves are the profile, without any map;
- ``whole video``: one segment for each predicted class;
- ``random``: as many segments as ``probability`` has, each between two frames drawn at random.

Intervals are 95 % bootstrap intervals over videos. Needs the extra ``demo`` for the progress bar.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_3dcam.datasets import SyntheticActionVideos
from captum_3dcam.evaluation import Bootstrap, Interval
from captum_3dcam.functional import normalize, temporal_profile
from captum_3dcam.localization import segments
from captum_3dcam.metrics import match_detections
from study import METHODS, Array, Method, quantile_interval, ratio_interval, table, write
from trained_networks.action_net import LAYERS, WEIGHTS, load_action_net

HELD_OUT_SEED = 10**6  # as in train_actions.py
WINDOW, STRIDE = 16, 8
NEGLIGIBLE = 0.05  # a probability
BATCH = 16
TIOUS = tuple(step / 10 for step in range(1, 8))

Detections = dict[str, Tensor]
Profiles = dict[int, Tensor]
"""Of each predicted class, (L,)."""


class Windows(NamedTuple):
    """A video's windows, and what the network says of them."""

    starts: list[int]
    frames: int
    clips: Tensor
    """(W, 3, 16, H, W)"""
    probabilities: Tensor
    """(W, classes); those that are negligible are 0."""
    classes: list[int]
    """Those that are predicted somewhere."""


class Found(NamedTuple):
    """What one row has found in one video."""

    detections: Detections
    hits: Tensor
    """One for each class that is both predicted and there, in [0, 1]."""


# --------------------------------------------------------------------------------- profiles


def window_starts(frames: int) -> list[int]:
    """Every eighth frame, and the last window that fits, so that no frame is left out.

    >>> window_starts(35)
    [0, 8, 16, 19]
    """
    if frames < WINDOW:
        raise ValueError(f"A video needs {WINDOW} frames, one window; this one has {frames}.")
    last = frames - WINDOW
    return [*range(0, last, STRIDE), last]


@torch.no_grad()
def look(network: nn.Module, video: Tensor, threshold: float) -> Windows:
    """Classify all windows of (3, L, H, W)."""
    starts = window_starts(video.shape[1])
    clips = torch.stack([video[:, start : start + WINDOW] for start in starts])
    probabilities = torch.cat([network(batch) for batch in clips.split(BATCH)]).softmax(dim=1)
    highest, labels = probabilities.max(dim=1)
    classes = sorted(set(labels[highest > threshold].tolist()))
    probabilities[probabilities < NEGLIGIBLE] = 0
    return Windows(starts, video.shape[1], clips, probabilities, classes)


def stitch(windows: Windows, profiles: Tensor) -> Tensor:
    """Profiles (W, 16) of the windows -> (L,), the mean of all windows that have a frame."""
    total, count = torch.zeros(windows.frames), torch.zeros(windows.frames)
    for start, profile in zip(windows.starts, profiles, strict=True):
        total[start : start + WINDOW] += profile
        count[start : start + WINDOW] += 1
    return total / count


def explained_profiles(windows: Windows, attribution: Any) -> Profiles:
    """By the maps of each predicted class, weighted by its probability."""
    asked = [
        (number, label)
        for label in windows.classes
        for number in range(len(windows.starts))
        if windows.probabilities[number, label] > 0
    ]
    weighted = {label: torch.zeros(len(windows.starts), WINDOW) for label in windows.classes}
    for start in range(0, len(asked), BATCH):
        numbers, labels = (list(part) for part in zip(*asked[start : start + BATCH], strict=True))
        maps = attribution.attribute(windows.clips[numbers], target=labels)
        profiles = normalize(temporal_profile(maps)[:, None])[:, 0]
        for number, label, profile in zip(numbers, labels, profiles, strict=True):
            weighted[label][number] = profile * windows.probabilities[number, label]
    return {label: stitch(windows, profiles) for label, profiles in weighted.items()}


def probability_profiles(windows: Windows) -> Profiles:
    return {
        label: stitch(windows, windows.probabilities[:, label, None].expand(-1, WINDOW))
        for label in windows.classes
    }


# --------------------------------------------------------------------------------- segments


def detections(rows: Sequence[tuple[float, float, float, int]]) -> Detections:
    """Of (start, end, score, label)."""
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return {"segments": columns[:, :2], "scores": columns[:, 2], "labels": columns[:, 3].long()}


def detect(profiles: Profiles, options: argparse.Namespace) -> Detections:
    """Segments of each class, by hysteresis."""
    return detections(
        [
            (segment.start, segment.end, segment.score, label)
            for label, profile in profiles.items()
            for segment in segments(
                profile[None], options.high, options.low, options.min_length, options.max_gap
            )[0]
        ]
    )


def whole_video(windows: Windows) -> Detections:
    highest = windows.probabilities.amax(dim=0).tolist()
    return detections([(0, windows.frames, highest[label], label) for label in windows.classes])


def at_random(like: Detections, frames: int, rng: np.random.Generator) -> Detections:
    """Other segments of the same classes, their two ends two different frames at random."""
    drawn = [
        (*sorted(rng.choice(frames + 1, 2, replace=False).tolist()), float(rng.uniform()), label)
        for label in like["labels"].tolist()
    ]
    return detections(drawn)


def hits(profiles: Profiles, truth: Detections) -> Tensor:
    """Of each class predicted and there: the share of the highest frames that are in it.

    Where one frame is highest this is :func:`captum_3dcam.metrics.temporal_hit`.
    """
    shares = []
    for label, profile in profiles.items():
        there = torch.zeros(len(profile), dtype=torch.bool)
        for start, end in truth["segments"][truth["labels"] == label].tolist():
            there[int(start) : int(end)] = True
        if there.any():
            highest = (profile == profile.max()) & (profile.max() > 0)
            shares.append(there[highest].double().mean() if highest.any() else torch.tensor(0.0))
    return torch.tensor(shares, dtype=torch.float64)


def constant(windows: Windows) -> Profiles:
    return {label: torch.ones(windows.frames) for label in windows.classes}


# -------------------------------------------------------------------------------- the study


def search(
    network: nn.Module,
    videos: SyntheticActionVideos,
    methods: Mapping[str, Method],
    options: argparse.Namespace,
) -> tuple[dict[str, list[Found]], list[Detections]]:
    """What each row finds in each video; and the truth."""
    attributions = {name: method(network, options.layers) for name, method in methods.items()}
    rng = np.random.default_rng(options.seed)
    rows: dict[str, list[Found]] = {}
    truths = []
    for number in tqdm(range(len(videos)), desc="videos", unit="video"):
        video = videos[number]
        truth = {"segments": video.segments.double(), "labels": video.labels}
        truths.append(truth)
        windows = look(network, video.video, options.threshold)
        profiles = {
            name: explained_profiles(windows, attribution)
            for name, attribution in attributions.items()
        }
        profiles["probability"] = probability_profiles(windows)
        found = {
            name: Found(detect(each, options), hits(each, truth)) for name, each in profiles.items()
        }
        everywhere = hits(constant(windows), truth)
        found["whole video"] = Found(whole_video(windows), everywhere)
        like = found["probability"].detections
        found["random"] = Found(at_random(like, windows.frames, rng), everywhere)
        for name, each in found.items():
            rows.setdefault(name, []).append(each)
    return rows, truths


def mean_average_precisions(
    predicted: Sequence[Detections], truth: Sequence[Detections], counts: Array
) -> Array:
    """Temporal mAP with each video counted so often: counts (R, V) -> (R, 7).

    What :func:`captum_3dcam.metrics.temporal_map` gives for a list with the videos repeated. A
    video's detections are matched to its own truth alone, so once is enough for all draws.
    """
    labels = sorted({int(label) for true in truth for label in true["labels"]})
    precisions = np.full((len(labels), len(counts), len(TIOUS)), np.nan)
    for row, label in enumerate(labels):
        scores = torch.cat([found["scores"][found["labels"] == label] for found in predicted])
        videos = np.repeat(
            np.arange(len(predicted)), [int((f["labels"] == label).sum()) for f in predicted]
        )
        order = scores.argsort(descending=True, stable=True).numpy()
        weights = counts[:, videos[order]]
        truths = counts @ np.array([int((true["labels"] == label).sum()) for true in truth])
        for column, tiou in enumerate(TIOUS):
            right, _ = match_detections(predicted, truth, label, tiou)
            precisions[row, :, column] = average_precisions(weights, right.numpy(), truths)
    known = ~np.isnan(precisions)
    mean: Array = np.where(known, precisions, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def average_precisions(weights: Array, right: Array, truths: Array) -> Array:
    """All-point interpolated AP of ranked detections that come (R, M) times each; NaN of none.

    Copies of a hit follow each other, and precision does not fall from one to the next: all have
    at least that of the last.
    """
    hit = weights * right
    total = weights.cumsum(axis=1)
    precision = np.divide(hit.cumsum(axis=1), total, out=np.zeros_like(total), where=hit > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precisions = np.full(len(truths), np.nan)
    np.divide((hit * envelope).sum(axis=1), truths, out=precisions, where=truths > 0)
    return precisions


def summarize(
    found: Sequence[Found], truth: Sequence[Detections], bootstrap: Bootstrap
) -> dict[str, Interval]:
    counts = np.concatenate([np.ones((1, len(truth))), bootstrap.counts(len(truth))])
    precisions = mean_average_precisions([each.detections for each in found], truth, counts)
    summary = {
        f"mAP@{tiou}": quantile_interval(precisions[:, column], bootstrap)
        for column, tiou in enumerate(TIOUS)
    }
    summary["mAP"] = quantile_interval(precisions.mean(axis=1), bootstrap)
    tops = np.array([float(each.hits.sum()) for each in found])
    bottoms = np.array([float(len(each.hits)) for each in found])
    summary["hit"] = ratio_interval(tops, bottoms, bootstrap)
    return summary


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    load: Callable[[Path], nn.Module] = load_action_net
    videos = SyntheticActionVideos(options.videos, seed=options.seed)
    methods = {name: METHODS[name] for name in options.methods}
    rows, truth = search(load(options.weights), videos, methods, options)
    bootstrap = Bootstrap(seed=options.seed)
    settings = ("seed", "videos", "layers", "threshold", "high", "low", "min_length", "max_gap")
    report: dict[str, Any] = {name: getattr(options, name) for name in settings}
    report |= {"window": WINDOW, "stride": STRIDE}
    report["segments"] = {"truth": sum(len(true["labels"]) for true in truth)}
    report["segments"] |= {
        name: sum(len(each.detections["labels"]) for each in found) for name, found in rows.items()
    }
    report["scores"] = {name: summarize(found, truth, bootstrap) for name, found in rows.items()}
    write(options.output, "temporal", report, text_of(report))
    return report


def text_of(report: Mapping[str, Any]) -> str:
    counts = report["segments"]
    head = ["", *(f"@{tiou}" for tiou in TIOUS), "mean mAP", "hit", "segments"]
    rows = [
        [
            name,
            *(f"{scores[f'mAP@{tiou}'].value:.3f}" for tiou in TIOUS),
            scores["mAP"],
            scores["hit"],
            counts[name],
        ]
        for name, scores in report["scores"].items()
    ]
    return (
        f"# Temporal mAP, {report['videos']} videos, {counts['truth']} true segments\n\n"
        f"At temporal IoU .1 to .7, their mean, and the temporal hit; 95 % intervals over videos.\n"
        f"\n{table(head, rows)}"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--videos", type=int, default=16, help="how many (default: 16)")
    add("--seed", type=int, default=HELD_OUT_SEED, help="of videos, random segments, bootstrap")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add("--threshold", type=float, default=0.5, help="a predicted class's probability (0.5)")
    add("--high", type=float, default=0.5, help="of the profile's maximum (default: 0.5)")
    add("--low", type=float, default=0.25, help="of the profile's maximum (default: 0.25)")
    add("--min-length", type=int, default=8, help="of a segment, in frames (default: 8)")
    add("--max-gap", type=int, default=0, help="frames between segments to be joined (default: 0)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.videos < 1:
        parser.error("--videos: give one or more")
    return options


if __name__ == "__main__":
    main()
