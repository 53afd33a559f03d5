"""When, in THUMOS14 and MultiTHUMOS: temporal mAP of segments from maps, or of given detections.

    python studies/evaluate_thumos.py --root THUMOS14 --detections detections.json
    python studies/evaluate_thumos.py --dataset multithumos --root multithumos \
      --detections detections.txt

scores detections in ActivityNet's JSON, {"results": {video: [{"segment": [start, end], "label":
name, "score": number}]}}, or in THUMOS14's text, lines ``video start end class confidence``, where
the class is a name, or its number in ``--class-list`` (``detclasslist.txt`` of THUMOS14's test
annotations).

    python studies/evaluate_thumos.py --root THUMOS14 --videos TH14_test_set_mp4 \
      --checkpoint resnext101.pth --class-names ucf101.txt

makes them of maps instead. Windows of 16 frames slide over each video; each class of the dataset
whose probability exceeds a threshold in some window is explained in all of them, the maps weighted
by its probability, blended, and averaged over space. Hysteresis thresholding of this profile gives
segments. Beside the methods stands one segment over the whole video for each predicted class. The
detections are written as JSON too. ``--multi-label`` takes the sigmoid for the softmax.

mAP is ActivityNet's (greedy by score, all-point interpolation). As in THUMOS14's own evaluation, a
detection that matches nothing and overlaps an ambiguous segment does not count, and one in a video
without annotation is wrong. That evaluation differs in matching from the ground truths and in not
interpolating.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from _arguments import at_least, make_parser
from _methods import METHODS
from _report import table, write_report
from captum_3dcam import SlidingWindowCAM
from captum_3dcam.datasets import THUMOS14, MultiTHUMOS, UntrimmedVideo
from captum_3dcam.explanation._class_names import read_names
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import VideoFile, open_video
from captum_3dcam.localization import segments
from captum_3dcam.metrics import temporal_average_precision
from paper_tables import NETWORKS, Network, find_classes

DATASETS = {"thumos14": THUMOS14, "multithumos": MultiTHUMOS}
TIOUS = tuple(step / 10 for step in range(1, 8))
WINDOW, STRIDE, CHUNK = 16, 8, 128


class Detection(NamedTuple):
    """A segment of a class."""

    start: float
    """In seconds."""
    end: float
    score: float
    label: int


ByVideo = dict[str, list[Detection]]
"""The detections in each video."""


# --------------------------------------------------------------------------------- given detections


def read_detections(path: Path, classes: Sequence[str], class_list: Path | None) -> ByVideo:
    """The detections of a JSON or text file; SystemExit for another content."""
    names = {name: label for label, name in enumerate(classes)}
    names |= {number: names[name] for number, name in _numbers(class_list) if name in names}
    rows = _read_json(path) if path.suffix.lower() == ".json" else _read_text(path)
    by_video: ByVideo = defaultdict(list)
    for location, video, start, end, name, score in rows:
        if name not in names:
            advice = " Pass --class-list, which has the numbers." if name.isdecimal() else ""
            raise SystemExit(f"{location}: {name!r} is no class of the dataset.{advice}")
        if not (start <= end and np.isfinite([start, end, score]).all()):
            raise SystemExit(f"{location}: expected start <= end, and finite numbers.")
        by_video[video.removesuffix(".mp4")].append(Detection(start, end, score, names[name]))
    return dict(by_video)


Row = tuple[str, str, float, float, str, float]
"""Where it is; the video, start, end, class and score of a detection."""


def _read_json(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["results"]
        for video, rows in content.items():
            for number, row in enumerate(rows):
                start, end = map(float, row["segment"])
                location = f"{str(path)!r}, {video!r}, detection {number}"
                yield location, video, start, end, str(row["label"]), float(row["score"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SystemExit(
            f'{str(path)!r}: expected {{"results": {{video: [{{"segment": [start, end], "label": '
            f'name, "score": number}}]}}}}; it cannot be read: {type(error).__name__} {error}'
        ) from error


def _read_text(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        location = f"{str(path)!r}, line {number}"
        try:
            video, start, end, name, score = line.split()
            row = (location, video, float(start), float(end), name, float(score))
        except ValueError as error:
            if not line.strip():
                continue
            raise SystemExit(
                f"{location}: expected 'video start end class confidence'; got {line[:80]!r}."
            ) from error
        yield row


def _numbers(path: Path | None) -> list[tuple[str, str]]:
    if path is None:
        return []
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise SystemExit(f"{str(path)!r}: expected lines of a number and a class.")
    return [(number, name) for number, name in pairs]


# ------------------------------------------------------------------------------ segments from maps


def chunks_of(video: VideoFile, network: Network) -> Iterator[Tensor]:
    """The video in preprocessed chunks (C, t, H, W)."""
    for frames in video.chunks(CHUNK):
        yield network.preprocessing(torch.from_numpy(frames).movedim(-1, 0))


def windows_of(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Windows (C, 16, H, W); the last one is padded with the last frame.

    >>> chunks = torch.arange(30.0).reshape(1, 3, 10).unbind(1)
    >>> [int(window[0, -1]) for window in windows_of(chunks)]
    [15, 23, 29]
    """
    rest: Tensor | None = None
    done = 0
    for chunk in chunks:
        rest = chunk if rest is None else torch.cat([rest, chunk], dim=1)
        while rest.shape[1] >= WINDOW:
            yield rest[:, :WINDOW]
            rest, done = rest[:, STRIDE:], done + STRIDE
    if rest is not None and (rest.shape[1] > WINDOW - STRIDE or not done):
        index = torch.arange(WINDOW).clamp(max=rest.shape[1] - 1)
        yield rest[:, index]


