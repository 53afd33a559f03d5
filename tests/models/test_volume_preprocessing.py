"""Windows and normalisation of volumes, and the presets of CT in Hounsfield units."""

import math

import numpy as np
import pytest
import torch

from captum_3dcam.io import Volume
from captum_3dcam.models import (
    PRESETS,
    VOLUME_PRESETS,
    Preprocessing,
    VolumePreprocessing,
    get_preprocessing,
)

VALUES = torch.tensor([-1000.0, -50.0, 0.0, 40.0, 300.0, 2000.0]).reshape(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (VolumePreprocessing(), VALUES),
        (VolumePreprocessing((-100, 100)), VALUES.clamp(-100, 100)),
        (VolumePreprocessing((-100, 100), "unit"), (VALUES.clamp(-100, 100) + 100) / 200),
        (VolumePreprocessing(normalize="unit"), (VALUES + 1000) / 3000),
        (VolumePreprocessing(normalize="zscore"), (VALUES - VALUES.mean()) / VALUES.std()),
    ],
)
def test_values_are_clipped_and_normalised(prepare, expected):
    torch.testing.assert_close(prepare(VALUES), expected)


def test_a_window_that_the_values_do_not_fill_is_the_range():
    inside = VolumePreprocessing((-100, 100), "unit")(torch.tensor([[[[0.0, 40.0]]]]))
    torch.testing.assert_close(inside, torch.tensor([[[[0.5, 0.7]]]]))


@pytest.mark.parametrize("normalize", ["unit", "zscore"])
def test_a_constant_volume_becomes_zero(normalize):
    assert not VolumePreprocessing(normalize=normalize)(torch.full((1, 2, 2, 2), 7.0)).any()


@pytest.mark.parametrize(
    ("name", "level", "width"),
    [
        ("ct-brain", 40, 80),
        ("ct-lung", -600, 1500),
        ("ct-soft-tissue", 50, 400),
        ("ct-bone", 400, 1800),
    ],
)
def test_windows_of_ct(name, level, width):
    prepare = get_preprocessing(name)
    assert prepare.units == "HU"
    at = torch.tensor([level - width, level - width / 2, level, level + width / 2, level + width])
    assert prepare(at.float()).tolist() == [0, 0, 0.5, 1, 1]


def test_names():
    assert get_preprocessing("kinetics") is PRESETS["kinetics"]
    assert not set(PRESETS) & set(VOLUME_PRESETS)
    assert PRESETS["none"] == Preprocessing()
    with pytest.raises(ValueError) as error:
        get_preprocessing("imagnet")
    assert str(error.value) == (
        "preprocessing='imagnet' is not known. Choose one of 'none', 'imagenet', 'inception', "
        "'kinetics', 'pytorchvideo', 'ct-brain', 'ct-lung', 'ct-soft-tissue', 'ct-bone'."
    )


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([-1024.0, 3071.0], False),
        ([-120.0, 80.0], False),
        ([0.0, 255.0], True),
        ([0.0, 4095.0], True),  # stored values, without the intercept of -1024
        ([0.0, 1.0], True),
        ([-2.5, 6.0], True),  # z-scores
    ],
)
def test_values_that_are_no_hounsfield_units(values, warned):
    message = VOLUME_PRESETS["ct-brain"].check_units(torch.tensor(values))
    assert (message is not None) == warned
    if warned:
        assert f"the values are from {values[0]:g} to {values[1]:g}: they are something else" in (
            message
        )
    assert VolumePreprocessing((0, 80)).check_units(torch.tensor(values)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": (5, 5)}, "window=(5, 5): expected finite numbers, LOW < HIGH."),
        ({"window": (0, math.inf)}, "window=(0, inf): expected finite numbers, LOW < HIGH."),
        ({"window": (math.nan, 1)}, "window=(nan, 1): expected finite numbers, LOW < HIGH."),
        ({"window": 5}, "window=5: expected (LOW, HIGH)."),
        (
            {"normalize": "minmax"},
            "normalize='minmax' is not known. Choose one of 'none', 'unit', 'zscore'.",
        ),
        ({"units": "mm"}, "units='mm' is not known. Choose one of 'HU'."),
    ],
)
def test_invalid_fields_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        VolumePreprocessing(**arguments)
    assert str(error.value) == message


def test_other_inputs_are_refused():
    with pytest.raises(TypeError, match="Expected the volume of floating-point numbers; got"):
        VolumePreprocessing()(torch.zeros(1, 2, 2, 2, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"that is not empty; received shape \(1, 0, 2, 2\)"):
        VolumePreprocessing()(torch.zeros(1, 0, 2, 2))


# ------------------------------------------------------------------------------------- the grid


def scan():
    data = np.random.default_rng(0).random((8, 12, 10), dtype=np.float32)
    return Volume(data, np.diag([4.0, 1.5, 2.0, 1.0])[[2, 1, 0, 3]])


def test_without_a_grid_of_its_own_a_volume_stays():
    values = VolumePreprocessing((0.0, 1.0), "unit")
    volume = scan()
    assert not values.resamples
    assert values.resample(volume) is volume


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"spacing": 2.0}, lambda volume: volume.resample(spacing=2.0)),
        ({"spacing": (4.0, 3.0, 2.0)}, lambda volume: volume.resample(spacing=(4.0, 3.0, 2.0))),
        ({"size": (4, 6, 5)}, lambda volume: volume.resample(size=(4, 6, 5))),
        ({"orientation": "ras"}, lambda volume: volume.reorient("RAS")),
        ({"orientation": "RAS", "size": (4, 6, 5)},
         lambda volume: volume.reorient("RAS").resample(size=(4, 6, 5))),
    ],
)  # fmt: skip
def test_volumes_are_brought_to_a_grid(options, expected):
    values = VolumePreprocessing(**options)
    resampled, other = values.resample(scan()), expected(scan())
    assert values.resamples
    np.testing.assert_array_equal(resampled.data, other.data)
    np.testing.assert_array_equal(resampled.affine, other.affine)
    torch.testing.assert_close(values(VALUES), VALUES)  # of a tensor, the grid stays


def test_grids_that_are_refused():
    with pytest.raises(ValueError, match="size and spacing both resample: pass one of them"):
        VolumePreprocessing(size=(4, 4, 4), spacing=2.0)
    with pytest.raises(ValueError, match=r"size=\(4, 4\): expected \(D, H, W\) for volumes"):
        VolumePreprocessing(size=(4, 4))
    with pytest.raises(ValueError, match="'RAX' is no orientation"):
        VolumePreprocessing(orientation="rax").resample(scan())
    with pytest.raises(ValueError) as error:
        VolumePreprocessing(spacing=500.0).resample(scan())
    assert str(error.value) == (
        "spacing=500.0: of the 8 x 12 x 10 voxels, 1 x 1 x 1 are left. Pass it in mm."
    )
