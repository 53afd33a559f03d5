"""The classes keep to Captum's interface: its models, targets, NoiseTunnel, metrics, algorithms."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import (
    GradientAttribution,
    LayerActivation,
    LayerAttribution,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
)
from captum.attr._utils.attribution import InternalAttribution
from captum.metrics import infidelity, sensitivity_max
from networks import cpu_only
from torch import nn
from torch.testing import assert_close

import captum_3dcam
from captum_3dcam import (
    Layer,
    LayerwiseAblationCAM,
    LayerwiseFEM,
    LayerwiseGradCAM,
    LayerwiseScoreCAM,
    LayerwiseWhatWhereCAM,
    RivalCAM,
    functional,
)
from captum_3dcam.attribution import LayerwiseCAM

no_testing = "Captum ships its own test models from 0.9 on"
models = pytest.importorskip("captum.testing.helpers.basic_models", reason=no_testing)
helpers = pytest.importorskip("captum.testing.attr.helpers.gen_test_utils", reason=no_testing)
configs = pytest.importorskip("captum.testing.attr.helpers.test_config", reason=no_testing).config

PUBLIC = [getattr(captum_3dcam, name) for name in captum_3dcam.__all__]
PUBLIC = [value for value in PUBLIC if isinstance(value, type)]
ALGORITHMS = [value for value in PUBLIC if issubclass(value, LayerAttribution)]
# FullGradCAM takes no list of layers, LeGrad only those of attention weights.
NOT_OF_LAYERS = (captum_3dcam.FullGradCAM, captum_3dcam.LayerwiseLeGrad)
# Beside another one of the same kind, which takes the same path.
TWINS = (
    captum_3dcam.LayerwiseEigenGradCAM,
    captum_3dcam.LayerwiseGradCAMElementWise,
    captum_3dcam.LayerwiseKPCACAM,
)
CLASSES = [
    cls
    for cls in ALGORITHMS
    if issubclass(cls, LayerwiseCAM) and cls.rank is None and cls not in NOT_OF_LAYERS
]
# Of the others, the map is not the rule of the activation and the score's gradient.
OF_ONE_GRADIENT = [
    cls
    for cls in CLASSES
    if cls.rule.__module__.endswith(("gradient_rules", "activation_rules", "what_where"))
    and cls.__base__ is not captum_3dcam.LayerwiseWhatWhereCAM
    and cls.__base__.__name__ != "_ActivationCAM"
    and cls is not captum_3dcam.LayerwiseShapleyCAM
]
assert len(OF_ONE_GRADIENT) == 10
ENTRIES = {entry["name"]: entry for entry in configs if LayerGradCam in entry["algorithms"]}
assert len(ENTRIES) >= 7, "Captum has renamed or dropped its LayerGradCam configurations"


def each_class_but(*others):
    classes = [cls for cls in CLASSES if cls not in (*others, *TWINS)]
    return pytest.mark.parametrize("cls", classes, ids=lambda cls: cls.__name__)


every_class = each_class_but()
of_input = pytest.mark.parametrize("layer_input", [False, True], ids=["output", "input"])
jit_is_deprecated = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
same = partial(assert_close, rtol=0, atol=1e-6)


def shaken(model):
    """The model with random weights, in double precision.

    Captum's test models have weights of one: their classes share one gradient, none of it
    negative, so that a wrong target or sign would go unseen.
    """
    model = deepcopy(model).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


CONV_NETS = {
    1: models.BasicModel_ConvNet_MaxPool1d,
    2: models.BasicModel_ConvNet,
    3: models.BasicModel_ConvNet_MaxPool3d,
}


def conv_net(rank=2):
    return shaken(CONV_NETS[rank]())


def in_place(model, inplace=True):
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = inplace
    return model


def modules(model):
    return [model.conv1, model.relu2]


def names(model, prefix=""):
    return [prefix + "conv1", prefix + "relu2"]


def images(batch=3, rank=2):
    return torch.randn(batch, 1, *[10] * rank).double()


def doubled(value):
    if isinstance(value, tuple):
        return tuple(map(doubled, value))
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if is_float else value


def sample(value, i):
    """What belongs to sample i of inputs, additional arguments, or a target of any form."""
    if isinstance(value, tuple):
        return tuple(sample(entry, i) for entry in value)
    if isinstance(value, list):
        return value[i : i + 1]
    is_batch = isinstance(value, torch.Tensor) and value.numel() > 1
    return value[i : i + 1] if is_batch else value


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def hooks_on(model):
    """How many hooks of any kind the model and its modules carry."""
    tables = [v for m in model.modules() for k, v in vars(m).items() if "hook" in k]
    return sum(len(table) for table in tables if isinstance(table, dict))


def same_maps(actual, expected):
    """Equal, and not for the reason that there is nothing in them."""
    assert expected.max() > 1e-3
    same(actual, expected)


# ----------------------------------------------------- Captum's configurations, and its Grad-CAM


def draws_of(name, cls, **kwargs):
    """Captum's configuration, several times over: with four units, one draw can be all zero."""
    entry = ENTRIES[name]
    for _ in range(6):
        model = shaken(entry["model"])
        module = helpers.get_target_layer(model, entry["layer"])
        arguments = {key: doubled(value) for key, value in entry["attribute_args"].items()}
        # (N, 4) units have no spatial axis: they become one, of a single channel.
        is_flat = "conv" not in name
        reshape = partial(torch.unsqueeze, dim=1) if is_flat else None
        outputs = [0, 1] if "multi_output" in name else [None]
        method = cls(model, [Layer(module, reshape, index) for index in outputs])
        size = (4,) if is_flat else (10, 10)
        yield method, {**arguments, **kwargs}, size


