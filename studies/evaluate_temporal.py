"""When: segments of actions in untrimmed videos, by temporal mAP.

A window slides over held-out synthetic videos of four actions with pauses between them. Each class
that is predicted in some window, with a probability above a threshold, is explained in every
window. The map's temporal profile, normalised to a maximum of 1, is weighted by the window's
probability of the class, and overlapping windows are averaged. Hysteresis thresholding of the
profile gives segments. Windows with a probability below 5 % are not explained: they would not reach
the lower threshold.

    python studies/evaluate_temporal.py --videos 16

shows temporal mAP at temporal IoU .1 to .7, and the temporal hit: for each class that is predicted
and present, whether the profile is highest during the action (the mean, where several frames are
highest). Beside the methods there are three baselines:

- ``probability``: the windows' probabilities themselves are the profile, without a map;
- ``whole video``: one segment for each predicted class;
- ``random``: as many segments as ``probability`` has, each between two random frames.

Intervals are 95 % bootstrap intervals over videos.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _intervals import Array, quantile_interval, ratio_interval
from _methods import METHODS, Method
from _report import table, write_report
from captum_3dcam.datasets import SyntheticActionVideos
from captum_3dcam.evaluation import Bootstrap, Interval
from captum_3dcam.functional import normalize, temporal_profile
from captum_3dcam.localization import segments
from captum_3dcam.metrics import match_detections
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, WEIGHTS, load_action_net

WINDOW, STRIDE = 16, 8
NEGLIGIBLE_PROBABILITY = 0.05
BATCH = 16
TIOUS = tuple(step / 10 for step in range(1, 8))

Detections = dict[str, Tensor]
Profiles = dict[int, Tensor]
"""Of each predicted class the profile, (L,)."""


class Windows(NamedTuple):
    """A video's windows, and what the network predicts for them."""

    starts: list[int]
    frames: int
    clips: Tensor
    """(W, 3, 16, H, W)"""
    probabilities: Tensor
    """(W, classes); negligible ones are 0."""
    classes: list[int]
    """Those that are predicted in some window."""


class VideoResult(NamedTuple):
    """The detections of one method or baseline in one video."""

    detections: Detections
    hits: Tensor
    """One for each class that is predicted and present, in [0, 1]."""


# --------------------------------------------------------------------------------- profiles


def window_starts(frames: int) -> list[int]:
    """Every eighth frame, and the last start that fits, so that no frame is left out.

    >>> window_starts(35)
    [0, 8, 16, 19]
    """
    if frames < WINDOW:
        raise ValueError(f"A video needs {WINDOW} frames, one window; this one has {frames}.")
    last = frames - WINDOW
    return [*range(0, last, STRIDE), last]


@torch.no_grad()
def classify_windows(network: nn.Module, video: Tensor, threshold: float) -> Windows:
    """The windows of a video (3, L, H, W)."""
    starts = window_starts(video.shape[1])
    clips = torch.stack([video[:, start : start + WINDOW] for start in starts])
    probabilities = torch.cat([network(batch) for batch in clips.split(BATCH)]).softmax(dim=1)
    highest, labels = probabilities.max(dim=1)
    classes = sorted(set(labels[highest > threshold].tolist()))
    probabilities[probabilities < NEGLIGIBLE_PROBABILITY] = 0
    return Windows(starts, video.shape[1], clips, probabilities, classes)


def stitch(windows: Windows, profiles: Tensor) -> Tensor:
    """Profiles (W, 16) of the windows -> (L,), the mean over the windows of each frame."""
    total, count = torch.zeros(windows.frames), torch.zeros(windows.frames)
    for start, profile in zip(windows.starts, profiles, strict=True):
        total[start : start + WINDOW] += profile
        count[start : start + WINDOW] += 1
    return total / count


def explained_profiles(windows: Windows, attribution: Any) -> Profiles:
    """Of the maps of each predicted class, weighted by its probability."""
    pairs = [
        (number, label)
        for label in windows.classes
        for number in range(len(windows.starts))
        if windows.probabilities[number, label] > 0
    ]
    weighted = {label: torch.zeros(len(windows.starts), WINDOW) for label in windows.classes}
    for start in range(0, len(pairs), BATCH):
        numbers, labels = (list(part) for part in zip(*pairs[start : start + BATCH], strict=True))
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
    """From rows of (start, end, score, label)."""
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return {"segments": columns[:, :2], "scores": columns[:, 2], "labels": columns[:, 3].long()}


