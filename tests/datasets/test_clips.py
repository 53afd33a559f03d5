"""Videos on disk as clips: paths that stay inside, frames that are read, windows that cover all."""

import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from disk import random_pixels, write_picture, write_pictures, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from captum_3dcam.datasets import _frames as frames
from captum_3dcam.datasets._files import Problem, inside, noted, read_bytes, read_lines
from captum_3dcam.datasets._frames import Footage, FrameSource, read_image, to_tensor
from captum_3dcam.datasets.clips import Truth, Video, VideoClip, VideoDataset

SIZE = (6, 8)


def naive_tensor(pixels):
    """(T, H, W, 3) bytes -> (3, T, H, W), number by number."""
    return torch.tensor(
        [
            [[[pixel[c] / 255 for pixel in row] for row in frame] for frame in pixels.tolist()]
            for c in range(3)
        ]
    )


# ----------------------------------------------------------------------------- names and text

GOOD_NAMES = ["a", "a/b", "#1_[x]_(y)&'z'_%", "..a/b..", "a b/c", "ab:c", "n02105855_2933.JPEG"]
BAD_NAMES = [
    "", ".", "..", "../a", "a/../b", "a/..", "/a", "//a/b", "a//b", "a/", "./a", "C:", "C:/a",
    "c:a", "a\\b", "..\\a", "\\\\host\\share", "a\0b", "\0",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_lies_in_its_folder(tmp_path, name):
    assert inside(tmp_path, name, "list") == tmp_path / name
    assert tmp_path in (tmp_path / name).resolve().parents


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leaves_its_folder_is_refused(name):
    with pytest.raises(ValueError) as error:
        inside(Path("data"), name, "'list.txt', line 3")
    assert str(error.value) == (
        f"'list.txt', line 3: {name!r} is not the name of something in the dataset's folder. "
        "Expected a relative path without '..', as in 'class/video'."
    )


@given(st.text(st.sampled_from("ab./\\:C\0 "), max_size=8))
@settings(max_examples=1000)
def test_whatever_is_accepted_stays_inside(name):
    root = Path("/data/set")
    try:
        path = inside(root, name, "list")
    except ValueError:
        return
    assert root in path.parents
    assert not {"", ".", ".."} & set(name.split("/"))


def test_lines_come_with_their_places(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffone \r\n\n  two\u2028x\rthree".encode())
    expected = [(1, "one"), (3, "two\u2028x"), (4, "three")]
    assert read_lines(path, "list") == [(f"{str(path)!r}, line {n}", line) for n, line in expected]


def test_text_that_is_none_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="The list '.*list.txt' is no UTF-8 text: .*0xe9"):
        read_lines(path, "list")
    for missing in (tmp_path, tmp_path / "other"):
        with pytest.raises(FileNotFoundError, match="There is no list '"):
            read_lines(missing, "list")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match="The list '.*a' cannot be read: .*Permission denied"):
        read_bytes(tmp_path / "a", "list")


def test_errors_of_data_are_noted_and_no_others(tmp_path):
    problems = []
    for error in (ValueError("one"), FileNotFoundError("two")):
        with noted(problems, tmp_path):
            raise error
    assert problems == [Problem(tmp_path, "one"), Problem(tmp_path, "two")]
    assert [str(problem) for problem in problems] == ["one", "two"]
    with pytest.raises(ImportError), noted(problems, tmp_path):
        raise ImportError
    assert len(problems) == 2


# ----------------------------------------------------------------------------------- pictures


def test_a_picture_is_read_as_it_was_written(tmp_path):
    pixels = random_pixels(1, SIZE)[0]
    write_picture(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    write_picture(tmp_path / "a.jpg", smooth)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_pictures_of_any_colours_become_rgb(tmp_path, mode):
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert(mode)
    grey.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [
        [[0] * 3, [255] * 3],
        [[255] * 3, [0] * 3],
    ]


def test_a_note_to_turn_the_picture_is_not_followed(tmp_path):
    """Boxes are of the pixels as they lie in the file."""
    pixels = random_pixels(1, SIZE)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


def test_pixels_become_a_tensor():
    pixels = random_pixels(3, SIZE)
    found = to_tensor(pixels)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found, naive_tensor(pixels))
    assert to_tensor(pixels[0]).shape == (3, *SIZE)
    ends = to_tensor(np.array([[[0, 255, 51]]], np.uint8))
    torch.testing.assert_close(ends.flatten(), torch.tensor([0, 1, 0.2]))


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no picture '.*a.png'"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(path, random_pixels(1, (32, 32))[0])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f"'.*a{suffix}' cannot be read as JPEG or PNG: "):
        read_image(path)


