"""X-rays and other images in DICOM: shown by the standard's formulas, and as others show them."""

import sys

import numpy as np
import pytest
import torch

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import dicom_kind, read_cine, read_dicom_image
from captum_3dcam.io.dicom._pixels import decode_frames

pydicom = pytest.importorskip("pydicom")
from dicom_files import image_of, save  # noqa: E402
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_voi_lut, convert_color_space  # noqa: E402

XRAY = np.random.default_rng(0).integers(0, 4096, (12, 10)).astype(np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def read(tmp_path, pixels=XRAY, **changed):
    path = save(image_of(pixels, **changed), tmp_path / "x.dcm")
    assert dicom_kind(path) == "image"
    image = read_dicom_image(path)
    assert image.dtype == np.uint8
    return image


def grey(image):
    assert (image == image[..., :1]).all()
    return image[..., 0].astype(int)


def to_8_bits(values, low, high):
    return np.clip(np.round((values - low) / (high - low) * 255), 0, 255)


# ------------------------------------------------------------------------------- grey, by hand


def test_without_a_window_the_values_are_stretched(tmp_path):
    expected = to_8_bits(XRAY.astype(float), XRAY.min(), XRAY.max())
    np.testing.assert_array_equal(grey(read(tmp_path, **TWELVE)), expected)


def test_padding_does_not_count_for_the_stretch(tmp_path):
    pixels = XRAY.copy()
    pixels[:2] = 60000
    image = grey(read(tmp_path, pixels, PixelPaddingValue=60000))
    np.testing.assert_array_equal(image[2:], to_8_bits(pixels[2:], XRAY[2:].min(), XRAY[2:].max()))
    assert (image[:2] == 255).all()


def test_values_of_8_bits_are_kept(tmp_path):
    pixels = np.arange(20, 90, dtype=np.uint8).reshape(7, 10)
    np.testing.assert_array_equal(grey(read(tmp_path, pixels)), pixels)


def test_monochrome1_is_inverted(tmp_path):
    image = read(tmp_path, PhotometricInterpretation="MONOCHROME1")
    expected = to_8_bits(XRAY.max() - XRAY.astype(float), 0, int(XRAY.max()) - int(XRAY.min()))
    np.testing.assert_array_equal(grey(image), expected)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_window_is_the_standards_formula(tmp_path, function, inverted):
    """PS3.3, C.11.2.1.2 and C.11.2.1.3, after the rescale."""
    changed = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1500}
    changed |= {"WindowWidth": 3000} | ({"VOILUTFunction": function} if function else {})
    if inverted:
        changed["PhotometricInterpretation"] = "MONOCHROME1"
    x, c, w = XRAY * 2.0 - 1000, 1500, 3000
    expected = {
        "LINEAR_EXACT": ((x - c) / w + 0.5) * 255,
        "SIGMOID": 255 / (1 + np.exp(-4 * (x - c) / w)),
    }.get(function, ((x - (c - 0.5)) / (w - 1) + 0.5) * 255)
    expected = np.clip(expected, 0, 255)
    image = grey(read(tmp_path, **TWELVE, **changed))
    np.testing.assert_array_equal(image, np.round(255 - expected if inverted else expected))


def test_the_first_of_several_windows_is_used(tmp_path):
    one = read(tmp_path, WindowCenter=1000, WindowWidth=500)
    several = read(tmp_path, WindowCenter=[1000, 3000], WindowWidth=[500, 10])
    np.testing.assert_array_equal(several, one)


@pytest.mark.parametrize("bits", [8, 12])
def test_a_lookup_table_is_applied(tmp_path, bits):
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, bits]
    table = (np.arange(4096) ** 2 / 4095**2 * (2**bits - 1)).astype(np.uint16)
    item.add_new(0x00283006, "US", table.tolist())
    image = read(tmp_path, **TWELVE, VOILUTSequence=[item])
    np.testing.assert_array_equal(grey(image), np.round(table[XRAY] * (255 / (2**bits - 1))))


# -------------------------------------------------------------------------------------- colour


def test_rgb_is_kept_and_16_bits_are_reduced(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (1, 5, 7, 3)).astype(np.uint8)
    changed = {"Modality": "XC"}
    np.testing.assert_array_equal(read(tmp_path, pixels, **changed), pixels[0])
    wide = pixels.astype(np.uint16) * 256 + 17
    np.testing.assert_array_equal(read(tmp_path, wide, **changed), pixels[0])


