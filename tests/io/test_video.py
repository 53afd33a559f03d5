"""Videos: frames, frame rate and size as written, upright; clear errors for bad files."""

import os
import struct
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from captum_3dcam._files import BYTES_PER_PIXEL, MAX_BYTES_VARIABLE
from captum_3dcam.io import _video_decoder, open_video, read_video, write_video
from captum_3dcam.io._frame_geometry import FrameConverter

av = pytest.importorskip("av")

FRAMES = np.repeat(20 * np.arange(12, dtype=np.uint8), 32 * 48 * 3).reshape(12, 32, 48, 3)
UPRIGHT = {  # counter-clockwise quarter turns: the matrix in an MP4's track header
    0: (1, 0, 0, 1),
    -1: (0, 1, -1, 0),  # a quarter clockwise
    1: (0, -1, 1, 0),
    2: (-1, 0, 0, -1),
}


def encode(path, frames, codec="mpeg4", rate=24):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def grey(tmp_path):
    """Twelve frames of 32x48 at 24 fps, each with another grey value."""
    return encode(tmp_path / "grey.mp4", FRAMES)


# ------------------------------------------------------------------------------- whole videos


def test_frames_and_rate(grey):
    frames, fps, times = read_video(grey)
    assert frames.shape == (12, 32, 48, 3)
    assert frames.dtype == np.uint8
    assert fps == times.fps == 24
    np.testing.assert_allclose(times.edges, np.arange(13) / 24)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 20 * np.arange(12), atol=4)


SIZES = [((8, 12), (8, 12)), ((None, 24), (16, 24)), ((16, None), (16, 24)), ((27, 48), (27, 48))]


@pytest.mark.parametrize(("size", "expected"), SIZES)
def test_frames_are_resized(grey, size, expected):
    assert read_video(str(grey), size).frames.shape == (12, *expected, 3)
    assert open_video(grey, size).size == expected


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, None), (None, 2.5)])
@pytest.mark.parametrize("read", [read_video, open_video])
def test_a_size_is_positive(grey, read, size):
    with pytest.raises(ValueError, match="size=.*: expected an integer, 1 or more"):
        read(grey, size)


@pytest.mark.parametrize("size", [(None, None), (16, None)])
def test_frames_may_be_written_to(grey, size):
    stored = read_video(grey)
    stored.frames.flags.writeable = False
    for source in (grey, stored):
        for frame in open_video(source, size):
            assert frame.flags.writeable
            frame[:] = 0
    assert stored.frames[-1].mean() > 200


@pytest.mark.parametrize("turns", UPRIGHT)
@pytest.mark.parametrize("size", [(None, None), (None, 24)])
def test_frames_are_rotated_upright(tmp_path, turns, size):
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[:, :10, :14] = 255  # a corner, so that each turn looks different
    path = encode(tmp_path / "phone.mp4", frames)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * value for value in UPRIGHT[turns])
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(data)
    expected = np.rot90(frames, turns, axes=(1, 2))
    opened = open_video(path, size)
    height, width = expected.shape[1:3]
    assert opened.size == ((height, width) if size[1] is None else (height * 24 // width, 24))
    rows, columns = (
        np.arange(n) * side // n for n, side in zip(opened.size, (height, width), strict=True)
    )
    scaled = expected[:, rows][:, :, columns]
    assert np.abs(read_video(path, size).frames.astype(int) - scaled).mean() < 15


def test_a_video_above_the_memory_limit_is_refused(grey, monkeypatch):
    # FFmpeg counts the padding, which is large for small frames.
    monkeypatch.setattr(_video_decoder, "BYTES_PER_PIXEL", 1)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(12 * 32 * 48 * 3))
    assert len(read_video(grey).frames) == 12
    size = 12 * 48 * 64 * 3
    message = rf"'.*grey.mp4' describes 12 or more frames of 64 x 48 pixels, {size:,} bytes .* open"
    with pytest.raises(ValueError, match=message):
        read_video(grey, (48, 64))
    with pytest.raises(ValueError, match="describes 7 or more frames of 64 x 48 pixels"):
        open_video(grey, (48, 64)).chunks(7)
    chunks = open_video(grey, (48, 64)).chunks(5)
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert len(read_video(grey, (48, 64)).frames) == 12


@pytest.mark.parametrize("frames", [1, 1000])
def test_a_false_number_of_frames_does_not_exceed_the_limit(tmp_path, monkeypatch, frames):
    path = encode(tmp_path / "false.avi", FRAMES)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"strh") + 40, frames)
    path.write_bytes(content)
    assert open_video(path).frame_count == frames
    monkeypatch.setattr(_video_decoder, "BYTES_PER_PIXEL", 1)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(10 * 32 * 50 * 3))
    decoded = []
    real = FrameConverter.to_rgb
    monkeypatch.setattr(FrameConverter, "to_rgb", lambda *a: decoded.append(1) or real(*a))
    shown = 11 if frames == 1 else frames
    with pytest.raises(ValueError, match=rf"false.avi' describes {shown} or more frames"):
        read_video(path, (32, 50))
    assert len(decoded) == (11 if frames == 1 else 0)


