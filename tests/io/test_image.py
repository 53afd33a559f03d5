"""Images: every mode as RGB, with or without the EXIF orientation; clear errors for bad files."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captum_3dcam._files import BYTES_PER_PIXEL, DEFAULT_MAX_BYTES
from captum_3dcam.io import read_image

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)
UPRIGHT = {  # what a viewer shows for each value of the EXIF orientation
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    original = Image.fromarray(COLOUR)
    exif = original.getexif()
    exif[0x0112] = orientation
    original.save(tmp_path / f"a{suffix}", exif=exif)
    upright = read_image(tmp_path / f"a{suffix}")
    assert (upright.dtype, upright.flags["WRITEABLE"]) == (np.uint8, True)
    np.testing.assert_array_equal(upright, UPRIGHT[orientation](COLOUR))
    as_stored = read_image(tmp_path / f"a{suffix}", apply_orientation=False)
    assert (as_stored.dtype, as_stored.flags["WRITEABLE"]) == (np.uint8, True)
    np.testing.assert_array_equal(as_stored, COLOUR if suffix == ".png" else upright)


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".ppm", ".tif", ".webp", ".jpg", ".gif"])
def test_formats(tmp_path, suffix):
    smooth = np.kron(COLOUR, np.ones((16, 16, 1), np.uint8))
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(smooth).save(tmp_path / f"a{suffix}", **lossless)
    pixels = read_image(str(tmp_path / f"a{suffix}")).astype(int)
    assert np.abs(pixels - smooth).mean() < (4 if suffix == ".jpg" else 1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_converted_to_rgb(tmp_path, mode):
    grey = np.where(RAMP > 100, 255, 0).astype(np.uint8) if mode == "1" else RAMP
    expected = np.repeat(grey[..., None], 3, -1)
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.tif")
    else:
        original = Image.fromarray(expected)
        original = original.quantize() if mode == "P" else original.convert(mode)
        original.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.mode == mode
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    expected = [round(int(v) / 257) for v in values[0]]
    assert read_image(tmp_path / f"a{suffix}")[0, :, 1].tolist() == expected


def test_transparency_is_dropped_without_a_warning(tmp_path):
    palette = Image.fromarray(COLOUR).convert("P")
    palette.save(tmp_path / "a.png", transparency=bytes([0, 100] * 4))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), palette.convert("RGB"))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_range_are_refused(tmp_path, dtype):
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif' .*have no defined range\. Save .* 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_damaged_metadata_is_ignored(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1")
    assert read_image(tmp_path / "a.jpg").shape == COLOUR.shape


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no image file '.*none.png'"):
        read_image(tmp_path / "none.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(%pipe%touch hit) run\n"


@pytest.mark.parametrize("content", [b"", b"no image", bytes(100), EPS])
def test_a_file_that_is_no_image(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.png' cannot be read as an image: cannot identify"):
        read_image(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_decompression_bomb_is_not_decoded(tmp_path):
    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)  # Pillow alone would only warn
    rows = zlib.compress(bytes(9001 * 9000))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)
    (tmp_path / "a.png").write_bytes(content + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"a.png' describes 9000 x 9000 pixels, 2,592,000,000"):
        read_image(tmp_path / "a.png")
    assert DEFAULT_MAX_BYTES // BYTES_PER_PIXEL == 2**26  # the largest of ImageNet has 61 million


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    contents = {}
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        Image.fromarray(COLOUR).save(folder / f"a.{suffix}")
        contents[suffix] = (folder / f"a.{suffix}").read_bytes()
    return contents, folder / "broken"


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
@given(data=st.data())
def test_a_damaged_file_gives_an_image_or_an_error_that_names_it(samples, suffix, data):
    content, path = bytearray(samples[0][suffix]), samples[1]
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        pixels = read_image(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017
    else:
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
