"""Does the map of "right" lie on what goes right? Whole frames of real footage, by optical flow.

    python studies/evaluate_directions.py

asks the network of ``train_directions.py`` about clips of 16 frames of the two shots that its
training did not see, each above its own mirror image: what goes right above goes left below, and
nothing else differs. Of each map, it measures the share of its sum on pixels that move in the
direction of the class and on pixels that move in the other, and whether its highest voxel moves in
that direction. Chance is the share of such voxels. ``--shots van cars`` are those of the training.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from _arguments import at_least, make_parser
from _footage import Footage, read_shot
from _report import table, write_report
from captum_3dcam import GlobalLocalCAM3D, LayerwiseLayerCAM, LayerwiseWhatWhereCAM
from captum_3dcam.metrics import energy_inside
from trained_networks.bikes import SHOTS
from trained_networks.direction_net import (
    CLIP_LENGTH,
    HELD_OUT_SHOTS,
    WEIGHTS,
    DirectionNet,
    load_direction_net,
)

METHODS = {
    "What x Where": LayerwiseWhatWhereCAM,
    "3DCAM": GlobalLocalCAM3D,
    "LayerCAM": LayerwiseLayerCAM,
}
LAYERS = {
    "all": ["stem", "layer1", "layer2", "layer3"],
    "layer1, layer2": ["layer1", "layer2"],  # as suggest_layers() chooses
    "layer2, layer3": ["layer2", "layer3"],  # the network's own
}
MIN_SHARE = 0.02  # of a clip's voxels that move
COLUMNS = ("direction", "opposite", "pointing")
Row = dict[str, float]


def clips(shot: Footage, stride: int) -> Iterator[Footage]:
    """Those in which something moves, each above its mirror image."""
    for start in range(0, len(shot.speed) - CLIP_LENGTH + 1, stride):
        clip = shot.between(start, start + CLIP_LENGTH)
        if (clip.moving(0) | clip.moving(1)).float().mean() >= MIN_SHARE:
            yield clip.above_mirror_image()


def measure(heat: Tensor, clip: Footage, label: int) -> Row:
    """Of a map (T, H, W)."""
    own, other = clip.moving(label), clip.moving(1 - label)
    shares = [energy_inside(heat[None], mask[None]).item() for mask in (own, other)]
    peak = bool(heat.any()) and bool(own.flatten()[heat.argmax()])
    return dict(zip(COLUMNS, [*shares, float(peak)], strict=True))


def chance(clip: Footage, label: int) -> Row:
    """Of a map that is the same everywhere; its pointing, of a voxel at random."""
    row = measure(torch.ones(clip.speed.shape), clip, label)
    return row | {"pointing": row["direction"]}


def mean(rows: Sequence[Row]) -> Row:
    return {name: sum(row[name] for row in rows) / len(rows) for name in COLUMNS}


def evaluate(network: DirectionNet, shot: Footage, stride: int) -> dict[str, Row]:
    """The mean over both classes and all clips, by method and layers."""
    chosen = list(clips(shot, stride))
    rows = {"chance": mean([chance(clip, label) for clip in chosen for label in (0, 1)])}
    for name, method in METHODS.items():
        for layers_name, layers in LAYERS.items():
            cam, measured = method(network, layers), []
            for clip in chosen:
                maps = cam.attribute_classes(clip.frames[None], [0, 1])[0]
                measured += [measure(maps[label], clip, label) for label in (0, 1)]
            rows[f"{name}: {layers_name}"] = mean(measured)
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Row]]:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--shots", nargs="+", choices=list(SHOTS), default=HELD_OUT_SHOTS)
    add("--stride", type=at_least(1), default=4, help="frames from one clip to the next")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)

    network = load_direction_net(options.weights)
    shots = {name: read_shot(name) for name in options.shots}
    report = {name: evaluate(network, shot, options.stride) for name, shot in shots.items()}
    tables = []
    for name, rows in report.items():
        count = len(list(clips(shots[name], options.stride)))
        cells = [[key, *(f"{value:.3f}" for value in row.values())] for key, row in rows.items()]
        tables.append(f"{name}, {count} clips\n\n{table(['', *COLUMNS], cells)}")
    write_report(options.output, "directions", report, "\n\n".join(tables))
    return report


if __name__ == "__main__":
    main()
