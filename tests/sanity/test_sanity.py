"""Randomised copies, perturbation curves and other labels, against oracles and worked numbers."""

import io
import sys
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import (
    GradientShap,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv_net, random_input
from PIL import Image
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as skimage_ssim
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from captum_3dcam import LayerwiseGlobalLocalCAM, LayerwiseHiResCAM
from captum_3dcam.sanity import (
    PerturbationCurve,
    absolute_rank_correlation,
    compare_models,
    label_sensitivity,
    normalized_structural_similarity,
    parameter_randomization,
    perturbation_curve,
    rank_correlation,
    structural_similarity,
)
from captum_3dcam.sanity import _seeded_request as asking

SIZES = {1: (16,), 2: (8, 6), 3: (4, 6, 6)}
shapes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 5), min_size=r, max_size=r))


@pytest.fixture(autouse=True)
def nothing_shown():
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's registry"


def edges(inputs, target=None):
    """No explanation at all: it looks at the input alone."""
    return inputs.diff(dim=-1, prepend=inputs[..., :1]).sum(1, keepdim=True).abs()


def everything(model):
    """What may not change, and where it lies."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict(keep_vars=True).items()},
        "tensors": [id(t) for t in (*model.parameters(), *model.buffers())],
        "flags": [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
    }


def assert_same(before, after):
    torch.testing.assert_close(before.pop("values"), after.pop("values"), rtol=0, atol=0)
    for key in ("torch", "numpy"):
        assert (np.asarray(before.pop(key)) == np.asarray(after.pop(key))).all(), key
    assert before == after


# --------------------------------------------------------------------------- how alike maps are


@settings(max_examples=60)
@given(shapes, st.integers(0, 10**6), st.integers(2, 9))
def test_rank_correlation_is_scipys_with_ties_or_without(size, seed, values):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(-values, values, (2, 3, 2, *size)).astype(float)
    found = rank_correlation(torch.tensor(a), torch.tensor(b))
    absolute = absolute_rank_correlation(torch.tensor(a), torch.tensor(b))
    for n in range(3):
        if np.ptp(a[n]) and np.ptp(b[n]):
            assert found[n].item() == pytest.approx(spearmanr(a[n].ravel(), b[n].ravel())[0])
        if np.ptp(abs(a[n])) and np.ptp(abs(b[n])):
            expected = spearmanr(abs(a[n]).ravel(), abs(b[n]).ravel())[0]
            assert absolute[n].item() == pytest.approx(expected)


def test_rank_correlation_sees_the_order_alone():
    x = torch.randn(2, 1, 3, 4, 5)
    assert rank_correlation(x, x.exp()).tolist() == [1, 1]
    assert rank_correlation(x, -(x**3)).tolist() == [-1, -1]
    assert absolute_rank_correlation(x, -(x**3)).tolist() == [1, 1]


def test_a_constant_map_has_no_rank_correlation_and_no_warning():
    x = torch.stack([torch.zeros(1, 4), torch.arange(4.0)[None]])
    found = rank_correlation(x, torch.arange(4.0).expand(2, 1, 4))
    assert found.isnan().tolist() == [True, False]
    assert rank_correlation(x, x)[0].isnan()
    # 0.1 is no number of the machine's: the mean of many may differ from it by rounding.
    assert rank_correlation(torch.full((1, 1, 777), 0.1), torch.rand(1, 1, 777)).isnan()


@pytest.mark.parametrize("size", [(23,), (11, 14), (12, 11, 13)])
def test_ssim_is_scikit_images(size):
    a, b = torch.rand(2, 2, 3, *size, dtype=torch.float64)
    b = 0.6 * a + 0.4 * b
    found = structural_similarity(a, b, torch.tensor([1.0, 0.5]))
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
        assert found[n].item() == pytest.approx(np.mean(expected), rel=1e-9)


def naive_ssim(a, b, data_range):
    """One map, window by window, each axis' window as long as it fits."""
    lengths = [min(11, size - (size + 1) % 2) for size in a.shape]
    axes = []
    for length in lengths:
        places = [i - length // 2 for i in range(length)]
        weights = np.array([np.exp(-(place**2) / (2 * 1.5**2)) for place in places])
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


def test_a_clip_of_one_frame_is_as_alike_as_its_image():
    a, b = torch.rand(2, 3, 1, 9, 13)
    for metric in (rank_correlation, normalized_structural_similarity):
        torch.testing.assert_close(metric(a[:, :, None], b[:, :, None]), metric(a, b))


def test_maps_that_cannot_be_compared_are_named():
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"got \(2, 1, 4, 4\) and \(2, 1, 8, 4\). Give both the"):
        rank_correlation(x, torch.rand(2, 1, 8, 4))
    with pytest.raises(ValueError, match="holds NaN or Inf, so it cannot be compared"):
        structural_similarity(x, x / 0)
    with pytest.raises(ValueError, match=r"with a spatial axis, .* got shape \(2, 4\)"):
        structural_similarity(x[:, 0, 0], x[:, 0, 0])


# --------------------------------------------------------------------- parameter randomisation


def watching(make_attribution, states, targets=None):
    """The same attribution, with the parameters that it saw and the targets that it was given."""

    def make(model):
        attribution = make_attribution(model)
        explain = getattr(attribution, "attribute", attribution)

        def explained(inputs, target=None, **options):
            states.append({name: value.clone() for name, value in model.state_dict().items()})
            if targets is not None:
                targets.append(target)
            return explain(inputs, target=target, **options)

        return explained

    return make


