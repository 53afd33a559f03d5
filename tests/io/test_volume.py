"""Volumes: every operation on the grid keeps each value at its world coordinates."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam.io import Volume, volume


def rotation(x, y, z):
    """Rotation about the three axes, one after the other."""
    turn = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        i, j = [k for k in range(3) if k != axis]
        one = np.eye(3)
        one[i, i] = one[j, j] = math.cos(angle)
        one[i, j], one[j, i] = -math.sin(angle), math.sin(angle)
        turn = one @ turn
    return turn


def affine_of(angles, spacing, origin, order=(0, 1, 2), signs=(1, 1, 1)):
    affine = np.eye(4)
    axes = np.diag(signs)[:, list(order)]
    affine[:3, :3] = rotation(*angles) @ axes * spacing
    affine[:3, 3] = origin
    return affine


OBLIQUE = affine_of((0.3, -0.2, 0.4), (3.0, 0.8, 1.1), (-37.0, 55.5, 12.25), (2, 1, 0), (1, -1, 1))
small = st.floats(-0.35, 0.35)
affines = st.builds(
    affine_of,
    st.tuples(small, small, small),
    st.tuples(*[st.floats(0.4, 5)] * 3),
    st.tuples(*[st.floats(-200, 200)] * 3),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
shapes = st.tuples(*[st.integers(2, 7)] * 3)


def field(points):
    """A value for each position (..., 3) in mm, linear, so that interpolation is exact."""
    return np.asarray(points) @ [0.7, -0.4, 1.3] + 5


def volume_of_field(shape, affine):
    """Filled by a loop over the voxels, without the methods of Volume."""
    data = np.empty(shape)
    for index in np.ndindex(*shape):
        data[index] = field((affine @ [*index, 1])[:3])
    return Volume(data, affine)


def centres(volume):
    """World coordinates of each voxel, (D, H, W, 3)."""
    points = np.empty((*volume.shape, 3))
    for index in np.ndindex(*volume.shape):
        points[index] = (volume.affine @ [*index, 1])[:3]
    return points


def matches_field(volume, mask=None):
    """Whether each value, within the mask, is that of its position."""
    errors = np.abs(volume.data - field(centres(volume)))
    return (errors if mask is None else errors[mask]).max(initial=0) < 2e-3


def interior(volume, of):
    """Mask of the voxels between centres of another volume."""
    index = (centres(volume) - of.affine[:3, 3]) @ np.linalg.inv(of.affine[:3, :3]).T
    return ((index >= -1e-6) & (index <= np.array(of.shape) - 1 + 1e-6)).all(-1)


def random_volume(shape, affine=OBLIQUE, seed=0):
    return Volume(np.random.default_rng(seed).random(shape), affine)


def test_data_affine_and_tensor_share_one_convention():
    scan = volume_of_field((3, 4, 5), OBLIQUE)
    assert scan.data.dtype == np.float32
    assert scan.data.flags["C_CONTIGUOUS"]
    assert scan.shape == (3, 4, 5)
    assert scan.spacing == pytest.approx((3.0, 0.8, 1.1))
    np.testing.assert_allclose(scan.to_world([2, 1, 3]), (OBLIQUE @ [2, 1, 3, 1])[:3])
    np.testing.assert_allclose(scan.to_world(np.zeros((4, 2, 3)))[3, 1], OBLIQUE[:3, 3])
    np.testing.assert_allclose(scan.to_voxels(scan.to_world([[2.5, 1, 3]])), [[2.5, 1, 3]])
    batch = scan.to_tensor()
    assert (batch.shape, batch.dtype) == ((1, 1, 3, 4, 5), torch.float32)
    batch.zero_()
    assert scan.data.any()


def test_the_arguments_are_copied():
    data, affine = np.zeros((2, 2, 2)), np.eye(4)
    volume = Volume(data, affine)
    affine[0, 3] = 7
    assert volume.affine[0, 3] == 0


def test_repr():
    scan = Volume(np.zeros((3, 4, 5)), OBLIQUE)
    assert repr(scan) == "Volume(shape=(3, 4, 5), spacing=(3.0, 0.8, 1.1), orientation='SPR')"


def test_only_reorient_needs_nibabel(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel.orientations", None)
    scan = random_volume((3, 4, 5))
    assert scan.orientation == "SPR"
    assert scan.crop((0, 0, 0), (2, 2, 2)).resample(size=4).resample_to(scan).shape == scan.shape
    with pytest.raises(ImportError, match=r"reorient\(\) needs NiBabel: pip .*\[medical\]"):
        scan.reorient("RAS")


# ---------------------------------------------------------------------------------- geometry


@given(shapes, affines, st.data())
def test_a_crop_keeps_world_coordinates(shape, affine, data):
    scan = volume_of_field(shape, affine)
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    part = scan.crop(start, stop)
    assert part.shape == tuple(b - a for a, b in zip(start, stop, strict=True))
    assert matches_field(part)


@given(shapes, affines, st.tuples(*[st.integers(1, 9)] * 3))
def test_resampling_to_a_size_covers_the_same_space(shape, affine, size):
    scan = volume_of_field(shape, affine)
    resampled = scan.resample(size=size)
    assert resampled.shape == size
    assert matches_field(resampled, interior(resampled, scan))
    for corner in itertools.product((0, 1), repeat=3):
        edges = [
            (v.affine @ [*(np.array(corner) * v.shape - 0.5), 1])[:3] for v in (scan, resampled)
        ]
        np.testing.assert_allclose(*edges, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 4, 5), (6, 7, 9), (2, 3, 2), (1, 1, 1), (9, 2, 5)])
def test_resampling_to_a_size_is_torchs_interpolation(size):
    scan = random_volume((3, 4, 5))
    expected = F.interpolate(scan.to_tensor(), size, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(scan.resample(size=size).data, expected[0, 0], atol=1e-6)


@given(shapes, affines, st.tuples(*[st.floats(1.5, 6)] * 3))
def test_resampling_to_a_spacing_keeps_the_centre(shape, affine, spacing):
    scan = volume_of_field(shape, affine)
    resampled = scan.resample(spacing=spacing)
    assert resampled.spacing == pytest.approx(spacing)
    assert matches_field(resampled, interior(resampled, scan))
    middles = [v.to_world((np.array(v.shape) - 1) / 2) for v in (scan, resampled)]
    np.testing.assert_allclose(*middles, atol=1e-6)
    extents = [np.array(v.shape) * v.spacing for v in (scan, resampled)]
    assert (np.abs(extents[0] - extents[1]) <= np.array(spacing) / 2 + 1e-9)[
        np.array(resampled.shape) > 1
    ].all()


def test_a_single_number_applies_to_all_axes():
    scan = random_volume((3, 4, 5))
    assert scan.resample(size=6).shape == (6, 6, 6)
    assert scan.resample(spacing=2).spacing == pytest.approx((2, 2, 2))
    assert Volume(scan.data, np.diag([4, 4, 4, 1])).resample(spacing=2).shape == (6, 8, 10)


@pytest.mark.parametrize("arguments", [{}, {"size": 3, "spacing": 1.0}])
def test_exactly_one_of_size_and_spacing_is_required(arguments):
    with pytest.raises(ValueError, match="either a size in voxels or a spacing in mm"):
        random_volume((3, 4, 5)).resample(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"size": 0}, {"size": (3, -1, 2)}, {"spacing": math.nan}, {"spacing": 0.0},
     {"spacing": (1, 2)}, {"size": ()}, {"size": [[1, 2, 3]]}],
)  # fmt: skip
def test_size_and_spacing_must_be_positive(arguments):
    with pytest.raises(ValueError, match="resample to .*: expected positive numbers"):
        random_volume((3, 4, 5)).resample(**arguments)


def test_a_volume_too_large_is_refused_before_it_is_allocated():
    with pytest.raises(ValueError, match=r"A volume of 3000 x 4000 x 5000 voxels is too large"):
        Volume(np.zeros((3, 4, 5)), np.eye(4)).resample(spacing=0.001)
    with pytest.raises(ValueError, match=r"resample to 900 x 1200 x 1500 voxels, 6,480,000,000 by"):
        Volume(np.zeros((3, 4, 5)), 3 * np.diag([1, 1, 1, 1 / 3])).resample(spacing=0.01)


CODES = [
    "".join(letters)
    for pairs in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*pairs)
]


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_keeps_world_coordinates(codes):
    pytest.importorskip("nibabel")
    scan = volume_of_field((2, 3, 4), OBLIQUE)
    reoriented = scan.reorient(codes)
    assert reoriented.orientation == codes
    assert matches_field(reoriented)
    assert sorted(reoriented.shape) == [2, 3, 4]
    again = reoriented.reorient(scan.orientation)
    np.testing.assert_array_equal(again.data, scan.data)
    np.testing.assert_allclose(again.affine, scan.affine)


def test_orientation_names_the_directions_of_the_axes():
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    affine[2, 0], affine[1, 1], affine[0, 2] = 5, -1, -1  # d to the head, h to the back, w left
    assert Volume(np.zeros((1, 1, 1)), affine).orientation == "SPL"


@given(affines)
def test_orientation_agrees_with_nibabel(affine):
    nibabel = pytest.importorskip("nibabel")
    expected = "".join(nibabel.aff2axcodes(affine))
    assert Volume(np.zeros((1, 1, 1)), affine).orientation == expected


@pytest.mark.parametrize("codes", ["", "RA", "RAR", "RAL", "ras", "RASS", "XYZ"])
def test_invalid_orientations_are_refused(codes):
    with pytest.raises(ValueError, match=r"is no orientation. Expected one letter each of R or L"):
        random_volume((2, 3, 4)).reorient(codes)


# --------------------------------------------------------------------------- onto another grid


def naive_on_grid(own, grid):
    """Trilinear by a loop: the edge is repeated for half a voxel, and zero beyond that."""
    result = np.zeros(grid.shape)
    for index in np.ndindex(*grid.shape):
        position = np.linalg.solve(own.affine, grid.affine @ [*index, 1])[:3]
        if all(-0.5 - 1e-6 < p < n - 0.5 + 1e-6 for p, n in zip(position, own.shape, strict=True)):
            clipped = [min(max(p, 0), n - 1) for p, n in zip(position, own.shape, strict=True)]
            low = [min(int(p), max(n - 2, 0)) for p, n in zip(clipped, own.shape, strict=True)]
            for step in itertools.product((0, 1), repeat=3):
                at = [i + s for i, s in zip(low, step, strict=True)]
                weights = [1 - abs(p - a) for p, a in zip(clipped, at, strict=True)]
                if min(weights) > 0:
                    result[index] += math.prod(weights) * own.data[tuple(at)]
    return result


@given(affines, affines)
def test_resampling_to_a_grid_equals_a_loop(affine, other):
    other[:3, 3] = affine[:3, 3] + [1, -2, 1]  # so that they overlap
    own, grid = random_volume((3, 4, 2), affine), Volume(np.zeros((4, 3, 3)), other)
    resampled = own.resample_to(grid)
    np.testing.assert_array_equal(resampled.affine, grid.affine)
    np.testing.assert_allclose(resampled.data, naive_on_grid(own, grid), atol=1e-4)


def test_a_map_of_a_crop_is_brought_back_to_the_scan():
    """Cropped, resampled and reoriented: each value returns to its position, and 0 elsewhere."""
    pytest.importorskip("nibabel")
    scan = volume_of_field((8, 9, 10), OBLIQUE)
    seen = scan.crop((2, 1, 3), (7, 8, 9)).resample(size=(10, 14, 12)).reorient("RAS")
    back = seen.with_data(torch.from_numpy(seen.data)[None, None]).resample_to(scan)
    part = np.zeros(scan.shape, bool)
    part[2:7, 1:8, 3:9] = True
    inner = np.zeros(scan.shape, bool)
    inner[3:6, 2:7, 4:8] = True
    assert back.shape == scan.shape
    assert matches_field(back, inner)
    assert (back.data[~part] == 0).all()
    assert (back.data[part] != 0).all()  # also in the outer half voxel


def test_resampling_to_the_own_grid_changes_nothing():
    scan = random_volume((5, 6, 7))
    np.testing.assert_allclose(scan.resample_to(scan).data, scan.data, atol=1e-6)


def test_a_peak_stays_within_a_voxel():
    pytest.importorskip("nibabel")
    scan = random_volume((20, 48, 40))
    lesion = scan.to_world([13, 30, 9])
    seen = scan.crop((4, 10, 2), (19, 44, 38)).resample(spacing=1.7)
    near = np.exp(-(np.linalg.norm(centres(seen) - lesion, axis=-1) ** 2) / 8)
    own = seen.with_data(near)
    for heat in (own, own.resample_to(scan), own.reorient("LPI").resample_to(scan)):
        peak = heat.to_world(np.unravel_index(heat.data.argmax(), heat.shape))
        assert (np.abs(scan.to_voxels(peak) - [13, 30, 9]) <= 1).all()


# ----------------------------------------------------------------------------------- with_data


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_with_data_converts_every_dtype(dtype):
    scan = random_volume((2, 3, 4))
    values = torch.arange(24, dtype=dtype).reshape(1, 1, 2, 3, 4).requires_grad_()
    volume = scan.with_data(values)
    np.testing.assert_array_equal(volume.data, np.arange(24).reshape(2, 3, 4))
    assert volume.affine.tolist() == scan.affine.tolist()
    assert scan.with_data(np.ones((2, 3, 4), bool)).data.dtype == np.float32


def test_with_data_copies():
    scan = random_volume((2, 3, 4))
    values = np.zeros((2, 3, 4), np.float32)
    volume = scan.with_data(values)
    values[:] = 1
    assert not volume.data.any()


@pytest.mark.parametrize("shape", [(2, 1, 2, 3, 4), (4, 3, 2), (2, 2, 2), (3, 4)])
def test_a_map_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match=r"Expected one map of the volume's size \(2, 3, 4\)"):
        random_volume((2, 3, 4)).with_data(torch.zeros(shape))


def test_the_advice_for_a_map_of_another_size_works():
    scan = random_volume((8, 12, 16))
    coarse = torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"size=\(2, 3, 4\)\).with_data\(map\).resample_to\(vol"):
        scan.with_data(coarse)
    on_scan = scan.resample(size=(2, 3, 4)).with_data(coarse).resample_to(scan)
    expected = F.interpolate(coarse[None, None], (8, 12, 16), mode="trilinear")[0, 0]
    np.testing.assert_allclose(on_scan.data, expected, atol=1e-5)


@given(shapes, affines, st.integers(1, 5))
def test_the_space_is_kept(shape, affine, space):
    scan = Volume(np.zeros(shape), affine, space)
    pytest.importorskip("nibabel")
    changed = [scan.crop((0, 0, 0), (1, 1, 1)), scan.resample(size=2), scan.reorient("RAS")]
    changed += [scan.with_data(scan.data), Volume(scan.data, affine).resample_to(scan)]
    assert {volume.space for volume in changed} == {space}


# ---------------------------------------------------------------------------- invalid volumes


BAD_AFFINES = [np.eye(3), np.full((4, 4), np.nan), np.zeros((4, 4)), np.diag([1, 1, 0, 1])]
BAD_AFFINES += [
    np.diag([1, 1, 1, 2]),
    np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0] * 4]),
]


@pytest.mark.parametrize("affine", BAD_AFFINES)
def test_an_invalid_affine_is_refused(affine):
    with pytest.raises(
        ValueError, match=r"The affine is .*\. Expected \(4, 4\) finite numbers with three linearly"
    ):
        Volume(np.zeros((2, 3, 4)), affine)


def test_tiny_and_huge_voxels_are_accepted():
    for scale in (1e-5, 1e5):
        assert Volume(np.zeros((2, 3, 4)), np.diag([scale] * 3 + [1])).spacing == (scale,) * 3


@pytest.mark.parametrize("shape", [(3, 4), (1, 1, 2, 3, 4), (0, 2, 3), (0, 2, 3, 4), (2, 0, 3, 4)])
def test_data_have_three_axes_or_four_with_channels(shape):
    with pytest.raises(
        ValueError, match=r"Expected a volume \(D, H, W\), or \(C, D, H, W\).*received the shape"
    ):
        Volume(np.zeros(shape), np.eye(4))


# ----------------------------------------------------------------------------------- channels


def test_each_channel_is_treated_as_a_volume_alone():
    pytest.importorskip("nibabel")
    alone = [random_volume((5, 6, 7), seed=seed) for seed in range(3)]
    together = Volume(np.stack([volume.data for volume in alone]), OBLIQUE)
    assert (together.shape, together.channels, alone[0].channels) == ((5, 6, 7), 3, 1)
    assert repr(together).endswith("orientation='SPR', channels=3)")
    assert together.to_tensor().shape == (1, 3, 5, 6, 7)
    grid = random_volume((4, 4, 4)).resample(spacing=2)
    for change in (
        lambda v: v.crop((1, 0, 2), (4, 5, 7)),
        lambda v: v.resample(size=(3, 8, 5)),
        lambda v: v.reorient("RAS"),
        lambda v: v.resample_to(grid),
    ):
        changed = change(together)
        for number, channel in enumerate(alone):
            np.testing.assert_array_equal(changed.data[number], change(channel).data)
            np.testing.assert_array_equal(changed.affine, change(channel).affine)
    heat = together.with_data(torch.rand(1, 1, 5, 6, 7))
    assert (heat.channels, heat.data.shape) == (1, (5, 6, 7))


def test_one_channel_is_dropped():
    assert Volume(np.zeros((1, 2, 3, 4)), np.eye(4)).data.shape == (2, 3, 4)


def test_the_limit_counts_all_channels(monkeypatch):
    monkeypatch.setenv("CAPTUM_3DCAM_MAX_BYTES", "4000")
    assert random_volume((4, 5, 6)).resample(size=(10, 10, 10)).shape == (10, 10, 10)
    with pytest.raises(ValueError, match=r"resample to 10 x 10 x 10 voxels, 8,000 bytes"):
        Volume(np.zeros((2, 4, 5, 6)), OBLIQUE).resample(size=(10, 10, 10))


# ------------------------------------------------------------------------------------ header


@given(shapes, affines, affines)
def test_the_second_form_is_changed_as_the_first(shape, affine, other):
    pytest.importorskip("nibabel")
    scan = Volume(np.zeros(shape), affine, 2, volume.Header(volume.Form("qform", other, 1)))
    twin = Volume(np.zeros(shape), other)  # the second form as the only one
    for change in (
        lambda v: v.crop((0, 1, 1), v.shape),
        lambda v: v.resample(size=(3, 8, 5)),
        lambda v: v.resample(spacing=1.7 * np.array(v.spacing)),
        lambda v: v.with_data(v.data),
    ):
        changed = change(scan)
        np.testing.assert_allclose(changed.affine, change(Volume(scan.data, affine)).affine)
        second = changed.header.second_form
        assert (second.name, second.space) == ("qform", 1)
        np.testing.assert_allclose(second.affine, change(twin).affine, atol=1e-9)
    turned = scan.reorient("RAS")
    own_to_new = np.linalg.inv(affine) @ turned.affine
    np.testing.assert_allclose(turned.header.second_form.affine, other @ own_to_new, atol=1e-9)
    back = scan.resample(size=2).resample_to(scan)
    np.testing.assert_array_equal(back.header.second_form.affine, other)


def test_a_map_has_a_description_and_a_display_range_of_its_own():
    header = volume.Header(None, ("micron", "sec"), "Doe, Jane", (-1000, 400))
    scan = Volume(np.zeros((2, 3, 4)), np.eye(4), 1, header)
    assert scan.crop((0, 0, 0), (1, 2, 2)).header == header
    heat = scan.with_data(np.linspace(0.25, 0.75, 24).reshape(2, 3, 4))
    assert heat.header.units == ("micron", "sec")
    assert heat.header.description == "captum_3dcam: values computed from a scan"
    assert heat.header.display_range == (0, 0.75)
    assert scan.with_data(heat.data - 0.5).header.display_range == (-0.25, 0.25)
    assert scan.with_data(np.full((2, 3, 4), np.nan)).header.display_range is None
    on_scan = heat.crop((0, 0, 0), (1, 2, 2)).resample_to(scan)
    assert on_scan.header.description == heat.header.description
    assert on_scan.header.display_range == (0, 0.75)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [(0.002, 0.0062), (0.0004, 0.00124), (1, 3.1), (30, 93), (0.33, 1.02)],
)
def test_positions_are_rounded_to_less_than_a_tenth_of_a_voxel(spacing, expected):
    scan = Volume(np.zeros((9, 9, 9)), np.diag([spacing, spacing, spacing, 1]))
    assert scan.to_mm((3.1, 0, 0)) == [expected, 0.0, 0.0]
    assert scan.to_mm((-1e-9, 0, 0))[0] == 0
    assert math.copysign(1, scan.to_mm((-1e-9, 0, 0))[0]) == 1
    for index in range(9):
        assert abs(scan.to_mm((index, 0, 0))[0] - index * spacing) < spacing / 10


def test_a_space_must_be_a_nifti_code():
    with pytest.raises(ValueError, match="space=0: expected a NIfTI code, 1 to 5"):
        Volume(np.zeros((2, 3, 4)), np.eye(4), space=0)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((0, 0, 0), (2, 3, 5)), ((-1, 0, 0), (2, 3, 4)), ((1, 1, 1), (2, 1, 4)),
        ((0.5, 0, 0), (2, 3, 4)), ((0, 0, 0), (2, 3.0, 4)), ((0, 0), (2, 3, 4)), ((0, 0), (2, 3)),
    ],
)  # fmt: skip
def test_a_crop_must_be_inside_the_volume(start, stop):
    with pytest.raises(ValueError, match=r"crop\(.*of size \(2, 3, 4\): expected 0 <= start"):
        random_volume((2, 3, 4)).crop(start, stop)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_complex_values_are_refused(kind):
    data, volume = kind(np.full((2, 2, 2), 3 + 4j)), Volume(np.zeros((2, 2, 2)), np.eye(4))
    for make in (lambda: Volume(data, np.eye(4)), lambda: volume.with_data(data)):
        with pytest.raises(ValueError, match=r"complex; .* Pass their magnitude, np.abs\(data\)"):
            make()


def test_values_too_large_for_float32_become_infinite_without_a_warning():
    assert np.isinf(Volume(np.full((1, 1, 1), 1e300), np.eye(4)).data).all()
    assert volume._MAX_VOXELS == 2**31
