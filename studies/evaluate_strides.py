"""How far apart may the windows of a long video be, and what do those that overlap compute twice?

    python studies/evaluate_strides.py

prints three tables, for windows of 16 frames:

- the most that could be saved, if what two windows, 8 frames apart, compute alike were computed
  once: the convolutions that compute anything alike, and its shares of the time of the forward pass
  and of the whole explanation;
- of each stride, the time beside that of a stride of 16, in rounds in which the strides take turns,
  and the agreement of the map with that of a stride of 2: Pearson's correlation over all voxels,
  the rank correlation of the temporal profiles, the IoU of the frames whose profile is above half
  its maximum, and that of the highest segment of these: the mean over all cases and methods, and
  the range;
- the first of these correlations for other ways to blend, each beside its own map at a stride of 2.

The cases: a network that tells left from right and a detector of cuts, on real footage, and a
recogniser of synthetic actions. Needs the extra ``demo``.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from _arguments import at_least, make_parser
from _methods import METHODS
from _report import table, write_report
from _resnet import LAYERS, NETWORKS
from _shared_features import SharedFeatures, measure_shared_features
from _timing import machine, ratios, take_turns
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import read_video
from captum_3dcam.localization import segments
from captum_3dcam.metrics import mask_iou, segment_iou
from captum_3dcam.sanity import rank_correlation
from captum_3dcam.sliding import SlidingWindowCAM, shot_boundaries
from captum_3dcam.sliding._windows import taper, window_starts
from trained_networks import action_net, bikes, transnet
from trained_networks.action_video import LongActionVideo
from trained_networks.direction_net import DirectionNet, load_direction_net

WINDOW = 16
STRIDES = (2, 4, 8, 12, 16)  # the first is the reference
OVERLAPPING = 8  # the stride of the windows whose layers are compared
COLUMNS = ("time", "voxels", "profile", "frames", "segment")
TAPER = taper((WINDOW,))[:, None, None]
Row = dict[str, float]


class Case(NamedTuple):
    """A video to explain."""

    network: nn.Module
    layers: Sequence[str]
    video: Tensor
    """(1, 3, T, H, W)"""
    target: Any
    boundaries: Sequence[int] = ()

    def make_cam(self, method: str) -> LayerwiseCAM:
        return METHODS[method](self.network, self.layers)

    def starts(self, stride: int) -> list[list[int]]:
        """The windows of each scene."""
        ends = pairwise([0, *self.boundaries, self.video.shape[2]])
        return [
            [begin + start for start in window_starts(end - begin, WINDOW, stride)]
            for begin, end in ends
        ]


class WindowMap(NamedTuple):
    values: Tensor
    """(16, H, W)"""
    factor: float


# ------------------------------------------------------------------------------------ cases


class CutDetector(nn.Module):
    """TransNetV2 for channels-first frames: (N, 3, T, 27, 48) RGB bytes -> (N, T) logits."""

    LAYERS = tuple(f"network.{stack}" for stack in transnet.STACKS)

    def __init__(self) -> None:
        super().__init__()
        self.network = transnet.load_transnet()

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.network(frames.movedim(1, -1).contiguous())
        return logits


def directions_of_shots() -> Case:
    starts = [start for start, _ in bikes.SHOTS.values()]
    # The last shot is shorter than a window.
    return _directions("bikes.mp4", starts[-1], starts[1:-1])


def directions_of_a_car() -> Case:
    """A man in a car; the street goes by behind the window."""
    return _directions("carphone_pristine.mp4")


def cuts() -> Case:
    """The most probable cut of each window."""
    video = _channels_first(read_video(bikes.demo_video(), transnet.FRAME_SIZE).frames)
    return Case(CutDetector().eval(), CutDetector.LAYERS, video[None], _highest)


def actions() -> Case:
    """The most probable action of each window."""
    parts = [_channels_first(frames) / 255 for frames in LongActionVideo(3, size=64).chunks(64)]
    video, network = torch.cat(parts, dim=1), action_net.load_action_net()
    return Case(network, action_net.LAYERS, video[None], None, shot_boundaries(video))


def _directions(name: str, frames: int | None = None, boundaries: Sequence[int] = ()) -> Case:
    """What goes right."""
    pixels = read_video(bikes.demo_video().with_name(name)).frames[:frames]
    video = DirectionNet.PREPROCESSING(_channels_first(pixels))[None]
    return Case(load_direction_net(), DirectionNet.LAYERS, video, 1, boundaries)


def _highest(output: Tensor) -> Tensor:
    return output.amax(dim=1)


def _channels_first(frames: Any) -> Tensor:
    return torch.from_numpy(frames).movedim(-1, 0)


def _random_network(name: str) -> Case:
    torch.manual_seed(0)
    video = torch.rand(1, 3, WINDOW + OVERLAPPING, 112, 112)
    return Case(NETWORKS[name]().eval(), LAYERS, video, 0)


CASES: dict[str, Callable[[], Case]] = {
    "directions, bikes.mp4": directions_of_shots,
    "directions, carphone.mp4": directions_of_a_car,
    "cuts, bikes.mp4": cuts,
    "actions, synthetic": actions,
}
RANDOM = {name: partial(_random_network, name) for name in ("r3d_18", "resnet50_3d")}


# --------------------------------------------------------------------------------- blending


def explain_windows(case: Case, cam: LayerwiseCAM) -> dict[int, WindowMap]:
    """The map of each window of the shortest stride, whose starts include those of the others."""
    maps = {}
    for start in chain.from_iterable(case.starts(STRIDES[0])):
        clip = case.video[:, :, start : start + WINDOW]
        result = SlidingWindowCAM(cam, WINDOW).attribute_windows(clip, case.target)
        ((window,),) = result.windows
        maps[start] = WindowMap(result.attribution[0, 0] / window.factor, window.factor)
    return maps


def blend(
    maps: dict[int, WindowMap], scenes: list[list[int]], weights: Tensor, factors: bool = True
) -> Tensor:
    """Σ weight · factor · map / Σ weight (T, H, W), over the windows that begin there."""
    values = maps[0].values
    total = values.new_zeros(scenes[-1][-1] + WINDOW, *values.shape[1:])
    weight = total[:, :1, :1].clone()
    for start in chain.from_iterable(scenes):
        frames = slice(start, start + WINDOW)
        total[frames] += weights * maps[start].values * (maps[start].factor if factors else 1)
        weight[frames] += weights
    return total / weight


def blend_apart(maps: dict[int, WindowMap], scenes: list[list[int]]) -> Tensor:
    """The maps without their factors, times the factor that is interpolated between windows."""
    blended = blend(maps, scenes, TAPER, factors=False)
    begins = [scene[0] for scene in scenes] + [len(blended)]
    factors = [
        np.interp(
            np.arange(begin, end),
            [start + (WINDOW - 1) / 2 for start in scene],
            [maps[start].factor for start in scene],
        )
        for (begin, end), scene in zip(pairwise(begins), scenes, strict=True)
    ]
    return blended * torch.from_numpy(np.concatenate(factors)).to(blended)[:, None, None]


BLENDINGS: dict[str, Callable[[dict[int, WindowMap], list[list[int]]], Tensor]] = {
    "taper, the package's": partial(blend, weights=TAPER),
    "none": partial(blend, weights=torch.ones_like(TAPER)),
    "taper squared": partial(blend, weights=TAPER**2),
    "taper, factors interpolated": blend_apart,
}


# ------------------------------------------------------------------------------- agreement


def compare(heat: Tensor, reference: Tensor) -> Row:
    """Of two maps (T, H, W)."""
    profiles = [temporal_profile(each[None, None]) for each in (heat, reference)]
    return {
        "voxels": correlation(heat, reference),
        "profile": rank_correlation(*profiles).item(),
        "frames": mask_iou(*(profile > profile.max() / 2 for profile in profiles)).item(),
        "segment": segment_iou(*map(highest_segment, profiles)).item(),
    }


def correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


def highest_segment(profile: Tensor) -> Tensor:
    """The frames [start, end), (1, 2), around the maximum that are above half of it."""
    highest = segments(profile, high=0.5, low=0.5)[0][0]
    return torch.tensor([[float(highest.start), float(highest.end)]])


def evaluate(case: Case, methods: Iterable[str]) -> dict[str, dict[str, dict[int, Row]]]:
    """The agreement by method, way of blending, and stride."""
    report: dict[str, dict[str, dict[int, Row]]] = {}
    for method in methods:
        maps = explain_windows(case, case.make_cam(method))
        report[method] = {}
        for name, blended in BLENDINGS.items():
            reference, *others = [blended(maps, case.starts(stride)) for stride in STRIDES]
            rows = [compare(heat, reference) for heat in others]
            report[method][name] = dict(zip(STRIDES[1:], rows, strict=True))
    return report


def measure_times(case: Case, method: str, repeats: int) -> dict[int, float]:
    """Of each stride, the median ratio of its time to that of the longest one."""
    cam = case.make_cam(method)
    sliding = {str(stride): SlidingWindowCAM(cam, WINDOW, stride) for stride in STRIDES}
    arguments = {"boundaries": case.boundaries}
    runs = {
        stride: partial(each.attribute, case.video, case.target, **arguments)
        for stride, each in sliding.items()
    }
    seconds = take_turns(runs, repeats)
    longest = seconds[str(STRIDES[-1])]
    return {stride: ratios(seconds[str(stride)], longest).median for stride in STRIDES}


# ---------------------------------------------------------------------------------- report


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    cases = {name: CASES[name]() for name in options.cases}
    first = options.methods[0]
    shared = {
        name: measure_shared_features(
            case.make_cam(first), case.video, case.target, WINDOW, OVERLAPPING, options.repeats
        )
        for name, case in (cases | {name: RANDOM[name]() for name in options.random}).items()
    }
    report = {
        "machine": machine(),
        "shared": {name: each._asdict() for name, each in shared.items()},
        "time": {name: measure_times(case, first, options.repeats) for name, case in cases.items()},
        "agreement": {name: evaluate(case, options.methods) for name, case in cases.items()},
    }
    write_report(options.output, "strides", report, text_of(report, shared))
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    add("--random", nargs="*", choices=list(RANDOM), default=list(RANDOM), help="untrained ones")
    add("--methods", nargs="+", choices=list(METHODS), default=["WhatWhere", "GlobalLocal"])
    add("--repeats", type=at_least(1), default=3, help="rounds that are timed (default: 3)")
    add("--threads", type=at_least(1), default=1, help="of torch (default: 1)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


def text_of(report: dict[str, Any], shared: dict[str, SharedFeatures]) -> str:
    rows = [[name, *_shared_cells(each)] for name, each in shared.items()]
    header = ["", "convolutions", "of the forward pass", "of the explanation"]
    parts = [report["machine"], table(header, rows)]
    maps = [each for case in report["agreement"].values() for each in case.values()]
    rows = [_stride_row(stride, report["time"], maps) for stride in STRIDES]
    parts.append(table(["stride", *COLUMNS], rows))
    rows = [
        [name, *(_mean_and_range(each[name][s]["voxels"] for each in maps) for s in STRIDES[1:])]
        for name in BLENDINGS
    ]
    parts.append(table(["blending", *map(str, STRIDES[1:])], rows))
    return "\n\n".join(parts)


def _stride_row(stride: int, times: dict[str, Any], maps: list[Any]) -> list[str]:
    row = [str(stride), _mean_and_range(each[stride] for each in times.values())]
    if stride == STRIDES[0]:
        return [*row, *["1"] * len(COLUMNS[1:])]
    ours = [each[next(iter(BLENDINGS))][stride] for each in maps]
    return [*row, *(_mean_and_range(each[name] for each in ours) for name in COLUMNS[1:])]


def _mean_and_range(values: Iterable[float]) -> str:
    several = list(values)
    return f"{fmean(several):.2f} ({min(several):.2f} to {max(several):.2f})"


def _shared_cells(shared: SharedFeatures) -> list[str]:
    count = f"{shared.shared_convolutions} of {shared.convolutions}"
    return [count, f"{shared.forward:.1%}", f"{shared.explanation:.1%}"]


if __name__ == "__main__":
    main()