def detect(profiles: Profiles, options: argparse.Namespace) -> Detections:
    """Segments of each class, by hysteresis thresholding."""
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


def random_segments(like: Detections, frames: int, rng: np.random.Generator) -> Detections:
    """Segments of the same classes, each between two different random frames."""
    rows = [
        (*sorted(rng.choice(frames + 1, 2, replace=False).tolist()), float(rng.uniform()), label)
        for label in like["labels"].tolist()
    ]
    return detections(rows)


def hits(profiles: Profiles, ground_truth: Detections) -> Tensor:
    """For each class predicted and present: the share of the highest frames that show it.

    Where one frame is highest this is :func:`captum_3dcam.metrics.temporal_hit`.
    """
    shares = []
    for label, profile in profiles.items():
        shown = torch.zeros(len(profile), dtype=torch.bool)
        for start, end in ground_truth["segments"][ground_truth["labels"] == label].tolist():
            shown[int(start) : int(end)] = True
        if shown.any():
            highest = (profile == profile.max()) & (profile.max() > 0)
            shares.append(shown[highest].double().mean() if highest.any() else torch.tensor(0.0))
    return torch.tensor(shares, dtype=torch.float64)


def constant_profiles(windows: Windows) -> Profiles:
    return {label: torch.ones(windows.frames) for label in windows.classes}


# -------------------------------------------------------------------------------- the study


def detect_in_videos(
    network: nn.Module,
    videos: SyntheticActionVideos,
    methods: Mapping[str, Method],
    options: argparse.Namespace,
) -> tuple[dict[str, list[VideoResult]], list[Detections]]:
    """The results of every method and baseline for each video; and the ground truth."""
    attributions = {name: method(network, options.layers) for name, method in methods.items()}
    rng = np.random.default_rng(options.seed)
    rows: dict[str, list[VideoResult]] = {}
    ground_truths = []
    for number in tqdm(range(len(videos)), desc="videos", unit="video"):
        video = videos[number]
        ground_truth = {"segments": video.segments.double(), "labels": video.labels}
        ground_truths.append(ground_truth)
        windows = classify_windows(network, video.video, options.threshold)
        profiles = {
            name: explained_profiles(windows, attribution)
            for name, attribution in attributions.items()
        }
        profiles["probability"] = probability_profiles(windows)
        results = {
            name: VideoResult(detect(each, options), hits(each, ground_truth))
            for name, each in profiles.items()
        }
        constant_hits = hits(constant_profiles(windows), ground_truth)
        results["whole video"] = VideoResult(whole_video(windows), constant_hits)
        like = results["probability"].detections
        results["random"] = VideoResult(random_segments(like, windows.frames, rng), constant_hits)
        for name, result in results.items():
            rows.setdefault(name, []).append(result)
    return rows, ground_truths


