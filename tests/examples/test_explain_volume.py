"""Scans explained: the map in the patient's millimetres, read back by NiBabel alone."""

import re

import numpy as np
import pytest
from PIL import Image
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")

import explain_volume  # noqa: E402
from captum_3dcam.io import Volume, read_dicom, read_volume, write_nifti  # noqa: E402
from trained_networks import volume_net  # noqa: E402


@pytest.fixture
def run(trained_volume_net, tmp_path, monkeypatch):
    """Runs the example with the network that is trained already."""
    monkeypatch.setattr(volume_net, "train", lambda: trained_volume_net)
    return lambda *options: explain_volume.main([*map(str, options), "--output", str(tmp_path)])


def world_of_peak(path):
    """By NiBabel and NumPy alone."""
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    return (image.affine @ [*np.unravel_index(data.argmax(), data.shape), 1])[:3]


def test_the_network_classifies_held_out_scans(trained_volume_net):
    assert volume_net.accuracy(trained_volume_net, 30) >= 0.9


def test_the_peak_is_in_the_lesion_and_the_map_lies_on_the_scan(run, tmp_path, capsys):
    run()
    printed = capsys.readouterr().out
    scan = nibabel.load(tmp_path / "volume_scan.nii.gz")
    heat = nibabel.load(tmp_path / "volume_map.nii.gz")
    assert np.array_equal(scan.affine, heat.affine)
    assert scan.shape == heat.shape
    assert heat.get_data_dtype() == np.float32
    known = volume_net.make_scan(1)
    peak = world_of_peak(tmp_path / "volume_map.nii.gz")
    assert f"blob: the map is highest at {peak.round(1)} mm" in printed
    distance = np.linalg.norm(peak - known.lesion)
    assert f"That is {distance:.1f} mm from the lesion's centre." in printed
    # About a voxel of the network's input, with a margin for rounding on other machines.
    assert distance < 2 * max(volume_net.preprocess(known.volume).spacing)
    data = np.asarray(heat.dataobj).T
    share, chance = data[known.mask].sum() / data.sum(), known.mask.mean()
    assert f"{share:.0%} of the map (chance {chance:.1%})" in printed
    assert share > 0.5 > 10 * chance
    with Image.open(tmp_path / "volume.png") as image:
        assert image.size[0] > 900


def test_the_peak_of_a_ring_is_on_it(run, capsys):
    run("--number", 2)
    printed = capsys.readouterr().out
    assert "ring: the map is highest" in printed
    distance = re.search(r"That is ([\d.]+) mm from the lesion's centre", printed)
    assert float(distance[1]) < 12
    share, chance = re.search(r"(\d+)% of the map \(chance ([\d.]+)%\)", printed).groups()
    assert float(share) > 20 * float(chance)


def test_a_scan_without_a_lesion_is_explained_too(run, capsys):
    run("--number", 0)
    printed = capsys.readouterr().out
    assert "none: the map is highest" in printed
    assert "from the lesion's centre" not in printed


def test_a_scan_of_the_user(run, tmp_path, capsys):
    write_nifti(volume_net.make_scan(4).volume, tmp_path / "mine.nii.gz")
    run(tmp_path / "mine.nii.gz")
    printed = capsys.readouterr().out
    assert "the map is highest" in printed
    assert "from the lesion's centre" not in printed
    affine = nibabel.load(tmp_path / "mine.nii.gz").affine
    assert np.array_equal(nibabel.load(tmp_path / "volume_map.nii.gz").affine, affine)
    assert not (tmp_path / "volume_scan.nii.gz").exists()


# ------------------------------------------------------------------- other grids and networks


class BrightNet(nn.Module):
    """Is there a voxel brighter than 500, towards the head rather than the feet?"""

    def __init__(self):
        super().__init__()
        self.bright = nn.Sequential(nn.Conv3d(1, 1, 1), nn.ReLU())
        nn.init.ones_(self.bright[0].weight)
        nn.init.constant_(self.bright[0].bias, -500.0)
        self.pool = nn.AdaptiveAvgPool3d(4)
        self.head = nn.Linear(4 * 4 * 4, 2, bias=False)
        nn.init.zeros_(self.head.weight)
        self.head.weight.data.view(2, 4, 4, 4)[1, :2] = -1
        self.head.weight.data.view(2, 4, 4, 4)[1, 2:] = 1

    def forward(self, x):
        return self.head(self.pool(self.bright(x)).flatten(1))


def write_series(folder, volume):
    """A volume of integers as a DICOM series, in the terms of the standard."""
    folder.mkdir()
    lps = np.diag([-1, -1, 1]) @ volume.affine[:3]
    down, right = lps[:, 1] / volume.spacing[1], lps[:, 2] / volume.spacing[2]
    for number, pixels in enumerate(volume.data.astype(np.uint16)):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID = pydicom.uid.CTImageStorage
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}"
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "CT"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing = [f"{x:.10f}" for x in volume.spacing[1:]]
        dataset.ImageOrientationPatient = [f"{x:.12f}" for x in (*right, *down)]
        dataset.ImagePositionPatient = [f"{x:.9f}" for x in lps @ [number, 0, 0, 1]]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation, dataset.PixelData = 0, pixels.tobytes()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.save_as(folder / f"{99 - number}.dcm", enforce_file_format=True)


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_the_peak_is_at_a_bright_spot_of_an_oblique_scan(kind, tmp_path, monkeypatch):
    """Within a voxel, in the scan's world coordinates, whatever the file and the grid."""
    monkeypatch.setattr(volume_net, "LAYERS", ["bright"])
    monkeypatch.setattr(volume_net, "CLASSES", ("dull", "bright"))
    preprocess = volume_net.preprocess
    monkeypatch.setattr(volume_net, "preprocess", lambda scan: preprocess(scan, (40, 48, 56)))
    grid = volume_net.make_scan(7).volume
    data = np.full(grid.shape, 100.0)
    data[20:23, 30:33, 12:15] = 1000
    data[21, 31, 13] = 2000
    spot = grid.to_world([21, 31, 13])
    scan, path = grid.with_data(data), tmp_path / "scan.nii"
    if kind == "dicom":
        path = tmp_path / "series"
        write_series(path, scan)
        np.testing.assert_allclose(read_dicom(path).affine, scan.affine, atol=1e-5)
    else:
        write_nifti(Volume(data[::-1], scan.affine @ flip(grid.shape[0])), path)
    name, heat = explain_volume.explain(read_volume(path), BrightNet().eval())
    assert name == "bright"
    write_nifti(heat, tmp_path / "map.nii.gz")
    peak = world_of_peak(tmp_path / "map.nii.gz")
    assert np.linalg.norm(peak - spot) < max(grid.spacing)
    if kind == "nifti":
        affine = nibabel.load(path).affine
        assert np.array_equal(nibabel.load(tmp_path / "map.nii.gz").affine, affine)
    explain_volume.draw(heat, read_volume(path), name).savefig(tmp_path / "volume.png")


def flip(length):
    matrix = np.diag([-1.0, 1, 1, 1])
    matrix[0, 3] = length - 1
    return matrix
