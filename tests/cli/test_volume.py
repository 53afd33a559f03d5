"""``captum-3dcam explain`` of volumes: maps on the scan's grid, and what the model receives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from explain_command import SEED, fails, maps, network, run

from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.cli import main
from captum_3dcam.io import Volume, load_map, read_image, read_nifti, write_nifti

SIZE = (14, 22, 18)
LESION = (9, 6, 13)


def oblique():
    """An affine of 3 x 1.5 x 1.2 mm voxels, with oblique axes."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * (3.0, 1.5, 1.2)
    affine[:3, 3] = (12.5, -40.0, 77.0)
    return affine


def scan_with_lesion():
    """Noise, and a bright ball of 4 mm around the voxel LESION."""
    voxels = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), axis=-1)
    affine = oblique()
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(world - world[LESION], axis=-1)
    noise = np.random.default_rng(SEED).normal(0, 0.02, SIZE)
    return Volume(np.exp(-((distance / 4) ** 2)) + noise, affine)


@pytest.fixture
def scan(folder):
    pytest.importorskip("nibabel")
    volume = scan_with_lesion()
    write_nifti(volume, "scan.nii.gz")
    return read_nifti("scan.nii.gz")


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--size", "14", "28", "24"],
        ["--spacing", "1.4"],
        ["--orientation", "SPL", "--spacing", "2", "1.5", "1.5"],
        ["--window", "8", "12", "12", "--stride", "4", "6", "6"],
    ],
)
def test_the_map_of_a_scan_lies_on_its_lesion(more, scan, figures_not_drawn, capsys):
    report = run(capsys, "scan.nii.gz", "Lesion", "--layers", "bright", "--target", "1", *more)
    import nibabel

    # The file as any viewer reads it, without this package.
    image, original = nibabel.load("out/map.nii.gz"), nibabel.load("scan.nii.gz")
    np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)
    assert image.shape == original.shape
    assert image.get_data_dtype() == np.float32
    heat = image.get_fdata()
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert max(abs(p - q) for p, q in zip(peak, LESION[::-1], strict=True)) <= 1
    world = image.affine[:3] @ [*peak, 1]
    lesion = scan.to_world(LESION)
    assert np.linalg.norm(world - lesion) <= np.linalg.norm([3.0, 1.5, 1.2])
    (result,) = report["results"]
    assert result["peak"]["voxel"] == list(peak[::-1])
    assert result["peak"]["mm"] == pytest.approx(world, abs=0.006)
    x0, y0, z0, x1, y1, z1 = result["boxes"][0]["box"]
    assert z0 <= LESION[0] < z1
    assert y0 <= LESION[1] < y1
    assert x0 <= LESION[2] < x1


def test_the_files_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "second")
    model, _ = network("scan")
    expected = GlobalLocalCAM3D(model, ["first", "second"]).attribute(scan.to_tensor())
    torch.testing.assert_close(maps(), expected[0])
    assert set(report["files"]) == {"map", "nifti", "figure", "montage"}
    for name in ("figure", "montage"):
        assert read_image(report["files"][name]).std() > 10
    assert report["input"]["size"] == list(SIZE)
    assert report["input"]["spacing"] == [3.0, 1.5, 1.2]
    assert report["input"]["orientation"] == scan.orientation
    metadata = load_map("out/map.npz").metadata
    np.testing.assert_allclose(metadata["affine"], scan.affine)


def test_the_summary_of_a_scan(scan, figures_not_drawn, capsys):
    main(["explain", "scan.nii.gz", "--model", "model.py:scan", "--layers", "first"])
    line, wrote = capsys.readouterr().out.splitlines()
    assert "; peak at voxel (" in line
    assert line.partition(" mm RAS")[1]
    assert wrote == (
        "wrote map.npz, map.nii.gz, figure.png, montage.png, report.json into scan_explained"
    )


def test_a_map_of_zeros_has_no_peak_and_no_boxes(scan, figures_not_drawn, capsys):
    # Bright voxels lower the score of the first class, so its map is zero.
    report = run(capsys, "scan.nii.gz", "Lesion", "--layers", "bright", "--target", "0")
    (result,) = report["results"]
    assert not maps().any()
    assert (result["peak"], result["boxes"]) == (None, [])
    words = ["--layers", "bright", "--target", "0", "--output", "out"]
    assert main(["explain", "scan.nii.gz", "--model", "model.py:Lesion", *words]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("; the map is zero")


def test_several_classes_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "--target", "top2")
    a, b = (result["class"] for result in report["results"])
    assert set(report["files"]) == {"map", f"nifti_{a}", f"nifti_{b}", "figure"}
    for number, target in enumerate((a, b)):
        written = read_nifti(f"out/map_{target}.nii.gz")
        np.testing.assert_allclose(written.data, maps()[number], rtol=1e-6)