def mean_average_precisions(
    predicted: Sequence[Detections], ground_truth: Sequence[Detections], counts: Array
) -> Array:
    """Temporal mAP with each video repeated so often: counts (R, V) -> (R, 7).

    What :func:`captum_3dcam.metrics.temporal_map` gives for a list with the videos repeated. A
    video's detections are matched to its own ground truth alone, so one matching serves all
    resamples.
    """
    labels = sorted({int(label) for each in ground_truth for label in each["labels"]})
    precisions = np.full((len(labels), len(counts), len(TIOUS)), np.nan)
    for row, label in enumerate(labels):
        scores = torch.cat([each["scores"][each["labels"] == label] for each in predicted])
        detected, actual = (
            np.array([int((each["labels"] == label).sum()) for each in side])
            for side in (predicted, ground_truth)
        )
        videos = np.repeat(np.arange(len(predicted)), detected)
        order = scores.argsort(descending=True, stable=True).numpy()
        weights = counts[:, videos[order]]
        for column, tiou in enumerate(TIOUS):
            correct, _ = match_detections(predicted, ground_truth, label, tiou)
            precisions[row, :, column] = average_precisions(
                weights, correct.numpy(), counts @ actual
            )
    known = ~np.isnan(precisions)
    mean: Array = np.where(known, precisions, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def average_precisions(weights: Array, correct: Array, actual: Array) -> Array:
    """All-point interpolated AP of ranked detections, (R,); NaN where there is no segment.

    ``weights`` (R, M) say how often each detection is repeated, ``correct`` (M,) which are
    correct, ``actual`` (R,) how many segments there are. The copies of a correct detection follow
    each other, and precision does not fall from one to the next, so that all of them have the
    interpolated precision of the last.
    """
    hit = weights * correct
    total = weights.cumsum(axis=1)
    precision = np.divide(hit.cumsum(axis=1), total, out=np.zeros_like(total), where=hit > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precisions = np.full(len(actual), np.nan)
    np.divide((hit * envelope).sum(axis=1), actual, out=precisions, where=actual > 0)
    return precisions


def summarize(
    results: Sequence[VideoResult], ground_truth: Sequence[Detections], bootstrap: Bootstrap
) -> dict[str, Interval]:
    videos = len(ground_truth)
    counts = np.concatenate([np.ones((1, videos)), bootstrap.counts(videos)])
    detected = [each.detections for each in results]
    precisions = mean_average_precisions(detected, ground_truth, counts)
    summary = {
        f"mAP@{tiou}": quantile_interval(precisions[:, column], bootstrap)
        for column, tiou in enumerate(TIOUS)
    }
    summary["mAP"] = quantile_interval(precisions.mean(axis=1), bootstrap)
    hit_sums = np.array([float(each.hits.sum()) for each in results])
    hit_counts = np.array([float(len(each.hits)) for each in results])
    summary["hit"] = ratio_interval(hit_sums, hit_counts, bootstrap)
    return summary


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    load: Callable[[Path], nn.Module] = load_action_net
    videos = SyntheticActionVideos(options.videos, seed=options.seed)
    methods = {name: METHODS[name] for name in options.methods}
    rows, ground_truth = detect_in_videos(load(options.weights), videos, methods, options)
    bootstrap = Bootstrap(seed=options.seed)
    settings = ("seed", "videos", "layers", "threshold", "high", "low", "min_length", "max_gap")
    report: dict[str, Any] = {name: getattr(options, name) for name in settings}
    report |= {"window": WINDOW, "stride": STRIDE}
    report["segments"] = {"ground truth": sum(len(each["labels"]) for each in ground_truth)}
    report["segments"] |= {
        name: sum(len(each.detections["labels"]) for each in results)
        for name, results in rows.items()
    }
    report["scores"] = {
        name: summarize(results, ground_truth, bootstrap) for name, results in rows.items()
    }
    write_report(options.output, "temporal", report, text_of(report))
    return report


def text_of(report: Mapping[str, Any]) -> str:
    counts = report["segments"]
    header = ["", *(f"@{tiou}" for tiou in TIOUS), "mean mAP", "hit", "segments"]
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
        f"# Temporal mAP, {report['videos']} videos, {counts['ground truth']} segments\n\n"
        f"At temporal IoU .1 to .7, their mean, and the temporal hit; 95 % intervals over videos.\n"
        f"\n{table(header, rows)}"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--videos", type=at_least(1), default=16, help="how many (default: 16)")
    add("--seed", type=int, default=HELD_OUT_SEED, help="of videos, random segments, bootstrap")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--layers", nargs="+", default=LAYERS, help=f"(default: {' '.join(LAYERS)})")
    add(
        "--threshold",
        type=float,
        default=0.5,
        help="on a class's probability (default: 0.5)",
    )
    add("--high", type=float, default=0.5, help="of the profile's maximum (default: 0.5)")
    add("--low", type=float, default=0.25, help="of the profile's maximum (default: 0.25)")
    add("--min-length", type=int, default=8, help="of a segment, in frames (default: 8)")
    add("--max-gap", type=int, default=0, help="frames between segments to be joined (default: 0)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
