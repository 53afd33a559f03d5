"""MGH and MGZ: values and affines as NiBabel reads them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import Volume, read_volume, write_volume

nibabel = pytest.importorskip("nibabel")

REAL = Path(nibabel.__file__).parent / "tests" / "data" / "test.mgz"
AFFINE = np.diag([2.5, 0.9, 0.7, 1]) @ np.eye(4)[[1, 2, 0, 3]]
AFFINE[:3, 3] = (-20, 30.5, 7.25)


def load(path):
    """As nibabel.load, which leaves an uncompressed file open."""
    content = path.read_bytes()
    return nibabel.MGHImage.from_bytes(
        gzip.decompress(content) if path.suffix == ".mgz" else content
    )


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", ["u1", ">i2", ">i4", ">f4"])
def test_values_and_positions_are_those_of_nibabel(tmp_path, suffix, dtype):
    data = np.random.default_rng(0).integers(0, 100, (7, 6, 5)).astype(dtype)
    nibabel.MGHImage(data, AFFINE).to_filename(tmp_path / f"scan{suffix}")
    volume, expected = (read(tmp_path / f"scan{suffix}") for read in (read_volume, load))
    np.testing.assert_array_equal(volume.data, data.T)
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], expected.affine, atol=1e-5)
    write_volume(volume.with_data(volume.data / 100), tmp_path / f"map{suffix}")
    heat = load(tmp_path / f"map{suffix}")
    np.testing.assert_allclose(heat.affine, expected.affine, atol=1e-5)
    np.testing.assert_allclose(heat.get_fdata(), data / 100, rtol=1e-6)
    assert heat.get_data_dtype() == np.dtype(">f4")


def test_a_real_file():
    """FreeSurfer's test file has two volumes, and axes that are not at right angles."""
    expected = nibabel.load(REAL)
    with pytest.raises(ValueError, match=r"test\.mgz' cannot be read as MGH: it has 2 volumes on"):
        read_volume(REAL)
    for index in (0, 1):
        volume = read_volume(REAL, index=index)
        np.testing.assert_array_equal(volume.data, expected.get_fdata()[..., index].T)
        np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], expected.affine)
    np.testing.assert_array_equal(read_volume(REAL, index="all").data, expected.get_fdata().T)


def test_a_file_without_an_affine_has_freesurfers_default(tmp_path):
    nibabel.MGHImage(np.zeros((7, 6, 5), np.float32), AFFINE).to_filename(tmp_path / "scan.mgh")
    content = bytearray((tmp_path / "scan.mgh").read_bytes())
    content[28:30] = bytes(2)
    (tmp_path / "scan.mgh").write_bytes(content)
    with pytest.warns(UserWarning, match=r"has no affine\. FreeSurfer's default is used: coronal"):
        volume = read_volume(tmp_path / "scan.mgh")
    expected = load(tmp_path / "scan.mgh").affine
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], expected)


def test_damaged_files_and_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "scan.mgh"
    write_volume(Volume(np.zeros((5, 6, 7)), np.eye(4)), path)
    content = path.read_bytes()
    path.write_bytes(content[:80])
    with pytest.raises(ValueError, match=r"scan\.mgh' cannot be read as MGH: its header is trunc"):
        read_volume(path)
    path.write_bytes(content[:600])
    with pytest.raises(ValueError, match=r"it is truncated or damaged: the header describes 1124"):
        read_volume(path)
    path.write_bytes(content)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, "800")
    with pytest.raises(
        ValueError, match=r"7 x 6 x 5 voxels, 840 bytes in memory; the limit is 800"
    ):
        read_volume(path)
