"""The animation of the README: what it shows, and that the script makes the committed file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import animate_actions

COMMITTED = Path(__file__).parents[2] / "docs" / "images" / "actions.gif"


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = animate_actions.main(["--output", str(tmp_path_factory.mktemp("gif") / "actions.gif")])
    return read(path)


def read(path):
    with Image.open(path) as image:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])


def test_there_is_a_frame_of_the_animation_for_each_of_the_clip(frames):
    assert len(frames) == 16


def test_the_maps_light_up_over_the_grey_clip(frames):
    """Grey has equal channels; the colours of a map, red above blue, are on the right."""
    width = frames.shape[2] // 3
    red, _, blue = (frames[:, 30:, width:, c].astype(int) for c in range(3))
    lit = (red - blue > 60).sum(axis=(1, 2))
    assert lit.max() > 100
    assert lit.argmax() in range(4, 12)  # the middle of the clip


def test_the_committed_animation_is_that_of_the_script(frames):
    committed = read(COMMITTED)
    assert committed.shape == frames.shape
    assert np.abs(committed.astype(int) - frames).mean() < 3
