"""Folders of images, TIFF pages and animated WebP as videos."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from captum_3dcam.io import (
    FrameTimes,
    Sampling,
    input_kind,
    list_images,
    open_video,
    read_video,
)

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
ASSUMED = "'frames' has images without times: 25 frames per second are assumed. .*fps, or --fps"


@pytest.fixture
def folder(tmp_path):
    """Twelve PNGs, frame1 to frame12, beside files that are no frames."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(FRAMES, start=1):
        Image.fromarray(frame).save(folder / f"frame{number}.png")
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "more").mkdir()
    return folder


def test_images_are_frames_in_natural_order(folder):
    video = open_video(folder, fps=10)
    assert (video.size, video.frame_count, video.fps) == ((6, 8), 12, 10)
    np.testing.assert_array_equal(np.stack(list(video)), FRAMES)
    np.testing.assert_allclose(video.times.edges, np.arange(13) / 10)
    assert [len(chunk) for chunk in video.chunks(5)] == [5, 5, 2]


def test_names_in_natural_order(tmp_path):
    names = ["a2.png", "a02.png", "a10.png", "b1.png", "B2.png", "7.png", "10.png", "x1y2.png"]
    for name in names:
        (tmp_path / name).touch()
    expected = ["7.png", "10.png", "a02.png", "a2.png", "a10.png", "b1.png", "B2.png", "x1y2.png"]
    assert [path.name for path in list_images(tmp_path)] == expected


def test_an_image_of_another_suffix_is_a_frame(folder):
    (folder / "frame12.png").rename(folder / "frame12.dat")
    np.testing.assert_array_equal(read_video(folder, fps=10).frames, FRAMES)


def test_without_a_rate_one_is_assumed_and_said(folder):
    with pytest.warns(UserWarning, match=ASSUMED):
        video = open_video(folder)
    assert video.fps == 25


def test_frames_are_resized_and_sampled(folder):
    sampled = read_video(folder, (3, None), Sampling(stride=4, start=0.2), fps=10)
    assert sampled.frames.shape == (3, 3, 4, 3)
    np.testing.assert_allclose(sampled.times.edges, [0.2, 0.6, 1.0, 1.2])


def test_images_of_other_sizes_are_refused(folder):
    Image.new("RGB", (9, 6)).save(folder / "frame3.png")
    message = r"frame3.png' has 9 x 6 pixels, and the first image 8 x 6; expected frames of one"
    with pytest.raises(ValueError, match=message):
        read_video(folder, fps=10)


def test_a_damaged_image_is_not_left_out(folder):
    (folder / "frame3.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"frame3.png' cannot be read as an image"):
        read_video(folder, fps=10)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="has no images. Expected BMP, GIF, JPEG, PNG"):
        open_video(tmp_path, fps=10)


@pytest.fixture
def pages(tmp_path):
    images = [Image.fromarray(frame) for frame in FRAMES]

    def save(name, **more):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], **more)
        return tmp_path / name

    return save


def test_pages_of_a_tiff_are_frames(pages):
    path = pages("pages.avi", format="TIFF")  # the suffix does not count
    video = open_video(path, fps=5)
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(video)), FRAMES)
    assert video.times == FrameTimes.from_rate(12, 5)
    with pytest.warns(UserWarning, match="'pages.avi' has images without times: 25 frames"):
        open_video(path)


def test_an_animated_webp_has_its_own_times(pages):
    path = pages("moving.webp", lossless=True, duration=[40, 400, *[100] * 10])
    video = read_video(path)
    np.testing.assert_array_equal(video.frames, FRAMES)
    np.testing.assert_allclose(video.times.edges, [0, 0.04, *(0.44 + 0.1 * np.arange(11))])
    later = read_video(path, sampling=Sampling(start=0.4))
    np.testing.assert_array_equal(later.frames, FRAMES[2:])
    with pytest.raises(ValueError, match="fps=5: the frames of '.*moving.webp' have their own"):
        open_video(path, fps=5)


SHORT_DELAYS = [40, 0, 10, 20, 400, *[0] * 7]
SHOWN = [0.04, 0.1, 0.1, 0.02, 0.4, *[0.1] * 7]


@pytest.mark.parametrize("name", ["short.gif", "short.png", "short.webp"])
def test_short_delays_are_those_of_browsers(pages, name):
    video = read_video(pages(name, duration=SHORT_DELAYS, lossless=True))
    np.testing.assert_allclose(video.times.edges, np.cumsum([0, *SHOWN]), atol=1e-9)


