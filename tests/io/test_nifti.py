"""NIfTI: values and affines as NiBabel reads them; clear errors for damaged files."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import Volume, read_nifti, write_nifti

nibabel = pytest.importorskip("nibabel")

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
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine[:, [2, 1, 0, 3]], OBLIQUE, atol=1e-4)
    assert volume.space == 4


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
    assert ours.header.get_xyzt_units()[0] == "mm"
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
    write_nifti(tilted, tmp_path / "map.nii")
    written = nibabel.load(tmp_path / "map.nii")
    assert (written.header["qform_code"], written.header["sform_code"]) == (0, 1)
    np.testing.assert_allclose(written.affine, SHEARED, atol=1e-4)
    np.testing.assert_allclose(read_nifti(tmp_path / "map.nii").affine, tilted.affine, atol=1e-4)


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
        r"shape is \(7, 6, 1, 5\)\. Expected a single volume",
    ),
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
