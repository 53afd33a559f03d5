"""Videos in: frames, rate and size as they were written; every wrong file named."""

import sys

import numpy as np
import pytest

from captum_3dcam.io import read_video

av = pytest.importorskip("av")


@pytest.fixture
def video(tmp_path):
    """Twelve frames of 32x48 at 24 per second, each of its own grey."""
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for t in range(12):
            frame = np.full((32, 48, 3), 20 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_and_rate(video):
    frames, fps = read_video(video)
    assert frames.shape == (12, 32, 48, 3)
    assert frames.dtype == np.uint8
    assert fps == 24
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 20 * np.arange(12), atol=4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 12), (8, 12)), ((None, 24), (16, 24)), ((16, None), (16, 24)), ((27, 48), (27, 48))],
)
def test_frames_are_rescaled(video, size, expected):
    assert read_video(str(video), size).frames.shape == (12, *expected, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no video file '.*nothing.mp4'"):
        read_video(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(1000)])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*broken.mp4' cannot be read as a video"):
        read_video(path)


def test_a_truncated_video_is_named(video):
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_video(video)


def test_without_pyav_the_extra_is_named(monkeypatch, video):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"needs PyAV: pip install 'captum_3dcam\[video\]'"):
        read_video(video)
