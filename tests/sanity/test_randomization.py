"""Parameter randomisation: steps, order, random numbers, state, and plots."""

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
from networks import conv_net, random_input
from sanity_helpers import SIZES, assert_same, edges, pixels, recording, state_of
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as skimage_ssim
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from captum_3dcam import LayerwiseGlobalLocalCAM, LayerwiseHiResCAM
from captum_3dcam.sanity import MapComparison, parameter_randomization, rank_correlation


def changed(before, after):
    return {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_each_step_randomises_only_its_modules(rank, mode):
    model, x, states = conv_net(rank, depth=3), random_input(2, SIZES[rank]), []
    result = parameter_randomization(model, recording(lambda m: Saliency(m), states), x, mode=mode)
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
        parameter_randomization(model, recording(lambda m: Saliency(m), states), x, mode=mode)
    for step, name in enumerate(("5", "2.0", "1.0", "0.0"), start=1):
        cascading, independent = (states[step][f"{name}.weight"] for states in seen.values())
        assert torch.equal(cascading, independent)
    # But modules differ: one seed for all would give equal layers equal weights.
    twins = nn.Sequential(*(nn.Linear(4, 4) for _ in "ab"))
    states = []
    make = recording(lambda m: Saliency(m), states)
    parameter_randomization(twins, make, torch.rand(1, 4), comparison=RANKS)
    assert not torch.equal(states[-1]["0.weight"], states[-1]["1.weight"])


RANKS = MapComparison({"rank_correlation": rank_correlation})
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
    comparison = MapComparison(attribute_kwargs=OPTIONS.get(name, {}))
    result = parameter_randomization(model, ATTRIBUTIONS[name], x, comparison=comparison)
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
            similarity = {name: values[k, n].item() for name, values in result.similarities.items()}
            assert similarity["rank_correlation"] == pytest.approx(spearmanr(a, b)[0])
            assert similarity["absolute_rank_correlation"] == pytest.approx(
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
            assert similarity["ssim"] == pytest.approx(ssim, abs=1e-5)


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
def test_the_model_does_not_change(mode, error):
    model, x = conv_net(2, norm=True).train(), random_input(2, (6, 6))
    model[0].eval()
    model[1].requires_grad_(False)
    model.append(nn.Dropout())
    model.register_forward_hook(lambda *args: None)
    calls = []

    def make(m):
        def explain(inputs, target):
            calls.append(1)
            saliency = Saliency(m).attribute(inputs, target=target)
            m(inputs).sum().backward()
            if error is not None and len(calls) == 3:
                raise error
            return saliency + torch.rand(()) + np.random.rand()

        return explain

    before, kept = state_of(model), x.clone()
    if error is None:
        parameter_randomization(model, make, x, mode=mode)
    else:
        with pytest.raises(error):
            parameter_randomization(model, make, x, mode=mode)
    assert len(calls) == (6 if error is None else 3)
    assert_same(before, state_of(model))
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
    assert len({id(m) for m in copies[:6]}) == 1, "the cascade continues from its last step"


def test_results_depend_on_the_seed_alone():
    model, x = conv_net(2), random_input(2, (8, 8))

    def run(seed):
        comparison = MapComparison(seed=seed)
        result = parameter_randomization(model, Saliency, x, comparison=comparison)
        return result.similarities["rank_correlation"]

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
    # GradientShap draws from NumPy and torch. It does not depend on the bias of the head.
    options = {"baselines": torch.randn(6, 2, 8, 8), "n_samples": 3}
    shap = parameter_randomization(
        nn.Sequential(model, Bias(4)),
        lambda m: GradientShap(m),
        x,
        target=0,
        layers=["1"],
        comparison=MapComparison(attribute_kwargs=options),
    )
    torch.testing.assert_close(shap.similarities["rank_correlation"], torch.ones(1, 2).double())


class Bias(nn.Module):
    """Parameters without reset_parameters()."""

    def __init__(self, size):
        super().__init__()
        self.bias = nn.Parameter(torch.arange(float(size)))

    def forward(self, x):
        return x + self.bias


def test_the_target_is_that_of_the_original_model():
    model, x, states, targets = conv_net(2), random_input(3, (8, 8)), [], []
    make = recording(lambda m: Saliency(m), states, targets)
    result = parameter_randomization(model, make, x)
    assert result.target == model(x).argmax(1).tolist()
    assert targets == [result.target] * 4
    targets.clear()
    assert parameter_randomization(model, make, x, target=2).target == 2
    assert targets == [2] * 4


@pytest.mark.parametrize("batch", [1, 2])
def test_one_score_per_sample_has_no_target(batch):
    model, targets = conv_net(2, classes=1), []
    make = recording(lambda m: Saliency(m), [], targets)
    assert parameter_randomization(model, make, random_input(batch, (6, 6))).target is None
    assert set(targets) == {None}


def test_the_statistics_of_batch_normalisation_are_reset():
    model, x, states = conv_net(2, norm=True), random_input(2, (8, 8)), []
    norm = model[0][1]
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(2, 3)
    parameter_randomization(model, recording(lambda m: Saliency(m), states), x, layers="0.1")
    last = states[-1]
    assert last["0.1.running_mean"].tolist() == last["0.1.bias"].tolist() == [0, 0, 0]
    assert last["0.1.running_var"].tolist() == last["0.1.weight"].tolist() == [1, 1, 1]
    assert changed(states[0], last) == {"0.1"}


def test_batch_normalisation_without_weights_is_a_step():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False), nn.Flatten()).eval()
    result = parameter_randomization(model, lambda m: Saliency(m), random_input(1, (4, 4)))
    assert result.steps == ("1", "0")