def test_ybr_is_converted(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (1, 5, 7, 3)).astype(np.uint8)
    image = read(tmp_path, pixels, PhotometricInterpretation="YBR_FULL")
    expected = convert_color_space(pixels[0], "YBR_FULL", "RGB")
    np.testing.assert_array_equal(image, expected)
    y, cb, cr = pixels[0, 0, 0].astype(float) - [0, 128, 128]
    red_green_blue = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    np.testing.assert_allclose(image[0, 0], np.clip(red_green_blue, 0, 255), atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_applied(tmp_path, bits):
    pixels = np.random.default_rng(2).integers(0, 16, (6, 5)).astype(np.uint8)
    palette = np.random.default_rng(3).integers(0, 256, (3, 16))
    changed = {"PhotometricInterpretation": "PALETTE COLOR"}
    entries = (palette * (257 if bits == 16 else 1)).astype(f"u{bits // 8}")
    for name, table in zip(("Red", "Green", "Blue"), entries, strict=True):
        changed[f"{name}PaletteColorLookupTableDescriptor"] = [16, 0, bits]
        changed[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    np.testing.assert_array_equal(read(tmp_path, pixels, **changed), palette.T[pixels])


def test_a_palette_that_pydicom_reads_wrongly_is_refused(tmp_path):
    """More entries of 8 bits than 8 bits can count."""
    changed = {"PhotometricInterpretation": "PALETTE COLOR", "Modality": "US"}
    for name in ("Red", "Green", "Blue"):
        changed[f"{name}PaletteColorLookupTableDescriptor"] = [512, 0, 8]
        changed[f"{name}PaletteColorLookupTableData"] = bytes(256) + bytes(range(256))
    pixels = np.arange(300, 342, dtype=np.uint16).reshape(6, 7)
    path = save(image_of(pixels, **changed), tmp_path / "x.dcm")
    with pytest.raises(ValueError, match="its palette has entries of 8 bits and is large"):
        read_dicom_image(path)


# ------------------------------------------------------------------------------ pixels' shape


@pytest.mark.parametrize(
    ("changed", "shape"),
    [
        ({"PixelAspectRatio": [2, 1]}, (24, 10)),
        ({"PixelAspectRatio": [1, 2]}, (12, 20)),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (18, 10)),
        ({"ImagerPixelSpacing": [0.14, 0.14]}, (12, 10)),
        ({"PixelSpacing": [0, 0]}, (12, 10)),
    ],
)
def test_pixels_become_square(tmp_path, changed, shape):
    assert read(tmp_path, **changed).shape == (*shape, 3)


@pytest.mark.parametrize("ratio", [[1, 1], [2, 1]])
@pytest.mark.parametrize("modality", ["DX", "XC"])
def test_the_pixels_are_writable(tmp_path, ratio, modality):
    """PyTorch warns of arrays that are not."""
    pixels = XRAY if modality == "DX" else np.zeros((1, 5, 7, 3), np.uint8)
    image = read(tmp_path, pixels, Modality=modality, PixelAspectRatio=ratio)
    torch.from_numpy(image)
    assert image.flags.writeable


def test_a_circle_of_flat_pixels_becomes_round(tmp_path):
    y, x = np.mgrid[:40, :80]
    pixels = np.where((2 * y - 40) ** 2 + (x - 40) ** 2 < 30**2, 255, 0).astype(np.uint8)
    rows, columns = np.nonzero(grey(read(tmp_path, pixels, PixelAspectRatio=[2, 1])) > 127)
    assert abs((rows.max() - rows.min()) - (columns.max() - columns.min())) <= 1


# --------------------------------------------------------------------------------- real files


def shipped(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is in pydicom-data")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "OBXXXX1A.dcm",
        "OBXXXX1A_rle.dcm",
        "US1_UNCR.dcm",
        "SC_rgb_small_odd.dcm",
        "SC_rgb_rle.dcm",
    ],
)
def test_colour_equals_simpleitks(name):
    sitk = pytest.importorskip("SimpleITK")
    image = read_dicom_image(shipped(name))
    expected = np.squeeze(sitk.GetArrayFromImage(sitk.ReadImage(shipped(name))))
    np.testing.assert_array_equal(image, expected >> (8 * expected.itemsize - 8))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),  # the palette in big endian
        ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
        ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
        ("RG3_UNCR.dcm", "RG3_J2KR.dcm"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm"),
    ],
)
def test_an_image_in_other_encodings_is_the_same(one, other):
    if "J2K" in other:
        pytest.importorskip("SimpleITK")
    image, expected = read_dicom_image(shipped(one)), read_dicom_image(shipped(other))
    np.testing.assert_array_equal(image, expected)
    assert len(np.unique(image)) > 3


def test_a_real_xray_is_windowed_and_inverted():
    path = shipped("RG3_UNCR.dcm")
    dataset = pydicom.dcmread(path)
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    shown = apply_voi_lut(dataset.pixel_array, dataset)
    expected = 255 - shown / (2**dataset.BitsStored - 1) * 255
    np.testing.assert_allclose(grey(read_dicom_image(path)), expected, atol=0.51)


