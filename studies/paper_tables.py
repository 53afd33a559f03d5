"""Where and when did the network look, on the paper's data? The protocol of its Tables 3 to 8.

    python studies/paper_tables.py --dataset jhmdb --root JHMDB --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ucf24 --root UCF101-24 --checkpoint resnext101.pth
    python studies/paper_tables.py --dataset ilsvrc --root ILSVRC

explains each annotated clip (or photograph) of the test set for the class that the network gives
the highest score, layer by layer and with layers fused, and scores the maps against the boxes,
beside boxes that look at nothing: the whole frame is one. Three tables:

- the share of frames whose box reaches an IoU, **each clip with its own best threshold**, which is
  the paper's way;
- the same with one threshold for the dataset, which is what others report;
- energy, hits, Acc2 (a hit, and the class right), MaxBoxAcc and the tubes' IoU.

``--printed FILE`` puts figures from a publication beside ours: JSON, {row: {column: number in
[0, 1]}}, by the names in our tables. A run that was stopped goes on where it was; it can be shared
among processes by torchrun. JHMDB and UCF101-24 take a 3D ResNeXt-101, or an I3D, and are explained
with random weights, which the tables then say, if there is no checkpoint. ILSVRC takes
EfficientNet-Lite0 and its packaged weights (extra ``demo``). Needs the extra ``progress``.
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
from tqdm import tqdm

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
from captum_3dcam.models import (
    Preprocessing,
    i3d,
    load_checkpoint,
    resnext50_3d,
    resnext101_3d,
)
from evaluate_localization import METHODS, WITHOUT_FUSION, processes
from study import mean_interval, table, write

PAPERS = "GlobalLocal"
SCORES = ("energy", "hit", "hit_intersect", "acc2", "max_box_acc", "tube_iou")
PER_SAMPLE = tuple(f"box_acc@{delta}_per_sample" for delta in IOU_THRESHOLDS)
DATASET = tuple(f"box_acc@{delta}" for delta in IOU_THRESHOLDS)
TABLES = {
    "each clip its own threshold": PER_SAMPLE,
    "one threshold for the dataset": DATASET,
    "energy, hits and whole clips": SCORES,
}


class Network(NamedTuple):
    """What is explained."""

    module: nn.Module
    layers: Mapping[str, str]
    """The names in the tables, and the layers' own."""
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
    layers = {f"block {layer.split('.')[1]}": layer for layer in LAYERS}
    prepare = Preprocessing(255 / 128, (127 / 128,) * 3, (SIZE, SIZE))
    return Network(module, layers, prepare, trained=True)


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


