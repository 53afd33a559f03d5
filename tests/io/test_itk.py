"""NRRD and MetaImage: values and positions as SimpleITK reads them; untrusted headers."""

import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import Volume, read_volume, write_volume

sitk = pytest.importorskip("SimpleITK")

SHAPE = (5, 6, 7)  # d, h, w
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
SUFFIXES = [".nrrd", ".nhdr", ".mha", ".mhd"]


def stored_by_itk(path, data, **options):
    image = sitk.GetImageFromArray(data, **options)
    if image.GetDimension() == 3:
        image.SetSpacing((0.7, 0.9, 2.5))
        image.SetOrigin((-81.25, 33.5, -140.125))
        image.SetDirection(TURN.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def numbers(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def check_positions(volume, image):
    """Each voxel is where ITK has it, in LPS."""
    for d, h, w in [(0, 0, 0), (4, 1, 6), (3, 5, 2)]:
        x, y, z = image.TransformIndexToPhysicalPoint((w, h, d))
        np.testing.assert_allclose(volume.to_world((d, h, w)), (-x, -y, z), atol=1e-4)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nii.gz"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "f4", "f8"])
def test_values_and_positions_are_those_of_simpleitk(tmp_path, suffix, dtype):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers(dtype))
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image))
    assert volume.data.dtype == np.float32
    assert volume.spacing == pytest.approx((2.5, 0.9, 0.7))
    check_positions(volume, image)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nii.gz"])
@pytest.mark.parametrize("channels", [2, 4])
def test_vectors_are_channels(tmp_path, suffix, channels):
    data = numbers(shape=(*SHAPE, channels))
    path = stored_by_itk(tmp_path / f"scan{suffix}", data, isVector=True)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, np.moveaxis(data, -1, 0))
    check_positions(volume, sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read_volume(path, index=1).data, data[..., 1])


@pytest.mark.filterwarnings("ignore:.*states no orientation")  # ITK writes none in an NRRD of 4D
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_volumes_on_a_fourth_axis_need_a_choice(tmp_path, suffix):
    data = numbers(shape=(3, *SHAPE))
    path = stored_by_itk(tmp_path / f"scan{suffix}", data, isVector=False)
    assert sitk.ReadImage(str(path)).GetDimension() == 4
    with pytest.raises(ValueError, match=r"it has 3 volumes on its last axis\. .* \(--index\), 0"):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, index=2).data, data[2])
    np.testing.assert_array_equal(read_volume(path, index="all").data, data)


def test_the_content_and_not_the_suffix_selects_the_reader(tmp_path):
    for suffix in (".nrrd", ".mha"):
        path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
        named = path.rename(tmp_path / f"scan{suffix}.data")
        np.testing.assert_array_equal(read_volume(named).data, numbers())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("sheared", [False, True])
def test_a_map_lies_on_its_scan(tmp_path, suffix, sheared):
    """ITK keeps the shear of a tilted gantry in these formats."""
    image = sitk.GetImageFromArray(numbers())
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-81.25, 33.5, -140.125))
    direction = TURN + 0.0
    direction[:, 2] += 0.3 * direction[:, 1] * sheared
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    scan = read_volume(tmp_path / f"scan{suffix}")
    write_volume(scan.with_data(scan.data / 100), tmp_path / f"map{suffix}")
    ours = sitk.ReadImage(str(tmp_path / f"map{suffix}"))
    theirs = sitk.ReadImage(str(tmp_path / f"scan{suffix}"))
    assert ours.GetSize() == theirs.GetSize()
    for index in [(0, 0, 0), (6, 5, 4), (2, 0, 3)]:
        np.testing.assert_allclose(
            ours.TransformIndexToPhysicalPoint(index),
            theirs.TransformIndexToPhysicalPoint(index),
            atol=1e-5,
        )
    np.testing.assert_allclose(sitk.GetArrayFromImage(ours), numbers() / 100, rtol=1e-6)
    assert ours.GetPixelIDTypeAsString() == "32-bit float"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_channels_are_written_as_vectors(tmp_path, suffix):
    volume = Volume(numbers(shape=(3, *SHAPE)), np.diag([2.5, 0.9, 0.7, 1]))
    write_volume(volume, tmp_path / f"scan{suffix}")
    again = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-9)


@pytest.mark.parametrize(("suffix", "line"), [(".nrrd", "space:.*"), (".mha", "TransformMatrix.*")])
def test_a_file_without_an_orientation_is_read_with_a_warning(tmp_path, suffix, line):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
    content = path.read_bytes()
    header = re.sub(rf"(?m)^{line}\n", "", content.decode("latin-1"), count=1)
    if suffix == ".nrrd":  # without a space, its axes have spacings alone
        header = header.replace("space directions: ", "# ").replace("space origin: ", "# ")
        header = header.replace("kinds:", "spacings: 0.7 0.9 2.5\nkinds:")
    path.write_bytes(header.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"states no orientation\. As in ITK, its axes are taken"):
        volume = read_volume(path)
    assert volume.orientation == "SPL"
    assert volume.spacing == pytest.approx((2.5, 0.9, 0.7))
    check_positions(volume, sitk.ReadImage(str(path)))


@pytest.mark.parametrize(("suffix", "line"), [(".nrrd", "space origin.*"), (".mha", "Offset.*")])
def test_a_file_without_an_origin_is_read_with_a_warning(tmp_path, suffix, line):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
    content = re.sub(rf"(?m)^{line}\n", "", path.read_bytes().decode("latin-1"), count=1)
    path.write_bytes(content.encode("latin-1"))
    with pytest.warns(UserWarning, match="states no origin: positions in mm are from its first"):
        volume = read_volume(path)
    np.testing.assert_allclose(volume.to_world((0, 0, 0)), 0)
    check_positions(volume, sitk.ReadImage(str(path)))


