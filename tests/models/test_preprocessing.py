"""Preprocessing: resizing against loops, values by hand, boxes that scale along."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam.models.i3d import I3D
from captum_3dcam.models.preprocessing import Preprocessing
from captum_3dcam.models.resnext3d import ResNeXt3D

PLAIN = Preprocessing(scale=1.0, mean=(0.0, 0.0, 0.0))
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
    assert Preprocessing(255, (114.7748, 107.7354, 99.4750), (112, 112)) == ResNeXt3D.PREPROCESSING
    assert Preprocessing(2, (1, 1, 1), (224, 224)) == I3D.PREPROCESSING


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
    prepare = Preprocessing(3.0, (0.1, 0.2, 0.3), (5, 11))
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
    prepare = Preprocessing(2.0, (0.0, 0.5, 1.0), (4, 6))
    prepared = prepare(clips)
    assert prepared.shape == (2, 4, 3, 3, 4, 6)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(prepared[i, j], prepare(clips[i, j]))


def test_an_image_is_a_clip_of_one_frame():
    image = torch.rand(3, 9, 8)
    prepare = Preprocessing(2.0, (0.0, 0.5, 1.0), (4, 6))
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
    scale=st.floats(0.1, 300),
    mean=st.tuples(*[st.floats(-200, 200)] * 3),
    seed=st.integers(0, 99),
)
def test_restore_is_the_inverse(scale, mean, seed):
    clip = torch.rand(2, 3, 2, 3, 4, generator=torch.Generator().manual_seed(seed)).double()
    prepare = Preprocessing(scale, mean)
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


# ------------------------------------------------------------------------------------- boxes


@given(
    frame=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    box=st.lists(st.floats(-100, 600), min_size=4, max_size=4),
)
def test_boxes_scale_as_fractions_of_the_frame(frame, size, box):
    scaled = (
        replace(PLAIN, size=size)
        .scale_boxes(torch.tensor(box, dtype=torch.float64), frame)
        .tolist()
    )
    for i, value in enumerate(scaled):
        axis = 1 - i % 2  # x is along the width
        assert value / size[axis] == pytest.approx(box[i] / frame[axis], abs=1e-6)


def test_boxes_bound_the_same_content_after_resizing():
    frame = torch.zeros(3, 1, 60, 80)
    frame[..., 12:24, 40:72] = 1
    prepare = replace(PLAIN, size=(20, 40))
    x0, y0, x1, y1 = prepare.scale_boxes(torch.tensor([40, 12, 72, 24]), (60, 80)).tolist()
    shown = prepare(frame)[0, 0]
    assert (x0, y0, x1, y1) == (20, 4, 36, 8)
    torch.testing.assert_close(shown[5:7, 21:35], torch.ones(2, 14))
    outside = shown.clone()
    outside[3:9, 19:37] = 0
    assert not outside.any()


def test_boxes_of_any_shape_and_nan():
    boxes = torch.tensor([[[2.0, 4, 6, 8], [math.nan] * 4]])
    scaled = replace(PLAIN, size=(20, 5)).scale_boxes(boxes, (10, 10))
    expected = torch.tensor([[[1.0, 8, 3, 16], [math.nan] * 4]])
    torch.testing.assert_close(scaled, expected, equal_nan=True)


def test_boxes_of_small_integers_do_not_overflow():
    scaled = replace(PLAIN, size=(400, 400)).scale_boxes(
        torch.tensor([100, 0, 200, 100], dtype=torch.uint8), (200, 200)
    )
    assert scaled.tolist() == [200, 0, 400, 200]


def test_boxes_are_unchanged_without_resizing():
    boxes = torch.rand(3, 4)
    assert torch.equal(PLAIN.scale_boxes(boxes, (7, 9)), boxes)


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
        "Expected RGB, a clip (..., 3, T, H, W) or an image (3, H, W), and not empty; got "
        f"shape {shown}. Convert frames (T, H, W, 3) with .movedim(-1, 0), and images "
        "(N, 3, H, W) with .unsqueeze(2)."
    )


def test_the_advice_of_that_error_works():
    assert PLAIN(torch.rand(5, 8, 9, 3).movedim(-1, 0)).shape == (3, 5, 8, 9)
    assert PLAIN(torch.rand(5, 3, 8, 9).unsqueeze(2)).shape == (5, 3, 1, 8, 9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 254.0], "got values from 0 to 254. Divide them by 255."),
        ([-1.0, 1.0], "got values from -1 to 1. Is the clip already preprocessed?"),
        ([-110.0, 140.0], "got values from -110 to 140. Is the clip already preprocessed?"),
        ([0.0, math.inf], "got values from 0 to inf. Is the clip already preprocessed?"),
        ([0.0, math.nan], "got values from nan to nan. Is the clip already preprocessed?"),
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
        f"Expected RGB as torch.uint8, or as floats in [0, 1]; got {dtype}. Convert integers from "
        "0 to 255 with .to(torch.uint8)."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "scale=0.0: expected a finite number above 0."),
        ({"scale": math.inf}, "scale=inf: expected a finite number above 0."),
        ({"scale": math.nan}, "scale=nan: expected a finite number above 0."),
        ({"mean": (1.0, 2.0)}, "mean=(1.0, 2.0): expected three finite numbers, of R, G and B."),
        (
            {"mean": (1, 2, math.nan)},
            "mean=(1, 2, nan): expected three finite numbers, of R, G and B.",
        ),
        ({"size": (4,)}, "size=(4,): expected (H, W), two positive integers."),
        ({"size": (4, 0)}, "size=(4, 0): expected (H, W), two positive integers."),
        ({"size": (4, 2.5)}, "size=(4, 2.5): expected (H, W), two positive integers."),
    ],
)
def test_invalid_fields_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        replace(PLAIN, **changes)
    assert str(error.value) == message


def test_invalid_boxes_are_refused():
    with pytest.raises(
        ValueError, match=r"expects boxes \(..., 4\), x0, y0, x1, y1; got shape \(4, 3\)"
    ):
        PLAIN.scale_boxes(torch.zeros(4, 3), (8, 8))
    with pytest.raises(
        ValueError, match=r"expects boxes \(..., 4\), x0, y0, x1, y1; got shape \(\)"
    ):
        PLAIN.scale_boxes(torch.tensor(1.0), (8, 8))
    with pytest.raises(ValueError, match=r"from_size=\(0, 8\): expected \(H, W\), two positive"):
        PLAIN.scale_boxes(torch.zeros(4), (0, 8))


def test_it_is_immutable_and_hashable():
    with pytest.raises(FrozenInstanceError):
        PLAIN.scale = 2.0
    assert len({PLAIN, replace(PLAIN)}) == 1
