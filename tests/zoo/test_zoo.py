"""Networks as their libraries build them, explained without a line of glue.

Values are derived once more from plain hooks on the same layers.
"""

import math
import warnings
from importlib.util import find_spec

import pytest
import torch
from captum.attr import LayerGradCam
from torch.nn.functional import interpolate

import captum_3dcam
from _naive_maps import copy_of, enlarged, naive_maps, norm
from captum_3dcam import (
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseLeGrad,
    attention_to_grid,
    suggest_layers,
)
from zoo_networks import FAMILIES

pytestmark = [
    # Of the libraries themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*indexing argument.*:UserWarning"),
]
METHODS = [
    getattr(captum_3dcam, name)
    for name in captum_3dcam.__all__
    if name.startswith("Layerwise") or name == "CounterfactualCAM"
]
METHODS.remove(captum_3dcam.LayerwiseLeGrad)  # for layers of attention weights

PER_CHANNEL = {captum_3dcam.LayerwiseScoreCAM, captum_3dcam.LayerwiseAblationCAM}
"""Those that run the network once for each channel."""
FIRST = {captum_3dcam.LayerwiseEigenCAM, captum_3dcam.LayerwiseShapleyCAM, LayerwiseGlobalLocalCAM}
"""One of each kind: no gradient, a second derivative, sums."""


def is_too_large(method, shapes, inputs):
    """Whether it would take minutes, or more memory than there is."""
    tensors = inputs if isinstance(inputs, list) else [inputs]
    if sum(map(torch.numel, tensors)) > 10**6 and method not in FIRST:
        return True
    if method in PER_CHANNEL:
        return sum(channels for channels, *_ in shapes) > 64
    positions = max(math.prod(grid) for _, *grid in shapes)
    return method is captum_3dcam.LayerwiseKPCACAM and positions > 1024


def shapes_of(model, layers, inputs, options):
    """(C, *S_k) of each layer."""
    shapes = []

    class Shapes(LayerwiseGradCAM):
        @staticmethod
        def rule(activation, gradient):
            shapes.append(activation.shape[1:])
            return (torch.ones_like(activation[:, :1]),)

    Shapes(model, layers, **options).attribute(inputs, lambda output: output.flatten(1).sum(1))
    return shapes


@pytest.fixture(params=FAMILIES)
def network(request, networks):
    """A family, its model and its inputs."""
    family = FAMILIES[request.param]
    if find_spec(family.library) is None:
        pytest.skip(f"{family.library} is not installed: make test installs it")
    if request.param not in networks:
        networks[request.param] = family.model(), family.inputs()
    return family, *networks[request.param]


