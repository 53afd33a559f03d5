"""Synthetic scans and their ground truth; the network that is trained on them."""

import numpy as np
import pytest
import torch

from trained_networks import volume_net

pytestmark = pytest.mark.usefixtures("one_thread")


# ----------------------------------------------------------------------------------- the scans


@pytest.mark.parametrize("index", [1, 2, 5])
def test_the_ground_truth_is_where_the_lesion_is(index):
    scan = volume_net.make_scan(index)
    points = [
        scan.volume.affine[:3, :3] @ voxel + scan.volume.affine[:3, 3]
        for voxel in np.argwhere(scan.mask)
    ]
    distances = np.linalg.norm(np.array(points) - scan.lesion, axis=1)
    assert np.linalg.norm(np.mean(points, axis=0) - scan.lesion) < 0.5
    radius = distances.max()
    assert 7 < radius < 12
    size = len(points) * abs(np.linalg.det(scan.volume.affine[:3, :3]))
    assert size == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.2)
    inside = scan.volume.data[scan.mask]
    core, rim = inside[distances < 0.4 * radius], inside[abs(distances / radius - 0.75) < 0.15]
    assert rim.mean() > 130  # the tissue's mean is 100
    assert (core.mean() > rim.mean()) == (scan.label == 1)


def test_a_scan_without_a_lesion_has_an_empty_mask():
    scan = volume_net.make_scan(3)
    assert scan.label == 0
    assert np.isnan(scan.lesion).all()
    assert not scan.mask.any()


def test_grids_are_oblique_with_anisotropic_voxels():
    grids = [volume_net.make_scan(index).volume for index in range(6)]
    for grid in grids:
        directions = grid.affine[:3, :3] / grid.spacing
        np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
        assert grid.orientation == "SPL"
        assert 0.02 < np.sort(abs(directions).ravel())[-4] < 0.6
        assert grid.spacing[0] > grid.spacing[1] == pytest.approx(grid.spacing[2])
    assert len({grid.spacing for grid in grids}) == 6


def test_scans_are_determined_by_the_seed():
    first, again, other = (volume_net.make_scan(4, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.volume.data, again.volume.data)
    assert not np.array_equal(first.volume.data, other.volume.data)
    assert [volume_net.make_scan(i).label for i in range(4)] == [0, 1, 2, 0]


# --------------------------------------------------------------------------------- the network


def test_accuracy_counts_the_scans():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            assert x.shape == (1, 1, *volume_net.SIZE)
            return torch.eye(3)[[1]]

    assert volume_net.accuracy(Fixed(), 4) == 0.25


def test_training_is_determined_by_the_seed_and_preserves_torchs_generator(monkeypatch):
    before = torch.get_rng_state()
    original, seeds = volume_net.make_scan, []

    def same_scans(index, seed):
        seeds.append(seed)
        return original(index, 0)

    monkeypatch.setattr(volume_net, "make_scan", same_scans)
    first, again, other = (volume_net.train(9, 1, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert seeds == [0] * 18 + [1] * 9
    assert all(torch.equal(v, again[name]) for name, v in first.items())
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
