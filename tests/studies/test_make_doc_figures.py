"""The figures of the docs: each has a command, and is what the command makes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import _how_to_figures
import make_doc_figures
import smoothgrad_cam

pytestmark = pytest.mark.usefixtures("one_thread")
DOCS = Path(__file__).parents[2] / "docs"


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


@pytest.mark.parametrize("name", ["reading", "fusions"])
def test_the_committed_figure_is_that_of_the_script(name, tmp_path):
    make_doc_figures.main([name, "--output", str(tmp_path)])
    made, committed = pixels(tmp_path / f"{name}.png"), pixels(DOCS / "images" / f"{name}.png")
    assert made.shape == committed.shape
    assert np.abs(made - committed).mean() < 4  # of 255: fonts and rounding differ


def test_every_figure_of_the_docs_has_a_script():
    others = {"benchmark_growth"}
    names = {path.stem for path in (DOCS / "images").glob("*.png")}
    screenshots = {name for name in names if name.startswith(("viewer_", "gallery_"))}
    assert names - screenshots - others == set(make_doc_figures.NAMES)


def test_an_unknown_name_is_an_error(capsys):
    with pytest.raises(SystemExit):
        make_doc_figures.main(["fusion"])
    assert "no figure is named 'fusion'; there are video, methods" in capsys.readouterr().err


def test_a_figure_is_made_smaller_and_keeps_its_few_bright_colours(tmp_path):
    noise = np.random.default_rng(0).integers(90, 160, (800, 1200, 1), dtype=np.uint8)
    frame = np.repeat(noise, 3, axis=2)
    frame[100:110, 100:110] = (250, 180, 20)
    Image.fromarray(frame).save(tmp_path / "large.png")
    make_doc_figures.reduce(tmp_path / "large.png", tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size < make_doc_figures.MAX_BYTES
    reduced = pixels(tmp_path / "small.png")
    assert 450 < reduced.shape[1] < 900
    assert np.abs(reduced - (250, 180, 20)).sum(axis=2).min() < 30


def test_what_the_gallery_says_of_smoothgrad_is_what_its_command_prints(tmp_path, capsys):
    smoothgrad_cam.main(["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    text = (DOCS / "gallery.md").read_text()
    plain, smooth = re.search(r"plain map with (\d+) % .* smoothed one with (\d+) %", text).groups()
    assert f"plain, {plain}% on the actor" in printed
    assert f"smoothgrad, {smooth}% on the actor" in printed


def test_less_is_kept_the_deeper_the_first_layer():
    axes = _how_to_figures.draw_memory().axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert len(widths) == 5
    assert widths == sorted(widths, reverse=True)


def test_the_share_above_is_that_of_the_upper_half():
    heat = torch.zeros(2, 4, 3)
    heat[:, 0], heat[:, 3] = 3, 1
    assert _how_to_figures._share_above(heat) == 0.75
