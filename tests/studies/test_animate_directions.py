"""The animation of the README: what it shows, and that the script makes the committed file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

pytest.importorskip("skvideo")
pytest.importorskip("av")

import animate_directions

COMMITTED = Path(__file__).parents[2] / "docs" / "images" / "directions.gif"


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = tmp_path_factory.mktemp("gif") / "directions.gif"
    return read(animate_directions.main(["--output", str(path)]))


def read(path):
    with Image.open(path) as image:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])


def test_every_second_frame_of_the_clip_is_shown(frames):
    assert len(frames) == 8


def test_each_map_lights_up_in_the_half_that_goes_its_way(frames):
    """Grey has equal channels; the colours of a map have red above blue."""
    red, _, blue = frames.astype(int).transpose(3, 0, 1, 2)
    lit = (red - blue > 60).sum(axis=0)
    height, width = lit.shape
    top, middle = height // 9, height // 2  # below the titles
    left, right = lit[:, width // 3 : 2 * width // 3], lit[:, 2 * width // 3 :]
    assert left[middle:].sum() > 50 > 20 * left[top:middle].sum()
    assert right[top:middle].sum() > 50 > 20 * right[middle:].sum()


def test_the_committed_animation_is_that_of_the_script(frames):
    committed = read(COMMITTED)
    assert committed.shape == frames.shape
    assert np.abs(committed.astype(int) - frames).mean() < 2