@pytest.mark.parametrize(
    "name",
    [
        "JPEG-LL.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "bad_sequence.dcm",
        "JPGExtended.dcm",
        "JPEGLSNearLossless_16.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "examples_jpeg2k.dcm",
        "693_J2KI.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    ],
)
def test_the_decoded_values_are_those_of_other_decoders(name):
    """Of libjpeg, CharLS and OpenJPEG, in the plugins of pydicom."""
    pytest.importorskip("SimpleITK")
    dataset = pydicom.dcmread(shipped(name))
    try:
        expected = dataset.pixel_array
    except RuntimeError as error:
        pytest.skip(f"pydicom has no decoder: {error}"[:80])
    expected = expected if "NumberOfFrames" in dataset and len(expected) > 1 else expected[None]
    received = np.stack(list(decode_frames(dataset)))
    np.testing.assert_allclose(received.reshape(expected.shape), expected, atol="Ext" in name)


def test_without_simpleitk_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    message = r"Compressed DICOM files need SimpleITK: pip install 'captum_3dcam\[medical\]'"
    with pytest.raises(ValueError, match=message):
        read_dicom_image(shipped("SC_rgb_small_odd_jpeg.dcm"))


def test_the_commonest_xray_is_an_image(tmp_path):
    """Of 12 bits, with the spacing at the detector, and no window."""
    image = read(tmp_path, **TWELVE, ImagerPixelSpacing=[0.14, 0.14])
    assert image.shape == (*XRAY.shape, 3)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Rows": 500}, "number of bytes"),
        ({"Rows": 0}, "its size is 0 x 10, 1 frames"),
        ({"PixelData": None}, "no pixel data to decode"),
        ({"WindowCenter": 100}, ""),
        ({"WindowCenter": 100, "WindowWidth": -5}, ""),
        ({"PixelAspectRatio": [1000, 1]}, "its pixels are 1e\\+03 times as high as wide"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ""),
    ],
)
def test_a_damaged_image_is_named(tmp_path, changed, message):
    path = save(image_of(XRAY, **changed), tmp_path / "x.dcm")
    with pytest.raises(ValueError, match=rf"x.dcm' cannot be read as a DICOM image: .*{message}"):
        read_dicom_image(path)


def test_an_image_cannot_request_much_memory(tmp_path, monkeypatch):
    path = save(image_of(XRAY, Rows=60000, Columns=60000), tmp_path / "x.dcm")
    with pytest.raises(ValueError, match="x.dcm' describes 60000 x 60000 pixels, 115,200,000,0"):
        read_dicom_image(path)
    path = save(image_of(XRAY, PixelAspectRatio=[3, 1]), tmp_path / "x.dcm")
    size = 32 * 3 * XRAY.size
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"describes 12 x 10 pixels, {size:,} bytes"):
        read_dicom_image(path)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert read_dicom_image(path).shape == (36, 10, 3)


@pytest.mark.parametrize(
    ("name", "marker", "offset", "width"),
    [
        ("SC_rgb_small_odd_jpeg.dcm", b"\xff\xc0", 5, 2),
        ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", 5, 2),
        ("MR_small_jp2klossless.dcm", b"\xff\x51", 6, 4),
    ],
)
def test_compressed_pixels_cannot_request_more_than_the_header(
    tmp_path, name, marker, offset, width
):
    """A decoder allocates what the stream says, whatever the header of the file says."""
    pytest.importorskip("SimpleITK")
    dataset = pydicom.dcmread(shipped(name))
    rows, columns = dataset.Rows, dataset.Columns
    stream = bytearray(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    start = stream.find(marker) + offset
    for position in (start, start + width, *([start + 16, start + 20] if width == 4 else [])):
        stream[position : position + width] = (9000).to_bytes(width, "big")
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset.Modality, dataset.SOPClassUID = "OT", "1.2.840.10008.5.1.4.1.1.7"
    for tag in ("ImagePositionPatient", "ImageOrientationPatient"):
        if tag in dataset:
            delattr(dataset, tag)
    dataset.save_as(tmp_path / "x.dcm")
    message = rf"compressed pixels are 9000 x 9000; its header describes {rows} x {columns}"
    with pytest.raises(ValueError, match=message):
        read_dicom_image(tmp_path / "x.dcm")


def test_many_samples_cannot_request_much_memory(tmp_path):
    dataset = pydicom.dcmread(shipped("SC_rgb_small_odd_jpeg.dcm"))
    dataset.SamplesPerPixel, dataset.NumberOfFrames = 60000, 10000
    dataset.FrameTime = "40"
    dataset.save_as(tmp_path / "x.dcm")
    pytest.importorskip("SimpleITK")
    message = r"x.dcm' describes 10000 x 3 x 3 pixels of 60000 samples, 5,400,000,000 bytes"
    with pytest.raises(ValueError, match=message):
        read_cine(tmp_path / "x.dcm")


def test_an_unknown_compression_is_named(tmp_path):
    dataset = image_of(XRAY)
    path = save(dataset, tmp_path / "x.dcm")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    dataset.PixelData = encapsulate([b"abcd"])
    dataset.save_as(path)
    message = r"compressed as High-Throughput JPEG 2000.*not supported\. Decompress it"
    with pytest.raises(ValueError, match=message):
        read_dicom_image(path)
