"""What is written in a figure: that it is legible, overlaps nothing and lies inside the figure."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from captum_3dcam.io import Volume
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

SHORT = "run (0.93)"
LONG = "a person playing an unusually long brass instrument in front of a large audience (0.93)"
CODE = "playing_an_unusually_long_brass_instrument_in_front_of_a_large_audience_of_people"
README_WIDTH = 800  # pixels, to which a page scales a figure


def written(figure):
    """The texts that are drawn, and the boxes in pixels that they cover."""
    shown = []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
            margin = 1e-6 * (high - low)
            shown += [label for at, label in ticks if low - margin <= at <= high + margin]
            shown += [axis.get_label(), axis.get_offset_text()]
        titles = [ax.title, *ax.texts]
        legend = ax.get_legend()
        shown += titles + (legend.get_texts() if legend else [])
    shown += [text for text in figure.texts if isinstance(text, Text)]
    if figure._suptitle:
        shown.append(figure._suptitle)
    shown = list({id(text): text for text in shown}.values())
    visible = [text for text in shown if text.get_visible() and text.get_text().strip()]
    return [(text.get_text().strip(), extent(text)) for text in visible]


def extent(text):
    """The box of a text in pixels, without the empty lines at its end."""
    box = text.get_window_extent()
    lines = text.get_text().split("\n")
    empty = len(lines) - len(text.get_text().rstrip().split("\n"))
    return Bbox([[box.x0, box.y0 + box.height * empty / len(lines)], [box.x1, box.y1]])


def overlap(box, other):
    """Pixels that two boxes share in width and height, at least."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return min(width, height)


def check_layout(figure):
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    texts = written(figure)
    for text, box in texts:
        assert min(box.x0, box.y0) > -2, text
        assert box.x1 < figure.bbox.width + 2, text
        assert box.y1 < figure.bbox.height + 2, text
    for (text, box), (other, other_box) in itertools.combinations(texts, 2):
        assert overlap(box, other_box) < 1.5, (text, other)
    for ax in figure.axes:
        inside = {text.get_text().strip() for text in ax.texts}
        for text, box in texts:
            if text not in inside:
                assert overlap(box, ax.get_window_extent()) < 1.5, (text, ax)
    for legend in figure.findobj(Legend):
        for ax in figure.axes:
            assert overlap(legend.get_window_extent(), ax.get_window_extent()) < 3


FRAMES = 12
CLIP = torch.rand(FRAMES, 9, 16, generator=torch.Generator().manual_seed(0))
VIDEO = np.random.default_rng(0).random((FRAMES, 36, 64, 3))
BOX = torch.tensor([[2.0, 2, 6, 6]]).repeat(FRAMES, 1)
TUBES = {
    "ground truth": Tube(0, BOX, 1.0),
    f"{LONG}, {LONG}": Tube(2, BOX[:5], 0.4),
    CODE: Tube(1, BOX[:9], 1),
}
OVERLAYS = Overlays(tubes=TUBES, segments=[Segment(2, 5, 1.0)])
HEAT = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(0))


def volume(spacing=(3.0, 1.0, 1.5), shape=(10, 24, 16), offset=(-120.5, 33.25, 1007.0), turn=0.0):
    affine = np.diag([*spacing, 1.0])
    cos, sin = np.cos(turn), np.sin(turn)
    affine[:2, :2] = np.array([[cos, -sin], [sin, cos]]) @ affine[:2, :2]
    affine[:3, 3] = offset
    return Volume(np.random.default_rng(0).random(shape), affine)


VOLUMES = {
    "thick": volume(),
    "thin": volume((0.7, 0.7, 5.0), (40, 40, 4)),
    "long": volume((1.0, 1.0, 1.0), (8, 8, 90)),
    "oblique": volume(turn=0.5),
    # Its axes begin and end at round numbers.
    "round": volume((12.5, 12.5, 12.5), (8, 8, 8), offset=(6.25, 6.25, 6.25)),
    "voxels": Scan(np.random.default_rng(0).random((10, 24, 16))),
}


def panels(maps, original):
    return lambda name, style: visualize_attr_panels(
        maps, original, [SHORT, name, CODE], title=name, style=style, frames=[0, 2, 3, 4, 9]
    )


