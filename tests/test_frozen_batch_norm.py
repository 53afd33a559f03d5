"""Batch normalisation without its input: the same values and gradients, and nothing kept."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_3dcam import GlobalLocalCAM2D
from captum_3dcam import _frozen_batch_norm as lean
from captum_3dcam._frozen_batch_norm import LeanBatchNorm, lean_graph

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    monkeypatch.setattr(lean, "_SMALLEST", 1)


def norm_of(rank, channels, *, affine=True, dtype=torch.float32):
    """With statistics and weights that are all different."""
    norm = NORMS[rank](channels, affine=affine)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.running_var, *norm.parameters()):
            tensor.copy_(torch.rand(channels, generator=generator) + 0.5)
    return norm.eval().to(dtype)


def saved_by(run):
    """What the graph of ``run`` keeps, and the gradient of its output's weighted sum."""
    shapes = []

    def pack(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    return shapes, output


def gradient(output, x):
    weights = torch.linspace(-1, 2, output.numel()).reshape(output.shape).to(output.dtype)
    return torch.autograd.grad(output, x, weights)[0]


@given(
    rank=st.integers(1, 3),
    channels=st.integers(1, 4),
    batch=st.integers(1, 3),
    side=st.integers(1, 4),
    affine=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_values_are_equal_and_gradients_are_those_of_pytorch(
    rank, channels, batch, side, affine, dtype
):
    norm = norm_of(rank, channels, affine=affine, dtype=dtype)
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(batch, channels, *[side] * rank, generator=generator).to(dtype)
    x.requires_grad_()
    expected = norm(x)
    with LeanBatchNorm():
        kept, found = saved_by(lambda: norm(x))
    assert torch.equal(found, expected)
    assert found.grad_fn.name() == "_FrozenBatchNormBackward"
    assert kept == [(channels,)]
    # One rounding in 16 bits, and not one at each step.
    tolerance = {"atol": 1e-6, "rtol": 8e-3} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(gradient(found, x), gradient(expected, x), **tolerance)


def test_the_gradient_is_that_of_finite_differences():
    norm, x = norm_of(2, 3).double(), torch.randn(2, 3, 2, 2).double().requires_grad_()
    with LeanBatchNorm():
        assert torch.autograd.gradcheck(norm, x)


def test_mixed_precision_comes_back_in_the_inputs_dtype():
    norm, x = norm_of(3, 4), torch.randn(2, 4, 2, 3, 3).bfloat16().requires_grad_()
    expected = gradient(norm(x), x)
    with LeanBatchNorm():
        found = gradient(norm(x), x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=2e-2)


def computed_weight(x):
    norm = norm_of(1, 3)
    return F.batch_norm(x, norm.running_mean, norm.running_var, x.mean((0, 2)), None)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(nn.BatchNorm1d(3).train(), id="statistics of the batch"),
        pytest.param(nn.BatchNorm1d(3, track_running_stats=False).eval(), id="no statistics"),
        pytest.param(computed_weight, id="a weight that was computed"),
        pytest.param(lambda x: norm_of(1, 3)(x.detach()) * x, id="no gradient wanted"),
    ],
)
def test_all_else_is_left_to_pytorch(run):
    x = torch.randn(4, 3, 5, requires_grad=True)
    expected = gradient(run(x), x)
    with LeanBatchNorm():
        found = run(x)
    assert torch.equal(gradient(found, x), expected)


def test_without_a_gradient_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(lean._FrozenBatchNorm, "apply", None)
    norm, x = norm_of(1, 3), torch.randn(2, 3, 4, requires_grad=True)
    with LeanBatchNorm():
        assert torch.equal(norm(x.detach()), norm(x.detach()))
        with pytest.raises(TypeError, match="not callable"):
            norm(x)


def test_statistics_that_are_missing_are_torchs_to_tell():
    x = torch.randn(2, 3, 4, requires_grad=True)
    with pytest.raises(RuntimeError) as expected:
        F.batch_norm(x, None, None)
    with LeanBatchNorm(), pytest.raises(RuntimeError) as found:
        F.batch_norm(x, None, None)
    assert str(found.value) == str(expected.value)


def test_what_is_small_is_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(lean, "_SMALLEST", 16)
    norm = norm_of(1, 3)
    with LeanBatchNorm():
        small = norm(torch.randn(1, 3, 5, requires_grad=True))
        large = norm(torch.randn(1, 3, 6, requires_grad=True))
        assert small.grad_fn.name() == "NativeBatchNormBackward0"
        assert large.grad_fn.name() == "_FrozenBatchNormBackward"
    assert not isinstance(lean_graph([torch.zeros(15)]), LeanBatchNorm)
    assert isinstance(lean_graph([torch.zeros(8), torch.zeros(8)]), LeanBatchNorm)


def test_subclasses_of_tensor_are_left_to_themselves():
    class Named(torch.Tensor):
        pass

    norm, x = norm_of(1, 3), torch.randn(2, 3, 4).as_subclass(Named).requires_grad_()
    expected = norm(x)
    with LeanBatchNorm():
        y = norm(x)
    assert type(y) is type(expected) is Named
    assert y.grad_fn.name() == expected.grad_fn.name()


def test_models_that_use_torch_func_run():
    norm, x = norm_of(1, 3), torch.randn(5, 2, 3, 4)
    per_sample = torch.func.vmap(torch.func.grad(lambda x: norm(x).square().sum()))
    expected = per_sample(x)
    with LeanBatchNorm():
        torch.testing.assert_close(per_sample(x), expected)


class Net(nn.Module):
    """Two convolutions with their norms, the second of them behind a checkpoint or not."""

    def __init__(self, recompute):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(2, 3, 3), norm_of(2, 3), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(3, 4, 3), norm_of(2, 4), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 3)
        self.recompute = recompute

    def forward(self, x):
        x = self.first(x)
        x = checkpoint(self.second, x, use_reentrant=False) if self.recompute else self.second(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("recompute", [False, True])
def test_an_explanation_is_the_same_also_through_a_checkpoint(recompute, monkeypatch):
    """A checkpoint runs its part again in the backward pass, which must keep as many tensors."""
    model, x = Net(recompute), torch.randn(2, 2, 8, 8)
    found = GlobalLocalCAM2D(model, ["first"]).attribute(x, target=1)
    monkeypatch.setattr(lean, "_SMALLEST", 2**60)
    expected = GlobalLocalCAM2D(Net(False), ["first"]).attribute(x, target=1)
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_the_modes_of_torch_are_as_they_were():
    with pytest.raises(RuntimeError, match="on purpose"), LeanBatchNorm():
        raise RuntimeError("on purpose")
    y = norm_of(1, 3)(torch.randn(2, 3, 4, requires_grad=True))
    assert y.grad_fn.name() == "NativeBatchNormBackward0"
