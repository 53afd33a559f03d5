"""read_volume and write_volume: formats by content and suffix; channels from several files."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import Volume, read_volume, write_nifti, write_volume
from captum_3dcam.io.medical import map_suffix, volume_format

nibabel = pytest.importorskip("nibabel")

SCAN = Volume(np.random.default_rng(0).random((4, 5, 6)), np.diag([3.0, 2.0, 1.0, 1.0]))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no scan 'none\.nii'"):
        read_volume("none.nii")
    pytest.importorskip("pydicom")
    with pytest.raises(ValueError, match=r"The folder '.*' has no DICOM files"):
        read_volume(tmp_path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".mgz", ".mgh", ".nrrd", ".mha"])
@pytest.mark.parametrize("name", ["own", "none", "of another format"])
def test_the_format_is_recognised_by_content(tmp_path, suffix, name):
    if suffix in (".nrrd", ".mha"):
        pytest.importorskip("SimpleITK")
    write_volume(SCAN, tmp_path / f"scan{suffix}")
    path = tmp_path / {"own": f"scan{suffix}", "none": "scan", "of another format": "a.dcm"}[name]
    (tmp_path / f"scan{suffix}").rename(path)
    expected = {".m": "mgh", ".nr": "nrrd", ".ni": "nifti"}
    kind = "meta" if suffix == ".mha" else expected[suffix.lower()[: 2 if "m" in suffix else 3]]
    assert volume_format(path) == kind
    assert map_suffix(path) == {"meta": ".mha", "mgh": ".mgz", "nrrd": ".nrrd"}.get(kind, ".nii.gz")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, SCAN.data)
    np.testing.assert_allclose(volume.affine, SCAN.affine, atol=1e-5)


def test_content_that_is_unknown_has_the_format_of_its_suffix(tmp_path):
    for name, kind in [("a.nii", "nifti"), ("a.mhd", "meta"), ("a.dcm", "dicom"), ("a.txt", None)]:
        (tmp_path / name).write_bytes(b"text")
        assert volume_format(tmp_path / name) == kind
    assert (volume_format(tmp_path), map_suffix(tmp_path)) == ("dicom", ".nii.gz")
    with pytest.raises(
        ValueError, match=r"a\.nii' cannot be read as NIfTI: it has no NIfTI header"
    ):
        read_volume(tmp_path / "a.nii")
    with pytest.raises(
        ValueError, match=r"a\.txt' is no scan of a known format: NIfTI, MGH, NRRD,"
    ):
        read_volume(tmp_path / "a.txt")
    with pytest.raises(
        ValueError, match=r"a\.nii' is no DICOM file: it has no series \(--series\)"
    ):
        read_volume(tmp_path / "a.nii", series=1)
    (tmp_path / "b.nii.gz").write_bytes(b"\x1f\x8b")
    assert volume_format(tmp_path / "b.nii.gz") == "nifti"


def test_an_unknown_suffix_is_not_written(tmp_path):
    message = "scan.img' should end on one of .nii, .nii.gz, .mgz, .mgh, .nrrd, .mha."
    with pytest.raises(ValueError, match=re.escape(message)):
        write_volume(SCAN, tmp_path / "scan.img")


# ----------------------------------------------------------------------------------- channels


def test_files_are_the_channels_of_one_input(tmp_path):
    """As BraTS has them; a file of two volumes may be among them."""
    scans = [SCAN.with_data(SCAN.data + number) for number in range(3)]
    paths = [tmp_path / f"case_000{number}.nii.gz" for number in range(3)]
    for scan, path in zip(scans, paths, strict=True):
        write_nifti(scan, path)
    volume = read_volume(paths)
    assert volume.channels == 3
    np.testing.assert_array_equal(volume.data, np.stack([scan.data for scan in scans]))
    np.testing.assert_array_equal(volume.affine, SCAN.affine)
    write_nifti(replace(SCAN, data=volume.data[:2]), tmp_path / "two.nii")
    mixed = read_volume([tmp_path / "two.nii", str(paths[2])], index="all")
    np.testing.assert_array_equal(mixed.data, volume.data)


def test_an_index_is_for_the_files_of_several_volumes(tmp_path):
    write_nifti(SCAN, tmp_path / "t1.nii")
    three = np.stack([SCAN.data + number for number in (1, 2, 3)])
    write_nifti(replace(SCAN, data=three), tmp_path / "dwi.nii")
    for names in (["t1.nii", "dwi.nii"], ["dwi.nii", "t1.nii"]):
        volume = read_volume([tmp_path / name for name in names], index=2)
        expected = {"t1.nii": SCAN.data, "dwi.nii": three[2]}
        np.testing.assert_array_equal(volume.data, [expected[name] for name in names])
    with pytest.raises(ValueError, match="dwi.nii' cannot .* index=3: it has 3 volumes, 0 to 2"):
        read_volume([tmp_path / "t1.nii", tmp_path / "dwi.nii"], index=3)
    for source in ([tmp_path / "t1.nii"] * 2, tmp_path / "t1.nii"):
        with pytest.raises(ValueError, match=r"t1.nii' cannot .* index=2: it has one volume, 0\."):
            read_volume(source, index=2)


def test_channels_have_one_grid(tmp_path):
    write_nifti(SCAN, tmp_path / "t1.nii")
    write_nifti(SCAN.crop((0, 0, 0), (4, 5, 5)), tmp_path / "small.nii")
    pair = r"small\.nii' and '.*t1\.nii' have \(4, 5, 5\) and \(4, 5, 6\) voxels\. Channels have"
    with pytest.raises(ValueError, match=pair):
        read_volume([tmp_path / "t1.nii", tmp_path / "small.nii"])
    moved = SCAN.affine + 0.0
    for offset, agrees in ((0.09, True), (0.11, False), (20, False)):  # voxels are 1 mm wide
        moved[0, 3] = SCAN.affine[0, 3] + offset
        write_nifti(Volume(SCAN.data, moved), tmp_path / "flair.nii")
        if agrees:
            assert read_volume([tmp_path / "t1.nii", tmp_path / "flair.nii"]).channels == 2
        else:
            with pytest.raises(
                ValueError, match=rf"are up to {offset} mm apart\. Channels have the"
            ):
                read_volume([tmp_path / "t1.nii", tmp_path / "flair.nii"])


def test_no_files_and_the_limit_of_all(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="read_volume received no files"):
        read_volume([])
    write_nifti(SCAN, tmp_path / "t1.nii")
    monkeypatch.setenv(MAX_BYTES_VARIABLE, "900")
    with pytest.raises(
        ValueError, match="The channels of 2 files like '.*t1.nii', 960 bytes in memory; the limit"
    ):
        read_volume([tmp_path / "t1.nii"] * 2)


# ------------------------------------------------- maps on scans, as two libraries lay them


def corners_in_mm(path):
    """Where NiBabel and SimpleITK have the corners of an image, in RAS."""
    sitk = pytest.importorskip("SimpleITK")
    image, itk = nibabel.load(path), sitk.ReadImage(str(path))
    corners = [(0, 0, 0), tuple(n - 1 for n in image.shape), (image.shape[0] - 1, 0, 0)]
    scale = {"micron": 1e-3, "meter": 1e3}.get(image.header.get_xyzt_units()[0], 1)
    ours = [(image.affine @ (*corner, 1))[:3] * scale for corner in corners]
    theirs = [np.multiply(itk.TransformIndexToPhysicalPoint(c), (-1, -1, 1)) for c in corners]
    return np.array(ours), np.array(theirs)


def two_forms():
    """The scan of the issue: NiBabel's anatomical.nii with a qform that is 20 mm away."""
    path = Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii"
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    moved = image.affine.copy()
    moved[:3, 3] += 20
    image.set_sform(image.affine, 2)
    image.set_qform(moved, 1)
    return image


