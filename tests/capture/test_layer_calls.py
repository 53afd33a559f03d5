"""Layers that run several times in one forward pass: stacked, added, or one of them."""

import numpy as np
import pytest
import torch
from networks import (
    FramesInALoop,
    Pyramid,
    Threaded,
    calls_by_hand,
    cpu_only,
    naive_what_where,
    random_input,
)
from torch import nn

from captum_3dcam import (
    CounterfactualCAM,
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
    functional,
)

ONE_MAP_PER_LAYER = [
    LayerwiseGlobalLocalCAM,
    CounterfactualCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseXGradCAM,
]


def stacked_by_hand(calls):
    """(N, C, H, W) of each call -> (N, C, calls, H, W), for activation and gradient."""
    return [torch.stack(tensors, dim=2) for tensors in zip(*calls, strict=True)]


def summed_by_hand(rule, calls, size):
    """Π norm(Σ_i ↑factor_i)."""
    factors = [rule(*call) for call in calls]
    product = torch.ones(())
    for same in zip(*factors, strict=True):
        product = product * functional.normalize(sum(functional.upsample(f, size) for f in same))
    return product


# ------------------------------------------------------------------------------------- stacked


@pytest.fixture
def frames_in_a_loop():
    return FramesInALoop().eval().double()


CLIP = random_input(2, (4, 9, 7)).double()


@pytest.mark.parametrize("method", ONE_MAP_PER_LAYER)
@pytest.mark.parametrize("layers", [["cnn"], ["cnn.1", "cnn.3"]])
def test_frames_in_a_loop_are_the_time_of_the_map(frames_in_a_loop, method, layers):
    expected = 0
    for name in layers:
        module = frames_in_a_loop.get_submodule(name)
        calls = calls_by_hand(frames_in_a_loop, module, CLIP, target=1)
        assert len(calls) == 4
        pair = stacked_by_hand(calls)
        expected = expected + functional.layer_map(method.rule(*pair), (4, 9, 7))
    cam = method(frames_in_a_loop, [Layer(name, calls="stack") for name in layers])
    attribution = cam.attribute(CLIP, target=1)
    assert attribution.any()
    torch.testing.assert_close(attribution, expected)


def test_what_where_of_frames_in_a_loop(frames_in_a_loop):
    layers, pairs = ["cnn.1", "cnn.3"], []
    for name in layers:
        module = frames_in_a_loop.get_submodule(name)
        pairs.append(stacked_by_hand(calls_by_hand(frames_in_a_loop, module, CLIP, target=2)))
    cam = LayerwiseWhatWhereCAM(frames_in_a_loop, [Layer(n, calls="stack") for n in layers])
    attribution = cam.attribute(CLIP, target=2)
    for sample, values in enumerate(attribution[:, 0]):
        of_sample = [(a[sample].numpy(), g[sample].numpy()) for a, g in pairs]
        expected = torch.from_numpy(naive_what_where(of_sample, (4, 9, 7)))
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)


def test_the_inputs_of_stacked_calls(frames_in_a_loop):
    module = frames_in_a_loop.cnn[2]
    calls = calls_by_hand(frames_in_a_loop, module, CLIP, target=0, layer_input=True)
    expected = functional.layer_map(functional.layer_cam(*stacked_by_hand(calls)), (4, 9, 7))
    cam = LayerwiseLayerCAM(frames_in_a_loop, Layer("cnn.2", calls="stack"))
    attribution = cam.attribute(CLIP, target=0, attribute_to_layer_input=True)
    torch.testing.assert_close(attribution, expected)


def test_several_classes_of_stacked_calls(frames_in_a_loop):
    cam = GlobalLocalCAM3D(frames_in_a_loop, Layer("cnn", calls="stack"))
    each = [cam.attribute(CLIP, target=target) for target in range(3)]
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(
        cam.attribute_classes(CLIP, [2, 0, 1]), torch.cat([each[2], each[0], each[1]], dim=1)
    )
    maps, classes = cam.attribute_top_k(CLIP, k=2)
    for rank, targets in enumerate(classes.unbind(1)):
        torch.testing.assert_close(maps[:, [rank]], cam.attribute(CLIP, target=targets))


