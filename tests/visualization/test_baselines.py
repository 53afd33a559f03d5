"""Drawn figures against the images in ``baselines``.

They are small and without text, so that fonts make no difference. The root of the mean squared
difference of bytes may be up to TOLERANCE, because releases of matplotlib (these are of 3.11)
smooth differently. A crosshair or a segment at another position, a tube a frame late, a slice too
often made 5.7 or more. To draw the baselines again, and then look at them:

    python tests/visualization/test_baselines.py
"""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.animation import AbstractMovieWriter
from matplotlib.legend import Legend
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.visualization import (
    Overlays,
    Scan,
    Style,
    animate_video_attr,
    visualize_attr_panels,
    visualize_image_attr,
    visualize_temporal_profile,
    visualize_video_attr,
    visualize_volume_attr,
    visualize_volume_montage,
    visualize_volume_projections,
)

BASELINES = Path(__file__).parent / "baselines"
TOLERANCE = 3.0
FRAMES, HEIGHT, WIDTH = 6, 24, 32


def blob(centre, radius, shape):
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    squares = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
    return torch.as_tensor(np.exp(-squares / (2 * radius**2)), dtype=torch.float32)


# A grey ramp, darker to the left and to the top; a spot that goes to the right and fades.
RAMP = np.add.outer(np.linspace(0.1, 0.5, HEIGHT), np.linspace(0.1, 0.5, WIDTH))
IMAGE = np.stack([RAMP, RAMP[::-1], RAMP], axis=-1)
VIDEO = np.stack([np.roll(IMAGE, t, axis=1) for t in range(FRAMES)])
SPOT = blob((8, 22), 4, (HEIGHT, WIDTH))
CLIP = torch.stack([(1 - t / 8) * blob((8, 6 + 4 * t), 4, (HEIGHT, WIDTH)) for t in range(FRAMES)])
SIGNED = SPOT - 0.6 * blob((16, 8), 4, (HEIGHT, WIDTH))
BOXES = torch.tensor([[2.0 + 4 * t, 4, 10 + 4 * t, 12] for t in range(FRAMES)])
TUBES = [Tube(0, BOXES, 0.9), Tube(2, BOXES[:3] - 2, 0.4)]
SCAN = Scan(
    -100 * blob((5, 12, 8), 5, (10, 24, 16)).numpy(), spacing=(3.0, 1.0, 1.5), orientation="SPL"
)
LESION = blob((3, 6, 11), 2, (10, 24, 16))


class _LastFrame(AbstractMovieWriter):
    """Leaves the figure as the animation's last frame has it."""

    def setup(self, fig, outfile, dpi=None):
        self.fig = fig

    def grab_frame(self, **_):
        pass

    def finish(self):
        pass


def last_frame(**given):
    writer = _LastFrame()
    animate_video_attr(CLIP, VIDEO, **given).save("unused.gif", writer=writer)
    return writer.fig


FIGURES = {
    "image": lambda: visualize_image_attr(
        SPOT,
        IMAGE,
        overlays=Overlays(Boxes(torch.tensor([[18.0, 4, 27, 13]]), torch.tensor([0.9]))),
        show_colorbar=True,
        fig_size=(3, 2),
    )[0],
    "image_signed": lambda: visualize_image_attr(
        SIGNED, IMAGE, show_colorbar=True, fig_size=(3, 2)
    )[0],
    "image_masked": lambda: visualize_image_attr(SPOT, IMAGE, "masked_image", fig_size=(3, 2))[0],
    "strip": lambda: visualize_video_attr(
        CLIP,
        VIDEO,
        frames=4,
        overlays=Overlays(tubes=TUBES, segments=[Segment(1, 4, 1.0)]),
        style=Style(fig_size=(6, 2.4)),
    )[0],
    "grid": lambda: visualize_video_attr(
        CLIP, VIDEO, frames=6, style=Style(columns=3, scale="each", fig_size=(4, 3.6))
    )[0],
    "raw": lambda: visualize_video_attr(
        CLIP, VIDEO, frames=3, style=Style(raw=True, base="color", fig_size=(4, 3.6))
    )[0],
    "animation": lambda: last_frame(overlays=Overlays(tubes=TUBES), style=Style(fig_size=(3, 3.4))),
    "profile": lambda: visualize_temporal_profile(
        CLIP, [Segment(0, 2, 1.0), Segment(4, 5, 1.0)], style=Style(fig_size=(4, 1.5))
    )[0],
    "classes": lambda: visualize_attr_panels(
        [CLIP, CLIP / 2, CLIP.flip(2)],
        VIDEO,
        ["a", "b", "counterfactual"],
        frames=4,
        style=Style(fig_size=(5, 3)),
    )[0],
    "layers_image": lambda: visualize_attr_panels(
        [SPOT, SPOT[::4, ::4], SPOT * 2],
        IMAGE,
        ["a", "b", "fused"],
        style=Style(scale="row", fig_size=(5, 2)),
    )[0],
    "volume": lambda: visualize_volume_attr(LESION, SCAN, style=Style(fig_size=(5, 2.4)))[0],
    "montage": lambda: visualize_volume_montage(
        LESION, SCAN, slices=5, style=Style(columns=3, fig_size=(4, 4))
    )[0],
    "projections": lambda: visualize_volume_projections(
        LESION[::2, ::2, ::2], SCAN, style=Style(fig_size=(5, 2.4))
    )[0],
}


def save(name, folder):
    figure = FIGURES[name]()
    for artist in (*figure.findobj(Text), *figure.findobj(Legend)):
        artist.set_visible(False)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=60, metadata={"Software": None})
    return path


@pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11),
    reason="older releases of Matplotlib lay figures out differently",
)
@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_matches_its_baseline(name, tmp_path):
    drawn = save(name, tmp_path)
    difference = compare_images(str(BASELINES / drawn.name), str(drawn), TOLERANCE)
    assert difference is None, difference


def test_each_baseline_has_a_figure():
    assert {path.stem for path in BASELINES.glob("*")} == set(FIGURES)


if __name__ == "__main__":
    BASELINES.mkdir(exist_ok=True)
    for name in FIGURES:
        print(save(name, BASELINES))
