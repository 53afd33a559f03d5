"""Both networks of the paper: names, shapes and counts as published; any input size."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from backbones import outputs_of, seeded, shapes_of
from torch import nn

from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.models import I3D, ResNeXt3D

FACTS = Path(__file__).parents[3] / "shared" / "facts"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnext", "resnext101_3d_kinetics400_state_dict.json"),
        ("inception", "i3d_rgb_kinetics400_state_dict.json"),
    ],
)
def test_names_and_shapes_are_those_of_the_public_checkpoints(name, file, request):
    if not (FACTS / file).is_file():
        pytest.skip("needs the names of the public checkpoints")
    published = json.loads((FACTS / file).read_text(encoding="utf-8"))["state_dict"]
    assert shapes_of(request.getfixturevalue(name)) == published


@pytest.mark.parametrize(("name", "count"), [("resnext", 48_340_816), ("inception", 12_697_264)])
def test_the_number_of_parameters(name, count, request):
    model = request.getfixturevalue(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        (
            "resnext",
            (16, 112, 112),
            {
                "conv": (64, 16, 56, 56),
                "layer1": (256, 8, 28, 28),
                "layer2": (512, 4, 14, 14),
                "layer3": (1024, 2, 7, 7),
                "layer4": (2048, 1, 4, 4),
            },
        ),
        (
            "inception",
            (16, 224, 224),
            {
                "layer1": (480, 8, 28, 28),
                "layer2": (832, 4, 14, 14),
                "layer3": (1024, 2, 7, 7),
            },
        ),
    ],
)
def test_the_layers_of_the_paper_run_once_and_have_its_shapes(name, size, expected, request):
    model = request.getfixturevalue(name)
    assert list(model.LAYERS) == list(expected)
    assert model.PREPROCESSING.size == size[1:]
    outputs = outputs_of(model, model.LAYERS.values(), torch.rand(1, 3, *size))
    calls = Counter({layer: len(tensors) for layer, tensors in outputs.items()})
    assert set(calls.values()) == {1}
    shapes = {paper: tuple(outputs[own][0].shape[1:]) for paper, own in model.LAYERS.items()}
    assert shapes == expected


@pytest.mark.parametrize("make", [lambda: ResNeXt3D((1, 1, 1, 1), 6), lambda: I3D(6)])
def test_the_layers_of_the_paper_are_fused_to_one_map(make):
    model = seeded(make).eval()
    clip = model.PREPROCESSING(torch.rand(3, 8, 20, 20))[None, :, :, :64, :64]
    cam = GlobalLocalCAM3D(model, layers=list(model.LAYERS.values()))
    attribution = cam.attribute(clip)
    assert attribution.shape == (1, 1, 8, 64, 64)
    assert attribution.max() > attribution.min() >= 0


@pytest.mark.parametrize("make", [lambda **k: ResNeXt3D((1, 1, 1, 1), **k), lambda **k: I3D(**k)])
@pytest.mark.parametrize("classes", [1, 101])
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_any_number_of_classes_channels_frames_and_pixels(make, classes, channels):
    model = make(num_classes=classes, in_channels=channels).eval()
    for size in ((1, 1, 1), (2, 17, 31), (9, 32, 8), (16, 5, 3)):
        logits = model(torch.rand(2, channels, *size))
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["small", "inception"])
@torch.no_grad()
def test_a_batch_equals_its_samples(name, request):
    model = request.getfixturevalue(name)
    x = torch.rand(3, 3, 8, 32, 32)
    alone = torch.cat([model(one) for one in x.split(1)])
    torch.testing.assert_close(model(x), alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["resnext", "inception"])
def test_convolutions_are_initialised_as_by_he(name, request):
    """He et al., arXiv 1502.01852: a variance of 2 / (number of outputs of one input)."""
    checked = 0
    for convolution in request.getfixturevalue(name).modules():
        if isinstance(convolution, nn.Conv3d) and convolution.weight.numel() > 20_000:
            weight = convolution.weight
            expected = math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))
            assert weight.std().item() == pytest.approx(expected, rel=0.03)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("make", [lambda: ResNeXt3D((1, 1, 1, 1), 5), lambda: I3D(5)])
def test_every_parameter_is_trained(make):
    model = make()
    logits = model(torch.randn(2, 3, 16, 64, 64))
    F.cross_entropy(logits, torch.tensor([1, 3])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