THREE = [CLIP, CLIP / 30, CLIP.flip(1)]
FIGURES = {
    "image": lambda name, style: visualize_image_attr(
        CLIP[0],
        VIDEO[0],
        title=name,
        show_colorbar=style.show_colorbar,
        raw=style.raw,
        overlays=Overlays(Boxes(BOX[:1], torch.ones(1))),
    ),
    "video": lambda name, style: visualize_video_attr(
        CLIP, VIDEO, fps=8, title=name, overlays=OVERLAYS, style=style
    ),
    "animation": lambda name, style: animated(
        animate_video_attr(CLIP, VIDEO, fps=8, title=name, overlays=OVERLAYS, style=style)
    ),
    "profile": lambda name, style: visualize_temporal_profile(CLIP, title=name, style=style),
    "panels": panels(THREE, VIDEO),
    "panels of an image": lambda name, style: visualize_attr_panels(
        [*(heat[0] for heat in THREE), CLIP[1] * 0, CLIP[2]],
        VIDEO[0],
        [SHORT, name, CODE, SHORT, name],
        title=name,
        style=style,
    ),
}


def animated(animation):
    animation._draw_was_started = True  # else Matplotlib warns when it is deleted
    return [animation._fig]


@pytest.mark.parametrize(
    ("name", "style"),
    [
        (SHORT, Style()),
        (LONG, Style()),
        (LONG, Style(raw=True, show_colorbar=False)),
        (CODE, Style(scale="each")),
    ],
)
@pytest.mark.parametrize("kind", FIGURES)
def test_texts_of_any_length_overlap_nothing(kind, name, style):
    check_layout(FIGURES[kind](name, style)[0])


@pytest.mark.parametrize("kind", VOLUMES)
@pytest.mark.parametrize(
    "draw",
    [
        lambda scan, **given: visualize_volume_attr(HEAT[:, :, :3], scan, **given),
        lambda scan, **given: visualize_volume_projections(HEAT[:, :, :3], scan, **given),
        lambda scan, **given: visualize_volume_montage(HEAT[:, :, :3], scan, axis=1, **given),
        lambda scan, **given: visualize_volume_montage(HEAT[:, :, :3], scan, axis=2, **given),
        lambda scan, **given: visualize_attr_panels(
            [HEAT[:, :, :3], HEAT[:, :, :3] / 20], scan, [LONG, "b"], frames=6, **given
        ),
    ],
    ids=["planes", "projections", "coronal", "axial", "panels"],
)
def test_the_millimetres_of_volumes_overlap_nothing(draw, kind):
    check_layout(draw(VOLUMES[kind], title=LONG, style=Style(raw=kind in ("thick", "oblique")))[0])


@pytest.mark.parametrize("kind", ["video", "panels", "panels of an image"])
def test_frames_are_large_enough_to_see(kind):
    """When the figure is as wide as a page, a frame is almost a quarter of it."""
    figure, axes = FIGURES[kind](SHORT, Style())[:2]
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    share = axes[0].get_window_extent().width / figure.bbox.width
    assert share * README_WIDTH > 175


def test_own_bars_stand_below_each_other_though_the_last_line_is_shorter():
    figure, axes = visualize_attr_panels(THREE, VIDEO, ["a", "b", "c"], frames=[0, 2, 3, 4, 9])
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    bars = figure.axes[-6:]
    labels = {bar.get_ylabel().replace("\n", " ") for bar in bars}
    assert labels == {"attribution (this map)"}
    lefts = [bar.get_window_extent().x0 for bar in bars]
    assert max(lefts) - min(lefts) < 1
    assert min(lefts) > max(ax.get_window_extent().x1 for ax in axes)


def test_legends_are_between_the_frames_and_the_profile():
    figure, axes = visualize_video_attr(CLIP, VIDEO, overlays=OVERLAYS)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    legend = axes[-1].get_legend()
    names = ["".join(text.get_text().split()) for text in legend.get_texts()]
    assert names == ["".join(name.split()) for name in (*TUBES, "segment")]
    box = legend.get_window_extent()
    assert box.y0 >= axes[-1].get_window_extent().y1 - 3
    assert box.y1 < min(ax.get_window_extent().y0 for ax in axes[:-1])
