"""``captum-3dcam explain`` of volumes: maps on the scan's grid, and what the model receives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_command import SEED, fails, maps, network, run

from _dicom_cases import CASES
from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.cli import main
from captum_3dcam.io import (
    Volume,
    load_map,
    read_dicom,
    read_image,
    read_nifti,
    read_volume,
    write_nifti,
    write_volume,
)

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
    box = result["boxes"][0]
    assert all(a <= i < b for a, i, b in zip(box["start"], LESION, box["stop"], strict=True))
    # The box is that of the component above half the peak, in the voxels of map.npz.
    part = tuple(map(slice, box["start"], box["stop"]))
    above = maps()[0] > maps()[0].max() / 2
    for axis, (start, stop) in enumerate(zip(box["start"], box["stop"], strict=True)):
        ends = above[part].movedim(axis, 0)
        assert ends[0].any()
        assert ends[-1].any()
        assert stop - start == len(ends)


def test_the_files_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "second")
    model, _ = network("scan")
    expected = GlobalLocalCAM3D(model, ["first", "second"]).attribute(scan.to_tensor())
    torch.testing.assert_close(maps(), expected[0])
    assert set(report["files"]) == {"report", "map", "nifti", "figure", "montage"}
    for name in ("figure", "montage"):
        assert read_image(Path("out") / report["files"][name]).std() > 10
    assert report["input"]["size"] == list(SIZE)
    assert report["input"]["spacing"] == [3.0, 1.5, 1.2]
    assert report["input"]["orientation"] == scan.orientation
    metadata = load_map("out/map.npz").metadata
    np.testing.assert_allclose(metadata["affine"], scan.affine)


def test_the_summary_of_a_scan(scan, figures_not_drawn, capsys):
    main(["explain", "scan.nii.gz", "--model", "model.py:scan", "--layers", "first"])
    line, wrote = capsys.readouterr().out.splitlines()
    (result,) = json.loads(Path("scan_explained/report.json").read_text())["results"]
    peak, box = result["peak"], result["boxes"][0]
    voxel, mm = (", ".join(f"{x:g}" for x in peak[key]) for key in ("voxel", "mm"))
    corners = ", ".join(f"{a}:{b}" for a, b in zip(box["start"], box["stop"], strict=True))
    assert f"; peak at voxel ({voxel}), {mm} mm RAS; box [{corners}]" in line
    assert wrote == (
        "wrote report.html, map.npz, map.nii.gz, figure.png, montage.png, report.json into "
        "scan_explained"
    )


def test_a_map_of_zeros_has_no_peak_and_no_boxes(scan, figures_not_drawn, capsys):
    # Bright voxels lower the score of the first class, so its map is zero.
    words = ["--layers", "bright", "--target", "0", "--output", "out"]
    assert main(["explain", "scan.nii.gz", "--model", "model.py:Lesion", *words]) == 0
    (result,) = json.loads(Path("out/report.json").read_text())["results"]
    assert not maps().any()
    assert (result["peak"], result["boxes"]) == (None, [])
    assert capsys.readouterr().out.splitlines()[0].endswith("; the map is zero")


def test_several_classes_of_a_scan(scan, capsys):
    report = run(capsys, "scan.nii.gz", "scan", "--layers", "first", "--target", "top2")
    a, b = (result["class"] for result in report["results"])
    assert set(report["files"]) == {"report", "map", f"nifti_{a}", f"nifti_{b}", "figure"}
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
        "must keep the grid. Resample with size or spacing.", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "more, message",
    [
        (["--size", "8", "8", "8", "--spacing", "2"],
         "size and spacing both resample: pass one of them."),
        (["--size", "8", "8"], "--size 8 8: expected D H W for volumes."),
        (["--spacing", "2", "2"], "--spacing 2.0 2.0: expected one number, or D H W."),
        (["--spacing", "-1"], "resample to -1.0: expected positive numbers, one or three."),
        (["--spacing", "500"],
         "spacing=500.0: of the 14 x 22 x 18 voxels, 1 x 1 x 1 are left. Pass it in mm."),
        (["--clip", "3", "1"], "--clip 3 1: expected LOW < HIGH."),
        (["--series", "1.2"], "series is for DICOM files."),
        (["--mean", "1", "1", "1"], "--mean is for image and video input; INPUT is a volume."),
        (["--target", "each"], 'target="each" is the class of each window: pass windows.'),
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
    assert message.startswith("There are several series in 'series.one': 1: CT without")
    run(capsys, "series.one", "Lesion", "--layers", "bright", "--series", "1.2.4")
    assert main(
        ["explain", "series.one", "--model", "model.py:Lesion", "--layers", "bright",
         "--series", "1.2.4"]
    ) == 0  # fmt: skip
    assert (folder / "scan_explained" / "map.nii.gz").is_file()


# ------------------------------------------------------------------------ formats of the scan


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh"])
def test_the_map_is_in_the_format_of_the_scan(suffix, folder, figures_not_drawn, capsys):
    if suffix.startswith(".mg"):
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.MGHImage(scan_with_lesion().data.T, oblique()[:, [2, 1, 0, 3]])
        image.to_filename(f"scan{suffix}")
    else:
        sitk = pytest.importorskip("SimpleITK")
        write_volume(scan_with_lesion(), "scan.nrrd")
        sitk.WriteImage(sitk.ReadImage("scan.nrrd"), f"scan{suffix}")
    report = run(capsys, f"scan{suffix}", "Lesion", "--layers", "bright", "--target", "1")
    kind = {".nh": "nrrd", ".nr": "nrrd", ".mh": "mha", ".mg": "mgz"}[suffix[:3]]
    assert report["files"][kind] == f"map.{kind}"
    written, expected = read_volume(f"out/map.{kind}"), read_volume(f"scan{suffix}")
    np.testing.assert_allclose(written.affine, expected.affine, atol=1e-4)
    np.testing.assert_allclose(written.data, maps()[0], rtol=1e-6)
    (result,) = report["results"]
    world = scan_with_lesion().to_world(result["peak"]["voxel"])
    assert result["peak"]["mm"] == pytest.approx(world, abs=0.006)


# ------------------------------------------------------------------------------- several volumes


def four_channels():
    """(D, H, W, 4) of very different ranges."""
    data = (
        np.random.default_rng(SEED).random((4, *SIZE))
        * np.array([1, 100, 5, 9])[:, None, None, None]
    )
    return Volume(data, oblique())


def test_one_volume_of_an_fmri(folder, figures_not_drawn, capsys):
    nibabel = pytest.importorskip("nibabel")
    path = Path(nibabel.__file__).parent / "tests" / "data" / "functional.nii"
    message, code = fails(capsys, path, "scan", "--layers", "first")
    assert code == 1
    assert (
        "it has 20 volumes on its last axis. To read one of them, such as a time of an" in message
    )
    assert "--index" in message
    words = ["--layers", "first", "--index", "7", "--normalize", "unit"]
    report = run(capsys, path, "scan", *words)
    received = network("scan")[1][0]
    values = nibabel.load(path).get_fdata()[..., 7].T
    expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(received[0, 0], expected, atol=1e-5)
    assert report["settings"]["index"] == 7
    written = nibabel.load("out/map.nii.gz")
    assert written.shape == nibabel.load(path).shape[:3]
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    message, code = fails(capsys, path, "scan", "--layers", "first", "--index", "20")
    assert "index=20: it has 20 volumes, 0 to 19" in message


@pytest.mark.parametrize("how", ["alone", "all", "files"])
def test_a_network_of_four_channels(how, folder, figures_not_drawn, capsys):
    """One file of four volumes, with or without the option, and as BraTS or nnU-Net have it."""
    pytest.importorskip("nibabel")
    data = four_channels()
    write_nifti(data, "case.nii.gz")
    path, more = "case.nii.gz", ["--index", "all"] if how == "all" else []
    if how == "files":
        names = [f"doe_000{number}.nii.gz" for number in range(4)]
        for name, channel in zip(names, data.data, strict=True):
            write_nifti(Volume(channel, oblique()), name)
        path, more = names[0], ["--channel-files", *names[1:]]
    report = run(capsys, path, "channels", "--layers", "first", "--normalize", "unit", *more)
    received = network("channels")[1][0]
    for channel, values in zip(received[0].numpy(), data.data, strict=True):
        expected = (values - values.min()) / (values.max() - values.min())
        np.testing.assert_allclose(channel, expected, atol=1e-6)
    assert report["input"]["channels"] == 4
    assert read_nifti("out/map.nii.gz").shape == SIZE
    assert "doe" not in Path("out/report.json").read_text()
    assert "doe" not in json.dumps(load_map("out/map.npz").metadata)


def test_the_echoes_of_dicom_are_the_channels(folder, figures_not_drawn, capsys):
    """Of a network with as many; a series is chosen beside them."""
    pydicom = pytest.importorskip("pydicom")
    volumes = four_channels()
    for number, data in enumerate(volumes.data):
        write_series(folder / "echoes", Volume(data, oblique()), f"1.2.{number}")
        for path in (folder / "echoes").glob(f"1.2.{number}-*"):
            item = pydicom.dcmread(path)
            item.SeriesInstanceUID, item.EchoTime = "1.2.9", 5 + number
            item.save_as(path)
    write_series(folder / "echoes", Volume(volumes.data[0], oblique()), "1.2.8")
    words = ["--layers", "first", "--normalize", "unit", "--series", "1.2.9"]
    report = run(capsys, "echoes", "channels", *words)
    received = network("channels")[1][0]
    assert report["input"]["channels"] == 4
    # The slices are sorted along their normal, which may be opposite to the volume's first axis.
    expected = read_dicom("echoes", "1.2.9", index="all").data
    low, high = (edge(expected, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    np.testing.assert_allclose(received[0], (expected - low) / (high - low), atol=1e-5)
    message, code = fails(capsys, "echoes", "scan", *words)
    assert code == 1
    assert "The series has several volumes: 0: EchoTime 5.0" in message


def test_a_network_of_one_channel_needs_a_choice(folder, capsys):
    pytest.importorskip("nibabel")
    write_nifti(four_channels(), "case.nii.gz")
    message, code = fails(capsys, "case.nii.gz", "scan", "--layers", "first")
    assert code == 1
    assert "it has 4 volumes on its last axis" in message
    assert "(--index all)" in message


def test_the_advice_for_another_number_of_channels_works(folder, figures_not_drawn, capsys):
    pytest.importorskip("nibabel")
    write_nifti(four_channels(), "case.nii.gz")
    words = ["--layers", "first", "--normalize", "unit"]
    message, code = fails(capsys, "case.nii.gz", "scan", *words, "--index", "all")
    end = "takes 1 channels; the input has 4. Choose one of them with index."
    assert (message[-len(end) :], code) == (end, 1)
    run(capsys, "case.nii.gz", "scan", *words, "--index", "1")
    write_nifti(Volume(four_channels().data[0], oblique()), "t1.nii")
    message, code = fails(capsys, "t1.nii", "channels", *words)
    end = "the input has 1. Pass the files of all channels, as channel_files."
    assert (message[-len(end) :], code) == (end, 1)
    run(capsys, "t1.nii", "channels", *words, "--channel-files", *["t1.nii"] * 3)


def test_an_index_is_for_the_files_of_several_volumes(folder, figures_not_drawn, capsys):
    pytest.importorskip("nibabel")
    write_nifti(four_channels(), "dwi.nii")
    write_nifti(Volume(four_channels().data[0], oblique()), "t1.nii")
    more = ["--channel-files", "dwi.nii", "t1.nii", "t1.nii", "--index", "2"]
    words = ["--layers", "first", "--normalize", "none"]
    run(capsys, "t1.nii", "channels", *words, *more)
    received = network("channels")[1][0]
    expected = four_channels().data[[0, 2, 0, 0]]
    np.testing.assert_allclose(received[0], expected, rtol=1e-6)


def test_channels_on_another_grid_are_refused(scan, capsys):
    write_nifti(scan.crop((0, 0, 0), (14, 22, 17)), "small.nii")
    words = ["--layers", "first", "--channel-files", "small.nii"]
    message, code = fails(capsys, "scan.nii.gz", "channels", *words)
    assert code == 1
    assert message.startswith(
        "'small.nii' and 'scan.nii.gz' have (14, 22, 17) and (14, 22, 18) vox"
    )


@pytest.mark.parametrize("text", ["-1", "last", "1.5", ""])
def test_an_index_is_an_integer_or_all(text, capsys):
    assert main(["explain", "a.nii", "--model", "m:n", f"--index={text}"]) == 2
    assert f"expected an integer from 0, or all; received {text!r}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- voxels


def test_nan_voxels_are_named_or_replaced(scan, figures_not_drawn, capsys):
    nibabel = pytest.importorskip("nibabel")
    path = Path(nibabel.__file__).parent / "tests" / "data" / "resampled_anat_moved.nii"
    message, code = fails(capsys, path, "scan", "--layers", "first")
    assert code == 1
    assert (
        "153 of its 1,071 voxels are NaN or infinite, the first at (d, h, w) = (0, 0, 0)" in message
    )
    run(capsys, path, "scan", "--layers", "first", "--nan", "-7", "--normalize", "unit")
    received = network("scan")[1][0]
    assert (received == 0).sum() == 153  # the lowest value
    assert main(["explain", str(path), "--model", "m:n", "--nan", "nan"]) == 2
    assert "--nan: expected a number; received 'nan'" in capsys.readouterr().err


def test_a_scan_in_microns(folder, figures_not_drawn, capsys):
    nibabel = pytest.importorskip("nibabel")
    data = np.zeros((20, 18, 16), np.float32)
    data[5:9, 6:10, 7:11] = 1
    image = nibabel.Nifti1Image(data, np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, "cell.nii")
    report = run(capsys, "cell.nii", "Lesion", "--layers", "bright", "--target", "1")
    assert report["input"]["spacing"] == [0.004, 0.003, 0.002]
    (result,) = report["results"]
    d, h, w = result["peak"]["voxel"]
    assert result["peak"]["mm"] == pytest.approx([0.002 * w, 0.003 * h, 0.004 * d], abs=1e-9)
    heat = nibabel.load("out/map.nii.gz")
    assert heat.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(heat.affine, image.affine)
    words = ["--layers", "bright", "--target", "1", "--output", "out", "--method", "GlobalLocal"]
    assert main(["explain", "cell.nii", "--model", "model.py:Lesion", *words]) == 0
    expected = f"peak at voxel ({d}, {h}, {w}), {0.002 * w:g}, {0.003 * h:g}, {0.004 * d:g} mm RAS"
    assert expected in capsys.readouterr().out


def test_two_forms_are_warned_of_and_kept(folder, figures_not_drawn, capsys):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii")
    moved = image.affine.copy()
    moved[:3, 3] += 20
    image.set_qform(moved, 1)
    nibabel.save(image, "scan.nii")
    words = ["--model", "model.py:scan", "--layers", "first", "--normalize", "unit"]
    assert main(["explain", "scan.nii", *words, "--output", "out"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "has two affines that differ by up to 34.6 mm: the sform (another scan), which is" in line
    )
    heat = nibabel.load("out/map.nii.gz")
    np.testing.assert_allclose(heat.get_qform(), moved, atol=1e-4)
    np.testing.assert_allclose(heat.get_sform(), image.affine, atol=1e-4)
    assert (heat.header["qform_code"], heat.header["sform_code"]) == (1, 2)
    assert heat.header["descrip"].item().startswith(b"captum_3dcam")


# ------------------------------------------------------------------------------------ figures


def titles_of(figure):
    return [" ".join(ax.get_title().split()) for ax in figure.axes]


def test_the_figures_show_the_peak_and_the_boxes_of_the_report(folder, figures, capsys):
    pytest.importorskip("nibabel")
    data = scan_with_lesion().resample(size=(53, *SIZE[1:])).data
    volume = Volume(data, np.diag([3.0, -1.5, 1.2, 1.0]))
    write_nifti(volume, "scan.nii")
    report = run(capsys, "scan.nii", "Lesion", "--layers", "bright", "--target", "1")
    (result,) = report["results"]
    peak, box = result["peak"], result["boxes"][0]
    titles = titles_of(figures["figure"])[:3]
    shown = {title.split("(")[1].split(" mm")[0]: title for title in titles}
    assert sorted(map(float, shown)) == sorted(peak["mm"])
    # The first axis of the scan runs to the patient's right: its slices are sagittal.
    (slice_title,) = [title for title in titles if title.startswith("sagittal")]
    assert slice_title == f"sagittal, D = {peak['voxel'][0]}, R ({peak['mm'][0]:g} mm)"
    ax = figures["figure"].axes[titles.index(slice_title)]
    corners = ax.patches[0].get_corners()
    for axis, values in ((1, corners[:, 0]), (2, corners[:, 1])):
        ends = np.array([box["start"][axis] - 0.5, box["stop"][axis] - 0.5])
        expected = ends * volume.affine[axis, axis]
        assert sorted({*values.round(4)}) == pytest.approx(sorted(expected), abs=1e-3)
    crossing = [b for b in result["boxes"] if b["start"][0] <= peak["voxel"][0] < b["stop"][0]]
    assert len(ax.patches) == len(crossing)
    assert peak["voxel"][0] not in {round(i * 52 / 11) for i in range(12)}  # the even spacing
    slices = titles_of(figures["montage"])
    assert f"D = {peak['voxel'][0]}, R ({peak['mm'][0]:g} mm)" in slices


def test_the_panels_of_several_classes_show_all_peaks(folder, figures, capsys):
    pytest.importorskip("nibabel")
    write_nifti(Volume(scan_with_lesion().data, np.eye(4)), "scan.nii")
    report = run(capsys, "scan.nii", "scan", "--layers", "first", "--target", "top3")
    shown = {title.partition(",")[0] for title in titles_of(figures["figure"])}
    for result in report["results"]:
        assert result["peak"] is None or f"D = {result['peak']['voxel'][0]}" in shown


# ------------------------------------------------------------------------------ preprocessing


def test_a_preset_and_what_replaces_its_parts(scan, figures_not_drawn, capsys):
    words = ["scan.nii.gz", "scan", "--layers", "first", "--preprocessing", "ct-lung"]
    for more, formula in (
        (["--clip", "-1", "1"], lambda x: (x.clip(-1, 1) + 1) / 2),
        (["--clip", "0", "1", "--normalize", "none"], lambda x: x.clip(0, 1)),
    ):
        run(capsys, *words, *more)
        np.testing.assert_allclose(network("scan")[1][0][0, 0], formula(scan.data), atol=1e-5)
    # Without them, the values are no Hounsfield units.
    code = main(["explain", words[0], "--model", "model.py:scan", *words[2:], "--output", "out"])
    err = capsys.readouterr().err
    assert code == 0
    assert "The window from -1350 to 150 is in Hounsfield units" in err
    message, code = fails(capsys, *words[:-1], "imagenet")
    assert code == 2
    assert message == (
        "preprocessing='imagenet': expected for volumes one of 'ct-brain', 'ct-lung', "
        "'ct-soft-tissue', 'ct-bone', or values: VolumePreprocessing(normalize=\"unit\")."
    )


def test_the_models_own_window(scan, figures_not_drawn, capsys):
    run(capsys, "scan.nii.gz", "scan_window", "--layers", "first")
    expected = (scan.data.clip(-1, 1) + 1) / 2
    np.testing.assert_allclose(network("scan_window")[1][0][0, 0], expected, atol=1e-5)
    run(capsys, "scan.nii.gz", "scan_window", "--layers", "first", "--clip", "0", "1")
    np.testing.assert_allclose(network("scan_window")[1][0][0, 0], scan.data.clip(0, 1), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["series, oblique", "series, coronal", "Siemens mosaic"])
def test_the_map_of_dicom_lies_on_what_dcm2niix_makes_of_it(name, folder, figures_not_drawn):
    dcm2niix = pytest.importorskip("dcm2niix")
    nibabel = pytest.importorskip("nibabel")
    Path("series").mkdir()
    CASES[name](Path("series"))
    words = ["explain", "series", "--model", "model.py:scan", "--layers", "second"]
    assert main([*words, "--normalize", "unit", "--target", "1", "--output", "out", "--quiet"]) == 0
    done = dcm2niix.main(["-f", "scan", "-o", ".", "series"], capture_output=True, timeout=60)
    assert done.returncode == 0
    corners = []
    for path in ("out/map.nii.gz", "scan.nii"):
        image = nibabel.load(path)
        ends = np.stack(np.meshgrid(*[(0, n - 1) for n in image.shape[:3]]), -1).reshape(-1, 3)
        positions = nibabel.affines.apply_affine(image.affine, ends)
        corners.append(positions[np.lexsort(positions.round(2).T)])
    np.testing.assert_allclose(*corners, atol=1e-3)  # mm
