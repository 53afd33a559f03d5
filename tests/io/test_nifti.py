"""NIfTI: values and affines as NiBabel reads them; clear errors for damaged files."""

import gzip
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import Volume, read_nifti, write_nifti

nibabel = pytest.importorskip("nibabel")

NIBABEL_DATA = Path(nibabel.__file__).parent / "tests" / "data"

# Oblique: rotated about all three axes, with flips; (i, j, k) to mm.
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = TURN * [0.7, 0.9, 2.5]
OBLIQUE[:3, 3] = [-81.25, 33.5, -140.125]
SHEARED = OBLIQUE.copy()
SHEARED[:3, 2] += 0.4 * SHEARED[:3, 1]
SHAPE = (7, 6, 5)  # i, j, k


def stored_by_nibabel(path, data, affine=OBLIQUE, code=1, kind=nibabel.Nifti1Image, **fields):
    image = kind(data, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def numbers(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.fixture
def scan(tmp_path):
    return stored_by_nibabel(tmp_path / "scan.nii.gz", numbers())


# ------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u4", ">f4", "<f8", "i8"])
def test_values_and_positions_are_those_of_nibabel(tmp_path, suffix, kind, dtype):
    header = kind.header_class(endianness=">" if ">" in dtype else "<")
    path = tmp_path / f"scan{suffix}"
    image = kind(numbers(dtype), OBLIQUE, header, dtype=dtype)
    image.to_filename(path)
    volume, expected = read_nifti(str(path)), nibabel.load(path)
    assert expected.header.endianness == (">" if ">" in dtype else "<")
    np.testing.assert_array_equal(volume.data, expected.get_fdata(dtype=np.float32).T)
    for i, j, k in [(0, 0, 0), (6, 1, 4), (2, 5, 3)]:
        assert volume.data[k, j, i] == numbers()[i, j, k]
        position = (expected.affine @ [i, j, k, 1])[:3]
        np.testing.assert_allclose(volume.to_world([k, j, i]), position, atol=1e-4)
    assert volume.spacing == pytest.approx((2.5, 0.9, 0.7), abs=1e-6)


def test_the_scaling_is_applied(tmp_path):
    data = np.linspace(-1000, 3000, 210).reshape(SHAPE)
    image = nibabel.Nifti1Image(data, OBLIQUE)
    image.set_data_dtype(np.int16)  # NiBabel then chooses a slope and an intercept
    image.to_filename(tmp_path / "scan.nii")
    stored = nibabel.load(tmp_path / "scan.nii")
    assert stored.dataobj.slope != 1
    volume = read_nifti(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.data, stored.get_fdata().T, rtol=1e-6)
    np.testing.assert_allclose(volume.data, data.T, atol=0.1)


def test_header_extensions_are_skipped(tmp_path):
    image = nibabel.Nifti1Image(numbers(), OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"hello" * 1000))
    image.to_filename(tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "scan.nii").data, numbers().T)


def test_the_affine_is_the_sform_or_else_the_qform(tmp_path):
    path = stored_by_nibabel(tmp_path / "scan.nii", numbers(), sform_code=0)
    np.testing.assert_allclose(read_nifti(path).affine[:, [2, 1, 0, 3]], OBLIQUE, atol=1e-4)
    other = OBLIQUE + 0.0
    other[:3, 3] += 10
    image = nibabel.Nifti1Image(numbers(), OBLIQUE)
    image.set_qform(other, 1)
    image.set_sform(OBLIQUE, 4)
    image.to_filename(path)
    with pytest.warns(UserWarning, match="two affines") as warned:
        volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], OBLIQUE, atol=1e-4)
    assert volume.space == 4
    (warning,) = warned
    assert str(warning.message) == (
        f"{str(path)!r} has two affines that differ by up to 17.3 mm: the sform (MNI 152), which "
        "is used, and the qform (scanner), which other programs may prefer. A map keeps both."
    )


