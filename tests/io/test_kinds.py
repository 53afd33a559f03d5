"""What kind of input a file or folder is."""

import gzip
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from captum_3dcam.io import input_kind, read_image, save_map, write_video

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("pydicom")
pytest.importorskip("av")
from pydicom.data import get_testdata_file  # noqa: E402


def image(number=0, size=(16, 12)):
    return Image.new("RGB", size, (20 * number, 0, 0))


def write_pages(path, image_format=None):
    pages = [image(number) for number in range(3)]
    pages[0].save(path, image_format, save_all=True, append_images=pages[1:])


def write_nifti(path, kind=nibabel.Nifti1Image):
    nibabel.save(kind(np.ones((4, 4, 4), np.float32), np.eye(4)), path)


def write_frames(path):
    write_video([np.full((16, 16, 3), 20 * number, np.uint8) for number in range(5)], path, 25)


WRITERS = {
    "a.jpg": (lambda path: image().save(path, "JPEG"), "image"),
    "b.gif": (lambda path: image().save(path, "GIF"), "image"),
    "c.webp": (lambda path: image().save(path, "WEBP"), "image"),
    "d.gif": (write_pages, "video"),
    "e.webp": (write_pages, "video"),
    "f.png": (write_pages, "video"),
    "g.mp4": (write_frames, "video"),
    "h.nii": (write_nifti, "volume"),
    "i.nii.gz": (write_nifti, "volume"),
    "j.nii": (lambda path: write_nifti(path, nibabel.Nifti2Image), "volume"),
    "k.mgz": (lambda path: write_nifti(path, nibabel.MGHImage), "volume"),
    "l.dcm": (lambda path: shutil.copy(get_testdata_file("CT_small.dcm"), path), "volume"),
    "m.dcm": (lambda path: shutil.copy(get_testdata_file("SC_rgb_small_odd.dcm"), path), "image"),
    "n.nrrd": (lambda path: path.write_bytes(b"NRRD0004\ntype: float\n"), "volume"),
    "o.mha": (lambda path: path.write_bytes(b"ObjectType = Image\nNDims = 3\n"), "volume"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_content_counts_and_not_the_suffix(name, tmp_path):
    write, kind = WRITERS[name]
    path = tmp_path / name
    write(path)
    assert input_kind(path) == kind
    for other in ("without", "other.jpg", "other.mp4", "other.nii"):
        assert input_kind(path.rename(tmp_path / other)) == kind
        path = tmp_path / other


def test_the_pair_of_a_nifti(tmp_path):
    write_nifti(tmp_path / "pair.img", nibabel.Nifti1Pair)
    assert input_kind(tmp_path / "pair.hdr") == input_kind(tmp_path / "pair.img") == "volume"


def test_a_photograph_of_a_phone_is_one_image(tmp_path):
    """MPO: a JPEG with a preview as its second page."""
    image().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image(1)])
    assert input_kind(tmp_path / "a.jpg") == "image"
    assert read_image(tmp_path / "a.jpg").shape == (12, 16, 3)


def test_an_image_of_several_pages_is_read_with_a_warning(tmp_path):
    write_pages(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"'.*a.png' has 3 pages; the first one is read\."):
        pixels = read_image(tmp_path / "a.png")
    assert pixels.max() == 0


def test_tiffs_of_several_pages_are_ambiguous(tmp_path):
    write_pages(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="is a TIFF of 3 pages, which may be frames or slices"):
        input_kind(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "name, kind", [("a.PNG", "image"), ("a.mp4", "video"), ("a.nii.gz", "volume")]
)
def test_a_damaged_file_is_what_its_suffix_says(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"damaged" * 40)
    assert input_kind(tmp_path / name) == kind


def test_other_files_are_named(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    save_map(np.ones(3), tmp_path / "b.npz")
    (tmp_path / "c.csv").write_text("1,2")
    (tmp_path / "d.gz").write_bytes(gzip.compress(b"text" * 200))
    (tmp_path / "e").write_bytes(bytes(range(256)) * 2)
    (tmp_path / "f.pdf").write_bytes(b"%PDF-1.4 ")
    for name, what in (
        ("a.npy", "a NumPy array"),
        ("b.npz", "a zip archive (.npz, .pt, .zip)"),
        ("c.csv", "text"),
        ("d.gz", "a gzip file of unknown content"),
        ("e", "binary data"),
        ("f.pdf", "a PDF"),
    ):
        with pytest.raises(ValueError) as error:
            input_kind(tmp_path / name)
        assert str(error.value) == (
            f"{str(tmp_path / name)!r} is {what}, neither an image, a video nor a scan of a known "
            "format. What you have loaded yourself can be explained in Python, as a tensor."
        )


@pytest.mark.parametrize(
    "start, what",
    [
        (b"\0\0\0\x1cftypheic", "an AVIF or HEIC image (convert it to JPEG)"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound file"),
        (b"ID3\4", "a sound file"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 image (convert it to PNG)"),
        (b"\x80\4\x95", "a pickle"),
    ],
)
def test_other_formats_are_named(start, what, tmp_path):
    (tmp_path / "file").write_bytes(start + bytes(400))
    with pytest.raises(ValueError, match=f"is {re.escape(what)}, neither an image"):
        input_kind(tmp_path / "file")


def test_avif_is_no_video(tmp_path):
    try:
        image(1, (64, 48)).save(tmp_path / "a.avif")
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no AVIF: {error}")
    with pytest.raises(ValueError, match="is an AVIF or HEIC image"):
        input_kind(tmp_path / "a.avif")


def test_raw_h264_is_no_mgh(tmp_path):
    import av

    with av.open(str(tmp_path / "a.h264"), "w") as container:
        try:
            stream = container.add_stream("libx264", rate=25)
        except (ValueError, RuntimeError) as error:
            pytest.skip(f"this FFmpeg has no encoder of H.264: {error}")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            pixels = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert (tmp_path / "a.h264").read_bytes()[:4] == b"\0\0\0\1"
    assert input_kind(tmp_path / "a.h264") == "video"


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match="is empty"):
        input_kind(tmp_path / "empty.mp4")
    with pytest.raises(FileNotFoundError, match="There is no file or folder 'missing'"):
        input_kind("missing")


# ------------------------------------------------------------------------------------- folders


def test_a_folder_of_images_is_a_video(tmp_path):
    for number in range(3):
        image(number).save(tmp_path / f"{number}.jpg")
    (tmp_path / "readme.txt").write_text("frames")
    (tmp_path / ".hidden.mp4").write_text("")
    assert input_kind(tmp_path) == "video"


def test_a_folder_of_dicom(tmp_path):
    (tmp_path / "series").mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "series" / "IM0001")
    (tmp_path / "readme.txt").write_text("slices")
    assert input_kind(tmp_path) == "volume"


def test_folders_of_several_inputs(tmp_path):
    with pytest.raises(ValueError, match=r"The folder '.*' has no files\."):
        input_kind(tmp_path)
    write_nifti(tmp_path / "a.nii")
    write_frames(tmp_path / "b.mp4")
    image().save(tmp_path / "c.png")
    with pytest.raises(ValueError) as error:
        input_kind(tmp_path)
    assert str(error.value) == (
        f"The folder {str(tmp_path)!r} holds 3 input(s): a.nii (volume), b.mp4 (video), c.png "
        "(image). Pass one of them."
    )
    for number in range(9):
        image(number).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match=r"holds 12 input\(s\): .*, \.\.\.\. Pass one of them"):
        input_kind(tmp_path)


def test_a_folder_of_other_files(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match="is a folder, neither an image, a video nor a scan"):
        input_kind(tmp_path)