@of_input
@pytest.mark.parametrize("cls", OF_ONE_GRADIENT, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", ENTRIES)
def test_captums_configurations(name, cls, layer_input):
    batches = []
    for method, args, size in draws_of(name, cls, attribute_to_layer_input=layer_input):
        model, module = method.forward_func, method.layers[0].module
        slopes = LayerGradientXActivation(model, module, multiply_by_inputs=False)
        gradients = as_tuple(slopes.attribute(**args))
        no_target = {key: value for key, value in args.items() if key != "target"}
        activations = as_tuple(LayerActivation(model, module).attribute(**no_target))
        grids = [
            [tensor.unsqueeze(1) if tensor.ndim == 2 else tensor for tensor in pair]
            for pair in zip(activations, gradients, strict=True)
        ]
        if cls is LayerwiseWhatWhereCAM:
            expected = functional.what_where([functional.effect(*pair) for pair in grids], size)
        else:
            expected = sum(functional.layer_map(cls.rule(*pair), size) for pair in grids)

        batches.append(method.attribute(**args, output_size=size))
        same(batches[-1], expected)
        for i, row in enumerate(batches[-1].split(1)):
            one = {key: sample(value, i) for key, value in no_target.items()}
            target = args["target"]
            is_shared = isinstance(target, (int, tuple))
            for form in [target] if is_shared else [sample(target, i), target[i]]:
                same(method.attribute(**one, target=form, output_size=size), row)
    assert torch.cat(batches).max() > 0.1


def captums_grad_cam(model, layers, x, size, **kwargs):
    """Captum's own Grad-CAM, upsampled, over its maximum per sample, summed over the layers."""
    total = torch.zeros(len(x), 1, *size, dtype=x.dtype)
    for layer in layers:
        small = LayerGradCam(model, layer).attribute(x, relu_attributions=True, **kwargs)
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        for i, up in enumerate(LayerAttribution.interpolate(small, size, linear)):
            total[i] += up / up.max() if up.max() > 0 else up
    return total


@of_input
@pytest.mark.parametrize("inplace", [False, True], ids=["", "inplace"])
@pytest.mark.parametrize("names", [["conv1"], ["conv2"], ["pool1"], ["conv1", "pool1", "conv2"]])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grad_cam_is_captums(rank, names, inplace, layer_input):
    model, x = in_place(conv_net(rank), inplace), images(3, rank)
    kwargs = {"target": [1, 5, 2], "attribute_to_layer_input": layer_input}
    modules = [model.get_submodule(name) for name in names]
    expected = captums_grad_cam(model, modules, x, x.shape[2:], **kwargs)
    same_maps(LayerwiseGradCAM(model, names).attribute(x, **kwargs), expected)


# ------------------------------------------------------------- targets, outputs, arguments, models


FORMS_OF_ONE = [3, (3,), np.int64(3), torch.tensor(3), torch.tensor([3])]
FORMS_OF_MANY = [[3, 0, 8], [(3,), (0,), (8,)], np.array([3, 0, 8]), torch.tensor([3, 0, 8])]


@each_class_but(RivalCAM)
@pytest.mark.parametrize("target", [*FORMS_OF_ONE, *FORMS_OF_MANY, None], ids=repr)
def test_every_form_of_target(cls, target):
    model, x = conv_net(), images()
    classes = model(x).argmax(1) if target is None else np.broadcast_to(np.ravel(target), 3)
    singles = [
        # A function that picks the score itself leaves nothing to choose.
        cls(lambda x, k=int(k): model(x)[:, k], modules(model)).attribute(x[i : i + 1])
        for i, k in enumerate(classes)
    ]
    same_maps(cls(model, names(model)).attribute(x, target), torch.cat(singles))


@each_class_but(RivalCAM)
@pytest.mark.parametrize("target", [(1, 0, 1), [(1, 0, 1), (0, 1, 0), (0, 0, 1)]])
def test_tuples_index_outputs_of_higher_rank(cls, target):
    model, x = conv_net(), images()
    indices = target if isinstance(target, list) else [target] * 3
    flat = [4 * i + 2 * j + k for i, j, k in indices]
    expected = cls(model, modules(model)).attribute(x, flat)
    deep = cls(lambda x: model(x)[:, :8].reshape(-1, 2, 2, 2), modules(model))
    same_maps(deep.attribute(x, target), expected)


@each_class_but(RivalCAM, LayerwiseAblationCAM, LayerwiseScoreCAM)
@pytest.mark.parametrize(
    "reduce",
    [
        lambda y: y[:, 3],
        lambda y: y[:, 3:4],
        lambda y: y[:, 3].sum(),  # a single number for the whole batch
        lambda y: y[:, 3].sum().reshape(1),
    ],
    ids=["(N,)", "(N, 1)", "()", "(1,)"],
)
def test_regression_needs_no_target(cls, reduce):
    model, x = conv_net(), images()
    expected = cls(model, modules(model)).attribute(x, target=3)
    same_maps(cls(lambda x: reduce(model(x)), modules(model)).attribute(x), expected)


@each_class_but(LayerwiseScoreCAM)
@pytest.mark.parametrize("extra", [(torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1), 2.0), 2.0])
def test_additional_forward_args_follow_the_inputs(cls, extra):
    model, x = conv_net(), images()

    def forward(x, *extra):
        return model(x * extra[-1] + sum(extra[:-1]))

    shifted = x * 2 + (extra[0] if isinstance(extra, tuple) else 0)
    expected = cls(model, modules(model)).attribute(shifted, 2)
    same_maps(cls(forward, modules(model)).attribute(x, 2, extra), expected)


