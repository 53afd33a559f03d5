"""Do gates at every depth help a recogniser of actions? The paper's Tables 9 and 10.

    python studies/train_gated.py --seeds 0 1 2 --output out/gated

trains a network without gates, with a gate at each of its layers alone, and with gates at several
layers, and prints the accuracy of each on held-out videos, per clip and per video (by the mean of
its clips' softmax). As in the paper, a trained backbone is trained further, together with its
gates, on other videos. By default it is the recogniser of synthetic actions, and the actions take
three times as long as those that it was trained on, so that a clip shows a third of one. On UCF101
or HMDB51 it is a 3D ResNeXt-101, from a Kinetics checkpoint if there is one:

    python studies/train_gated.py --dataset ucf101 --root UCF101 --checkpoint resnext101.pth

``--model i3d`` is the network of Table 10, and ``--stream flow`` and ``--stream rgb+flow`` train
its flow stream, or both: the mean of their logits, with a gate in each stream. The flow of a clip
is computed once (extra ``flow``) and kept in the output folder; ``--flow-checkpoint`` is that of
the flow stream.

    python studies/train_gated.py --dataset ucf101 --root UCF101 --model i3d --stream rgb+flow \
      --checkpoint rgb_imagenet.pt --flow-checkpoint flow_imagenet.pt

Below the rows of a run stands the paper's table, what it prints (paper_tables.json) under ours.

The paper's recipe is SGD with a learning rate of 0.001, divided by 10 every 50 epochs; it is the
default for these datasets. For the synthetic actions it is scaled to few clips and two cores: the
same learning rate, divided by 10 after 4 of 6 epochs.

Every epoch is saved: a stopped run resumes, and finished runs are not repeated.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from _arguments import make_parser
from _gated_tasks import STREAMS, Clip, Task, disk_task, save_atomically, synthetic_task
from _paper import PaperRow, beside_ours, paper_tables
from _report import table
from captum_3dcam.models import LayerwiseGatedClassifier

BASELINE = "none"


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training."""

    learning_rate: float
    step: int
    """Epochs after which the learning rate is divided by 10."""
    epochs: int
    batch: int
    momentum: float = 0.9
    weight_decay: float = 5e-4


SCALED_RECIPE = Recipe(learning_rate=0.001, step=4, epochs=6, batch=16)
PAPER_RECIPE = Recipe(learning_rate=0.001, step=50, epochs=150, batch=32)


# ------------------------------------------------------------------------------------ one run


def build(task: Task, gates: Sequence[str], seed: int, gate: str, fusion: str) -> nn.Module:
    """The backbone with a gate at each of these layers; the backbone itself for no layer."""
    torch.manual_seed(seed)
    backbone = task.backbone()
    if not gates:
        return backbone
    network = LayerwiseGatedClassifier(
        backbone, list(gates), task.classes, gate=gate, fusion=fusion
    )
    with torch.no_grad():
        clip = task.test[0].clip
        batch = clip[None] if isinstance(clip, Tensor) else [each[None] for each in clip]
        scores(network.eval(), batch)  # initialises the gates' sizes
    return network


def scores(network: nn.Module, clips: Clip) -> Tensor:
    """The logits of a batch of clips, or of RGB and flow."""
    out: Tensor = network(clips) if isinstance(clips, Tensor) else network(*clips)
    return out


def train(network: nn.Module, task: Task, recipe: Recipe, seed: int, path: Path) -> None:
    """Train in place; the network is in eval mode then. ``path`` has the last finished epoch."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, recipe.step, gamma=0.1)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    first = load_epoch(path, parts)
    data = task.train(seed)
    for epoch in range(first, recipe.epochs):
        # Each epoch has its own seed, so that a resumed run gives the same network.
        torch.manual_seed(1000 * seed + epoch)
        loader = DataLoader(data, recipe.batch, shuffle=True, num_workers=task.workers)
        network.train()
        description = f"{path.stem}, epoch {epoch + 1} of {recipe.epochs}"
        progress = tqdm(loader, description, leave=False)
        for clips, labels, _ in progress:
            loss = F.cross_entropy(scores(network, clips), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.set_postfix(loss=f"{loss.item():.2f}")
        schedule.step()
        state = {key: part.state_dict() for key, part in parts.items()}
        save_epoch(path, {**state, "epoch": epoch + 1})
    network.eval()


def load_epoch(path: Path, parts: dict[str, Any]) -> int:
    """Load the parts as saved, if they were; the number of finished epochs."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epoch"])


def save_epoch(path: Path, state: dict[str, Any]) -> None:
    """A run that is stopped here still has the epoch before."""
    save_atomically(path, state)


@torch.no_grad()
def accuracies(network: nn.Module, task: Task, batch: int) -> tuple[float, float]:
    """Of clips, and of videos by the mean of their clips' softmax; in [0, 1]."""
    videos: dict[str, list[Tensor]] = defaultdict(list)
    labels_of: dict[str, int] = {}
    correct_clips = 0
    loader = DataLoader(task.test, batch, num_workers=task.workers)
    for clips, labels, names in tqdm(loader, "held-out clips", leave=False):
        probabilities = scores(network, clips).softmax(dim=1)
        correct_clips += int((probabilities.argmax(dim=1) == labels).sum())
        for name, label, row in zip(names, labels.tolist(), probabilities, strict=True):
            videos[name].append(row)
            labels_of[name] = label
    means = {name: torch.stack(rows).mean(dim=0) for name, rows in videos.items()}
    correct_videos = sum(int(mean.argmax()) == labels_of[name] for name, mean in means.items())
    return correct_clips / len(task.test), correct_videos / len(videos)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------- all runs


