"""The networks and inputs on which pytorch-grad-cam and torch-cam test themselves.

Both take the layers by hand; the values are those of Captum's LayerGradCam, brought to the input's
size and normalised.
"""

import warnings

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn.functional import interpolate

import captum_3dcam
from _naive_maps import norm
from captum_3dcam import LayerwiseGradCAM
from captum_3dcam.attribution import METHODS

# The others run on the networks of test_zoo.py, which are smaller.
CLASSES = [
    *list(METHODS.values())[:8],
    captum_3dcam.LayerwiseEigenCAM,
]


def torchvision_model(name):
    torchvision = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    return getattr(torchvision, name)().eval()


def one_channel():
    """Grey images of 28 x 28, and log-softmax for a score."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.Dropout2d(),
        nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout(),
        nn.Linear(50, 10), nn.LogSoftmax(dim=1),
    )  # fmt: skip


def features(rank):
    conv, pool = (
        (nn.Conv2d, nn.AdaptiveAvgPool2d) if rank == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    )
    return nn.Sequential(
        conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 16, 3, padding=1), nn.ReLU(), pool(1)
    )  # fmt: skip


def one_score(rank):
    """A single score for each sample, behind global average pooling."""
    return nn.Sequential(features(rank), nn.Flatten(1), nn.Linear(16, 1))


def fully_convolutional():
    return nn.Sequential(features(2), nn.Conv2d(16, 1, 1), nn.Flatten(1))


NETWORKS = {
    "pytorch-grad-cam: resnet18": (
        lambda: torchvision_model("resnet18"), ["layer4.1", "layer4.0"], (2, 3, 32, 32), 100,
    ),
    "pytorch-grad-cam: resnet18, not square": (
        lambda: torchvision_model("resnet18"), ["layer4.1", "layer4.0"], (1, 3, 40, 32), None,
    ),
    "pytorch-grad-cam: vgg11": (
        lambda: torchvision_model("vgg11"), ["features.20"], (2, 3, 32, 32), 100,
    ),
    "pytorch-grad-cam: one channel": (one_channel, ["3"], (1, 1, 28, 28), 3),
    "torch-cam: image": (lambda: one_score(2), ["0.3", "0.1"], (1, 3, 224, 224), 0),
    "torch-cam: video": (lambda: one_score(3), ["0.3", "0.1"], (1, 3, 8, 16, 16), 0),
    "torch-cam: fully convolutional": (
        fully_convolutional, ["0.3"], (1, 3, 224, 224), 0,
    ),
    "torch-cam: resnet18": (
        lambda: torchvision_model("resnet18"), ["layer4"], (1, 3, 224, 224), 0,
    ),
    "torch-cam: mobilenet_v2": (
        lambda: torchvision_model("mobilenet_v2"), ["features.18.0"], (1, 3, 224, 224), 0,
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request):
    make, layers, shape, target = NETWORKS[request.param]
    torch.manual_seed(0)
    model = make().eval()
    return model, layers, torch.rand(shape, generator=torch.Generator().manual_seed(1)), target


def test_grad_cam_has_captums_values(network):
    model, layers, x, target = network
    for name in layers:
        chosen = model(x).argmax(dim=1) if target is None else target
        captum = LayerGradCam(model, model.get_submodule(name))
        on_layer = captum.attribute(x, chosen, relu_attributions=True).detach()
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        on_input = interpolate(on_layer, size=x.shape[2:], mode=mode)
        expected = torch.cat([norm(sample[None]) for sample in on_input])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of maps that are zero, in both
            found = LayerwiseGradCAM(model, name).attribute(x, target)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cam_class", CLASSES)
def test_every_method_gives_a_map_or_says_why_it_is_empty(network, cam_class):
    model, layers, x, target = network
    for chosen in (layers, "auto"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attribution = cam_class(model, chosen).attribute(x, target)
        assert attribution.shape == (len(x), 1, *x.shape[2:])
        assert attribution.isfinite().all()
        empty = (attribution.flatten(1).amax(dim=1) == 0).nonzero().flatten().tolist()
        messages = " ".join(str(warning.message) for warning in caught)
        assert all(f"{sample}" in messages for sample in empty)
        assert not empty or "zero everywhere" in messages