def test_parameters_that_no_reset_changes_are_permuted():
    model, states = nn.Sequential(Bias(50), nn.Flatten(), nn.Linear(50, 2)), []
    x = torch.rand(1, 1, 50)
    parameter_randomization(model, recording(lambda m: Saliency(m), states), x)
    before, after = states[0]["0.bias"], states[-1]["0.bias"]
    assert not torch.equal(before, after)
    assert torch.equal(before, after.sort().values)


def test_weight_normalisation_is_randomised():
    model, states = nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.Linear(5, 2)), []
    make = recording(lambda m: Saliency(m), states)
    result = parameter_randomization(model, make, torch.rand(1, 6), comparison=RANKS)
    assert result.steps == ("1", "0.parametrizations.weight", "0")
    for name, value in states[0].items():
        assert not torch.equal(value, states[-1][name]), name
    assert list(result.similarities) == ["rank_correlation"]


class ResetOf(nn.Module):
    """A reset that writes through .data, needs an argument, or replaces a parameter."""

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
    make = recording(lambda m: Saliency(m), states)
    parameter_randomization(nn.Sequential(ResetOf(kind)), make, torch.rand(1, 1, 30), target=(0, 1))
    a, b = states[-1]["0.a"], states[-1]["0.b"]
    assert not torch.equal(b, torch.arange(30.0))
    assert torch.equal(b.sort().values, torch.arange(30.0))
    if kind == "argument":
        assert torch.equal(a.sort().values, torch.arange(30.0))
    else:
        assert (a == 7).all()


