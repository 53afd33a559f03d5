"""When, and where, in a long video? Explained as a stream, in the memory of a few windows.

The trained recogniser of synthetic actions looks at windows of 16 frames. A first pass over the
frames finds the scene changes, which no window crosses; a second one explains the windows and
writes the map to disk as it goes. So ten minutes take the memory of one. The map is What x Where,
which lies on the class that is asked about:

    python examples/explain_long_video.py --minutes 1       # a synthetic video with known actions
    python examples/explain_long_video.py --minutes 10 --stride 16    # in half the time
    python examples/explain_long_video.py my.mp4 --target whole   # one class for all of it

Each writes ``long_video.png``, the timeline, and ``long_video.npz``, the map and what each window
said, for ``captum_3dcam.io.load_map``. The network knows the drawn actions and nothing else, and
has no class for "nothing happens": of other videos, and in the pauses, it says what comes nearest.
A file needs the extra ``video``.
"""

import argparse
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.lib import format as npy
from torch import Tensor

from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam._files import atomic_write
from captum_3dcam.datasets import ACTIONS, SyntheticActionVideos
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import open_video
from captum_3dcam.sliding import MapChunk, SlidingWindowCAM, Window, shot_boundaries
from timing import give_back_freed_memory, most_resident_mib
from trained_networks.action_net import LAYERS, load_action_net

WINDOW = 16  # frames, as the network was trained
CHUNK = 64
FPS = 25.0
HELD_OUT_SEED = 10**6  # as in train_actions.py
ROW = 60.0  # seconds in a row of the picture, unless that makes more than
MAX_ROWS = 10


class Segment(NamedTuple):
    """A stretch of the video in which something is known to happen; frames, end exclusive."""

    start: int
    end: int
    label: int


class Source(NamedTuple):
    """A video that can be gone through more than once."""

    name: str
    fps: float
    chunks: Callable[[], Iterator[Tensor]]
    """(3, t, H, W) in [0, 1], from the start."""
    truth: list[Segment]
    """Empty where it is not known."""


class Timeline(NamedTuple):
    """What is left of the video for the picture."""

    profile: list[float]
    windows: list[Window]
    boundaries: list[int]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    cam = LayerwiseWhatWhereCAM(load_action_net(), options.layers)
    sliding = SlidingWindowCAM(cam, WINDOW, options.stride, batch_size=options.batch_size)
    if options.video:
        source = from_file(options.video, options.size)
    else:
        source = synthetic(round(options.minutes * 60 * FPS), options.size)
    before = most_resident_mib()

    frames = Counted(source.chunks())
    boundaries = shot_boundaries(frames)
    target = options.target
    if target == "whole":
        target = sliding.whole_target(source.chunks(), boundaries=boundaries)
        print(f"Over all windows, {ACTIONS[target]!r} is the most probable.")
    timeline = Timeline([], [], boundaries)
    maps = watched(sliding.stream(source.chunks(), target, boundaries=boundaries), timeline)
    report: dict[str, Any] = {"video": source.name, "fps": source.fps, "frames": frames.total}
    path = options.output / "long_video.npz"
    write_map(path, pooled(maps, options.pool), frames.total, partial(described, report, timeline))
    draw(timeline, source, options.output / "long_video.png")

    if source.truth:
        report["truth"] = against_truth(timeline, source.truth, frames.total)
    report["peak_memory_mib"] = most_resident_mib() - before
    print_report(report)
    print(f"Wrote {path} and {path.with_suffix('.png')}.")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("video", nargs="?", type=Path, help="any video file; by default a synthetic one is made")
    add("--minutes", type=positive(float), default=1.0, help="of the synthetic one (default: 1)")
    add("--size", type=positive(int), default=112, help="height of the frames (default: 112)")
    add("--target", type=target, help=f"whole, or one of {', '.join(ACTIONS)}, or its number; by "
        "default each window's own")  # fmt: skip
    add("--layers", nargs="+", default=LAYERS, help="by name (default: all depths)")
    add("--stride", type=positive(int), default=WINDOW // 2, help="frames from window to window "
        "(default: 8; 16 takes half the time, and shows the windows' edges)")  # fmt: skip
    add("--batch-size", type=positive(int), default=4, help="windows at once (default: 4)")
    add("--pool", type=positive(int), default=4, help="the map is saved smaller by this (4)")
    add("--threads", type=positive(int), help="of torch's (default: its own choice)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


def positive(kind: type) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a positive number; got {text!r}")
        return value

    return number


def target(text: str) -> int | str:
    names = {"whole": "whole", **{name: i for i, name in enumerate(ACTIONS)}}
    names |= {str(i): i for i in range(len(ACTIONS))}
    if text not in names:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}; got {text!r}")
    return names[text]