class Explained:
    """The annotated clips of a dataset, each with the class that is to be explained."""

    def __init__(
        self, data: Any, network: Network, limit: int | None, target: str, device: str
    ) -> None:
        self.data, self.prepare = data, network.preprocessing
        self.indices: list[int] = []
        self.targets: list[int] = []
        self.correct: list[bool] = []
        self.left_out = 0
        module = network.module.to(device)
        for index in tqdm(evenly_spaced(len(data), limit), "classifying"):
            found = data[index]
            if found.boxes.isnan().any(dim=-1).all():
                self.left_out += 1
                continue
            inputs = prepare_sample(found, self.prepare, found.label).inputs
            with torch.no_grad():
                predicted = int(module(inputs[None].to(device)).argmax())
            self.indices.append(index)
            self.targets.append(predicted if target == "predicted" else found.label)
            self.correct.append(predicted == found.label)
        if not self.indices:
            raise SystemExit("None of the clips has a box: there is nothing to measure.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        found = self.data[self.indices[index]]
        return prepare_sample(found, self.prepare, self.targets[index])


# ---------------------------------------------------------------------------------- the tables


def rows(network: Network, methods: Sequence[str]) -> dict[str, Attribution]:
    """The paper's method over each layer, and over more and more of them; the others over the
    last one, and over all."""
    names = list(network.layers)
    last, everything = names[-1:], names
    growing = [names[:count] for count in range(2, len(names) + 1)]
    found: dict[str, Attribution] = {}
    for method in methods:
        sets = [*([name] for name in names), *growing] if method == PAPERS else [last, everything]
        title = method if method in WITHOUT_FUSION else f"{method} (sum)"
        for chosen in sets:
            row = {" + ".join(chosen): [network.layers[name] for name in chosen]}
            label = method if len(chosen) == 1 else title
            found |= make_attributions(network.module, {label: METHODS[method]}, row)
    return found


def report(found: Evaluation, samples: Explained, same_classes: bool) -> dict[str, dict[str, Any]]:
    """The evaluation's scores of each row, and Acc2 where the classes are the dataset's."""
    summary: dict[str, dict[str, Any]] = {
        row: dict(scores) for row, scores in found.summary.items()
    }
    if same_classes:
        correct = np.array(samples.correct, dtype=float)
        for row, scores in found.scores.items():
            both = np.asarray(scores.hit_intersect).reshape(-1) * correct
            summary[row]["acc2"] = mean_interval(both, found.bootstrap)
    return summary


def text(
    summary: Mapping[str, Mapping[str, Any]],
    printed: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
) -> str:
    """Markdown: each row, and under it what was printed of it elsewhere."""
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

    Raises ValueError for what is no such file.
    """
    if path is None:
        return {}
    expected = f"{str(path)!r}: expected JSON as {{row: {{column: number in [0, 1]}}}}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        cells = [(row, *cell) for row, columns in found.items() for cell in columns.items()]
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{expected}; it cannot be read: {error}") from error
    for row, column, number in cells:
        if column not in {*PER_SAMPLE, *DATASET, *SCORES}:
            raise ValueError(f"{expected}; there is no column {column!r}, of {row!r}.")
        if not isinstance(number, (int, float)) or not 0 <= number <= 1:
            raise ValueError(f"{expected}; {row!r}, {column!r} is {number!r}.")
    return dict(found)


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--root", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--images", type=Path, help="ILSVRC's pictures, if not under the root")
    parser.add_argument("--subset", default="test", choices=("train", "test"), help="of videos")
    parser.add_argument("--split", type=int, default=1, choices=(1, 2, 3), help="of JHMDB")
    parser.add_argument(
        "--model", choices=NETWORKS, help="by default resnext101_3d, for ILSVRC efficientnet_lite0"
    )
    parser.add_argument("--checkpoint", type=Path, help="of the model")
    parser.add_argument(
        "--num-classes", type=int, help="of the checkpoint, if not the dataset's: no Acc2 then"
    )
    parser.add_argument(
        "--target", choices=("predicted", "label"), default="predicted", help="what to explain"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--limit", type=int, help="this many clips, spread over the dataset")
    parser.add_argument("--printed", type=Path, help="figures of a publication, as JSON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("out/paper"))
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
    samples = Explained(data, network, options.limit, options.target, options.device)
    attributions = rows(network, options.methods)
    unknown = [row for row in printed if row not in attributions]
    if unknown:
        parser.error(f"--printed has the row {unknown[0]!r}; ours are {', '.join(attributions)}.")
    with processes() as first:
        found = evaluate(
            attributions,
            samples,
            device=options.device,
            checkpoint=options.output / options.dataset,
            progress=True,
        )
    summary = report(found, samples, same_classes)
    title = describe(options.dataset, name, network, samples, same_classes)
    body = [f"{head}:\n\n{text(summary, printed, columns)}" for head, columns in TABLES.items()]
    if first:
        write(
            options.output,
            options.dataset,
            {"about": title, "rows": summary, "printed": printed, "run": found.run},
            "\n\n".join([title, *body]),
        )
    return summary


def describe(
    dataset: str, model: str, network: Network, samples: Explained, same_classes: bool
) -> str:
    """What was measured, in a sentence or two."""
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
