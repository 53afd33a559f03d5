"""One map over its volume: which slices are drawn, in which orientation and at which millimetre."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from figures import grid_positions, pixels, values
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from captum_3dcam import localization
from captum_3dcam.io import Volume
from captum_3dcam.visualization import (
    Scan,
    Style,
    visualize_volume_attr,
    visualize_volume_montage,
    visualize_volume_projections,
)
from captum_3dcam.visualization.scan import _LARGE

SHAPE = (6, 10, 8)
PEAK = (4, 2, 5)
VOLUME = np.arange(480, dtype=np.float32).reshape(SHAPE) - 100
HEAT = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
HEAT[(0, 0, *PEAK)] = 3.0
WINDOW = Style(window=(-100, 379))
VIEWS = (visualize_volume_attr, visualize_volume_montage, visualize_volume_projections)


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


def test_the_position_of_a_small_voxel_is_not_rounded_to_zero():
    _, axes = visualize_volume_attr(HEAT, Scan(VOLUME, spacing=(0.002, 0.0005, 0.5)))
    titles = ["D = 4 (0.008 mm)", "H = 2 (0.001 mm)", "W = 5 (2.5 mm)"]
    assert [ax.get_title().replace("\n", " ") for ax in axes] == titles


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


@pytest.mark.parametrize("view", VIEWS)
def test_a_zero_map_says_so(view):
    figure, axes = view(HEAT * 0, VOLUME)
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["the map is zero"]] * len(
        axes
    )
    assert figure.axes == axes  # without a colour bar


@pytest.mark.parametrize("view", VIEWS)
def test_the_raw_slices_are_above_their_maps(view):
    _, plain = view(HEAT, VOLUME)
    figure, axes = view(HEAT, VOLUME, style=Style(raw=True))
    raw, own = axes[: len(plain)], axes[len(plain) :]
    for above, below, expected in zip(raw, own, plain, strict=True):
        assert len(above.images) == 1
        for image, other in zip(below.images, expected.images, strict=True):
            np.testing.assert_array_equal(values(image), values(other))
        np.testing.assert_array_equal(values(above.images[0]), values(expected.images[0]))
    assert all(
        a < b for (a, _), (b, _) in zip(grid_positions(raw), grid_positions(own), strict=True)
    )
    pixels(figure)


def test_a_coarse_map_covers_the_volume_and_its_peak_is_the_middle_of_its_voxel():
    coarse = torch.zeros(2, 2, 4)
    coarse[1, 0, 3] = 1.0
    _, axes = visualize_volume_attr(coarse, np.zeros((8, 10, 16)))
    # Half of 8 is 4 to 7, half of 10 is 0 to 4, the last quarter of 16 is 12 to 15.
    assert [ax.get_title() for ax in axes] == ["D = 6", "H = 2", "W = 14"]
    below, above = axes[0].images
    assert below.get_extent() == above.get_extent() == [-0.5, 15.5, 9.5, -0.5]


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
    bar = figure.axes[-1]
    assert "'s maximum" in bar.get_xlabel() + bar.get_ylabel()


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


def test_a_constant_volume_is_black():
    _, axes = visualize_volume_attr(HEAT, np.full(SHAPE, 7.0))
    assert not values(axes[0].images[0]).any()


def test_a_few_bright_voxels_are_visible():
    volume = np.full(SHAPE, 10.0)
    volume[PEAK] = 10.5
    _, axes = visualize_volume_attr(HEAT, volume)
    grey_values = values(axes[0].images[0])
    assert grey_values[2, 5] == 1
    assert np.count_nonzero(grey_values) == 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("attr", "volume", "message"),
    [
        (HEAT, VOLUME[:3], r"map \(6, 10, 8\) is finer than the volume \(3, 10, 8\)"),
        (HEAT.expand(2, -1, -1, -1, -1), VOLUME, "Choose one sample"),
        (
            HEAT,
            VOLUME[..., None] + np.zeros(3),
            "A volume must be .* got float64",
        ),
        (HEAT, np.full(SHAPE, np.nan), "holds no finite value"),
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
def test_a_volume_of_io_is_drawn_with_its_orientation(view):
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    expected, shown = (
        [([text.get_text() for text in ax.texts], ax.get_aspect()) for ax in axes]
        for _, axes in (
            view(HEAT, Scan(VOLUME, (3, 2, 1), "RAS")),
            view(HEAT, Volume(VOLUME, affine)),
        )
    )
    assert shown == expected


# ------------------------------------------------------------------ positions in the patient


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SPL", "IAR", "PSR"])
def test_titles_and_axes_are_the_patients_coordinates(codes):
    affine = np.zeros((4, 4))
    for axis, (letter, spacing) in enumerate(zip(codes, (3.0, 2.0, 0.5), strict=True)):
        pair = next(pair for pair in ("LR", "PA", "IS") if letter in pair)
        affine[["LR", "PA", "IS"].index(pair), axis] = spacing * (1 if letter in "RAS" else -1)
    affine[:, 3] = (-20.25, 33.5, 7, 1)
    scan = Volume(VOLUME, affine)
    assert scan.orientation == codes
    _, axes = visualize_volume_attr(HEAT, scan)
    world = scan.to_world(PEAK)
    for ax, name in zip(axes, ("axial", "coronal", "sagittal"), strict=True):
        across = {"axial": 2, "coronal": 1, "sagittal": 0}[name]
        axis = scan.world_axes.index(across)
        assert ax.get_title().replace("\n", " ") == (
            f"{name}, {'DHW'[axis]} = {PEAK[axis]}, {'RAS'[across]} ({world[across]:g} mm)"
        )
        upright, level = ax.get_lines()
        for line, get, label, limits in (
            (upright, "get_xdata", ax.get_xlabel(), ax.get_xlim()),
            (level, "get_ydata", ax.get_ylabel(), ax.get_ylim()),
        ):
            letter, unit = label.split(" ", 1)
            assert unit == "(mm)"
            direction = "RAS".index(letter)
            assert getattr(line, get)()[0] == pytest.approx(world[direction])
            # The outer edges of the first and last voxel.
            ends = [list(PEAK), list(PEAK)]
            moving = scan.world_axes.index(direction)
            ends[0][moving], ends[1][moving] = -0.5, SHAPE[moving] - 0.5
            expected = sorted(scan.to_world(ends)[:, direction])
            assert sorted(limits) == pytest.approx(expected)
        # Radiological convention: coordinates grow to the left for R, else upwards or to the left.
        assert ax.get_xlim()[0] > ax.get_xlim()[1]
        assert ax.get_ylim()[0] < ax.get_ylim()[1]


def oblique(turn=0.4):
    cos, sin = np.cos(turn), np.sin(turn)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) * (2.0, 1.5, 1.0)
    affine[:3, 3] = (-7.5, 12, 100)
    return Volume(VOLUME, affine)


def test_an_oblique_slice_has_the_position_of_the_voxel_that_is_shown():
    scan = oblique()
    _, axes = visualize_volume_attr(HEAT, scan)
    r, a, s = scan.to_mm(PEAK)
    assert [ax.get_title() for ax in axes] == [
        f"axial, W = 5, ~S ({s:g} mm)",
        f"coronal, H = 2, ~A ({a:g} mm)",
        f"sagittal, D = 4, ~R ({r:g} mm)",
    ]
    # Its axes have no coordinate of the patient.
    assert axes[0].get_xlabel() == "D (mm from the first voxel)"
    assert sorted(axes[0].get_xlim()) == [-1, 11]
    assert axes[0].get_lines()[0].get_xdata()[0] == 2.0 * PEAK[0]
    pixels(axes[0].figure)


def test_a_tilt_of_less_than_a_tenth_of_a_voxel_is_not_oblique():
    assert oblique(0.005).to_world((0, 9, 0))[2] != oblique(0.005).to_world((0, 0, 0))[2]
    _, axes = visualize_volume_attr(HEAT, oblique(0.005))
    assert [ax.get_xlabel() for ax in axes] == ["R (mm)", "R (mm)", "A (mm)"]


def test_the_slices_of_a_montage_have_the_patients_positions():
    scan = Volume(VOLUME, np.diag([-0.002, 0.001, 0.001, 1]))
    _, axes = visualize_volume_montage(HEAT, scan, slices=[0, 3])
    assert [ax.get_title() for ax in axes] == ["D = 0, R (0 mm)", "D = 3, R (-0.006 mm)"]


def test_a_slice_has_one_position_in_all_figures():
    scan = oblique()
    _, planes = visualize_volume_attr(HEAT, scan)
    for axis, word in enumerate(("sagittal", "coronal", "axial")):
        (title,) = (ax.get_title() for ax in planes if ax.get_title().startswith(word))
        slices = [PEAK[axis]]
        _, axes = visualize_volume_montage(HEAT, scan, axis=axis, slices=slices)
        assert title == f"{word}, {axes[0].get_title()}"


@pytest.mark.parametrize(
    ("map_size", "size", "warns"),
    [((29, 8, 8), (30, 8, 8), True), ((9, 8, 8), (9, 9, 8), True), ((9, 9, 9), (9, 9, 9), False),
     ((8, 8, 8), (10, 8, 8), False), ((15, 8, 8), (30, 8, 8), False),
     ((5, 2, 7), (8, 3, 8), False)],
)  # fmt: skip
def test_a_map_that_lacks_one_voxel_is_warned_of(map_size, size, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        visualize_volume_attr(np.ones(map_size), np.random.default_rng(0).random(size))
    assert [str(warning.message) for warning in caught] == warns * [
        f"The map {map_size} lacks one voxel of the volume {size} on an axis, and is stretched "
        "over it. If it is of another scan, pass the volume that was explained."
    ]


def test_no_stride_leaves_all_voxels_but_one():
    """Of convolutions and poolings with a stride of 2 or more: the warning is no false alarm."""
    for size, stride, kernel in itertools.product(range(_LARGE + 1, 65), range(2, 6), range(1, 8)):
        for padding in range((kernel + 1) // 2 + 1):
            assert (size + 2 * padding - kernel) // stride + 1 != size - 1


def test_of_several_channels_the_first_is_drawn():
    scan = Volume(np.stack([VOLUME, -VOLUME]), np.eye(4))
    _, axes = visualize_volume_attr(HEAT, scan, style=WINDOW)
    _, expected = visualize_volume_attr(HEAT, Volume(VOLUME, np.eye(4)), style=WINDOW)
    for ax, other in zip(axes, expected, strict=True):
        np.testing.assert_array_equal(values(ax.images[0]), values(other.images[0]))


# ---------------------------------------------------------------------------------- boxes


def test_boxes_are_outlined_on_the_slices_that_they_cross():
    """Around the voxels of the box, to their outer edges, in mm of the patient."""
    heat = np.zeros((1, 1, *SHAPE), np.float32)
    heat[0, 0, 3:5, 2:6, 1:4] = 1
    heat[0, 0, 0, 9, 7] = 0.9
    (boxes,) = localization.boxes(torch.from_numpy(heat), select="all")
    affine = np.diag([3.0, -2.0, 1.5, 1.0])
    affine[:3, 3] = (10, 20, 30)
    scan = Volume(VOLUME, affine)
    _, axes = visualize_volume_attr(heat, scan, at=(4, 3, 2), boxes=boxes)
    drawn = {name: [p for p in ax.patches if isinstance(p, Rectangle)]
             for name, ax in zip("SAR", axes, strict=True)}  # fmt: skip
    assert [len(patches) for patches in drawn.values()] == [1, 1, 1]
    sides = {"R": (10 + 3 * 2.5, 10 + 3 * 4.5), "A": (20 - 2 * 1.5, 20 - 2 * 5.5),
             "S": (30 + 1.5 * 0.5, 30 + 1.5 * 3.5)}  # fmt: skip
    for across, horizontal, vertical in (("S", "R", "A"), ("A", "R", "S"), ("R", "A", "S")):
        (patch,) = drawn[across]
        (left, top), (right, bottom) = patch.get_xy(), patch.get_corners()[2]
        assert sorted((left, right)) == pytest.approx(sorted(sides[horizontal]))
        assert sorted((top, bottom)) == pytest.approx(sorted(sides[vertical]))
    _, axes = visualize_volume_montage(heat, scan, slices=[0, 2, 3, 4, 5], boxes=boxes)
    assert [len(ax.patches) for ax in axes] == [1, 0, 1, 1, 0]
    _, axes = visualize_volume_projections(heat, scan, boxes=boxes)
    assert [len(ax.patches) for ax in axes] == [2, 2, 2]


def test_the_boxes_of_a_coarse_map_are_scaled_to_the_volume():
    heat = torch.zeros(1, 1, 3, 5, 4)
    heat[0, 0, 1, 2, 3] = 1
    (boxes,) = localization.boxes(heat)
    _, axes = visualize_volume_attr(heat, VOLUME, at=(2, 4, 6), boxes=boxes)
    corners = [ax.patches[0].get_corners()[[0, 2]].tolist() for ax in axes]
    assert corners[0] == [[5.5, 3.5], [7.5, 5.5]]
    assert corners[1] == [[5.5, 1.5], [7.5, 3.5]]
    _, axes = visualize_volume_attr(heat, VOLUME, at=(1, 4, 6), boxes=boxes)
    assert [len(ax.patches) for ax in axes] == [0, 1, 1]


# -------------------------------------------------------------------------- extreme voxels


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("spacing", [(1000.0, 0.01, 1.0), (0.0001, 5.0, 5.0), (1.0, 1.0, 900.0)])
def test_extreme_voxels_make_a_figure_of_usual_size(view, spacing):
    figure, axes = view(HEAT, Volume(VOLUME, np.diag([*spacing, 1.0])))
    width, height = figure.get_size_inches()
    assert 4 <= width <= 14
    assert 1 <= height <= 30
    pixels(figure)
    for ax in axes:
        box = ax.get_window_extent()
        assert min(box.width, box.height) > 15  # in pixels: nothing vanishes
