"""The preprocessing that is requested, the model's own, or none."""

from dataclasses import replace

import pytest
import torch
from explanation_inputs import network
from networks import conv_net
from torch import nn

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation._preprocessing import (
    VolumeSteps,
    frame_preprocessing,
    name_preprocessing,
    replace_frame_values,
    replace_volume_values,
    volume_preprocessing,
)
from captum_3dcam.models import PRESETS, VOLUME_PRESETS, Preprocessing, VolumePreprocessing

RGB, GREY = network("image"), conv_net(2, inputs=1)


class Own(nn.Conv2d):
    PREPROCESSING = Preprocessing(0.5, 0.25, 16)


class OwnFunction(nn.Conv2d):
    PREPROCESSING = staticmethod(lambda x: x / 100)


class OwnVolume(nn.Conv3d):
    PREPROCESSING = VolumePreprocessing((0.0, 1.0), "unit")


OWN, OWN_FUNCTION, OWN_VOLUME = Own(3, 4, 1), OwnFunction(3, 4, 1), OwnVolume(1, 4, 1)


@pytest.mark.parametrize(
    ("requested", "model", "expected"),
    [
        (None, RGB, Preprocessing()),
        (None, OWN, Own.PREPROCESSING),
        (None, OWN_FUNCTION, OwnFunction.PREPROCESSING),
        ("none", OWN, Preprocessing()),
        ("kinetics", OWN, PRESETS["kinetics"]),
        (Preprocessing(0.25), OWN, Preprocessing(0.25)),
        (torch.Tensor.float, RGB, torch.Tensor.float),
        (None, GREY, Preprocessing(channels=1)),
        ("inception", GREY, replace(PRESETS["inception"], channels=1)),
        (Preprocessing(), GREY, Preprocessing()),  # as it is
    ],
)
def test_of_frames(requested, model, expected):
    assert frame_preprocessing(requested, model) == expected


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("imagnet", "preprocessing='imagnet': expected for images and videos one of 'none', 'imag"),
        ("ct-lung", "preprocessing='ct-lung': expected for images and videos one of 'none', 'imag"),
        (3, "preprocessing is of type int, which is not callable"),
        (VolumePreprocessing(), "is not for images and videos: pass a name of .'none', 'imagenet'"),
    ],
)
def test_what_is_not_of_frames(requested, message):
    with pytest.raises(ArgumentError, match=message):
        frame_preprocessing(requested, RGB)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_values_of_three_channels_for_a_network_of_one(name):
    with pytest.raises(ArgumentError) as error:
        replace_frame_values("imagenet", GREY, {"std": 0.25} if name == "mean" else {"mean": 0.5})
    values = getattr(PRESETS["imagenet"], name)
    assert str(error.value) == (
        f"The {name} is that of R, G and B, {values}, and the network takes one channel, grey. "
        "Pass the mean and std of its training, one number each."
    )


@pytest.mark.parametrize(
    ("name", "model", "values", "expected"),
    [
        (None, OWN, {}, None),
        ("kinetics", OWN, {}, "kinetics"),
        (None, OWN, {"mean": 0.4}, Preprocessing(0.4, 0.25, 16)),
        ("none", OWN, {"mean": 0.4}, Preprocessing(0.4)),
        (None, RGB, {"crop": 8}, Preprocessing(crop=8)),
        (None, GREY, {"std": 0.5}, Preprocessing(std=0.5, channels=1)),
        (None, GREY, {"channels": 3}, Preprocessing()),
        ("imagenet", GREY, {"mean": 0.4, "std": 0.5, "size": 8, "crop": None},
         Preprocessing(0.4, 0.5, 8, channels=1)),
    ],
)  # fmt: skip
def test_replaced_values_of_frames(name, model, values, expected):
    assert replace_frame_values(name, model, values) == expected


def test_a_size_is_that_of_the_input_and_has_no_crop():
    assert PRESETS["kinetics"].crop is not None
    assert replace_frame_values("kinetics", RGB, {"size": (8, 8)}).crop is None
    assert replace_frame_values("kinetics", RGB, {"size": (8, 8), "crop": 4}).crop == 4


def test_a_function_has_no_values():
    with pytest.raises(ArgumentError, match="is of type function, which size, std cannot change"):
        replace_frame_values(None, OWN_FUNCTION, {"size": 8, "std": 0.5})


# ---------------------------------------------------------------------------------------- volumes


@pytest.mark.parametrize(
    ("requested", "model", "values"),
    [
        (None, RGB, VolumePreprocessing()),
        (None, OWN_VOLUME, OwnVolume.PREPROCESSING),
        ("ct-bone", OWN_VOLUME, VOLUME_PRESETS["ct-bone"]),
        (VolumePreprocessing(spacing=2.0), OWN_VOLUME, VolumePreprocessing(spacing=2.0)),
    ],
)
def test_of_volumes(requested, model, values):
    steps = volume_preprocessing(requested, model)
    assert (steps.values, steps.function) == (values, None)
    assert volume_preprocessing(steps, model) is steps


def test_functions_of_volumes():
    x = torch.rand(1, 4, 4, 4)
    for requested, model in ((None, OWN_FUNCTION), (lambda x: x / 100, OWN_VOLUME)):
        torch.testing.assert_close(volume_preprocessing(requested, model)(x), x / 100)
    steps = replace_volume_values(None, OWN_FUNCTION, {"window": (0.0, 0.5)})
    torch.testing.assert_close(steps(x), x.clip(0, 0.5) / 100)
    steps = replace_volume_values(None, OWN_FUNCTION, {"normalize": "unit"})
    torch.testing.assert_close(steps(x), (x - x.min()) / (x.max() - x.min()))


def test_each_channel_is_normalised_by_itself():
    x = torch.stack([torch.rand(4, 4, 4), 100 * torch.rand(4, 4, 4)])
    inputs = VolumeSteps(VolumePreprocessing(normalize="unit"))(x)
    for channel, values in zip(inputs, x, strict=True):
        torch.testing.assert_close(channel, (values - values.min()) / (values.max() - values.min()))


def test_a_function_must_keep_the_grid():
    with pytest.raises(ArgumentError) as error:
        VolumeSteps(VolumePreprocessing(), lambda x: x[:, 1:])(torch.rand(1, 4, 5, 6))
    assert str(error.value) == (
        "The model's PREPROCESSING turns (1, D, H, W) = (1, 4, 5, 6) into (1, 3, 5, 6); it must "
        "keep the grid. Resample with size or spacing."
    )


def test_values_that_are_no_hounsfield_units_are_warned_of_once():
    x = torch.rand(1, 4, 4, 4).expand(2, 4, 4, 4)
    with pytest.warns(UserWarning, match="is in Hounsfield units") as caught:
        VolumeSteps(VOLUME_PRESETS["ct-lung"])(x)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("imagenet", "preprocessing='imagenet': expected for volumes one of 'ct-brain', 'ct-lung'"),
        (Preprocessing(), "is not for volumes: pass a name of .'ct-brain'"),
    ],
)
def test_what_is_not_of_volumes(requested, message):
    with pytest.raises(ArgumentError, match=message):
        volume_preprocessing(requested, RGB)


def test_names():
    def scaled(x):
        return x

    assert name_preprocessing(Preprocessing(0.5)) == repr(Preprocessing(0.5))
    assert name_preprocessing(scaled).endswith("scaled")
    assert name_preprocessing(nn.Identity()) == "Identity"
    values = VolumePreprocessing((0.0, 1.0))
    assert name_preprocessing(VolumeSteps(values, abs)) == f"{values!r}, abs"
