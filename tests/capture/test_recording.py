"""One forward, one backward, nothing upstream kept, and every wrong use named."""

import gc
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from captum.attr import LayerGradCam
from networks import Threaded, conv_net, cpu_only, random_input
from torch import nn
from torch.profiler import ProfilerActivity, profile

from captum_3dcam import (
    GlobalLocalCAM2D,
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    functional,
)
from captum_3dcam._capture.layer_calls import LayerCalls, gather
from captum_3dcam._capture.process_settings import eager_modules
from captum_3dcam._capture.recording import (
    record,
)
from captum_3dcam._capture.reduction import LayerFactors, Reduction
from captum_3dcam._inputs import format_inputs
from captum_3dcam._restoration import Restoration
from captum_3dcam.layers import resolve_layers

PAIR = Reduction(
    of_activation=lambda activation: (activation.clone(),),
    of_gradient=lambda gradient: (gradient,),
    join=lambda activation, gradient: LayerFactors((*activation, *gradient), {}),
)


def pairs_of(model, layers, *inputs, target=None, **kwargs):
    recording = recorded(model, layers, *inputs, **kwargs)
    return pairs_in(recording, target)


def pairs_in(recording, target):
    return [call.factors for (call,) in recording.factors(target)]


def recorded(model, layers, *inputs, reduction=PAIR, **kwargs):
    layers, inputs = resolve_layers(layers, model), format_inputs(inputs)
    size = {"batch_size": len(inputs[0]), "rank": inputs[0].ndim - 2}
    return record(model, layers, inputs, reduction=reduction, **size, **kwargs)


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


# ----------------------------------------------------------------- activations and gradients


def test_gradients_are_those_of_finite_differences():
    net = conv_net(2, depth=2).double()
    x = random_input(1, (4, 4)).double()
    for position in (0, 1):
        ((activation, gradient),) = pairs_of(net, [net[position]], x, target=1)
        tail = net[position + 1 :]
        for entry in range(0, activation.numel(), 5):
            step = torch.zeros_like(activation)
            step.view(-1)[entry] = 1e-6
            rise = (tail(activation + step) - tail(activation - step))[0, 1] / 2e-6
            assert gradient.view(-1)[entry].item() == pytest.approx(rise.item(), abs=1e-7)


@pytest.mark.parametrize("layer_input", [False, True])
def test_activations_are_what_the_layer_gave_or_took(layer_input):
    net, x = conv_net(2), random_input(2, (5, 5))
    ((activation, gradient),) = pairs_of(net, "1", x, attribute_to_layer_input=layer_input)
    expected = net[0](x) if layer_input else net[1](net[0](x))
    torch.testing.assert_close(activation, expected)
    assert gradient.shape == expected.shape
    assert not activation.requires_grad
    assert not gradient.requires_grad


def in_place_operations():
    def first_channel(y):
        y[:, 0] *= 3
        return y

    def through_a_view(y):
        y.view(y.shape[0], -1).relu_()
        return y

    return {
        "relu_": torch.relu_,
        "add_": lambda y: y.add_(1),
        "slice": first_channel,
        "view": through_a_view,
    }


class Then(nn.Module):
    def __init__(self, first, operation, second):
        super().__init__()
        self.first, self.operation, self.second = first, operation, second

    def forward(self, x):
        return self.second(self.operation(self.first(x)))


@pytest.mark.parametrize("layers", [["first"], ["first", "second.0"]])
@pytest.mark.parametrize("operation", in_place_operations())
def test_an_in_place_operation_after_a_layer_changes_nothing(operation, layers):
    in_place = in_place_operations()[operation]
    first, second = nn.Conv2d(2, 3, 3), conv_net(2, inputs=3)
    x = random_input(2, (7, 7))
    model = Then(first, in_place, second)
    plain = Then(first, lambda y: in_place(y.clone()), second)
    found, expected = pairs_of(model, layers, x, target=2), pairs_of(plain, layers, x, target=2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[0][0], first(x))