@pytest.mark.parametrize("name", ["none.gif", "none.png", "none.webp"])
def test_frames_without_delays_are_all_read(pages, name):
    video = read_video(pages(name, duration=0, lossless=True))
    np.testing.assert_allclose(video.times.edges, 0.1 * np.arange(13), atol=1e-9)
    assert len(np.unique(video.frames.reshape(12, -1), axis=0)) == 12


def test_frames_of_a_gif_without_control_blocks_are_all_read(tmp_path):
    path = tmp_path / "old.gif"
    frames = [Image.new("RGB", (8, 6), (20 * i, 20, 30)) for i in range(12)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=0)
    path.write_bytes(re.sub(rb"!\xf9\x04.{4}\0", b"", path.read_bytes(), flags=re.DOTALL))
    video = read_video(path)
    np.testing.assert_array_equal(video.frames[:, 0, 0, 0], 20 * np.arange(12))
    np.testing.assert_allclose(video.times.edges, 0.1 * np.arange(13), atol=1e-9)


def test_the_default_image_of_an_apng_is_no_frame(pages):
    path = pages("moving.png", default_image=True, duration=40)
    video = read_video(path)
    np.testing.assert_array_equal(video.frames, FRAMES[1:])
    np.testing.assert_allclose(video.times.edges, 0.04 * np.arange(12))
    assert input_kind(path) == "video"


def test_the_transparency_of_a_gif_is_white(tmp_path):
    frames = [Image.new("RGBA", (8, 6), (i, 0, 0, 0)) for i in range(3)]
    for number, frame in enumerate(frames):
        frame.putpixel((number, 0), (255, 0, 0, 255))
    path = tmp_path / "clear.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, disposal=2)
    expected = np.full((3, 6, 8, 3), 255)
    expected[range(3), 0, range(3)] = (255, 0, 0)
    np.testing.assert_array_equal(read_video(path).frames, expected)


TRUNCATED = {
    "cut.gif": r"the frames after (0\.\d+) s are missing",
    "cut.png": r"(\d+) of 12 frames (is|are) missing, from (0\.\d+) s on",
}


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("part", [0.6, 0.97])
def test_a_truncated_animation_is_read_as_far_as_possible(pages, name, part):
    path = pages(name, duration=40)
    whole = read_video(path).frames
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert input_kind(path) == "video"
    match = f"'{name}' is truncated or damaged: {TRUNCATED[name]}. The other frames keep"
    with pytest.warns(UserWarning, match=match) as caught:
        video = open_video(path)
    frames = np.stack(list(video))
    assert 0 < len(frames) < 12
    np.testing.assert_array_equal(frames, whole[: len(frames)])
    assert f"{0.04 * len(frames):.2f} s" in video.damage
    assert len(caught) == 1


def test_a_gif_without_an_end_mark_may_lack_frames(pages):
    path = pages("cut.gif", duration=40)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="it has no end, frames after 0.48 s may be missing"):
        assert len(read_video(path).frames) == 12


def test_a_truncated_webp_is_refused_as_a_video(pages):
    path = pages("cut.webp", lossless=True, duration=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert input_kind(path) == "video"
    with pytest.raises(ValueError, match=r"cut.webp' cannot be read as a video"):
        read_video(path)


def test_a_pass_over_pages_hides_no_warnings(pages):
    def warn_at_each_frame():
        for _ in open_video(pages("moving.webp", duration=40)):
            warnings.warn("of the caller", stacklevel=1)

    with pytest.warns(UserWarning, match="of the caller"):
        warn_at_each_frame()


def test_pages_of_other_sizes_are_refused(tmp_path):
    images = [Image.new("RGB", size) for size in ((8, 6), (9, 6))]
    images[0].save(tmp_path / "pages.tif", save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match=r"page 1 of '.*pages.tif' has 9 x 6 pixels, and the fir"):
        read_video(tmp_path / "pages.tif", fps=5)


def test_a_single_image_is_no_video(tmp_path):
    for name in ("one.tif", "one.webp"):
        Image.fromarray(FRAMES[0]).save(tmp_path / name)
        with pytest.raises(ValueError, match="video: it is a single image. Read it with read_im"):
            open_video(tmp_path / name, fps=5)
