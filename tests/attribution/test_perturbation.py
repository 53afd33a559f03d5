"""Score-CAM and Ablation-CAM against loops over channels."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import FramesFirst, conv_net, random_input
from torch import nn

from captum_3dcam import (
    Layer,
    LayerwiseAblationCAM,
    LayerwiseEigenCAM,
    LayerwiseGradCAM,
    LayerwiseScoreCAM,
    functional,
    margin,
)
from captum_3dcam._joint_cam import JointCAM

METHODS = [LayerwiseScoreCAM, LayerwiseAblationCAM]
SIZES = {1: (12,), 2: (9, 8), 3: (4, 8, 7)}
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def naive_score_cam_weights(net, x, depth, target):
    """softmax over channels of the score of the input times each channel, scaled to [0, 1]."""
    activation = net[: depth + 1](x).detach()
    size, mode = x.shape[2:], MODES[x.ndim - 2]
    rows = []
    for sample, features in zip(x, activation, strict=True):
        scores = []
        for channel in features:
            mask = F.interpolate(channel[None, None], size, mode=mode)[0]
            spread = mask.max() - mask.min()
            mask = (mask - mask.min()) / spread if spread > 0 else torch.zeros_like(mask)
            scores.append(net((sample * mask)[None])[0, target])
        rows.append(torch.stack(scores).softmax(0))
    return activation, torch.stack(rows).detach()


def naive_ablation_weights(net, x, depth, target):
    """The score less that of the network whose layer lacks a channel."""
    activation = net[: depth + 1](x).detach()
    score = net(x)[:, target]
    drops = []
    for channel in range(activation.shape[1]):
        without = activation.clone()
        without[:, channel] = 0
        drops.append(score - net[depth + 1 :](without)[:, target])
    return activation, torch.stack(drops, dim=1).detach()


NAIVE = {
    LayerwiseScoreCAM: naive_score_cam_weights,
    LayerwiseAblationCAM: naive_ablation_weights,
}


def naive_map(method, net, x, depths, target):
    total = 0
    for depth in depths:
        activation, weights = NAIVE[method](net, x, depth, target)
        raw = torch.einsum("nc,nc...->n...", weights, activation)[:, None].relu()
        total = total + functional.layer_map((raw,), x.shape[2:])
    return total


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_agrees_with_a_loop_over_channels(method, rank):
    net, x = conv_net(rank, channels=5), random_input(2, SIZES[rank])
    found = method(net, ["0", "1"]).attribute(x, target=2)
    torch.testing.assert_close(found, naive_map(method, net, x, [0, 1], 2))
    assert not found.requires_grad


@settings(max_examples=15)
@given(st.sampled_from(METHODS), st.integers(1, 7), st.integers(1, 3), st.integers(0, 1000))
def test_how_many_go_together_does_not_matter_nor_does_the_batch(method, together, batch, seed):
    net, x = conv_net(2, channels=5, seed=seed), random_input(batch, (7, 6), seed=seed)
    targets = [seed % 4] * batch
    found = method(net, "1", perturbations_per_eval=together).attribute(x, target=targets)
    for sample in range(batch):
        alone = method(net, "1").attribute(x[[sample]], target=targets[sample])
        torch.testing.assert_close(found[[sample]], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_several_classes_share_the_forward_passes(method):
    net, x = conv_net(2, channels=5), random_input(2, (8, 8))
    calls = []
    handle = net.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    cam = method(net, ["0", "1"], perturbations_per_eval=2)
    maps = cam.attribute_classes(x, [0, None, lambda output: output[:, 2]])
    # One for the activations and the score itself; of each layer three chunks of five channels.
    assert calls == [2, *([4, 4, 2] * 2)]
    handle.remove()
    highest = net(x).argmax(1).tolist()
    for k, target in enumerate([0, highest, 2]):
        torch.testing.assert_close(maps[:, [k]], cam.attribute(x, target=target))


@pytest.mark.parametrize("method", METHODS)
def test_the_class_is_that_of_the_input_and_not_of_its_perturbations(method):
    net, x = conv_net(2, channels=5), random_input(3, (8, 8))
    highest = net(x).argmax(1).tolist()
    cam = method(net, ["0", "1"])
    torch.testing.assert_close(cam.attribute(x), cam.attribute(x, target=highest))
    torch.testing.assert_close(cam.attribute(x[:1]), cam.attribute(x[:1], target=highest[0]))


class Tokens(nn.Module):
    """A block over tokens (N, L, C) of the patches of an image, with a class token."""

    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Conv2d(2, 6, 2, stride=2), nn.Linear(6, 6)
        self.token, self.head = nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 4)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        x = self.block(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)).relu()
        return self.head((x * x).mean(dim=1))


def test_channels_of_tokens_are_ablated_where_they_lie_on_the_grid():
    torch.manual_seed(0)
    model, x = Tokens().eval(), random_input(2, (4, 6))
    kept = []
    model.block.register_forward_hook(lambda module, args, output: kept.append(output.detach()))
    score = model(x)[:, 1]
    activation, drops = kept[0], []
    for channel in range(6):
        without = activation.clone()
        without[:, 1:, channel] = 0
        outer = without.relu()
        drops.append(score - model.head((outer * outer).mean(dim=1))[:, 1])
    weights = torch.stack(drops, dim=1).detach()
    grid = activation[:, 1:].mT.unflatten(2, (2, 3))
    raw = torch.einsum("nc,ncij->nij", weights, grid)[:, None].relu()
    cam = LayerwiseAblationCAM(model, Layer("block", layout="N L C"), perturbations_per_eval=4)
    expected = functional.layer_map((raw,), (4, 6))
    torch.testing.assert_close(cam.attribute(x, target=1), expected)


def test_a_reshape_that_computes_cannot_be_ablated():
    net, x = conv_net(2), random_input(1, (8, 8))
    cam = LayerwiseAblationCAM(net, Layer("0", reshape=lambda t: t / 3))
    with pytest.raises(ValueError, match="reshape of layer '0' computes with its values"):
        cam.attribute(x)
    assert not any(module._forward_hooks for module in net.modules())


class FrameLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(3, 4)

    def forward(self, clip):
        frames = torch.stack([self.cnn(frame).relu() for frame in clip.unbind(2)], dim=2)
        return self.head((frames**2).mean((2, 3, 4)))


@pytest.mark.parametrize(
    ("chosen", "ablated"), [("stack", [0, 1, 2]), (1, [1]), ("last", [2]), ("sum", None)]
)
def test_of_a_layer_that_runs_often_the_explained_calls_are_ablated(chosen, ablated):
    torch.manual_seed(0)
    model, clip = FrameLoop().eval(), random_input(1, (3, 6, 6))
    frames = torch.stack([model.cnn(frame) for frame in clip.unbind(2)], dim=2).detach()

    def drop(channel, calls):
        without = frames.clone()
        without[:, channel, calls] = 0
        score = model.head((frames.relu() ** 2).mean((2, 3, 4)))
        return (score - model.head((without.relu() ** 2).mean((2, 3, 4))))[:, 1]

    def raw(calls):
        weights = torch.stack([drop(channel, calls) for channel in range(3)], dim=1)
        return torch.einsum("nc,nctij->ntij", weights, frames[:, :, calls])[:, None].relu()

    size = (3, 6, 6) if chosen == "stack" else (6, 6)
    cam = LayerwiseAblationCAM(model, Layer("cnn", calls=chosen))
    found = cam.attribute(clip, target=1, output_size=size)
    if chosen == "stack":
        expected = functional.layer_map((raw(ablated),), size)
    else:
        each = [raw(ablated or [call])[:, :, 0] for call in (ablated or range(3))]
        if ablated is None:
            each = [raw([call])[:, :, 0] for call in range(3)]
        expected = functional.shared_layer_map([(one,) for one in each], size)
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("method", METHODS)
def test_models_that_take_frames_first(method):
    net, x = conv_net(3), random_input(2, (4, 8, 7))
    expected = method(net, ["0", "1"]).attribute(x, target=1)
    cam = method(FramesFirst(net), ["net.0", "net.1"], input_layout="N T C H W")
    torch.testing.assert_close(cam.attribute(x.transpose(1, 2), target=1), expected)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = conv_net(2)

    def forward(self, image, other, factor, shift):
        return self.net(image + other) * factor[:, None] + shift


@pytest.mark.parametrize("method", METHODS)
def test_several_inputs_and_additional_arguments_are_repeated(method):
    model, x, other = TwoInputs(), random_input(2, (8, 8)), random_input(2, (8, 8), seed=1)
    arguments = (torch.tensor([2.0, -1.0]), 0.5)
    cam = method(model, "net.1", perturbations_per_eval=2)
    found = cam.attribute((x, other), 1, arguments)
    for sample in range(2):
        own = (arguments[0][[sample]], 0.5)
        alone = cam.attribute((x[[sample]], other[[sample]]), 1, own)
        torch.testing.assert_close(found[[sample]], alone)


@pytest.mark.parametrize("method", METHODS)
def test_names_of_layers_in_a_function(method):
    net, x = conv_net(2), random_input(1, (8, 8))
    expected = method(net, "1").attribute(x, target=1)
    torch.testing.assert_close(method(lambda x: net(x), "1").attribute(x, target=1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_beside_other_methods(method):
    net, x = conv_net(2), random_input(2, (8, 8))
    methods = [LayerwiseGradCAM, method, LayerwiseEigenCAM]
    joint = JointCAM([each(net, ["0", "1"]) for each in methods])
    maps, _ = joint.explain(x, lambda output: [0, 3])
    for number, each in enumerate(methods):
        expected = each(net, ["0", "1"]).attribute_classes(x, [0, 3])
        torch.testing.assert_close(maps[:, :, number], expected)


@pytest.mark.filterwarnings("ignore:.* perturbs a model in train mode")
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_as_before_also_when_it_raises(method):
    net, x = conv_net(2, norm=True).train(), random_input(2, (8, 8))
    before = copy.deepcopy(net.state_dict())
    generator = torch.get_rng_state()
    method(net, ["0", "1"]).attribute(x, target=0)
    calls = []

    def fail(module, args):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    handle = net.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        method(net, ["0", "1"], perturbations_per_eval=1).attribute(x, target=0)
    handle.remove()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert net.training
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_writes_to_its_input(method):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            return self.net(x.mul_(2))

    model, x = Writes(), random_input(1, (8, 8))
    before = x.clone()
    found = method(model, "net.1", perturbations_per_eval=1).attribute(x)
    assert torch.equal(x, before)
    plain = method(lambda x: model.net(2 * x), model.net[1]).attribute(before)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_single_number_is_of_one_sample(method, shape):
    net, x = conv_net(2, channels=5), random_input(2, (8, 8))
    cam = method(lambda x: net(x)[:, 2].sum().reshape(shape), net[1])
    expected = method(net, "1").attribute(x[:1], target=2)
    torch.testing.assert_close(cam.attribute(x[:1]), expected)
    with pytest.raises(ValueError, match=r"needs a score for each sample.* is one for 2\."):
        cam.attribute(x)


def test_score_cam_masks_a_grid():
    net = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 4)), nn.Flatten())
    with pytest.raises(
        ValueError, match=r"masks the input of shape \(2, 3\) by layer '1', .* axes: 0 and 1"
    ):
        LayerwiseScoreCAM(net, "1").attribute(torch.rand(2, 3), 0, output_size=(4,))


def test_progress_is_shown_on_request(capsys):
    net, x = conv_net(2), random_input(1, (8, 8))
    LayerwiseScoreCAM(net, "1").attribute(x)
    assert capsys.readouterr().err == ""
    LayerwiseScoreCAM(net, "1", show_progress=True).attribute(x)
    assert "Score-CAM: 1: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_train_mode_is_warned_of(method):
    net, x = conv_net(2, norm=True).train(), random_input(2, (8, 8))
    with pytest.warns(UserWarning, match=r"perturbs a model in train mode.* Call model\.eval\(\)"):
        method(net, "1").attribute(x, target=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_rivals_are_those_of_the_input(method):
    net, x = conv_net(2, channels=5, classes=8), random_input(3, (8, 8))
    output = net(x)
    classes = output.argmax(1, keepdim=True)
    nearest = (output - output.gather(1, classes)).abs().argsort(1)[:, 1:3].tolist()
    cam = method(net, "1", perturbations_per_eval=2)
    found = cam.attribute(x, margin(count=2))
    for sample, rivals in enumerate(nearest):
        named = margin(int(classes[sample]), rivals)
        own = cam.attribute(x[[sample]], named)
        torch.testing.assert_close(found[[sample]], own, rtol=1e-4, atol=1e-5)


def test_a_layer_that_does_not_reach_the_score_has_no_ablation_map():
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.side = conv_net(2), nn.Conv2d(2, 5, 3)

        def forward(self, x):
            rounding = self.side(x).mean((1, 2, 3)) * 1e-9
            return self.net(x) + rounding[:, None]

    model = Ends().eval()
    with pytest.warns(UserWarning, match="zero everywhere"):
        found = LayerwiseAblationCAM(model, "side").attribute(random_input(2, (8, 8)), target=1)
    assert not found.any()


def test_options_that_are_none():
    net = conv_net(2)
    with pytest.raises(ValueError, match="perturbations_per_eval=0: expected an integer, 1 or"):
        LayerwiseScoreCAM(net, "1", perturbations_per_eval=0)
    with pytest.raises(TypeError, match="show_progress='yes': expected True or False"):
        LayerwiseAblationCAM(net, "1", show_progress="yes")


def test_inputs_that_no_mask_can_multiply():
    net = conv_net(2)
    image = torch.randint(0, 5, (1, 2, 8, 8))
    cam = LayerwiseScoreCAM(lambda x: net(x.float()), net[1])
    with pytest.raises(TypeError, match=r"takes floating-point numbers; received torch\.int64"):
        cam.attribute(image)
