"""Preprocessing: resizing against loops, values by hand, maps and boxes back to the frame."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captum_3dcam.io import read_image
from captum_3dcam.models.i3d import I3D
from captum_3dcam.models.preprocessing import Preprocessing
from captum_3dcam.models.resnext3d import ResNeXt3D

PLAIN = Preprocessing()
AFFINE = Preprocessing((0.0, 0.25, 0.5), 0.5, (4, 6))
SIDES, WIDTHS = st.integers(1, 24), st.integers(2, 24)


def naive_weights(old: int, new: int) -> np.ndarray:
    """(new, old): the triangle filter's weight of each old pixel in each new one."""
    step = old / new
    reach = max(step, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * step
        for j in range(old):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
        weights[i] /= weights[i].sum()
    return weights


def naive_resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) to ``size``."""
    rows, columns = naive_weights(frame.shape[0], size[0]), naive_weights(frame.shape[1], size[1])
    return rows @ frame @ columns.T


# ------------------------------------------------------------------------------------- values


def test_the_networks_have_the_values_of_their_checkpoints():
    mean = (114.7748 / 255, 107.7354 / 255, 99.4750 / 255)
    assert Preprocessing(mean, 1 / 255, (112, 112)) == ResNeXt3D.PREPROCESSING
    assert Preprocessing(0.5, 0.5, (224, 224)) == I3D.PREPROCESSING


def test_resnext_uses_values_from_0_to_255_minus_the_mean():
    colours = torch.tensor([200, 10, 0], dtype=torch.uint8).reshape(3, 1, 1, 1)
    clip = replace(ResNeXt3D.PREPROCESSING, size=None)(colours.expand(3, 2, 4, 5))
    assert clip.shape == (3, 2, 4, 5)
    for channel, value in zip(clip, (200 - 114.7748, 10 - 107.7354, -99.4750), strict=True):
        torch.testing.assert_close(channel, torch.full((2, 4, 5), value), rtol=0, atol=1e-4)


def test_i3d_uses_values_from_minus_one_to_one():
    clip = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(3, 1, 1, 3)
    prepared = replace(I3D.PREPROCESSING, size=None)(clip)
    torch.testing.assert_close(prepared, torch.tensor([-1, -0.6, 1]).expand(3, 1, 1, 3))


@pytest.mark.parametrize("kind", [ResNeXt3D, I3D])
def test_clips_get_the_size_and_dtype_of_the_network(kind):
    clip = kind.PREPROCESSING(torch.rand(2, 3, 4, 30, 40))
    assert clip.shape == (2, 3, 4, *kind.PREPROCESSING.size)
    assert clip.dtype == torch.float32


def test_bytes_and_floats_give_the_same_input():
    image = torch.randint(0, 256, (3, 2, 9, 7), dtype=torch.uint8)
    prepare = Preprocessing((0.1, 0.2, 0.3), 0.3, (5, 11))
    torch.testing.assert_close(prepare(image), prepare(image / 255))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_output_is_float32_or_float64(dtype, expected):
    clip = torch.rand(3, 1, 6, 6).to(dtype)
    prepared = ResNeXt3D.PREPROCESSING(clip)
    assert prepared.dtype == expected
    torch.testing.assert_close(prepared, ResNeXt3D.PREPROCESSING(clip.to(expected)))


def test_the_input_is_not_modified():
    clip = torch.rand(3, 2, 8, 8)
    before = clip.clone()
    replace(I3D.PREPROCESSING, size=None)(clip).zero_()
    replace(I3D.PREPROCESSING, size=(8, 8))(clip).zero_()
    replace(I3D.PREPROCESSING, size=None).restore(clip).zero_()
    assert torch.equal(clip, before)


# ------------------------------------------------------------------------------------ resizing


# To a width of one pixel torch 2.13 repeats the first row; no network has frames like that.
@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, WIDTHS), seed=st.integers(0, 99))
def test_frames_are_resized_as_by_loops(old, new, seed):
    clip = torch.rand(3, 2, *old, generator=torch.Generator().manual_seed(seed)).double()
    resized = replace(PLAIN, size=new)(clip)
    assert resized.shape == (3, 2, *new)
    for channel in range(3):
        for t in range(2):
            expected = naive_resize(clip[channel, t].numpy(), new)
            np.testing.assert_allclose(resized[channel, t].numpy(), expected, atol=1e-6)


def test_leading_axes_are_batch_axes():
    clips = torch.rand(2, 4, 3, 3, 9, 8)
    prepare = replace(AFFINE, crop=(3, 2))
    prepared = prepare(clips)
    assert prepared.shape == (2, 4, 3, 3, 3, 2)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(prepared[i, j], prepare(clips[i, j]))


def test_an_image_is_a_clip_of_one_frame():
    image = torch.rand(3, 9, 8)
    prepare = AFFINE
    torch.testing.assert_close(prepare(image), prepare(image[:, None])[:, 0])
    torch.testing.assert_close(
        prepare.restore(prepare(image)),
        prepare(image[:, None])[:, 0] / 2 + torch.tensor([0.0, 0.25, 0.5]).reshape(3, 1, 1),
    )


def test_a_clip_of_the_right_size_is_not_resized():
    clip = torch.rand(3, 2, 9, 8)
    assert torch.equal(replace(PLAIN, size=(9, 8))(clip), clip)
    assert torch.equal(PLAIN(clip), clip)


def test_numpy_integers_are_a_valid_size():
    resized = replace(PLAIN, size=(np.int64(4), np.int32(6)))(torch.rand(3, 1, 8, 8))
    assert resized.shape == (3, 1, 4, 6)


# ----------------------------------------------------------------------------------- restore


@given(
    mean=st.tuples(*[st.floats(-2, 1)] * 3),
    std=st.one_of(st.floats(0.003, 1), st.tuples(*[st.floats(0.003, 1)] * 3)),
    seed=st.integers(0, 99),
)
def test_restore_is_the_inverse(mean, std, seed):
    clip = torch.rand(2, 3, 2, 3, 4, generator=torch.Generator().manual_seed(seed)).double()
    prepare = Preprocessing(mean, std)
    torch.testing.assert_close(prepare.restore(prepare(clip)), clip, rtol=0, atol=1e-9)


def test_restored_clips_are_in_0_to_1():
    """Also after rounding, and for inputs that were optimised."""
    prepare = ResNeXt3D.PREPROCESSING
    clip = torch.tensor([-500.0, 0.0, 500.0]).expand(3, 1, 1, 3)
    red = prepare.restore(clip)[0].flatten()
    torch.testing.assert_close(red, torch.tensor([0.0, 114.7748 / 255, 1.0]))


def test_integers_are_restored_without_rounding_the_mean():
    restored = ResNeXt3D.PREPROCESSING.restore(torch.zeros(3, 1, 1, 1, dtype=torch.int64))
    torch.testing.assert_close(restored.flatten() * 255, torch.tensor([114.7748, 107.7354, 99.475]))


# ------------------------------------------------------------------- sizes, and the crop's position


def test_one_number_is_the_shorter_side():
    prepare = Preprocessing(size=256)
    assert prepare.input_size((480, 640)) == (256, 341)
    assert prepare.input_size((640, 480)) == (341, 256)
    assert prepare.input_size((7, 7)) == (256, 256)
    assert replace(prepare, crop=224).input_size((480, 640)) == (224, 224)
    assert prepare(torch.rand(3, 48, 64)).shape == (3, 256, 341)


def test_the_crop_is_the_centre():
    image = torch.arange(48.0).reshape(6, 8).expand(3, 6, 8) / 48
    cropped = Preprocessing(crop=(2, 4))(image)
    assert torch.equal(cropped, image[:, 2:4, 2:6])
    assert Preprocessing(crop=(2, 4)).seen((6, 8)) == (2, 2, 6, 4)


def test_without_antialiasing_frames_are_sampled():
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(3, 16, 16)
    assert replace(PLAIN, size=4)(stripes).var() < 0.01
    assert torch.equal(replace(PLAIN, size=4, antialias=False)(stripes), torch.full((3, 4, 4), 0.5))
    # 5 pixels of 16: the centre of the third is at 8.0, between pixels 7 and 8.
    sampled = replace(PLAIN, size=(16, 5), antialias=False)(stripes)[0, 0]
    centres = (torch.arange(5) + 0.5) * 16 / 5 - 0.5
    expected = torch.from_numpy(np.interp(centres, np.arange(16), stripes[0, 0])).float()
    torch.testing.assert_close(sampled, expected)


# ------------------------------------------------------------------------------------------ grey


def test_grey_is_pillows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = torch.from_numpy(read_image(tmp_path / "a.png")).movedim(-1, 0)
    grey = Preprocessing(channels=1)(image)
    assert grey.shape == (1, 9, 11)
    expected = np.asarray(Image.fromarray(pixels).convert("L"))  # rounded to bytes
    assert np.abs(grey[0].numpy() * 255 - expected).max() <= 0.5 + 1e-3


def test_grey_clips_are_normalised_resized_and_restored():
    clip = torch.rand(2, 3, 4, 8, 8)
    prepare = Preprocessing(0.5, (0.25,), 4, channels=1)
    grey = (clip * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1, 1)).sum(1, keepdim=True)
    expected = (F.avg_pool3d(grey, (1, 2, 2)) - 0.5) / 0.25
    assert prepare(clip).shape == (2, 1, 4, 4, 4)
    inner = (..., slice(1, -1), slice(1, -1))
    # The filter reaches over half a pixel more than the mean of 2 x 2.
    torch.testing.assert_close(prepare(clip)[inner], expected[inner], rtol=0, atol=0.7)
    whole = replace(prepare, size=None)
    torch.testing.assert_close(whole.restore(whole(clip)), grey)


# ---------------------------------------------------------------------------- boxes and maps


@st.composite
def geometries(draw):
    """A preprocessing, and a frame that it accepts."""
    frame = draw(st.tuples(st.integers(1, 60), st.integers(2, 60)))
    size = draw(st.one_of(st.none(), st.integers(2, 40), st.tuples(SIDES, WIDTHS)))
    resized = Preprocessing(size=size).input_size(frame)
    crop = draw(st.one_of(st.none(), st.tuples(*(st.integers(1, side) for side in resized))))
    return Preprocessing(size=size, crop=crop), frame


@given(geometries(), st.data())
def test_a_pixel_of_the_input_maps_to_the_pixels_of_the_frame_that_it_came_from(case, data):
    """A frame whose values are the coordinates of its pixels, resized and cropped."""
    prepare, frame = case
    height, width = prepare.input_size(frame)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = torch.tensor([column, row, column + 1, row + 1], dtype=torch.float64)
    x0, y0, x1, y1 = prepare.boxes_to_frame(box, frame).tolist()
    for axis, (low, high, position) in enumerate(((y0, y1, row), (x0, x1, column))):
        ramp = (torch.arange(frame[axis]).double() + 0.5) / frame[axis]
        image = ramp.reshape((-1, 1) if axis == 0 else (1, -1)).expand(3, *frame)
        lines = prepare(image)[0]
        received = (lines[position, 0] if axis == 0 else lines[0, position]).item() * frame[axis]
        # The filter of a pixel reaches one pixel of either size beyond its middle, and is cut at
        # the border of the frame.
        reach = max(high - low, 1.0)
        assert (low + high) / 2 - reach <= received <= (low + high) / 2 + reach
        inner = reach <= (low + high) / 2 <= frame[axis] - reach
        if inner:
            assert received == pytest.approx((low + high) / 2, abs=0.15)


@given(geometries(), st.lists(st.floats(-100, 100), min_size=4, max_size=4))
def test_boxes_to_the_input_and_back(case, box):
    prepare, frame = case
    boxes = torch.tensor([box, [math.nan] * 4], dtype=torch.float64)
    inside = prepare.boxes_to_input(boxes, frame)
    back = prepare.boxes_to_frame(inside, frame)
    torch.testing.assert_close(back, boxes, rtol=1e-9, atol=1e-7, equal_nan=True)
    whole = torch.tensor(prepare.seen(frame), dtype=torch.float64)
    height, width = prepare.input_size(frame)
    expected = torch.tensor([0, 0, width, height], dtype=torch.float64)
    torch.testing.assert_close(prepare.boxes_to_input(whole, frame), expected)


@given(geometries(), st.integers(0, 99))
def test_maps_lie_in_the_frame_where_the_network_saw_it(case, seed):
    prepare, frame = case
    size = prepare.input_size(frame)
    maps = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed)) + 0.1
    whole = prepare.maps_to_frame(maps, frame)
    uncut = replace(prepare, crop=None)
    assert whole.shape[-2:] == uncut.input_size(frame)
    assert (whole > 0).sum() == maps.numel()  # nothing was cut, and all else is zero
    # The box around the map, as those of the resized frame are scaled to the frame.
    rows, columns = (whole[0, 0] > 0).nonzero(as_tuple=True)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    in_frame = uncut.boxes_to_frame(torch.tensor(box).double(), frame)
    assert in_frame.tolist() == pytest.approx(prepare.seen(frame), abs=1e-6)
    # The map of the network's own cut: the same as cutting the whole.
    x0, y0 = box[:2]
    assert torch.equal(whole[..., y0 : y0 + size[0], x0 : x0 + size[1]], maps)


def test_a_bright_square_is_at_its_position_after_cutting_and_mapping_back():
    frame = torch.zeros(3, 1, 120, 200)
    frame[..., 48:72, 96:112] = 1
    prepare = Preprocessing(size=60, crop=40)  # half of it; rows 10 to 50, columns 30 to 70
    shown = prepare(frame)[0, 0]
    assert shown[14:26, 18:26].min() == pytest.approx(1, abs=0.3)
    x0, y0, x1, y1 = prepare.boxes_to_input(torch.tensor([96, 48, 112, 72]), (120, 200)).tolist()
    assert (x0, y0, x1, y1) == (18, 14, 26, 26)
    whole = prepare.maps_to_frame((shown > 0.6).float(), (120, 200))
    assert whole.shape == (60, 100)
    rows, columns = whole.nonzero(as_tuple=True)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (24, 36, 48, 56)
    box = torch.tensor([18, 14, 26, 26])
    assert prepare.boxes_to_frame(box, (120, 200)).tolist() == [96, 48, 112, 72]


def test_a_box_that_the_crop_cuts_extends_beyond_the_input():
    box = torch.tensor([0, 0, 200, 120], dtype=torch.uint8)  # and small integers do not overflow
    assert Preprocessing(size=60, crop=40).boxes_to_input(box, (120, 200)).tolist() == [
        -30, -10, 70, 50,
    ]  # fmt: skip


def test_boxes_and_maps_are_unchanged_without_resizing():
    boxes, maps = torch.rand(3, 4), torch.rand(2, 7, 9)
    assert torch.equal(PLAIN.boxes_to_input(boxes, (7, 9)), boxes)
    assert torch.equal(PLAIN.boxes_to_frame(boxes, (7, 9)), boxes)
    assert torch.equal(PLAIN.maps_to_frame(maps, (7, 9)), maps)


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((4, 8, 8), "(4, 8, 8)"),
        ((8, 8), "(8, 8)"),
        ((1, 2, 8, 8), "(1, 2, 8, 8)"),
        ((16, 8, 8, 3), "(16, 8, 8, 3)"),
        ((2, 1, 3, 8, 8), "(2, 1, 3, 8, 8)"),
        ((3, 0, 8, 8), "(3, 0, 8, 8)"),
    ],
)
@pytest.mark.parametrize("do", [PLAIN, PLAIN.restore])
def test_inputs_that_are_not_rgb_are_refused(do, shape, shown):
    with pytest.raises(ValueError) as error:
        do(torch.zeros(shape))
    assert str(error.value) == (
        "Expected RGB, a clip (..., 3, T, H, W) or an image (3, H, W), and not empty; received "
        f"shape {shown}. Convert frames (T, H, W, 3) with .movedim(-1, 0), and images "
        "(N, 3, H, W) with .unsqueeze(2)."
    )


def test_what_is_restored_to_grey_must_be_grey():
    with pytest.raises(ValueError, match=r"^Expected grey, a clip \(..., 1, T, H, W\) or an image"):
        Preprocessing(channels=1).restore(torch.zeros(3, 8, 8))


def test_the_advice_of_that_error_works():
    assert PLAIN(torch.rand(5, 8, 9, 3).movedim(-1, 0)).shape == (3, 5, 8, 9)
    assert PLAIN(torch.rand(5, 3, 8, 9).unsqueeze(2)).shape == (5, 3, 1, 8, 9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 254.0], "received values from 0 to 254. Divide them by 255."),
        ([-1.0, 1.0], "received values from -1 to 1. Is the clip already preprocessed?"),
        ([-110.0, 140.0], "received values from -110 to 140. Is the clip already preprocessed?"),
        ([0.0, math.inf], "received values from 0 to inf. Is the clip already preprocessed?"),
        ([0.0, math.nan], "received values from nan to nan. Is the clip already preprocessed?"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError) as error:
        PLAIN(torch.tensor(values).expand(3, 1, 1, 2))
    assert str(error.value) == f"Expected RGB floats in [0, 1]; {message}"


def test_rounding_errors_are_accepted():
    PLAIN(torch.tensor([-1e-6, 1 + 1e-6]).expand(3, 1, 1, 2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_other_types_are_refused(dtype):
    with pytest.raises(TypeError) as error:
        PLAIN(torch.ones(3, 1, 2, 2).to(dtype))
    assert str(error.value) == (
        f"Expected RGB as torch.uint8, or as floats in [0, 1]; received {dtype}. Convert "
        "integers from 0 to 255 with .to(torch.uint8)."
    )


OF_VALUES = "values in [0, 1] have none above 1. If it is of values from 0 to 255, divide mean and"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": 0.0}, "std=0.0: expected numbers above 0."),
        ({"std": (1.0, 1.0, -1.0)}, "std=(1.0, 1.0, -1.0): expected numbers above 0."),
        ({"std": math.inf}, "std=inf: expected finite numbers."),
        ({"std": 58.4}, f"std=58.4: {OF_VALUES} std by 255."),
        ({"mean": (114.77, 107.7, 99.5)}, f"mean=(114.77, 107.7, 99.5): {OF_VALUES} std by 255."),
        (
            {"mean": (1.0, 2.0)},
            "mean=(1.0, 2.0): expected one number for all channels, or 3, for channels=3, RGB.",
        ),
        (
            {"mean": (0.1, 0.2, 0.3), "channels": 1},
            "mean=(0.1, 0.2, 0.3): expected one number for all channels, or 1, for channels=1, "
            "grey.",
        ),
        ({"mean": (1, 2, math.nan)}, "mean=(1, 2, nan): expected finite numbers."),
        ({"mean": None}, "mean=None: expected finite numbers."),
        ({"mean": "a"}, "mean='a': expected finite numbers."),
        ({"channels": 2}, "channels=2 is not known. Choose one of 1, 3."),
        ({"size": (4,)}, "size=(4,): expected (H, W), two positive integers."),
        ({"size": (4, 0)}, "size=(4, 0): expected (H, W), two positive integers."),
        ({"size": (4, 2.5)}, "size=(4, 2.5): expected (H, W), two positive integers."),
        ({"size": 0}, "size=0: expected a positive integer, (H, W) or None."),
        ({"size": True}, "size=True: expected a positive integer, (H, W) or None."),
        ({"crop": 2.5}, "crop=2.5: expected a positive integer, (H, W) or None."),
        ({"crop": (4, 0)}, "crop=(4, 0): expected (H, W), two positive integers."),
        (
            {"size": (4, 6), "crop": 5},
            "crop=5: frames of (4, 6), resized to (4, 6), are smaller. Pass a smaller crop, or "
            "size=(5, 5) without a crop.",
        ),
    ],
)
def test_invalid_fields_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        replace(PLAIN, **changes)
    assert str(error.value) == message


def test_a_flag_must_be_one():
    with pytest.raises(TypeError, match="^antialias=1: expected True or False"):
        Preprocessing(antialias=1)


def test_frames_smaller_than_the_crop_are_refused():
    with pytest.raises(ValueError) as error:
        Preprocessing(crop=(4, 6))(torch.rand(3, 8, 5))
    assert str(error.value) == (
        "crop=(4, 6): frames of (8, 5), resized to (8, 5), are smaller. Pass a smaller crop, or "
        "size=(4, 6) without a crop."
    )


def test_a_frame_that_becomes_huge_is_refused_before_it_is(monkeypatch):
    """A shorter side of 256 makes 256 x 2,560,000 of 1 x 10000."""
    monkeypatch.setenv("CAPTUM_3DCAM_MAX_BYTES", "1000000")
    with pytest.raises(ValueError) as error:
        Preprocessing(size=256, crop=224)(torch.zeros(3, 1, 10000, dtype=torch.uint8))
    assert str(error.value) == (
        "Frames of (1, 10000) are resized to (256, 2560000), 7,864,320,000 bytes in memory; the "
        "limit is 1,000,000. Pass size=(H, W), or fewer frames at once. If this is right and the "
        "memory suffices, set the environment variable CAPTUM_3DCAM_MAX_BYTES=7864320000."
    )
    Preprocessing(size=500)(torch.zeros(3, 600, 800, dtype=torch.uint8))  # it becomes smaller


def test_invalid_boxes_are_refused():
    for to in (PLAIN.boxes_to_input, PLAIN.boxes_to_frame):
        for boxes, shape in ((torch.zeros(4, 3), r"\(4, 3\)"), (torch.tensor(1.0), r"\(\)")):
            with pytest.raises(ValueError, match=rf"x0, y0, x1, y1; received shape {shape}"):
                to(boxes, (8, 8))
        with pytest.raises(ValueError, match=r"frame_size=\(0, 8\): expected \(H, W\), two pos"):
            to(torch.zeros(4), (0, 8))
        with pytest.raises(TypeError, match=r"Expected boxes as a tensor; got list"):
            to([0, 0, 1, 1], (8, 8))


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError) as error:
        Preprocessing(size=60, crop=40).maps_to_frame(torch.zeros(2, 60, 100), (120, 200))
    assert str(error.value) == (
        "Expected maps (..., 40, 40), as large as the network's input for frames of (120, 200); "
        "received shape (2, 60, 100)."
    )


def test_it_is_immutable_and_hashable():
    with pytest.raises(FrozenInstanceError):
        PLAIN.std = 2.0
    assert len({PLAIN, replace(PLAIN)}) == 1
