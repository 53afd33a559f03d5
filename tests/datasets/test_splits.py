"""Split files, lists of videos and of classes: their content, and errors that name the line."""

from pathlib import Path

import pytest
from datasets_on_disk import ODD_NAME
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam.datasets._files import collect_problems
from captum_3dcam.datasets._splits import read_class_index, read_class_splits, read_video_list

LIST = Path(__file__).parents[3] / "shared" / "data" / "ucf24" / "testlist01.txt"


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
    classes = ["shoot_bow", "wave"]
    train = [f"shoot_bow/{ODD_NAME}", "wave/b c", "wave/d"]
    assert read_class_splits(tmp_path, ("none", "."), "train", 1) == (classes, train)
    assert read_class_splits(tmp_path, ["."], "test", 1) == (classes, ["wave/a"])
    assert read_class_splits(tmp_path, ["."], "train", 2) == (["wave"], ["wave/a"])


def test_invalid_subsets_and_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="subset='val' is not known"):
        read_class_splits(tmp_path, ["."], "val", 1)
    with pytest.raises(ValueError, match="split=4 is not known"):
        read_class_splits(tmp_path, ["."], "test", 4)
    with pytest.raises(FileNotFoundError) as error:
        read_class_splits(tmp_path, ["a", "."], "test", 1)
    searched = f"{str(tmp_path / 'a')!r} or {str(tmp_path)!r}"
    assert str(error.value) == f"There is no file '?*_test_split1.txt' in {searched}."


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a 1", "a.avi one", "1", "a.avi1", ".avi 1"])
def test_the_error_names_a_malformed_line_of_a_split(tmp_path, line):
    path, text = tmp_path / "wave_test_split1.txt", f"b.avi 1\n{line}\n"
    message = message_of(path, text, lambda _: read_class_splits(tmp_path, ["."], "test", 1))
    assert message == f"line 2: expected a video and 0, 1 or 2, as in 'name.avi 1'; got {line!r}."


def test_the_error_names_a_video_listed_twice(tmp_path):
    path = tmp_path / "wave_test_split1.txt"
    text = "a.avi 1\nb.avi 1\na.avi 2\n"
    message = message_of(path, text, lambda _: read_class_splits(tmp_path, ["."], "test", 1))
    assert message == "line 3: 'a' is listed twice."
    assert message_of(path, "c/a\nc/a.avi\n", read_video_list) == "line 2: 'c/a' is listed twice."
    assert message_of(path, "1 a\n2 a\n", read_class_index) == "line 2: 'a' is listed twice."


def test_a_list_of_videos(path):
    path.write_text("B/v_1.avi 2\r\n\nA/v_2\nB/v_3.avi\n")
    assert read_video_list(path) == ["B/v_1", "A/v_2", "B/v_3"]
    assert read_video_list(path, ("A", "B")) == ["B/v_1", "A/v_2", "B/v_3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A/v.avi 1 2", "expected 'class/video.avi' and at most one label; got 'A/v.avi 1 2'."),
        ("v.avi 1", "expected a name of the form 'class/video'; got 'v'."),
        ("A/b/c.avi", "expected a name of the form 'class/video'; got 'A/b/c'."),
        ("../v.avi", "'../v' is not a path inside the dataset's folder. Expected a"),
        ("/etc/passwd", "'/etc/passwd' is not a path inside the dataset's folder. Ex"),
        ("Bow/v.avi", "the class 'Bow' is not in the list of classes."),
        ("Bowling/v.avi 1", "'Bowling' is class 2; the label is '1'."),
        ("Bowling/v.avi two", "'Bowling' is class 2; the label is 'two'."),
    ],
)
def test_the_error_names_a_malformed_line_of_a_list(path, line, message):
    text = f"A/v.avi 1\n{line}\n"
    received = message_of(path, text, lambda path: read_video_list(path, ("A", "Bowling")))
    assert received.startswith(f"line 2: {message}")


def test_a_list_of_classes(path):
    path.write_text("1 Archery\n2 YoYo\r\n")
    assert read_class_index(path) == ["Archery", "YoYo"]


@pytest.mark.parametrize("line", ["3 YoYo", "YoYo", "2", "2 Yo Yo", "02 YoYo"])
def test_the_error_names_a_malformed_line_of_the_classes(path, line):
    assert message_of(path, f"1 Archery\n{line}\n", read_class_index) == (
        f"line 2: expected the number 2 and a class, as in '2 Archery'; got {line!r}."
    )
    message = message_of(path, "1 a/b", read_class_index)
    assert message == "line 1: expected a name of the form 'class'; got 'a/b'."


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
def test_damaged_lists_give_clear_errors(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "lists"
    root.mkdir(exist_ok=True)
    path = root / "a_test_split1.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (
        lambda: read_class_splits(root, ["."], "test", 1)[1],
        lambda: read_video_list(path),
        lambda: read_class_index(path),
    ):
        problems = []
        with collect_problems(problems, path):
            assert all(root in (root / name).resolve().parents for name in read())
        assert all(str(path) in str(problem) for problem in problems)
