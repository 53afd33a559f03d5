"""Where a preprocessing function's input lies in the frame."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_3dcam import explain
from captum_3dcam.explanation._cropping import _find_spans, check_grid, find_placement
from captum_3dcam.models import Preprocessing


def scene(*size):
    """Bytes (3, *size): smooth, with some noise, as footage is."""
    generator = torch.Generator().manual_seed(0)
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    coarse = torch.rand(1, 3, *[max(2, side // 10) for side in size], generator=generator)
    smooth = F.interpolate(coarse, size, mode=mode)[0]
    return (230 * smooth + 25 * torch.rand(3, *size, generator=generator)).byte()


FRAME = scene(60, 120)
VALUES = {"mean": 0.4, "std": 0.2}


def resized(x, size):
    frames = x.float().flatten(0, -3)[None]
    small = F.interpolate(frames, size, mode="bilinear", antialias=True)[0] / 255
    return small.unflatten(0, x.shape[:-2])


def centre(x, size):
    top, left = ((n - size) // 2 for n in x.shape[-2:])
    return x[..., top : top + size, left : left + size]


def z_score(x):
    return (x - x.mean()) / x.std()


def content(x):
    """The bounding box of what is not black."""
    rows, columns = (x.amax(dim=(0, axis)).nonzero() for axis in (-1, -2))
    return x[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / 255


VALUE_FUNCTIONS = {
    "linear": lambda x: (x - 0.4) / 0.2,
    "gamma": lambda x: x**0.4,
    "inverted": lambda x: 1 - x,
    "z-score": z_score,
    "range": lambda x: (x - x.min()) / (x.max() - x.min()),
    "grey": lambda x: x.mean(dim=0, keepdim=True),
    "two values": lambda x: (x > 0.5).float(),
}
values = pytest.mark.parametrize("function", VALUE_FUNCTIONS.values(), ids=VALUE_FUNCTIONS)


@values
def test_a_function_that_crops_is_placed_to_a_pixel(function):
    found = _find_spans(lambda x: function(centre(resized(x, (32, 64)), 28)), FRAME)
    # 28 of 32 rows of 60 / 32 pixels from the second on, 28 of 64 columns from the 18th on.
    expected = [(3.75, 56.25), (33.75, 86.25)]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1)


def test_a_crop_is_placed_as_that_of_its_values():
    maps = torch.rand(2, 28, 28)
    expected = Preprocessing(**VALUES, size=32, crop=28).maps_to_frame(maps, (60, 120))
    place = find_placement(lambda x: centre(resized(x, (32, 64)), 28) - 0.4, FRAME)
    assert torch.equal(place(maps), expected)


@values
def test_a_function_that_keeps_the_frame_moves_nothing(function):
    maps = torch.rand(24, 24)
    place = find_placement(lambda x: function(resized(x, (24, 24))), FRAME)
    assert torch.equal(place(maps), maps)


def test_a_frame_whose_parts_are_black_and_white():
    frame = torch.zeros(3, 60, 120, dtype=torch.uint8)
    frame[:, :, 60:] = 255
    expected = [(0, 60), (10, 110)]
    assert np.array(_find_spans(lambda x: x[..., 10:110] / 255, frame)) == pytest.approx(
        np.array(expected),
        abs=0.5,  # a strip over both changes half of itself
    )


def test_no_function_moves_nothing():
    maps = torch.rand(24, 24)
    assert find_placement(None, FRAME)(maps) is maps


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)])
def test_a_function_that_mirrors_is_mirrored_back(axes):
    maps = torch.rand(30, 60)
    place = find_placement(lambda x: z_score(resized(x, (30, 60))).flip(axes), FRAME)
    assert torch.equal(place(maps), maps.flip(axes))


def test_a_function_that_pads_loses_the_pad():
    maps = torch.rand(40, 60)
    place = find_placement(lambda x: F.pad(resized(x, (30, 60)), (0, 0, 4, 6)), FRAME)
    assert torch.equal(place(maps), maps[4:34])


def test_a_crop_that_depends_on_the_content_is_warned_of():
    with pytest.warns(UserWarning, match="what it keeps depends on the content"):
        find_placement(content, F.pad(FRAME, (20, 10, 5, 15)))


def random_flip(x):
    return x.flip(-1) / 255 if torch.rand(()) < 0.5 else x / 255


UNSEEN = {
    "turned": lambda x: resized(x, (30, 60)).transpose(-1, -2),
    "turned a square": lambda x: torch.rot90(resized(x, (32, 32)), 1, (-2, -1)),
    "rolled": lambda x: z_score(resized(x, (32, 32))).roll(5, -1),
    "reflected": lambda x: F.pad(resized(x, (32, 32)), (6, 6, 6, 6), mode="reflect"),
    "random": random_flip,
    "small": lambda x: centre(x, 8) / 255,
    "raises": lambda x: x / 255 if torch.equal(x, FRAME) else x.missing,
}


@pytest.mark.parametrize("function", UNSEEN.values(), ids=UNSEEN)
def test_what_is_not_to_be_seen_is_warned_of(function):
    torch.manual_seed(0)
    maps = torch.rand(3, 32, 32)
    with pytest.warns(UserWarning, match=r"cannot be seen: .* at the wrong position. Pass Prep"):
        place = find_placement(function, FRAME)
    assert torch.equal(place(maps), maps)


@pytest.mark.parametrize("frames", [2, 3, 4, 16])
def test_a_function_that_reorders_frames_is_warned_of(frames):
    torch.manual_seed(0)
    clip = scene(frames, 40, 60)
    maps = torch.rand(1, frames, 20, 30)
    place = find_placement(lambda x: resized(x, (20, 30)), clip)
    assert torch.equal(place(maps), maps)
    with pytest.warns(UserWarning, match="reorders frames"):
        find_placement(lambda x: resized(x, (20, 30)).flip(1), clip)


VOLUME = scene(9, 12, 20)[:1].float() / 255


@pytest.mark.parametrize(
    "axes, named", [((-1,), "W"), ((-2,), "H"), ((-3,), "D"), ((-3, -1), "D, W")]
)
def test_a_function_that_moves_voxels_is_warned_of(axes, named):
    with pytest.warns(UserWarning, match=f"moves content along {named}, or is random"):
        check_grid(lambda x: x.flip(axes), VOLUME)


@values
def test_a_function_of_the_values_of_voxels_is_not(function):
    check_grid(function, VOLUME)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_any_crop_is_found(cut):
    left, right, top, bottom = cut
    box = (..., slice(top, 60 - bottom), slice(left, 120 - right))
    ones = torch.ones(60 - top - bottom, 120 - left - right)
    placed = find_placement(lambda x: z_score(x[box].float()), FRAME)(ones)
    expected = torch.zeros(60, 120)
    expected[box] = 1
    placed = F.interpolate(placed[None, None], (60, 120), mode="nearest")[0, 0]
    # Crops of less than a pixel or 2 % of a side are taken for the whole frame.
    assert (placed != expected).any(dim=0).sum() <= 6 or (placed != expected).float().mean() < 0.06


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