def test_the_forward_is_the_models_own_to_the_last_alias():
    """A layer that gives back its own input: what is written to one is seen in the other."""

    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.same, self.head = nn.Identity(), conv_net(2)

        def forward(self, x):
            x = x * 1
            y = self.same(x)
            y.mul_(-2)
            return self.head(x + y)

    model, x = Aliased(), random_input(1, (5, 5))
    recording = recorded(model, "same", x)
    torch.testing.assert_close(recording.output, model(x), rtol=0, atol=0)
    ((activation, _),) = pairs_in(recording, 0)
    assert torch.equal(activation, x)


class PreActivation(nn.Module):
    """Goes on with the input of its in-place ReLU, or of its Dropout, which are their outputs."""

    def __init__(self, same, ignore):
        super().__init__()
        self.stem, self.same, self.ignore = nn.Conv2d(2, 2, 3, padding=1), same, ignore
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.same(x)
        return self.head((x + self.conv(x if self.ignore else y)).pow(2).mean((2, 3)))


@pytest.mark.parametrize("same", [nn.ReLU(inplace=True), nn.Dropout(), nn.Identity()])
@pytest.mark.parametrize("ignore", [False, True])
def test_a_layer_that_gives_back_its_input_is_followed_under_both_names(same, ignore):
    model, x = PreActivation(same, ignore).eval().double(), random_input(1, (5, 5)).double()
    kept = same(model.stem(x)).detach().requires_grad_()
    score = model.head((kept + model.conv(kept)).pow(2).mean((2, 3)))[0, 1]
    expected = torch.autograd.grad(score, kept)[0]
    for layers in ("same", ["stem", "same"]):
        activation, gradient = pairs_of(model, layers, x, target=1)[-1]
        torch.testing.assert_close(activation, kept.detach())
        torch.testing.assert_close(gradient, expected)
    assert not x.requires_grad


def test_the_callers_input_does_not_join_the_graph():
    model, x = nn.Sequential(nn.Identity(), conv_net(2)), random_input(1, (5, 5))
    pairs_of(model, "0", x)
    assert not x.requires_grad
    assert x.grad_fn is None


def test_a_layer_that_runs_twice_is_captured_at_its_last_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), conv_net(2)

        def forward(self, x):
            return self.head(self.conv(self.conv(x)))

    model, x = Twice(), random_input(1, (5, 5))
    ((activation, _),) = pairs_of(model, "conv", x)
    torch.testing.assert_close(activation, model.conv(model.conv(x)))


