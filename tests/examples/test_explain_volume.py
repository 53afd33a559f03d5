"""Made scans and their truth; the map in the patient's millimetres, read back by NiBabel alone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")

import explain_volume  # noqa: E402
from captum_3dcam.io import Volume, read_dicom, write_nifti  # noqa: E402
from trained_networks import volume_net  # noqa: E402

MODEL = '''
from torch import nn


def load():
    """Is there anything brighter than 500, towards the head rather than the feet?"""
    bright = nn.Sequential(nn.Conv3d(1, 1, 1), nn.ReLU())
    nn.init.ones_(bright[0].weight)
    nn.init.constant_(bright[0].bias, -500.0)
    head = nn.Linear(4 * 4 * 4, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    head.weight.data.view(2, 4, 4, 4)[1, :2] = -1
    head.weight.data.view(2, 4, 4, 4)[1, 2:] = 1
    # In training the last but one lets nothing through.
    return nn.Sequential(bright, nn.AdaptiveAvgPool3d(4), nn.Flatten(), nn.Dropout(1.0), head)


def number():
    return 3
'''


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network():
    return volume_net.train()


@pytest.fixture
def run(network, tmp_path, monkeypatch):
    """Runs the example with the network that is trained already."""
    monkeypatch.setattr(volume_net, "train", lambda: network)
    return lambda *options: explain_volume.main([*options, "--output", str(tmp_path)])


def world_of_peak(path):
    """By NiBabel and NumPy alone."""
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    return image.affine @ [*np.unravel_index(data.argmax(), data.shape), 1]


# ------------------------------------------------------------------------------ the made scans


@pytest.mark.parametrize("index", [1, 2, 5])
def test_the_truth_is_where_the_lesion_is(index):
    scan = volume_net.make_scan(index)
    places = [
        scan.volume.affine[:3, :3] @ voxel + scan.volume.affine[:3, 3]
        for voxel in np.argwhere(scan.mask)
    ]
    distances = np.linalg.norm(np.array(places) - scan.lesion, axis=1)
    assert np.linalg.norm(np.mean(places, axis=0) - scan.lesion) < 0.5
    radius = distances.max()
    assert 7 < radius < 12
    size = len(places) * abs(np.linalg.det(scan.volume.affine[:3, :3]))
    assert size == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.2)
    inside = scan.volume.data[scan.mask]
    core, rim = inside[distances < 0.4 * radius], inside[abs(distances / radius - 0.75) < 0.15]
    assert rim.mean() > 130  # the tissue's mean is 100
    assert (core.mean() > rim.mean()) == (scan.label == 1)


def test_a_scan_without_a_lesion_has_no_place():
    scan = volume_net.make_scan(3)
    assert scan.label == 0
    assert np.isnan(scan.lesion).all()
    assert not scan.mask.any()


def test_grids_are_oblique_and_of_voxels_that_are_no_cubes():
    grids = [volume_net.make_scan(index).volume for index in range(6)]
    for grid in grids:
        directions = grid.affine[:3, :3] / grid.spacing
        np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
        assert grid.orientation == "SPL"
        assert 0.02 < np.sort(abs(directions).ravel())[-4] < 0.6
        assert grid.spacing[0] > grid.spacing[1] == pytest.approx(grid.spacing[2])
    assert len({grid.spacing for grid in grids}) == 6


def test_scans_follow_from_the_seed():
    first, again, other = (volume_net.make_scan(4, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.volume.data, again.volume.data)
    assert not np.array_equal(first.volume.data, other.volume.data)
    assert [volume_net.make_scan(i).label for i in range(4)] == [0, 1, 2, 0]


# -------------------------------------------------------------------------------- the network


def test_it_classifies_scans_that_it_has_not_seen(network):
    assert volume_net.accuracy(network, 30) >= 0.9


def test_accuracy_counts_the_scans():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            assert x.shape == (1, 1, *volume_net.SIZE)
            return torch.eye(3)[[1]]

    assert volume_net.accuracy(Fixed(), 4) == 0.25


def test_training_follows_from_the_seed_and_leaves_torchs_own_alone(monkeypatch):
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


# --------------------------------------------------------------------------- the made scan


def test_the_peak_is_in_the_lesion_and_lies_on_the_scan(run, tmp_path, capsys):
    report = run()
    assert json.loads((tmp_path / "explain_volume.json").read_text()) == json.loads(
        json.dumps(report)
    )
    scan = nibabel.load(tmp_path / "volume_scan.nii.gz")
    heat = nibabel.load(tmp_path / "volume_map.nii.gz")
    assert np.array_equal(scan.affine, heat.affine)
    assert scan.shape == heat.shape
    assert heat.get_data_dtype() == np.float32
    assert report["affine_difference"] == 0
    truth = volume_net.make_scan(1)
    place = world_of_peak(tmp_path / "volume_map.nii.gz")[:3]
    np.testing.assert_allclose(report["peak"], place, atol=0.01)
    np.testing.assert_allclose(report["lesion"], truth.lesion, atol=0.01)
    assert report["distance"] == pytest.approx(np.linalg.norm(place - truth.lesion), abs=0.01)
    # About a voxel of what the network sees, with room for the rounding of another machine.
    assert report["distance"] < 2 * max(volume_net.prepared(truth.volume).spacing)
    data = np.asarray(heat.dataobj).T
    assert report["share"] == pytest.approx(data[truth.mask].sum() / data.sum(), abs=1e-3)
    assert report["share"] > 0.5 > 10 * report["chance"]
    assert (report["name"], report["class"]) == ("blob", 1)
    assert report["probability"] > 0.9
    printed = capsys.readouterr().out
    assert "Of held-out scans it classifies" in printed
    assert f"distance, mm{report['distance']:20.2f}" in printed
    for name in ("volume_slices.png", "volume_montage.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 900


def test_the_peak_of_a_ring_is_on_it(run):
    report = run("--number", "2")
    assert report["name"] == "ring"
    assert report["distance"] < 12
    assert report["share"] > 20 * report["chance"]


def test_a_scan_without_a_lesion_is_explained_too(run, capsys):
    report = run("--number", "0", "--method", "GlobalLocalCAM3D")
    assert report["name"] == "none"
    assert "lesion" not in report
    assert "distance" not in capsys.readouterr().out


def test_the_truth_is_marked_in_each_slice(run, monkeypatch):
    """At the lesion's place in mm along the two axes that the slice shows."""
    seen = {}
    original = explain_volume.mark

    def spy(axes, scan, truth):
        original(axes, scan, truth)
        seen.update(axes=axes, voxels=np.linalg.inv(scan.affine) @ [*truth.centre, 1])

    monkeypatch.setattr(explain_volume, "mark", spy)
    run()
    place = seen["voxels"][:3] * volume_net.make_scan(1).volume.spacing
    marks = [ax.lines[-1].get_xydata()[0] for ax in seen["axes"]]
    d, h, w = place
    np.testing.assert_allclose(marks, [(w, h), (w, d), (h, d)] * 2, atol=1e-3)


