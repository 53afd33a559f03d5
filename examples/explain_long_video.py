"""When, and where, in a long video? Explained as a stream, so that it is never in memory whole.

The recogniser of synthetic actions sees 16 frames at a time. One pass over the video finds its
scene changes, which no window crosses; a second one explains the windows and blends their maps.
The network has no class for "nothing happens": in pauses it predicts the most similar action.

    python examples/explain_long_video.py --scenes 5     # a synthetic video with known actions
    python examples/explain_long_video.py my.mp4 --layers layer1 layer2
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from captum_3dcam import LayerwiseWhatWhereCAM, SlidingWindowCAM
from captum_3dcam.datasets import ACTIONS
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import open_video, save_map
from captum_3dcam.sliding import shot_boundaries
from trained_networks.action_net import LAYERS, load_action_net
from trained_networks.action_video import LongActionVideo


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    given = options.video and open_video(options.video, size=(112, None))
    video = given or LongActionVideo(options.scenes)
    cam = LayerwiseWhatWhereCAM(load_action_net(), options.layers)
    sliding = SlidingWindowCAM(cam, window=16, batch_size=4)
    boundaries = shot_boundaries(chunks(video))
    maps, profile, windows = [], [], []
    for part in sliding.stream(chunks(video), boundaries=boundaries):
        maps.append(F.avg_pool2d(part.attribution[0, 0], 4))  # a sixteenth of the map is kept
        profile += temporal_profile(part.attribution)[0].tolist()
        windows += part.windows
    save_map(torch.cat(maps), options.output / "long_video.npz", {"fps": video.fps})
    figure = draw(profile, windows, boundaries, [] if given else video.segments, video.fps)
    figure.savefig(options.output / "long_video.png", dpi=90)
    print(f"Wrote long_video.npz, the map, and long_video.png, its timeline, to {options.output}.")


def chunks(video):
    """The video from its start, 64 frames at a time: (3, 64, H, W) in [0, 1]."""
    return (torch.from_numpy(frames).movedim(-1, 0) / 255 for frames in video.chunks(64))


def draw(profile, windows, boundaries, segments, fps) -> Figure:
    """The temporal profile, and each window's class: the more opaque, the more probable."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    above.set_ylabel("mean of map")
    above.fill_between([frame / fps for frame in range(len(profile))], profile, alpha=0.5)
    for window in windows:
        start, stop = window.start[0] / fps, window.stop[0] / fps
        below.barh(window.target, stop - start, left=start, color="C0", alpha=min(window.factor, 1))
    for start, end, label in segments:  # the ground truth, outlined
        below.barh(label, (end - start) / fps, left=start / fps, fc="none", ec="black", lw=1.5)
    below.vlines([b / fps for b in boundaries], -0.5, len(ACTIONS) - 0.5, "black", "dashed")
    below.set_yticks(range(len(ACTIONS)), ACTIONS)
    below.set(xlabel="time (s)", xlim=(0, len(profile) / fps))
    return figure


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("video", nargs="?", type=Path, help="any video file (default: a synthetic video)")
    add("--scenes", type=int, default=5, help="of the synthetic one, 7 s each (default: 5)")
    add("--layers", nargs="+", default=LAYERS, help="names (default: all five depths)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