def tilted():
    """A shear as of a tilted gantry in the sform, and the closest rotation in the qform."""
    affine = np.diag([0.9, 0.8, 2.0, 1.0])
    affine[1, 2] = 0.6
    affine[:3, 3] = (-30, 12.5, 7)
    image = nibabel.Nifti1Image(np.random.default_rng(1).random((7, 6, 5), np.float32), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1, strip_shears=True)
    return image


def in_microns():
    image = nibabel.Nifti1Image(np.ones((7, 6, 5), np.float32), np.diag([2, 3, 4, 1]))
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("micron")
    return image


@pytest.mark.parametrize("make", [two_forms, tilted, in_microns])
@pytest.mark.filterwarnings("ignore:.*two affines that differ")
def test_map_and_scan_lie_on_each_other_in_nibabel_and_simpleitk(tmp_path, make):
    nibabel.save(make(), tmp_path / "scan.nii.gz")
    scan = read_volume(tmp_path / "scan.nii.gz")
    heat = scan.with_data(scan.data / scan.data.max())
    write_volume(heat, tmp_path / "map.nii.gz")
    (nib_scan, itk_scan), (nib_map, itk_map) = (
        corners_in_mm(tmp_path / name) for name in ("scan.nii.gz", "map.nii.gz")
    )
    tolerance = min(scan.spacing) * 1e-4
    np.testing.assert_allclose(nib_map, nib_scan, atol=tolerance)
    np.testing.assert_allclose(itk_map, itk_scan, atol=tolerance)
    if make is not in_microns:  # the two libraries choose another of the forms
        assert np.abs(nib_scan - itk_scan).max() > min(scan.spacing) / 10
    # The same for a part of the scan at another resolution.
    part = scan.crop((1, 0, 0), scan.shape).resample(size=(8, 12, 9))
    write_volume(part.with_data(part.data), tmp_path / "part.nii")
    _, itk_part = corners_in_mm(tmp_path / "part.nii")
    second = Volume(scan.data, scan.header.second_form.affine)
    used = second if make is not in_microns else scan
    expected = used.crop((1, 0, 0), scan.shape).resample(size=(8, 12, 9))
    np.testing.assert_allclose(itk_part[0], expected.to_world((0, 0, 0)), atol=10 * tolerance)
    np.testing.assert_allclose(itk_part[1], expected.to_world((7, 11, 8)), atol=10 * tolerance)


def test_a_shear_in_the_sform_alone_is_kept(tmp_path):
    """ITK opens neither the scan nor the map: it refuses axes that are not at right angles."""
    sitk = pytest.importorskip("SimpleITK")
    image = tilted()
    image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "scan.nii")
    scan = read_volume(tmp_path / "scan.nii")
    write_volume(scan.with_data(scan.data), tmp_path / "map.nii")
    np.testing.assert_allclose(nibabel.load(tmp_path / "map.nii").affine, image.affine, atol=1e-6)
    for name in ("scan.nii", "map.nii"):
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(tmp_path / name))