class Activated(nn.Module):
    """One ReLU for all, of which the calls before the last give other shapes."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.head = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Linear(3, 4)

    def forward(self, x, last="grid"):
        x = self.first(x)
        weights = self.relu(x.mean((2, 3)))
        grid = self.relu(x * weights[..., None, None])
        pooled = grid.mean((2, 3))
        return self.head(self.relu(pooled) if last == "vector" else pooled)


def test_an_earlier_call_that_does_not_fit_is_none_of_ours():
    model, x = Activated(), random_input(2, (5, 5))
    seen = []

    def reduce(activation, gradient):
        seen.append(activation[0].shape)
        return LayerFactors((*activation, *gradient), {})

    recording = recorded(model, ["first", "relu"], x, reduction=PAIR._replace(join=reduce))
    _, (activation, gradient) = pairs_in(recording, 1)
    # From the score on: the earlier call's gradient comes by too, and is not reduced.
    assert seen == [(2, 3, 3, 3), (2, 3, 3, 3)]
    grid = model.first(x)
    grid = (grid * grid.mean((2, 3), keepdim=True).relu()).relu()
    torch.testing.assert_close(activation, grid)
    expected = model.head.weight[1, None, :, None, None].expand(2, 3, 3, 3) / 9
    torch.testing.assert_close(gradient, expected)


def test_a_last_call_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"'relu' gives shape \(2, 3\), which has no spatial axis"):
        pairs_of(Activated(), "relu", random_input(2, (5, 5)), additional_forward_args="vector")


Named = namedtuple("Named", "note features")


@pytest.mark.parametrize(
    ("pack", "index"),
    [
        (lambda a, b: (a, b), 1),
        (lambda a, b: [None, b], None),
        (lambda a, b: Named("first", b), "default"),
        (lambda a, b: Named("first", b), "features"),
        (lambda a, b: (a, b), -1),
        (lambda a, b: OrderedDict(a=a, b=b), "b"),
    ],
    ids=["tuple", "list", "namedtuple", "namedtuple field", "tuple from the end", "dict"],
)
def test_layers_that_give_several_tensors(pack, index):
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)

        def forward(self, x):
            return pack(self.left(x), self.right(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.split, self.head = Split(), conv_net(2)

        def forward(self, x):
            given = self.split(x)
            assert type(given) is type(pack(x, x)), "the model got another type than it made"
            return self.head(given["b"] if isinstance(given, dict) else given[1])

    model, x = Model(), random_input(1, (7, 7))
    layer = Layer("split", index=None if index == "default" else index)
    ((activation, gradient),) = pairs_of(model, layer, x)
    torch.testing.assert_close(activation, model.split.right(x))
    assert gradient.any()


def test_a_layer_called_with_keywords_gives_its_input():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = Inner(), conv_net(2)

        def forward(self, x):
            return self.head(self.inner(2.0, features=x * 2))

    class Inner(nn.Module):
        def forward(self, scale, features):
            return features * scale

    model, x = Keyword(), random_input(1, (5, 5))
    for index in (None, "features"):
        layer = Layer("inner", index=index)
        ((activation, _),) = pairs_of(model, layer, x, attribute_to_layer_input=True)
        torch.testing.assert_close(activation, x * 2)


class Branches(nn.Module):
    """Three layers that take the same tensor."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.skip, self.relu, self.head = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(3, 4)

    def forward(self, x):
        x = self.stem(x)
        wide, skip = self.wide(x).tanh(), self.skip(x)
        return self.head((wide + skip + self.relu(x)).tanh().mean((2, 3)))


@pytest.mark.parametrize("layer", ["stem", "wide", "skip", "relu"])
def test_the_gradient_of_an_input_is_that_over_all_its_uses_as_in_captum(layer):
    model, x = Branches().eval(), random_input(2, (6, 6))
    captums = LayerGradCam(model, model.get_submodule(layer))
    theirs = captums.attribute(x, 1, attribute_to_layer_input=True, relu_attributions=True)
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        ours = LayerwiseGradCAM(model, layer).attribute(x, 1, attribute_to_layer_input=True)
        assert ours.any()
        torch.testing.assert_close(ours, functional.normalize(theirs.detach()))


def test_a_model_may_write_to_its_input_where_that_is_explained():
    model, x = nn.Sequential(nn.ReLU(inplace=True), conv_net(2)), random_input(2, (6, 6))
    for layer in ("0", "1.0"):
        ((activation, gradient),) = pairs_of(model, layer, x, attribute_to_layer_input=True)
        torch.testing.assert_close(activation, x if layer == "0" else x.relu())
        assert gradient.any()
    assert x.min() < 0
    assert not x.requires_grad


# ------------------------------------------------------------- one forward, one backward


