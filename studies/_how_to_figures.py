"""Figures of the how-to pages, each from a trained network, or from one with a known answer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor, nn

import captum_3dcam
from captum_3dcam import CounterfactualCAM3D, Explanation, GlobalLocalCAM3D, Layer, explain
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import Evaluation, Sample, evaluate, make_attributions
from captum_3dcam.explanation.exporters import to_napari
from captum_3dcam.models import Preprocessing, VolumePreprocessing
from captum_3dcam.visualization import (
    Overlays,
    Style,
    visualize_attr_panels,
    visualize_video_attr,
)
from trained_networks import action_net, bikes, efficientnet, volume_net
from trained_networks.direction_net import CLASSES, CLIP_LENGTH, SIZE, load_direction_net

FIRST_FRAME = 190  # of a pedestrian who walks to the right
WORKER = Path(__file__).with_name("_timeline_worker.py")


# -------------------------------------------------------------------------------------- real input


def draw_video() -> Figure:
    """Frames of a file, the map, its tubes and its profile."""
    explanation = explain(
        load_direction_net(),
        bikes.read_clip(FIRST_FRAME, FIRST_FRAME + CLIP_LENGTH),
        "right",
        class_names=CLASSES,
    )
    tubes = {f"tube ({tube.score:.2f})": tube for tube in explanation.tubes()[:1]}
    figure, _ = visualize_video_attr(
        explanation.heat_map(),
        _frames(explanation),
        frames=[3, 6, 9, 12],
        fps=explanation.times,
        overlays=Overlays(tubes=tubes, segments=explanation.segments()),
        title=explanation.captions[0][0],
    )
    return figure


def draw_methods() -> Figure:
    """The map of "right" by six methods: it should lie on the upper half."""
    others = ["GlobalLocal", "GradCAM", "GradCAM++", "LayerCAM", "HiResCAM"]
    explanation = explain(
        load_direction_net(),
        bikes.above_mirror_image(bikes.read_clip(FIRST_FRAME, FIRST_FRAME + CLIP_LENGTH)),
        list(CLASSES),
        class_names=CLASSES,
        compare=others,
        preprocessing=Preprocessing(size=2 * SIZE),
    )
    rank = CLASSES.index("right")
    maps = {explanation.method: explanation.heat_map(rank)}
    maps |= {name: each[0, rank] for name, each in explanation.method_maps.items()}
    names = [f"{name}: {_share_above(heat):.0%} above" for name, heat in maps.items()]
    style = Style(scale="row", show_colorbar=False, columns=3)
    figure, _ = visualize_attr_panels(
        list(maps.values()),
        _frames(explanation),
        names,
        frames=[6],
        fps=explanation.times,
        title="why right? What goes right is above",
        style=style,
    )
    return figure


def _share_above(heat: Tensor) -> float:
    above, below = (float(half.sum()) for half in heat.chunk(2, dim=1))
    return above / (above + below)


def _frames(explanation: Explanation) -> np.ndarray:
    return np.stack(list(explanation.originals[0]))


# -------------------------------------------------------------------------------------- photographs


def draw_fusions() -> Figure:
    """The maps of five layers joined in five ways."""
    network, pixels, inputs = _photograph("chelsea")
    names = ["sum", "max", "product", "geometric_mean"]
    cams = [captum_3dcam.LayerwiseHiResCAM(network, _layers(), fusion=fusion) for fusion in names]
    maps = [cam.attribute(inputs, target=281) for cam in cams]
    figure, _ = visualize_attr_panels(
        maps, pixels, names, title="HiResCAM of tabby cat", style=Style(scale="row")
    )
    return figure


def draw_targets() -> Figure:
    """One class, another one, their difference, and a log-probability."""
    network, pixels, inputs = _photograph("coffee")
    targets = {
        "espresso": 967,
        "cup": 968,
        "espresso − cup": lambda scores: scores[:, 967] - scores[:, 968],
        "log p(espresso)": lambda scores: scores.log_softmax(1)[:, 967],
    }
    cam = captum_3dcam.LayerwiseWhatWhereCAM(network, _layers())
    maps = [cam.attribute(inputs, target=target) for target in targets.values()]
    figure, _ = visualize_attr_panels(maps, pixels, list(targets), style=Style(scale="row"))
    return figure


def _photograph(name: str) -> tuple[nn.Module, np.ndarray, Tensor]:
    pixels = efficientnet.crop(efficientnet.demo_photographs()[name])
    return efficientnet.load_efficientnet(), pixels, efficientnet.preprocess(pixels)


def _layers() -> list[Layer]:
    return [Layer(name, calls="last") for name in efficientnet.LAYERS]


# ---------------------------------------------------------------------------------- a known answer


def draw_reading() -> Figure:
    """The network and the clip of docs/how_to/read_a_map.md: red, and what speaks against it."""
    model = nn.Sequential(
        nn.Conv3d(3, 2, kernel_size=1, bias=False),
        nn.ReLU(),
        nn.Conv3d(2, 2, kernel_size=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(2, 2, bias=False),
    ).eval()
    weights = ([[1.0, -1, 0], [-1, 1, 0]], [[1, -0.5], [-0.5, 1]], [[1.0, -1], [-1, 1]])
    with torch.no_grad():
        for layer, values in zip((model[0], model[2], model[6]), weights, strict=True):
            layer.weight.copy_(torch.tensor(values).view_as(layer.weight))
    clip = torch.full((1, 3, 16, 32, 32), 0.5)
    clip[0, :, 0:10, 4:12, 4:12] = torch.tensor([1.0, 0.0, 0.0])[:, None, None, None]
    clip[0, :, 6:16, 20:28, 20:28] = torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]
    maps = [
        cam(model, "1").attribute(clip, target=0) for cam in (GlobalLocalCAM3D, CounterfactualCAM3D)
    ]
    figure, _ = visualize_attr_panels(
        maps,
        clip[0].movedim(0, -1),
        ["map of red", "counterfactual of red"],
        frames=[2, 8, 13],
        style=Style(raw=True, fig_size=(6.5, 7.0)),
    )
    return figure


def draw_memory() -> Figure:
    """What the graph keeps, by the first of the layers that are explained."""
    network, clip = action_net.load_action_net(), torch.rand(1, 3, 16, 112, 112)
    kept = {}
    for first, name in enumerate(action_net.LAYERS):
        cam = GlobalLocalCAM3D(network, action_net.LAYERS[first:])
        with _kept_bytes() as sizes:
            cam.attribute(clip, target=0)
        kept[f"from {name}"] = sum(sizes.values()) / 2**20
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(kept), list(kept.values()))
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("kept for the backward pass (MiB), one clip of 16 x 112 x 112")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@contextmanager
def _kept_bytes() -> Iterator[dict[int, int]]:
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


# -------------------------------------------------------------------------------------- evaluation


@cache
def evaluate_actions(clips: int = 24) -> Evaluation:
    """Three methods and two sets of layers on held-out clips of one actor."""
    data = SyntheticActions(clips, seed=action_net.HELD_OUT_SEED)
    samples = [Sample(c.clip, int(c.labels[0]), c.boxes[0], c.masks[0]) for c in data]
    methods = {
        "What x Where": captum_3dcam.LayerwiseWhatWhereCAM,
        "3DCAM": GlobalLocalCAM3D,
        "Grad-CAM": captum_3dcam.LayerwiseGradCAM,
    }
    layers = {"all five layers": action_net.LAYERS, "first three": action_net.LAYERS[:3]}
    return evaluate(make_attributions(action_net.load_action_net(), methods, layers), samples)


def draw_evaluation() -> Figure:
    """The means and intervals of two scores, with the baselines below."""
    summary = evaluate_actions().summary
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    columns = {"energy": "share of the map on the actor", "max_box_acc": "MaxBoxAcc"}
    for axes, (column, label) in zip(
        figure.subplots(1, 2, sharey=True), columns.items(), strict=True
    ):
        for row, scores in reversed(summary.items()):
            value, low, high = scores[column]
            color = "0.5" if row in ("chance", "whole frame", "centre box") else "C0"
            axes.errorbar(value, row, xerr=[[value - low], [high - value]], color=color, marker="o")
        axes.set_xlim(0, None)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_processes() -> Figure:
    """When which process scored which sample, as measured under torchrun."""
    figure = Figure(figsize=(8, 1.8), layout="constrained")
    axes = figure.subplots()
    with TemporaryDirectory() as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([sys.executable, *torchrun, str(WORKER), folder], check=True)  # noqa: S603
        spans = {path.stem: json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())}
    first = min(start for each in spans.values() for _, start, _ in each)
    for name, each in spans.items():
        for sample, start, end in each:
            axes.barh(name, end - start, left=start - first, color=f"C{sample % 10}", edgecolor="w")
            axes.text((start + end) / 2 - first, name, str(sample), ha="center", va="center")
    axes.set_xlabel("time (s); the numbers are those of the samples")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_export() -> Figure:
    """The layers for napari where their affines put them: a slice through the map's peak."""
    scan = volume_net.make_scan(2).volume
    preprocess = VolumePreprocessing(orientation="SPL", size=volume_net.SIZE)
    classes = volume_net.CLASSES
    explanation = explain(volume_net.train(), scan, class_names=classes, preprocessing=preprocess)
    (grey, of_scan, _), (heat, of_map, _) = to_napari(explanation)
    index = int(np.unravel_index(heat.argmax(), heat.shape)[0])
    rows, columns = grey.shape[1:]
    first = of_scan["affine"] @ (index, -0.5, -0.5, 1)
    last = of_scan["affine"] @ (index, rows - 0.5, columns - 0.5, 1)
    extent = (first[2], last[2], last[1], first[1])
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        low, high = of_scan["contrast_limits"]
        ax.imshow(grey[index], of_scan["colormap"], vmin=low, vmax=high, extent=extent)
        ax.set(xlabel="L (mm)", ylabel="P (mm)", title=of_scan["name"])
    shown = heat[index]
    peak = of_map["contrast_limits"][1]
    image = right.imshow(
        shown, of_map["colormap"], vmax=peak, alpha=np.sqrt(shown / peak), extent=extent
    )
    right.set_title(f"{of_scan['name']}, and {of_map['name']} over it")
    figure.colorbar(
        ScalarMappable(image.norm, image.cmap), ax=right, shrink=0.6, label="attribution"
    )
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "video": draw_video,
    "methods": draw_methods,
    "fusions": draw_fusions,
    "targets": draw_targets,
    "reading": draw_reading,
    "memory": draw_memory,
    "evaluation": draw_evaluation,
    "processes": draw_processes,
    "export": draw_export,
}