@pytest.mark.parametrize(("part", "warns"), [(0.08, False), (0.12, True)])
def test_forms_that_differ_by_less_than_a_tenth_of_a_voxel_are_one(tmp_path, part, warns):
    other = OBLIQUE + 0.0
    other[:3, 3] += OBLIQUE[:3, 0] * part  # the smallest side of a voxel
    image = nibabel.Nifti1Image(numbers(), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(other, 1)
    image.to_filename(tmp_path / "scan.nii")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_nifti(tmp_path / "scan.nii")
    assert len(caught) == warns


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_positions_are_in_mm(tmp_path, unit, scale):
    image = nibabel.Nifti1Image(numbers(), OBLIQUE)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "scan.nii")
    expected = np.diag([scale, scale, scale, 1]) @ OBLIQUE
    affine = read_nifti(tmp_path / "scan.nii").affine[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(affine, expected, rtol=1e-5)


def test_trailing_axes_of_length_one_are_dropped(tmp_path):
    path = stored_by_nibabel(tmp_path / "scan.nii", numbers(shape=(7, 6, 5, 1, 1)))
    assert read_nifti(path).shape == (5, 6, 7)
    path = stored_by_nibabel(tmp_path / "slice.nii", numbers(shape=(7, 6)))
    assert read_nifti(path).shape == (1, 6, 7)


# ------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("code", [1, 2, 4])
def test_a_map_has_the_affine_of_its_scan(tmp_path, suffix, code):
    path = stored_by_nibabel(tmp_path / f"scan{suffix}", numbers(), code=code)
    scan = read_nifti(path)
    attribution = torch.rand(1, 1, *scan.shape)
    write_nifti(scan.with_data(attribution), tmp_path / f"map{suffix}")
    ours, theirs = nibabel.load(tmp_path / f"map{suffix}"), nibabel.load(path)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    assert ours.get_data_dtype() == np.float32
    assert ours.header.get_xyzt_units() == theirs.header.get_xyzt_units()
    for form in ("sform", "qform"):
        assert ours.header[f"{form}_code"] == code
        np.testing.assert_allclose(getattr(ours, f"get_{form}")(), OBLIQUE, atol=1e-4)
    np.testing.assert_array_equal(ours.get_fdata(dtype=np.float32).T, attribution[0, 0])


def test_every_grid_of_a_scan_survives_a_round_trip(tmp_path, scan):
    whole = read_nifti(scan)
    part = whole.crop((1, 1, 2), (5, 6, 7))
    grids = [whole, part, part.resample(size=(8, 10, 9)), part.resample(spacing=1.3)]
    grids += [grid.reorient(codes) for grid in grids for codes in ("RAS", "SPL", "ILA")]
    for grid in grids:
        write_nifti(grid, tmp_path / "map.nii")
        again, theirs = read_nifti(tmp_path / "map.nii"), nibabel.load(tmp_path / "map.nii")
        np.testing.assert_array_equal(again.data, grid.data)
        for d, h, w in np.ndindex(*grid.shape):
            position = (grid.affine @ [d, h, w, 1])[:3]
            np.testing.assert_allclose((theirs.affine @ [w, h, d, 1])[:3], position, atol=1e-3)
        assert again.orientation == grid.orientation


@pytest.mark.parametrize("grid", ["own", "scan"])
def test_the_peak_of_the_map_is_in_the_lesion(tmp_path, grid):
    """A bright lesion is drawn into the file; the network responds to brightness."""
    shape = (40, 36, 20)
    positions = np.moveaxis(np.indices(shape), 0, -1) @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    lesion = (OBLIQUE @ [27, 12, 13, 1])[:3]
    dense = 100 * np.exp(-(np.linalg.norm(positions - lesion, axis=-1) ** 2) / 18)
    path = stored_by_nibabel(tmp_path / "scan.nii.gz", dense.astype(np.float32))
    scan = read_nifti(path)
    seen = scan.crop((4, 2, 10), (20, 30, 38)).reorient("RAS").resample(spacing=1.2)
    smooth = torch.nn.functional.avg_pool3d(seen.to_tensor(), 3, stride=1, padding=1)
    heat = seen.with_data(smooth)
    write_nifti(heat if grid == "own" else heat.resample_to(scan), tmp_path / "map.nii.gz")
    written = nibabel.load(tmp_path / "map.nii.gz")
    peak = np.unravel_index(written.get_fdata().argmax(), written.shape)
    in_mm = (written.affine @ [*peak, 1])[:3]
    off = np.linalg.solve(OBLIQUE, [*in_mm, 1])[:3] - [27, 12, 13]
    assert np.abs(off).max() <= 1
    if grid == "scan":
        assert peak == (27, 12, 13)
        np.testing.assert_allclose(in_mm, lesion, atol=1e-3)


def test_a_shear_is_stored_in_the_sform_alone(tmp_path):
    """The quaternion of a qform cannot represent it, and some programs prefer the qform."""
    tilted = Volume(np.zeros((5, 6, 7)), SHEARED[:, [2, 1, 0, 3]])
    with pytest.warns(UserWarning, match=r"The affine has a shear \(tilted gantry\), which only"):
        write_nifti(tilted, tmp_path / "map.nii")
    written = nibabel.load(tmp_path / "map.nii")
    assert (written.header["qform_code"], written.header["sform_code"]) == (0, 1)
    np.testing.assert_allclose(written.affine, SHEARED, atol=1e-4)
    again = read_nifti(tmp_path / "map.nii")
    np.testing.assert_allclose(again.affine, tilted.affine, atol=1e-4)
    write_nifti(again.with_data(again.data), tmp_path / "copy.nii")  # as the scan: no warning
    assert nibabel.load(tmp_path / "copy.nii").header["qform_code"] == 0


@given(st.integers(0, 10**6))
def test_the_qform_represents_every_rotation(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    path = tmp_path_factory.getbasetemp() / "turned.nii"
    write_nifti(Volume(np.zeros((9, 8, 7)), affine), path)
    header = nibabel.load(path).header
    assert header["qform_code"] == 1
    np.testing.assert_allclose(header.get_qform(), affine[:, [2, 1, 0, 3]], atol=1e-3)


def kept(path, scan_path):
    """The forms, codes and units of a file, which are those of the scan's file."""
    ours, theirs = nibabel.load(path), nibabel.load(scan_path)
    for form in ("sform", "qform"):
        assert ours.header[f"{form}_code"] == theirs.header[f"{form}_code"]
        expected = getattr(theirs, f"get_{form}")()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(ours, f"get_{form}")(), expected, atol=1e-5 * scale)
    assert ours.header.get_xyzt_units() == theirs.header.get_xyzt_units()
    return ours


@pytest.mark.parametrize("codes", [(2, 1), (1, 0), (0, 1), (4, 2)])
@pytest.mark.parametrize("units", [("mm", "sec"), ("micron", "unknown"), ("meter", "msec")])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_map_keeps_both_forms_their_codes_and_the_units(tmp_path, codes, units, kind):
    other = OBLIQUE + 0.0
    other[:3, 3] += 20
    image = kind(numbers(), OBLIQUE)
    image.set_sform(OBLIQUE, codes[0])
    image.set_qform(other, codes[1])
    image.header.set_xyzt_units(*units)
    image.to_filename(tmp_path / "scan.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scan = read_nifti(tmp_path / "scan.nii.gz")
        write_nifti(scan.with_data(scan.data), tmp_path / "map.nii")
    factor = {"mm": 1, "micron": 0.001, "meter": 1000}[units[0]]
    assert scan.spacing == pytest.approx([2.5 * factor, 0.9 * factor, 0.7 * factor], rel=1e-5)
    kept(tmp_path / "map.nii", tmp_path / "scan.nii.gz")


def test_the_description_and_the_display_range_of_a_scan_and_of_its_map(tmp_path):
    path = stored_by_nibabel(
        tmp_path / "scan.nii", numbers(), descrip=b"Doe, Jane", cal_min=-5, cal_max=70
    )
    scan = read_nifti(path)
    assert scan.header.description == "Doe, Jane"
    assert scan.header.display_range == (-5, 70)
    write_nifti(scan.with_data(scan.data / 200), tmp_path / "map.nii")
    header = nibabel.load(tmp_path / "map.nii").header
    assert header["descrip"].item() == b"captum_3dcam: values computed from a scan"
    assert b"Doe" not in (tmp_path / "map.nii").read_bytes()
    assert (header["cal_min"], header["cal_max"]) == (0, np.float32(scan.data.max() / 200))
    write_nifti(scan, tmp_path / "again.nii")
    header = nibabel.load(tmp_path / "again.nii").header
    assert (header["descrip"].item(), header["cal_min"], header["cal_max"]) == (
        b"Doe, Jane",
        -5,
        70,
    )


def test_a_qform_that_is_unused_and_damaged_does_not_matter(scan, tmp_path):
    path = damaged(scan, qform_code=("h", 0), quatern_b=("f", float("nan")))
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], OBLIQUE, atol=1e-4)
    write_nifti(volume, tmp_path / "map.nii")
    header = nibabel.load(tmp_path / "map.nii").header
    assert (header["qform_code"], header["sform_code"]) == (0, 1)