class CountedBackward(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        CountedBackward.calls += 1
        return gradient


class Counted(nn.Module):
    """Counts the passes through its end, on the class: a model's own attributes are restored."""

    forwards = 0

    def __init__(self, net):
        super().__init__()
        self.net = net
        Counted.forwards = CountedBackward.calls = 0

    def forward(self, x):
        Counted.forwards += 1
        return CountedBackward.apply(self.net(x))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_forward_and_one_backward_for_any_number_of_layers(count):
    model = Counted(conv_net(3, depth=4))
    cam = GlobalLocalCAM3D(model, [f"net.{i}" for i in range(count)])
    cam.attribute(random_input(2, (4, 6, 6)))
    assert (model.forwards, CountedBackward.calls) == (1, 1)


def test_one_forward_for_several_classes():
    model = Counted(conv_net(3))
    GlobalLocalCAM3D(model, ["net.0", "net.1"]).attribute_top_k(random_input(2, (4, 6, 6)), k=3)
    assert (model.forwards, CountedBackward.calls) == (1, 3)


def test_the_graph_begins_at_the_first_layer():
    """Upstream of it nothing has a gradient, and nothing there is kept alive."""
    seen = {}

    class Stage(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name, self.conv = name, nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            seen[self.name] = (torch.is_grad_enabled(), y.requires_grad)
            return y

    net = nn.Sequential(Stage("a"), Stage("b"), Stage("c"), conv_net(2)).eval()
    pairs_of(net, [net[2], net[1]], random_input(1, (6, 6)))
    assert seen == {"a": (False, False), "b": (False, False), "c": (True, True)}


class ResNetLike(nn.Module):
    """A 3D residual network whose early activations are by far the largest."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU())
        self.blocks = nn.ModuleList([self.block(8 * 2**i, 16 * 2**i) for i in range(3)])
        self.shortcuts = nn.ModuleList(
            [nn.Conv3d(8 * 2**i, 16 * 2**i, 1, stride=2) for i in range(3)]
        )
        self.head = nn.Linear(64, 5)

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride=2, padding=1),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, padding=1),
            nn.BatchNorm3d(outputs),
        )

    def forward(self, x):
        x = self.stem(x)
        for block, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            x = torch.relu(block(x) + shortcut(x))
        return self.head(x.mean((2, 3, 4)))


def peak_memory(run):
    """The most bytes of tensor memory that lie on the heap together while ``run`` runs."""
    run()  # whatever is made once is made here
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    total = peak = 0
    for _, change in changes:
        total += change
        peak = max(peak, total)
    del kept
    return peak


def test_explaining_the_last_block_takes_hardly_more_memory_than_a_forward():
    model, x = ResNetLike().eval(), torch.randn(4, 3, 16, 56, 56)
    last, stem = [LayerwiseGlobalLocalCAM(model, layer) for layer in ("blocks.2", "stem")]

    def forward():
        with torch.no_grad():
            return model(x)

    bare = peak_memory(forward)
    assert peak_memory(lambda: last.attribute(x)) <= 1.15 * bare
    # The measure sees a graph that begins earlier.
    assert peak_memory(lambda: stem.attribute(x)) > 1.5 * bare


# ---------------------------------------------------------------------- ways to be called


def test_frozen_models_no_grad_and_inference_inputs_change_nothing():
    model, x = conv_net(3), random_input(2, (3, 6, 6))
    cam = GlobalLocalCAM3D(model, ["0", "1"])
    expected = cam.attribute(x, target=1)
    model.requires_grad_(False)
    assert torch.equal(cam.attribute(x, target=1), expected)
    with torch.no_grad():
        assert torch.equal(cam.attribute(x, target=1), expected)
    with torch.inference_mode():
        made_there = x.clone()
    assert torch.equal(cam.attribute(made_there, target=1), expected)
    assert torch.is_grad_enabled()


def test_an_inference_input_may_be_saved_for_backward():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.net = nn.Conv2d(2, 2, 3, padding=1), conv_net(2)

        def forward(self, x):
            return self.net(self.conv(x) * x)

    with torch.inference_mode():
        made_there = random_input(1, (5, 5))
    assert GlobalLocalCAM2D(Skip(), "conv").attribute(made_there).shape == (1, 1, 5, 5)


class Frozen(nn.Module):
    """Runs its stages, or the first few of them, without gradients."""

    def __init__(self, frozen):
        super().__init__()
        self.frozen, self.head = frozen, conv_net(2)
        self.stages = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

    def forward(self, x):
        for number, stage in enumerate(self.stages):
            with torch.set_grad_enabled(number >= self.frozen):
                y = stage(x)
            x = x + y
        return self.head(x)


def test_a_frozen_backbone_is_explained_as_if_it_were_not():
    model, x = Frozen(1), random_input(1, (7, 7))
    cam = GlobalLocalCAM2D(model, ["stages.0", "stages.1", "head.0"])
    maps = cam.attribute(x, per_layer=True)
    model.frozen = 0
    torch.testing.assert_close(maps, cam.attribute(x, per_layer=True))


def test_a_frozen_part_after_the_layer_is_constant_and_that_is_said():
    model, x = Frozen(2), random_input(1, (7, 7))
    assert GlobalLocalCAM2D(model, "head.0").attribute(x).shape == (1, 1, 7, 7)
    with pytest.warns(UserWarning, match=r"'stages.0' run under the model's own torch.no_grad\(\)"):
        attribution = LayerwiseGradCAM(model, "stages.0").attribute(x, target=1)
    first, second = model.stages

    def constant(y):
        return x + y + second(x + y).detach()

    alike = Then(first, constant, model.head)
    torch.testing.assert_close(attribution, LayerwiseGradCAM(alike, "first").attribute(x, target=1))


def test_gradients_switched_back_by_the_model_are_captums():
    """set_grad_enabled(True) leaves gradients as they were: off, if they are off upstream."""
    model, x = Frozen(0), random_input(2, (7, 7))
    theirs = LayerGradCam(model, model.stages[0]).attribute(x, 1, relu_attributions=True)
    ours = LayerwiseGradCAM(model, "stages.0").attribute(x, 1)
    torch.testing.assert_close(ours, functional.normalize(theirs.detach()))


def test_a_function_under_no_grad_is_explained_all_the_same():
    model = conv_net(2)

    @torch.no_grad()
    def forward_func(x):
        return model(x)

    x = random_input(1, (6, 6))
    expected = GlobalLocalCAM2D(model, "0").attribute(x)
    assert torch.equal(GlobalLocalCAM2D(forward_func, model[0]).attribute(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(dtype):
    model, x = conv_net(3), random_input(2, (3, 6, 6))
    expected = GlobalLocalCAM3D(model, ["0", "1"]).attribute(x, target=0)
    found = GlobalLocalCAM3D(model.to(dtype), ["0", "1"]).attribute(x.to(dtype), target=0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)


def test_autocast():
    model, x = conv_net(3), random_input(2, (3, 6, 6))
    cam = GlobalLocalCAM3D(model, ["0", "1"])
    expected = cam.attribute(x, target=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cam.attribute(x, target=0)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)


def test_double_precision_stays_double():
    model, x = conv_net(1).double(), random_input(1, (9,)).double()
    assert LayerwiseGlobalLocalCAM(model, "0").attribute(x).dtype == torch.float64


# ------------------------------------------------------------------------------ DataParallel


def test_replicas_are_gathered_in_the_order_of_device_ids():
    zero, one = torch.zeros(2, 1, 3), torch.ones(1, 1, 3)
    per_device = {torch.device("cuda:1"): one, torch.device("cuda:0"): zero}
    assert gather(per_device, [0, 1])[:, 0, 0].tolist() == [0, 0, 1]
    assert gather(per_device, [1, 0])[:, 0, 0].tolist() == [1, 0, 0]
    assert gather({torch.device("cpu"): one}) is one


def test_replicas_of_unknown_order_are_refused():
    per_device = {torch.device("cuda:0"): torch.ones(1), torch.device("cuda:1"): torch.ones(1)}
    with pytest.raises(ValueError, match="several devices, cuda:0, cuda:1, .* Pass device_ids"):
        gather(per_device)


@cpu_only
@pytest.mark.parametrize("wrap", [nn.DataParallel, Threaded])
@pytest.mark.parametrize("call", [lambda model: model, lambda model: lambda x: model(x)])
def test_data_parallel_gives_the_same_map(wrap, call):
    model, x = conv_net(3), random_input(2, (3, 6, 6))
    expected = GlobalLocalCAM3D(model, [model[0], model[1]]).attribute(x)
    wrapped = wrap(model)
    cam = GlobalLocalCAM3D(call(wrapped), [model[0], model[1]])
    assert torch.equal(cam.attribute(x), expected)
    assert hooks_of(wrapped) == 0


@cpu_only
@pytest.mark.parametrize("wrap", [nn.DataParallel, Threaded])
def test_layers_before_a_data_parallel_part(wrap):
    stem, trunk, x = nn.Conv2d(2, 2, 3), conv_net(2), random_input(1, (7, 7))
    expected = GlobalLocalCAM2D(nn.Sequential(stem, trunk), ["0", "1.0"]).attribute(x)
    found = GlobalLocalCAM2D(nn.Sequential(stem, wrap(trunk)), ["0", "1.module.0"]).attribute(x)
    assert torch.equal(found, expected)


def test_another_thread_that_runs_the_model_is_left_alone():
    """Under inference_mode, too, where our hooks would have to refuse."""
    net, x = conv_net(2), random_input(1, (6, 6))
    other, failed = random_input(3, (8, 8), seed=1), []

    class Meanwhile(nn.Module):
        def forward(self, x):
            if threading.current_thread() is threading.main_thread():
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
            return x

    model = nn.Sequential(net[0], Meanwhile(), *net[1:]).eval()

    def run():
        try:
            with torch.inference_mode():
                model(other)
        except RuntimeError as error:
            failed.append(error)

    found = GlobalLocalCAM2D(model, ["0", "2"]).attribute(x, target=0)
    assert not failed
    assert torch.equal(found, GlobalLocalCAM2D(net, ["0", "1"]).attribute(x, target=0))


def test_calls_that_overlap_give_compiled_code_back():
    compiled = torch.compile(conv_net(2), backend="eager")
    x = random_input(1, (6, 6))
    compiled(x)
    stance = torch._dynamo.eval_frame._stance.stance
    first, second = Restoration(), Restoration()
    eager_modules.use(first)
    eager_modules.use(second)
    first.run()
    first.run()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    second.run()
    assert torch._dynamo.eval_frame._stance.stance == stance


def test_inference_tensors_among_the_additional_arguments():
    net = conv_net(2)
    with torch.inference_mode():
        weight = torch.rand(2, 1, 1)

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.net = nn.Conv2d(2, 2, 1), net

        def forward(self, x, weight):
            return self.net(self.conv(x) * weight)

    explain = GlobalLocalCAM2D(Weighted(), "conv")
    assert explain.attribute(random_input(1, (5, 5)), 0, weight).shape == (1, 1, 5, 5)


def test_a_layers_shape_is_that_over_all_devices():
    calls = LayerCalls(Layer("conv"), PAIR)
    for device, rows in (("cpu", 2), ("meta", 1)):
        calls.by_device[device] = [SimpleNamespace(shape=(rows, 3, 4))]
    assert calls.shapes == [(3, 3, 4)]


@cpu_only
def test_the_order_of_devices_is_the_models_own_unless_given():
    model, x = Threaded(conv_net(2)), random_input(1, (5, 5))
    model.device_ids = [1, 0]
    layer = model.module[0]
    assert recorded(lambda x: model(x), layer, x).device_ids == [1, 0]
    assert recorded(model, layer, x, device_ids=[0, 1]).device_ids == [0, 1]
    recording, _ = GlobalLocalCAM2D(model, layer, device_ids=[0, 1])._record(x, None, False, 5)
    assert recording.device_ids == [0, 1]


@cpu_only
def test_data_parallel_replicas_run_without_gradients_until_the_first_layer():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append(torch.is_grad_enabled())
            return x

    net = nn.Sequential(Probe(), nn.Conv2d(2, 2, 3), Probe(), conv_net(2)).eval()
    pairs_of(Threaded(net), net[1], random_input(1, (7, 7)))
    assert seen == [False, True]


# ------------------------------------------------------------------------------------ errors


class Model(nn.Module):
    """One of everything that can go wrong."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.side = nn.Conv2d(2, 2, 1)
        self.unused = nn.Conv2d(2, 2, 1)
        self.whole = Whole()
        self.labels = nn.Flatten()
        self.net = conv_net(2)
        self.ending = lambda y: y

    def forward(self, x):
        x = self.conv(x)
        self.side(x)
        self.whole(x)
        return self.ending(self.net(x))


class Whole(nn.Module):
    def forward(self, x):
        return x.long()


@pytest.fixture
def model():
    return Model().eval()


X = random_input(2, (6, 6))


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("unused", RuntimeError, "Layer\\(s\\) 'unused' did not run in the forward pass"),
        (["conv", "unused"], RuntimeError, "'unused' did not run"),
        (nn.Conv2d(2, 2, 1), RuntimeError, r"'layers\[0\] \(Conv2d\)' did not run"),
        ("side", RuntimeError, "'side' does not reach the score"),
        (["conv", "side"], RuntimeError, r"layer\(s\) 'side' does not reach the score"),
        ("whole", TypeError, "'whole' gives torch.int64, of which there is no gradient"),
        ("net.2", None, None),
        ("net.3", ValueError, r"'net.3' gives shape \(2, 12\), which has no spatial axis"),
        (Layer("conv", reshape=lambda x: x.flatten(0, 1)[:, None]), ValueError, "a batch of 2"),
    ],
)
def test_layers_that_cannot_be_used(model, layers, error, message):
    cam = GlobalLocalCAM2D(model, layers)
    if error is None:
        assert cam.attribute(X).shape == (2, 1, 6, 6)
        return
    with pytest.raises(error, match=message):
        cam.attribute(X)
    assert hooks_of(model) == 0


