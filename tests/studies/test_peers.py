"""Other packages that explain several layers; those that are not installed are skipped."""

import importlib
import sys

import pytest
import torch

import _benchmark_runs
import _peers
import _resnet
from captum_3dcam import LayerwiseGradCAM


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return _resnet.r3d_18(num_classes=5).eval()


def maps_of(name, network, layers, x, classes):
    if name in _peers.missing():
        pytest.skip(f"{name} is not installed")
    return _peers.PEERS[name].make(network, layers)(x, classes)


def test_captums_loop_is_the_sum_of_its_maps(network):
    x = torch.rand(2, 3, 4, 32, 32)
    maps = maps_of("Captum", network, ["layer2", "layer3"], x, [1, 3])
    assert maps.shape == (2, 1, 4, 32, 32)
    first, second = (maps_of("Captum", network, [name], x, [1, 3]) for name in ("layer2", "layer3"))
    torch.testing.assert_close(maps, first + second)
    ours = LayerwiseGradCAM(network, "layer2").attribute(x, target=[1, 3])
    peak = first.amax((1, 2, 3, 4), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(first / peak, ours)
    assert ours.any()


@pytest.mark.parametrize("name", ["torch-cam", "pytorch-grad-cam", "M3d-Cam"])
def test_peers_make_maps_and_leave_the_network_alone(network, name):
    x = torch.rand(1, 3, 8, 32, 32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layers = ["layer2"] if name == "M3d-Cam" else ["layer1", "layer2"]
    maps = torch.as_tensor(maps_of(name, network, layers, x, [1]))
    assert maps.isfinite().all()
    # M3d-Cam leaves each layer's map at its own size.
    assert maps.shape[-3:] == ((4, 8, 8) if name == "M3d-Cam" else (8, 32, 32))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters()) or name != "M3d-Cam"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_missing_peer_is_named_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcam.methods", None)
    assert "torchcam.methods" in _peers.missing()["torch-cam"]
    assert "torch-cam missing (ModuleNotFoundError: " in _peers.versions()
    assert "Captum 0" in _peers.versions()
    monkeypatch.setattr(_benchmark_runs, "missing", lambda: {"torch-cam": "why not"})
    assert "torch-cam" not in _benchmark_runs.available_methods(["limit", *_peers.PEERS])


def test_torchvision_is_a_placeholder_only_while_a_peer_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # it cannot be imported
    with _peers.placeholder_for_torchvision():
        transforms = importlib.import_module("torchvision.transforms")
        with pytest.raises(ImportError, match=r"torchvision.transforms.Compose is a placeholder"):
            transforms.Compose([])
        with pytest.raises(AttributeError):
            transforms.__wrapped__  # noqa: B018
    assert "torchvision.transforms" not in sys.modules
    assert sys.modules.get("torchvision") is None