# ------------------------------------------------------------------ scans and models of one's own


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "bright.py"
    path.write_text(MODEL)
    return path


def write_series(folder, volume):
    """A volume of integers as a DICOM series, by the standard's own terms."""
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
def test_a_scan_and_a_model_of_ones_own(kind, model, tmp_path):
    """A bright spot in an oblique scan: the peak is within a voxel of it, in the scan's world."""
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
    given = "--layers 0 --size 40 48 56 --target 1 --method GlobalLocalCAM3D --lesion"
    report = explain_volume.main(
        [
            *(str(path), "--model", f"{model}:load", "--output", str(tmp_path)),
            *(*given.split(), *map(str, spot)),
        ]
    )
    assert report["name"] == "class 1"
    assert report["distance"] < max(grid.spacing)
    assert "share" not in report
    place = world_of_peak(tmp_path / "volume_map.nii.gz")[:3]
    assert np.linalg.norm(place - spot) < max(grid.spacing)
    if kind == "nifti":
        affine = nibabel.load(path).affine
        assert np.array_equal(nibabel.load(tmp_path / "volume_map.nii.gz").affine, affine)
    with Image.open(tmp_path / "volume_slices.png") as picture:
        assert picture.size[0] > 900


def flip(length):
    matrix = np.diag([-1.0, 1, 1, 1])
    matrix[0, 3] = length - 1
    return matrix


def test_names_of_classes(model, tmp_path):
    options = ["--model", f"{model}:load", "--layers", "0", "--output", str(tmp_path)]
    assert explain_volume.main([*options, "--classes", "dull", "bright"])["name"] == "dull"


@pytest.mark.parametrize(
    "given, message",
    [
        ("{}/none.py:load", "there is no file '{}/none.py'"),
        ("bright.py", "expected FILE.py:FUNCTION; there is no file ''"),
        ("{}/bright.py:save", "has no 'save' that gives a network"),
        ("{}/bright.py:number", "has no 'number' that gives a network"),
        ("{}/notes.txt:load", "notes.txt' is no Python file"),
    ],
)
def test_models_that_are_none_say_so(given, message, model, tmp_path):
    (tmp_path / "notes.txt").write_text("load")
    with pytest.raises(SystemExit) as error:
        explain_volume.load(given.format(tmp_path))
    assert message.format(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--model", "a.py:load"], "--model needs --layers too"),
        (["--number", "-1"], "--number -1: expected 0 or more"),
    ],
)
def test_wrong_uses_say_what_is_right(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        explain_volume.main(given)
    assert message in capsys.readouterr().err


def test_a_class_that_there_is_not_says_so(run):
    with pytest.raises(SystemExit, match="--target 3: the network has the classes 0 to 2"):
        run("--target", "3")


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        explain_volume.main(["--help"])
    assert "python examples/explain_volume.py scan.nii.gz --model" in capsys.readouterr().out
