"""Contents that do not fit together are refused, with what was expected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from viewer_contents import image_content, video_content, volume_content

from captum_3dcam.explanation.viewer import (
    ImageContent,
    Regions,
    VideoContent,
    ViewerClass,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.localization import Boxes

FRAMES = np.zeros((4, 6, 8, 3), np.uint8)
BOXES = Boxes(torch.zeros(1, 4), torch.zeros(1))
TIMES = FrameTimes.from_rate(4, 25)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3)), r"Expected pixels as a uint8 array \(H, W, 3\); got float64"),
        (np.zeros((4, 4), np.uint8), r"uint8 array \(H, W, 3\); got shape \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
        ([[1]], "got list"),
    ],
)
def test_an_image_is_bytes(pixels, message):
    with pytest.raises(ValueError, match=message):
        ImageContent(pixels)


def test_a_video_has_the_time_of_each_frame_and_not_too_many():
    with pytest.raises(ValueError, match="4 frames and the times of 3. Pass times.take"):
        VideoContent(FRAMES, FrameTimes.from_rate(3, 25))
    with pytest.raises(TypeError, match="times=25: expected FrameTimes"):
        VideoContent(FRAMES, 25)
    many = np.zeros((301, 1, 1, 3), np.uint8)
    with pytest.raises(ValueError, match="at most 300 frames; got 301. Pass every second"):
        VideoContent(many, FrameTimes.from_rate(301, 25))


def test_a_scan_is_a_volume():
    with pytest.raises(TypeError, match=r"expected a Volume or a Scan; got shape \(2, 2, 2\)"):
        VolumeContent(np.zeros((2, 2, 2)))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_map_is_finite_and_not_negative(value):
    with pytest.raises(ValueError, match="'m' must be finite and 0 or more. Pass its positive"):
        ViewerMap("m", "layer", np.array([[[value]]]))


def test_a_map_has_a_name_and_a_known_group():
    with pytest.raises(ValueError, match="group='other' is not known. Choose one of 'method'"):
        ViewerMap("m", "other", np.ones((1, 2, 2)))
    with pytest.raises(TypeError, match="name=3: expected text"):
        ViewerMap(3, "layer", np.ones((1, 2, 2)))
    with pytest.raises(TypeError, match="name=None: expected text"):
        ViewerClass(None, 1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (image_content, (3, 5, 5), r"\(2, H, W\)"),
        (image_content, (2, 8, 5, 5), r"\(2, H, W\)"),
        (video_content, (2, 7, 5, 5), r"\(2, 8, H, W\)"),
        (video_content, (2, 5, 5), r"\(2, 8, H, W\)"),
        (volume_content, (2, 5, 5), r"\(2, D, H, W\)"),
        (volume_content, (2, 5, 0, 5), r"\(2, D, H, W\)"),
    ],
)
def test_maps_fit_the_original_and_the_classes(make, shape, expected):
    maps = [ViewerMap("m", "layer", np.ones(shape))]
    with pytest.raises(ValueError, match=f"'m' must be {expected}, for 2 classes; got shape"):
        replace(make(), maps=maps)


def test_a_content_has_a_class_and_a_map():
    with pytest.raises(ValueError, match="a class and a map at least; got 2 classes and 0 maps"):
        replace(image_content(), maps=[])
    with pytest.raises(TypeError, match="title=None"):
        replace(image_content(), title=None)


def test_regions_fit_the_original_and_the_classes():
    with pytest.raises(ValueError, match="each of 2 classes, or none; got 1"):
        replace(image_content(), regions=[Regions()])
    with pytest.raises(ValueError, match="boxes for 1 images, and 8 to show"):
        replace(video_content(), regions=[Regions(boxes=[BOXES])] * 2)
    with pytest.raises(ValueError, match=r"Expected boxes \(B, 6\); got shape \(1, 4\)"):
        replace(volume_content(), regions=[Regions(boxes=[BOXES])] * 2)
    with pytest.raises(TypeError, match=r"an image is one, \[boxes\]"):
        Regions(boxes=BOXES)
    with pytest.raises(TypeError, match="an item of tubes=.*expected Tube"):
        Regions(tubes=[BOXES])
