"""Frames in folders of images and in video files: pixels as written, errors that name files."""

import sys

import numpy as np
import pytest
import torch
from datasets_on_disk import random_pixels, write_image, write_images, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captum_3dcam.datasets import _frames as frames
from captum_3dcam.datasets._files import collect_problems
from captum_3dcam.datasets._frames import FrameSource, VideoSize, read_stored_image, to_tensor

SIZE = (6, 8)


def test_the_exif_orientation_of_an_image_is_ignored(tmp_path):
    """Boxes refer to the pixels as they are stored."""
    pixels = random_pixels(1, SIZE)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_stored_image(tmp_path / "a.png"), pixels)
    Image.fromarray(pixels).save(tmp_path / "1.png", exif=exif)
    assert np.array_equal(FrameSource(tmp_path).read(0, 1)[0], pixels)


def test_pixels_become_a_tensor():
    pixels = random_pixels(3, SIZE)
    tensor = to_tensor(pixels)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    torch.testing.assert_close(tensor, naive_tensor(pixels))
    assert to_tensor(pixels[0]).shape == (3, *SIZE)
    ends = to_tensor(np.array([[[0, 255, 51]]], np.uint8))
    torch.testing.assert_close(ends.flatten(), torch.tensor([0, 1, 0.2]))


def naive_tensor(pixels):
    """(T, H, W, 3) bytes -> (3, T, H, W), number by number."""
    return torch.tensor(
        [
            [[[pixel[c] / 255 for pixel in row] for row in frame] for frame in pixels.tolist()]
            for c in range(3)
        ]
    )


