"""Rank correlation and SSIM against SciPy, scikit-image and loops."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as skimage_ssim

from captum_3dcam.sanity import (
    absolute_rank_correlation,
    normalized_structural_similarity,
    rank_correlation,
    structural_similarity,
)

shapes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 5), min_size=r, max_size=r))


@settings(max_examples=60)
@given(shapes, st.integers(0, 10**6), st.integers(2, 9))
def test_rank_correlation_equals_scipy_with_and_without_ties(size, seed, values):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(-values, values, (2, 3, 2, *size)).astype(float)
    signed = rank_correlation(torch.tensor(a), torch.tensor(b))
    absolute = absolute_rank_correlation(torch.tensor(a), torch.tensor(b))
    for n in range(3):
        if np.ptp(a[n]) and np.ptp(b[n]):
            assert signed[n].item() == pytest.approx(spearmanr(a[n].ravel(), b[n].ravel())[0])
        if np.ptp(abs(a[n])) and np.ptp(abs(b[n])):
            expected = spearmanr(abs(a[n]).ravel(), abs(b[n]).ravel())[0]
            assert absolute[n].item() == pytest.approx(expected)


def test_rank_correlation_depends_on_the_order_alone():
    x = torch.randn(2, 1, 3, 4, 5)
    assert rank_correlation(x, x.exp()).tolist() == [1, 1]
    assert rank_correlation(x, -(x**3)).tolist() == [-1, -1]
    assert absolute_rank_correlation(x, -(x**3)).tolist() == [1, 1]


def test_a_constant_map_has_no_rank_correlation_and_no_warning():
    x = torch.stack([torch.zeros(1, 4), torch.arange(4.0)[None]])
    correlation = rank_correlation(x, torch.arange(4.0).expand(2, 1, 4))
    assert correlation.isnan().tolist() == [True, False]
    assert rank_correlation(x, x)[0].isnan()
    # The mean of many values 0.1 may differ from 0.1 by rounding.
    assert rank_correlation(torch.full((1, 1, 777), 0.1), torch.rand(1, 1, 777)).isnan()


@pytest.mark.parametrize("size", [(23,), (11, 14), (12, 11, 13)])
def test_ssim_equals_scikit_image(size):
    a, b = torch.rand(2, 2, 3, *size, dtype=torch.float64)
    b = 0.6 * a + 0.4 * b
    similarity = structural_similarity(a, b, torch.tensor([1.0, 0.5]))
    for n, data_range in enumerate((1.0, 0.5)):
        expected = [
            skimage_ssim(
                a[n, c].numpy(),
                b[n, c].numpy(),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=data_range,
            )
            for c in range(3)
        ]
        assert similarity[n].item() == pytest.approx(np.mean(expected), rel=1e-9)


def naive_ssim(a, b, data_range):
    """Window by window, each as long as it fits along each axis."""
    lengths = [min(11, size - (size + 1) % 2) for size in a.shape]
    axes = []
    for length in lengths:
        offsets = [i - length // 2 for i in range(length)]
        weights = np.array([np.exp(-(offset**2) / (2 * 1.5**2)) for offset in offsets])
        axes.append(weights / sum(weights))
    window = axes[0]
    for weights in axes[1:]:
        window = window[..., None] * weights
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for corner in product(*(range(s - k + 1) for s, k in zip(a.shape, lengths, strict=True))):
        part = tuple(slice(i, i + k) for i, k in zip(corner, lengths, strict=True))
        mean_a, mean_b = (window * a[part]).sum(), (window * b[part]).sum()
        var_a = (window * (a[part] - mean_a) ** 2).sum()
        var_b = (window * (b[part] - mean_b) ** 2).sum()
        covariance = (window * (a[part] - mean_a) * (b[part] - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        values.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))
    return np.mean(values)


@pytest.mark.parametrize("size", [(1,), (4,), (14, 3), (1, 12, 5), (2, 6, 12)])
def test_ssim_of_maps_smaller_than_the_window_equals_loops(size):
    a, b = torch.rand(2, 1, 1, *size, dtype=torch.float64)
    expected = naive_ssim(a[0, 0].numpy(), b[0, 0].numpy(), 1.0)
    assert structural_similarity(a, b).item() == pytest.approx(expected, rel=1e-9)


def test_normalised_ssim_divides_each_map_by_its_largest_absolute_value():
    a, b = torch.rand(2, 1, 1, 12, 12, dtype=torch.float64)
    a[..., 0, 0] = b[..., 0, 0] = 1.0
    plain = structural_similarity(a, b)
    torch.testing.assert_close(normalized_structural_similarity(7 * a, b / 3), plain)
    b[..., 5, 5] = -0.25
    signed = normalized_structural_similarity(7 * a, b / 3)
    torch.testing.assert_close(signed, structural_similarity(a, b, data_range=2.0))
    zero = torch.zeros_like(a)
    assert normalized_structural_similarity(zero, zero).item() == 1
    assert 0 <= normalized_structural_similarity(a, zero).item() < 0.1


def test_a_clip_of_one_frame_equals_its_image():
    a, b = torch.rand(2, 3, 1, 9, 13)
    for metric in (rank_correlation, normalized_structural_similarity):
        torch.testing.assert_close(metric(a[:, :, None], b[:, :, None]), metric(a, b))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes_and_maps_with_gradients(dtype):
    a, b = torch.rand(2, 2, 1, 12, 12).to(dtype)
    for metric in (rank_correlation, normalized_structural_similarity):
        expected = metric(a.double(), b.double())
        torch.testing.assert_close(metric(a.requires_grad_(), b), expected)
        a = a.detach()


def test_maps_that_cannot_be_compared_raise():
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"got \(2, 1, 4, 4\) and \(2, 1, 8, 4\). Bring them"):
        rank_correlation(x, torch.rand(2, 1, 8, 4))
    with pytest.raises(ValueError, match="holds NaN or Inf, so it cannot be compared"):
        structural_similarity(x, x / 0)
    with pytest.raises(ValueError, match=r"with a spatial axis; got shape \(2, 4\)"):
        structural_similarity(x[:, 0, 0], x[:, 0, 0])