@torch.no_grad()
def highest_probabilities(
    network: Network, chunks: Iterable[Tensor], multi_label: bool, device: str
) -> Tensor:
    """(classes,): of each class the highest in any window."""
    highest = torch.zeros(0)
    for window in windows_of(chunks):
        logits = network.module(window[None].to(device))[0].cpu()
        probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=0)
        highest = torch.maximum(highest, probabilities) if len(highest) else probabilities
    return highest


def detect(
    item: UntrimmedVideo,
    network: Network,
    methods: Sequence[str],
    labels: Sequence[int],
    options: argparse.Namespace,
) -> dict[str, list[Detection]]:
    """The detections of each method, and of the whole video, in one video."""
    video = open_video(item.path)
    highest = highest_probabilities(
        network, chunks_of(video, network), options.multi_label, options.device
    )
    predicted = [
        (label, own) for label, own in enumerate(labels) if highest[own] > options.threshold
    ]
    end = float(video.times.edges[-1])
    rows: dict[str, list[Detection]] = {name: [] for name in methods}
    rows["whole video"] = [Detection(0, end, float(highest[own]), n) for n, own in predicted]
    scale: Any = torch.sigmoid if options.multi_label else "probability"
    for name in methods:
        cam = METHODS[name](network.module, list(network.layers.values()))
        sliding = SlidingWindowCAM(cam, WINDOW, STRIDE, scale=scale)
        for label, own in predicted:
            moved = (chunk.to(options.device) for chunk in chunks_of(video, network))
            profiles = [
                temporal_profile(chunk.attribution).cpu() for chunk in sliding.stream(moved, own)
            ]
            profile = torch.cat(profiles, dim=1)
            for segment in segments(
                profile, options.high, options.low, options.min_length, fps=video.times
            )[0]:
                rows[name].append(Detection(*segment.seconds, segment.score, label))
    return rows


def detect_in_videos(data: Any, options: argparse.Namespace) -> dict[str, ByVideo]:
    """For each method the detections in all videos whose file is there."""
    names = read_names(options.class_names) or list(data.classes)
    labels = find_classes(data.classes, names)
    network = NETWORKS[options.model](len(names), options.checkpoint)
    network.module.to(options.device)
    rows: dict[str, ByVideo] = {name: {} for name in (*options.methods, "whole video")}
    for item in tqdm(data, "videos", total=len(data)):
        if not item.path.exists():
            raise SystemExit(f"There is no video {str(item.path)!r}. --videos is their folder.")
        for name, detected in detect(item, network, options.methods, labels, options).items():
            rows[name][item.video] = detected
    return rows


# -------------------------------------------------------------------------------------- the scores


def as_tensors(detected: Sequence[Detection]) -> dict[str, Tensor]:
    """As the metrics take them.

    >>> as_tensors([Detection(0.5, 2, 0.9, 3)])["labels"]
    tensor([3])
    """
    columns = torch.tensor(detected, dtype=torch.float64).reshape(-1, 4)
    return {"segments": columns[:, :2], "scores": columns[:, 2], "labels": columns[:, 3].long()}


