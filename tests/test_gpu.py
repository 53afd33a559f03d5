"""What only a GPU can show; skipped where there is none."""

from copy import deepcopy

import pytest
import torch
from many_inputs import OPTIONS, write_images
from many_inputs import network as many_network
from networks import conv_net, random_input
from torch import nn
from torch.utils.checkpoint import checkpoint

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
    SlidingWindowCAM,
    explain_many,
)
from captum_3dcam.explanation._transfer import move_like

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

METHODS = [
    CounterfactualCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
]


@pytest.fixture(autouse=True)
def full_precision():
    """TF32 would round what is compared with the CPU."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_the_map_is_that_of_the_cpu(method, rank):
    model, x = conv_net(rank), random_input(2, (12, 10, 8)[:rank])
    expected = method(model, ["0", "1"]).attribute(x, target=1)
    attribution = method(deepcopy(model).cuda(), ["0", "1"]).attribute(x.cuda(), target=1)
    assert attribution.is_cuda
    torch.testing.assert_close(attribution.cpu(), expected, atol=1e-3, rtol=1e-3)


class Noisy(nn.Module):
    """Batch normalisation in train mode and dropout: state of the model and of a generator."""

    def __init__(self, recompute):
        super().__init__()
        self.recompute, self.stem, self.head = recompute, nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x):
        y = self.stem(x)
        y = checkpoint(self.block, y, use_reentrant=False) if self.recompute else self.block(y)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("recompute", [False, True])
def test_buffers_and_generators_are_restored(recompute):
    model, x = Noisy(recompute).cuda().train(), torch.rand(4, 3, 16, 16).cuda()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generators = torch.get_rng_state(), torch.cuda.get_rng_state()
    first = LayerwiseGradCAM(model, "stem").attribute(x, target=0)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for before, after in zip(
        generators, (torch.get_rng_state(), torch.cuda.get_rng_state()), strict=True
    ):
        assert torch.equal(before, after)
    assert torch.equal(first, LayerwiseGradCAM(model, "stem").attribute(x, target=0))


class FramesThenLSTM(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.rnn, self.head = recurrent(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, clip):
        features = [self.cnn(frame).mean((2, 3)) for frame in clip.unbind(2)]
        return self.head(self.rnn(torch.stack(features, 1))[0][:, -1])


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_in_eval_mode(recurrent):
    """cuDNN's backward pass of a recurrent network exists in training mode only."""
    model, clip = FramesThenLSTM(recurrent).eval(), torch.rand(2, 3, 5, 12, 12)
    layer = Layer("cnn", calls="stack")
    expected = GlobalLocalCAM3D(model, layer).attribute(clip, target=1)
    model = model.cuda()
    attribution = GlobalLocalCAM3D(model, layer).attribute(clip.cuda(), target=1)
    torch.testing.assert_close(attribution.cpu(), expected, atol=1e-3, rtol=1e-3)
    alone = LayerwiseGradCAM(lambda x: model(x), layer).attribute(clip.cuda(), target=1)
    assert alone.is_cuda
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    model, x = conv_net(3).cuda(), random_input(2, (4, 16, 16)).cuda()
    expected = GlobalLocalCAM3D(model, ["0", "1"]).attribute(x, target=1)
    with torch.autocast("cuda", dtype=dtype):
        attribution = GlobalLocalCAM3D(model, ["0", "1"]).attribute(x, target=1)
    assert attribution.dtype == torch.float32
    assert (attribution - expected).abs().mean() < 0.05


def test_data_parallel_and_inputs_on_the_cpu():
    model, x = conv_net(3).cuda(), random_input(4, (3, 6, 6)).cuda()
    expected = GlobalLocalCAM3D(model, ["0", "1"]).attribute(x, target=1)
    parallel = GlobalLocalCAM3D(nn.DataParallel(model), ["0", "1"])
    torch.testing.assert_close(parallel.attribute(x, target=1), expected, atol=1e-4, rtol=1e-3)
    assert parallel.attribute(x.cpu(), target=1).device == torch.device("cpu")


def test_sliding_windows_on_the_gpu():
    model, x = conv_net(3), random_input(1, (20, 6, 6))
    expected = SlidingWindowCAM(GlobalLocalCAM3D(model, "0"), 8).attribute(x, target=1)
    model = model.cuda()
    attribution = SlidingWindowCAM(GlobalLocalCAM3D(model, "0"), 8).attribute(x.cuda(), target=1)
    torch.testing.assert_close(attribution.cpu(), expected, atol=1e-3, rtol=1e-3)


def test_nothing_stays_on_the_gpu():
    model, x = conv_net(2, depth=3).cuda(), random_input(2, (64, 64)).cuda()
    cam = GlobalLocalCAM2D(model, ["0", "1", "2"])
    cam.attribute(x, target=1)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        cam.attribute_top_k(x, k=2)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before


def test_inputs_that_are_copied_beside_the_computation_have_arrived():
    like = torch.zeros(1, device="cuda", dtype=torch.float16)
    x = torch.rand(8, 3, 256, 256)
    for _ in range(20):
        moved = move_like(x, like)
        assert (moved.device, moved.dtype) == (like.device, like.dtype)
        torch.testing.assert_close(moved.cpu(), x.half())


def test_many_inputs_on_the_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images("in", 6)
    expected = explain_many(many_network(), "in", "cpu", **OPTIONS)
    outcomes = explain_many(many_network().cuda(), "in", "gpu", **OPTIONS)
    pairs = zip(outcomes.explanations(), expected.explanations(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.attribution, other.attribution, atol=1e-3, rtol=1e-3)
