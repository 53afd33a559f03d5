"""What an explanation costs, counted: passes, what the graph keeps, buffers. Seconds are in
studies/benchmark.py."""

import gc
import weakref
from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from _benchmark_runs import limit
from _resnet import LAYERS, r3d_18
from captum_3dcam import (
    CounterfactualCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam import _frozen_batch_norm as lean
from captum_3dcam.functional import FUSIONS

SUMS = [LayerwiseGlobalLocalCAM, CounterfactualCAM]
METHODS = [*SUMS, LayerwiseGradCAM, LayerwiseHiResCAM, LayerwiseWhatWhereCAM]
CONVOLUTIONS = {"stem": 1, "layer1": 4, "layer2": 5, "layer3": 5, "layer4": 5}

each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return r3d_18(num_classes=6).eval()


@pytest.fixture(scope="module")
def clip():
    return torch.rand(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))


class Operations(TorchDispatchMode):
    """Counts what PyTorch computes, and for which of a convolution's tensors the gradients."""

    def __init__(self):
        super().__init__()
        self.counts, self.masks, self.names = Counter(), [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        self.counts[self.names[-1]] += 1
        if func is torch.ops.aten.convolution_backward.default:
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


# ------------------------------------------------------------------------------------- passes


@pytest.mark.parametrize("depth", range(1, 6))
@each_method
def test_layers_share_one_forward_and_one_backward_to_the_shallowest(network, clip, method, depth):
    layers = LAYERS[-depth:]
    with Operations() as done:
        method(network, layers).attribute(clip)
    assert done.counts["convolution"] == sum(CONVOLUTIONS.values())
    assert done.counts["convolution_backward"] == sum(CONVOLUTIONS[name] for name in layers[1:])
    assert all(mask == [True, False, False] for mask in done.masks)  # none of the parameters'


def test_classes_share_one_forward(network, clip):
    with Operations() as done:
        LayerwiseGlobalLocalCAM(network, LAYERS).attribute_top_k(clip, k=4)
    assert done.counts["convolution"] == sum(CONVOLUTIONS.values())
    assert done.counts["convolution_backward"] == 4 * (sum(CONVOLUTIONS.values()) - 1)


def test_a_tensor_is_summed_over_its_channels_once(network, clip):
    """Beside the two sums over one channel that a rule makes of each layer's sums."""
    with Operations() as done:
        LayerwiseGlobalLocalCAM(network, LAYERS).attribute(clip)
    assert done.counts["sum"] == 2 * len(LAYERS) + 2 * len(LAYERS)


@pytest.mark.parametrize("method", SUMS)
def test_what_is_held_is_looked_at_after_the_passes(network, clip, method):
    """In between, where nothing is in the processor's cache, each operation takes long."""
    with Operations() as done:
        method(network, LAYERS).attribute_top_k(clip, k=2)
    passes = [number for number, name in enumerate(done.names) if "convolution" in name]
    gaps = [done.names[a:b] for a, b in pairwise(passes)]
    assert sum("amin" in gap for gap in gaps) == 1  # between the two classes
    assert sum("sum" in gap for gap in gaps) > len(LAYERS)


@pytest.mark.parametrize(
    ("fusion", "classes", "batches"), [("sum", 1, 1), ("sum", 8, 1), ("sum", 9, 2), (max, 3, 3)]
)
def test_several_classes_are_drawn_as_one_batch(network, clip, fusion, classes, batches):
    """But a function of the user's is given the samples of one class."""
    fusion = fusion if isinstance(fusion, str) else lambda maps: maps.amax(dim=0)
    with Operations() as done:
        LayerwiseGlobalLocalCAM(network, LAYERS, fusion=fusion).attribute_classes(
            clip, [0] * classes
        )
    assert done.counts["upsample_bilinear2d"] == 2 * len(LAYERS) * batches


@pytest.mark.parametrize(("depth", "classes", "most"), [(1, 1, 125), (5, 1, 375), (5, 5, 900)])
def test_operations_beside_the_passes(network, clip, depth, classes, most):
    layers, x = LAYERS[-depth:], clip[:1]
    with Operations() as least:
        limit(network, layers, classes)(x, [0])
    with Operations() as done:
        LayerwiseGlobalLocalCAM(network, layers).attribute_classes(x, [*range(classes)])
    assert done.counts.total() - least.counts.total() <= most


# ------------------------------------------------------------------------------------- memory


def kept_bytes(run):
    """What the graph keeps for the backward pass, each tensor counted once."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


def outputs_of(network, clip, kind):
    """The bytes of what the modules of a kind give, after the stem."""
    found = []
    handles = [
        module.register_forward_hook(lambda module, args, output: found.append(output.nbytes))
        for name, module in network.named_modules()
        if isinstance(module, kind) and not name.startswith("stem")
    ]
    with torch.no_grad():
        network(clip)
    for handle in handles:
        handle.remove()
    return sum(found)


def test_the_graph_keeps_what_relu_gives_and_weights_and_nothing_else(network, clip, monkeypatch):
    monkeypatch.setattr(lean, "_SMALLEST", 1)
    cam = LayerwiseGlobalLocalCAM(network, LAYERS)
    relus = outputs_of(network, clip, nn.ReLU)
    norms = outputs_of(network, clip, nn.BatchNorm3d)
    weights = sum(p.nbytes for name, p in network.named_parameters() if not name.startswith("stem"))
    stem = 2 * 64 * 8 * 16 * 16 * 4  # what the first block takes

    lean_bytes = kept_bytes(lambda: cam.attribute(clip))
    assert lean_bytes == pytest.approx(relus + stem + weights, rel=0.01)
    monkeypatch.setattr(lean, "_SMALLEST", 2**60)
    assert kept_bytes(lambda: cam.attribute(clip)) == pytest.approx(lean_bytes + norms, rel=0.01)


def test_deep_layers_keep_next_to_nothing(network, clip):
    def kept(layers):
        return kept_bytes(lambda: LayerwiseGlobalLocalCAM(network, layers).attribute(clip))

    assert kept(["layer4"]) <= 2 * network.fc.weight.nbytes
    weights = sum(p.nbytes for p in network.layer4.parameters())
    assert kept(["layer3", "layer4"]) - weights < kept(LAYERS) / 50


@each_method
def test_of_an_activation_is_held_its_sum_or_one_copy(network, clip, method):
    cam = method(network, LAYERS)
    recording, _ = cam._record(clip, None, False, None)
    for name, (call,) in zip(LAYERS, recording.layers, strict=True):
        samples, channels, *size = call.shape
        positions = samples * torch.Size(size).numel()
        held = sum(part.numel() for part in call.activation)
        assert held == (positions + samples if method in SUMS else channels * positions), name


class Buffers(TorchDispatchMode):
    """The most tensors of at least some number of elements that are alive together."""

    def __init__(self, elements):
        super().__init__()
        self.elements, self.most = elements, 0
        self.seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor) and output.numel() >= self.elements:
            self.seen[id(output)] = weakref.ref(output)
        alive = [tensor for ref in self.seen.values() if (tensor := ref()) is not None]
        self.most = max(self.most, len({t.untyped_storage().data_ptr() for t in alive}))
        return output


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("method", METHODS[:-1])
def test_three_buffers_of_the_maps_size_are_enough(network, clip, method, fusion):
    size = (9, 120, 130)  # larger than any activation with all its channels
    with Buffers(2 * torch.Size(size).numel()) as buffers:
        method(network, LAYERS, fusion=fusion).attribute(clip, output_size=size)
    assert 2 <= buffers.most <= 3


def test_what_where_takes_three_buffers_too(network, clip):
    size = (9, 120, 130)
    with Buffers(2 * torch.Size(size).numel()) as buffers:
        LayerwiseWhatWhereCAM(network, LAYERS).attribute(clip, output_size=size)
    assert 2 <= buffers.most <= 3


@each_method
def test_a_call_leaves_no_tensor_to_the_garbage_collector(network, clip, method):
    """In a reference cycle, tensors stay in memory until the collector runs."""
    cam = method(network, LAYERS)
    cam.attribute(clip)
    gc.collect()
    gc.disable()
    try:
        cam.attribute(clip)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        assert [each.shape for each in gc.garbage if isinstance(each, torch.Tensor)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