def test_nan_voxels_are_named_or_replaced(tmp_path):
    data = numbers(np.float32)
    data[3, 2, 1] = np.nan
    path = stored_by_itk(tmp_path / "scan.mha", data)
    with pytest.raises(ValueError, match=r"MetaImage: 1 of its 210 voxels .* \(3, 2, 1\), all in"):
        read_volume(path)
    assert read_volume(path, nan=-1).data[3, 2, 1] == -1


def test_without_simpleitk_its_extra_is_named(tmp_path, monkeypatch):
    path = stored_by_itk(tmp_path / "scan.nrrd", numbers())
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    message = r"NRRD files need SimpleITK: pip install 'captum_3dcam\[medical\]'"
    with pytest.raises(ImportError, match=message):
        read_volume(path)
    with pytest.raises(ImportError, match=r"NRRD and MetaImage files need SimpleITK: pip"):
        write_volume(Volume(numbers(), np.eye(4)), tmp_path / "map.mha")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_real_scan_that_simpleitk_has_converted(tmp_path, suffix):
    """The values and positions of NiBabel's anatomical.nii are the same in each format."""
    nibabel = pytest.importorskip("nibabel")
    original = Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii"
    sitk.WriteImage(sitk.ReadImage(str(original)), str(tmp_path / f"scan{suffix}"))
    volume, expected = read_volume(tmp_path / f"scan{suffix}"), read_volume(original)
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)


def test_a_real_metaimage():
    """Of ITK's examples: the values in a file beside the header, and no orientation."""
    path = Path("/usr/share/doc/insighttoolkit5-examples/examples/Data") / (
        "BrainProtonDensity3Slices.mha"
    )
    if not path.is_file():
        pytest.skip("needs Debian's insighttoolkit5-examples")
    with pytest.warns(UserWarning, match="states no orientation"):
        volume = read_volume(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image))
    x, y, z = image.TransformIndexToPhysicalPoint((100, 50, 2))
    np.testing.assert_allclose(volume.to_world((2, 50, 100)), (-x, -y, z))


# ------------------------------------------------------------------------------- invalid files


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers(np.float32))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=rf"scan{suffix}' cannot be read as \w+: ") as caught:
        read_volume(path)
    assert "SimpleITK-build" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
@pytest.mark.parametrize(
    "name",
    ["../secret.raw", "/etc/hostname", "sub/../../secret.raw", "..\\secret.raw", "C:\\secret.raw",
     "LIST\nscan.raw\n../secret.raw", "../secret%d.raw 0 4 1"],
)  # fmt: skip
def test_a_header_may_not_refer_to_files_outside_of_its_folder(tmp_path, suffix, name):
    (tmp_path / "secret.raw").write_bytes(bytes(420))
    (tmp_path / "scans").mkdir()
    path = stored_by_itk(tmp_path / "scans" / f"scan{suffix}", numbers())
    path.write_text(path.read_text().replace("scan.raw", name))
    with pytest.raises(ValueError, match=r"its values are in '.*', outside of its folder\. Copy"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_may_refer_to_a_folder_below(tmp_path, suffix):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
    (tmp_path / "raw").mkdir()
    (tmp_path / "scan.raw").rename(tmp_path / "raw" / "scan.raw")
    path.write_text(path.read_text().replace("scan.raw", "raw/scan.raw"))
    np.testing.assert_array_equal(read_volume(path).data, numbers())


@pytest.mark.parametrize(
    ("suffix", "line"), [(".nhdr", "sizes: 7 6 5"), (".mhd", "DimSize = 7 6 5")]
)
def test_the_limit_is_checked_before_memory_is_allocated(tmp_path, monkeypatch, suffix, line):
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
    path.write_text(path.read_text().replace(line, line.replace("7 6 5", "1000 1000 1000")))
    tracemalloc.start()
    message = r"1000 x 1000 x 1000 voxels of 1 x 16 bits, 6,000,000,000 bytes in memory; the limit"
    with pytest.raises(ValueError, match=message):
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    path = stored_by_itk(tmp_path / f"scan{suffix}", numbers())
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(6 * 210))
    assert read_volume(path).shape == SHAPE


def test_what_is_no_volume_of_real_numbers_is_refused(tmp_path):
    path = stored_by_itk(tmp_path / "complex.nrrd", numbers(np.complex64))
    with pytest.raises(ValueError, match=r"its values are complex of 32-bit float; expected real"):
        read_volume(path)
    path = stored_by_itk(tmp_path / "slice.mha", numbers(shape=(6, 7)))
    with pytest.raises(ValueError, match=r"it is an image of 2 axes; expected three, or four"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"NRRD0004\n", b"ObjectType = Image\n", b"NRRD" + bytes(600)])
def test_a_header_alone_is_refused(tmp_path, content):
    path = tmp_path / "scan"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"scan' cannot be read as"):
        read_volume(path)


def test_a_header_without_an_end_is_refused(tmp_path):
    path = tmp_path / "scan.nrrd"
    path.write_bytes(b"NRRD0004\n" + b"# comment\n" * 200_000 + b"data file: /etc/hostname\n\n")
    with pytest.raises(ValueError, match="its header has more than 1048576 bytes"):
        read_volume(path)
