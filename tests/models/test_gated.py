"""The layer-wise gated classifier: its formula, and its behaviour as an nn.Module."""

import copy
import io
import re
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import conv_net, naive_linear, random_input
from torch import nn
from torch.export import export

from captum_3dcam import (
    CounterfactualCAM,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseWhatWhereCAM,
    tokens_to_grid,
)
from captum_3dcam.models.gated import LayerwiseGatedClassifier, _GridGate

SIZES = {1: (9,), 2: (7, 6), 3: (7, 6, 5)}
FUSIONS = ("sum", "mean", "learned", "concat")


def gated(rank=3, layers=("0", "1"), classes=4, **options):
    torch.manual_seed(0)
    return LayerwiseGatedClassifier(conv_net(rank, classes=classes), layers, classes, **options)


def hooks(module):
    return [len(part._forward_hooks) for part in module.modules()]


# ------------------------------------------------------------------------- the naive derivation


def naive_activations(net, x, names):
    outputs = {}
    for name, module in net.named_children():
        x = module(x)
        if name in names:
            outputs[name] = x.detach().numpy().copy()
    return [outputs[name] for name in names], x.detach().numpy()


def naive_bins(length, count):
    """The positions of each of ``count`` bins, including those that are partly inside."""
    return [range(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def naive_pool(x, factor, pool_channels=False):
    """(C, *S) after the ReLU -> the input of the gate's linear layer."""
    if pool_channels:
        x = x.mean(axis=0, keepdims=True)
    *time, _, _ = (1, 1, *x.shape[1:]) if x.ndim == 2 else x.shape[1:]
    x = x.reshape(x.shape[0], *time, -1).mean(axis=-1)
    if x.ndim == 1 or x.shape[1:] == (1,):
        return x.ravel()
    bins = naive_bins(x.shape[1], max(1, x.shape[1] // factor))
    return np.stack([x[:, list(positions)].mean(axis=1) for positions in bins], axis=1).ravel()


def naive_gate(gate, x, factor, pool_channels=False):
    weight, bias = (p.detach().numpy() for p in (gate.fc.weight, gate.fc.bias))
    rows = [weight @ naive_pool(sample, factor, pool_channels) + bias for sample in x]
    return np.stack(rows)


@given(
    rank=st.sampled_from([2, 3]),
    batch=st.integers(1, 3),
    frames=st.integers(3, 9),
    factor=st.integers(1, 5),
    count=st.integers(1, 3),
    pool_channels=st.booleans(),
    seed=st.integers(0, 5),
)
def test_the_logits_are_the_sum_of_gates_and_backbone(
    rank, batch, frames, factor, count, pool_channels, seed
):
    names = [str(i) for i in range(count)]
    net = conv_net(rank, depth=3, seed=seed)
    model = LayerwiseGatedClassifier(net, names, 4, factor, pool_channels=pool_channels)
    x = random_input(batch, (frames, 6, 5)[-rank:], seed=seed)
    with torch.no_grad():
        logits = model(x).numpy()
        activations, expected = naive_activations(net, x, names)
    for gate, activation in zip(model.gates, activations, strict=True):
        expected = expected + naive_gate(gate, np.maximum(activation, 0), factor, pool_channels)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_relu_comes_before_the_pooling():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = LayerwiseGatedClassifier(net, "0", 2)
    x = random_input(1, (4, 4), channels=1)
    model(x)
    activation = net[0](x)
    assert (activation < 0).any()
    expected = net(x) + model.gates[0].fc(activation.relu().mean((2, 3)))
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    "frames, factor, features", [(16, 2, 8), (5, 2, 2), (1, 2, 1), (16, 4, 4), (3, 8, 1), (7, 1, 7)]
)
def test_time_is_divided_by_the_factor_and_at_least_one(frames, factor, features):
    net = nn.Sequential(nn.Conv3d(1, 3, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    model = LayerwiseGatedClassifier(net, "0", 3, factor)
    model(torch.rand(1, 1, frames, 4, 4))
    assert model.gates[0].fc.in_features == 3 * features
    without_channels = LayerwiseGatedClassifier(net, "0", 3, factor, pool_channels=True)
    without_channels(torch.rand(1, 1, frames, 4, 4))
    assert without_channels.gates[0].fc.in_features == features


def test_a_1d_layer_is_pooled_over_its_only_axis():
    model = gated(1)
    model(random_input(2, (9,)))
    assert [gate.fc.in_features for gate in model.gates] == [3, 3]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_trained_fusions_are_initialised_to_the_sum(fusion):
    summed, other = gated(), gated(fusion=fusion)
    x = random_input(2, SIZES[3])
    with torch.no_grad():
        expected = summed(x)
        other(x)
        other.load_state_dict(summed.state_dict(), strict=False)
        expected = expected / 3 if fusion == "mean" else expected
        torch.testing.assert_close(other(x), expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_fusions(fusion):
    model = gated(fusion=fusion)
    x = random_input(2, SIZES[3])
    with torch.no_grad():
        model(x)
        for parameter in model.fuse.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        activations, backbone = naive_activations(model.backbone, x, ["0", "1"])
        parts = [backbone, *map(naive_gate, model.gates, activations, [2, 2])]
        logits = model(x).numpy()
    if fusion == "learned":
        weights = model.fuse.weight.detach().numpy()
        expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    elif fusion == "concat":
        weight, bias = (p.detach().numpy() for p in (model.fuse.fc.weight, model.fuse.fc.bias))
        expected = np.concatenate(parts, axis=1) @ weight.T + bias
    else:
        expected = sum(parts) / (3 if fusion == "mean" else 1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------ attention gates


def naive_attention(gate, x, signal):
    """One sample: (C, *S) and (C', *S') after their ReLU -> (*S)."""
    theta, phi, psi = (layer.weight.detach().numpy() for layer in (gate.theta, gate.phi, gate.psi))
    offset, bias = gate.phi.bias.detach().numpy(), gate.psi.bias.item()
    gating = np.tensordot(phi, signal, 1) + offset.reshape(-1, *[1] * (signal.ndim - 1))
    gating = np.stack([naive_linear(channel, x.shape[1:]) for channel in gating])
    joined = np.maximum(np.tensordot(theta, x, 1) + gating, 0)
    return 1 / (1 + np.exp(-(np.tensordot(psi, joined, 1)[0] + bias)))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("signal", [None, "0"])
def test_attention_follows_the_formula(rank, signal):
    model = gated(rank, gate="grid", signal=signal)
    x = random_input(2, SIZES[rank])
    with torch.no_grad():
        logits = model(x).numpy()
        maps = model.attention_maps(x)
        activations, expected = naive_activations(model.backbone, x, ["0", "1"])
    gating = activations[1 if signal is None else 0]
    for gate, activation, shown in zip(model.gates, activations, maps, strict=True):
        attention = np.stack(list(map(naive_attention, [gate] * 2, activation, gating)))
        attended = activation * attention[:, None]
        expected = expected + naive_gate(gate, attended, 2)
        upsampled = np.stack([naive_linear(a, SIZES[rank]) for a in attention])
        np.testing.assert_allclose(shown[:, 0], upsampled, rtol=1e-4, atol=1e-5)
        assert shown.shape == (2, 1, *SIZES[rank])
        assert 0 <= shown.min() < shown.max() <= 1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_pooling_gates_have_no_attention_maps():
    model = gated()
    with pytest.raises(ValueError, match='Only gate="grid" has attention maps'):
        model.attention_maps(random_input(1, SIZES[3]))


# ------------------------------------------------------------------------- as an nn.Module


def ready(**options):
    model = gated(**options)
    with torch.no_grad():
        model(random_input(1, SIZES[3]))
    return model


@pytest.mark.parametrize("gate", ["pool", "grid"])
def test_all_parameters_get_gradients(gate):
    model = ready(gate=gate, fusion="concat")
    names = dict(model.named_parameters())
    nn.functional.cross_entropy(model(random_input(2, SIZES[3])), torch.tensor([0, 3])).backward()
    assert all(parameter.grad is not None for parameter in names.values())
    assert {name.split(".")[0] for name in names} == {"backbone", "gates", "fuse"}


def test_a_frozen_backbone_does_not_change():
    net = conv_net(3, norm=True)
    model = LayerwiseGatedClassifier(net.train(), ["0", "1"], 4)
    assert model.freeze_backbone() is model
    assert not net.training
    assert model.train() is model
    assert model.gates.training
    assert not any(part.training for part in net.modules())
    before = copy.deepcopy(net.state_dict())
    model(random_input(2, SIZES[3]))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    model(random_input(2, SIZES[3])).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.grad is not None for parameter in model.gates.parameters())


def test_by_default_the_backbone_is_trained_with_the_gates():
    model = gated().train()
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(part.training for part in model.eval().modules())


@pytest.mark.parametrize("gate", ["pool", "grid"])
def test_loading_a_state_dict_initialises_the_gates(gate):
    model, other = ready(gate=gate), gated(gate=gate)
    for parameter in model.parameters():
        parameter.data += 0.1
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = random_input(2, SIZES[3])
    assert torch.equal(other(x), model(x))
    fresh = gated()
    fresh.load_state_dict(ready().state_dict())
    with pytest.raises(ValueError, match="The gate was initialised for 9 pooled features"):
        fresh(random_input(1, (12, 6, 5)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_copies_are_independent(when):
    model = gated() if when == "before" else ready()
    x = random_input(2, SIZES[3])
    other = copy.deepcopy(model)
    model(x), other(x)
    other.load_state_dict(model.state_dict())
    expected = model(x)
    torch.testing.assert_close(other(x), expected)
    for parameter in other.parameters():
        parameter.data.zero_()
    assert not other(x).any()
    torch.testing.assert_close(model(x), expected)


def test_it_can_be_pickled():
    model, file = ready(gate="grid"), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    x = random_input(2, SIZES[3])
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="torch.export of PyTorch 2.6 does not trace ExitStack",
)
@pytest.mark.parametrize("gate", ["pool", "grid"])
def test_it_can_be_exported(gate):
    model = ready(gate=gate).eval()
    x = random_input(1, SIZES[3])
    exported = export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def replicas(model, count):
    """Copies that share their dictionaries of hooks, as DataParallel makes them."""
    copies = []
    for _ in range(count):
        parts = {module: module._replicate_for_data_parallel() for module in model.modules()}
        for module, replica in parts.items():
            for name, child in module._modules.items():
                replica._modules[name] = parts[child]
            for name, parameter in module._parameters.items():
                replica._parameters[name] = parameter
        copies.append(parts[model])
    return copies


def test_replicas_in_threads_do_not_mix():
    """As in DataParallel: the replica of each thread uses only its own activations."""
    model = ready().eval()
    inputs = [random_input(1, SIZES[3], seed=seed) for seed in range(4)]
    expected = [model(x) for x in inputs]
    meeting = threading.Barrier(len(inputs))
    # The last module waits for all threads, so that every layer of every replica has run.
    results = {}

    def meet(module, args):
        meeting.wait(10)

    model.backbone[-1].register_forward_pre_hook(meet)

    def run(number, replica):
        results[number] = replica(inputs[number])

    threads = [
        threading.Thread(target=run, args=pair) for pair in enumerate(replicas(model, len(inputs)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, value in enumerate(expected):
        torch.testing.assert_close(results[number], value)
    assert max(hooks(model)) == 0


def test_an_in_place_operation_after_a_layer_changes_nothing():
    class Doubled(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.conv, self.inplace = nn.Conv2d(1, 3, 3), inplace

        def forward(self, x):
            x = self.conv(x)
            x = x.mul_(-2) if self.inplace else x * -2
            return x.mean((2, 3))

    x, results = random_input(1, (5, 5), channels=1), []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = LayerwiseGatedClassifier(Doubled(inplace), "conv", 3)
        results.append(model(x))
    torch.testing.assert_close(*results)


def test_hooks_are_removed_after_the_forward_pass():
    model = ready()
    before = hooks(model)
    model(random_input(1, SIZES[3]))
    assert hooks(model) == before
    for error in (ValueError, KeyboardInterrupt):

        def fail(module, args, error=error):
            raise error("stop")

        handle = model.backbone[-1].register_forward_pre_hook(fail)
        with pytest.raises(error, match="stop"):
            model(random_input(1, SIZES[3]))
        handle.remove()
        assert hooks(model) == before


def test_tuples_and_tokens():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 5, batch_first=True)
            self.fc = nn.Linear(5, 4)

        def forward(self, x):
            return self.fc(self.lstm(x)[0].mean(1))

    layer = Layer("lstm", reshape=tokens_to_grid((2, 2, 3)), index=0)
    net = Tokens()
    model = LayerwiseGatedClassifier(net, layer, 4)
    x = torch.rand(2, 12, 3)
    model(x)
    grid = net.lstm(x)[0].transpose(1, 2).reshape(2, 5, 2, 2, 3).relu()
    expected = net(x) + model.gates[0].fc(grid.mean((2, 3, 4)))
    torch.testing.assert_close(model(x), expected)


def test_the_layout_of_a_layer_is_applied():
    """A 2D network over folded frames, as a layer (N T) H W C."""

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.last = nn.Identity()

        def forward(self, x):
            x = self.conv(x.transpose(1, 2).flatten(0, 1))
            return self.last(x.movedim(1, -1)).unflatten(0, (2, 4)).mean((1, 2, 3))

    net, x = Folded(), random_input(2, (4, 6, 5), channels=1)
    model = LayerwiseGatedClassifier(net, Layer("last", layout="(N T) H W C"), 3)
    model(x)
    activation = torch.stack([net.conv(x[:, :, t]) for t in range(4)], dim=2).relu()
    pooled = nn.functional.adaptive_avg_pool3d(activation, (2, 1, 1)).flatten(1)
    torch.testing.assert_close(model(x), net(x) + model.gates[0].fc(pooled))


def test_layers_can_be_modules_or_names():
    net = conv_net(3)
    by_module, by_name = (LayerwiseGatedClassifier(net, x, 4) for x in ([net[0]], ["0"]))
    assert by_module.layers == by_name.layers
    assert by_module.layers[0].module == "0"


def test_names_of_a_wrapped_backbone():
    net = conv_net(3)
    x = random_input(1, SIZES[3])
    bare, wrapped = (LayerwiseGatedClassifier(n, "0", 4) for n in (net, nn.DataParallel(net)))
    bare(x), wrapped(x)
    wrapped.gates.load_state_dict(bare.gates.state_dict())
    assert torch.equal(wrapped(x), bare(x))


def test_the_last_call_of_a_repeated_layer_is_used():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.conv(self.conv(x)).mean((2, 3))

    net, x = Twice(), random_input(1, (7, 7), channels=1)
    model = LayerwiseGatedClassifier(net, "conv", 1)
    model(x)
    expected = net(x) + model.gates[0].fc(net.conv(net.conv(x)).relu().mean((2, 3)))
    torch.testing.assert_close(model(x), expected)


# ------------------------------------------------------------------------------ attribution


@pytest.mark.parametrize("gate", ["pool", "grid"])
@pytest.mark.parametrize(
    "method", [LayerwiseGlobalLocalCAM, CounterfactualCAM, LayerwiseGradCAM, LayerwiseWhatWhereCAM]
)
def test_its_attribution(method, gate):
    """The gradient flows through the backbone and through the gates."""
    model = ready(gate=gate).eval()

    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = model.backbone[0], model.backbone[1]

        def forward(self, x):
            first = self.first(x)
            second = self.second(first)
            logits = model.backbone[2:](second)
            features = [first.relu(), second.relu()]
            return logits + sum(
                gate(x, features[-1]) for gate, x in zip(model.gates, features, strict=True)
            )

    x = random_input(2, SIZES[3])
    expected = method(ByHand(), ["first", "second"]).attribute(x, target=1)
    attribution = method(model, ["backbone.0", "backbone.1"]).attribute(x, target=1)
    assert attribution.any()
    torch.testing.assert_close(attribution, expected)
    ungated = method(model.backbone, ["0", "1"]).attribute(x, target=1)
    assert not torch.allclose(attribution, ungated)


# ------------------------------------------------------------------------- input validation


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fusion": "max"}, "fusion='max' is not known. Choose one of 'sum', 'mean', 'learned', "),
        ({"gate": "soft"}, "gate='soft' is not known. Choose one of 'pool', 'grid'."),
        ({"classes": 0}, "num_classes=0: expected an integer, 1 or more."),
        ({"temporal_factor": 1.5}, "temporal_factor=1.5: expected an integer, 1 or more."),
        ({"layers": []}, "layers is empty. Pass at least one module or dotted name."),
        ({"layers": "7"}, "The model has no layer named '7'. The nearest names are "),
        ({"layers": nn.ReLU()}, "layers[0] (ReLU) is not part of the backbone. Choose from its "),
        ({"signal": "1"}, "signal needs gate=\"grid\"; got gate='pool'."),
    ],
)
def test_invalid_options(options, message):
    classes = options.pop("classes", 4)
    layers = options.pop("layers", "0")
    with pytest.raises(ValueError, match=re.escape(message)):
        LayerwiseGatedClassifier(conv_net(3), layers, classes, **options)


def test_logits_of_another_shape():
    model = LayerwiseGatedClassifier(conv_net(3, classes=4), "0", 7)
    message = (
        "Expected logits (N, 7) from the backbone; received shape (2, 4). Pass its number of "
        "classes as num_classes."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        model(random_input(2, SIZES[3]))
    model.backbone = nn.Sequential(model.backbone[0])
    with pytest.raises(ValueError, match=re.escape("received shape (2, 3, 7, 6, 5).")):
        model(random_input(2, SIZES[3]))


def test_a_layer_that_did_not_run():
    net = nn.ModuleDict({"used": conv_net(3), "unused": nn.Conv3d(1, 1, 1)})
    net.forward = lambda x: net["used"](x)
    model = LayerwiseGatedClassifier(net, ["used.0", "unused"], 4)
    with pytest.raises(RuntimeError, match="Layer 'unused' did not run in the backbone's forward"):
        model(random_input(1, SIZES[3]))


def test_a_layer_without_spatial_axes():
    model = LayerwiseGatedClassifier(conv_net(3), "3", 4)
    with pytest.raises(ValueError, match=re.escape("gives shape (1, 24); a gate pools (N, C, *S)")):
        model(random_input(1, SIZES[3]))


def test_clips_with_another_number_of_frames():
    model = ready()
    model(random_input(1, (7, 9, 8)))  # height and width may change
    message = (
        "The gate was initialised for 9 pooled features; a layer of shape (1, 3, 12, 6, 5) gives "
        "18. All clips need the same number of frames."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        model(random_input(1, (12, 6, 5)))


def test_the_bins_cover_all_time_steps():
    """No time step is left out, and neighbouring bins share at most one."""
    for length in range(1, 20):
        for factor in range(1, 6):
            bins = naive_bins(length, max(1, length // factor))
            assert sorted({position for positions in bins for position in positions}) == list(
                range(length)
            )
            assert all(b.start >= a.stop - 1 for a, b in pairwise(bins))


def test_the_type_of_the_gates():
    assert [isinstance(gate, _GridGate) for gate in gated().gates] == [False, False]
    assert [isinstance(gate, _GridGate) for gate in gated(gate="grid").gates] == [True, True]