@cpu_only
@pytest.mark.parametrize("calls", ["stack", "sum", 2])
def test_calls_in_the_thread_of_a_replica(frames_in_a_loop, calls):
    size = (4, 9, 7) if calls == "stack" else (9, 7)
    layer = Layer(frames_in_a_loop.cnn, calls=calls)
    expected, attribution = [
        LayerwiseGradCAM(model, layer).attribute(CLIP, 1, output_size=size)
        for model in (frames_in_a_loop, Threaded(frames_in_a_loop))
    ]
    torch.testing.assert_close(attribution, expected)


class Weighted(nn.Module):
    """The scores of each frame, weighted; those of some frames are detached."""

    def __init__(self, weights, detached=()):
        super().__init__()
        self.cnn, self.head = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()), nn.Linear(4, 3)
        self.weights, self.detached = weights, detached

    def forward(self, clip):
        scores = 0
        for t, weight in enumerate(self.weights):
            features = self.cnn(clip[:, :, t])
            features = features.detach() if t in self.detached else features
            scores = scores + weight * self.head(features.mean((2, 3)))
        return scores


@pytest.mark.parametrize("method", [*ONE_MAP_PER_LAYER, LayerwiseWhatWhereCAM])
@pytest.mark.parametrize("detached", [(0,), (3,), (1, 2)])
def test_stacked_calls_that_do_not_reach_the_score_have_no_gradient(method, detached):
    model = Weighted((1.0, -2.0, 3.0, 0.5), detached).double()
    calls = calls_by_hand(model, model.cnn, CLIP, target=1)
    factors = method.rule(*stacked_by_hand(calls))
    attribution = method(model, Layer("cnn", calls="stack")).attribute(CLIP, target=1)
    if method is LayerwiseWhatWhereCAM:
        expected = functional.what_where([factors], (4, 9, 7))
    else:
        expected = functional.layer_map(factors, (4, 9, 7))
    torch.testing.assert_close(attribution, expected)


def test_calls_none_of_which_reaches_the_score_are_an_error():
    model = nn.Sequential(Weighted((1.0, 2.0), detached=(0, 1)))
    for calls in ("stack", "sum"):
        cam = LayerwiseGradCAM(model, Layer("0.cnn", calls=calls))
        with pytest.raises(RuntimeError, match=r"layer\(s\) '0.cnn' does not reach the score"):
            cam.attribute(CLIP.float(), 0, output_size=(2, 9, 7) if calls == "stack" else (9, 7))


class OnlyTheChosen(torch.autograd.Function):
    """Two columns of scores; no gradient at all goes to the one that is not asked for."""

    @staticmethod
    def forward(ctx, first, second):
        return torch.stack([first, second], dim=1)

    @staticmethod
    def backward(ctx, gradient):
        return tuple(column if column.any() else None for column in gradient.unbind(1))


class OneClassPerFrame(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())

    def forward(self, clip):
        return OnlyTheChosen.apply(*[self.cnn(clip[:, :, t]).sum((1, 2, 3)) for t in range(2)])


@pytest.mark.parametrize("calls", ["stack", "sum"])
def test_a_class_does_not_inherit_the_gradient_of_the_class_before(calls):
    model = OneClassPerFrame().double()
    cam = LayerwiseLayerCAM(model, Layer("cnn", calls=calls))
    size = (2, 9, 7) if calls == "stack" else (9, 7)
    maps = cam.attribute_classes(CLIP, [0, 1], output_size=size)
    for target in range(2):
        expected = cam.attribute(CLIP, target, output_size=size)
        torch.testing.assert_close(maps[:, [target]], expected)
    assert not torch.equal(maps[:, 0], maps[:, 1])


# -------------------------------------------------------------------------------------- summed


IMAGE = random_input(2, (17, 22)).double()


@pytest.mark.parametrize("method", ONE_MAP_PER_LAYER)
@pytest.mark.parametrize("detached", [(), (0,), (2,)])
def test_a_head_shared_by_pyramid_levels(method, detached):
    model = Pyramid(detached).double()
    calls = calls_by_hand(model, model.head, IMAGE, target=2)
    assert [tuple(activation.shape[2:]) for activation, _ in calls] == [(9, 11), (5, 6), (3, 3)]
    reached = [call for number, call in enumerate(calls) if number not in detached]
    expected = summed_by_hand(method.rule, reached, (17, 22))
    attribution = method(model, Layer("head", calls="sum")).attribute(IMAGE, target=2)
    assert attribution.any()
    torch.testing.assert_close(attribution, expected)


