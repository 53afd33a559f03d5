"""The networks, built once."""

import pytest
from backbones import seeded

from captum_3dcam.models import I3D, ResNeXt3D, i3d, resnext101_3d


@pytest.fixture(autouse=True, scope="module")
def on_one_thread(one_thread):
    """The networks of all these tests."""


@pytest.fixture(scope="module")
def resnext() -> ResNeXt3D:
    return seeded(resnext101_3d).eval()


@pytest.fixture(scope="module")
def inception() -> I3D:
    return seeded(i3d).eval()


@pytest.fixture(scope="module")
def small() -> ResNeXt3D:
    return seeded(ResNeXt3D, (1, 2, 1, 1), num_classes=7).eval()