# ------------------------------------------------------------------- several volumes, and pairs


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_volume_of_many_or_all_as_channels(tmp_path, suffix):
    data = numbers(shape=(*SHAPE, 3))
    path = stored_by_nibabel(tmp_path / f"fmri{suffix}", data)
    for index in range(3):
        np.testing.assert_array_equal(read_nifti(path, index=index).data, data[..., index].T)
    scan = read_nifti(path, index="all")
    np.testing.assert_array_equal(scan.data, data.T)
    assert (scan.channels, scan.shape) == (3, SHAPE[::-1])
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"index={index}: it has 3 volumes, 0 to 2"):
            read_nifti(path, index=index)
    with pytest.raises(ValueError, match="index='last': expected an integer, 'all' or None"):
        read_nifti(path, index="last")
    write_nifti(scan, tmp_path / "copy.nii")
    np.testing.assert_array_equal(nibabel.load(tmp_path / "copy.nii").get_fdata(), data)
    write_nifti(scan.with_data(scan.data[1]), tmp_path / "map.nii")
    assert kept(tmp_path / "map.nii", path).shape == SHAPE


def test_a_volume_of_many_is_read_alone(tmp_path, monkeypatch):
    """The limit, as the memory, is of the volumes that are read."""
    path = stored_by_nibabel(tmp_path / "fmri.nii", numbers(shape=(*SHAPE, 100)))
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(4 * 210))
    assert read_nifti(path, index=99).shape == SHAPE[::-1]
    with pytest.raises(ValueError, match=r"7 x 6 x 5 voxels in 100 channels, 84,000 bytes in mem"):
        read_nifti(path, index="all")