def score(data: Any, by_video: ByVideo, tious: Sequence[float]) -> dict[str, Any]:
    """mAP at each tIoU, their mean, the classes' AP, and how many detections there are."""
    items = list(data)
    others = [video for video in by_video if video not in set(data.videos)]
    empty = torch.zeros(0, 2)
    target = [item.target for item in items]
    target += [{"segments": empty, "labels": torch.zeros(0)} for _ in others]
    preds = [as_tensors(by_video.get(video, [])) for video in (*data.videos, *others)]
    ignored = [*(item.ignored for item in items), *(empty for _ in others)]
    per_class = temporal_average_precision(preds, target, tious, ignored)
    mean = torch.stack(list(per_class.values())).mean(dim=0)
    return {
        **{f"mAP@{tiou}": value for tiou, value in zip(tious, mean.tolist(), strict=True)},
        "mAP": float(mean.mean()),
        "classes": {data.classes[label]: ap.tolist() for label, ap in per_class.items()},
        "detections": sum(map(len, by_video.values())),
        "videos without annotation": len(others),
    }


def to_json(by_video: ByVideo, classes: Sequence[str]) -> dict[str, Any]:
    """The detections in ActivityNet's form."""
    return {
        "results": {
            video: [
                {
                    "segment": [each.start, each.end],
                    "label": classes[each.label],
                    "score": each.score,
                }
                for each in detected
            ]
            for video, detected in by_video.items()
        }
    }


def text_of(report: Mapping[str, Any], tious: Sequence[float]) -> str:
    header = ["", *(f"@{tiou}" for tiou in tious), "mean mAP", "detections"]
    lines = [
        [
            name,
            *(f"{scores[f'mAP@{tiou}']:.3f}" for tiou in tious),
            f"{scores['mAP']:.3f}",
            scores["detections"],
        ]
        for name, scores in report["scores"].items()
    ]
    return f"{report['about']}\n\n{table(header, lines)}"


def describe(data: Any, options: argparse.Namespace) -> str:
    items = list(data)
    instances, ignored = (
        sum(len(each) for each in part)
        for part in ([item.labels for item in items], [item.ignored for item in items])
    )
    parts = [
        f"{options.dataset}, {options.subset}: {len(data)} videos, {instances} instances of "
        f"{len(data.classes)} classes, {ignored} ambiguous segments. Temporal mAP at tIoU."
    ]
    if options.detections is None and options.checkpoint is None:
        parts.append(f"{options.model} has random weights: it has learned nothing.")
    return " ".join(parts)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    data = DATASETS[options.dataset](options.root, options.subset, videos=options.videos)
    if options.detections is not None:
        rows = {"detections": read_detections(options.detections, data.classes, options.class_list)}
    else:
        rows = detect_in_videos(data, options)
        options.output.mkdir(parents=True, exist_ok=True)
        for name, by_video in rows.items():
            path = options.output / f"{options.dataset}-{name.replace(' ', '-')}.json"
            path.write_text(json.dumps(to_json(by_video, data.classes)) + "\n", encoding="utf-8")
    report = {
        "about": describe(data, options),
        "scores": {name: score(data, by_video, options.tious) for name, by_video in rows.items()},
    }
    write_report(options.output, options.dataset, report, text_of(report, options.tious))
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="thumos14", help="(default: thumos14)")
    add("--root", type=Path, required=True, help="the folder of the annotations")
    add("--subset", choices=("val", "test"), default="test", help="(default: test)")
    add("--tious", type=float, nargs="+", default=TIOUS, help="(default: .1 to .7)")
    add("--detections", type=Path, help="to score, a JSON or text file")
    add("--class-list", type=Path, help="numbers and classes, of a text file of detections")
    add("--videos", type=Path, help="the folder of the videos (default: videos, in the root)")
    add("--model", choices=NETWORKS, default="resnext101_3d", help="(default: resnext101_3d)")
    add("--checkpoint", type=Path, help="of the model")
    add("--class-names", type=Path, help="of the checkpoint, if not the dataset's: a file of names")
    add("--methods", nargs="+", choices=METHODS, default=["GlobalLocal", "WhatWhere"])
    add("--multi-label", action="store_true", help="the classes' probabilities are sigmoids")
    add("--threshold", type=float, default=0.5, help="on a class's probability (default: 0.5)")
    add("--high", type=float, default=0.5, help="of the profile's maximum (default: 0.5)")
    add("--low", type=float, default=0.25, help="of the profile's maximum (default: 0.25)")
    add("--min-length", type=at_least(1), default=8, help="of a segment, in frames (default: 8)")
    add("--device", default="cpu")
    add("--output", type=Path, default=Path("out/thumos"), help="folder to write to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