@pytest.mark.parametrize(
    ("ending", "error", "message"),
    [
        (lambda y: {"a": y, "b": y}, TypeError, r"it returned dict with \['a', 'b'\]"),
        (lambda y: (y, y), TypeError, "must return a tensor of scores; it returned tuple"),
        (lambda y: y.detach(), RuntimeError, "'conv' does not reach the score"),
        (lambda y: y.argmax(1), RuntimeError, "labels instead of scores"),
        (lambda y: y / 0 * 0, RuntimeError, "NaN or Inf in the gradient of 'conv'"),
    ],
)
def test_outputs_that_cannot_be_explained(model, ending, error, message):
    model.ending = ending
    with pytest.raises(error, match=message):
        GlobalLocalCAM2D(model, "conv").attribute(X)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_name_their_layer(model, value):
    x = X.clone()
    x[1, 0, 2, 2] = value
    with pytest.raises(RuntimeError, match="NaN or Inf in the activation of 'conv'"):
        GlobalLocalCAM2D(model, ["conv", "net.0"]).attribute(x, target=0)


def test_half_precision_overflow_is_an_error_not_a_blank_map():
    net = conv_net(2).half()
    with pytest.raises(RuntimeError, match="in half precision, use bfloat16 or float32"):
        GlobalLocalCAM2D(net, "0").attribute(6e4 * random_input(1, (6, 6)).half(), target=0)