# ----------------------------------------------------------------------------------- videos


def from_file(path: Path, height: int) -> Source:
    video = open_video(path, (height, None))

    def chunks() -> Iterator[Tensor]:
        for chunk in video.chunks(CHUNK):
            yield torch.from_numpy(chunk).movedim(-1, 0) / 255

    return Source(path.name, video.fps, chunks, [])


def synthetic(frames: int, size: int) -> Source:
    """Scenes of four actions each, one after the other, made anew at each pass."""
    return Source(
        f"synthetic, seed {HELD_OUT_SEED}",
        FPS,
        lambda: (
            chunk for _, scene in scenes(frames, size) for chunk in scene.video.split(CHUNK, dim=1)
        ),
        [
            Segment(start + a, min(start + b, frames), label)
            for start, scene in scenes(frames, 16)
            for (a, b), label in zip(scene.segments.tolist(), scene.labels.tolist(), strict=True)
            if start + a < frames
        ],
    )


def scenes(frames: int, size: int) -> Iterator[tuple[int, Any]]:
    """The first frame and the :class:`ActionVideo` of each; the last is cut to the length."""
    videos = SyntheticActionVideos(10**6, HELD_OUT_SEED, size=size)
    start = 0
    for number in count():
        scene = videos[number]
        yield start, scene._replace(video=scene.video[:, : frames - start])
        start += scene.video.shape[1]
        if start >= frames:
            return


class Counted:
    """Chunks, and how many frames they had."""

    def __init__(self, chunks: Iterable[Tensor]) -> None:
        self.chunks, self.total = chunks, 0

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks:
            self.total += chunk.shape[1]
            yield chunk


# ------------------------------------------------------------------------------ what is kept


def watched(pieces: Iterable[MapChunk], timeline: Timeline) -> Iterator[Tensor]:
    """The maps (t, H, W) of the pieces, while the timeline is written."""
    for piece in pieces:
        timeline.profile.extend(temporal_profile(piece.attribution)[0].tolist())
        timeline.windows.extend(piece.windows)
        yield piece.attribution[0, 0]


def pooled(maps: Iterable[Tensor], by: int) -> Iterator[Tensor]:
    """The mean over squares of each frame; at the right and the lower edge, of what is there."""
    return (F.avg_pool2d(each[None], by, ceil_mode=True)[0] for each in maps)


def write_map(
    path: Path, maps: Iterator[Tensor], length: int, describe: Callable[[], dict[str, Any]]
) -> None:
    """As ``captum_3dcam.io.save_map``, but piece by piece; whole or not at all."""
    with (
        atomic_write(path, (".npz",)) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        with archive.open("map.npy", "w", force_zip64=True) as file:
            for number, part in enumerate(maps):
                if number == 0:
                    shape = (length, *part.shape[1:])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    npy.write_array_header_1_0(file, header)
                file.write(part.numpy().astype("<f4").tobytes())
        with archive.open("metadata.npy", "w") as file:
            npy.write_array(file, np.array(json.dumps(describe())), allow_pickle=False)


def described(report: dict[str, Any], timeline: Timeline) -> dict[str, Any]:
    windows = [
        {
            "start": window.start[0],
            "stop": window.stop[0],
            "class": ACTIONS[window.target],
            "probability": round(window.factor, 4),
        }
        for window in timeline.windows
    ]
    return {**report, "boundaries": timeline.boundaries, "windows": windows}


def against_truth(timeline: Timeline, truth: list[Segment], frames: int) -> dict[str, float]:
    """How often the windows within an action are right; how much of the map lies in the actions."""
    acting = torch.zeros(frames, dtype=torch.bool)
    right = []
    for segment in truth:
        acting[segment.start : segment.end] = True
        right += [
            window.predicted == segment.label
            for window in timeline.windows
            # Up to two frames of a pause are of no matter.
            if segment.start - 2 <= window.start[0] and window.stop[0] <= segment.end + 2
        ]
    profile = torch.tensor(timeline.profile)
    return {
        "windows_within_an_action": len(right),
        "right": sum(right) / len(right) if right else float("nan"),
        "share_of_map_in_actions": float(profile[acting].sum() / profile.sum()),
        "share_of_time_in_actions": float(acting.float().mean()),
    }


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['frames']} frames, {report['frames'] / report['fps'] / 60:.2f} minutes")
    if "truth" in report:
        truth = report["truth"]
        print(
            f"{truth['windows_within_an_action']} windows lie within an action; of "
            f"{truth['right']:.0%} the network names it.\n"
            f"The actions take {truth['share_of_time_in_actions']:.0%} of the time, and "
            f"{truth['share_of_map_in_actions']:.0%} of the map."
        )
    print(f"Peak memory above the model's own: {report['peak_memory_mib']:.0f} MiB")


