"""Figures and pyplot: shown only if asked for, and none left behind by an error."""

import subprocess
import sys
from io import BytesIO

import matplotlib.pyplot as plt
import pytest
import torch
from figures import CLIP, HEAT, IMAGE, MOVING
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from captum_3dcam.localization import Segment, Tube
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


def test_use_pyplot_shows_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    figure, _ = visualize_image_attr(HEAT, IMAGE, use_pyplot=True)
    assert shown == [[figure.number]]
    plt.close(figure)
    figure, _ = visualize_video_attr(MOVING, CLIP, style=Style(use_pyplot=True))
    assert shown[1:] == [[figure.number]]
    plt.close(figure)


RESULTS = {
    "image": lambda **style: visualize_image_attr(HEAT, IMAGE, **style),
    "video": lambda **style: visualize_video_attr(MOVING, CLIP, frames=1, style=Style(**style)),
    "panels": lambda **style: visualize_attr_panels([HEAT], IMAGE, ["a"], style=Style(**style)),
    "profile": lambda **style: visualize_temporal_profile(MOVING, style=Style(**style)),
    "planes": lambda **style: visualize_volume_attr(MOVING, VOLUME, style=Style(**style)),
    "montage": lambda **style: visualize_volume_montage(
        MOVING, VOLUME, slices=1, style=Style(**style)
    ),
    "projections": lambda **style: visualize_volume_projections(
        MOVING, VOLUME, style=Style(**style)
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_notebook_shows_a_result_as_its_figure(name, monkeypatch):
    result = RESULTS[name](fig_size=(6, 4))
    figure, axes = result
    assert isinstance(figure, Figure)
    assert axes is result[1]
    with Image.open(BytesIO(result._repr_png_())) as image:
        assert image.size == (600, 400)
    assert figure._repr_png_() == result._repr_png_()
    monkeypatch.setattr(plt, "show", lambda: None)
    result = RESULTS[name](use_pyplot=True)
    assert result._repr_png_() is None  # it has been shown
    plt.close(result.figure)


def test_an_error_leaves_no_figure_in_pyplot():
    tubes = Overlays(tubes=[Tube(0, torch.zeros(2, 4), 1.0)])
    with pytest.raises(ValueError, match="no frames"):
        visualize_image_attr(HEAT, IMAGE, overlays=tubes, use_pyplot=True)
    segments = Overlays(segments=[Segment(7, 9, 1.0)])
    with pytest.raises(ValueError, match="segment"):
        visualize_video_attr(MOVING, CLIP, overlays=segments, style=Style(use_pyplot=True))


def test_importing_visualization_imports_no_pyplot():
    # Captum has imported pyplot by then: without it, an import of ours would bring it again.
    code = (
        "import sys, matplotlib, captum.attr, captum_3dcam; del sys.modules['matplotlib.pyplot']; "
        "del matplotlib.pyplot; import captum_3dcam.visualization; "
        "print([m for m in ('matplotlib.pyplot', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TITLES = [r"$\frac{$", "cost $5 to $9", "_lion_", r"50\% \$", ""]
VOLUME = torch.rand(5, 4, 6)
TUBE = Tube(0, torch.tensor([[0.0, 0, 2, 2]]), 1.0)


def drawn(animation):
    animation._draw_was_started = True  # else Matplotlib warns when it is deleted
    return animation


FIGURES = {
    "image": lambda text: visualize_image_attr(HEAT, IMAGE, title=text),
    "profile": lambda text: visualize_temporal_profile(MOVING, title=text),
    "video": lambda text: visualize_video_attr(MOVING, CLIP, title=text),
    "legend": lambda text: visualize_video_attr(
        MOVING, CLIP, overlays=Overlays(tubes={text: TUBE})
    ),
    "animation": lambda text: [drawn(animate_video_attr(MOVING, CLIP, title=text))._fig],
    "rows": lambda text: visualize_attr_panels([MOVING] * 2, CLIP, [text, "lion"], title=text),
    "images": lambda text: visualize_attr_panels([HEAT] * 2, IMAGE, [text, "lion"]),
    "planes": lambda text: visualize_volume_attr(MOVING, VOLUME, title=text),
    "projections": lambda text: visualize_volume_projections(MOVING, VOLUME, title=text),
    "montage": lambda text: visualize_volume_montage(
        MOVING, Scan(VOLUME, orientation="SPL"), title=text
    ),
}


@pytest.mark.parametrize("usetex", [False, True])
@pytest.mark.parametrize("name", FIGURES)
def test_text_is_drawn_as_it_was_given(name, usetex):
    with plt.rc_context({"text.usetex": usetex}):
        for text in TITLES:
            figure = FIGURES[name](text)[0]
            artists = figure.findobj(lambda artist: isinstance(artist, Text))
            matching = [artist for artist in artists if artist.get_text().startswith(text)]
            assert matching
            for artist in matching if text else ():
                assert not artist.get_parse_math()
                assert not artist.get_usetex()
            if not usetex:
                figure.draw_without_rendering()  # here Matplotlib would read a formula


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("text", [3, b"lion", ["lion"]])
def test_what_is_no_text_raises(name, text):
    text = tuple(text) if name == "legend" and isinstance(text, list) else text
    with pytest.raises(TypeError, match="=.*: expected text. Write it in quotes, or use str()"):
        FIGURES[name](text)


@pytest.mark.parametrize("junk", [None, "heat_map", {}])
def test_settings_are_a_style_and_overlays(junk):
    with pytest.raises(TypeError, match=r"style=.*: expected Style\(\.\.\.\)\."):
        visualize_video_attr(MOVING, CLIP, style=junk)
    for function, image in ((visualize_video_attr, CLIP), (visualize_image_attr, IMAGE)):
        with pytest.raises(TypeError, match=r"overlays=.*: expected Overlays\(\.\.\.\)\."):
            function(MOVING if image is CLIP else HEAT, image, overlays=junk)
