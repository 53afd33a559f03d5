"""Masks against formulas, scikit-image and worked numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from localization_reference import clip_of_rectangles, random_maps
from skimage import filters

from captum_3dcam import localization as loc
from captum_3dcam.localization.thresholds import _otsu

MAP = torch.tensor([[[[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]]]])  # mean 3


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        ("relative", None, [0, 0, 0, 0, 0, 1]),  # strictly above 4
        ("relative", 0.49, [0, 0, 0, 0, 1, 1]),
        ("relative", 0, [0, 1, 1, 1, 1, 1]),
        ("quantile", None, [0, 0, 0, 0, 0, 1]),  # above 4 + (8 - 4) / 2
        ("quantile", 0.6, [0, 0, 0, 0, 1, 1]),  # above 3 itself
        ("quantile", 0, [0, 1, 1, 1, 1, 1]),
        ("mean", None, [0, 0, 0, 0, 1, 1]),
        ("mean", 0.5, [0, 0, 1, 1, 1, 1]),
        ("mean", 2, [0, 0, 0, 0, 0, 1]),
        ("otsu", None, [0, 0, 0, 0, 0, 1]),
        ("effective", None, [0, 0, 0, 1, 1, 1]),  # 18² / 94 = 3.4
    ],
)
def test_thresholds_by_hand(method, value, expected):
    result = loc.binarize(MAP, method, value)
    assert result.dtype == torch.bool
    assert result.shape == MAP.shape
    assert result.flatten().int().tolist() == expected


@settings(max_examples=60)
@given(random_maps(), st.floats(0, 1, exclude_max=True))
def test_thresholds_equal_their_formulas(maps, value):
    maps = maps.double()
    formulas = {
        "relative": lambda x: value * max(x),
        "quantile": lambda x: np.quantile(x, value),
        "mean": lambda x: value * sum(x) / len(x),
    }
    for method, formula in formulas.items():
        result = loc.binarize(maps, method, value)
        for sample, mask in zip(maps.flatten(1).numpy(), result.flatten(1).tolist(), strict=True):
            threshold = formula(sample.tolist())
            for x, inside in zip(sample, mask, strict=True):
                assert inside == (x > threshold) or x == pytest.approx(threshold, 1e-12)


def between_class_variance(x, threshold, bins=256):
    """Otsu's criterion, by its definition, over bin centres."""
    width = (x.max() - x.min()) / bins
    centers = x.min() + (np.minimum((x - x.min()) // width, bins - 1) + 0.5) * width
    low, high = centers[centers <= threshold + width / 4], centers[centers > threshold + width / 4]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2 / len(x) ** 2


@settings(max_examples=60)
@given(st.integers(2, 3000), st.integers(0, 10**6), st.floats(-3, 3), st.sampled_from([0, 3, 9]))
def test_otsu_equals_scikit_image(count, seed, log_scale, distance):
    rng = np.random.default_rng(seed)
    x = rng.random(count) + distance * (rng.random(count) < 0.3) * rng.random(count)
    x *= 10**log_scale
    threshold, expected = _otsu(x), filters.threshold_otsu(x)
    if threshold != pytest.approx(expected, 1e-9):
        # Empty bins between the classes: each of them is a best threshold.
        variances = [between_class_variance(x, t) for t in (threshold, expected)]
        assert variances[0] == pytest.approx(variances[1], 1e-9)
    mask = loc.binarize(torch.from_numpy(x)[None, None], "otsu")
    assert mask.flatten().tolist() == (x > threshold).tolist()


def test_otsu_of_a_dense_map_equals_scikit_image_exactly():
    x = np.random.default_rng(0).random((40, 50)) ** 3
    mask = loc.binarize(torch.from_numpy(x)[None, None], "otsu")
    assert _otsu(x) == pytest.approx(filters.threshold_otsu(x), 1e-12)
    np.testing.assert_array_equal(mask[0, 0].numpy(), x > filters.threshold_otsu(x))


def test_otsu_takes_the_first_of_equal_thresholds():
    x = np.array([0.0, 0.0, 10 / 256, 1.0, 1.0, 1.0])  # no value in the bins from 11 to 254
    assert _otsu(x) == pytest.approx(10.5 / 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 0.3, 0.6, 0.7, 1 / 3])
def test_a_value_at_the_threshold_is_not_above_it(dtype, value):
    maps = torch.tensor([[[value, 1.0, 0.0]]], dtype=dtype)
    assert loc.binarize(maps, "relative", value).flatten().tolist() == [False, True, False]


@pytest.mark.parametrize("method", loc.THRESHOLDS)
@pytest.mark.parametrize("value", [0.0, -1.0, -1e-30])
def test_a_map_without_positive_values_gives_an_empty_mask(method, value):
    maps = torch.tensor([[[value, value - 1, value - 5]], [[0.0, 0.0, 1.0]]])
    assert loc.binarize(maps, method).tolist() == [[[False] * 3], [[False, False, True]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.1, 0.7, 1e-30, 3e7])
def test_a_constant_map_is_above_half_its_maximum_and_not_above_its_mean(dtype, constant):
    for size in ((7, 11, 3), (3,), (7,)):  # 7 times 0.1 and 3 times 0.7 sum to too little
        maps = torch.full((1, 1, *size), constant, dtype=dtype)
        assert loc.binarize(maps, "relative").all()
        for method in ("quantile", "mean", "otsu"):
            assert not loc.binarize(maps, method).any()


@pytest.mark.parametrize("method", loc.THRESHOLDS)
@settings(max_examples=20)
@given(maps=random_maps())
def test_each_sample_is_binarized_by_itself_and_positive_factors_change_nothing(method, maps):
    together = loc.binarize(maps, method)
    alone = torch.cat([loc.binarize(sample[None], method) for sample in maps])
    assert torch.equal(together, alone)
    assert torch.equal(together, loc.binarize(4 * maps, method))
    assert not (together & (maps <= 0)).any()


@pytest.mark.parametrize("method", loc.THRESHOLDS)
def test_other_dtypes(method):
    maps = torch.randint(0, 9, (2, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    expected = loc.binarize(maps.double(), method)
    assert expected.any()
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32):
        assert torch.equal(loc.binarize(maps.to(dtype), method), expected)
    assert torch.equal(loc.binarize(maps.float().requires_grad_(), method), expected)
    assert torch.equal(loc.binarize(maps > 4), maps > 4)


def test_a_threshold_of_the_clip_leaves_weak_frames_empty():
    maps = clip_of_rectangles([[(0, 0, 2, 2, 0.4)], [(0, 0, 2, 2, 1.0)]])
    assert loc.binarize(maps).flatten(2).sum(2).tolist() == [[4]]
    assert not loc.binarize(maps)[0, 0, 0].any()


@pytest.mark.parametrize(
    ("method", "value", "limit"),
    [("relative", 1, 1), ("relative", -0.1, 1), ("quantile", 1.5, 1), ("mean", -1, "inf")]
    + [(method, float("nan"), "") for method in ("relative", "quantile", "mean")],
)
def test_values_out_of_range_raise(method, value, limit):
    expected = rf"value={value}: method='{method}' takes 0 <= value < {limit}"
    with pytest.raises(ValueError, match=expected):
        loc.binarize(torch.ones(1, 1, 4, 4), method, value)


def test_automatic_levels_take_no_value():
    for method in ("otsu", "effective"):
        with pytest.raises(ValueError, match=rf"method='{method}' takes no value, .*; got 0\.5"):
            loc.binarize(torch.ones(1, 1, 4, 4), method, 0.5)


@settings(max_examples=60)
@given(random_maps())
def test_effective_keeps_as_many_as_the_effective_number(maps):
    for sample in maps.double():
        positive = np.maximum(sample.flatten().numpy(), 0)
        squares = (positive**2).sum()
        expected = round(positive.sum() ** 2 / squares) if squares else 0
        mask = loc.binarize(sample[None], "effective").flatten().numpy()
        left_out = np.sort(positive)[::-1][expected:]
        # Equal values at the level are left out together.
        level = left_out.max() if len(left_out) else 0.0
        np.testing.assert_array_equal(mask, positive > level)
        assert mask.sum() <= expected


def test_effective_is_the_region_of_a_map_that_is_constant_on_one():
    maps = torch.zeros(1, 1, 10, 10)
    maps[..., 2:7, 3:9] = 0.3
    assert torch.equal(loc.binarize(maps, "effective"), maps > 0)
    assert loc.binarize(torch.full((1, 1, 4, 4), 2.0), "effective").all()
    assert not loc.binarize(torch.zeros(1, 1, 4, 4), "effective").any()


def test_effective_of_a_gaussian_is_at_two_standard_deviations():
    """In the plane (Σ m)² / Σ m² is 4 π σ², the disc of radius 2 σ."""
    axis = torch.arange(101.0) - 50
    heat = torch.exp(-(axis**2 + axis[:, None] ** 2) / (2 * 8**2))[None, None]
    for scale in (1e-30, 1.0, 1e30):
        mask = loc.binarize(heat * scale, "effective")
        assert int(mask[0, 0, 50].sum()) in (31, 33)  # 2 * 16 + 1, or the next smaller ring
