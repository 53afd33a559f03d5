"""Where and when did the network look, on the paper's data? The protocol of its Tables 3 to 8.

    python studies/paper_tables.py --dataset jhmdb --root JHMDB --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ucf24 --root UCF101-24 --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ilsvrc --root ILSVRC

explains each annotated clip (or image) of the test set for the network's highest class, layer by
layer and with layers fused, and scores the maps by the annotated boxes, beside baselines that
ignore the clip, of which the whole frame is one. First come the paper's own tables of the dataset,
the figures that it prints (paper_tables.json) under ours. Then, of all rows:

- the share of frames whose box reaches an IoU, **each clip with its own best threshold**, as in
  the paper;
- the same with one threshold for the dataset, as others report it;
- energy, hits, Acc2 (a hit, and the class is right), MaxBoxAcc and the tubes' IoU.

A stopped run resumes from its checkpoint; several processes can share it by torchrun. JHMDB and
UCF101-24 are explained in a 3D ResNeXt-101 or an I3D, whose weights are random without a
checkpoint, which the tables then say. If the checkpoint has other classes than the dataset, as the
paper's have, ``--class-names`` says which: those of the dataset are looked up by name. ILSVRC is
explained in EfficientNet-Lite0 with its packaged weights (extra ``demo``), or as in the paper, in
ResNet-50:

    python studies/paper_tables.py --dataset ilsvrc --root ILSVRC --model resnet50 \
      --checkpoint resnet50-0676ba61.pth
"""

import argparse
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
from _paper import PaperRow, PaperTable, beside_ours, tables_of
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
from captum_3dcam.explanation._class_names import read_names
from captum_3dcam.models import (
    Preprocessing,
    i3d,
    i3d_flow,
    load_checkpoint,
    resnet50,
    resnext50_3d,
    resnext101_3d,
)

PAPER_METHOD = "GlobalLocal"
WHOLE_FRAME = "whole frame"
SCORES = ("energy", "hit", "hit_intersect", "acc2", "max_box_acc", "tube_iou")
PER_SAMPLE = tuple(f"box_acc@{delta}_per_sample" for delta in IOU_THRESHOLDS)
DATASET = tuple(f"box_acc@{delta}" for delta in IOU_THRESHOLDS)
TABLES = {
    "each clip its own threshold": PER_SAMPLE,
    "one threshold for the dataset": DATASET,
    "energy, hits and whole clips": SCORES,
}
# Of the IoU thresholds of Tables 5 and 8, and of the average of Table 6.
ACC2_IOUS = (0.5, 0.6)
AVERAGE_IOUS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


class Network(NamedTuple):
    """A network to explain."""

    module: nn.Module
    layers: Mapping[str, str | Layer]
    """From the names in the tables to those of the network."""
    preprocessing: Any
    """A :class:`Preprocessing`, or a ``FlowPreprocessing``."""
    trained: bool


def paper_network(make: Callable[[int], Any], classes: int, checkpoint: Path | None) -> Network:
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
    "resnext101_3d": partial(paper_network, resnext101_3d),
    "resnext50_3d": partial(paper_network, resnext50_3d),
    "i3d": partial(paper_network, i3d),
    "i3d_flow": partial(paper_network, i3d_flow),
    "resnet50": partial(paper_network, resnet50),
    "efficientnet_lite0": efficientnet,
}
DATASETS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "jhmdb": lambda options: JHMDB(options.root, options.subset, options.split),
    "ucf24": lambda options: UCF101_24(options.root, options.subset, annotated_only=True),
    "ilsvrc": lambda options: ILSVRCLocalization(options.root, options.images),
}


# ------------------------------------------------------------------------------------- samples


