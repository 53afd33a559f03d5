"""Random networks: every map compared with one from plain hooks, and the state with that before."""

import random
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules import module as module_hooks

import captum_3dcam
from _fuzz_cases import run_cases
from _fuzz_formulas import (
    Drawn,
    Effects,
    Sum,
    difference,
    drawn,
    effects_of,
    fused,
    multiplied,
    sums_of,
    what_where,
)
from _fuzz_layers import CLASSES, random_network
from captum_3dcam import Layer

METHODS = {
    "LayerwiseGlobalLocalCAM": "global_local",
    "CounterfactualCAM": "counterfactual",
    "LayerwiseGradCAM": "grad_cam",
    "LayerwiseGradCAMPlusPlus": "grad_cam_plus_plus",
    "LayerwiseXGradCAM": "x_grad_cam",
    "LayerwiseLayerCAM": "layer_cam",
    "LayerwiseHiResCAM": "hi_res_cam",
}
"""By class, the formula; LayerwiseWhatWhereCAM joins its layers in its own way."""
WHAT_WHERE = "LayerwiseWhatWhereCAM"
PINNED = {"LayerwiseGlobalLocalCAM": "GlobalLocalCAM", "CounterfactualCAM": "CounterfactualCAM"}
FUSIONS = ("sum", "mean", "max", "product", "geometric_mean")


def run(seed: int, seconds: float) -> tuple[int, list[str]]:
    """Networks tried, and the maps or states that were not as expected."""
    return run_cases(check, seed, seconds)


# ----------------------------------------------------------------------------------- requests


@dataclass(frozen=True)
class Request:
    """A network, an input, and what is asked of them."""

    network: nn.Module
    inputs: Tensor
    layers: list[Layer]
    target: Any
    of_layer_input: bool
    fusion: str

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[2:])

    @property
    def output(self) -> Any:
        """``output=`` of the classes."""
        return 1 if self.network.returns == "tuple" else None

    def logits(self, returned: Any) -> Tensor:
        returns = self.network.returns
        tensor: Tensor = (
            returned if returns == "tensor" else returned[{"dict": "logits"}.get(returns, 1)]
        )
        return tensor

    def classes(self, logits: Tensor) -> list[int]:
        """The class of each sample, by Python's own maximum."""
        if self.target is None:
            rows = logits.tolist()
            return [row.index(max(row)) for row in rows]
        return self.target if isinstance(self.target, list) else [self.target] * len(logits)


def random_request(generator: random.Random) -> Request:
    rank, channels = generator.choice((1, 2, 2, 3)), generator.choice((1, 3))
    network = random_network(generator, rank, channels)
    longest = 7 if rank == 3 else 12
    size = [generator.randint(5, longest) for _ in range(rank)]
    batch = generator.randint(1, 3)
    dtype = generator.choice((torch.float32, torch.float64))
    network, inputs = network.to(dtype), torch.randn(batch, channels, *size, dtype=dtype)
    of_layer_input = generator.random() < 0.25
    target = generator.choice((None, generator.randrange(CLASSES), "each"))
    if target == "each":
        target = [generator.randrange(CLASSES) for _ in range(batch)]
    return Request(
        network,
        inputs,
        _random_layers(generator, network, inputs, of_layer_input),
        target,
        of_layer_input,
        generator.choice(FUSIONS),
    )


def _random_layers(
    generator: random.Random, network: nn.Module, inputs: Tensor, of_layer_input: bool
) -> list[Layer]:
    """Some of the modules that take, or return, a grid."""
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensor = args[0] if of_layer_input else output
            if of_layer_input and getattr(module, "inplace", False) and tensor._is_view():
                return  # refused: autograd rewrites the history of a view that is written to
            if isinstance(tensor, Tensor) and tensor.ndim == inputs.ndim:
                counts[name] = counts.get(name, 0) + 1

        return hook

    tried = deepcopy(network)
    for name, module in tried.named_modules():
        if name:
            module.register_forward_hook(note(name))
    with torch.random.fork_rng(devices=[]):
        tried(inputs)
    names = generator.sample(sorted(counts), min(len(counts), generator.randint(1, 3)))
    letters = ("W", "H W", "T H W")[inputs.ndim - 3]
    return [
        Layer(
            name,
            calls=generator.choice(("last", "sum", 0)) if counts[name] > 1 else None,
            layout=f"N {letters} C"
            if isinstance(network.get_submodule(name), nn.LayerNorm)
            else None,
        )
        for name in names
    ]