@pytest.mark.parametrize("kind", ["EPS", "GIF", "BMP", "TIFF"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, kind):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path, format=kind)
    with pytest.raises(ValueError, match="cannot be read as JPEG or PNG"):
        read_image(path)


def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", random_pixels(1, SIZE)[0])
    monkeypatch.setattr(frames, "_MAX_PIXELS", 48)
    assert read_image(tmp_path / "a.png").shape == (6, 8, 3)
    monkeypatch.setattr(frames, "_MAX_PIXELS", 47)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(ValueError, match="8 x 6 pixels are too many"):
        read_image(tmp_path / "a.png")


def test_a_bomb_is_refused(tmp_path):
    """A header of 60000 x 60000 pixels over a few bytes."""
    write_picture(tmp_path / "a.png", random_pixels(1, SIZE)[0])
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read as JPEG or PNG"):
        read_image(tmp_path / "a.png")


@given(st.data())
@settings(max_examples=150)
def test_damaged_pictures_give_clean_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / data.draw(st.sampled_from(["a.png", "a.jpg"]))
    write_picture(path, random_pixels(1, SIZE)[0])
    path.write_bytes(damage(path.read_bytes(), data))
    problems = []
    with noted(problems, path):
        assert read_image(path).dtype == np.uint8
    assert all(str(path) in str(problem) for problem in problems)