def test_vectors_are_channels(tmp_path):
    data = numbers(shape=(*SHAPE, 1, 3))
    path = stored_by_nibabel(tmp_path / "field.nii", data)
    np.testing.assert_array_equal(read_nifti(path).data, data[..., 0, :].T)
    np.testing.assert_array_equal(read_nifti(path, index=1).data, data[..., 0, 1].T)


def test_a_wrong_checksum_is_detected_beyond_the_volume_that_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2**16, (80, 80, 80, 3)).astype(np.uint16)
    path = stored_by_nibabel(tmp_path / "fmri.nii.gz", noise)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC check failed"):
        read_nifti(path, index=0)


@pytest.mark.parametrize("suffix", [".hdr", ".img", ".hdr.gz", ".img.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
def test_a_pair_of_files_is_read_by_either(tmp_path, suffix, kind):
    zipped = ".gz" if suffix.endswith(".gz") else ""
    stored_by_nibabel(tmp_path / f"a[1].img{zipped}", numbers(), kind=kind)
    volume = read_nifti(tmp_path / f"a[1]{suffix}")
    np.testing.assert_array_equal(volume.data, numbers().T)
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], OBLIQUE, atol=1e-4)
    other = ".img" if suffix.startswith(".hdr") else ".hdr"
    (tmp_path / f"a[1]{other}{zipped}").unlink()
    missing = rf"it is one of a pair of files, and 'a\[1\]{other}' is not beside it"
    with pytest.raises(ValueError, match=missing):
        read_nifti(tmp_path / f"a[1]{suffix}")