def changed(before, after):
    return {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_each_step_randomises_its_modules_and_no_others(rank, mode):
    model, x, states = conv_net(rank, depth=3), random_input(2, SIZES[rank]), []
    result = parameter_randomization(model, watching(lambda m: Saliency(m), states), x, mode=mode)
    assert result.steps == ("5", "2.0", "1.0", "0.0")
    original, *randomized = states
    assert not changed(model.state_dict(), original)
    for k, state in enumerate(randomized):
        expected = result.steps[: k + 1] if mode == "cascading" else [result.steps[k]]
        assert changed(original, state) == set(expected)
    for values in result.similarities.values():
        assert values.shape == (4, 2)


def test_both_modes_give_a_module_the_same_new_parameters():
    model, x = conv_net(2, depth=3), random_input(1, (6, 6))
    seen = {"cascading": [], "independent": []}
    for mode, states in seen.items():
        parameter_randomization(model, watching(lambda m: Saliency(m), states), x, mode=mode)
    for step, name in enumerate(("5", "2.0", "1.0", "0.0"), start=1):
        cascading, independent = (states[step][f"{name}.weight"] for states in seen.values())
        assert torch.equal(cascading, independent)
    # and none the same as another: one seed for all would give equal layers equal weights
    twins = nn.Sequential(*(nn.Linear(4, 4) for _ in "ab"))
    states = []
    metrics = {"rank_correlation": rank_correlation}
    make = watching(lambda m: Saliency(m), states)
    parameter_randomization(twins, make, torch.rand(1, 4), metrics=metrics)
    assert not torch.equal(states[-1]["0.weight"], states[-1]["1.weight"])


ATTRIBUTIONS = {
    "3DCAM": lambda m: LayerwiseGlobalLocalCAM(m, ["0", "1"]),
    "LayerGradCam": lambda m: LayerGradCam(m, m[0]),
    "Saliency": lambda m: Saliency(m),
    "IntegratedGradients": lambda m: IntegratedGradients(m),
    "NoiseTunnel": lambda m: NoiseTunnel(LayerwiseHiResCAM(m, "0")),
}
OPTIONS = {"IntegratedGradients": {"n_steps": 3}, "NoiseTunnel": {"nt_samples": 2}}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_any_attribution_of_any_rank(name, rank, batch):
    model, x = conv_net(rank), random_input(batch, SIZES[rank])
    result = parameter_randomization(
        model, ATTRIBUTIONS[name], x, attribute_kwargs=OPTIONS.get(name)
    )
    assert result.similarities["rank_correlation"].shape == (3, batch)
    assert (result.similarities["ssim"] <= 1).all()


def test_the_similarities_are_those_of_the_maps():
    model, x, maps = conv_net(2), random_input(2, (12, 12)), []

    def make(m):
        def explain(inputs, target):
            maps.append(Saliency(m).attribute(inputs, target=target, abs=False))
            return maps[-1]

        return explain

    result = parameter_randomization(model, make, x)
    original, *others = maps
    expected = Saliency(model).attribute(x.clone().requires_grad_(), model(x).argmax(1), abs=False)
    torch.testing.assert_close(original, expected)
    for k, other in enumerate(others):
        for n in range(2):
            a, b = original[n].flatten(), other[n].flatten()
            found = {name: values[k, n].item() for name, values in result.similarities.items()}
            assert found["rank_correlation"] == pytest.approx(spearmanr(a, b)[0])
            assert found["absolute_rank_correlation"] == pytest.approx(
                spearmanr(a.abs(), b.abs())[0]
            )
            a, b = (maps[n] / maps[n].abs().max() for maps in (original, other))
            ssim = skimage_ssim(
                a.numpy(),
                b.numpy(),
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=2.0,
            )
            assert found["ssim"] == pytest.approx(ssim, abs=1e-5)


def test_a_map_of_the_weights_changes_and_a_map_of_the_input_does_not():
    model, x = conv_net(2, channels=8), random_input(4, (16, 16))

    def signed_saliency(m):
        saliency = Saliency(m)
        return lambda inputs, target: saliency.attribute(inputs, target=target, abs=False)

    last = {
        name: {
            key: values[-1]
            for key, values in parameter_randomization(model, make, x).similarities.items()
        }
        for name, make in {"weights": signed_saliency, "input": lambda m: edges}.items()
    }
    for values in last["input"].values():
        torch.testing.assert_close(values, torch.ones(4).double())
    assert last["weights"]["rank_correlation"].abs().max() < 0.3
    assert last["weights"]["ssim"].max() < 0.5


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_the_model_stays_as_it_was(mode, error):
    model, x = conv_net(2, norm=True).train(), random_input(2, (6, 6))
    model[0].eval()
    model[1].requires_grad_(False)
    model.append(nn.Dropout())
    model.register_forward_hook(lambda *args: None)
    calls = []

    def make(m):
        def explain(inputs, target):
            calls.append(1)
            found = Saliency(m).attribute(inputs, target=target)
            m(inputs).sum().backward()
            if error is not None and len(calls) == 3:
                raise error
            return found + torch.rand(()) + np.random.rand()

        return explain

    before, kept = everything(model), x.clone()
    if error is None:
        parameter_randomization(model, make, x, mode=mode)
    else:
        with pytest.raises(error):
            parameter_randomization(model, make, x, mode=mode)
    assert len(calls) == (6 if error is None else 3)
    assert_same(before, everything(model))
    assert torch.equal(x, kept)
    assert not x.requires_grad


def test_the_copy_shares_nothing_with_the_model():
    model, x, copies = conv_net(1, norm=True), random_input(1, (8,)), []

    def make(m):
        copies.append(m)
        return Saliency(m)

    for mode in ("cascading", "independent"):
        parameter_randomization(model, make, x, mode=mode)
    own = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    for m in copies:
        assert m is not model
        assert not any(module._forward_pre_hooks for module in m.modules())
        assert not own & {t.data_ptr() for t in (*m.parameters(), *m.buffers())}
    assert len({id(m) for m in copies[:6]}) == 1, "the cascade goes on from its last step"


def test_the_seed_decides_and_nothing_else():
    model, x = conv_net(2), random_input(2, (8, 8))

    def run(seed):
        make = {"make_attribution": lambda m: Saliency(m), "inputs": x, "seed": seed}
        return parameter_randomization(model, **make).similarities["rank_correlation"]

    first = run(3)
    torch.rand(5)
    assert torch.equal(first, run(3))
    assert not torch.equal(first, run(4))

    drawn = []

    def make(m):
        return lambda inputs, target: drawn.append(np.random.rand()) or inputs

    for _ in range(2):
        np.random.rand()
        parameter_randomization(model, make, x)
    assert len(drawn) == 8
    assert len(set(drawn)) == 1


def test_random_attributions_draw_the_same_numbers_at_every_step():
    model, x = conv_net(2), random_input(2, (8, 8))

    def noise(inputs, target):
        return torch.rand(2, 1, 8, 8) + torch.tensor(np.random.rand(2, 1, 8, 8))

    result = parameter_randomization(model, lambda m: noise, x)
    assert (result.similarities["rank_correlation"] == 1).all()
    # GradientShap draws from NumPy and from torch: the head's bias alone is no change to it.
    shap = parameter_randomization(
        nn.Sequential(model, Bias(4)),
        lambda m: GradientShap(m),
        x,
        target=0,
        layers=["1"],
        attribute_kwargs={"baselines": torch.randn(6, 2, 8, 8), "n_samples": 3},
    )
    torch.testing.assert_close(shap.similarities["rank_correlation"], torch.ones(1, 2).double())


def test_of_accelerators_only_the_models_own_devices_are_seeded(monkeypatch):
    """Those alone are put back afterwards. No accelerator is needed to see which they are."""
    log = []

    class Backend:
        @contextmanager
        def device(self, device):
            log.append(device)
            yield

        def manual_seed(self, seed):
            log.append(seed)

    class Part:
        def __init__(self, device):
            self._parameters = {"weight": SimpleNamespace(device=torch.device(device))}
            self._buffers = {"absent": None}

    monkeypatch.setattr(torch, "get_device_module", lambda device: Backend())
    asking.seed_generators([Part("cpu"), Part("cuda:1"), Part("cuda:1"), Part("meta")], 5)
    assert log == [torch.device("cuda:1"), 5]


class Bias(nn.Module):
    """Parameters, and no way of its own to reset them."""

    def __init__(self, size):
        super().__init__()
        self.bias = nn.Parameter(torch.arange(float(size)))

    def forward(self, x):
        return x + self.bias


def test_the_original_target_is_kept():
    model, x, states, targets = conv_net(2), random_input(3, (8, 8)), [], []
    make = watching(lambda m: Saliency(m), states, targets)
    result = parameter_randomization(model, make, x)
    assert result.target == model(x).argmax(1).tolist()
    assert targets == [result.target] * 4
    targets.clear()
    assert parameter_randomization(model, make, x, target=2).target == 2
    assert targets == [2] * 4


@pytest.mark.parametrize("batch", [1, 2])
def test_one_score_per_sample_has_no_target(batch):
    model, targets = conv_net(2, classes=1), []
    make = watching(lambda m: Saliency(m), [], targets)
    assert parameter_randomization(model, make, random_input(batch, (6, 6))).target is None
    assert set(targets) == {None}


def test_batch_normalisation_forgets_its_statistics():
    model, x, states = conv_net(2, norm=True), random_input(2, (8, 8)), []
    norm = model[0][1]
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(2, 3)
    parameter_randomization(model, watching(lambda m: Saliency(m), states), x, layers="0.1")
    last = states[-1]
    assert last["0.1.running_mean"].tolist() == last["0.1.bias"].tolist() == [0, 0, 0]
    assert last["0.1.running_var"].tolist() == last["0.1.weight"].tolist() == [1, 1, 1]
    assert changed(states[0], last) == {"0.1"}


def test_batch_normalisation_without_weights_is_a_step():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False), nn.Flatten()).eval()
    result = parameter_randomization(model, lambda m: Saliency(m), random_input(1, (4, 4)))
    assert result.steps == ("1", "0")