def test_inference_mode_is_named(model):
    cam = GlobalLocalCAM2D(model, "conv")
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"inference_mode.*no_grad\(\) it works"),
    ):
        cam.attribute(X)


def test_a_model_that_runs_itself_in_inference_mode_is_named(model):
    def forward_func(x):
        with torch.inference_mode():
            return model(x)

    with pytest.raises(RuntimeError, match=r"under torch.inference_mode\(\)"):
        GlobalLocalCAM2D(forward_func, model.conv).attribute(X)


def test_a_model_made_in_inference_mode_is_named():
    with torch.inference_mode():
        made_there = conv_net(2)
    with pytest.raises(RuntimeError, match="parameters or buffers were made under"):
        GlobalLocalCAM2D(made_there, "0").attribute(X)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            [X],
            TypeError,
            "must be a tensor or a tuple of tensors, batch first; received list",
        ),
        (X.numpy(), TypeError, "received ndarray"),
        ((X, 3), TypeError, "received Tensor, int"),
        ((), TypeError, "an empty tuple"),
        (X[:0], ValueError, r"a batch of at least one sample; received shape \(0, 2, 6, 6\)"),
        (torch.tensor(1.0), ValueError, r"at least one sample; received shape \(\)"),
    ],
)
def test_wrong_inputs_are_named(model, inputs, error, message):
    with pytest.raises(error, match=message):
        GlobalLocalCAM2D(model, "conv").attribute(inputs)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is (deprecated|not supported)")