def test_the_values_may_be_compressed_alone(tmp_path):
    stored_by_nibabel(tmp_path / "a.img", numbers(), kind=nibabel.Nifti1Pair)
    content = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.img").unlink()
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.hdr").data, numbers().T)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_values_of_a_pair_have_the_length_of_the_header(tmp_path, zipped):
    stored_by_nibabel(tmp_path / "a.img", numbers(), kind=nibabel.Nifti1Pair)
    content = (tmp_path / "a.img").read_bytes() + bytes(2)
    (tmp_path / "a.img").write_bytes(gzip.compress(content) if zipped else content)
    for index in (None, 0):
        with pytest.raises(ValueError, match=r"'a.img' has 2 bytes or more after the values that"):
            read_nifti(tmp_path / "a.hdr", index=index)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("rest", "warns"),
    [(bytes(512), False), (bytes(513), True), (bytes(3) + b"x", True), (bytes(999), True)],
)
def test_bytes_after_the_values_of_a_single_file(tmp_path, suffix, rest, warns):
    path = stored_by_nibabel(tmp_path / "scan.nii", numbers(shape=(7, 6, 5, 2)))
    content = path.read_bytes() + rest
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = read_nifti(path, index=0)
    np.testing.assert_array_equal(volume.data, numbers(shape=(7, 6, 5, 2))[..., 0].T)
    assert [str(warning.message) for warning in caught] == warns * [
        f"{str(path)!r} has {len(rest)} bytes or more after the values that its header "
        "describes. They are not read; check its size."
    ]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("kind", "field", "end"),
    [(nibabel.Nifti1Image, ("<f", 108), 352), (nibabel.Nifti2Image, ("<q", 168), 544)],
)
def test_values_at_position_zero_follow_the_header(tmp_path, suffix, kind, field, end):
    path = stored_by_nibabel(tmp_path / f"scan{suffix}", numbers(), kind=kind)
    pack, unpack = (gzip.compress, gzip.decompress) if suffix == ".nii.gz" else (bytes, bytes)
    content = bytearray(unpack(path.read_bytes()))
    assert struct.unpack_from(field[0], content, field[1]) == (end,)
    struct.pack_into(field[0], content, field[1], 0)
    path.write_bytes(pack(content))
    with pytest.warns(UserWarning, match=rf"has a vox_offset of 0, .* to be at {end}, the"):
        volume = read_nifti(path)
    np.testing.assert_array_equal(volume.data, numbers().T)
    content[end - 4] = 1  # an extension follows
    path.write_bytes(pack(content))
    with pytest.raises(ValueError, match="its vox_offset is 0, and it has extensions: expected"):
        read_nifti(path)


def test_gzip_is_recognised_by_content(scan):
    named = scan.with_name("named.nii")
    named.write_bytes(scan.read_bytes())
    np.testing.assert_array_equal(read_nifti(named).data, numbers().T)


def test_analyze_is_refused_with_an_advice_that_works(tmp_path):
    nibabel.AnalyzeImage(numbers(), np.diag([-1, 1, 1, 1])).to_filename(tmp_path / "a.img")
    with pytest.raises(ValueError, match=r"Analyze 7\.5 .*left and right cannot be told") as caught:
        read_nifti(tmp_path / "a.hdr")
    advice = str(caught.value).partition("convert it: ")[2]
    path = str(tmp_path / "a.img")
    exec(advice.replace("scan.nii", f"{tmp_path}/scan.nii"), {"nibabel": nibabel, "path": path})
    np.testing.assert_array_equal(read_nifti(tmp_path / "scan.nii").data, numbers().T)


# ------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("anatomical.nii", None),
        ("standard.nii.gz", None),
        ("reoriented_anat_moved.nii", None),
        ("functional.nii", 7),
        ("example4d.nii.gz", 1),
        ("example_nifti2.nii.gz", 0),
    ],
)
def test_real_scans(tmp_path, name, index):
    """Files that NiBabel ships, of SPM, FSL and DIPY; two have extensions."""
    path = NIBABEL_DATA / name
    scan, expected = read_nifti(path, index=index), nibabel.load(path)
    values = expected.get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(scan.data, (values if index is None else values[..., index]).T)
    np.testing.assert_allclose(scan.affine[:, [2, 1, 0, 3]], expected.affine, atol=1e-6)
    write_nifti(scan.with_data(scan.data), tmp_path / "map.nii")
    kept(tmp_path / "map.nii", path)


@pytest.mark.parametrize("name", ["ch2.nii.gz", "inia19-t1-brain.nii.gz"])
def test_real_scans_of_mricron(tmp_path, name):
    path = Path("/usr/share/mricron/templates") / name
    if not path.is_file():
        pytest.skip("needs Debian's mricron-data")
    scan, expected = read_nifti(path), nibabel.load(path)
    np.testing.assert_array_equal(scan.data, expected.get_fdata(dtype=np.float32).T)
    part = scan.crop((0, 0, 0), (3, 4, 5))
    write_nifti(part.with_data(part.data), tmp_path / "map.nii")
    kept(tmp_path / "map.nii", path)


