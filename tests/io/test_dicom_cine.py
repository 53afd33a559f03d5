"""Cine loops: frames as they are shown, at the times of the header."""

import numpy as np
import pytest

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import read_cine, read_video, write_video

pydicom = pytest.importorskip("pydicom")
from dicom_files import image_of, save  # noqa: E402
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

COLOUR = np.random.default_rng(3).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
ANGIO = np.random.default_rng(4).integers(0, 1024, (5, 4, 6)).astype(np.uint16)
ULTRASOUND = {"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"}


def grey_cine(**changed):
    changed = {"Modality": "XA", "NumberOfFrames": 5, "BitsStored": 10, "HighBit": 9, **changed}
    return image_of(ANGIO[0], PixelData=ANGIO.tobytes(), **changed)


def test_colour_frames_are_kept(tmp_path):
    path = save(image_of(COLOUR, **ULTRASOUND, FrameTime="40"), tmp_path / "us.dcm")
    video = read_cine(path)
    np.testing.assert_array_equal(video.frames, COLOUR)
    assert video.fps == pytest.approx(25)
    np.testing.assert_allclose(video.times.edges, np.arange(6) * 0.04)


def test_grey_frames_share_one_range(tmp_path):
    video = read_cine(save(grey_cine(CineRate=15), tmp_path / "xa.dcm"))
    low, high = int(ANGIO.min()), int(ANGIO.max())
    expected = np.round((ANGIO - float(low)) / (high - low) * 255)
    np.testing.assert_array_equal(video.frames, np.repeat(expected[..., None], 3, -1))
    assert video.fps == pytest.approx(15)


def test_the_window_is_applied_to_each_frame(tmp_path):
    path = save(grey_cine(CineRate=15, WindowCenter=512, WindowWidth=1025), tmp_path / "xa.dcm")
    expected = np.round(((ANGIO - 511.5) / 1024 + 0.5).clip(0, 1) * 255)
    np.testing.assert_array_equal(read_cine(path).frames[..., 0], expected)


@pytest.mark.parametrize(
    ("changed", "edges"),
    [
        ({"FrameTime": "50"}, np.arange(6) * 0.05),
        ({"CineRate": 20}, np.arange(6) / 20),
        ({"RecommendedDisplayFrameRate": 8}, np.arange(6) / 8),
        ({"CineRate": 20, "RecommendedDisplayFrameRate": 8}, np.arange(6) / 8),
        ({"CineRate": 20, "FrameTime": "50.5"}, np.arange(6) * 0.0505),
        ({"FrameTime": "0", "CineRate": 4}, np.arange(6) / 4),
        ({"FrameTimeVector": [0, 10, 20, 30, 40]}, [0, 0.01, 0.03, 0.06, 0.1, 0.14]),
        ({"FrameTimeVector": [0, 1, 2], "CineRate": 5}, np.arange(6) / 5),
    ],
)
def test_the_times_of_the_frames(tmp_path, changed, edges):
    video = read_cine(save(grey_cine(**changed), tmp_path / "xa.dcm"))
    np.testing.assert_allclose(video.times.edges, edges)
    assert video.fps == pytest.approx(video.times.fps)


def test_without_a_rate_one_has_to_be_given(tmp_path):
    path = save(grey_cine(), tmp_path / "xa.dcm")
    with pytest.raises(ValueError, match=r"xa.dcm' .*no frame rate\. Pass .*: fps=, or --fps"):
        read_cine(path)
    assert read_cine(path, fps=12).fps == pytest.approx(12)
    with pytest.raises(ValueError, match="fps"):
        read_cine(path, fps=0)


def test_flat_pixels_become_square(tmp_path):
    changed = {"PixelAspectRatio": [3, 2], "FrameTime": "40"}
    video = read_cine(save(image_of(COLOUR, **ULTRASOUND, **changed), tmp_path / "us.dcm"))
    assert video.frames.shape == (5, 6, 6, 3)


def test_a_real_loop_of_ultrasound():
    """30 frames in JPEG; the colours are those that pydicom gives."""
    sitk = pytest.importorskip("SimpleITK")
    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    if path is None:
        pytest.skip("pydicom 3.0.0 does not ship it")
    video = read_cine(path)
    assert video.frames.shape == (30, 240, 320, 3)
    assert video.fps == pytest.approx(1000 / 33.333)
    expected = pydicom.pixels.pixel_array(path, index=7, decoding_plugin="pillow")
    assert np.abs(video.frames[7].astype(int) - expected).max() <= 3  # of rounding in colour
    others = sitk.GetArrayFromImage(sitk.ReadImage(path))
    assert np.abs(video.frames.astype(int) - others).mean() < 1


@pytest.mark.parametrize("fps", [None, 5])
def test_a_video_file_inside_is_decoded(tmp_path, fps):
    """As endoscopes write it: MPEG-4 in DICOM."""
    pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3)).astype(np.uint8)
    write_video(frames, tmp_path / "a.mp4", fps=12)
    path = save(image_of(COLOUR, Modality="ES"), tmp_path / "es.dcm")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    dataset.PixelData = encapsulate([(tmp_path / "a.mp4").read_bytes()])
    dataset.save_as(path)
    video, expected = read_cine(path, fps=fps), read_video(tmp_path / "a.mp4")
    np.testing.assert_array_equal(video.frames, expected.frames)
    assert video.fps == pytest.approx(fps or 12)
    assert len(video.times) == 9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"NumberOfFrames": 50}, "number of bytes"),
        ({"Rows": 50}, "number of bytes"),
        ({"FrameTimeVector": [0, 10, -20, 30, 40]}, "strictly ascending"),
        ({"FrameTime": "-5"}, "fps"),
    ],
)
def test_a_damaged_loop_is_named(tmp_path, changed, message):
    path = save(grey_cine(**{"CineRate": 5, **changed}), tmp_path / "xa.dcm")
    with pytest.raises(ValueError, match=rf"xa.dcm' cannot be read as a DICOM video: .*{message}"):
        read_cine(path)


def test_a_loop_cannot_request_much_memory(tmp_path, monkeypatch):
    path = save(grey_cine(CineRate=5, NumberOfFrames=10**9), tmp_path / "xa.dcm")
    with pytest.raises(ValueError, match=r"xa.dcm' describes 1000000000 x 4 x 6 pixels, 72,000"):
        read_cine(path)
    path = save(image_of(COLOUR, **ULTRASOUND, FrameTime="40"), tmp_path / "us.dcm")
    size = (32 + 3 * 4) * 24
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"describes 5 x 4 x 6 pixels, {size:,} bytes"):
        read_cine(path)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert read_cine(path).frames.shape == COLOUR.shape
