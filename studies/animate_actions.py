"""The animation of the README: a clip with two actors, and the map of each actor's class over it.

    python studies/animate_actions.py    # writes docs/images/actions.gif

The clip is the one that ``examples/explain_actions.py`` explains, held out from the training of the
network. The map is ``LayerwiseWhatWhereCAM`` over all five depths.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from captum_3dcam import LayerwiseWhatWhereCAM
from captum_3dcam.datasets import ACTIONS, ActionClip, SyntheticActions
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

ROOT = Path(__file__).parent.parent
CLIP = 2
FPS = 8
COLOURS = ("deepskyblue", "orange")  # of the actors
ACTORS = 2
DPI = 64


def main(arguments: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "actions.gif")
    path: Path = parser.parse_args(arguments).output

    sample = SyntheticActions(CLIP + 1, seed=HELD_OUT_SEED, actors=ACTORS)[CLIP]
    cam = LayerwiseWhatWhereCAM(load_action_net(), LAYERS)
    clip, labels = sample.clip[None], sample.labels.tolist()
    maps = {ACTIONS[label]: cam.attribute(clip, target=label)[0, 0] for label in labels}
    frames = [draw(sample, maps, t) for t in range(sample.clip.shape[1])]
    save_gif(frames, path)
    print(f"Wrote {path}, {path.stat().st_size / 1000:.0f} kB.")
    return path


def draw(sample: ActionClip, maps: dict[str, Tensor], t: int) -> Image.Image:
    """One frame: the clip with the box of each actor, then the map of each actor's class."""
    figure = Figure(figsize=(2.6 * (1 + len(maps)), 3.0), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    first, *others = figure.subplots(1, 1 + len(maps))
    grey = colormaps["gray"](sample.clip[:, t].mean(dim=0).numpy())[..., :3]
    first.imshow(sample.clip[:, t].movedim(0, -1).numpy())
    first.set_title("clip", fontsize=13)
    for (x0, y0, x1, y1), colour in zip(sample.boxes[:, t].tolist(), COLOURS, strict=True):
        corner = (x0 - 0.5, y0 - 0.5)
        first.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, color=colour, linewidth=2))
    for axes, (name, attribution), colour in zip(others, maps.items(), COLOURS, strict=True):
        heat = (attribution[t] / attribution.max()).numpy()
        alpha = np.sqrt(heat)[..., None]
        colours = colormaps["inferno"](heat)[..., :3]
        axes.imshow((1 - alpha) * grey + alpha * colours)
        axes.set_title(f"why {name!r}?", fontsize=13, color=colour, weight="bold")
    for axes in (first, *others):
        axes.set_axis_off()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def save_gif(frames: list[Image.Image], path: Path) -> None:
    """With one palette for all frames, half of it for the clip and half for the maps."""
    strip = np.concatenate([np.asarray(frame) for frame in frames])
    clip_width = strip.shape[1] // (1 + ACTORS)
    halves = [
        Image.fromarray(part).quantize(128, method=Image.Quantize.MAXCOVERAGE)
        for part in (strip[:, :clip_width].copy(), strip[:, clip_width:].copy())
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for half in halves for value in half.getpalette()[: 3 * 128]])
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=1000 // FPS, loop=0)


if __name__ == "__main__":
    main()
