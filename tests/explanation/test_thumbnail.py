"""The small image of a result."""

import numpy as np
import pytest
from PIL import Image

from captum_3dcam.explanation._thumbnail import write_thumbnail
from captum_3dcam.explanation.viewer import (
    ImageContent,
    VideoContent,
    ViewerClass,
    ViewerContent,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.visualization import Scan

LEVELS = np.array([20, 60, 200, 100], np.uint8)  # of four frames or slices
HEIGHT, WIDTH = 120, 240


def drawn(original, heat, tmp_path):
    content = ViewerContent(
        "golf", original, [ViewerClass("golf", 1.0, 0.5)], [ViewerMap("map", "method", heat[None])]
    )
    write_thumbnail(content, tmp_path / "small.jpg")
    return np.asarray(Image.open(tmp_path / "small.jpg")).astype(int)


def peak_at(index):
    """A map over four frames: all of it in a corner of one."""
    heat = np.zeros((4, 8, 8), np.float32)
    heat[index, :2, :2] = 1
    return heat


@pytest.mark.parametrize("index", range(4))
def test_of_a_video_it_is_the_frame_where_the_map_is_highest(index, tmp_path):
    frames = np.broadcast_to(LEVELS[:, None, None, None], (4, HEIGHT, WIDTH, 3)).copy()
    original = VideoContent(frames, FrameTimes.from_rate(4, 25.0))
    pixels = drawn(original, peak_at(index), tmp_path)
    assert np.abs(pixels[60:100, 100:200] - LEVELS[index]).max() <= 3  # grey, where the map is zero
    corner = pixels[:8, :8].mean(axis=(0, 1))
    assert np.ptp(corner) > 50  # a colour, where it is highest


@pytest.mark.parametrize("index", range(4))
def test_of_a_scan_it_is_the_slice_in_the_window(index, tmp_path):
    values = np.broadcast_to(LEVELS[:, None, None].astype(np.float32), (4, HEIGHT, WIDTH))
    pixels = drawn(VolumeContent(Scan(values), (0.0, 100.0)), peak_at(index), tmp_path)
    expected = 255 * min(LEVELS[index] / 100, 1)
    assert np.abs(pixels[60:100, 100:200] - expected).max() <= 3


def test_a_large_image_is_reduced(tmp_path):
    pixels = np.full((600, 900, 3), 128, np.uint8)
    image = drawn(ImageContent(pixels), np.ones((8, 8), np.float32), tmp_path)
    assert image.shape[1] in (360, 361)
    assert image.shape[0] < 300