class Backwards(nn.Module):
    """Its head is registered first, and it has a parameter itself, for the input."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(3, 2), nn.Conv1d(1, 3, 3)
        self.position = nn.Parameter(torch.randn(1, 1, 9))
        self.attention = nn.MultiheadAttention(3, 1)

    def forward(self, x):
        x = self.body(x + self.position).movedim(2, 0)
        return self.head(self.attention(x, x, x)[0].mean(0))


def test_steps_are_in_execution_order_and_the_root_comes_last():
    x = torch.rand(2, 1, 9)
    result = parameter_randomization(Backwards(), lambda m: Saliency(m), x)
    # MultiheadAttention does not call its out_proj, which goes with its parent.
    expected = ("head", "attention.out_proj", "attention", "body", "(model)")
    assert result.steps == expected


def test_layers_are_blocks_in_the_order_of_the_model():
    model, x, states = conv_net(2, depth=3, norm=True), random_input(1, (8, 8)), []
    make = recording(lambda m: Saliency(m), states)
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
    make = recording(lambda m: LayerwiseGlobalLocalCAM(m, "conv"), [], targets)
    result = parameter_randomization(
        model, make, (x, y), comparison=MapComparison(additional_forward_args=(scale, 2.0))
    )
    assert targets[0] == model(x, y, scale, 2.0).argmax(1).tolist()
    assert targets[0] != model(x, y, scale.abs(), 2.0).argmax(1).tolist()
    assert result.steps == ("conv",)

    def first(m):
        return lambda inputs, target, **kw: Saliency(m).attribute(inputs, target=target, **kw)[0]

    scaled = MapComparison(additional_forward_args=scale)
    result = parameter_randomization(model, first, (x, y), comparison=scaled)
    assert result.similarities["ssim"].shape == (1, 2)
    with pytest.raises(
        TypeError, match="must return one tensor; this one returned tuple. Select one"
    ):
        parameter_randomization(model, Saliency, (x, y), comparison=scaled)


def test_a_single_input_in_a_tuple():
    result = parameter_randomization(conv_net(2), Saliency, (random_input(2, (6, 6)),))
    assert result.similarities["ssim"].shape == (3, 2)


def test_an_attribution_of_the_original_model_raises():
    model, x = conv_net(2), random_input(1, (6, 6))
    saliency = Saliency(model)
    wrong = [
        lambda m: saliency,
        lambda m: saliency.attribute,
        lambda m: Saliency(lambda x: model(x)),
        lambda m: lambda inputs, target: Saliency(model).attribute(inputs, target=target),
    ]
    for make in wrong:
        with pytest.raises(
            ValueError, match="returned an attribution of the original model. Build it"
        ):
            parameter_randomization(model, make, x)


def test_invalid_arguments_raise():
    model, x = conv_net(2), random_input(1, (6, 6))
    cases = [
        ({"mode": "both"}, "mode='both' is not known. Choose one of 'cascading', 'independent'"),
        ({"layers": ["9"]}, "no layer named '9'. The nearest names are"),
        ({"layers": ["0.1", "4"]}, "layers has '0.1', without parameters. Choose layers with p"),
        ({"layers": [nn.Linear(1, 1)]}, "does not belong to the model. Pass the dotted names"),
        ({"make_attribution": lambda m: lambda inputs, target: inputs / 0}, "holds NaN or Inf"),
    ]
    for changes, message in cases:
        arguments = {"make_attribution": Saliency, "inputs": x, **changes}
        with pytest.raises(ValueError, match=message):
            parameter_randomization(model, **arguments)
    with pytest.raises(ValueError, match="Flatten has no parameters, so nothing can be randomised"):
        parameter_randomization(nn.Flatten(), Saliency, x)
    with pytest.raises(ValueError, match="lazy modules whose parameters are not initialised. Run"):
        parameter_randomization(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), Saliency, x)
    with pytest.raises(TypeError, match="Expected model as a torch.nn.Module; got function"):
        parameter_randomization(edges, Saliency, x)
    with pytest.raises(TypeError, match=r"Captum attribution, with .attribute\(\), .* got int"):
        parameter_randomization(model, lambda m: 3, x)
    wrong = MapComparison(attribute_kwargs={"n_stpes": 3})
    with pytest.raises(TypeError, match="n_stpes"):
        parameter_randomization(model, IntegratedGradients, x, comparison=wrong)


def test_models_that_return_no_scores_need_a_target():
    class Dict(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            return {"a": self.net(x), "b": x}

    make = lambda m: Saliency(lambda x: m(x)["a"])  # noqa: E731
    x = random_input(1, (6, 6))
    with pytest.raises(
        TypeError, match="must return a tensor of scores, or a container with one; it returned dict"
    ):
        parameter_randomization(Dict(), make, x)
    assert len(parameter_randomization(Dict(), make, x, target=1).steps) == 3


def test_a_model_that_cannot_be_copied_raises():
    model = conv_net(2)
    model.cached = model[-1].weight * 1
    with pytest.raises(TypeError, match="copy.deepcopy cannot copy this Sequential"):
        parameter_randomization(model, Saliency, random_input(1, (6, 6)))


def test_a_progress_bar(capsys):
    model, x = conv_net(1), random_input(2, (8,))
    parameter_randomization(model, Saliency, x, progress=True)
    assert "3/3" in capsys.readouterr().err
    parameter_randomization(model, Saliency, x)
    assert capsys.readouterr().err == ""


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


def test_the_plot_leaves_constant_maps_out_without_a_warning():
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
