"""The study of lesions: what counts as a hit, and the table."""

import math
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

import evaluate_lesions
from trained_networks import volume_net
from zoo_networks import FOLDER


class Known:
    """An attribution whose map is highest at given voxels, one after the other."""

    def __init__(self, *voxels):
        self.voxels = list(voxels)

    def attribute(self, x, target):
        attribution = torch.zeros_like(x)
        attribution[(0, 0, *self.voxels.pop(0))] = 1
        return attribution


def test_a_hit_is_a_highest_voxel_in_the_lesion():
    mask = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    mask[..., :2, :2, :2] = True
    scans = [(torch.zeros(1, 1, 4, 4, 4), mask, 1)] * 3
    cam = Known((0, 1, 1), (0, 1, 2), (1, 1, 1))
    assert evaluate_lesions.hits(cam, scans) == pytest.approx(2 / 3)
    assert math.isnan(evaluate_lesions.hits(cam, []))


def test_scans_with_a_lesion_that_is_named_are_explained():
    class Blob(torch.nn.Module):
        def forward(self, x):
            return torch.eye(3)[[1]]

    scans, accuracy = evaluate_lesions.explained_scans(Blob(), 6)
    assert accuracy == pytest.approx(1 / 3)
    assert [label for _, _, label in scans] == [1, 1]
    x, mask, _ = scans[0]
    assert x.shape == mask.shape == (1, 1, *evaluate_lesions.SIZE)
    assert x[mask].mean() > x[~mask].mean()
    assert volume_net.CLASSES[1] == "blob"


def test_the_table():
    """In a process of its own: it imports other libraries, which other tests must not see."""
    if not (FOLDER / "monai").is_dir() and find_spec("monai") is None:
        pytest.skip("monai is not installed: make test installs it")
    options = ["--training", "6", "--epochs", "1", "--scans", "6", "--seeds", "0"]
    command = [sys.executable, evaluate_lesions.__file__, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, _, *rows = done.stdout.splitlines()
    assert head.startswith("| seed | accuracy | scans | layers | 3DCAM |")
    assert [row.split(" | ")[3] for row in rows] == ["auto", "guess"]
