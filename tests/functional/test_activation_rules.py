"""Rules of activations and principal directions, against NumPy's SVD and loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import functional

sizes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 5), min_size=r, max_size=r))


@st.composite
def activations(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), *draw(sizes))
    return torch.randn(shape, generator=generator)


def positive_part(component, like):
    """The positive part of a component (S,), with the entry of largest magnitude positive."""
    if abs(component.min()) > abs(component.max()):
        component = -component
    return np.maximum(component, 0).reshape(like.shape[2:])


def svd_component(sample):
    """The first principal component of (C, *S) over positions, by singular values."""
    rows = sample.double().flatten(1).numpy().T
    rows = rows - rows.mean(axis=0)
    return rows @ np.linalg.svd(rows, full_matrices=False)[2][0]


def is_certain(sample):
    """Whether the first component is not another one up to rounding: of two equal it is open."""
    rows = sample.double().flatten(1).numpy().T
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    component = svd_component(sample)
    low, high = abs(component.min()), abs(component.max())
    return (len(values) < 2 or values[0] > 1.05 * values[1]) and abs(low - high) > 0.01 * high


@settings(max_examples=60)
@given(activations())
def test_eigen_cam_is_the_first_principal_component(activation):
    (found,) = functional.eigen_cam(activation)
    assert found.shape == (len(activation), 1, *activation.shape[2:])
    for sample, own in zip(activation, found, strict=True):
        if is_certain(sample):
            expected = positive_part(svd_component(sample), activation)
            np.testing.assert_allclose(own[0], expected, atol=1e-4)


@settings(max_examples=40)
@given(activations(), st.integers(0, 100))
def test_eigen_grad_cam_is_eigen_cam_of_the_product(activation, seed):
    gradient = torch.randn(activation.shape, generator=torch.Generator().manual_seed(seed))
    (found,) = functional.eigen_grad_cam(activation, gradient)
    torch.testing.assert_close(found, functional.eigen_cam(activation * gradient)[0])


@settings(max_examples=30)
@given(activations())
def test_kpca_cam_centres_the_kernel_and_takes_its_first_eigenvector(activation):
    (found,) = functional.kpca_cam(activation)
    for sample, own in zip(activation, found, strict=True):
        rows = sample.double().flatten(1).numpy().T
        rows = rows - rows.mean(axis=0)
        positions, channels = rows.shape
        kernel = np.empty((positions, positions))
        for i, j in itertools.product(range(positions), repeat=2):
            kernel[i, j] = np.tanh(sum(rows[i] * rows[j]) / channels + 1)
        centre = np.eye(positions) - 1 / positions
        values, vectors = np.linalg.eigh(centre @ kernel @ centre)
        component = vectors[:, -1] * np.sqrt(max(values[-1], 0))
        low, high = abs(component.min()), abs(component.max())
        is_open = positions > 1 and values[-1] < 1.05 * values[-2]
        if not is_open and abs(low - high) > 0.01 * high:
            expected = positive_part(component, activation)
            np.testing.assert_allclose(own[0], expected, atol=1e-4)


@settings(max_examples=40)
@given(activations())
def test_fem_counts_the_positions_above_two_deviations(activation):
    (found,) = functional.fem(activation)
    for sample, own in zip(activation, found, strict=True):
        total = np.zeros(activation.shape[2:])
        for channel in sample.numpy().astype(np.float64):
            share = (channel > channel.mean() + 2 * channel.std()).mean()
            total += share * channel
        np.testing.assert_allclose(own[0], np.maximum(total, 0), atol=1e-5)


def test_fem_of_many_positions():
    activation = torch.zeros(1, 2, 3, 10)
    activation[0, 0, 1, 4] = 5.0  # in one of 30 positions
    activation[0, 1] = 1.0  # the same everywhere: above nothing
    (found,) = functional.fem(activation)
    assert found[0, 0, 1, 4] == pytest.approx(5 / 30)
    assert found.sum() == pytest.approx(5 / 30)


@pytest.mark.parametrize("rule", [functional.eigen_cam, functional.kpca_cam, functional.fem])
def test_activations_without_differences_give_no_map(rule):
    constant = torch.full((2, 5, 7, 7), 1 / 3)
    constant[:, 1] = 1e4 / 3
    (found,) = rule(constant)
    assert not found.any()


@pytest.mark.parametrize("rule", [functional.eigen_cam, functional.kpca_cam])
def test_what_rounding_leaves_of_a_constant_is_no_map(rule):
    last_digit = torch.randint(-1, 2, (1, 5, 7, 7), generator=torch.Generator().manual_seed(0))
    (found,) = rule(1000 / 3 * (1 + last_digit * torch.finfo(torch.float32).eps))
    assert not found.any()


def test_the_sign_is_that_of_the_largest_magnitude():
    one_bright = torch.zeros(1, 3, 4, 4)
    one_bright[0, :, 1, 2] = torch.tensor([1.0, 2.0, 3.0])
    for activation in (one_bright, -one_bright):
        (found,) = functional.eigen_cam(activation)
        assert found.flatten().argmax() == 6


@pytest.mark.parametrize("rule", [functional.eigen_cam, functional.kpca_cam])
def test_of_what_is_not_finite_the_map_is_nan_and_that_of_other_samples_is_not(rule):
    activation = torch.rand(2, 3, 4, 4)
    expected = rule(activation[1:])[0]
    activation[0, 1, 2, 3] = torch.inf
    (found,) = rule(activation)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1:], expected)


def test_half_precision_gives_float32():
    (found,) = functional.eigen_cam(torch.rand(1, 4, 3, 3).half())
    assert found.dtype == torch.float32


def test_kpca_cam_of_many_positions():
    activation = torch.rand(2, 5, 20, 16, generator=torch.Generator().manual_seed(0))
    activation[:, :, 5:9, 4:8] += 1.0
    rows = activation.double().flatten(2).mT
    rows = rows - rows.mean(dim=1, keepdim=True)
    kernel = (rows @ rows.mT / 5 + 1).tanh()
    centre = torch.eye(320, dtype=torch.float64) - 1 / 320
    values, vectors = torch.linalg.eigh(centre @ kernel @ centre)
    for sample, own in enumerate(functional.kpca_cam(activation)[0]):
        component = vectors[sample, :, -1] * values[sample, -1].sqrt()
        expected = positive_part(component.numpy(), activation)
        np.testing.assert_allclose(own[0], expected, atol=1e-5)


def test_kpca_cam_refuses_a_kernel_that_is_too_large():
    with pytest.raises(ValueError, match=r"at most 8192; the activation .* has 10000\. Choose"):
        functional.kpca_cam(torch.zeros(1, 2, 100, 100))


def test_element_wise_grad_cam_takes_relu_before_the_sum():
    activation = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]])
    gradient = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]])
    (found,) = functional.element_wise_grad_cam(activation, gradient)
    assert found.tolist() == [[[4.0, 1.0]]]


def test_le_grad_averages_positive_gradients():
    gradient = torch.tensor([[[1.0, -1.0], [3.0, -1.0]]])
    (found,) = functional.le_grad(torch.rand(1, 2, 2), gradient)
    assert found.tolist() == [[[2.0, 0.0]]]


@pytest.mark.parametrize(
    "rule", [functional.eigen_grad_cam, functional.element_wise_grad_cam, functional.le_grad]
)
def test_an_activation_and_gradient_of_different_shapes_are_refused(rule):
    with pytest.raises(ValueError, match="of the same shape; received"):
        rule(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
