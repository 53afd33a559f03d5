"""The animation of the README: real footage above its mirror image, and why "left", why "right".

    python studies/animate_directions.py    # writes docs/images/directions.gif

It is the clip that ``examples/explain_directions.py`` explains, held out from the training of the
network, with the map of each class on a colour scale of its own.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_3dcam import Explanation, explain
from captum_3dcam.io import write_video
from captum_3dcam.models import Preprocessing
from captum_3dcam.visualization import visualize_image_attr
from trained_networks import bikes
from trained_networks.direction_net import CLASSES, CLIP_LENGTH, SIZE, load_direction_net

ROOT = Path(__file__).parent.parent
FIRST_FRAME = 190  # of a pedestrian who walks to the right
STEP, FPS = 2, 6  # every second frame, at half of the video's speed
INCHES, DPI = (8.4, 2.5), 70


def main(arguments: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "directions.gif")
    path: Path = parser.parse_args(arguments).output

    clip = bikes.read_clip(FIRST_FRAME, FIRST_FRAME + CLIP_LENGTH)
    explanation = explain(
        load_direction_net(),
        bikes.above_mirror_image(clip),
        list(CLASSES),
        class_names=CLASSES,
        preprocessing=Preprocessing(size=2 * SIZE),
    )
    (video,) = explanation.originals
    images = (draw(explanation, frame, t) for t, frame in enumerate(video) if t % STEP == 0)
    write_video(images, path, FPS)
    print(f"Wrote {path}, {path.stat().st_size / 1000:.0f} kB.")
    return path


def draw(explanation: Explanation, frame: NDArray[np.uint8], t: int) -> NDArray[np.uint8]:
    """One frame: the video, then the map of each class over it."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    first, *others = figure.subplots(1, 1 + len(explanation.class_names[0]))
    first.imshow(frame)
    first.set_title("video, and its mirror image", fontsize="medium")
    first.set_axis_off()
    for rank, (ax, name) in enumerate(zip(others, explanation.class_names[0], strict=True)):
        heat_map = explanation.heat_map(rank)
        highest = float(heat_map.max())
        visualize_image_attr(heat_map[t], frame, plt_fig_axis=(figure, ax), vmax=highest)
        ax.set_title(f'why "{name}"?', fontsize="medium")
    for ax in figure.axes:
        ax.axhline(frame.shape[0] / 2, color="white", linewidth=2)
    canvas.draw()
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


if __name__ == "__main__":
    main()