def test_nan_voxels_of_a_real_scan():
    """The anatomical scan resampled by SPM, which fills what it has not seen with NaN."""
    path = NIBABEL_DATA / "resampled_anat_moved.nii"
    message = (
        r"153 of its 1,071 voxels are NaN or infinite, the first at \(d, h, w\) = \(0, 0, 0\), all "
        r"in \[0:3, 0:21, 0:17\]\. .* pass nan= \(--nan\)"
    )
    with pytest.raises(ValueError, match=message):
        read_nifti(path)
    data = read_nifti(path, nan=-7).data
    expected = nibabel.load(path).get_fdata(dtype=np.float32).T
    np.testing.assert_array_equal(data, np.where(np.isnan(expected), np.float32(-7), expected))


@pytest.mark.parametrize("other", [np.inf, -np.inf, np.nan])
def test_infinite_voxels_are_counted_with_their_position(tmp_path, other):
    data = numbers(np.float32, (*SHAPE, 2))
    data[2, 3, 1, 0], data[4, 3, 2, 1] = np.inf, other
    path = stored_by_nibabel(tmp_path / "scan.nii", data)
    message = r"2 of its 420 voxels are NaN or infinite, the first at .* = \(1, 3, 2\), all in "
    with pytest.raises(ValueError, match=message + r"\[1:3, 3:4, 2:5\]"):
        read_nifti(path, index="all")
    assert read_nifti(path, index="all", nan=0).data[1, 2, 3, 4] == 0


def test_large_finite_values_are_not_taken_for_infinite(tmp_path):
    path = stored_by_nibabel(tmp_path / "scan.nii", numbers(np.float32) + np.float32(3e38))
    assert read_nifti(path).data.min() >= 3e38


# ------------------------------------------------------------------------------ invalid files


def damaged(scan, **fields):
    """An uncompressed copy of the scan with fields of its header set."""
    content = bytearray(gzip.decompress(scan.read_bytes()))
    offsets = {name: at for name, (_, at) in nibabel.Nifti1Header.template_dtype.fields.items()}
    for name, (layout, *values) in fields.items():
        struct.pack_into("<" + layout, content, offsets[name], *values)
    path = scan.with_name("damaged.nii")
    path.write_bytes(content)
    return path


