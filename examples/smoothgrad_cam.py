"""SmoothGrad over this package's maps: Captum's NoiseTunnel takes any attribution of it.

NoiseTunnel adds Gaussian noise to the clip and averages the maps (Smilkov et al., arXiv
1706.03825). Printed is how much of the map lies on the actor, plain and smoothed, and how much the
noise changes the probability: noise that changes the answer explains another one.

    python examples/smoothgrad_cam.py
    python examples/smoothgrad_cam.py --noise 0.1 --samples 32 --method LayerwiseHiResCAM
    python examples/smoothgrad_cam.py --type vargrad --layers stem layer1 layer2
"""

import argparse
from pathlib import Path

import torch
from captum.attr import NoiseTunnel

import captum_3dcam
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from captum_3dcam.metrics import energy_inside
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    network = load_action_net()
    sample = SyntheticActions(options.clip + 1, seed=HELD_OUT_SEED)[options.clip]
    clip, target = sample.clip[None], int(sample.labels[0])
    cam = getattr(captum_3dcam, options.method)(network, options.layers)
    plain = cam.attribute(clip, target=target)
    smoothed = smooth(cam, clip, target, options)

    with torch.no_grad():
        noisy = clip + options.noise * torch.randn(options.samples, *clip.shape[1:])
        before, after = (network(x).softmax(dim=1)[:, target].mean() for x in (clip, noisy))
    print(f"Probability of {ACTIONS[target]!r}: {before:.2f}, under noise {after:.2f}")
    names = []
    for name, attribution in (("plain", plain), (options.type, smoothed)):
        names.append(
            f"{name}, {float(energy_inside(attribution[0], sample.masks)):.0%} on the actor"
        )
        print(names[-1])
    print(f"chance, {float(sample.masks.float().mean()):.0%} on the actor")
    by_row, video = Style(scale="row"), sample.clip.movedim(0, -1)  # averages are lower
    figure, _ = visualize_attr_panels([plain, smoothed], video, names, frames=4, style=by_row)
    figure.savefig(options.output / "smoothgrad.png", dpi=90)
    print(f"Wrote smoothgrad.png to {options.output}.")


def smooth(cam, clip, target, options) -> torch.Tensor:
    """Of noisy copies. Without a target, each copy's own highest class would be explained."""
    torch.manual_seed(0)
    return NoiseTunnel(cam).attribute(
        clip,
        target=target,
        nt_type=options.type,
        nt_samples=options.samples,
        nt_samples_batch_size=4,  # copies in memory at once
        stdevs=options.noise,
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--clip", type=int, default=0, help="number of a held-out clip (default: 0)")
    add("--method", default="GlobalLocalCAM3D", help="any attribution class of captum_3dcam")
    add("--layers", nargs="+", default=LAYERS, help="names (default: all five depths)")
    add("--type", default="smoothgrad", choices=("smoothgrad", "smoothgrad_sq", "vargrad"))
    add("--samples", type=int, default=16, help="noisy copies (default: 16)")
    add("--noise", type=float, default=0.05, help="standard deviation; a clip's range is 0 to 1")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