# -------------------------------------------------------------------------------- by chunks


@pytest.mark.parametrize("length", [1, 5, 6, 12, 100])
def test_chunks_make_the_whole_video(grey, length):
    opened = open_video(grey)
    assert (opened.fps, opened.frame_count, opened.size) == (24, 12, (32, 48))
    chunks = list(opened.chunks(length))
    assert [len(chunk) for chunk in chunks[:-1]] == [length] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= length
    whole = read_video(grey).frames
    for _ in range(2):  # each iteration starts at the first frame
        np.testing.assert_array_equal(np.concatenate(list(opened.chunks(length))), whole)
    np.testing.assert_array_equal(np.stack(list(opened)), whole)


def test_reprs(grey):
    expected = "VideoFile('grey.mp4', size=(32, 48), fps=24, frame_count=12)"
    assert repr(open_video(grey)) == expected
    assert repr(read_video(grey)) == "Video(frames=(12, 32, 48, 3), fps=24)"


def test_frames_are_decoded_lazily(grey, monkeypatch):
    decoded = []
    real = FrameConverter.to_rgb
    monkeypatch.setattr(FrameConverter, "to_rgb", lambda *a: decoded.append(1) or real(*a))
    chunks = open_video(grey).chunks(4)
    assert not decoded
    for number in (1, 2, 3):
        next(chunks)
        assert len(decoded) == 4 * number


def test_a_chunk_has_at_least_one_frame(grey):
    with pytest.raises(ValueError, match="length=0: expected an integer, 1 or more"):
        open_video(grey).chunks(0)


def descriptors(path):
    links = Path("/proc/self/fd").iterdir()
    return [link for link in links if os.path.exists(link) and os.path.samefile(link, path)]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files, on Linux")
@pytest.mark.parametrize("exit_by", ["open", "end", "break", "error"])
def test_the_file_is_closed_on_every_exit(grey, exit_by):
    opened = open_video(grey)
    assert not descriptors(grey)

    def iterate():
        for chunk in opened.chunks(5):
            assert len(descriptors(grey)) == (len(chunk) == 5)
            if exit_by == "break":
                break
            if exit_by == "error":
                raise KeyError(len(chunk))

    if exit_by == "error":
        with pytest.raises(KeyError):
            iterate()
    elif exit_by != "open":
        iterate()
    assert not descriptors(grey)


def test_a_header_without_a_frame_count(tmp_path):
    path = encode(tmp_path / "stream.ts", FRAMES, "mpeg2video")
    opened = open_video(path)
    assert opened.frame_count is None
    assert len(list(opened)) == 12


# ------------------------------------------------------------------------------ invalid files


@pytest.mark.parametrize("read", [read_video, open_video])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="There is no video file '.*nothing.mp4'"):
        read(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(1000)])
@pytest.mark.parametrize("read", [read_video, open_video])
def test_a_file_of_another_kind_is_named(tmp_path, content, read):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*broken.mp4' cannot be read as a video") as caught:
        read(path)
    assert caught.value.__cause__ is not None


