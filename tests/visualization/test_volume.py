"""One map over its volume: which slices are drawn, in which orientation and at which millimetre."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figures import grid_positions, pixels, values
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from captum_3dcam.io import Volume
from captum_3dcam.visualization import (
    Scan,
    Style,
    visualize_volume_attr,
    visualize_volume_montage,
    visualize_volume_projections,
)
from captum_3dcam.visualization._planes import Geometry, apply_window, interpolate_slice

SHAPE = (6, 10, 8)
PEAK = (4, 2, 5)
VOLUME = np.arange(480, dtype=np.float32).reshape(SHAPE) - 100
HEAT = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
HEAT[(0, 0, *PEAK)] = 3.0
WINDOW = Style(window=(-100, 379))
VIEWS = (visualize_volume_attr, visualize_volume_montage, visualize_volume_projections)
# One letter a pair, in every order of axes.
ORIENTATIONS = ["".join(o) for letters in product("LR", "AP", "SI") for o in permutations(letters)]


def on_screen(ax, geometry, voxel, plane):
    """Where a voxel's centre is drawn, as a fraction of the axes from the lower left."""
    point = [geometry.position(a, voxel[a]) for a in (plane.column, plane.row)]
    return ax.transAxes.inverted().transform(ax.transData.transform(point))


# --------------------------------------------------------------------------------- the slices


def test_three_slices_go_through_the_peak_with_a_crosshair_on_it():
    figure, axes = visualize_volume_attr(HEAT, VOLUME, style=WINDOW)
    d, h, w = PEAK
    heat, volume = HEAT[0, 0].numpy(), (VOLUME + 100) / 479
    slices = [(np.s_[d], w, h), (np.s_[:, h], w, d), (np.s_[:, :, w], h, d)]
    for ax, (index, x, y) in zip(axes, slices, strict=True):
        below, above = ax.images
        np.testing.assert_allclose(values(below), volume[index], rtol=1e-5)
        np.testing.assert_allclose(values(above), heat[index])
        assert above.get_clim() == (0, 3)
        upright, level = ax.get_lines()
        assert set(upright.get_xdata()) == {x}
        assert set(level.get_ydata()) == {y}
        assert ax.get_aspect() == 1
    assert [ax.get_title() for ax in axes] == ["D = 4", "H = 2", "W = 5"]
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in axes]
    assert labels == [
        ("W (voxel)", "H (voxel)"),
        ("W (voxel)", "D (voxel)"),
        ("H (voxel)", "D (voxel)"),
    ]
    assert figure.axes[-1].get_ylim() == (0, 3)


def test_millimetres_set_the_aspect_and_the_axes():
    _, axes = visualize_volume_attr(HEAT, Scan(VOLUME, spacing=(5, 0.5, 2)))
    edges = {"D": (-2.5, 27.5), "H": (-0.25, 4.75), "W": (-1, 15)}
    for ax, (column, row) in zip(axes, ("WH", "WD", "HD"), strict=True):
        left, right, bottom, top = ax.images[1].get_extent()
        assert (left, right) == edges[column]
        assert (top, bottom) == edges[row]
        assert ax.get_xlabel() == f"{column} (mm)"
        assert ax.get_aspect() == 1  # a millimetre is as long either way
    assert [ax.get_title() for ax in axes] == ["D = 4 (20 mm)", "H = 2 (1 mm)", "W = 5 (10 mm)"]
    assert set(axes[0].get_lines()[0].get_xdata()) == {10}


def test_at_chooses_the_voxel():
    _, axes = visualize_volume_attr(HEAT, VOLUME, at=(0, 9, 7))
    assert [ax.get_title() for ax in axes] == ["D = 0", "H = 9", "W = 7"]
    np.testing.assert_allclose(values(axes[1].images[1]), HEAT[0, 0, :, 9])


def test_the_peak_of_a_signed_map_is_its_largest_magnitude_of_what_is_drawn():
    attr = HEAT.clone()
    attr[0, 0, 1, 1, 1] = -5.0
    titles = {
        sign: [
            ax.get_title() for ax in visualize_volume_attr(attr, VOLUME, style=Style(sign=sign))[1]
        ]
        for sign in (None, "positive")
    }
    assert titles[None] == ["D = 1", "H = 1", "W = 1"]
    assert titles["positive"] == ["D = 4", "H = 2", "W = 5"]


def test_a_zero_map_is_cut_through_the_middle_and_drawn_without_a_warning():
    figure, axes = visualize_volume_attr(HEAT * 0, VOLUME * 0)
    assert [ax.get_title() for ax in axes] == ["D = 3", "H = 5", "W = 4"]
    pixels(figure)


