"""Noisy linear imputation against dense and sparse solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imputation_reference import naive_impute
from scipy import sparse
from scipy.sparse.linalg import spsolve

from captum_3dcam.sanity import imputation, impute

shapes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 6), min_size=r, max_size=r))


def random_case(seed, size, samples=2, channels=3):
    """Inputs, and masks that keep at least one position."""
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.normal(5, 2, size=(samples, channels, *size)))
    removed = generator.random((samples, 1, *size)) < generator.random()
    removed.reshape(samples, -1)[:, generator.integers(np.prod(size))] = False
    return x, torch.from_numpy(removed)


@settings(max_examples=60)
@given(st.integers(0, 10**6), shapes)
def test_imputed_values_solve_the_system_of_the_definition(seed, size):
    x, removed = random_case(seed, size)
    result = impute(x, removed, noise=0)
    for n in range(len(x)):
        expected = naive_impute(x[n].numpy(), removed[n, 0].numpy())
        np.testing.assert_allclose(result[n], expected, atol=1e-6)
    assert torch.equal(result[~removed.expand_as(x)], x[~removed.expand_as(x)])


def test_the_weights_in_two_dimensions_are_the_papers():
    x = torch.arange(9.0).square().reshape(1, 1, 3, 3)
    removed = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    removed[..., 1, 1] = True
    direct, diagonal = 1 + 9 + 25 + 49, 0 + 4 + 36 + 64
    centre = impute(x, removed, noise=0)[0, 0, 1, 1].item()
    assert centre == pytest.approx(direct / 6 + diagonal / 12)


def path_system(removed, values):
    """Of a signal, as a sparse matrix, for the lengths that no dense one has."""
    unknown = np.flatnonzero(removed)
    size = len(removed)
    edges = sparse.diags([np.full(size - 1, 0.5)] * 2, [1, -1], format="csr")
    degree = np.asarray(edges.sum(axis=1)).ravel()
    matrix = (sparse.diags(degree) - edges)[unknown][:, unknown]
    right = (edges @ np.where(removed, 0, values))[unknown]
    expected = values.copy()
    expected[unknown] = spsolve(matrix.tocsc(), right)
    return expected


def test_long_gaps_converge():
    generator = np.random.default_rng(0)
    values, removed = generator.normal(size=20_000).cumsum(), np.ones(20_000, dtype=bool)
    removed[[1000, 7777, 12_345]] = False
    signal, mask = (torch.from_numpy(a)[None, None] for a in (values, removed))
    result = impute(signal, mask, noise=0)
    np.testing.assert_allclose(result[0, 0], path_system(removed, values), atol=1e-3)


@pytest.mark.parametrize("size", [(4000,), (90, 70), (8, 40, 40)])
def test_few_steps_suffice(size, monkeypatch):
    """Of a hole over nearly everything, in which plain conjugate gradients take hundreds."""
    x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    removed = torch.ones(1, 1, *size, dtype=torch.bool)
    removed[(0, 0, *(n // 3 for n in size))] = False
    removed[(0, 0, *(0 for _ in size))] = False
    monkeypatch.setattr(imputation, "_MAX_STEPS", 80)
    result = impute(x, removed, noise=0)
    assert result.isfinite().all()
    monkeypatch.setattr(imputation, "_MAX_STEPS", 2)
    with pytest.raises(RuntimeError, match="did not converge in 2 steps. Scale the inputs"):
        impute(x, removed, noise=0)


@settings(max_examples=30)
@given(st.integers(0, 10**6), shapes, st.floats(-3, 3), st.floats(0.1, 10))
def test_imputation_is_linear_and_within_the_range_of_what_is_kept(seed, size, shift, scale):
    x, removed = random_case(seed, size)
    result = impute(x, removed, noise=0)
    shifted = impute(scale * x + shift, removed, noise=0)
    torch.testing.assert_close(shifted, scale * result + shift, atol=1e-5, rtol=1e-5)
    for sample, mask, filled in zip(x, removed, result, strict=True):
        for channel, imputed in zip(sample, filled, strict=True):
            kept = channel[~mask[0]]
            assert kept.min() - 1e-6 <= imputed.min()
            assert imputed.max() <= kept.max() + 1e-6


@settings(max_examples=30)
@given(st.integers(0, 10**6), shapes, st.randoms())
def test_no_axis_and_no_direction_is_special(seed, size, random):
    x, removed = random_case(seed, size)
    axes = list(range(2, x.ndim))
    random.shuffle(axes)
    flipped = random.sample(axes, random.randint(0, len(axes)))

    def turn(t):
        return t.flip(flipped).permute(0, 1, *axes)

    turned = impute(turn(x), turn(removed), noise=0)
    torch.testing.assert_close(turned, turn(impute(x, removed, noise=0)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [(7,), (5, 6)])
def test_an_axis_of_length_one_changes_nothing(size):
    x, removed = random_case(3, size)
    for axis in range(2, x.ndim + 1):
        thick = impute(x.unsqueeze(axis), removed.unsqueeze(axis), noise=0)
        torch.testing.assert_close(thick.squeeze(axis), impute(x, removed, noise=0))


def test_noise_is_normal_seeded_and_the_same_for_each_sample():
    x = torch.zeros(2, 3, 40, 40)
    removed = torch.zeros(2, 1, 40, 40, dtype=torch.bool)
    removed[:, :, :, 1:] = True
    noise = impute(x, removed, noise=0.5)
    assert torch.equal(noise[0], noise[1])
    assert not noise[:, :, :, 0].any()
    values = noise[0, :, :, 1:]
    assert values.std().item() == pytest.approx(0.5, rel=0.05)
    assert abs(values.mean().item()) < 0.03
    assert not torch.equal(values[0], values[1])
    assert torch.equal(impute(x, removed, noise=0.5, seed=0), noise)
    assert not torch.equal(impute(x, removed, noise=0.5, seed=1), noise)
    assert impute(x, removed).std().item() == pytest.approx(0.01, rel=0.1)


def test_a_batch_equals_its_samples():
    x, removed = random_case(1, (5, 7), samples=4)
    together = impute(x, removed)
    for n in range(4):
        alone = impute(x[n : n + 1], removed[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_dtype_of_the_inputs_which_stay(dtype):
    x, removed = random_case(2, (6, 6))
    inputs = x.to(dtype).requires_grad_()
    before, state = inputs.detach().clone(), torch.get_rng_state()
    result = impute(inputs, removed, noise=0)
    assert result.dtype == dtype
    assert not result.requires_grad
    assert torch.equal(inputs, before)
    assert torch.equal(torch.get_rng_state(), state)
    wide = impute(before.double(), removed, noise=0)
    torch.testing.assert_close(result.double(), wide, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_what_is_removed_may_be_nan():
    x, removed = random_case(4, (5, 5))
    hidden = x.masked_fill(removed, torch.nan)
    assert torch.equal(impute(hidden, removed), impute(x, removed))


X, MASK = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4) > 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, MASK[:, 0]), ValueError, r"removed, bool \(N, 1, \*S\); .* removed of shape \(2, 4,"),
        ((X, MASK.float()), ValueError, "torch.float32. Compare with a threshold"),
        ((X, None), ValueError, "removed of NoneType"),
        ((X[0, 0], MASK), ValueError, r"inputs of shape \(4, 4\)"),
        ((X, torch.ones_like(MASK)), ValueError, "All positions of a sample are removed"),
        ((X, MASK, -1), ValueError, "noise=-1: expected a standard deviation, finite and 0"),
        ((X, MASK, float("nan")), ValueError, "noise=nan: expected a standard deviation"),
        ((X, MASK, 0, 0.5), ValueError, "seed=0.5: expected an integer"),
        ((X, MASK, "a"), TypeError, "noise='a': expected a number"),
        ((X.int(), MASK), TypeError, r"floating-point numbers; got torch.int32"),
        (([1], MASK), TypeError, "Expected inputs as a tensor; got list"),
    ],
)
def test_invalid_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        impute(*arguments)