def state_of(model):
    """All that a call could change: values, hooks, and what modules hold."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    modules = {
        name: (
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            sorted(module.__dict__),
            module.training,
        )
        for name, module in model.named_modules()
    }
    return values, modules


def check_state(model, before):
    values, modules = state_of(model)
    assert modules == before[1]
    assert all(torch.equal(values[name], value) for name, value in before[0].items())
    assert all(parameter.grad is None for parameter in model.parameters())


# -------------------------------------------------------------------------------------- tests


def test_layers_are_chosen(network):
    family, model, inputs = network
    before, kept = state_of(model), copy_of(inputs)
    generator = torch.get_rng_state()
    chosen = suggest_layers(model, inputs)
    assert [(layer.module, layer.layout) for layer in chosen] == [
        each[:2] for each in family.layers
    ]
    check_state(model, before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(map(torch.equal, kept, inputs))


def test_values_equal_plain_hooks(network):
    family, model, inputs = network
    before = state_of(model)
    cam = LayerwiseGlobalLocalCAM(model, "auto")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer_maps = cam.attribute(inputs, target=family.target, per_layer=True)
    check_state(model, before)
    assert torch.is_grad_enabled()
    assert [(layer.name, layer.layout) for layer in cam.layers] == [e[:2] for e in family.layers]
    naive = naive_maps(model, inputs, family, cam.layers)
    for naive_map, layer_map in zip(naive, layer_maps, strict=True):
        assert layer_map.shape == (1, 1, *family.size)
        torch.testing.assert_close(layer_map, naive_map, rtol=1e-3, atol=1e-3)
    messages = [str(warning.message) for warning in caught]
    assert max(map(torch.max, layer_maps)) > 0
    assert not any("cancels" in text or "channels last" in text for text in messages)


def test_one_layer_equals_captum(network):
    family, model, inputs = network
    plain = [layer for layer in suggest_layers(model, inputs) if layer == Layer(layer.module)]
    if not plain or isinstance(inputs, list):
        pytest.skip("Captum reads (N, C, *S), from one input")
    layer = plain[-1]
    module = model.get_submodule(layer.module)

    def scores(x):
        returned = model(x)
        logits = getattr(returned, "logits", returned)
        # Of a segmentation: the sum over the positions predicted as the class.
        flat = logits.flatten(2) if logits.ndim > 2 else logits[..., None]
        predicted = flat == flat.amax(dim=1, keepdim=True)
        return flat.where(predicted | (logits.ndim == 2), 0).sum(dim=2)

    target = family.target or 0
    ours = LayerwiseGradCAM(model, layer).attribute(inputs, target=target)
    theirs = LayerGradCam(scores, module).attribute(inputs, target, relu_attributions=True)
    expected = norm(enlarged(theirs.detach(), family.size))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_no_method_gives_a_zero_map_without_a_warning(network):
    family, model, inputs = network
    before = state_of(model)
    # Up to the last two layers no graph is built.
    layers = [Layer(name, layout=layout) for name, layout, _ in family.layers[-2:]]
    frames_first = family.map_size and family.size != family.shapes[0][2:]
    options = {"input_layout": "N T C H W"} if frames_first else {}
    shapes = shapes_of(model, layers, inputs, options)
    for method in METHODS:
        if is_too_large(method, shapes, inputs):
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attribution = method(model, layers, **options).attribute(inputs, family.target)
        messages = [str(warning.message) for warning in caught]
        assert attribution.isfinite().all()
        assert attribution.shape == (1, 1, *family.size)
        assert attribution.max() > 0 or any("zero everywhere" in text for text in messages)
    check_state(model, before)


# --------------------------------------------------------------------------- layers of identity


IDENTITIES = ("Dropout", "Identity", "DropPath", "LayerScale")


@pytest.mark.parametrize("name", ["timm ViT", "timm Swin", "timm EdgeNeXt"])
def test_layers_that_return_their_input(name, networks):
    pytest.importorskip("timm")
    family = FAMILIES[name]
    model, inputs = networks.setdefault(name, (family.model(), family.inputs()))
    outputs = {}

    def keep(layer):
        return lambda module, args, output: outputs.__setitem__(layer, output)

    modules = [(n, m) for n, m in model.named_modules() if type(m).__name__ in IDENTITIES]
    handles = [module.register_forward_hook(keep(n)) for n, module in modules]
    score = model(inputs).max()
    for handle in handles:
        handle.remove()
    names = list(outputs)
    gradients = torch.autograd.grad(
        score, list(outputs.values()), allow_unused=True, materialize_grads=True
    )
    expected = {n: (g * outputs[n]).detach() for n, g in zip(names, gradients, strict=True)}
    reached = [n for n, g in zip(names, gradients, strict=True) if g.any()]
    assert len(reached) > 8
    # As one row of numbers, whatever their axes are: HiResCAM's product is then that of each.
    layers = [Layer(n, reshape=lambda x: x.reshape(1, 1, -1), calls="last") for n in reached]
    cam = captum_3dcam.LayerwiseHiResCAM(model, layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = cam.attribute(inputs, per_layer=True, output_size=(64,))
    for n, layer_map in zip(reached, maps, strict=True):
        row = interpolate(expected[n].reshape(1, 1, -1).clamp(min=0), size=64, mode="linear")
        torch.testing.assert_close(layer_map, norm(row), rtol=1e-3, atol=1e-3, msg=n)


# ------------------------------------------------------------------------------------ attention


def test_le_grad_is_the_gradient_of_the_attention_of_timms_blocks():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
    model = timm.models.VisionTransformer(**options, num_classes=5).eval()
    for block in model.blocks:
        block.attn.fused_attn = False
    reshape = attention_to_grid((4, 4), prefix_tokens=1)
    names = [f"blocks.{number}.attn.attn_drop" for number in range(3)]
    x = torch.rand(1, 3, 32, 32)
    layers = [Layer(name, reshape=reshape) for name in names]
    found = LayerwiseLeGrad(model, layers, fusion="mean").attribute(x, target=1)

    kept = []
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, args, out: kept.append(out))
        for name in names
    ]
    gradients = torch.autograd.grad(model(x)[:, 1].sum(), kept)
    for handle in handles:
        handle.remove()
    expected = 0
    for gradient in gradients:
        of_keys = gradient.relu().mean(dim=(1, 2))[:, 1:].reshape(1, 1, 4, 4)
        expected = expected + norm(enlarged(of_keys, (32, 32))) / 3
    torch.testing.assert_close(found, expected)
