"""UCF101 and HMDB51 on disk: the right videos with the right labels; each wrong line named."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from disk import ODD_NAME, write_hmdb51, write_ucf101, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from captum_3dcam.datasets import HMDB51, UCF101
from captum_3dcam.datasets._files import noted
from captum_3dcam.datasets._splits import read_class_index, read_class_splits, read_video_list

BOTH = [(UCF101, write_ucf101), (HMDB51, write_hmdb51)]
LIST = Path(__file__).parents[3] / "shared" / "data" / "ucf24" / "testlist01.txt"


# ----------------------------------------------------------------------------------- sound data


@pytest.mark.parametrize(("dataset", "write"), BOTH)
@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_every_video_is_as_it_was_written(tmp_path, dataset, write, subset, split):
    written = write(tmp_path)
    data = dataset(str(tmp_path), subset, split, clip_length=None)
    expected = [video for video in written if video.subsets[split - 1] == subset]
    assert data.classes == tuple(sorted({video.name.split("/")[0] for video in written}))
    assert data.videos == tuple(video.name for video in expected)
    assert data.labels == tuple(video.label for video in expected)
    assert len(data) == len(expected) > 0
    for sample, video in zip(data, expected, strict=True):
        assert (sample.video, sample.label) == (video.name, video.label)
        assert data.classes[sample.label] == video.name.split("/")[0]
        pixels = (sample.clip * 255).round().movedim(0, -1).numpy()
        assert np.array_equal(pixels, video.pixels)
        assert sample.boxes.shape == (0, len(video.pixels), 4)
        assert sample.masks is None
    assert data.check() == []


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_clips_of_sixteen_frames(tmp_path, dataset, write):
    written = [video for video in write(tmp_path) if video.subsets[0] == "test"]
    data = dataset(tmp_path)
    assert [len(video.pixels) for video in written] == [7, 20, 16]
    assert [(sample.video, sample.frames[0].item()) for sample in data] == [
        (written[0].name, 0), (written[1].name, 0), (written[1].name, 16), (written[2].name, 0),
    ]  # fmt: skip
    assert [sample.padded.sum().item() for sample in data] == [9, 0, 12, 0]
    assert all(sample.boxes.shape == (0, 16, 4) for sample in data)


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_video_files_do_as_well(tmp_path, dataset, write):
    pytest.importorskip("av")
    written = write(tmp_path)
    expected = [sample.clip for sample in dataset(tmp_path)]
    for video in written:
        shutil.rmtree(tmp_path / video.name)
        write_video(tmp_path / f"{video.name}.avi", video.pixels)
    data = dataset(tmp_path)
    assert len(data) == len(expected)
    assert all(torch.equal(sample.clip, clip) for sample, clip in zip(data, expected, strict=True))
    assert data.check() == []


def test_subsets_share_no_video_and_the_unused_are_in_neither(tmp_path):
    written = write_hmdb51(tmp_path)
    for split in (1, 2, 3):
        train, test = (set(HMDB51(tmp_path, name, split).videos) for name in ("train", "test"))
        unused = {video.name for video in written if video.subsets[split - 1] == "unused"}
        assert not train & test
        assert train | test | unused == {video.name for video in written}
    assert unused


@pytest.mark.parametrize("folder", ["splits", "."])
def test_the_splits_of_hmdb51_may_lie_elsewhere(tmp_path, folder):
    write_hmdb51(tmp_path)
    videos = HMDB51(tmp_path).videos
    (tmp_path / folder).mkdir(exist_ok=True)
    for path in (tmp_path / "testTrainMulti_7030_splits").iterdir():
        shutil.move(path, tmp_path / folder)
    assert HMDB51(tmp_path).videos == videos != ()


def test_the_lists_of_ucf101_may_lie_beside_the_videos(tmp_path):
    write_ucf101(tmp_path)
    videos = UCF101(tmp_path).videos
    for path in (tmp_path / "ucfTrainTestlist").iterdir():
        shutil.move(path, tmp_path)
    assert UCF101(tmp_path).videos == videos != ()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_workers_give_what_indexing_gives(tmp_path, dataset, write):
    write(tmp_path)
    data = pickle.loads(pickle.dumps(dataset(tmp_path)))
    loaded = list(DataLoader(data, batch_size=None, num_workers=1))
    for found, expected in zip(loaded, data, strict=True):
        assert torch.equal(found.clip, expected.clip)
        assert (found.video, found.label) == (expected.video, expected.label)


# --------------------------------------------------------------------------------- wrong choices


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_bad_choices_are_refused(tmp_path, dataset, write):
    write(tmp_path)
    for keywords, message in (
        ({"subset": "val"}, "subset='val' is not known. Choose one of 'train', 'test'."),
        ({"split": 0}, "split=0 is not known. Choose one of 1, 2, 3."),
        ({"clip_length": 0}, "clip_length=0: expected an integer, 1 or more"),
    ):
        with pytest.raises(ValueError) as error:
            dataset(tmp_path, **keywords)
        assert str(error.value).startswith(message)


def test_lists_that_are_missing_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file 'classInd.txt' in '.*ucfTrain"):
        UCF101(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file '\?\*_test_split1.txt' in '.*splits' or"):
        HMDB51(tmp_path)
    write_ucf101(tmp_path)
    (tmp_path / "ucfTrainTestlist" / "testlist02.txt").unlink()
    with pytest.raises(FileNotFoundError, match="There is no list of videos '.*testlist02.txt'"):
        UCF101(tmp_path, split=2)


# ---------------------------------------------------------------------------------- damaged data


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_all_problems_come_at_once(tmp_path, dataset, write):
    first, second, third = (video for video in write(tmp_path) if video.subsets[0] == "test")
    shutil.rmtree(tmp_path / first.name)
    (tmp_path / second.name / "00003.png").unlink()
    (tmp_path / third.name / "00016.png").write_bytes(b"")
    data = dataset(tmp_path)
    problems = data.check()
    assert [problem.path for problem in problems] == [
        tmp_path / f"{first.name}.avi",
        tmp_path / second.name,
        tmp_path / third.name / "00016.png",
    ]
    for video in (first, second, third):
        index = [data.videos[clip.video] for clip in data.clips].index(video.name)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            data[index]
        assert ODD_NAME in str(error.value) or "v_" in str(error.value)
        assert str(error.value) in [str(problem) for problem in problems]


# ------------------------------------------------------------------------------------- the lists


@pytest.fixture
def path(tmp_path):
    return tmp_path / "list.txt"


def message_of(path, text, read):
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read(path)
    return str(error.value).removeprefix(f"{str(path)!r}, ")


def test_class_splits(tmp_path):
    (tmp_path / "wave_test_split1.txt").write_text("b c.avi 1 \na.avi  2\r\n\nz.avi 0\nd.avi 1")
    (tmp_path / "shoot_bow_test_split1.txt").write_text(f"{ODD_NAME}.avi 1\n")
    (tmp_path / "wave_test_split2.txt").write_text("a.avi 1\n")
    (tmp_path / "_test_split1.txt").write_text("damaged")
    assert read_class_splits(tmp_path, 1, "train") == {
        "shoot_bow": [ODD_NAME],
        "wave": ["b c", "d"],
    }
    assert read_class_splits(tmp_path, 1, "test") == {"shoot_bow": [], "wave": ["a"]}
    assert read_class_splits(tmp_path, 2, "train") == {"wave": ["a"]}


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a 1", "a.avi one", "1", "a.avi1", ".avi 1"])
def test_a_bad_line_of_a_split_is_named(tmp_path, line):
    path = tmp_path / "wave_test_split1.txt"
    found = message_of(path, f"b.avi 1\n{line}\n", lambda _: read_class_splits(tmp_path, 1, "test"))
    assert found == (f"line 2: expected a video and 0, 1 or 2, as in 'name.avi 1'; got {line!r}.")


def test_a_video_listed_twice_is_named(tmp_path):
    path = tmp_path / "wave_test_split1.txt"
    text = "a.avi 1\nb.avi 1\na.avi 2\n"
    found = message_of(path, text, lambda _: read_class_splits(tmp_path, 1, "test"))
    assert found == "line 3: 'a' is listed twice."
    assert message_of(path, "c/a\nc/a.avi\n", read_video_list) == "line 2: 'c/a' is listed twice."
    assert message_of(path, "1 a\n2 a\n", read_class_index) == "line 2: 'a' is listed twice."


def test_a_list_of_videos(path):
    path.write_text("B/v_1.avi 2\r\n\nA/v_2\nB/v_3.avi\n")
    assert read_video_list(path) == ("B/v_1", "A/v_2", "B/v_3")
    assert read_video_list(path, ("A", "B")) == ("B/v_1", "A/v_2", "B/v_3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A/v.avi 1 2", "expected 'class/video.avi', and a label or none; got 'A/v.avi 1 2'."),
        ("v.avi 1", "expected a name of the form 'class/video'; got 'v'."),
        ("A/b/c.avi", "expected a name of the form 'class/video'; got 'A/b/c'."),
        ("../v.avi", "'../v' is not the name of something in the dataset's folder. Expected a"),
        ("/etc/passwd", "'/etc/passwd' is not the name of something in the dataset's folder. Ex"),
        ("Bow/v.avi", "there is no class 'Bow'. The nearest are 'Bowling'."),
        ("Zzz/v.avi", "there is no class 'Zzz'. The nearest are 'A', 'Bowling'."),
        ("Bowling/v.avi 1", "'Bowling' is class 2; the label is '1'."),
        ("Bowling/v.avi two", "'Bowling' is class 2; the label is 'two'."),
    ],
)
def test_a_bad_line_of_a_list_is_named(path, line, message):
    found = message_of(
        path, f"A/v.avi 1\n{line}\n", lambda path: read_video_list(path, ("A", "Bowling"))
    )
    assert found.startswith(f"line 2: {message}")


def test_a_list_of_classes(path):
    path.write_text("1 Archery\n2 YoYo\r\n")
    assert read_class_index(path) == ("Archery", "YoYo")


@pytest.mark.parametrize("line", ["3 YoYo", "YoYo", "2", "2 Yo Yo", "02 YoYo"])
def test_a_bad_line_of_the_classes_is_named(path, line):
    assert message_of(path, f"1 Archery\n{line}\n", read_class_index) == (
        f"line 2: expected the number 2 and a class, as in '2 Archery'; got {line!r}."
    )
    found = message_of(path, "1 a/b", read_class_index)
    assert found == "line 1: expected a name of the form 'class'; got 'a/b'."


@pytest.mark.skipif(not LIST.exists(), reason=f"no list at {LIST}")
def test_the_real_list_of_ucf101_24():
    videos = read_video_list(LIST)
    assert len(videos) == 910
    assert len({name.split("/")[0] for name in videos}) == 24
    assert videos[0] == "Basketball/v_Basketball_g01_c01"


PIECES = [*"ab12/.\\ \t\n\r\0:\u20ac", ".avi", "..", "a/b.avi 1", "1 a\n"]
LINES = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@given(LINES | st.binary(max_size=40))
@settings(max_examples=400)
def test_damaged_lists_give_clean_errors(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "lists"
    root.mkdir(exist_ok=True)
    path = root / "a_test_split1.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (
        lambda: read_class_splits(root, 1, "test")["a"],
        lambda: read_video_list(path),
        lambda: read_class_index(path),
    ):
        problems = []
        with noted(problems, path):
            assert all(root in (root / name).resolve().parents for name in read())
        assert all(str(path) in str(problem) for problem in problems)