def test_messages_do_not_tell_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (b"not a video", b"YUV4MPEG2 W0 H0\n", bytes(1000)):
        Path("broken.mp4").write_bytes(content)
        with pytest.raises(ValueError, match=r"'broken.mp4' cannot be read as a video") as caught:
            open_video("broken.mp4")
        assert str(tmp_path) not in str(caught.value)


def test_a_y4m_is_read(tmp_path):
    path = tmp_path / "raw.y4m"
    planes = [bytes([15 * t]) * 32 * 48 + bytes([128]) * 16 * 24 * 2 for t in range(2, 12)]
    path.write_bytes(
        b"YUV4MPEG2 W48 H32 F24:1\n" + b"".join(b"FRAME\n" + plane for plane in planes)
    )
    video = read_video(path)
    np.testing.assert_allclose(video.times.edges, np.arange(11) / 24)
    expected = (15 * np.arange(2, 12) - 16) * 255 / 219
    np.testing.assert_allclose(video.frames.mean(axis=(1, 2, 3)), expected, atol=2)


def test_a_truncated_video_is_named(grey):
    grey.write_bytes(grey.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_video(grey)


def test_an_audio_file_is_named(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(
        ValueError, match=r"sound.mp4' cannot be read as a video: it has no video stream"
    ):
        open_video(path)


def test_a_video_without_frames_is_named(tmp_path):
    path = tmp_path / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.start_encoding()
    with pytest.raises(ValueError, match=r"empty.avi' cannot be read as a video: it has no frames"):
        read_video(path)


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile grey.mp4\n", "#EXTM3U\ngrey.mp4\n"])
def test_a_playlist_is_not_followed(grey, text):
    path = grey.with_name("list.mp4")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"list.mp4' cannot be read as a video"):
        read_video(path)


def test_a_frame_too_large_is_not_decoded(grey, monkeypatch):
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(BYTES_PER_PIXEL * 32 * 48 - 1))
    with pytest.raises(ValueError, match="grey.mp4' describes frames of 48 x 32 pixels, 49,152"):
        open_video(grey)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(BYTES_PER_PIXEL * 32 * 48 // 4))
    with pytest.raises(ValueError, match=r"grey.mp4' .* no size of frames, or one above 768 pix"):
        open_video(grey)


def test_frames_that_grow_in_the_video_are_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "growing.h264"
    encode(tmp_path / "small.h264", FRAMES[:2], "libx264")
    encode(tmp_path / "large.h264", np.zeros((2, 64, 96, 3), np.uint8), "libx264")
    path.write_bytes(
        (tmp_path / "small.h264").read_bytes() + (tmp_path / "large.h264").read_bytes()
    )
    assert len(list(open_video(path))) == 4
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(BYTES_PER_PIXEL * 64 * 48))
    with pytest.warns(UserWarning, match="growing.h264' is .* damaged: 2 of 4 frames are missing"):
        assert len(list(open_video(path))) == 2


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """An MP4 as bytes, and a path for its damaged copies."""
    folder = tmp_path_factory.mktemp("damaged")
    return encode(folder / "whole.mp4", FRAMES[:4]).read_bytes(), folder / "broken.mp4"


@given(data=st.data())
def test_a_damaged_file_gives_frames_or_an_error_that_names_it(sample, data):
    content, path = bytearray(sample[0]), sample[1]
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        frames, fps, _ = read_video(path, (32, 48))
    except ValueError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017
    else:
        assert frames.shape[1:] == (32, 48, 3)
        assert fps > 0


# -------------------------------------------------------------------------------------- writing