def test_a_coarse_map_covers_the_volume_and_its_peak_is_the_middle_of_its_voxel():
    coarse = torch.zeros(2, 2, 4)
    coarse[1, 0, 3] = 1.0
    _, axes = visualize_volume_attr(coarse, np.zeros((8, 10, 16)))
    # Half of 8 is 4 to 7, half of 10 is 0 to 4, the last quarter of 16 is 12 to 15.
    assert [ax.get_title() for ax in axes] == ["D = 6", "H = 2", "W = 14"]
    below, above = axes[0].images
    assert below.get_extent() == above.get_extent() == [-0.5, 15.5, 9.5, -0.5]


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
    plane = Geometry(shape, None, None).plane(axis)
    image = interpolate_slice(heat.numpy(), plane, index, shape[axis])
    np.testing.assert_allclose(image, fine.select(axis, index), atol=1e-6)


# ------------------------------------------------------------------------------- orientations


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_drawn_in_radiological_convention(codes):
    """Patient's right on the left, anterior up on axial slices, superior up on the others."""
    _, axes = visualize_volume_attr(HEAT, Scan(VOLUME, (3, 2, 1), codes))
    geometry = Geometry(SHAPE, (3, 2, 1), codes)
    middle = [n // 2 for n in SHAPE]

    def towards(side):
        """The last voxel of the axis that grows to the patient's side, in the others' middle."""
        axis = codes.index(side)
        return [n - 1 if a == axis else middle[a] for a, n in enumerate(SHAPE)]

    sides = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    assert [plane.name for plane in geometry.planes] == list(sides)
    for ax, plane in zip(axes, geometry.planes, strict=True):
        ax.apply_aspect()
        for i, j in product(range(SHAPE[plane.row]), range(SHAPE[plane.column])):
            voxel = list(PEAK)
            voxel[plane.row], voxel[plane.column] = i, j
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
                position = on_screen(ax, geometry, towards(side), plane)[coordinate]
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


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("codes", ["SP", "SSL", "XYZ", ("S", "P", "A"), "SPLR"])
def test_invalid_orientations_raise(view, codes):
    with pytest.raises(ValueError, match="must have a letter for each of D, H, W: L or R"):
        view(HEAT, Scan(VOLUME, orientation=codes))


# -------------------------------------------------------------------- montages, projections


def test_a_montage_has_its_slices_in_order():
    scan = Scan(VOLUME, spacing=(2, 1, 1))
    figure, axes = visualize_volume_montage(HEAT, scan, slices=5, style=Style(columns=2))
    assert [ax.get_title() for ax in axes] == [f"D = {d} ({2 * d} mm)" for d in (0, 1, 2, 4, 5)]
    for ax, d in zip(axes, (0, 1, 2, 4, 5), strict=True):
        np.testing.assert_allclose(values(ax.images[1]), HEAT[0, 0, d])
        assert ax.images[1].get_clim() == (0, 3)
    assert grid_positions(axes) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, False, True, False, True]
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, False, False, True, True]
    pixels(figure)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_montage_across_any_axis(axis):
    _, axes = visualize_volume_montage(HEAT, VOLUME, axis=axis, slices=[1, 3])
    for ax, index in zip(axes, (1, 3), strict=True):
        np.testing.assert_allclose(values(ax.images[1]), HEAT[0, 0].select(axis, index))


def test_a_montage_with_an_orientation_names_its_plane():
    scan = Scan(VOLUME, orientation="SPL")
    figure, _ = visualize_volume_montage(HEAT, scan, axis=2, slices=1, title="lesion (0.90)")
    assert figure.get_suptitle() == "lesion (0.90), sagittal"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"axis": 3}, "axis=3 is not known. Choose one of 0, 1, 2"),
        ({"slices": 0}, "slices=0 must be a positive number, or slices from 0 to 5"),
        ({"slices": [6]}, "slices from 0 to 5"),
    ],
)
def test_invalid_slices_of_a_montage_raise(given, message):
    with pytest.raises(ValueError, match=message):
        visualize_volume_montage(HEAT, VOLUME, **given)


def test_projections_are_the_maxima_along_each_axis():
    volume = VOLUME.copy()
    volume[0, 0, 0] = np.nan
    _, axes = visualize_volume_projections(HEAT, volume, style=WINDOW)
    d, h, w = SHAPE
    heat = HEAT[0, 0].numpy()
    loops = [
        [[max(heat[i, j, k] for i in range(d)) for k in range(w)] for j in range(h)],
        [[max(heat[i, j, k] for j in range(h)) for k in range(w)] for i in range(d)],
        [[max(heat[i, j, k] for k in range(w)) for j in range(h)] for i in range(d)],
    ]
    for ax, axis, expected in zip(axes, range(3), loops, strict=True):
        np.testing.assert_allclose(values(ax.images[1]), expected)
        below = np.clip((np.nanmax(volume, axis=axis) + 100) / 479, 0, 1)
        np.testing.assert_allclose(values(ax.images[0]), below, rtol=1e-5)
    assert axes[0].get_title() == "maximum over D"


