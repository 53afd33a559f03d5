"""Which way does it go? Real footage, and a network that tells left from right.

A pedestrian walks to the right. Below, the same frames are mirrored: there he walks to the left,
and nothing else differs. The map of "right" should lie on the legs above, that of "left" on those
below; chance is half. The network was trained on cars, in other shots of the video.

    python examples/explain_directions.py
    python examples/explain_directions.py --start 30    # a cyclist
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from captum_3dcam import Explanation, explain
from captum_3dcam.models import Preprocessing
from captum_3dcam.visualization import Style, visualize_attr_panels
from trained_networks import bikes
from trained_networks.direction_net import CLASSES, CLIP_LENGTH, SIZE, load_direction_net

FIRST_FRAME = 190  # of the pedestrian
SHOWN = (3, 6, 9)  # frames of the clip


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    explanation = explain_clip(options.start)
    for rank, name in enumerate(CLASSES):
        above, below = explanation.heat_map(rank).chunk(2, dim=1)
        half = above if name == "right" else below
        share = half.sum() / (above.sum() + below.sum())
        caption = explanation.captions[0][rank]
        print(f"{caption}: {share:.0%} of the map is in the half that goes {name} (chance 50%)")
    draw(explanation).savefig(options.output / "directions.png", dpi=100)
    report = explanation.save(options.output / "directions")["report"]
    print(f"Wrote directions.png to {options.output}. Open {report} in a browser.")


def explain_clip(start: int) -> Explanation:
    video = bikes.above_mirror_image(bikes.read_clip(start, start + CLIP_LENGTH))
    prepare = Preprocessing(size=2 * SIZE)  # the clip is twice as high as the footage
    return explain(
        load_direction_net(), video, list(CLASSES), class_names=CLASSES, preprocessing=prepare
    )


def draw(explanation: Explanation) -> Figure:
    """The frames, and below them the map of each class, on a colour scale of its own."""
    frames = np.stack(list(explanation.originals[0]))
    figure = Figure(figsize=(8, 7.8), layout="constrained")
    first, *others = figure.subplots(1 + len(CLASSES), len(SHOWN))
    maps, times = explanation.attribution[0], {"frames": SHOWN, "fps": explanation.times}
    plain = Style(method="original_image", plt_fig_axis=(figure, list(first)))
    visualize_attr_panels(maps[:1], frames, ["video"], style=plain, **times)
    below = (figure, [ax for row in others for ax in row])
    overlaid = Style(scale="row", show_colorbar=False, plt_fig_axis=below)
    names = [f"why {name}?" for name in CLASSES]
    visualize_attr_panels(maps, frames, names, style=overlaid, **times)
    for ax in figure.axes[: 3 * len(SHOWN)]:
        ax.axhline(frames.shape[1] / 2, color="white", linewidth=3)
    for height, text in ((0.94, "right \N{RIGHTWARDS ARROW}"), (0.44, "\N{LEFTWARDS ARROW} left")):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        first[0].text(0.02, height, text, transform=first[0].transAxes, va="top", bbox=box)
    return figure


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--start", type=int, default=FIRST_FRAME, help="first of 16 frames (default: 190)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