def test_summed_calls_beside_another_layer():
    model = Pyramid().double()
    layers = [Layer("head", calls="sum"), "levels.0"]
    cam = LayerwiseLayerCAM(model, layers, fusion="mean")
    singles = [LayerwiseLayerCAM(model, layer).attribute(IMAGE, 1) for layer in layers]
    torch.testing.assert_close(cam.attribute(IMAGE, 1), sum(singles) / 2)
    maps = cam.attribute_classes(IMAGE, [0, 1])
    torch.testing.assert_close(maps[:, [1]], sum(singles) / 2)


def test_the_inputs_of_summed_calls():
    model = Pyramid().double()
    calls = calls_by_hand(model, model.head, IMAGE, target=0, layer_input=True)
    expected = summed_by_hand(functional.grad_cam, calls, (17, 22))
    cam = LayerwiseGradCAM(model, Layer("head", calls="sum"))
    attribution = cam.attribute(IMAGE, target=0, attribute_to_layer_input=True)
    torch.testing.assert_close(attribution, expected)


def test_what_where_does_not_add_calls():
    cam = LayerwiseWhatWhereCAM(Pyramid().double(), Layer("head", calls="sum"))
    message = "joins layers that ran once; Layer 'head' is explained in 3 calls. Choose calls='st"
    with pytest.raises(ValueError, match=message):
        cam.attribute(IMAGE, target=0)


# ---------------------------------------------------------------------------------- one of them


class Siamese(nn.Module):
    """One network for both inputs; the score is how much they agree, feature by feature."""

    def __init__(self):
        super().__init__()
        self.cnn, self.head = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, first, second):
        first, second = (self.cnn(x).mean((2, 3)) for x in (first, second))
        return self.head(first * second.tanh())


PAIR = (random_input(2, (9, 8)).double(), random_input(2, (9, 8), seed=1).double())


@pytest.mark.parametrize("method", ONE_MAP_PER_LAYER)
@pytest.mark.parametrize("calls", [0, 1, "last"])
def test_a_branch_of_a_siamese_network_by_its_number(method, calls):
    model = Siamese().double()
    pairs = calls_by_hand(model, model.cnn, *PAIR, target=1)
    expected = functional.layer_map(method.rule(*pairs[-1 if calls == "last" else calls]), (9, 8))
    attribution = method(model, Layer("cnn", calls=calls)).attribute(PAIR, target=1)
    torch.testing.assert_close(attribution, expected)


def test_both_branches_side_by_side():
    model = Siamese().double()
    cam = LayerwiseHiResCAM(model, [Layer("cnn", calls=0), Layer("cnn", calls=1)])
    maps = cam.attribute(PAIR, target=1, per_layer=True)
    for number, attribution in enumerate(maps):
        alone = LayerwiseHiResCAM(model, Layer("cnn", calls=number)).attribute(PAIR, target=1)
        torch.testing.assert_close(attribution, alone)
    assert not torch.equal(*maps)


def test_the_last_call_is_the_default_and_a_warning_says_so():
    model = Siamese().double()
    message = (
        r"Layer 'cnn' ran 2 times in one forward pass, and the map is of its last call. Choose "
        r"with Layer\(..., calls=...\): 'last', 'stack' for frames in a loop, 'sum' for a head "
        "shared by feature levels, or the number of a call."
    )
    with pytest.warns(UserWarning, match=message) as caught:
        attribution = LayerwiseGradCAM(model, "cnn").attribute(PAIR, target=1)
    assert [warning.filename for warning in caught] == [__file__]
    last = LayerwiseGradCAM(model, Layer("cnn", calls="last")).attribute(PAIR, target=1)
    torch.testing.assert_close(attribution, last)


# --------------------------------------------------------------------------------------- errors