class Server:
    """Not a module: an object that holds one."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    predict = __call__


def already_run(model):
    compiled = torch.compile(model, backend="eager")
    compiled(images())
    return compiled


def frozen(model):
    return model.requires_grad_(False)


def partly_frozen(model):
    model.conv1.requires_grad_(False)
    return model


def traced_head(model):
    body = nn.Sequential(*list(model.children())[:5])
    tail = list(model.children())[5:]
    head = nn.Sequential(tail[0], nn.Flatten(), *tail[1:])
    head = torch.jit.trace(head, body(images()).detach())
    return lambda x: head(body(x))


@every_class
@pytest.mark.parametrize(
    "wrap, layers_of",
    [
        pytest.param(in_place, modules, id="in-place"),
        pytest.param(frozen, modules, id="frozen"),
        pytest.param(partly_frozen, modules, id="partly frozen"),
        pytest.param(lambda model: lambda x: model(x), modules, id="function"),
        pytest.param(partial, modules, id="partial"),
        pytest.param(lambda model: model.forward, modules, id="bound method"),
        pytest.param(Server, modules, id="object"),
        pytest.param(lambda model: Server(model).predict, modules, id="method of an object"),
        pytest.param(already_run, modules, id="compiled"),
        pytest.param(already_run, names, id="compiled, by name"),
        pytest.param(traced_head, modules, id="traced head", marks=jit_is_deprecated),
        pytest.param(nn.DataParallel, modules, id="parallel", marks=cpu_only),
        pytest.param(nn.DataParallel, names, id="parallel, by name", marks=cpu_only),
        pytest.param(
            nn.DataParallel, partial(names, prefix="module."), id="module.", marks=cpu_only
        ),
    ],
)
def test_however_the_model_is_wrapped(cls, wrap, layers_of):
    model, x = conv_net(), images()
    plain = deepcopy(model)
    expected = cls(plain, names(plain)).attribute(x, [1, 5, 2])
    same_maps(cls(wrap(model), layers_of(model)).attribute(x, [1, 5, 2]), expected)


@jit_is_deprecated
def test_a_layer_inside_a_traced_model_says_that_it_did_not_run():
    traced = torch.jit.trace(conv_net(), images())
    with pytest.raises(RuntimeError, match=r"'conv1' did not run.*torch\.jit"):
        LayerwiseGradCAM(traced, "conv1").attribute(images(), 1)


@pytest.mark.parametrize(
    "model, returned",
    [
        (models.BasicModel_MultiLayer_with_Future(), "Future"),
        (models.BasicModel_GradientLayerAttribution(), "dict with .*'task 1'"),
    ],
)
def test_outputs_that_are_no_tensor_are_refused(model, returned):
    layer = Layer("linear1", reshape=partial(torch.unsqueeze, dim=1))
    with pytest.raises(TypeError, match=f"must return a tensor of scores; it returned {returned}"):
        LayerwiseGradCAM(model, layer).attribute(torch.randn(2, 3), output_size=(4,))


# ----------------------------------------------------------------------- nothing is left behind


class Failing(nn.Module):
    """Raises, after a look at how many hooks the model carries; or passes its input on."""

    seen = 0  # of the class: a model's own attributes are restored

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if self.error is None:
            return x
        Failing.seen = hooks_on(self.model())
        raise self.error("stop")


@of_input
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("wrap", [nn.Module.eval, pytest.param(nn.DataParallel, marks=cpu_only)])
def test_hooks_go_when_the_forward_raises(wrap, error, layer_input):
    failing = Failing(error)
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), failing, nn.ReLU(), nn.Flatten())
    model = wrap(inner)
    failing.model = lambda: model
    own = inner[2].register_forward_hook(lambda module, args, output: None)
    # One that has run by then, the one that raises, and one that would have run later.
    method = LayerwiseGradCAM(model, [inner[0], failing, inner[2]])
    x = torch.randn(2, 1, 10, 10)
    with pytest.raises(error, match="stop"):
        method.attribute(x, 1, attribute_to_layer_input=layer_input)
    assert failing.seen > 3
    assert hooks_on(model) == 1
    assert torch.is_grad_enabled()
    failing.error = None
    assert method.attribute(x, 1).shape == x.shape
    own.remove()
    assert hooks_on(model) == 0


@of_input
@pytest.mark.parametrize(
    "change",
    [
        {"target": 99},
        {"target": "1"},
        {"inputs": torch.randn(2, 5, 10, 10)},
        {"additional_forward_args": (1, 2)},
    ],
    ids=["target out of range", "target of no index", "inputs", "arguments"],
)
def test_hooks_go_after_wrong_arguments(change, layer_input):
    model = conv_net()
    arguments = {"inputs": images(), "target": 1, "attribute_to_layer_input": layer_input}
    with pytest.raises((IndexError, RuntimeError, TypeError)):
        LayerwiseGradCAM(model, names(model)).attribute(**{**arguments, **change})
    assert hooks_on(model) == 0
    assert torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore:.* perturbs a model in train mode")
@every_class
def test_captums_algorithms_see_the_same_model_afterwards(cls):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten()
    )
    x = torch.randn(2, 1, 8, 8)
    algorithms = [LayerGradCam, LayerGradientXActivation, LayerActivation]

    def results():
        model.eval()
        targets = [{"target": 5}, {"target": 5}, {}]
        pairs = zip(algorithms, targets, strict=True)
        return [one(model, model[1]).attribute(x, **target) for one, target in pairs]

    before = results()
    draws = torch.get_rng_state()
    # In train mode a forward would move the running statistics and draw a dropout mask.
    cls(model.train(), ["0", "1"]).attribute(x, 5)
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(map(torch.equal, results(), before))
    assert hooks_on(model) == 0
    assert x.grad is None
    assert not x.requires_grad
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


# -------------------------------------------------------------------------------- NoiseTunnel


@each_class_but(LayerwiseFEM, LayerwiseScoreCAM)
@pytest.mark.parametrize("name", ENTRIES)
def test_noise_tunnel_without_noise(name, cls):
    plains = []
    for method, args, size in draws_of(name, cls):
        plains.append(method.attribute(**args, output_size=size))
        settings = {**args, "output_size": size, "stdevs": 0.0, "nt_samples": 3}
        tunnel = partial(NoiseTunnel(method).attribute, **settings)
        same(tunnel(nt_type="smoothgrad"), plains[-1])
        same(tunnel(nt_type="smoothgrad_sq", nt_samples_batch_size=2), plains[-1] ** 2)
        same(tunnel(nt_type="vargrad"), torch.zeros_like(plains[-1]))
    assert torch.cat(plains).max() > 0.1


@every_class
@pytest.mark.parametrize("batch_size", [None, 2])
def test_noise_tunnel_is_the_mean_over_noisy_inputs(cls, batch_size):
    model, x = conv_net(), images(2)
    targets, offsets = [(1,), (4,)], torch.tensor([0.5, -0.5]).reshape(2, 1, 1, 1)
    method = cls(lambda x, offset: model(x + offset), modules(model))
    settings = {"nt_samples": 5, "nt_samples_batch_size": batch_size, "stdevs": 0.3}
    tunnel = partial(NoiseTunnel(method).attribute, x, **settings, target=targets)

    def run(nt_type):
        torch.manual_seed(7)
        return tunnel(nt_type=nt_type, additional_forward_args=offsets)

    torch.manual_seed(7)
    drawn = [[], []]
    for count in [5] if batch_size is None else [2, 2, 1]:
        noise = torch.normal(0, torch.full((2 * count, *x.shape[1:]), 0.3))
        for row in range(2 * count):
            i = row // count
            noisy = x[i : i + 1] + noise[row : row + 1]
            drawn[i].append(method.attribute(noisy, targets[i], offsets[i : i + 1]))
    stacked = torch.stack([torch.cat(maps) for maps in drawn])

    assert run("smoothgrad").shape == (2, 1, 10, 10)
    same_maps(run("smoothgrad"), stacked.mean(1))
    same(run("smoothgrad_sq"), (stacked**2).mean(1))
    same_maps(run("vargrad"), stacked.var(1, unbiased=False))
    assert hooks_on(model) == 0
    assert x.grad is None
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


# ------------------------------------------------------------------------------------ metrics


@every_class
@pytest.mark.parametrize("targets", [[4], [4, 4], [1, 4, 7]])
def test_sensitivity_max(cls, targets):
    model, x, draws = conv_net(), images(len(targets)), 4
    noise = 0.2 * images(draws * len(targets))
    method = cls(model, names(model))
    expected = []
    for i, target in enumerate(targets):
        original = method.attribute(x[i : i + 1], target)
        length = original.norm() if original.norm() > 0 else 1.0
        moved = [
            method.attribute(x[i : i + 1] + noise[j : j + 1], target)
            for j in range(i * draws, (i + 1) * draws)
        ]
        expected.append(max((original - other).norm() / length for other in moved))
    target = targets[0] if len(set(targets)) == 1 else targets
    actual = sensitivity_max(
        method.attribute, x, lambda x: x + noise, n_perturb_samples=draws, target=target
    )
    assert torch.stack(expected).min() > 1e-3
    same(actual, torch.stack(expected))


@every_class
@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity(cls, normalize):
    model, targets, draws = conv_net(), [1, 4, 7], 5
    model.conv1 = shaken(nn.Conv2d(3, 2, 3))  # three colours share one map
    x = torch.randn(3, 3, 10, 10).double()
    perturbations = 0.2 * torch.randn(3 * draws, 3, 10, 10).double()
    attribution = cls(model, names(model)).attribute(x, targets).expand_as(x)
    expected = []
    for i, target in enumerate(targets):
        change = perturbations[i * draws : (i + 1) * draws]
        weighted = torch.stack([(attribution[i] * one).sum() for one in change])
        drops = torch.stack([(model(x[i : i + 1]) - model((x[i] - d)[None])) for d in change])
        drops = drops[:, 0, target].detach()
        factor = (weighted * drops).sum() / (weighted**2).sum() if normalize else 1.0
        expected.append(((factor * weighted - drops) ** 2).mean())
    actual = infidelity(
        model,
        lambda x: (perturbations, x - perturbations),
        x,
        attribution,
        target=targets,
        n_perturb_samples=draws,
        normalize=normalize,
    )
    assert attribution.max() > 0.1
    assert_close(actual, torch.stack(expected), rtol=1e-6, atol=0)


# ---------------------------------------------------------------------- the Attribution interface


@every_class
def test_the_interface_is_captums(cls):
    model, x = conv_net(), images()
    one = cls(model, model.conv1, [0])
    for base in (InternalAttribution, LayerAttribution, GradientAttribution):
        assert isinstance(one, base)
    assert one.forward_func is model
    assert callable(one.gradient_func)
    assert one.layer is model.conv1
    assert one.device_ids == [0]
    assert cls(model, "conv1").layer is model.conv1
    assert cls(model, ["conv1", Layer("relu2")]).layer == modules(model)
    assert one.multiplies_by_inputs is False
    assert one.has_convergence_delta() is False
    attribution = one.attribute(x, 1)
    same_maps(cls.attribute.__wrapped__(one, x, 1), attribution)
    assert one.interpolate(attribution, (20, 20), "bilinear").shape == (3, 1, 20, 20)


def test_names_are_words_and_tell_the_classes_apart():
    assert len({cls.get_name() for cls in ALGORITHMS}) == len(ALGORITHMS)
    assert {cls.get_name() for cls in CLASSES} == {
        "Layerwise Global Local CAM",
        "Counterfactual CAM",
        "Layerwise Grad CAM",
        "Layerwise Grad CAM Plus Plus",
        "Layerwise Layer CAM",
        "Layerwise Hi Res CAM",
        "Layerwise X Grad CAM",
        "Layerwise What Where CAM",
        "Layerwise Grad CAM Element Wise",
        "Layerwise Eigen CAM",
        "Layerwise Eigen Grad CAM",
        "Layerwise KPCACAM",
        "Layerwise FEM",
        "Layerwise Score CAM",
        "Layerwise Ablation CAM",
        "Layerwise Shapley CAM",
        "Rival CAM",
        "Extent CAM",
    }