# ---------------------------------------------------------------------------------- picture


def draw(timeline: Timeline, source: Source, path: Path) -> None:
    """Rows of a minute: the map's temporal profile, and under it what each window said."""
    fps, frames = source.fps, len(timeline.profile)
    span = max(min(ROW, frames / fps), frames / fps / MAX_ROWS)
    rows = -(-frames // round(span * fps))
    figure = Figure(figsize=(14, 3 * rows + 0.8), layout="constrained")
    axes = figure.subplots(2 * rows, 1, squeeze=False, height_ratios=[1, 2] * rows)[:, 0]
    norm = Normalize(0, 1)
    for row in range(rows):
        shown = range(row * round(span * fps), min((row + 1) * round(span * fps), frames))
        draw_profile(axes[2 * row], timeline, shown, fps)
        draw_windows(axes[2 * row + 1], timeline, shown, fps, norm)
        draw_truth(axes[2 * row + 1], source.truth, shown, fps)
        for ax in axes[2 * row : 2 * row + 2]:
            ax.set_xlim(shown.start / fps, shown.start / fps + span)
            for boundary in timeline.boundaries:
                if boundary in shown:
                    ax.axvline(boundary / fps, color="black", linestyle="--", linewidth=1)
    axes[-1].set_xlabel("time (s)")
    colours = ScalarMappable(norm, "viridis_r")
    thin = {"fraction": 0.02, "aspect": 25 * rows, "pad": 0.01}
    figure.colorbar(colours, ax=list(axes), label="probability of the window's class", **thin)
    known = "; outlined: what happens" if source.truth else ""
    dashed = "; dashed: a scene begins" if timeline.boundaries else ""
    figure.suptitle(f"{source.name}: when the network looked, and what it said{known}{dashed}")
    figure.savefig(path, dpi=90)


def draw_profile(ax: Axes, timeline: Timeline, shown: range, fps: float) -> None:
    time, profile = np.array(shown) / fps, np.array(timeline.profile)[shown.start : shown.stop]
    ax.fill_between(time, profile, color="tab:blue", alpha=0.4)
    ax.plot(time, profile, color="tab:blue", linewidth=1)
    ax.set_ylim(0, 1.05 * max(timeline.profile) or 1)
    ax.set_ylabel("mean of map")
    ax.tick_params(labelbottom=False)


def draw_windows(ax: Axes, timeline: Timeline, shown: range, fps: float, norm: Normalize) -> None:
    colours = ScalarMappable(norm, "viridis_r")
    for window in timeline.windows:
        start, stop = window.start[0], window.stop[0]
        if start < shown.stop and stop > shown.start:
            colour = colours.to_rgba(window.factor)
            extent = [(start / fps, (stop - start) / fps)]
            ax.broken_barh(extent, (window.target - 0.4, 0.8), facecolors=[colour])
    ax.set_yticks(range(len(ACTIONS)), ACTIONS, fontsize="small")
    ax.set_ylim(len(ACTIONS) - 0.5, -0.5)
    ax.grid(axis="y", alpha=0.3)


def draw_truth(ax: Axes, truth: list[Segment], shown: range, fps: float) -> None:
    for start, end, label in truth:
        if start < shown.stop and end > shown.start:
            extent = [(start / fps, (end - start) / fps)]
            style = {"facecolors": "none", "edgecolors": "black", "linewidth": 1.5}
            ax.broken_barh(extent, (label - 0.45, 0.9), **style)


if __name__ == "__main__":
    give_back_freed_memory()
    main()