def _name(layer: Layer) -> str:
    return str(layer.module)


# ------------------------------------------------------------------------------ the naive maps


@dataclass
class _Call:
    """One call of a layer: its activation, and where its gradient arrives."""

    activation: Tensor
    edge: Any


Features = list[list[tuple[Tensor, Tensor]]]
"""Of each layer, and each of its calls that are explained, (activation, gradient)."""


def naive_features(request: Request) -> tuple[Features, Tensor]:
    """By plain hooks on a copy, whose gradients are on from the start; and the logits."""
    network = deepcopy(request.network)
    calls: dict[str, list[_Call]] = {_name(layer): [] for layer in request.layers}

    def after(name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            calls[name].append(_Call(output.detach().clone(), get_gradient_edge(output)))
            return output.clone()  # what follows may write to it

        return hook

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            calls[name].append(_Call(args[0].detach().clone(), get_gradient_edge(args[0])))

        return hook

    handles = []
    for name in calls:
        module = network.get_submodule(name)
        if request.of_layer_input:
            handles.append(module.register_forward_pre_hook(before(name)))
        else:
            handles.append(module.register_forward_hook(after(name)))
    logits = request.logits(network(request.inputs.clone().requires_grad_().clone()))
    for handle in handles:  # before a checkpoint runs its part again
        handle.remove()
    chosen = [_chosen(calls[_name(layer)], layer) for layer in request.layers]
    score = sum(row[label] for row, label in zip(logits, request.classes(logits), strict=True))
    gradients = iter(torch.autograd.grad(score, [call.edge for each in chosen for call in each]))
    features = [
        [(_grid(call.activation, layer), _grid(next(gradients), layer)) for call in of_layer]
        for layer, of_layer in zip(request.layers, chosen, strict=True)
    ]
    return features, logits.detach()


def _chosen(calls: list[_Call], layer: Layer) -> list[_Call]:
    if layer.calls == "sum":
        return calls
    return [calls[layer.calls if isinstance(layer.calls, int) else -1]]


def _grid(x: Tensor, layer: Layer) -> Tensor:
    return x.movedim(-1, 1) if layer.layout else x


def naive_layer_maps(rule: str, features: Features, size: Sequence[int]) -> list[Drawn]:
    maps = []
    for of_layer in features:
        eps = torch.finfo(of_layer[0][0].dtype).eps
        calls: list[list[Sum]] = [sums_of(rule, a, g) for a, g in of_layer]
        maps.append(multiplied([drawn(same, size, eps) for same in zip(*calls, strict=True)]))
    return maps


def naive_what_where(features: Features, size: Sequence[int]) -> Drawn:
    eps = torch.finfo(features[0][0][0].dtype).eps
    effects: list[Effects] = [effects_of(*of_layer[0], eps) for of_layer in features]
    return what_where(effects, size, eps)


# ----------------------------------------------------------------------------------- the check


def check(case: int) -> None:
    """All classes on one random network; AssertionError if a map or the state is not right."""
    generator = random.Random(case)  # noqa: S311
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # maps of random networks may well be zero
        torch.manual_seed(case)
        request = random_request(generator)
        start = torch.get_rng_state()
        features, logits = naive_features(request)
        before = _state(request, start)
        for method in (*METHODS, WHAT_WHERE):
            torch.set_rng_state(start)
            _check_method(method, request, features)
            changed = [
                name for name, value in before.items() if not _same(value, _state(request)[name])
            ]
            assert not changed, f"{method} of {_words(request)} changed {changed}"
        torch.set_rng_state(start)
        _check_classes(generator.choice(list(METHODS)), request)
        _check_captum(request, features, logits, start)


def _check_method(method: str, request: Request, features: Features) -> None:
    has_sum = any(layer.calls == "sum" for layer in request.layers)
    if method == WHAT_WHERE:
        if not has_sum:
            cam = captum_3dcam.LayerwiseWhatWhereCAM(
                request.network, request.layers, output=request.output
            )
            received = cam.attribute(
                request.inputs, request.target, attribute_to_layer_input=request.of_layer_input
            )
            _compare(method, request, received, naive_what_where(features, request.size))
        return
    cam = _class_of(method, request)(
        request.network, request.layers, fusion=request.fusion, output=request.output
    )
    options = {"attribute_to_layer_input": request.of_layer_input}
    maps = cam.attribute(request.inputs, request.target, per_layer=True, **options)
    expected = naive_layer_maps(METHODS[method], features, request.size)
    for layer, received, naive in zip(request.layers, maps, expected, strict=True):
        _compare(f"{method} at {_name(layer)}", request, received, naive)
    whole = cam.attribute(request.inputs, request.target, **options)
    _compare(f"{method}, {request.fusion}", request, whole, fused(expected, request.fusion))


def _class_of(method: str, request: Request) -> Any:
    """That for one rank in half of the cases."""
    rank = len(request.size)
    is_pinned = method in PINNED and rank > 1 and request.fusion in FUSIONS[::2]
    return getattr(captum_3dcam, f"{PINNED[method]}{rank}D" if is_pinned else method)


def _check_classes(method: str, request: Request) -> None:
    """Several classes from one forward pass are the classes one by one."""
    cam = getattr(captum_3dcam, method)(request.network, request.layers, output=request.output)
    options = {"attribute_to_layer_input": request.of_layer_input}
    maps = cam.attribute_classes(request.inputs, range(CLASSES), **options)
    one = cam.attribute(request.inputs, 1, **options)
    assert torch.equal(one, maps[:, 1:2]), f"{method}: class 1 alone, and among others"
    top, indices = cam.attribute_top_k(request.inputs, 2, **options)
    second = cam.attribute(request.inputs, indices[:, 1].tolist(), **options)
    assert torch.equal(second, top[:, 1:]), f"{method}: the second class alone, and of the top two"


def _check_captum(request: Request, features: Features, logits: Tensor, start: Tensor) -> None:
    """Grad-CAM at the first layer is Captum's own."""
    layer = request.layers[0]
    if request.of_layer_input or layer.layout or layer.calls is not None:
        return
    network = deepcopy(request.network)
    torch.set_rng_state(start)
    captum = LayerGradCam(
        lambda x: request.logits(network(x)), network.get_submodule(_name(layer))
    ).attribute(
        request.inputs.clone(), torch.tensor(request.classes(logits)), relu_attributions=True
    )
    eps = torch.finfo(captum.dtype).eps
    expected = drawn([Sum(captum.double(), captum.double().abs())], request.size, eps)
    (ours,) = naive_layer_maps("grad_cam", features[:1], request.size)
    torch.set_rng_state(start)
    cam = captum_3dcam.LayerwiseGradCAM(request.network, layer, output=request.output)
    received = cam.attribute(request.inputs, request.target)
    _compare("Captum's Grad-CAM", request, received, Drawn(expected.values, ours.tolerance))


def _compare(what: str, request: Request, received: Tensor, expected: Drawn) -> None:
    problem = difference(received, expected)
    assert problem is None, f"{what}: {problem}; {_words(request)}"


def _words(request: Request) -> str:
    layers = ", ".join(f"{_name(layer)} (calls={layer.calls})" for layer in request.layers)
    mode = "train" if request.network.training else "eval"
    source = "inputs" if request.of_layer_input else "outputs"
    return (
        f"input {tuple(request.inputs.shape)} {request.inputs.dtype}, {mode} mode, target "
        f"{request.target}, {source} of {layers}"
    )


def _state(request: Request, generator: Tensor | None = None) -> dict[str, Any]:
    """All that a call must leave as it was."""
    modules = dict(request.network.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "parameters and buffers": {
            name: tensor.clone() for name, tensor in request.network.state_dict().items()
        },
        "hooks": [len(getattr(m, kind)) for m in modules.values() for kind in hooks],
        "global hooks": [
            len(module_hooks._global_forward_hooks),
            len(module_hooks._global_forward_pre_hooks),
        ],
        "modes": [m.training for m in modules.values()],
        "requires_grad": [p.requires_grad for p in request.network.parameters()],
        "gradients": [p.grad is None for p in request.network.parameters()],
        "attributes": [sorted(vars(m)) for m in modules.values()],
        "inputs": {"inputs": request.inputs.clone()},
        "gradient of the inputs": (request.inputs.requires_grad, request.inputs.grad is None),
        "grad mode": torch.is_grad_enabled(),
        "generator": {"cpu": torch.get_rng_state() if generator is None else generator},
    }


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            torch.equal(first[name], second[name]) for name in first
        )
    return bool(first == second)