@pytest.mark.parametrize(
    "more, formula",
    [
        ([], lambda x: x),
        (["--clip", "-0.01", "0.4"], lambda x: x.clip(-0.01, 0.4)),
        (["--normalize", "unit"], lambda x: (x - x.min()) / (x.max() - x.min())),
        (["--clip", "-0.01", "0.4", "--normalize", "unit"],
         lambda x: (x.clip(-0.01, 0.4) + 0.01) / 0.41),
        (["--clip", "-1", "3", "--normalize", "unit"], lambda x: (x + 1) / 4),
        (["--normalize", "zscore"], lambda x: (x - x.mean()) / x.std(ddof=1)),
        (["--orientation", "ras"], None),
    ],
)  # fmt: skip
def test_the_input_that_the_model_receives(more, formula, scan, figures_not_drawn, capsys):
    run(capsys, "scan.nii.gz", "scan", "--layers", "first", *more)
    _, received = network("scan")
    expected = scan.reorient("RAS").data if formula is None else formula(scan.data)
    np.testing.assert_allclose(received[0][0, 0], expected, atol=1e-5)


def test_the_models_own_preprocessing(scan, figures_not_drawn, capsys):
    run(capsys, "scan.nii.gz", "scan_prepared", "--layers", "first")
    _, received = network("scan_prepared")
    np.testing.assert_allclose(received[0][0, 0], scan.data / 100, rtol=1e-5)
    run(capsys, "scan.nii.gz", "scan_prepared", "--layers", "first", "--normalize", "none")
    np.testing.assert_allclose(network("scan_prepared")[1][0][0, 0], scan.data, rtol=1e-5)
    assert fails(capsys, "scan.nii.gz", "scan_cut", "--layers", "first") == (
        "The model's PREPROCESSING turns (1, D, H, W) = (1, 14, 22, 18) into (1, 13, 22, 18); it "
        "must keep the grid. Resample with --size or --spacing.", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "more, message",
    [
        (["--size", "8", "8", "8", "--spacing", "2"],
         "--size and --spacing both resample: pass one of them."),
        (["--size", "8", "8"], "--size 8 8: expected D H W for volumes."),
        (["--spacing", "2", "2"], "--spacing 2.0 2.0: expected D H W for volumes."),
        (["--spacing", "-1"], "resample to [-1.0, -1.0, -1.0]: expected positive numbers."),
        (["--clip", "3", "1"], "--clip 3 1: expected LOW < HIGH."),
        (["--series", "1.2"], "--series is for a folder of DICOM files."),
        (["--mean", "1", "1", "1"], "--mean is for image and video input; INPUT is a volume."),
        (["--target", "each"], "--target each needs --window."),
    ],
)  # fmt: skip
def test_usage_errors(more, message, scan, figures_not_drawn, capsys):
    assert fails(capsys, "scan.nii.gz", "scan", "--layers", "first", *more) == (message, 2)
    assert not Path("scan_explained").exists()


def test_an_unknown_orientation(scan, figures_not_drawn, capsys):
    message, code = fails(
        capsys, "scan.nii.gz", "scan", "--layers", "first", "--orientation", "RAX"
    )
    assert code == 2
    assert message.startswith("'RAX' is no orientation. Expected one letter each of R or L")


def write_series(folder, volume, uid):
    """Write slices as a scanner does: in LPS, as integers with a slope."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(exist_ok=True)
    flip = np.array([-1, -1, 1])
    axes = volume.affine[:3, :3] / volume.spacing * flip[:, None]
    for number, pixels in enumerate(volume.data):
        item = pydicom.Dataset()
        item.SOPClassUID, item.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{uid}.{number}"
        item.SeriesInstanceUID, item.Modality = uid, "CT"
        item.Rows, item.Columns = pixels.shape
        item.PixelSpacing = [float(volume.spacing[1]), float(volume.spacing[2])]
        item.ImageOrientationPatient = [f"{x:.12f}" for x in (*axes[:, 2], *axes[:, 1])]
        position = volume.to_world((number, 0, 0)) * flip
        item.ImagePositionPatient = [f"{x:.10f}" for x in position]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation = 15, 1
        item.RescaleSlope, item.RescaleIntercept = 0.001, 0
        item.PixelData = (pixels * 1000).round().astype(np.int16).tobytes()
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        item.save_as(folder / f"{uid}-{number}.dcm", enforce_file_format=True)


def test_a_folder_of_dicom(folder, figures_not_drawn, capsys):
    pytest.importorskip("nibabel")
    volume = scan_with_lesion()
    write_series(folder / "series.one", volume, "1.2.3")
    report = run(capsys, "series.one", "Lesion", "--layers", "bright", "--target", "1")
    written = read_nifti("out/map.nii.gz")
    # The slices are sorted along their normal, which may be opposite to the volume's first axis.
    peak = written.to_world(np.unravel_index(written.data.argmax(), written.shape))
    assert np.linalg.norm(peak - volume.to_world(LESION)) <= np.linalg.norm([3.0, 1.5, 1.2])
    assert report["input"]["kind"] == "volume"
    write_series(folder / "series.one", volume, "1.2.4")
    message, code = fails(capsys, "series.one", "Lesion", "--layers", "bright")
    assert code == 1
    assert message.startswith("There are several series in 'series.one'. Pass series= one of: ")
    run(capsys, "series.one", "Lesion", "--layers", "bright", "--series", "1.2.4")
    assert main(
        ["explain", "series.one", "--model", "model.py:Lesion", "--layers", "bright",
         "--series", "1.2.4"]
    ) == 0  # fmt: skip
    assert (folder / "series.one_explained" / "map.nii.gz").is_file()