def test_a_projection_of_both_signs_keeps_the_sign_of_the_largest():
    signed = torch.zeros(2, 2, 2)
    signed[0, 0, 0], signed[1, 0, 0], signed[0, 1, 1], signed[1, 1, 1] = -3.0, 2.0, -1.0, 2.0
    _, axes = visualize_volume_projections(signed, style=Style("heat_map"))
    assert values(axes[0].images[0]).tolist() == [[-3, 0], [0, 2]]
    assert axes[0].images[0].get_clim() == (-3, 3)


# ------------------------------------------------------------------------ scales and windows


@pytest.mark.parametrize("view", VIEWS)
def test_scale_each_divides_each_image_by_its_maximum(view):
    _, shared = view(HEAT, VOLUME)
    figure, each = view(HEAT, VOLUME, style=Style(scale="each"))
    for before, after in zip(shared, each, strict=True):
        expected = values(before.images[1]) / values(before.images[1]).max()
        np.testing.assert_allclose(values(after.images[1]), expected, rtol=1e-6)
        assert before.images[1].get_clim() == (0, 3)
        assert after.images[1].get_clim() == (0, 1)
    assert "'s maximum" in figure.axes[-1].get_ylabel()


@pytest.mark.parametrize("view", VIEWS)
def test_the_figure_and_axes_given_are_drawn_on(view):
    figure = Figure()
    given = list(figure.subplots(1, 3))
    options = {"slices": 3} if view is visualize_volume_montage else {}
    style = Style(plt_fig_axis=(figure, given))
    own, axes = view(HEAT, VOLUME, title="mine", style=style, **options)
    assert (own, axes) == (figure, given)
    assert figure.get_suptitle() == "mine"
    with pytest.raises(ValueError, match="needs 3 axes; plt_fig_axis has 2"):
        view(HEAT, VOLUME, style=Style(plt_fig_axis=(figure, given[:2])), **options)


def test_grey_values_span_the_middle_99_percent():
    volume = np.zeros(SHAPE)
    volume.flat[:400] = np.linspace(0, 1, 400)
    volume.flat[-1] = 1e6  # one odd voxel
    _, axes = visualize_volume_attr(HEAT, volume, at=(2, 0, 0))
    low, high = np.percentile(volume, (0.5, 99.5))
    assert high < 2
    np.testing.assert_allclose(
        values(axes[0].images[0]), np.clip((volume[2] - low) / (high - low), 0, 1), rtol=1e-5
    )


def test_a_few_bright_voxels_are_visible():
    volume = np.full(SHAPE, 10.0)
    volume[PEAK] = 10.5
    _, axes = visualize_volume_attr(HEAT, volume)
    grey_values = values(axes[0].images[0])
    assert grey_values[2, 5] == 1
    assert np.count_nonzero(grey_values) == 1


def test_nan_is_black_and_infinities_are_the_ends_of_the_window():
    image = np.array([[np.nan, -np.inf, np.inf, 5.0]])
    assert apply_window(image, (0, 10)).tolist() == [[0, 0, 1, 0.5]]
    assert apply_window(np.full((1, 1), 7), (7, 7)).tolist() == [[0]]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("attr", "volume", "message"),
    [
        (HEAT, VOLUME[:3], r"map \(6, 10, 8\) is finer than the volume \(3, 10, 8\)"),
        (HEAT.expand(2, -1, -1, -1, -1), VOLUME, "Choose one sample"),
        (HEAT, VOLUME[..., None] + np.zeros(3), "one grey volume .* float32|float64"),
        (HEAT, np.full(SHAPE, np.nan), "holds no finite value"),
        (HEAT, Scan(VOLUME, (1, 1)), "must be three positive lengths in mm"),
        (HEAT, Scan(VOLUME, (1, 0, 1)), "must be three positive lengths in mm"),
        (HEAT, Scan(VOLUME, (1, float("nan"), 1)), "must be three positive lengths"),
        (HEAT, None, "pass it after attr, or choose method='heat_map'"),
    ],
)
def test_invalid_maps_and_volumes_raise(view, attr, volume, message):
    with pytest.raises(ValueError, match=message):
        view(attr, volume)


@pytest.mark.parametrize("at", [(0, 0), (6, 0, 0), (0, -1, 0)])
def test_a_voxel_outside_the_volume_raises(at):
    with pytest.raises(ValueError, match=r"must be a voxel \(d, h, w\) of the volume \(6, 10, 8\)"):
        visualize_volume_attr(HEAT, VOLUME, at=at)


@pytest.mark.parametrize("view", VIEWS)
def test_half_precision_with_leading_axes(view):
    figure, _ = view(HEAT.half(), torch.as_tensor(VOLUME)[None, None].bfloat16())
    pixels(figure)


@pytest.mark.parametrize("view", VIEWS)
def test_a_volume_of_io_is_drawn_with_its_spacing_and_orientation(view):
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    expected, shown = (
        [(ax.get_title(), ax.get_xlabel(), [text.get_text() for text in ax.texts]) for ax in axes]
        for _, axes in (
            view(HEAT, Scan(VOLUME, (3, 2, 1), "RAS")),
            view(HEAT, Volume(VOLUME, affine)),
        )
    )
    assert shown == expected