def test_a_number_of_a_call_that_there_is_not():
    cam = LayerwiseGradCAM(Siamese().double(), Layer("cnn", calls=2))
    message = "Layer 'cnn' ran 2 times, so calls=2 is out of range: calls are counted from 0 to 1."
    with pytest.raises(ValueError, match=message):
        cam.attribute(PAIR)


@pytest.mark.parametrize("calls", [-1, "first", 1.0, True, [0, 1]])
def test_unknown_calls_are_refused_when_the_layer_is_made(calls):
    with pytest.raises(ValueError, match=r"calls=.* is not known. Choose 'last', 'stack', 'sum', "):
        Layer("cnn", calls=calls)


def test_a_number_may_be_numpys():
    assert type(Layer("cnn", calls=np.int64(1)).calls) is int


def test_calls_of_different_shapes_cannot_be_stacked():
    cam = LayerwiseGradCAM(Pyramid().double(), Layer("head", calls="stack"))
    message = (
        r"Layer 'head' gives different shapes in its 3 calls, .*\(2, 5, 3, 3\).* which cannot be "
        "stacked. Add their maps with calls='sum', or choose one of them."
    )
    with pytest.raises(ValueError, match=message):
        cam.attribute(IMAGE, output_size=(3, 17, 22))


class OneActivation(nn.Module):
    """One ReLU after a convolution and after the pooling."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.relu(self.relu(self.conv(x)).mean((2, 3))))


@pytest.mark.parametrize("calls", ["stack", "sum", "last", 1])
def test_a_call_without_a_grid_is_an_error_only_if_it_is_explained(calls):
    model = OneActivation().double()
    message = (
        r"'relu' gives shape \(2, 4\), which has no spatial axis .* The layer ran 2 times in one "
        r"forward pass: see calls= of Layer\(...\)."
    )
    with pytest.raises(ValueError, match=message):
        LayerwiseGradCAM(model, Layer("relu", calls=calls)).attribute(IMAGE)
    assert LayerwiseGradCAM(model, Layer("relu", calls=0)).attribute(IMAGE).any()


class OneSampleAtATime(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return torch.cat([self.head(self.cnn(sample[None]).mean((2, 3))) for sample in x])


@pytest.mark.parametrize("calls", ["stack", "sum", "last", 1])
def test_a_layer_that_runs_once_per_sample_is_refused(calls):
    model, size = OneSampleAtATime().double(), (2, 17, 22) if calls == "stack" else None
    message = (
        r"'cnn' gives shape \(1, 4, .*\) for a batch of 2. .* If it runs once for each sample, "
        "pass one sample at a time. .* The layer ran 2 times in one forward pass"
    )
    with pytest.raises(ValueError, match=message):
        LayerwiseGradCAM(model, Layer("cnn", calls=calls)).attribute(IMAGE, output_size=size)


class Growing(nn.Module):
    """A shared layer whose second call has more rows, or another number of axes."""

    def __init__(self, change):
        super().__init__()
        self.relu, self.change = nn.ReLU(), change

    def forward(self, x):
        y = self.relu(self.relu(x).repeat(2, 1, 1, 1) if self.change == "rows" else x)
        z = self.relu(x.unsqueeze(2)) if self.change == "axes" else self.relu(x)
        return y.mean((2, 3))[: len(x)] + z.flatten(2).mean(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rows", r"'relu' gives shape \(4, 2, 17, 22\) for a batch of 2"),
        ("axes", r"'relu' gives 3 spatial axes, shape \(2, 2, 1, 17, 22\), but the map is to have"),
    ],
)
def test_every_call_that_is_added_must_fit(change, message):
    cam = GlobalLocalCAM2D(Growing(change), Layer("relu", calls="sum"))
    with pytest.raises(ValueError, match=message):
        cam.attribute(IMAGE)


def test_a_2d_layer_in_a_loop_is_advised_to_stack(frames_in_a_loop):
    message = (
        r"Layer 'cnn' gives 2 spatial axes, .* The layer ran 4 times in one forward pass: if those "
        r"are the frames, stack them with Layer\(..., calls='stack'\)."
    )
    with pytest.raises(ValueError, match=message):
        GlobalLocalCAM3D(frames_in_a_loop, "cnn").attribute(CLIP)