def gate_sets(layers: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """No gate, each layer's gate alone, those of the deepest two, three, ... layers, and all.

    >>> gate_sets([("a",), ("b",)])
    [(), ('a',), ('b',), ('a', 'b')]
    """
    each = list(layers)
    combined = [tuple(chain(*each[start:])) for start in range(len(each) - 2, -1, -1)]
    return [(), *each, *combined]


def runs(
    task: Task, options: argparse.Namespace, recipe: Recipe
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The row, seed and figures of each run."""
    sets = options.gates or gate_sets(task.layers.values())
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
            yield row, seed, finish_run(task, gates, seed, settings, options, recipe)


def finish_run(
    task: Task,
    gates: Sequence[str],
    seed: int,
    settings: dict[str, Any],
    options: argparse.Namespace,
    recipe: Recipe,
) -> dict[str, Any]:
    """The figures of one run: read if it is finished, else it starts or resumes."""
    stem = f"{'-'.join(gates) or BASELINE}-{seed}"
    path = options.output / f"{stem}.json"
    if path.exists():
        figures = json.loads(path.read_text(encoding="utf-8"))
        if figures["settings"] != settings:
            raise SystemExit(
                f"{path} is of a run with other settings. Give another --output, or delete it."
            )
        return dict(figures)
    network = build(task, gates, seed, options.gate, options.fusion)
    train(network, task, recipe, seed, options.output / f"{stem}.pt")
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


Results = Iterable[tuple[str, int, dict[str, Any]]]


def by_row(results: Results) -> dict[str, dict[int, dict[str, Any]]]:
    """The figures of each row and seed."""
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row, seed, figures in results:
        rows[row][seed] = figures
    return dict(rows)


def summary(results: Results) -> str:
    """Markdown: a row for each set of gates; mean ± standard deviation over seeds, in per cent.

    The last column is the gain in video accuracy over the network of the same seed without gates.
    """
    rows = by_row(results)
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


def as_printed(results: Results, task: Task) -> str:
    """The paper's table of the network, ours beside: accuracies in per cent."""
    cells = {
        row: {
            score: spread([figures[score] for figures in by_seed.values()])
            for score in ("clip", "video")
        }
        for row, by_seed in by_row(results).items()
    }

    def name_of(row: PaperRow) -> str | None:
        gates, stream = row.ours["gates"], row.ours.get("stream", "rgb")
        if stream != task.stream or not set(gates) <= set(task.layers):
            return None
        return " + ".join(chain(*(task.layers[gate] for gate in gates))) or BASELINE

    printed = paper_tables()[task.paper_table]
    return f"Ours is of {task.name}. " + beside_ours(
        printed, cells, name_of, lambda share: f"{100 * share:.1f}"
    )


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (n - 1), in per cent.

    >>> spread([0.25, 0.75])
    '50.0 ± 35.4'
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--dataset", choices=("synthetic", "ucf101", "hmdb51"), default="synthetic")
    add("--root", type=Path, help="folder of UCF101 or HMDB51")
    add("--split", type=int, default=1, choices=(1, 2, 3), help="of UCF101 or HMDB51 (default: 1)")
    add("--model", choices=("resnext101_3d", "i3d"), default="resnext101_3d", help="of videos")
    add("--stream", choices=STREAMS, default="rgb", help="of I3D (default: rgb)")
    add("--checkpoint", type=Path, help="of the network of RGB, or of the ActionNet")
    add("--flow-checkpoint", type=Path, help="of I3D's flow stream")
    add("--workers", type=int, default=2, help="that read UCF101 or HMDB51 (default: 2)")
    add("--videos", type=int, default=192, help="synthetic, to train on (default: 192)")
    add("--held-out", type=int, default=256, help="synthetic, to measure on (default: 256)")
    add("--size", type=int, default=64, help="of synthetic frames (default: 64)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    add(
        "--gates",
        action="append",
        type=lambda names: tuple(name for name in names.split(",") if name),
        help="layers with a gate, as layer2,layer3; once for each row. By default none, each "
        "alone, and several together",
    )
    add("--gate", choices=("pool", "grid"), default="pool", help="its kind (default: pool)")
    fusions = ("sum", "mean", "learned", "concat")
    add("--fusion", choices=fusions, default="sum", help="of logits (default: sum)")
    for name, kind in {"learning-rate": float, "step": int, "epochs": int, "batch": int}.items():
        scaled, paper = (
            getattr(recipe, name.replace("-", "_")) for recipe in (SCALED_RECIPE, PAPER_RECIPE)
        )
        add(f"--{name}", type=kind, help=f"(default: {scaled}; on UCF101 and HMDB51 {paper})")
    add("--threads", type=int, help="of torch (default: its own choice)")
    add("--output", type=Path, default=Path("out/gated"), help="folder to write to")
    options = parser.parse_args(arguments)

    if options.threads:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    synthetic = options.dataset == "synthetic"
    given = {name: getattr(options, name) for name in ("learning_rate", "step", "epochs", "batch")}
    recipe = Recipe(
        **{
            **asdict(SCALED_RECIPE if synthetic else PAPER_RECIPE),
            **{name: value for name, value in given.items() if value is not None},
        }
    )
    task = (synthetic_task if synthetic else disk_task)(options)
    results = list(runs(task, options, recipe))
    text = "\n\n".join([summary(results), as_printed(results, task)])
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return text


if __name__ == "__main__":
    main()