CASES = [
    (
        {"dim": ("8h", 4, 7, 6, 1, 5, 1, 1, 1)},
        r"it has 5 volumes on its last axis\. To read one .* index= \(--index\), 0 to 4\. .*'all'",
    ),
    (
        {"dim": ("8h", 5, 7, 1, 1, 6, 5, 1, 1)},
        r"its shape is \(7, 1, 1, 6, 5\)\. Expected one axis more than the three of space at most",
    ),
    (
        {"dim": ("8h", 4, 7, 6, 5, 0, 1, 1, 1)},
        r"its shape is \(7, 6, 5, 0\)\. Expected .*, and none without voxels",
    ),
    ({"vox_offset": ("f", 348)}, r"vox offset 348 too low"),
    ({"xyzt_units": ("b", 5)}, r"its length unit has the code 5; expected m 1, mm 2, micron 3"),
    (
        {"dim": ("8h", 3, 7, 6, 6, 1, 1, 1, 1)},
        r"it is truncated or damaged: the header describes 856 bytes",
    ),
    ({"dim": ("8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)}, r"32767 x 32767 voxels is too large"),
    ({"dim": ("8h", 3, 7, -6, 5, 1, 1, 1, 1)}, r"Expected a volume"),
    ({"datatype": ("hh", 128, 24)}, r"expected real numbers"),
    ({"datatype": ("hh", 32, 64)}, r"its values are complex64; expected real numbers"),
    ({"datatype": ("hh", 9999, 16)}, r"9999"),
    ({"vox_offset": ("f", 1e9)}, r"truncated or damaged"),
    ({"vox_offset": ("f", float("nan"))}, r""),
    ({"vox_offset": ("f", 420)}, r"truncated or damaged: the header describes 840 bytes"),
    ({"magic": ("4s", b"abcd")}, r""),
    ({"sform_code": ("h", 0), "qform_code": ("h", 0)}, r"it has no affine"),
    ({"sform_code": ("h", 77), "qform_code": ("h", -1)}, r"it has no affine"),
    ({"srow_x": ("4f", 0, 0, 0, 0)}, r"The affine is .* Expected \(4, 4\) finite"),
    ({"srow_x": ("4f", float("inf"), 0, 0, 0)}, r"The affine is .*inf"),
]


@pytest.mark.parametrize(("fields", "message"), CASES)
def test_a_damaged_header_is_described(scan, fields, message):
    with pytest.raises(
        ValueError, match=rf"damaged.nii' cannot be read as NIfTI: .*{message}"
    ) as e:
        read_nifti(damaged(scan, **fields))
    assert e.value.__cause__ is not None


def test_the_advice_for_a_scan_without_an_affine_works(scan):
    path = damaged(scan, sform_code=("h", 0), qform_code=("h", 0))
    with pytest.raises(ValueError) as caught:
        read_nifti(path)
    advice = str(caught.value).partition("store it in the file: ")[2].rstrip(".")
    expected = nibabel.load(path).affine
    exec(advice, {"nibabel": nibabel, "path": path})
    np.testing.assert_allclose(read_nifti(path).affine[:, [2, 1, 0, 3]], expected)


@pytest.mark.parametrize("content", [b"", b"x", b"not a scan" * 100, b"\x1f\x8b", bytes(999)])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"scan.nii.gz' cannot be read as NIfTI"):
        read_nifti(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no NIfTI file '.*none.nii'"):
        read_nifti(tmp_path / "none.nii")


def test_a_wrong_checksum_is_detected(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2**16, (20, 20, 20)).astype(np.uint16)
    scan = stored_by_nibabel(tmp_path / "scan.nii.gz", noise)
    assert read_nifti(scan).data.max() > 0
    content = bytearray(scan.read_bytes())
    content[-8] ^= 1
    scan.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"scan\.nii\.gz' cannot be read as NIfTI: CRC check failed"
    ):
        read_nifti(scan)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_small_file_cannot_request_much_memory(scan, compressed):
    path = damaged(scan, dim=("8h", 3, 1024, 1024, 1024, 1, 1, 1, 1))
    if compressed:
        scan.write_bytes(gzip.compress(path.read_bytes()))
        path = scan
    tracemalloc.start()
    with pytest.raises(ValueError, match="the header describes 2147484000 bytes"):
        read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def refused_within(path, message, limit):
    """Reading raises the message and takes less memory than the limit."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit


def test_a_compressed_file_cannot_request_more_than_the_limit(scan, monkeypatch):
    """It does have the zeros that its header describes."""
    content = damaged(scan, dim=("8h", 3, 256, 256, 256, 1, 1, 1, 1)).read_bytes()
    scan.write_bytes(gzip.compress(content + bytes(256**3 * 2)))
    assert scan.stat().st_size < 2**16
    size = 4 * 256**3
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    message = (
        rf"scan.nii.gz' describes 256 x 256 x 256 voxels, {size:,} bytes in memory; the limit is "
        rf"67,108,863. If .* set the environment variable CAPTUM_3DCAM_MAX_BYTES={size}\."
    )
    refused_within(scan, message, 2**20)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    tracemalloc.start()
    assert read_nifti(scan).shape == (256, 256, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * size  # the result, and the chunk that is converted


@pytest.mark.parametrize("size", [-8, 2**31 - 16])
def test_header_extensions_of_a_false_size_are_not_read(scan, size):
    content = bytearray(damaged(scan, vox_offset=("f", 2**25 + 352)).read_bytes())
    extension = struct.pack("<4B2i", 1, 0, 0, 0, size, 6)
    scan.write_bytes(gzip.compress(content[:348] + extension + bytes(2**25 + 500)))
    tracemalloc.start()
    assert read_nifti(scan).data.shape == (5, 6, 7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    plain = stored_by_nibabel(folder / "a.nii", numbers()).read_bytes()
    return folder, {".nii": plain, ".nii.gz": gzip.compress(plain)}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@given(data=st.data())
def test_a_damaged_file_gives_a_volume_or_an_error_that_names_it(samples, suffix, data):
    content, path = bytearray(samples[1][suffix]), samples[0] / f"broken{suffix}"
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        volume = read_nifti(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017
    else:
        assert volume.data.size <= len(samples[1][".nii"])
