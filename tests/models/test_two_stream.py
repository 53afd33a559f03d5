"""Two streams: the mean of their logits, and maps of the layers of either."""

import pytest
import torch
from backbones import seeded
from torch import nn

from captum_3dcam import (
    CounterfactualCAM3D,
    GlobalLocalCAM3D,
    LayerwiseGradCAM,
    LayerwiseWhatWhereCAM,
)
from captum_3dcam.models import I3D, I3DFlow, LayerwiseGatedClassifier, TwoStream

CLASSES = [GlobalLocalCAM3D, CounterfactualCAM3D, LayerwiseGradCAM, LayerwiseWhatWhereCAM]


def stream(channels, classes=4):
    return nn.Sequential(
        nn.Conv3d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 5, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(40, classes),
    )  # fmt: skip


@pytest.fixture
def model():
    return seeded(lambda: TwoStream(stream(3), stream(2))).eval()


@pytest.fixture
def inputs():
    return torch.rand(2, 3, 6, 12, 10), torch.randn(2, 2, 6, 12, 10)


def test_the_logits_are_the_mean(model, inputs):
    rgb, flow = (part(x) for part, x in zip((model.rgb, model.flow), inputs, strict=True))
    assert torch.equal(model(*inputs), (rgb + flow) / 2)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("part", ["rgb", "flow"])
def test_the_map_of_a_streams_layers_is_that_of_the_stream_alone(model, inputs, make, part):
    """The gradient is halved, which changes no map; the other stream is a constant."""
    own = inputs[0 if part == "rgb" else 1]
    target = model(*inputs).argmax(dim=1)
    of_both = make(model, [f"{part}.1", f"{part}.3"]).attribute(inputs, target=target)
    alone = make(getattr(model, part), ["1", "3"]).attribute(own, target=target)
    assert of_both.shape == (2, 1, 6, 12, 10)
    assert of_both.any()
    torch.testing.assert_close(of_both, alone, rtol=1e-4, atol=1e-5)


def test_layers_of_both_streams_are_fused(model, inputs):
    parts = [
        GlobalLocalCAM3D(model, layer).attribute(inputs, target=1) for layer in ("rgb.3", "flow.3")
    ]
    both = GlobalLocalCAM3D(model, ["rgb.3", "flow.3"]).attribute(inputs, target=1)
    torch.testing.assert_close(both, sum(parts))


def test_a_smaller_flow_lies_over_the_frames(model, inputs):
    rgb, flow = inputs
    small = GlobalLocalCAM3D(model, "flow.1").attribute((rgb, flow[..., ::2, ::2]), target=0)
    assert small.shape == (2, 1, 6, 12, 10)


def test_the_predicted_class_is_that_of_both(model, inputs):
    cam = GlobalLocalCAM3D(model, "flow.1")
    assert torch.equal(
        cam.attribute(inputs), cam.attribute(inputs, target=model(*inputs).argmax(dim=1))
    )


def test_gates_in_both_streams(model, inputs):
    gated = LayerwiseGatedClassifier(model, ["rgb.3", "flow.3"], num_classes=4)
    assert gated(*inputs).shape == (2, 4)
    assert [gate.fc.in_features for gate in gated.gates] == [15, 15]


def test_streams_of_other_classes_are_refused(inputs):
    with pytest.raises(ValueError) as error:
        TwoStream(stream(3, 4), stream(2, 5))(*inputs)
    assert str(error.value) == (
        "Expected logits of one shape from both streams; received shape (2, 4) for RGB and shape "
        "(2, 5) for flow. Build both for the same number of classes, and pass as many clips as "
        "flows."
    )


def test_the_streams_of_i3d():
    model = TwoStream(seeded(I3D, 5), seeded(I3DFlow, 5)).eval()
    rgb, flow = torch.rand(1, 3, 8, 32, 32), torch.rand(1, 2, 8, 32, 32)
    for prefix in ("rgb", "flow"):
        layers = [f"{prefix}.{name}" for name in I3D.LAYERS.values()]
        heat = GlobalLocalCAM3D(model, layers).attribute((rgb, flow))
        assert heat.shape == (1, 1, 8, 32, 32)
        assert heat.any()