def test_parameters_that_no_reset_reaches_have_their_values_permuted():
    model, states = nn.Sequential(Bias(50), nn.Flatten(), nn.Linear(50, 2)), []
    x = torch.rand(1, 1, 50)
    parameter_randomization(model, watching(lambda m: Saliency(m), states), x)
    before, after = states[0]["0.bias"], states[-1]["0.bias"]
    assert not torch.equal(before, after)
    assert torch.equal(before, after.sort().values)


def test_weight_normalisation_does_not_hide_the_weights():
    model, states = nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.Linear(5, 2)), []
    metrics = {"rank_correlation": rank_correlation}
    make = watching(lambda m: Saliency(m), states)
    result = parameter_randomization(model, make, torch.rand(1, 6), metrics=metrics)
    assert result.steps == ("1", "0.parametrizations.weight", "0")
    for name, value in states[0].items():
        assert not torch.equal(value, states[-1][name]), name
    assert list(result.similarities) == ["rank_correlation"]


class ResetOf(nn.Module):
    """A reset that writes through .data, one with an argument, or one for some parameters."""

    def __init__(self, kind):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.arange(30.0)), nn.Parameter(torch.arange(30.0))
        resets = {"data": self._data, "argument": self._argument, "replaced": self._replaced}
        self.reset_parameters = resets[kind]

    def _data(self):
        self.a.data.fill_(7)

    def _argument(self, gain):
        raise AssertionError

    def _replaced(self):
        self.a = nn.Parameter(torch.full((30,), 7.0))

    def forward(self, x):
        return x * self.a * self.b


@pytest.mark.parametrize("kind", ["data", "argument", "replaced"])
def test_every_kind_of_reset(kind):
    states = []
    make = watching(lambda m: Saliency(m), states)
    parameter_randomization(nn.Sequential(ResetOf(kind)), make, torch.rand(1, 1, 30), target=(0, 1))
    a, b = states[-1]["0.a"], states[-1]["0.b"]
    assert not torch.equal(b, torch.arange(30.0))
    assert torch.equal(b.sort().values, torch.arange(30.0))
    if kind == "argument":
        assert torch.equal(a.sort().values, torch.arange(30.0))
    else:
        assert (a == 7).all()


