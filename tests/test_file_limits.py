"""The memory that the content of a file may take: one limit for all kinds of files."""

import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from captum_3dcam import _files
from captum_3dcam.datasets._frames import FrameSource
from captum_3dcam.datasets._video_dataset import VideoDataset

VARIABLE = _files.MAX_BYTES_VARIABLE


def test_the_default_is_2_gib_and_the_environment_overrides_it(monkeypatch):
    assert _files.max_bytes() == 2**31
    monkeypatch.setenv(VARIABLE, "100")
    assert _files.max_bytes() == 100
    monkeypatch.setenv(VARIABLE, "")
    assert _files.max_bytes() == 2**31


def test_the_error_states_content_limit_and_how_to_lift_it(monkeypatch):
    monkeypatch.setenv(VARIABLE, "100")
    _files.check_size("a.nii", 100, "5 voxels")
    with pytest.raises(ValueError) as error:
        _files.check_size("a.nii", 4321, "5 voxels", "Pass one. ")
    assert str(error.value) == (
        "'a.nii' describes 5 voxels, 4,321 bytes in memory; the limit is 100. Pass one. If this is "
        "right and the memory suffices, set the environment variable CAPTUM_3DCAM_MAX_BYTES=4321."
    )


@pytest.mark.parametrize("value", ["4G", "0", "-1", "1e9", "9" * 5000, "٣"])
def test_the_variable_is_a_number_of_bytes(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    message = f"^{VARIABLE}='{value}': expected a number of bytes, such as 2147483648, the default"
    with pytest.raises(ValueError, match=message), _files.wrap_read_errors("a.nii", "NIfTI"):
        _files.check_size("a.nii", 1, "a voxel")


# ------------------------------------------------------------------------------------- datasets


@pytest.fixture
def images(tmp_path):
    """A folder of 6 images of 8 x 10 pixels, as the only video of a dataset."""
    folder = tmp_path / "run" / "fast"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (10, 8), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_images_is_limited_as_a_whole(images, monkeypatch):
    size = 6 * 8 * 10 * 3
    whole = FrameSource(images).read(0, 6)
    assert whole[:, 3, 4, 0].tolist() == [0, 40, 80, 120, 160, 200]
    monkeypatch.setattr("captum_3dcam.io.image.BYTES_PER_PIXEL", 1)
    monkeypatch.setenv(VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"fast' describes 6 images of 10 x 8 pixels, {size:,} "):
        FrameSource(images).read(0, 6)
    np.testing.assert_array_equal(FrameSource(images).read(1, 6), whole[1:])


def test_a_clip_is_limited_as_floats(images, monkeypatch):
    size = 4 * 6 * 8 * 10 * 3
    data = VideoDataset(images.parent.parent, "test", None, ["run"], ["run/fast"], None)
    assert data[0].clip.nbytes == size
    monkeypatch.setenv(VARIABLE, str(size - 1))
    message = rf"fast' describes 6 frames as floats, {size:,} bytes .* Pass a smaller clip_length"
    with pytest.raises(ValueError, match=message):
        data[0]


# -------------------------------------------------------------------------------- false headers


def deflated_zeros(count):
    """A raw deflate stream of ``count`` MiB of zeros, without compressing all of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + (count - 1) * block + packer.flush()


def bomb_nifti(path):
    nibabel = pytest.importorskip("nibabel")
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header.set_sform(np.eye(4), 1)
    header["dim"][1:4] = 1020, 1020, 1020
    header["vox_offset"] = 2**20
    start = header.binaryblock + bytes(2**20 - len(header.binaryblock))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    gzip_header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    path.write_bytes(gzip_header + first + deflated_zeros(1013) + bytes(8))


def bomb_zip(path):
    """An archive whose directory claims 1 GiB for each member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("map.npy", "metadata.npy", "weights/data.pkl", "weights/data/0"):
            archive.writestr(name, bytes(2**20))
            archive.filelist[-1].file_size = 2**30


def bomb_png(path):
    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 12000, 12000, 8, 6, 0, 0, 0)
    rows = b"\x78\xda" + deflated_zeros(550)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def bomb_gif(path):
    """An animation of 20 frames of 10000 x 10000 pixels."""
    frames = [Image.new("P", (64, 64), color) for color in range(20)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, 6, 10000, 10000)
    path.write_bytes(content)


def bomb_avi(path):
    """A video whose header has a thousand frames of 3 MiB."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1024, 1024, "yuv420p"
        black = np.zeros((1024, 1024, 3), np.uint8)
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"strh") + 40, 1000)
    path.write_bytes(content)


BOMBS = {
    "a.nii.gz": (bomb_nifti, "io.read_nifti", "1020 x 1020 x 1020 voxels, 4,244,832,000 bytes"),
    "a.npz": (bomb_zip, "io.load_map", "4 compressed arrays, 4,294,967,296 bytes"),
    "a.pt": (bomb_zip, "load", "would unpack to 4,294,967,296"),
    "a.png": (bomb_png, "io.read_image", "12000 x 12000 pixels, 4,608,000,000 bytes"),
    "a.gif": (bomb_gif, "io.read_video", "describes 10000 x 10000 pixels, 3,200,000,000 bytes"),
    "a.avi": (
        bomb_avi,
        "io.read_video",
        "1000 or more frames of 1024 x 1024 pixels, 3,145,728,000 bytes",
    ),
}
READ = """
import resource, sys
from torch import nn
import av, nibabel, PIL.Image, scipy.ndimage  # not a part of what reading takes
from captum_3dcam import io, models
def load(path):
    models.load_checkpoint(path, nn.Linear(1, 1))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for path, read in zip(sys.argv[1::2], sys.argv[2::2]):
    before = peak()
    try:
        eval(read)(path)
    except ValueError as error:
        print(peak() - before, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_small_files_that_describe_gigabytes_are_refused_before_memory_is_taken(tmp_path):
    words = []
    for name, (write, read, _) in BOMBS.items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 2**21
        words += [str(tmp_path / name), read]
    start = [sys.executable, "-c", READ, *words]
    done = subprocess.run(start, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(BOMBS), done.stdout
    for line, (name, (_, _, message)) in zip(lines, BOMBS.items(), strict=True):
        taken, _, error = line.partition(" ")
        assert name in error
        assert message in error
        assert int(taken) < 2**25, (name, taken)