def damage(content, data):
    """Some bytes replaced, and perhaps the end cut off."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))])


# ------------------------------------------------------------------------------------- frames


@pytest.fixture
def pixels():
    return random_pixels(7, SIZE)


@pytest.fixture
def folder(tmp_path, pixels):
    write_pictures(tmp_path / "video", pixels)
    return tmp_path / "video"


@pytest.fixture
def file(tmp_path, pixels):
    pytest.importorskip("av")
    write_video(tmp_path / "video.avi", pixels)
    return tmp_path / "video.avi"


@pytest.mark.parametrize("name", ["{:05d}.png", "{}.png", "img_{:03d}.PNG", "v1_frame-{}.png"])
def test_numbered_pictures_are_frames(tmp_path, name):
    pixels = random_pixels(11, SIZE)
    write_pictures(tmp_path, pixels, name)
    for other in ("Thumbs.db", "._00001.png", "readme.txt", "cover.png"):
        (tmp_path / other).touch()
    source = FrameSource(tmp_path)
    assert source.count() == 11
    for start, stop in ((0, 11), (2, 3), (9, 11)):
        assert np.array_equal(source.read(start, stop), pixels[start:stop])


def test_numbers_may_begin_at_nought(tmp_path, pixels):
    for number, frame in enumerate(pixels):
        write_picture(tmp_path / f"{number}.png", frame)
    assert np.array_equal(FrameSource(tmp_path).read(0, 7), pixels)


def test_only_the_frames_asked_for_are_read(folder, pixels):
    for number in (1, 2, 5, 6, 7):
        (folder / f"{number:05d}.png").write_bytes(b"damaged")
    assert np.array_equal(FrameSource(folder).read(2, 4), pixels[2:4])


@pytest.mark.parametrize("missing", [1, 4])
def test_a_gap_is_named(folder, missing):
    (folder / f"{missing:05d}.png").unlink()
    with pytest.raises(ValueError) as error:
        FrameSource(folder).count()
    assert str(error.value) == (
        f"The folder {str(folder)!r} has 6 pictures, up to number 7, and none of number {missing}."
    )


def test_two_pictures_of_one_number_are_named(folder):
    (folder / "flow_3.png").touch()
    with pytest.raises(ValueError, match="two pictures of one number, '00003.png' and 'flow_3.png"):
        FrameSource(folder).count()


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no pictures that end on a number, as 00001.jpg does"):
        FrameSource(tmp_path).count()


def test_pictures_of_other_sizes_are_named(folder):
    write_picture(folder / "00003.png", random_pixels(1, (6, 9))[0])
    with pytest.raises(ValueError) as error:
        FrameSource(folder).read(1, 4)
    assert str(error.value) == (
        f"The picture {str(folder / '00003.png')!r} is of 9 x 6 pixels; those before it in its "
        "video are of 8 x 6."
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


def test_a_folder_wins_over_a_file(folder, file, pixels):
    write_pictures(folder, pixels[::-1])
    source = FrameSource(folder, file)
    assert source.path == folder
    assert np.array_equal(source.read(0, 7), pixels[::-1])


def test_what_is_read_may_be_changed(folder, file, pixels):
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


def test_a_video_that_has_changed_is_decoded_anew(file, pixels):
    source = FrameSource(file / "none", file)
    source.read(0, 1)
    before = file.stat().st_mtime_ns
    write_video(file, pixels[::-1])
    assert file.stat().st_mtime_ns != before
    assert np.array_equal(source.read(0, 7), pixels[::-1])


def test_a_video_may_end_two_frames_before_its_header_says(file, pixels):
    """MPEG-4 ends on frames that say: the last one again. They are counted and not shown."""
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


def test_nothing_there_is_named(tmp_path):
    for source, end in (
        (FrameSource(tmp_path / "a"), "'.*a'.$"),
        (FrameSource(tmp_path / "a", tmp_path / "a.avi"), "'.*a', and no video file '.*a.avi'.$"),
    ):
        for call in (source.count, lambda source=source: source.read(0, 1)):
            with pytest.raises(FileNotFoundError, match=f"There is no folder of frames {end}"):
                call()


@pytest.mark.parametrize("content", [b"", b"no video", bytes(1000)])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    pytest.importorskip("av")
    path = tmp_path / "a.avi"
    path.write_bytes(content)
    source = FrameSource(tmp_path / "a", path)
    for call in (source.count, lambda: source.read(0, 1)):
        with pytest.raises(ValueError, match="'.*a.avi' cannot be read as a video: "):
            call()


def test_a_truncated_video_is_named(file, tmp_path):
    content = file.read_bytes()
    # Frames lie between these two words.
    file.write_bytes(content[: (content.index(b"movi") + content.index(b"idx1")) // 2])
    source = FrameSource(tmp_path / "none", file)
    assert source.count() == 7
    problems = []
    assert source.inspect(problems) is None
    assert [problem.path for problem in problems] == [file]
    with pytest.raises(ValueError, match="'.*video.avi' (ends after . frames|cannot be read as a)"):
        source.read(0, 7)


def test_a_header_that_promises_too_much_is_refused(tmp_path, file, monkeypatch):
    monkeypatch.setattr(frames, "_MAX_FRAMES", 6)
    with pytest.raises(ValueError, match="claims to have 7 frames: its header is damaged"):
        FrameSource(tmp_path / "none", file).count()


@given(st.data())
@settings(max_examples=80)
def test_damaged_videos_give_clean_errors(tmp_path_factory, data):
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("fuzz") / "a.avi"
    write_video(path, random_pixels(3, (4, 4)))
    path.write_bytes(damage(path.read_bytes(), data))
    source = FrameSource(path.parent / "none", path)
    problems = []
    with noted(problems, path):
        assert source.read(0, source.count()).dtype == np.uint8
    assert all(str(path) in str(problem) for problem in problems)


def test_without_pyav_the_extra_is_named(tmp_path, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    source = FrameSource(tmp_path / "none", file)
    for call in (source.count, lambda: source.read(0, 1), lambda: source.inspect([])):
        with pytest.raises(ImportError, match=r"PyAV: pip install 'captum_3dcam\[video\]'"):
            call()


def test_sound_frames_are_measured(folder, file):
    problems = []
    for source in (FrameSource(folder), FrameSource(folder / "none", file)):
        assert source.inspect(problems) == Footage(7, SIZE)
    assert problems == []


def test_every_damaged_picture_is_a_problem(folder):
    (folder / "00002.png").write_bytes(b"")
    (folder / "00005.png").write_bytes(b"damaged")
    write_picture(folder / "00006.png", random_pixels(1, (6, 9))[0])
    problems = []
    assert FrameSource(folder).inspect(problems) is None
    assert [problem.path.name for problem in problems] == ["00002.png", "00005.png", "00006.png"]
    assert all(str(problem.path) in str(problem) for problem in problems)


# -------------------------------------------------------------------------------------- clips

LENGTHS = (7, 4, 1, 8)


@pytest.fixture
def videos(tmp_path):
    """Folders of frames, and their pixels."""
    written = [random_pixels(frames, SIZE, seed=frames) for frames in LENGTHS]
    sources = [FrameSource(tmp_path / f"video{i}") for i in range(len(LENGTHS))]
    for source, pixels in zip(sources, written, strict=True):
        write_pictures(source.folder, pixels)
    return [Video(f"v{i}", i % 2, source) for i, source in enumerate(sources)], written


class Boxed(VideoDataset):
    """A truth that tells its frame: box i, i, i + 1, i + 2, and one pixel (0, i) in the mask."""

    def _truth(self, video, start, stop, size):
        numbers = torch.arange(start, stop).float()
        masks = torch.zeros(1, stop - start, *size, dtype=torch.bool)
        for row, number in enumerate(range(start, stop)):
            masks[0, row, 0, number % size[1]] = True
        offsets = torch.tensor([0.0, 0, 1, 2])
        return Truth((numbers[:, None] + offsets)[None], masks)


def naive_windows(lengths, clip_length):
    """(video, [frame, ...], [is padded, ...]) of each clip, frame by frame."""
    found = []
    for video, length in enumerate(lengths):
        queue = list(range(length))
        while queue:
            numbers = []
            padded = []
            for _ in range(clip_length):
                padded.append(not queue)
                numbers.append(queue.pop(0) if queue else numbers[-1])
            found.append((video, numbers, padded))
    return found


@pytest.mark.parametrize("clip_length", [1, 3, 4, 16])
def test_clips_follow_each_other_and_the_last_is_padded(videos, clip_length):
    entries, written = videos
    data = Boxed(("a", "b"), entries, clip_length)
    expected = naive_windows(LENGTHS, clip_length)
    assert len(data) == len(expected)
    for sample, (video, numbers, padded) in zip(data, expected, strict=True):
        assert isinstance(sample, VideoClip)
        assert (sample.video, sample.label) == (f"v{video}", video % 2)
        assert sample.frames.tolist() == numbers
        assert sample.padded.tolist() == padded
        assert (sample.frames.dtype, sample.padded.dtype) == (torch.int64, torch.bool)
        torch.testing.assert_close(sample.clip, naive_tensor(written[video][numbers]))
        for row, (number, over) in enumerate(zip(numbers, padded, strict=True)):
            box = sample.boxes[0, row]
            assert (
                box.isnan().all()
                if over
                else box.tolist() == [number, number, number + 1, number + 2]
            )
            assert sample.masks[0, row].sum() == (not over)
            assert over or sample.masks[0, row, 0, number]


def test_none_gives_whole_videos(videos):
    entries, written = videos
    data = Boxed(("a", "b"), entries, None)
    assert len(data) == 4
    for sample, pixels in zip(data, written, strict=True):
        torch.testing.assert_close(sample.clip, naive_tensor(pixels))
        assert sample.frames.tolist() == list(range(len(pixels)))
        assert not sample.padded.any()
        assert sample.boxes[0, :, 0].tolist() == sample.frames.tolist()


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(1, 20))
def test_windows_cover_every_frame_once(lengths, clip_length):
    entries = [Video(str(i), 0, FrameSource(Path("none"))) for i in range(len(lengths))]
    data = VideoDataset(("a",), entries, clip_length, lengths)
    assert all(0 < stop - start <= clip_length for _, start, stop in data.clips)
    frames = [(video, i) for video, start, stop in data.clips for i in range(start, stop)]
    assert frames == [(video, i) for video, length in enumerate(lengths) for i in range(length)]
    assert len(data) == sum(math.ceil(length / clip_length) for length in lengths)


def test_without_a_truth_there_are_no_boxes(videos):
    sample = VideoDataset(("a", "b"), videos[0], 4)[1]
    assert sample.boxes.shape == (0, 4, 4)
    assert sample.masks is None
    assert sample.tubes == []


def test_given_lengths_are_believed_until_frames_are_missing(videos):
    for clip_length, broken in ((4, 2), (None, 0)):
        data = VideoDataset(("a", "b"), videos[0][:1], clip_length, [9])
        with pytest.raises(ValueError, match="video0' ends after 7 frames"):
            data[broken]


def test_one_damaged_video_leaves_the_others(videos):
    entries, _ = videos
    for path in entries[1].source.folder.iterdir():
        path.unlink()
    missing = Video("gone", 0, FrameSource(entries[0].source.folder / "gone"))
    data = VideoDataset(("a", "b"), [*entries, missing], 4)
    names = [data.videos[clip.video] for clip in data.clips]
    assert names == ["v0", "v0", "v1", "v2", "v3", "v3", "gone"]
    with pytest.raises(ValueError, match="video1' has no pictures"):
        data[2]
    with pytest.raises(FileNotFoundError, match="gone'"):
        data[6]
    assert data[3].video == "v2"
    assert [problem.path for problem in data.check()] == [
        entries[1].source.folder,
        missing.source.folder,
    ]


def test_whole_videos_open_nothing_before_they_are_read(videos, monkeypatch):
    monkeypatch.setattr(FrameSource, "count", None)
    assert len(VideoDataset(("a", "b"), videos[0], None)) == 4


@pytest.mark.parametrize("index", [-1, 7])
def test_an_index_that_is_not_there(videos, index):
    data = VideoDataset(("a", "b"), videos[0], 4)
    assert len(data) == 6
    with pytest.raises(IndexError) as error:
        data[index]
    assert str(error.value) == f"Sample {index} was asked for; there are 6, from 0."


@pytest.mark.parametrize("clip_length", [0, -1, 2.0, "16"])
def test_a_bad_clip_length_is_refused(clip_length):
    with pytest.raises(ValueError) as error:
        VideoDataset((), [], clip_length)
    assert str(error.value) == (
        f"clip_length={clip_length!r}: expected an integer, 1 or more, or None for whole videos."
    )


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), max_size=3))
def test_tubes_are_the_unbroken_runs(present):
    boxes = torch.arange(len(present) * 24.0).reshape(len(present), 6, 4)
    boxes[~torch.tensor(present, dtype=torch.bool).reshape(len(present), 6)] = math.nan
    nothing = torch.zeros(0)
    tubes = VideoClip(nothing, 0, boxes, None, "", nothing, nothing).tubes
    rows = ["".join("01"[shown] for shown in row) for row in present]
    expected = [
        (actor, run.start(), run.end())
        for actor, row in enumerate(rows)
        for run in re.finditer("1+", row)
    ]
    assert [(t.start, t.end, t.score) for t in tubes] == [(a, b, 1.0) for _, a, b in expected]
    for tube, (actor, start, end) in zip(tubes, expected, strict=True):
        assert torch.equal(tube.boxes, boxes[actor, start:end])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_give_what_indexing_gives(videos):
    data = pickle.loads(pickle.dumps(Boxed(("a", "b"), videos[0], 4)))
    bare = VideoDataset(("a", "b"), videos[0], 4)
    for dataset in (data, bare):
        loaded = list(DataLoader(dataset, batch_size=None, num_workers=1))
        assert len(loaded) == len(dataset)
        for found, expected in zip(loaded, dataset, strict=True):
            assert isinstance(found, VideoClip)
            assert torch.equal(found.clip, expected.clip)
            assert torch.equal(found.boxes.nan_to_num(-1), expected.boxes.nan_to_num(-1))
            assert (found.label, found.video) == (expected.label, expected.video)
            assert found.masks is None or torch.equal(found.masks, expected.masks)


def test_importing_the_datasets_imports_nothing_heavy():
    """PIL comes with Captum, which brings matplotlib."""
    code = (
        "import sys, captum.attr, captum_3dcam; before = set(sys.modules); "
        "import captum_3dcam.datasets, captum_3dcam.datasets.jhmdb, "
        "captum_3dcam.datasets.recognition; "
        "print([m for m in sorted(set(sys.modules) - before) "
        "if m.startswith(('av', 'PIL', 'scipy.io', 'scipy.ndimage', 'scipy.stats'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
