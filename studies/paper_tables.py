"""Where and when did the network look, on the paper's data? The protocol of its Tables 3 to 8.

    python studies/paper_tables.py --dataset jhmdb --root JHMDB --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ucf24 --root UCF101-24 --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ilsvrc --root ILSVRC

explains each annotated clip (or image) of the test set for the network's highest class, layer by
layer and with layers fused, and scores the maps by the annotated boxes, beside baselines that
ignore the clip, of which the whole frame is one. Three tables:

- the share of frames whose box reaches an IoU, **each clip with its own best threshold**, as in
  the paper;
- the same with one threshold for the dataset, as others report it;
- energy, hits, Acc2 (a hit, and the class is right), MaxBoxAcc and the tubes' IoU.

``--printed FILE`` puts the figures of a publication beside these: JSON, {row: {column: number in
[0, 1]}}, by the names in the tables. A stopped run resumes from its checkpoint; several processes
can share it by torchrun. JHMDB and UCF101-24 are explained in a 3D ResNeXt-101 or an I3D, whose
weights are random without a checkpoint, which the tables then say. ILSVRC is explained in
EfficientNet-Lite0 with its packaged weights (extra ``demo``).
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from _arguments import make_parser
from _intervals import mean_interval
from _methods import METHODS, WITHOUT_FUSION
from _report import table, write_report
from captum_3dcam import Layer
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization
from captum_3dcam.evaluation import (
    IOU_THRESHOLDS,
    Attribution,
    Evaluation,
    Sample,
    evaluate,
    evenly_spaced,
    make_attributions,
    prepare_sample,
)
from captum_3dcam.evaluation._processes import process_group
from captum_3dcam.models import (
    Preprocessing,
    i3d,
    load_checkpoint,
    resnext50_3d,
    resnext101_3d,
)

PAPER_METHOD = "GlobalLocal"
SCORES = ("energy", "hit", "hit_intersect", "acc2", "max_box_acc", "tube_iou")
PER_SAMPLE = tuple(f"box_acc@{delta}_per_sample" for delta in IOU_THRESHOLDS)
DATASET = tuple(f"box_acc@{delta}" for delta in IOU_THRESHOLDS)
TABLES = {
    "each clip its own threshold": PER_SAMPLE,
    "one threshold for the dataset": DATASET,
    "energy, hits and whole clips": SCORES,
}


class Network(NamedTuple):
    """A network to explain."""

    module: nn.Module
    layers: Mapping[str, str | Layer]
    """From the names in the tables to those of the network."""
    preprocessing: Preprocessing
    trained: bool


def video_network(make: Callable[[int], Any], classes: int, checkpoint: Path | None) -> Network:
    module = make(classes)
    if checkpoint is not None:
        load_checkpoint(checkpoint, module)
    return Network(module.eval(), module.LAYERS, module.PREPROCESSING, checkpoint is not None)


def efficientnet(classes: int, checkpoint: Path | None) -> Network:
    from trained_networks.efficientnet import LAYERS, SIZE, load_efficientnet

    module = load_efficientnet()
    if checkpoint is not None:
        load_checkpoint(checkpoint, module)
    # A block runs one ReLU twice; its last call is explained.
    layers = {f"block {name.split('.')[1]}": Layer(name, calls="last") for name in LAYERS}
    preprocessing = Preprocessing(127 / 255, 128 / 255, (SIZE, SIZE))
    return Network(module, layers, preprocessing, trained=True)


NETWORKS: dict[str, Callable[[int, Path | None], Network]] = {
    "resnext101_3d": partial(video_network, resnext101_3d),
    "resnext50_3d": partial(video_network, resnext50_3d),
    "i3d": partial(video_network, i3d),
    "efficientnet_lite0": efficientnet,
}
DATASETS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "jhmdb": lambda options: JHMDB(options.root, options.subset, options.split),
    "ucf24": lambda options: UCF101_24(options.root, options.subset, annotated_only=True),
    "ilsvrc": lambda options: ILSVRCLocalization(options.root, options.images),
}


# ------------------------------------------------------------------------------------- samples


class ExplainedSamples:
    """The annotated clips of a dataset, each with the class to explain."""

    def __init__(
        self, data: Any, network: Network, limit: int | None, target: str, device: str
    ) -> None:
        self.data, self.preprocessing = data, network.preprocessing
        self.indices: list[int] = []
        self.targets: list[int] = []
        self.correct: list[bool] = []
        self.left_out = 0
        module = network.module.to(device)
        for index in tqdm(evenly_spaced(len(data), limit), "classifying"):
            clip = data[index]
            if clip.boxes.isnan().any(dim=-1).all():
                self.left_out += 1
                continue
            inputs = prepare_sample(clip, self.preprocessing, clip.label).inputs
            with torch.no_grad():
                predicted = int(module(inputs[None].to(device)).argmax())
            self.indices.append(index)
            self.targets.append(predicted if target == "predicted" else clip.label)
            self.correct.append(predicted == clip.label)
        if not self.indices:
            raise SystemExit("None of the clips has a box: there is nothing to measure.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        clip = self.data[self.indices[index]]
        return prepare_sample(clip, self.preprocessing, self.targets[index])


# ---------------------------------------------------------------------------------- the tables


def rows(network: Network, methods: Sequence[str]) -> dict[str, Attribution]:
    """The paper's method over each layer, and over the first two, three, ... layers; the other
    methods over the last layer, and over all."""
    names = list(network.layers)
    growing = [names[:count] for count in range(2, len(names) + 1)]
    attributions: dict[str, Attribution] = {}
    for method in methods:
        sets = [names[-1:], names]
        if method == PAPER_METHOD:
            sets = [*([name] for name in names), *growing]
        title = method if method in WITHOUT_FUSION else f"{method} (sum)"
        for chosen in sets:
            row = {" + ".join(chosen): [network.layers[name] for name in chosen]}
            label = method if len(chosen) == 1 else title
            attributions |= make_attributions(network.module, {label: METHODS[method]}, row)
    return attributions


def report(
    evaluation: Evaluation, samples: ExplainedSamples, same_classes: bool
) -> dict[str, dict[str, Any]]:
    """The evaluation's scores of each row, and Acc2 where the classes are the dataset's."""
    summary: dict[str, dict[str, Any]] = {
        row: dict(scores) for row, scores in evaluation.summary.items()
    }
    if same_classes:
        correct = np.array(samples.correct, dtype=float)
        for row, scores in evaluation.scores.items():
            both = np.asarray(scores.hit_intersect).reshape(-1) * correct
            summary[row]["acc2"] = mean_interval(both, evaluation.bootstrap)
    return summary


def text(
    summary: Mapping[str, Mapping[str, Any]],
    printed: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
) -> str:
    """Markdown: each row, and under it the figures that a publication printed of it."""
    known = [column for column in columns if column in next(iter(summary.values()))]
    lines = []
    for row, scores in summary.items():
        lines.append([row, *(str(scores[column]) for column in known)])
        if any(column in printed.get(row, {}) for column in known):
            theirs = printed[row]
            cells = (f"{theirs[c]:.3f}" if c in theirs else "" for c in known)
            lines.append([f"{row}, printed", *cells])
    return table(["", *(column.removesuffix("_per_sample") for column in known)], lines)


def read_printed(path: Path | None) -> dict[str, dict[str, float]]:
    """Figures of a publication: {row: {column: number in [0, 1]}}.

    Raises ValueError for a file of another content.
    """
    if path is None:
        return {}
    expected = f"{str(path)!r}: expected JSON as {{row: {{column: number in [0, 1]}}}}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [(row, *cell) for row, columns in content.items() for cell in columns.items()]
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{expected}; it cannot be read: {error}") from error
    for row, column, number in cells:
        if column not in {*PER_SAMPLE, *DATASET, *SCORES}:
            raise ValueError(f"{expected}; there is no column {column!r}, of {row!r}.")
        if not isinstance(number, (int, float)) or not 0 <= number <= 1:
            raise ValueError(f"{expected}; {row!r}, {column!r} is {number!r}.")
    return dict(content)


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--dataset", choices=DATASETS, required=True)
    add("--root", type=Path, required=True, help="the dataset's folder")
    add("--images", type=Path, help="ILSVRC's images, if not under the root")
    add("--subset", default="test", choices=("train", "test"), help="of videos")
    add("--split", type=int, default=1, choices=(1, 2, 3), help="of JHMDB")
    add("--model", choices=NETWORKS, help="by default resnext101_3d, for ILSVRC efficientnet_lite0")
    add("--checkpoint", type=Path, help="of the model")
    add("--num-classes", type=int, help="of the checkpoint, if not the dataset's: no Acc2 then")
    add("--target", choices=("predicted", "label"), default="predicted", help="what to explain")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    add("--limit", type=int, help="this many clips, spread over the dataset")
    add("--printed", type=Path, help="figures of a publication, as JSON")
    add("--device", default="cpu")
    add("--output", type=Path, default=Path("out/paper"))
    options = parser.parse_args(arguments)

    printed = read_printed(options.printed)
    data = DATASETS[options.dataset](options)
    classes = options.num_classes or len(data.classes)
    same_classes = classes == len(data.classes)
    if options.target == "label" and not same_classes:
        parser.error("--target label needs a network of the dataset's classes.")
    default = "efficientnet_lite0" if options.dataset == "ilsvrc" else "resnext101_3d"
    name = options.model or default
    network = NETWORKS[name](classes, options.checkpoint)
    samples = ExplainedSamples(data, network, options.limit, options.target, options.device)
    attributions = rows(network, options.methods)
    unknown = [row for row in printed if row not in attributions]
    if unknown:
        parser.error(
            f"--printed has the row {unknown[0]!r}; expected one of {', '.join(attributions)}."
        )
    with process_group() as first:
        evaluation = evaluate(
            attributions,
            samples,
            device=options.device,
            checkpoint=options.output / options.dataset,
            progress=True,
        )
    summary = report(evaluation, samples, same_classes)
    title = describe(options.dataset, name, network, samples, same_classes)
    body = [f"{head}:\n\n{text(summary, printed, columns)}" for head, columns in TABLES.items()]
    if first:
        write_report(
            options.output,
            options.dataset,
            {"about": title, "rows": summary, "printed": printed, "run": evaluation.run},
            "\n\n".join([title, *body]),
        )
    return summary


def describe(
    dataset: str, model: str, network: Network, samples: ExplainedSamples, same_classes: bool
) -> str:
    """The data, the network, and how often its class is right."""
    weights = "" if network.trained else " with random weights: it has learned nothing"
    parts = [f"{dataset}: {len(samples)} annotated samples, explained in {model}{weights}."]
    if samples.left_out:
        parts.append(f"{samples.left_out} without a box were left out.")
    if same_classes:
        right = sum(samples.correct) / len(samples)
        parts.append(f"The class is right in {100 * right:.1f} %.")
    return " ".join(parts)


if __name__ == "__main__":
    main()