def find_classes(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    """The index of each class among the network's names; letters and digits count, case does not.

    >>> find_classes(["GolfSwing", "catch"], ["catch", "clap", "golf swing"])
    [2, 0]
    """
    known = {_letters(name): number for number, name in enumerate(names)}
    if missing := [name for name in classes if _letters(name) not in known]:
        raise SystemExit(
            f"--class-names has no {missing[0]!r}, which is a class of the dataset ({len(missing)} "
            f"of {len(classes)} are missing). It has {', '.join(names[:3])}, ..."
        )
    return [known[_letters(name)] for name in classes]


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


class ExplainedSamples:
    """The annotated clips of a dataset, each with the class to explain.

    ``labels`` has the network's class of each class of the dataset; None if it is not known.
    """

    def __init__(
        self,
        data: Any,
        network: Network,
        limit: int | None,
        target: str,
        device: str,
        labels: Sequence[int] | None,
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
            label = None if labels is None else labels[clip.label]
            self.indices.append(index)
            self.targets.append(predicted if target == "predicted" or label is None else label)
            self.correct.append(predicted == label)
        if not self.indices:
            raise SystemExit("None of the clips has a box: there is nothing to measure.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        clip = self.data[self.indices[index]]
        return prepare_sample(clip, self.preprocessing, self.targets[index])


# ---------------------------------------------------------------------------------- the tables


def row_name(method: str, layers: Sequence[str], fusion: str = "sum") -> str:
    """The name of a row of ours.

    >>> row_name("GradCAM", ["layer4"]), row_name("GlobalLocal", ["conv", "layer1"], "mean")
    ('GradCAM: layer4', 'GlobalLocal (mean): conv + layer1')
    """
    fused = len(layers) > 1 and method not in WITHOUT_FUSION
    return f"{method}{f' ({fusion})' if fused else ''}: {' + '.join(layers)}"


def name_of(row: PaperRow) -> str:
    """Our row of a row of the paper."""
    return row_name(**row.ours)


def rows(
    network: Network, methods: Sequence[str], tables: Sequence[PaperTable] = ()
) -> dict[str, Attribution]:
    """The paper's method over each layer, and over the first two, three, ... layers; the other
    methods over the last layer, and over all; and what is in the paper's tables besides."""
    names = list(network.layers)
    growing = [names[:count] for count in range(2, len(names) + 1)]
    chosen: list[dict[str, Any]] = []
    for method in methods:
        sets = [names[-1:], names]
        if method == PAPER_METHOD:
            sets = [*([name] for name in names), *growing]
        chosen += [{"method": method, "layers": layers} for layers in sets]
    chosen += [dict(row.ours) for each in tables for row in each.rows]
    attributions: dict[str, Attribution] = {}
    for row in chosen:
        method, layers = row["method"], row["layers"]
        if method not in methods or not set(layers) <= set(names):
            continue
        name = row_name(**row)
        make = METHODS[method]
        if "fusion" in row:
            make = partial(make, fusion=row["fusion"])
        modules = [network.layers[layer] for layer in layers]
        title, _, _ = name.partition(": ")
        attributions |= make_attributions(
            network.module, {title: make}, {" + ".join(layers): modules}
        )
    return attributions


def report(
    evaluation: Evaluation, samples: ExplainedSamples, classes_are_known: bool
) -> dict[str, dict[str, Any]]:
    """The evaluation's scores of each row; the average of Table 6; and Acc2, of a hit and of a
    box, where it is known which class is right."""
    summary: dict[str, dict[str, Any]] = {
        row: dict(scores) for row, scores in evaluation.summary.items()
    }
    correct = np.array(samples.correct, dtype=float)
    average = [IOU_THRESHOLDS.index(delta) for delta in AVERAGE_IOUS]
    for row, scores in evaluation.scores.items():
        boxes = scores.accuracy.max(axis=2)  # (N, D): each clip at the threshold that is best
        per_clip = {"average_per_sample": boxes[:, average].mean(axis=1)}
        if classes_are_known:
            per_clip["acc2"] = np.asarray(scores.hit_intersect).reshape(-1) * correct
            for delta in ACC2_IOUS:
                right = boxes[:, IOU_THRESHOLDS.index(delta)] * correct
                per_clip[f"acc2@{delta}_per_sample"] = right
        for name, values in per_clip.items():
            summary[row][name] = mean_interval(values, evaluation.bootstrap)
    return summary


def text(summary: Mapping[str, Mapping[str, Any]], tables: Sequence[PaperTable]) -> list[str]:
    """Markdown: the paper's tables with ours beside, then all our rows."""
    cells = {
        row: {score: str(value) for score, value in scores.items()}
        for row, scores in summary.items()
    }
    parts = [beside_ours(each, cells, name_of, "{:.3f}".format, (WHOLE_FRAME,)) for each in tables]
    for head, columns in TABLES.items():
        known = [column for column in columns if column in cells[WHOLE_FRAME]]
        lines = [[row, *(each[column] for column in known)] for row, each in cells.items()]
        titles = [column.removesuffix("_per_sample") for column in known]
        parts.append(f"All rows, {head}:\n\n{table(['', *titles], lines)}")
    return parts


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
    add("--class-names", type=Path, help="of the checkpoint, if not the dataset's: a file of names")
    add("--target", choices=("predicted", "label"), default="predicted", help="what to explain")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    add("--limit", type=int, help="this many clips, spread over the dataset")
    add("--device", default="cpu")
    add("--output", type=Path, default=Path("out/paper"))
    options = parser.parse_args(arguments)

    data = DATASETS[options.dataset](options)
    names = read_names(options.class_names)
    classes = len(names) or options.num_classes or len(data.classes)
    labels = None
    if names:
        labels = find_classes(data.classes, names)
    elif classes == len(data.classes):
        labels = list(range(classes))
    if options.target == "label" and labels is None:
        parser.error("--target label needs a network of the dataset's classes, or --class-names.")
    default = "efficientnet_lite0" if options.dataset == "ilsvrc" else "resnext101_3d"
    name = options.model or default
    network = NETWORKS[name](classes, options.checkpoint)
    samples = ExplainedSamples(data, network, options.limit, options.target, options.device, labels)
    tables = tables_of(options.dataset)
    with process_group() as first:
        evaluation = evaluate(
            rows(network, options.methods, tables),
            samples,
            device=options.device,
            checkpoint=options.output / options.dataset,
            progress=True,
        )
    summary = report(evaluation, samples, labels is not None)
    title = describe(options.dataset, name, network, samples, labels is not None)
    if first:
        write_report(
            options.output,
            options.dataset,
            {"about": title, "rows": summary, "run": evaluation.run},
            "\n\n".join([title, *text(summary, tables)]),
        )
    return summary


def describe(
    dataset: str, model: str, network: Network, samples: ExplainedSamples, classes_are_known: bool
) -> str:
    """The data, the network, and how often its class is right."""
    weights = "" if network.trained else " with random weights: it has learned nothing"
    parts = [f"{dataset}: {len(samples)} annotated samples, explained in {model}{weights}."]
    if samples.left_out:
        parts.append(f"{samples.left_out} without a box were left out.")
    if classes_are_known:
        right = sum(samples.correct) / len(samples)
        parts.append(f"The class is right in {100 * right:.1f} %.")
    return " ".join(parts)


if __name__ == "__main__":
    main()