def damage(content, data):
    """Replace up to 3 bytes, and perhaps cut off the end."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))])


@given(st.data())
@settings(max_examples=150)
def test_damaged_images_give_clear_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / data.draw(st.sampled_from(["1.png", "1.jpg"]))
    write_image(path, random_pixels(1, SIZE)[0])
    path.write_bytes(damage(path.read_bytes(), data))
    problems = []
    with collect_problems(problems, path):
        assert FrameSource(folder).read(0, 1).dtype == np.uint8
    assert all(str(path) in str(problem) for problem in problems)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_error_names_a_truncated_image(tmp_path, suffix):
    path = tmp_path / f"1{suffix}"
    write_image(path, random_pixels(1, (32, 32))[0])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f"'.*1{suffix}' cannot be read as an image: "):
        FrameSource(tmp_path).read(0, 1)


@pytest.fixture
def pixels():
    return random_pixels(7, SIZE)


@pytest.fixture
def folder(tmp_path, pixels):
    write_images(tmp_path / "video", pixels)
    return tmp_path / "video"


@pytest.fixture
def file(tmp_path, pixels):
    pytest.importorskip("av")
    write_video(tmp_path / "video.avi", pixels)
    return tmp_path / "video.avi"


@pytest.mark.parametrize("name", ["{:05d}.png", "{}.png", "img_{:03d}.PNG", "v1_frame-{}.png"])
def test_numbered_images_are_frames(tmp_path, name):
    pixels = random_pixels(11, SIZE)
    write_images(tmp_path, pixels, name)
    for other in ("Thumbs.db", "._00001.png", "readme.txt", "cover.png"):
        (tmp_path / other).touch()
    source = FrameSource(tmp_path)
    assert source.count() == 11
    for start, stop in ((0, 11), (2, 3), (9, 11)):
        assert np.array_equal(source.read(start, stop), pixels[start:stop])


def test_numbers_may_start_at_0(tmp_path, pixels):
    for number, frame in enumerate(pixels):
        write_image(tmp_path / f"{number}.png", frame)
    assert np.array_equal(FrameSource(tmp_path).read(0, 7), pixels)


def test_only_requested_frames_are_read(folder, pixels):
    for number in (1, 2, 5, 6, 7):
        (folder / f"{number:05d}.png").write_bytes(b"damaged")
    assert np.array_equal(FrameSource(folder).read(2, 4), pixels[2:4])


@pytest.mark.parametrize("missing", [1, 4])
def test_the_error_names_a_missing_number(folder, missing):
    (folder / f"{missing:05d}.png").unlink()
    with pytest.raises(ValueError) as error:
        FrameSource(folder).count()
    assert str(error.value) == (
        f"The folder {str(folder)!r} has 6 images, numbered up to 7, but number {missing} is "
        "missing."
    )


def test_the_error_names_two_images_with_the_same_number(folder):
    (folder / "flow_3.png").touch()
    with pytest.raises(ValueError, match="same number, '00003.png' and 'flow_3.png"):
        FrameSource(folder).count()


def test_the_error_names_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="images whose names end with a number, as in 00001.jpg"):
        FrameSource(tmp_path).count()


def test_the_error_names_an_image_of_another_size(folder):
    write_image(folder / "00003.png", random_pixels(1, (6, 9))[0])
    with pytest.raises(ValueError) as error:
        FrameSource(folder).read(1, 4)
    assert str(error.value) == (
        f"The image {str(folder / '00003.png')!r} has 9 x 6 pixels; the images before it in the "
        "same video have 8 x 6."
    )


def test_frames_beyond_the_end_are_refused(folder):
    with pytest.raises(ValueError, match="'.*video' ends after 7 frames"):
        FrameSource(folder).read(6, 8)


def test_a_video_file_holds_frames(tmp_path, file, pixels):
    source = FrameSource(tmp_path / "none", file)
    assert source.path == file
    assert source.count() == 7
    for start, stop in ((0, 7), (2, 3), (5, 7)):
        assert np.array_equal(source.read(start, stop), pixels[start:stop])


def test_a_folder_takes_precedence_over_a_file(folder, file, pixels):
    write_images(folder, pixels[::-1])
    source = FrameSource(folder, file)
    assert source.path == folder
    assert np.array_equal(source.read(0, 7), pixels[::-1])


def test_the_result_can_be_modified(folder, file, pixels):
    for source in (FrameSource(folder), FrameSource(folder / "none", file)):
        source.read(0, 7)[:] = 0
        assert np.array_equal(source.read(0, 7), pixels)


def test_the_last_video_is_decoded_once(file, monkeypatch):
    opened = []
    read_video = frames.read_video
    monkeypatch.setattr(frames, "read_video", lambda path: opened.append(path) or read_video(path))
    frames._decode.cache_clear()
    source = FrameSource(file / "none", file)
    source.read(0, 3)
    source.read(3, 7)
    assert opened == [file]


def test_a_changed_video_is_decoded_again(file, pixels):
    source = FrameSource(file / "none", file)
    source.read(0, 1)
    before = file.stat().st_mtime_ns
    write_video(file, pixels[::-1])
    assert file.stat().st_mtime_ns != before
    assert np.array_equal(source.read(0, 7), pixels[::-1])


def test_a_video_may_end_two_frames_before_its_header_says(file, pixels):
    """MPEG-4 can end with frames that repeat the last one: they are counted, but not decoded."""
    source = FrameSource(file / "none", file)
    assert np.array_equal(source.read(5, 9), pixels[[5, 6, 6, 6]])
    assert np.array_equal(source.read(7, 9), pixels[[6, 6]])
    with pytest.raises(ValueError, match="'.*video.avi' ends after 7 frames"):
        source.read(5, 10)


def test_a_video_without_a_count_is_counted(tmp_path, pixels):
    pytest.importorskip("av")
    path = tmp_path / "video.mkv"  # Matroska has no number of frames
    write_video(path, pixels)
    assert FrameSource(tmp_path / "none", path).count() == 7


def test_the_error_names_a_missing_video(tmp_path):
    for source, end in (
        (FrameSource(tmp_path / "a"), "'.*a'.$"),
        (FrameSource(tmp_path / "a", tmp_path / "a.avi"), "'.*a', and no video file '.*a.avi'.$"),
    ):
        for call in (source.count, lambda source=source: source.read(0, 1)):
            with pytest.raises(FileNotFoundError, match=f"There is no folder of frames {end}"):
                call()


@pytest.mark.parametrize("content", [b"", b"no video", bytes(1000)])
def test_the_error_names_a_file_that_is_not_a_video(tmp_path, content):
    pytest.importorskip("av")
    path = tmp_path / "a.avi"
    path.write_bytes(content)
    source = FrameSource(tmp_path / "a", path)
    for call in (source.count, lambda: source.read(0, 1)):
        with pytest.raises(ValueError, match="'.*a.avi' cannot be read as a video: "):
            call()


@pytest.mark.filterwarnings("ignore:'video.avi' is truncated")
def test_the_error_names_a_truncated_video(file, tmp_path):
    content = file.read_bytes()
    # The frames are between these two markers.
    file.write_bytes(content[: (content.index(b"movi") + content.index(b"idx1")) // 2])
    source = FrameSource(tmp_path / "none", file)
    assert source.count() == 7
    problems = []
    assert source.measure(problems) is None
    assert [problem.path for problem in problems] == [file]
    with pytest.raises(ValueError, match="'.*video.avi' (ends after . frames|cannot be read as a)"):
        source.read(0, 7)


def test_a_header_with_too_many_frames_is_refused(tmp_path, file, monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAMES", 6)
    with pytest.raises(ValueError, match="claims to have 7 frames: its header is damaged"):
        FrameSource(tmp_path / "none", file).count()


@given(st.data())
@settings(max_examples=80)
def test_damaged_videos_give_clear_errors(tmp_path_factory, data):
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("fuzz") / "a.avi"
    write_video(path, random_pixels(3, (4, 4)))
    path.write_bytes(damage(path.read_bytes(), data))
    source = FrameSource(path.parent / "none", path)
    problems = []
    with collect_problems(problems, path):
        assert source.read(0, source.count()).dtype == np.uint8
    assert all(str(path) in str(problem) for problem in problems)


def test_without_pyav_the_error_names_the_extra(tmp_path, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    source = FrameSource(tmp_path / "none", file)
    for call in (source.count, lambda: source.read(0, 1), lambda: source.measure([])):
        with pytest.raises(ImportError, match=r"PyAV: pip install 'captum_3dcam\[video\]'"):
            call()


def test_valid_frames_are_measured(folder, file):
    problems = []
    for source in (FrameSource(folder), FrameSource(folder / "none", file)):
        assert source.measure(problems) == VideoSize(7, SIZE)
    assert problems == []


def test_every_damaged_image_is_a_problem(folder):
    (folder / "00002.png").write_bytes(b"")
    (folder / "00005.png").write_bytes(b"damaged")
    write_image(folder / "00006.png", random_pixels(1, (6, 9))[0])
    problems = []
    assert FrameSource(folder).measure(problems) is None
    assert [problem.path.name for problem in problems] == ["00002.png", "00005.png", "00006.png"]
    assert all(str(problem.path) in str(problem) for problem in problems)
