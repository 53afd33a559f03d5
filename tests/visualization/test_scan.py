"""Scan: the orientation and position of its slices, as values and as drawn."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figures import pixels, values
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam.visualization import Scan, Style, visualize_volume_attr
from captum_3dcam.visualization.scan import SliceView, apply_window

SHAPE = (6, 10, 8)
PEAK = (4, 2, 5)
VOLUME = np.arange(480, dtype=np.float32).reshape(SHAPE) - 100
HEAT = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
HEAT[(0, 0, *PEAK)] = 3.0
# One letter of each pair, in every order of axes.
ORIENTATIONS = ["".join(o) for letters in product("LR", "AP", "SI") for o in permutations(letters)]


def on_screen(ax, scan, voxel, plane):
    """Where a voxel's centre is drawn, as a fraction of the axes from the lower left."""
    point = [scan.position(a, voxel[a]) for a in (plane.horizontal, plane.vertical)]
    return ax.transAxes.inverted().transform(ax.transData.transform(point))


@given(
    size=st.tuples(*[st.integers(1, 4)] * 3),
    times=st.tuples(*[st.integers(1, 4)] * 3),
    axis=st.integers(0, 2),
    data=st.data(),
)
def test_a_slice_equals_that_of_the_interpolated_map(size, times, axis, data):
    shape = tuple(m * n for m, n in zip(size, times, strict=True))
    index = data.draw(st.integers(0, shape[axis] - 1))
    heat = torch.rand(size, generator=torch.Generator().manual_seed(sum(size)))
    length = [m if a != axis else shape[a] for a, m in enumerate(size)]
    fine = F.interpolate(heat[None, None], length, mode="trilinear")[0, 0]
    scan = Scan(np.zeros(shape))
    image = SliceView(scan, scan.plane(axis), index).cut(heat.numpy())
    np.testing.assert_allclose(image, fine.select(axis, index), atol=1e-6)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_drawn_in_radiological_convention(codes):
    """Patient's right on the left, anterior up on axial slices, superior up on the others."""
    scan = Scan(VOLUME, (3, 2, 1), codes)
    _, axes = visualize_volume_attr(HEAT, scan)
    middle = [n // 2 for n in SHAPE]

    def towards(side):
        """The last voxel of the axis that grows to the patient's side, in the others' middle."""
        axis = codes.index(side)
        return [n - 1 if a == axis else middle[a] for a, n in enumerate(SHAPE)]

    sides = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    assert [plane.name for plane in scan.planes] == list(sides)
    for ax, plane in zip(axes, scan.planes, strict=True):
        ax.apply_aspect()
        for i, j in product(range(SHAPE[plane.vertical]), range(SHAPE[plane.horizontal])):
            voxel = list(PEAK)
            voxel[plane.vertical], voxel[plane.horizontal] = i, j
            assert values(ax.images[1])[i, j] == HEAT[(0, 0, *voxel)]
        left, right, top, bottom = sides[plane.name]
        letters = {text.get_text(): text.get_position() for text in ax.texts}
        assert set(letters) == {left, right, top, bottom}
        assert letters[left][0] < 0.1 < 0.9 < letters[right][0]
        assert letters[bottom][1] < 0.1 < 0.9 < letters[top][1]
        assert ax.get_title().startswith(plane.name)
        for side, coordinate, high in (
            (left, 0, False),
            (right, 0, True),
            (top, 1, True),
            (bottom, 1, False),
        ):
            if side in codes:  # else an axis grows to the opposite one
                position = on_screen(ax, scan, towards(side), plane)[coordinate]
                assert (position > 0.5) == high, (side, position)


@pytest.mark.parametrize("codes", ["SPL", "RAS", "LPS", "ASR", "PIL", "IRP"])
def test_the_pixels_follow_the_letters(codes):
    """A bright voxel at the patient's superior, anterior left corner, in each of the slices."""
    volume = np.zeros(SHAPE)
    corner = [0 if letter in "PRI" else n - 1 for letter, n in zip(codes, SHAPE, strict=True)]
    volume[tuple(corner)] = 1.0
    style = Style("heat_map", cmap="gray", show_colorbar=False)
    figure, axes = visualize_volume_attr(volume, Scan(volume, orientation=codes), style=style)
    for ax in axes:
        for artist in (*ax.get_lines(), *ax.texts):
            artist.set_visible(False)
    drawn = pixels(figure).mean(axis=2)
    expected = [("right", "top"), ("right", "top"), ("left", "top")]
    for ax, (horizontal, vertical) in zip(axes, expected, strict=True):
        box = ax.get_window_extent()
        height = len(drawn)
        part = drawn[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)]
        quarter = {
            (v, h): part[
                slice(0, len(part) // 4) if v == "top" else slice(-(len(part) // 4), None),
                slice(0, part.shape[1] // 4) if h == "left" else slice(-(part.shape[1] // 4), None),
            ].mean()
            for v in ("top", "bottom")
            for h in ("left", "right")
        }
        assert max(quarter, key=quarter.get) == (vertical, horizontal)


@pytest.mark.parametrize("codes", ["SP", "SSL", "XYZ", ("S", "P", "A"), "SPLR"])
def test_invalid_orientations_raise(codes):
    with pytest.raises(ValueError, match="must have a letter for each of D, H, W: L or R"):
        Scan(VOLUME, orientation=codes)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, float("nan"), 1)])
def test_invalid_spacings_raise(spacing):
    with pytest.raises(ValueError, match="must be three positive lengths in mm"):
        Scan(VOLUME, spacing)


@pytest.mark.parametrize("data", [VOLUME[..., None] + np.zeros(3), VOLUME[:0]])
def test_invalid_data_raise(data):
    with pytest.raises(ValueError, match=r"A volume must be \(D, H, W\) real numbers"):
        Scan(data)


def test_data_that_are_no_numbers_raise():
    with pytest.raises(
        TypeError, match="data must hold real numbers, as a tensor or array; got <U"
    ):
        Scan(VOLUME.astype(str))


def test_data_may_have_leading_axes_and_lie_on_tensors():
    assert Scan(torch.as_tensor(VOLUME)[None, None].bfloat16()).shape == SHAPE


def test_nan_is_black_and_infinities_are_the_ends_of_the_window():
    image = np.array([[np.nan, -np.inf, np.inf, 5.0]])
    assert apply_window(image, (0, 10)).tolist() == [[0, 0, 1, 0.5]]


def test_a_mask_is_a_volume():
    inside = np.asarray(VOLUME) > np.median(VOLUME)
    _, axes = visualize_volume_attr(np.ones((1, 1, 1)), Scan(inside))
    assert axes


@pytest.mark.parametrize("junk", [3, [1, 2, 3], ("S", 3, "L")])
def test_orientations_are_letters(junk):
    with pytest.raises(ValueError, match="must have a letter for each of D, H, W: L or R"):
        Scan(VOLUME, orientation=junk)


def test_spacings_are_numbers():
    with pytest.raises(TypeError, match="spacing=5.0: expected a list of numbers"):
        Scan(VOLUME, spacing=5.0)