def test_a_scripted_layer_is_named():
    scripted = torch.jit.script(conv_net(2))
    with pytest.raises(TypeError, match="'0' is compiled by torch.jit.script, which no hook can"):
        GlobalLocalCAM2D(scripted, "0").attribute(X)


@pytest.mark.parametrize("given", ["none", 5])
def test_an_index_that_gives_no_tensor_is_named(given):
    class Pair(nn.Module):
        def forward(self, x):
            return ("text", 3) if given == "none" else (x, x)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.net = Pair(), conv_net(2)

        def forward(self, x):
            self.pair(x)
            return self.net(x)

    layer = Layer("pair", index=None if given == "none" else given)
    wanted = "a tensor; it gives tuple" if given == "none" else "at index 5; it gives tuple"
    with pytest.raises(TypeError, match=f"'pair' should give .*{wanted}"):
        GlobalLocalCAM2D(Holder(), layer).attribute(X)


# ------------------------------------------------------------- nothing about the model differs


def state_of(model):
    return {
        "hooks": hooks_of(model),
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "tensors": [(id(t), t.clone().tolist()) for t in model.state_dict(keep_vars=True).values()],
        "generator": torch.get_rng_state().tolist(),
        "grad_enabled": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


class Raising(nn.Module):
    error: BaseException | None = None

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return x


@pytest.mark.parametrize("error", [None, ValueError("mine"), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("layer_input", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_about_the_model_differs_after_a_call(training, layer_input, error):
    net = conv_net(2, norm=True)
    model = nn.Sequential(net[:2], nn.Dropout(0.5), Raising(), net[2:]).train(training)
    net[0][0].weight.requires_grad_(False)
    net[1][0].weight.grad = torch.ones_like(net[1][0].weight)
    model[2].error = error
    x = X.clone()
    before = state_of(model)
    cam = GlobalLocalCAM2D(model, ["0.0", "0.1"])
    calls = [
        lambda: cam.attribute(x, attribute_to_layer_input=layer_input),
        lambda: cam.attribute(x, target=99, attribute_to_layer_input=layer_input),
        lambda: cam.attribute_top_k(x, 2, attribute_to_layer_input=layer_input),
    ]
    for call, wrong in zip(calls, (None, IndexError, None), strict=True):
        expected = type(error) if error is not None else wrong
        if expected is None:
            call()
        else:
            with pytest.raises(expected):
                call()
        assert state_of(model) == before
    assert not x.requires_grad
    assert x.grad is None
    assert torch.equal(x, X)


def test_train_mode_gives_the_same_map_twice():
    """Dropout draws, and batch norm updates; neither is left behind for the next call."""
    model = nn.Sequential(conv_net(2, norm=True)[:2], nn.Dropout(0.5), *conv_net(2)[2:]).train()
    cam = GlobalLocalCAM2D(model, "0.0")
    assert torch.equal(cam.attribute(X, target=0), cam.attribute(X, target=0))


def test_a_backward_pass_imports_nothing_that_an_interrupt_would_break_off():
    """PyTorch imports SymPy in the first backward pass of a process: before it is interruptible."""
    script = (
        "import sys, torch; from torch import nn\n"
        "from captum_3dcam._capture.recording import _load_autograd\n"
        "_load_autograd(); before = set(sys.modules)\n"
        "x = torch.rand(2, 3, 5, 5)\n"
        "y = nn.Conv2d(3, 2, 3)(x).relu().mean((2, 3))\n"
        "edge = torch.autograd.graph.get_gradient_edge\n"
        "torch.autograd.grad([edge(y)], [edge(y)], [y])\n"
        "print(sorted(name for name in set(sys.modules) - before if 'sympy' in name))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
