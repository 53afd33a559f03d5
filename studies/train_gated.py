"""Does it help a recogniser of actions to decide by every depth? The paper's Tables 9 and 10.

    python studies/train_gated.py --seeds 0 1 2 --output out/gated

trains a network without gates, with a gate at each of its layers alone, and with gates at several,
and prints the accuracy of each on held-out videos, clip by clip and video by video (the mean of
its clips' softmax). As in the paper, the backbone comes trained, and is then trained on other
videos, together with its gates. By default it is the recogniser of synthetic actions, which now
has to tell actions that take three times as long, so that a clip shows a third of one. On folders
of UCF101 or HMDB51 it is a 3D ResNeXt-101, from a Kinetics checkpoint where one is given:

    python studies/train_gated.py --dataset ucf101 --root UCF101 --checkpoint resnext101.pth

The paper's recipe is SGD at a rate of 0.001, divided by 10 every 50 epochs; the folders have it.
For the synthetic actions it is scaled to few clips and two cores: the same rate, divided by 10
after 4 of 6 epochs.

Every epoch is kept: a run that was stopped goes on where it was, and finished runs are not done
again. Needs the extra ``progress`` for the progress bar.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from captum_3dcam.datasets import ACTIONS, HMDB51, UCF101, SyntheticActions
from captum_3dcam.models import (
    LayerwiseGatedClassifier,
    ResNeXt3D,
    load_checkpoint,
    resnext101_3d,
)
from study import table
from trained_networks.action_net import LAYERS, WEIGHTS, load_action_net

HELD_OUT_SEED = 10**6
CLIP_LENGTH = 16
BASELINE = "none"


class Sample(NamedTuple):
    """A clip as the network takes it, its class, and which video it is of."""

    clip: Tensor
    label: int
    video: str


class SyntheticClips(Dataset[Sample]):
    """Videos of three clips in a row: an action takes all three, so that a clip shows a third."""

    def __init__(self, videos: int, seed: int, size: int) -> None:
        data = SyntheticActions(videos, seed, frames=3 * CLIP_LENGTH, size=size)
        clips = [(found.clip.split(CLIP_LENGTH, dim=1), int(found.labels[0])) for found in data]
        self.samples = [
            Sample(clip, label, str(video))
            for video, (parts, label) in enumerate(clips)
            for clip in parts
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class DiskClips(Dataset[Sample]):
    """The clips of a dataset on disk, preprocessed."""

    def __init__(self, data: UCF101 | HMDB51) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        found = self.data[index]
        return Sample(ResNeXt3D.PREPROCESSING(found.clip), found.label, found.video)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    learning_rate: float
    step: int
    """Epochs after which the rate is divided by 10."""
    epochs: int
    batch: int
    momentum: float = 0.9
    weight_decay: float = 5e-4


SCALED = Recipe(learning_rate=0.001, step=4, epochs=6, batch=16)
PAPER = Recipe(learning_rate=0.001, step=50, epochs=150, batch=32)


@dataclass(frozen=True)
class Task:
    """What to learn, and what learns it."""

    name: str
    classes: int
    layers: Sequence[str]
    backbone: Callable[[], nn.Module]
    train: Callable[[int], Dataset[Sample]]
    """The training clips, for a seed."""
    test: Dataset[Sample]
    workers: int = 0


def synthetic_task(options: argparse.Namespace) -> Task:
    return Task(
        f"synthetic-{options.videos}-{options.held_out}-{options.size}",
        len(ACTIONS),
        LAYERS,
        lambda: load_action_net(options.checkpoint or WEIGHTS),
        lambda seed: SyntheticClips(options.videos, seed, options.size),
        SyntheticClips(options.held_out, HELD_OUT_SEED, options.size),
    )


def disk_task(options: argparse.Namespace) -> Task:
    if options.root is None:
        raise SystemExit(f"--dataset {options.dataset} needs --root, the folder that it lies in.")
    kind = {"ucf101": UCF101, "hmdb51": HMDB51}[options.dataset]
    train, test = (kind(options.root, subset, split=options.split) for subset in ("train", "test"))

    def backbone() -> nn.Module:
        network = resnext101_3d(len(train.classes))
        if options.checkpoint is not None:
            load_checkpoint(options.checkpoint, network, skip=("fc",))
        return network

    return Task(
        f"{options.dataset}-{options.split}",
        len(train.classes),
        list(ResNeXt3D.LAYERS.values()),
        backbone,
        lambda seed: DiskClips(train),
        DiskClips(test),
        options.workers,
    )


# ------------------------------------------------------------------------------------ one run


def build(task: Task, gates: Sequence[str], seed: int, gate: str, fusion: str) -> nn.Module:
    """The backbone, with a gate at each of these layers; without any, the backbone itself."""
    torch.manual_seed(seed)
    backbone = task.backbone()
    if not gates:
        return backbone
    network = LayerwiseGatedClassifier(
        backbone, list(gates), task.classes, gate=gate, fusion=fusion
    )
    with torch.no_grad():
        network.eval()(task.test[0].clip[None])  # gives the gates their sizes
    return network


def train(network: nn.Module, task: Task, recipe: Recipe, seed: int, kept: Path, name: str) -> None:
    """In place, in eval mode in the end; each epoch is kept in a file, and gone on with."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, recipe.step, gamma=0.1)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    done = restore(kept, parts)
    data = task.train(seed)
    for epoch in range(done, recipe.epochs):
        # Each epoch has its own seed, so that a run gone on with is the same run.
        torch.manual_seed(1000 * seed + epoch)
        loader = DataLoader(data, recipe.batch, shuffle=True, num_workers=task.workers)
        network.train()
        progress = tqdm(loader, f"{name}, epoch {epoch + 1} of {recipe.epochs}", leave=False)
        for clips, labels, _ in progress:
            loss = F.cross_entropy(network(clips), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.set_postfix(loss=f"{loss.item():.2f}")
        schedule.step()
        keep(kept, {**{key: part.state_dict() for key, part in parts.items()}, "epoch": epoch + 1})
    network.eval()


def restore(path: Path, parts: dict[str, Any]) -> int:
    """How many epochs are done already; the parts are as they were after them."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epoch"])


def keep(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all: a run that is stopped while it writes keeps the epoch before."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


@torch.no_grad()
def accuracies(network: nn.Module, task: Task, batch: int) -> tuple[float, float]:
    """Of clips, and of videos by the mean of their clips' softmax; in [0, 1]."""
    videos: dict[str, list[Tensor]] = defaultdict(list)
    truth: dict[str, int] = {}
    right = 0
    loader = DataLoader(task.test, batch, num_workers=task.workers)
    for clips, labels, names in tqdm(loader, "held-out clips", leave=False):
        chances = network(clips).softmax(dim=1)
        right += int((chances.argmax(dim=1) == labels).sum())
        for name, label, row in zip(names, labels.tolist(), chances, strict=True):
            videos[name].append(row)
            truth[name] = label
    means = {name: torch.stack(rows).mean(dim=0) for name, rows in videos.items()}
    seen = sum(int(mean.argmax()) == truth[name] for name, mean in means.items())
    return right / len(task.test), seen / len(videos)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- all of them


def gate_sets(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """No gate, each layer's alone, those of the deeper ones together, and all."""
    combined = [tuple(layers[start:]) for start in range(len(layers) - 2, -1, -1)]
    return [(), *((layer,) for layer in layers), *combined]


def runs(
    task: Task, options: argparse.Namespace, recipe: Recipe
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Each run's row, seed and figures; those that are finished come from their files."""
    sets = options.gates or gate_sets(task.layers)
    for seed in options.seeds:
        for gates in sets:
            row = " + ".join(gates) or BASELINE
            settings = {
                "task": task.name,
                "gates": list(gates),
                "gate": options.gate,
                "fusion": options.fusion,
                "seed": seed,
                "recipe": asdict(recipe),
            }
            yield row, seed, finished(task, gates, seed, settings, options, recipe)


def finished(
    task: Task,
    gates: Sequence[str],
    seed: int,
    settings: dict[str, Any],
    options: argparse.Namespace,
    recipe: Recipe,
) -> dict[str, Any]:
    """The figures of one run, which is done or gone on with unless its file has them."""
    stem = f"{'-'.join(gates) or BASELINE}-{seed}"
    path = options.output / f"{stem}.json"
    if path.exists():
        figures = json.loads(path.read_text(encoding="utf-8"))
        if figures["settings"] != settings:
            raise SystemExit(
                f"{path} is of a run with other settings. Pass another --output, or delete it."
            )
        return dict(figures)
    network = build(task, gates, seed, options.gate, options.fusion)
    kept = options.output / f"{stem}.pt"
    train(network, task, recipe, seed, kept, f"{stem}")
    clip, video = accuracies(network, task, recipe.batch)
    figures = {
        "settings": settings,
        "parameters": sum(p.numel() for p in network.parameters()),
        "clip": clip,
        "video": video,
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    new.replace(path)
    return figures


def summary(found: Iterable[tuple[str, int, dict[str, Any]]]) -> str:
    """Markdown: a row a set of gates; mean ± standard deviation over seeds, in per cent.

    The last column is the gain in video accuracy over the network of the same seed without gates.
    """
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row, seed, figures in found:
        rows[row][seed] = figures
    baseline = rows.get(BASELINE, {})
    lines = []
    for row, by_seed in rows.items():
        gains = [
            figures["video"] - baseline[seed]["video"]
            for seed, figures in by_seed.items()
            if seed in baseline
        ]
        lines.append(
            [
                row,
                f"{next(iter(by_seed.values()))['parameters']:,}",
                spread([figures["clip"] for figures in by_seed.values()]),
                spread([figures["video"] for figures in by_seed.values()]),
                spread(gains) if row != BASELINE and gains else "",
            ]
        )
    return table(["gates", "parameters", "clips", "videos", "videos, gain"], lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (n - 1), in per cent.

    >>> spread([0.25, 0.75])
    '50.0 ± 35.4'
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--dataset", choices=("synthetic", "ucf101", "hmdb51"), default="synthetic", help=" "
    )
    parser.add_argument("--root", type=Path, help="of UCF101 or HMDB51")
    parser.add_argument("--split", type=int, default=1, choices=(1, 2, 3), help="of the folders")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="of the backbone: a 3D ResNeXt-101's for the folders, else an ActionNet's",
    )
    parser.add_argument("--workers", type=int, default=2, help="that read the folders")
    parser.add_argument("--videos", type=int, default=192, help="synthetic, to train on")
    parser.add_argument("--held-out", type=int, default=256, help="synthetic, to measure on")
    parser.add_argument("--size", type=int, default=64, help="of synthetic frames")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help=" ")
    parser.add_argument(
        "--gates",
        action="append",
        type=lambda names: tuple(name for name in names.split(",") if name),
        help="layers with a gate, as layer2,layer3; once for each row. By default none, each "
        "alone, and several together",
    )
    parser.add_argument("--gate", choices=("pool", "grid"), default="pool", help="its kind")
    parser.add_argument(
        "--fusion", choices=("sum", "mean", "learned", "concat"), default="sum", help="of logits"
    )
    for name, kind in {"learning-rate": float, "step": int, "epochs": int, "batch": int}.items():
        parser.add_argument(
            f"--{name}",
            type=kind,
            help=f"{getattr(SCALED, name.replace('-', '_'))} for the synthetic actions, the "
            f"paper's {getattr(PAPER, name.replace('-', '_'))} for folders",
        )
    parser.add_argument("--threads", type=int, help="of the processor; by default all")
    parser.add_argument("--output", type=Path, default=Path("out/gated"), help=" ")
    options = parser.parse_args(arguments)

    if options.threads:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    synthetic = options.dataset == "synthetic"
    given = {name: getattr(options, name) for name in ("learning_rate", "step", "epochs", "batch")}
    recipe = Recipe(
        **{
            **asdict(SCALED if synthetic else PAPER),
            **{name: value for name, value in given.items() if value is not None},
        }
    )
    task = (synthetic_task if synthetic else disk_task)(options)
    text = summary(runs(task, options, recipe))
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return text


if __name__ == "__main__":
    main()