class Backwards(nn.Module):
    """Its head is registered first, and it has a parameter of its own for the input."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(3, 2), nn.Conv1d(1, 3, 3)
        self.position = nn.Parameter(torch.randn(1, 1, 9))
        self.attention = nn.MultiheadAttention(3, 1)

    def forward(self, x):
        x = self.body(x + self.position).movedim(2, 0)
        return self.head(self.attention(x, x, x)[0].mean(0))


def test_the_order_is_that_of_execution_and_the_root_comes_last():
    x = torch.rand(2, 1, 9)
    result = parameter_randomization(Backwards(), lambda m: Saliency(m), x)
    # MultiheadAttention runs its out_proj's parameters itself: it goes with what holds it.
    expected = ("head", "attention.out_proj", "attention", "body", "(model)")
    assert result.steps == expected


def test_layers_are_blocks_in_the_models_order():
    model, x, states = conv_net(2, depth=3, norm=True), random_input(1, (8, 8)), []
    make = watching(lambda m: Saliency(m), states)
    result = parameter_randomization(model, make, x, layers=["0", model[2], "5"])
    assert result.steps == ("5", "2", "0")
    assert changed(states[0], states[2]) - {"2.1"} == {"5", "2.0"}


def test_a_model_that_writes_into_its_input():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 3, 3), nn.Flatten()).eval()
    x = random_input(1, (6, 6))
    before = x.clone()
    result = parameter_randomization(model, lambda m: LayerwiseHiResCAM(m, "1"), x)
    assert result.steps == ("1",)
    assert torch.equal(x, before)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 3, 3)

    def forward(self, x, y, scale, offset=0.0):
        return self.conv(x + y).mean(2) * scale + offset


def test_several_inputs_and_additional_arguments():
    x, y, scale = torch.rand(2, 1, 8), torch.rand(2, 1, 8), torch.tensor([[1.0], [-1.0]])
    model, targets = TwoInputs(), []
    make = watching(lambda m: LayerwiseGlobalLocalCAM(m, "conv"), [], targets)
    result = parameter_randomization(model, make, (x, y), additional_forward_args=(scale, 2.0))
    assert targets[0] == model(x, y, scale, 2.0).argmax(1).tolist()
    assert targets[0] != model(x, y, scale.abs(), 2.0).argmax(1).tolist()
    assert result.steps == ("conv",)

    def first(m):
        return lambda inputs, target, **kw: Saliency(m).attribute(inputs, target=target, **kw)[0]

    result = parameter_randomization(model, first, (x, y), additional_forward_args=scale)
    assert result.similarities["ssim"].shape == (1, 2)
    with pytest.raises(TypeError, match="must give one tensor; this one gave tuple. Choose one"):
        parameter_randomization(model, Saliency, (x, y), additional_forward_args=scale)


def test_a_single_input_in_a_tuple():
    result = parameter_randomization(conv_net(2), Saliency, (random_input(2, (6, 6)),))
    assert result.similarities["ssim"].shape == (3, 2)


def test_an_attribution_of_the_original_is_refused():
    model, x = conv_net(2), random_input(1, (6, 6))
    saliency = Saliency(model)
    wrong = [
        lambda m: saliency,
        lambda m: saliency.attribute,
        lambda m: Saliency(lambda x: model(x)),
        lambda m: lambda inputs, target: Saliency(model).attribute(inputs, target=target),
    ]
    for make in wrong:
        with pytest.raises(ValueError, match="gave an attribution of the original model. Build it"):
            parameter_randomization(model, make, x)


def test_what_does_not_fit_is_named():
    model, x = conv_net(2), random_input(1, (6, 6))
    cases = [
        ({"mode": "both"}, "mode='both' is not known. Choose one of cascading, independent"),
        ({"layers": ["9"]}, "no layer named '9'. The nearest names are"),
        ({"layers": ["0.1", "4"]}, "layers has '0.1', without parameters. Choose layers that hav"),
        ({"layers": [nn.Linear(1, 1)]}, "does not belong to the model. Give the layers' dotted"),
        ({"metrics": {"mine": lambda a, b: 1.0}}, "'mine' returned float"),
        ({"metrics": {"mine": lambda a, b: a}}, r"'mine' returned \(1, 2, 6, 6\)"),
        ({"make_attribution": lambda m: lambda inputs, target: inputs / 0}, "holds NaN or Inf"),
    ]
    for changes, message in cases:
        arguments = {"make_attribution": Saliency, "inputs": x, **changes}
        with pytest.raises(ValueError, match=message):
            parameter_randomization(model, **arguments)
    with pytest.raises(ValueError, match="Flatten has no parameters, so nothing can be randomised"):
        parameter_randomization(nn.Flatten(), Saliency, x)
    with pytest.raises(ValueError, match="lazy modules without parameters yet. Run it once first"):
        parameter_randomization(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), Saliency, x)
    with pytest.raises(TypeError, match="model must be a torch.nn.Module; got function"):
        parameter_randomization(edges, Saliency, x)
    with pytest.raises(TypeError, match=r"Captum's, with .attribute\(\), .* got int"):
        parameter_randomization(model, lambda m: 3, x)
    with pytest.raises(TypeError, match="n_stpes"):
        parameter_randomization(model, IntegratedGradients, x, attribute_kwargs={"n_stpes": 3})


def test_models_that_return_no_tensor_need_a_target():
    class Dict(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            return {"out": self.net(x)}

    make = lambda m: Saliency(lambda x: m(x)["out"])  # noqa: E731
    x = random_input(1, (6, 6))
    with pytest.raises(TypeError, match="must return a tensor of scores; it returned dict"):
        parameter_randomization(Dict(), make, x)
    assert len(parameter_randomization(Dict(), make, x, target=1).steps) == 3


def test_a_model_that_cannot_be_copied_is_named():
    model = conv_net(2)
    model.cached = model[-1].weight * 1
    with pytest.raises(TypeError, match="copy.deepcopy cannot copy this Sequential"):
        parameter_randomization(model, Saliency, random_input(1, (6, 6)))


# ----------------------------------------------------------------- maps of other models, labels


def test_compare_models_is_one_for_the_model_itself_and_keeps_the_target():
    model, other, x = conv_net(2, seed=0), conv_net(2, seed=1), random_input(3, (12, 12))
    same = compare_models(Saliency, model, model, x)
    assert same.target == model(x).argmax(1).tolist()
    for values in same.similarities.values():
        torch.testing.assert_close(values, torch.ones(3).double())
    differ = compare_models(Saliency, model, other, x)
    a, b = (Saliency(m).attribute(x.clone().requires_grad_(), same.target) for m in (model, other))
    torch.testing.assert_close(differ.similarities["rank_correlation"], rank_correlation(a, b))
    assert differ.similarities["rank_correlation"].max() < 0.9


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_compare_models_leaves_both_as_they_were(error):
    models = [conv_net(2, norm=True, seed=seed).train() for seed in (0, 1)]
    before = [everything(model) for model in models]

    def make(m):
        def explain(inputs, target):
            m(inputs).sum().backward()
            if error is not None:
                raise error
            return inputs + torch.rand(())

        return explain

    if error is None:
        compare_models(make, *models, random_input(2, (6, 6)))
    else:
        with pytest.raises(error):
            compare_models(make, *models, random_input(2, (6, 6)))
    for model, state in zip(models, before, strict=True):
        assert_same(state, everything(model))


def test_label_sensitivity_compares_the_target_with_each_other_label():
    model, x = conv_net(2), random_input(2, (12, 12))
    maps = [Saliency(model).attribute(x.clone().requires_grad_(), target=t) for t in range(4)]
    result = label_sensitivity(Saliency(model), x, target=1, other_targets=[0, 3, [1, 2]])
    found = result.similarities["rank_correlation"]
    assert found.shape == (3, 2)
    torch.testing.assert_close(found[0], rank_correlation(maps[1], maps[0]))
    torch.testing.assert_close(found[1], rank_correlation(maps[1], maps[3]))
    assert found[2, 0].item() == pytest.approx(1)
    assert result.target == 1
    assert result.other_targets == (0, 3, [1, 2])


def test_random_labels_are_other_ones_all_different_and_the_seeds():
    model, x = conv_net(2, classes=5), random_input(3, (6, 6))
    result = label_sensitivity(Saliency(model), x, target=torch.tensor([0, 4, 2]), other_targets=4)
    drawn = np.array(result.other_targets)
    assert [sorted(column) for column in drawn.T] == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 3, 4]]
    draws = {
        tuple(label_sensitivity(Saliency(model), x, 0, 1, seed=seed).other_targets[0])
        for seed in range(12)
    }
    assert len(draws) > 1
    alone = label_sensitivity(Saliency(model), x[1:2], target=4, other_targets=4)
    assert list(alone.other_targets) == drawn[:, 1].tolist()


def test_labels_of_the_predicted_class():
    model, x = conv_net(2), random_input(2, (6, 6))
    for attribution in (Saliency(model), LayerwiseHiResCAM(lambda x: model(x), model[0])):
        result = label_sensitivity(attribution, x, other_targets=3)
        assert result.target == model(x).argmax(1).tolist()
        assert (np.array(result.other_targets) != np.array(result.target)).all()


def test_a_class_agnostic_map_is_one_for_every_label():
    result = label_sensitivity(edges, random_input(2, (6, 6)), target=0, other_targets=[1, 2])
    assert (result.similarities["rank_correlation"] == 1).all()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_label_sensitivity_leaves_the_model_as_it_was(error):
    model, x = conv_net(2, norm=True).train(), random_input(2, (6, 6))
    before, calls = everything(model), []

    def explain(inputs, target):
        calls.append(model(inputs))
        if error is not None and len(calls) == 2:
            raise error
        return inputs + torch.rand(()) + np.random.rand()

    if error is None:
        label_sensitivity(explain, x, target=0, other_targets=[1, 2])
    else:
        with pytest.raises(error):
            label_sensitivity(explain, x, target=0, other_targets=[1, 2])
    assert_same(before, everything(model))


def test_labels_that_do_not_fit_are_named():
    model, x = conv_net(2), random_input(2, (6, 6))
    with pytest.raises(ValueError, match="must be from 1 to the 3 other classes; got 4"):
        label_sensitivity(Saliency(model), x, other_targets=4)
    with pytest.raises(ValueError, match="other_targets is empty. Give at least one"):
        label_sensitivity(Saliency(model), x, target=0, other_targets=[])
    with pytest.raises(ValueError, match="A plain function does not say what its model is"):
        label_sensitivity(edges, x, target=0)
    dense = nn.Sequential(nn.Conv2d(2, 3, 1))
    with pytest.raises(ValueError, match=r"an output of shape \(2, 3, 6, 6\) and target=\(0, 1, 1"):
        label_sensitivity(Saliency(dense), x, target=(0, 1, 1))


# ------------------------------------------------------------------------ deletion and insertion


def weighted(x, weights):
    """A linear model of one score, and its exact attribution."""
    return lambda x: (x * weights).flatten(1).sum(1), (x * weights).sum(1, keepdim=True)


def test_deletion_and_insertion_by_hand():
    x = torch.tensor([[[1.0, 4.0, 2.0, 3.0]]])
    model = lambda x: x.sum(dim=(1, 2))  # noqa: E731
    common = {"attribution": x, "steps": 4, "output": "score", "baseline": "zero"}
    deleted = perturbation_curve(model, x, **common)
    assert deleted.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert deleted.scores.tolist() == [[10, 6, 3, 1, 0]]
    assert deleted.auc.item() == 0.25 * (8 + 4.5 + 2 + 0.5)
    assert deleted.normalized_auc.item() == pytest.approx(0.375)
    inserted = perturbation_curve(model, x, mode="insertion", **common)
    assert inserted.scores.tolist() == [[0, 4, 7, 9, 10]]
    assert inserted.auc.item() == 0.25 * (2 + 5.5 + 8 + 9.5)
    assert inserted.normalized_auc.item() == pytest.approx(0.625)
    halves = perturbation_curve(model, x, **{**common, "steps": 2})
    assert halves.scores.tolist() == [[10, 3, 0]]
    thirds = perturbation_curve(model, x, **{**common, "steps": 3})
    assert thirds.fractions.tolist() == [0, 0.25, 0.75, 1]  # 4/3 and 8/3, to the nearest
    assert thirds.scores.tolist() == [[10, 6, 1, 0]]


def test_normalised_auc_by_hand():
    scores = torch.tensor([[0.8, 0.4, 0.2], [0.2, 0.6, 0.8], [0.5, 0.9, 0.5]]).double()
    curve = PerturbationCurve("deletion", "probability", torch.tensor([0, 0.5, 1]).double(), scores)
    # (0.8 + 0.4) / 4 + (0.4 + 0.2) / 4; and the second's baseline scores higher than its input
    np.testing.assert_allclose(curve.auc, [0.45, 0.55, 0.7])
    expected = [[1, 1 / 3, 0], [1, 1 / 3, 0], [np.nan] * 3]
    np.testing.assert_allclose(curve.normalized_scores, expected, atol=1e-12)
    np.testing.assert_allclose(curve.normalized_auc, [5 / 12, 5 / 12, np.nan])
    inserted = PerturbationCurve("insertion", "probability", curve.fractions, scores)
    expected = [[0, 2 / 3, 1], [0, 2 / 3, 1], [np.nan] * 3]
    np.testing.assert_allclose(inserted.normalized_scores, expected, atol=1e-12)
    np.testing.assert_allclose(inserted.normalized_auc, [7 / 12, 7 / 12, np.nan])


def test_ends_that_differ_by_rounding_are_equal():
    scores = torch.tensor(
        [[0.7, 0.1, 0.7 + 1e-8], [0.7, 0.1, 0.7 + 1e-4], [0.0, 1.0, 0.0]], dtype=torch.float64
    )
    curve = PerturbationCurve("deletion", "score", torch.tensor([0, 0.5, 1]).double(), scores)
    assert curve.normalized_auc.isnan().tolist() == [True, False, True]


@settings(max_examples=40)
@given(shapes, st.integers(0, 10**6), st.data())
def test_curves_of_a_linear_model_are_its_sorted_sums(size, seed, data):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, *size, generator=generator, dtype=torch.float64)
    model, attribution = weighted(x, weights)
    places = int(np.prod(size))
    steps = data.draw(st.integers(1, places))
    batch_size = data.draw(st.none() | st.integers(1, 7))
    common = {"steps": steps, "output": "score", "baseline": 0.0, "batch_size": batch_size}
    deleted = perturbation_curve(model, x, attribution, **common)
    inserted = perturbation_curve(model, x, attribution, mode="insertion", **common)
    for n in range(2):
        order = np.sort(attribution[n].numpy().ravel())[::-1]
        counts = [int(np.floor(k * places / steps + 0.5)) for k in range(steps + 1)]
        top = np.array([order[:m].sum() for m in counts])
        np.testing.assert_allclose(deleted.scores[n], order.sum() - top, atol=1e-9)
        np.testing.assert_allclose(inserted.scores[n], top, atol=1e-9)
        np.testing.assert_allclose(deleted.fractions, np.array(counts) / places)
        area = np.trapezoid(deleted.scores[n], np.array(counts) / places)
        assert deleted.auc[n].item() == pytest.approx(area)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_insertion_is_deletion_the_other_way_round(rank):
    model, x, bare = (
        conv_net(rank),
        random_input(2, SIZES[rank]),
        random_input(2, SIZES[rank], seed=1),
    )
    attribution = torch.randn(2, 1, *SIZES[rank])
    ask = {"target": 1, "steps": 8}
    inserted = perturbation_curve(model, x, attribution, mode="insertion", baseline=bare, **ask)
    # The same exchange, with the names of input and baseline exchanged.
    swapped = perturbation_curve(model, bare, attribution, baseline=x, **ask)
    torch.testing.assert_close(inserted.scores, swapped.scores)
    # Inserting the most important first, read backwards, deletes the least important first.
    least = perturbation_curve(model, x, -attribution, baseline=bare, **ask)
    torch.testing.assert_close(inserted.scores, least.scores.flip(1))
    torch.testing.assert_close(inserted.auc, least.auc)
    torch.testing.assert_close(inserted.normalized_auc, least.normalized_auc)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_curves_equal_loops(rank, mode):
    model, x = conv_net(rank), random_input(2, SIZES[rank])
    attribution, bare = torch.randn(2, 1, *SIZES[rank]), torch.randn(2, 2, *SIZES[rank])
    curve = perturbation_curve(model, x, attribution, mode=mode, baseline=bare, steps=6)
    places = int(np.prod(SIZES[rank]))
    for n, k in product(range(2), range(7)):
        ranking = np.argsort(-attribution[n].flatten().numpy())
        old, new = (x, bare) if mode == "deletion" else (bare, x)
        mixed = old[n].flatten(1).clone()
        for place in ranking[: int(k * places / 6 + 0.5)]:
            mixed[:, place] = new[n].flatten(1)[:, place]
        target = model(x)[n].argmax()
        expected = model(mixed.view(1, 2, *SIZES[rank])).softmax(1)[0, target]
        assert curve.scores[n, k].item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_batch_equals_its_samples_whatever_the_batch_size():
    model, x = conv_net(2), random_input(3, (6, 6))
    attribution = torch.randint(0, 3, (3, 1, 6, 6)).float()
    together = perturbation_curve(model, x, attribution, steps=9)
    for batch_size in (1, 2, 1000):
        found = perturbation_curve(model, x, attribution, steps=9, batch_size=batch_size)
        torch.testing.assert_close(found.scores, together.scores)
    for n in range(3):
        alone = perturbation_curve(model, x[n : n + 1], attribution[n : n + 1], steps=9)
        torch.testing.assert_close(alone.scores[0], together.scores[n])


def test_ties_come_in_the_seeds_order():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    model = lambda x: x.flatten(1).sum(1)  # noqa: E731
    flat = torch.zeros_like(x)
    ask = {"steps": 64, "output": "score"}
    curves = [perturbation_curve(model, x, flat, seed=seed, **ask) for seed in range(20)]
    raster = 2016 - np.cumsum([0, *range(64)])
    assert all(np.abs(curve.scores[0].numpy() - raster).max() > 100 for curve in curves)
    assert len({tuple(curve.scores[0].tolist()) for curve in curves}) == 20
    again = perturbation_curve(model, x, flat, seed=7, **ask)
    assert torch.equal(again.scores, curves[7].scores)
    mean = np.mean([curve.normalized_auc.item() for curve in curves])
    assert mean == pytest.approx(0.5, abs=0.04)
    # What is not tied stays in order: the ones first, then the zeros.
    ones = (x >= 32).float()
    curve = perturbation_curve(model, x, ones, **ask)
    assert curve.scores[0, 32].item() == sum(range(32))


def test_baselines():
    x = random_input(2, (5, 6, 7)).double()
    seen = []

    def model(x):
        seen.append(x.clone())
        return x.flatten(1).sum(1)

    def bare(baseline, mode="deletion"):
        seen.clear()
        common = {"steps": 1, "output": "score", "mode": mode}
        perturbation_curve(model, x, torch.randn(2, 1, 5, 6, 7), baseline=baseline, **common)
        return seen[-1] if mode == "deletion" else seen[1]

    assert not bare("zero").any()
    means = bare("mean")
    for n, c in product(range(2), range(2)):
        np.testing.assert_allclose(means[n, c], np.full((5, 6, 7), x[n, c].numpy().mean()))
    blurred = naive_blur(x)
    np.testing.assert_allclose(bare("blur"), blurred, atol=1e-12)
    given = torch.randn(2, 1, 1, 1)
    for baseline in (given, lambda x: given, lambda x: given.float()):
        np.testing.assert_allclose(bare(baseline), given.expand_as(x), rtol=1e-6)
    assert (bare(0.25) == 0.25).all()
    assert (bare(0) == 0).all()
    # The paper's: nothing for deletion, a blur to start insertion from.
    assert not bare(None).any()
    np.testing.assert_allclose(bare(None, "insertion"), blurred, atol=1e-12)


def naive_blur(x):
    blurred = x.numpy().copy()
    for axis in range(2, x.ndim):
        length, before = x.shape[axis], blurred.copy()
        for i in range(length):
            weights = [np.exp(-0.5 * ((i - j) / (0.1 * length)) ** 2) for j in range(length)]
            rows = [w * before.take(j, axis) for j, w in enumerate(weights)]
            index = tuple(slice(None) if a != axis else i for a in range(x.ndim))
            blurred[index] = sum(rows) / sum(weights)
    return blurred


def test_a_blur_keeps_a_constant_and_its_mean():
    x = torch.full((1, 1, 4, 9), 3.0)
    seen = []
    model = lambda x: seen.append(x) or x.flatten(1).sum(1)  # noqa: E731
    common = {"steps": 1, "output": "score", "baseline": "blur"}
    perturbation_curve(model, x, torch.rand(1, 1, 4, 9), **common)
    torch.testing.assert_close(seen[-1], x)


def test_a_model_that_writes_into_its_input_has_a_curve():
    x = random_input(2, (6, 6))
    model = lambda x: x.relu_().flatten(1).sum(1)  # noqa: E731
    before = x.clone()
    attribution = x.sum(1, keepdim=True)
    curve = perturbation_curve(model, x, attribution, steps=6, output="score")
    assert torch.equal(x, before)
    torch.testing.assert_close(curve.scores[:, 0].float(), x.relu().flatten(1).sum(1))


def test_no_forward_is_larger_than_batch_size():
    model, x, sizes = conv_net(2), random_input(5, (6, 6)), []
    forward = lambda x: sizes.append(len(x)) or model(x)  # noqa: E731
    curve = perturbation_curve(forward, x, torch.rand(5, 1, 6, 6), steps=4, batch_size=2)
    assert max(sizes) == 2
    assert curve.target == model(x).argmax(1).tolist()


def test_outputs():
    model, x = conv_net(2), random_input(2, (6, 6))
    attribution, common = torch.rand(2, 1, 6, 6), {"target": [3, 1], "steps": 1}
    scores = model(x)[[0, 1], [3, 1]].double()
    softmax = model(x).softmax(1)[[0, 1], [3, 1]].double()
    for output, expected in (
        ("score", scores),
        ("probability", softmax),
        (torch.sigmoid, scores.sigmoid()),
    ):
        curve = perturbation_curve(model, x, attribution, output=output, **common)
        torch.testing.assert_close(curve.scores[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert curve.output == "sigmoid"
    one = conv_net(2, classes=1)
    curve = perturbation_curve(one, x, attribution, output=torch.sigmoid, steps=3)
    torch.testing.assert_close(curve.scores[:, 0], one(x)[:, 0].double().sigmoid())


@pytest.mark.parametrize("target", [[3, 1], torch.tensor([3, 1]), np.array([3, 1])])
def test_a_target_for_each_sample_goes_with_it(target):
    model, x = conv_net(2), random_input(2, (6, 6))
    curve = perturbation_curve(model, x, torch.rand(2, 1, 6, 6), target, steps=7, batch_size=3)
    for column, image in ((0, x), (-1, x * 0)):
        expected = model(image).softmax(1)[[0, 1], [3, 1]]
        torch.testing.assert_close(curve.scores[:, column].float(), expected)


@pytest.mark.parametrize("target", [2, torch.tensor(2), torch.tensor([2]), np.int64(2)])
def test_a_target_for_all(target):
    model, x = conv_net(2), random_input(2, (6, 6))
    curve = perturbation_curve(model, x, torch.rand(2, 1, 6, 6), target, steps=2)
    torch.testing.assert_close(curve.scores[:, 0].float(), model(x).softmax(1)[:, 2])


def test_dense_outputs_take_tuples():
    model, x = nn.Conv2d(2, 3, 1), random_input(2, (4, 4))
    for target in ((1, 2, 3), [(1, 2, 3), (0, 0, 1)]):
        curve = perturbation_curve(model, x, torch.rand(2, 1, 4, 4), target, steps=3)
        entries = target if isinstance(target, list) else [target] * 2
        expected = [model(x).softmax(1)[(n, *entries[n])].item() for n in range(2)]
        np.testing.assert_allclose(curve.scores[:, 0], expected, rtol=1e-5)


def test_additional_arguments_go_with_their_samples():
    x, factors = torch.rand(2, 1, 5), torch.tensor([1.0, 100.0])

    def model(x, factor, offset):
        return x.sum(dim=(1, 2)) * factor + offset

    curve = perturbation_curve(
        model,
        x,
        x,
        steps=5,
        batch_size=3,
        output="score",
        additional_forward_args=(factors, torch.tensor(0.5)),
    )
    expected = perturbation_curve(lambda x: x.sum(dim=(1, 2)), x, x, steps=5, output="score")
    torch.testing.assert_close(curve.scores, expected.scores * factors[:, None].double() + 0.5)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_curves_leave_the_model_as_it_was(error):
    model, x = conv_net(2, norm=True).train(), random_input(3, (6, 6)).requires_grad_()
    model[0].eval()
    before, calls = everything(model), []

    def forward(inputs):
        calls.append(inputs)
        assert not torch.is_grad_enabled()
        assert model.training
        if error is not None and len(calls) == 3:
            raise error
        return model(inputs) + torch.rand(())

    def run():
        attribution = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        return perturbation_curve(forward, x, attribution.requires_grad_(), steps=4)

    if error is None:
        assert not run().scores.requires_grad
    else:
        with pytest.raises(error):
            run()
    assert_same(before, everything(model))
    assert x.grad is None
    assert torch.is_grad_enabled()


def test_a_good_map_beats_its_reverse():
    """The score is read from one corner of space-time, and the map says so."""
    x = torch.rand(2, 1, 4, 6, 6) + 1
    model = lambda x: x[:, :, :2, :3, :3].flatten(1).sum(1)  # noqa: E731
    attribution = torch.zeros_like(x)
    attribution[:, :, :2, :3, :3] = 1
    ask = {"steps": 16, "output": "score"}
    auc = {
        (mode, sign): perturbation_curve(
            model, x, sign * attribution, mode=mode, baseline="zero", **ask
        )
        .normalized_auc.max()
        .item()
        for mode, sign in product(("deletion", "insertion"), (1, -1))
    }
    assert auc["deletion", 1] < 0.1 < 0.9 < auc["deletion", -1]
    assert auc["insertion", -1] < 0.1 < 0.9 < auc["insertion", 1]


def test_curves_that_do_not_fit_are_named():
    model, x, a = conv_net(2), random_input(2, (6, 6)), torch.rand(2, 1, 6, 6)
    cases = [
        ({"attribution": torch.rand(2, 2, 6, 6)}, r"\(2, 1, 6, 6\), .* got \(2, 2, 6, 6\). Sum ov"),
        ({"attribution": torch.rand(2, 1, 3, 3)}, "with captum_3dcam.functional.upsample"),
        ({"attribution": (a,)}, "got tuple. Sum over channels"),
        ({"attribution": a * torch.nan}, "holds NaN, so its places have no order"),
        ({"inputs": x[:, 0, 0]}, r"one tensor \(N, C, \*S\); got \(2, 6\)"),
        ({"inputs": (x, x)}, "got tuple. What else the model takes goes"),
        ({"mode": "both"}, "mode='both' is not known. Choose one of deletion, insertion"),
        ({"steps": 37}, "steps must be from 1 to the 36 places of the map; got 37"),
        ({"steps": 0}, "steps must be from 1 to the 36 places"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"baseline": "black"}, "baseline='black' is not known. Choose one of zero, mean, blur"),
        (
            {"baseline": torch.rand(5, 5)},
            r"shape \(5, 5\), which does not broadcast to .*\(2, 2, 6",
        ),
        ({"output": "logit"}, "output='logit' is not known. Choose one of probability, score"),
        ({"target": [1]}, "1 entries for a batch of 2"),
        (
            {"forward_func": lambda x: x.sum(dim=(1, 2, 3))},
            "Pass output='score', or output=torch.s",
        ),
        (
            {"forward_func": lambda x: x.sum(), "output": "score"},
            r"scores batch first, .* shape \(\) came for 2",
        ),
        ({"forward_func": lambda x: x}, "needs a target"),
    ]
    for changes, message in cases:
        ask = {"forward_func": model, "inputs": x, "attribution": a, "steps": 4, **changes}
        with pytest.raises(ValueError, match=message):
            perturbation_curve(**ask)
    with pytest.raises(IndexError, match="target 4 is out of range"):
        perturbation_curve(model, x, a, target=4, steps=4)
    with pytest.raises(TypeError, match="must return a tensor of scores; it returned list"):
        perturbation_curve(lambda x: [model(x)], x, a, steps=4)


# ---------------------------------------------------------------------------- bars and pictures


def long_ones(progress):
    model, x = conv_net(1), random_input(2, (8,))
    yield lambda: parameter_randomization(model, Saliency, x, progress=progress)
    yield lambda: perturbation_curve(model, x, torch.rand(2, 1, 8), steps=8, progress=progress)
    yield lambda: label_sensitivity(Saliency(model), x, progress=progress)


def test_bars_count_what_is_done(capsys):
    pytest.importorskip("tqdm")
    ends = ("3/3", "9/9", "3/3")
    for run, end in zip(long_ones(True), ends, strict=True):
        run()
        assert end in capsys.readouterr().err
    for run in long_ones(False):
        run()
        assert capsys.readouterr().err == ""


def test_a_bar_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for run in long_ones(True):
        with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[progress\]'"):
            run()
    for run in long_ones(False):
        run()


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_a_plot_of_the_randomisation(mode):
    model, x = conv_net(2, depth=3), random_input(3, (8, 8))
    result = parameter_randomization(model, Saliency, x, mode=mode)
    fig, ax = result.plot(title="Saliency")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(result.steps)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"rank correlation", "absolute rank correlation", "SSIM"}
    means = result.similarities["ssim"].mean(dim=1)
    np.testing.assert_allclose(lines["SSIM"].get_ydata(), means)
    assert len({line.get_color() for line in lines.values()}) == 3
    assert len({line.get_marker() for line in lines.values()}) == 3
    styles = {"-", "--", "-."} if mode == "cascading" else {"None"}
    assert {line.get_linestyle() for line in lines.values()} == styles
    assert ax.get_ylim()[0] < 0
    assert ax.get_ylim()[1] > 1
    assert ax.get_ylabel() == "similarity to the model's map"
    assert ax.get_title() == "Saliency"
    assert pixels(fig).min() < 128


def test_a_constant_map_is_left_out_of_the_plot_without_a_warning():
    def make(m):
        return lambda inputs, target: inputs * torch.tensor([0.0, 1.0]).view(2, 1, 1)

    result = parameter_randomization(conv_net(1), make, random_input(2, (8,)))
    assert result.similarities["rank_correlation"][:, 0].isnan().all()
    fig, ax = result.plot()
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([1, 1, 1])
    pixels(fig)
    result.similarities["rank_correlation"].fill_(torch.nan)
    pixels(result.plot()[0])


def test_many_steps_keep_legible_labels():
    model = nn.Sequential(*(nn.Conv1d(1, 1, 1) for _ in range(90)), nn.Flatten())
    result = parameter_randomization(model, lambda m: edges, torch.rand(1, 1, 4))
    fig, ax = result.plot()
    assert len(result.steps) == 90
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert len(labels) == 30
    assert labels[:2] == ["89", "86"]
    pixels(fig)


def test_a_plot_of_curves_on_one_axis():
    model, x = conv_net(2), random_input(3, (6, 6))
    good, bad = (
        perturbation_curve(model, x, torch.rand(3, 1, 6, 6), target, steps=6, mode="insertion")
        for target in model(x).mean(0).argsort()[[0, -1]]  # the second one lies higher
    )
    fig, ax = good.plot(label="ours")
    assert bad.plot((fig, ax), label="theirs", title="insertion") == (fig, ax)
    ours, theirs = ax.lines
    np.testing.assert_allclose(ours.get_xdata(), good.fractions)
    np.testing.assert_allclose(ours.get_ydata(), good.scores.mean(0))
    assert ours.get_label() == f"ours, AUC {good.auc.mean():.3f}"
    assert ours.get_color() != theirs.get_color()
    assert ours.get_linestyle() != theirs.get_linestyle()
    assert ax.get_xlabel() == "share of space-time inserted"
    assert ax.get_ylabel() == "probability of the target"
    low, high = ax.get_ylim()
    assert low <= 0
    assert high > max(curve.scores.mean(0).max() for curve in (good, bad))
    assert pixels(fig).min() < 128
    figure, axes = plt.subplots(1, 2)
    assert good.plot((figure, axes[1])) == (figure, axes[1])
    assert [len(a.lines) for a in axes] == [0, 1]
    plt.close(figure)