def colours(frames, height, width):
    """Uniform areas that change with time, which every codec represents well."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        clip[t, :, : width // 2] = (250 - 20 * t, 40, 10 + 20 * t)
        clip[t, height // 2 :, width // 2 :] = (30, 20 * t, 200)
    return clip


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
@pytest.mark.parametrize("fps", [24, 29.97, 12.5])
def test_an_mp4_survives_a_round_trip(tmp_path, size, fps):
    clip = colours(10, *size)
    write_video(iter(clip), tmp_path / "out.mp4", fps)
    again = read_video(tmp_path / "out.mp4")
    assert again.frames.shape == (10, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert again.fps == pytest.approx(fps, rel=1e-4)
    shown = again.frames[:, : size[0], : size[1]].astype(int)
    assert np.abs(shown - clip).mean() < 8  # colour has half the resolution
    if size[0] % 2:
        assert np.abs(again.frames[:, -1].astype(int) - again.frames[:, -2]).mean() < 8


@pytest.mark.parametrize("fps", [3, 24, 30, 50])
def test_a_gif_shows_each_frame_for_its_duration(tmp_path, fps):
    clip = colours(10, 20, 31)
    clip[4] = clip[3]  # equal frames are stored as one, shown longer
    write_video(clip, tmp_path / "out.gif", fps)
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info["loop"] == 0
        shown = [
            (f.info["duration"], np.array(f.convert("RGB")))
            for f in ImageSequence.all_frames(image)
        ]
    assert len(shown) == 9
    assert sum(duration for duration, _ in shown) == pytest.approx(10_000 / fps, abs=5)
    ends = np.cumsum([duration for duration, _ in shown])
    np.testing.assert_allclose(ends, 1000 / fps * np.array([1, 2, 3, 5, 6, 7, 8, 9, 10]), atol=5)
    for (_, frame), expected in zip(shown, np.delete(clip, 4, axis=0), strict=True):
        assert np.abs(frame.astype(int) - expected).max() <= 2


def test_an_mp4_is_written_frame_by_frame(tmp_path):
    seen = []

    def frames():
        for t in range(20):
            frame = np.full((16, 16, 3), t, np.uint8)
            seen.append(weakref.ref(frame))
            yield frame
            del frame
            assert sum(ref() is not None for ref in seen) <= 2

    write_video(frames(), tmp_path / "out.mp4", 25)
    assert len(read_video(tmp_path / "out.mp4").frames) == 20


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_in_the_frames_leaves_no_file(tmp_path, suffix, error):
    def frames():
        yield from colours(3, 16, 16)
        raise error

    with pytest.raises(error):
        write_video(frames(), tmp_path / f"out{suffix}", 25)
    assert not list(tmp_path.iterdir())


INVALID = [
    (np.zeros((2, 8, 8, 3)), r"Frame 0 is \(8, 8, 3\) of float64; expected RGB frames \(H, W, 3\)"),
    (np.zeros((2, 8, 8), np.uint8), r"Frame 0 is \(8, 8\) of uint8"),
    (np.zeros((2, 3, 8, 8), np.uint8), r"Frame 0 is \(3, 8, 8\) of uint8"),
    ([np.zeros((8, s, 3), np.uint8) for s in (8, 9)], r"Frame 1 is \(8, 9, 3\).*first one, \(8, 8"),
    ([], "There are no frames to write"),
]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize(("frames", "message"), INVALID)
def test_invalid_frames_are_described(tmp_path, suffix, frames, message):
    with pytest.raises(ValueError, match=message):
        write_video(frames, tmp_path / f"out{suffix}", 25)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_a_frame_rate_must_be_positive(tmp_path, name, fps):
    with pytest.raises(ValueError, match=r"fps=.*: expected a finite number above 0"):
        write_video(FRAMES, tmp_path / name, fps)


def test_a_gif_has_a_maximum_frame_rate(tmp_path):
    with pytest.raises(ValueError, match=r"fps=60: expected at most 50, the maximum of a GIF"):
        write_video(FRAMES, tmp_path / "out.gif", 60)


def test_a_gif_does_not_need_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    write_video(FRAMES, tmp_path / "out.gif", 25)
    with pytest.raises(ImportError, match="Writing MP4 needs PyAV"):
        write_video(FRAMES, tmp_path / "out.mp4", 25)


@pytest.mark.parametrize("size", [16, "16", (16,), None])
def test_a_size_is_a_pair(tmp_path, size):
    path = encode(tmp_path / "a.mp4", FRAMES)
    with pytest.raises(TypeError, match=r"expected \(H, W\); None for one keeps the aspect ratio"):
        read_video(path, size=size)
