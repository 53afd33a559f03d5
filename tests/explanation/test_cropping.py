"""Where a preprocessing function's input lies in the frame."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_3dcam import explain
from captum_3dcam.explanation._cropping import find_placement
from captum_3dcam.models import Preprocessing

FRAME = torch.zeros(3, 60, 120, dtype=torch.uint8)
VALUES = {"mean": 0.4, "std": 0.2}


def resized(x, size):
    return F.interpolate(x[None].float(), size, mode="bilinear", antialias=True)[0] / 255


def centre(x, size):
    top, left = ((n - size) // 2 for n in x.shape[-2:])
    return x[..., top : top + size, left : left + size]


FUNCTIONS = {
    "crop": lambda x: (centre(resized(x, (32, 64)), 28) - 0.4) / 0.2,
    "whole": lambda x: (resized(x, (24, 24)) - 0.4) / 0.2,
    "mirrored": lambda x: resized(x, (30, 60)).flip(-1),
}


def test_a_function_that_crops_is_placed_as_its_values_are():
    maps = torch.rand(2, 28, 28)
    expected = Preprocessing(**VALUES, size=32, crop=28).maps_to_frame(maps, (60, 120))
    assert torch.equal(find_placement(FUNCTIONS["crop"], FRAME)(maps), expected)


def test_a_function_that_keeps_the_frame_moves_nothing():
    maps = torch.rand(24, 24)
    assert torch.equal(find_placement(FUNCTIONS["whole"], FRAME)(maps), maps)
    assert find_placement(None, FRAME)(maps) is maps


def test_a_function_that_mirrors_is_mirrored_back():
    maps = torch.rand(30, 60)
    assert torch.equal(find_placement(FUNCTIONS["mirrored"], FRAME)(maps), maps.flip(-1))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: resized(x, (30, 60)).transpose(-1, -2),
        lambda x: (resized(x, (32, 32)) - resized(x, (32, 32)).mean()) / resized(x, (32, 32)).std(),
    ],
    ids=["turned", "z-scores"],
)
def test_what_is_not_to_be_seen_is_warned_of(function):
    maps = torch.rand(3, 32, 32)
    with pytest.warns(UserWarning, match=r"cannot be seen what it crops: the map is stretched"):
        place = find_placement(function, FRAME)
    assert torch.equal(place(maps), maps)


def test_the_box_of_a_bright_square_is_where_it_is():
    model = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(2))
    with torch.no_grad():
        model[1].weight.fill_(1 / 3)
        model[1].bias.fill_(-0.5)
    model = nn.Sequential(model, nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[20:32, 70:82] = 255
    crop = explain(model, pixels, 0, layers=["0.2"], preprocessing=lambda x: centre(x, 50) / 255)
    (x0, y0, x1, y1) = crop.boxes().boxes[0].tolist()
    assert (x0, y0, x1, y1) == pytest.approx((70, 20, 82, 32), abs=2)
