"""Paths that stay inside a folder, text files, problems, boxes and indices."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam.datasets._files import (
    Problem,
    box_problems,
    check_index,
    collect_problems,
    path_inside,
    read_bytes,
    read_lines,
)

GOOD_NAMES = ["a", "a/b", "#1_[x]_(y)&'z'_%", "..a/b..", "a b/c", "ab:c", "n02105855_2933.JPEG"]
BAD_NAMES = [
    "", ".", "..", "../a", "a/../b", "a/..", "/a", "//a/b", "a//b", "a/", "./a", "C:", "C:/a",
    "c:a", "a\\b", "..\\a", "\\\\host\\share", "a\0b", "\0",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_inside_the_folder_is_accepted(tmp_path, name):
    assert path_inside(tmp_path, name, "list") == tmp_path / name
    assert tmp_path in (tmp_path / name).resolve().parents


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_folder_is_refused(name):
    with pytest.raises(ValueError) as error:
        path_inside(Path("data"), name, "'list.txt', line 3")
    assert str(error.value) == (
        f"'list.txt', line 3: {name!r} is not a path inside the dataset's folder. Expected a "
        "relative path without '..', as in 'class/video'."
    )


@given(st.text(st.sampled_from("ab./\\:C\0 "), max_size=8))
@settings(max_examples=1000)
def test_every_accepted_name_is_inside_the_folder(name):
    root = Path("/data/set")
    try:
        path = path_inside(root, name, "list")
    except ValueError:
        return
    assert root in path.parents
    assert not {"", ".", ".."} & set(name.split("/"))


def test_lines_have_their_locations(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffone \r\n\n  two\u2028x\rthree".encode())
    expected = [(1, "one"), (3, "two\u2028x"), (4, "three")]
    assert read_lines(path, "list") == [(f"{str(path)!r}, line {n}", line) for n, line in expected]


def test_a_binary_file_is_not_text(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="'.*list.txt' cannot be read as UTF-8 text: .*0xe9"):
        read_lines(path, "list")
    for missing in (tmp_path, tmp_path / "other"):
        with pytest.raises(FileNotFoundError, match="There is no list '"):
            read_lines(missing, "list")


def test_the_error_names_an_unreadable_file(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match="'.*a' cannot be read as a list: .*Permission denied"):
        read_bytes(tmp_path / "a", "list")


def test_only_errors_of_data_are_collected(tmp_path):
    problems = []
    for error in (ValueError("one"), FileNotFoundError("two")):
        with collect_problems(problems, tmp_path):
            raise error
    assert problems == [Problem(tmp_path, "one"), Problem(tmp_path, "two")]
    assert [str(problem) for problem in problems] == ["one", "two"]
    with pytest.raises(ImportError), collect_problems(problems, tmp_path):
        raise ImportError
    assert len(problems) == 2


@pytest.mark.parametrize(
    "box", [[5, 6, 5, 8], [5, 6, 8, 6], [-1, 0, 4, 4], [0, -1, 4, 4], [0, 0, 33, 4], [0, 0, 4, 25]]
)
def test_a_box_needs_a_pixel_and_must_lie_in_the_image(box):
    good = [[0, 0, 32, 24], [31, 23, 32, 24]]
    assert box_problems(torch.tensor(good), (24, 32), Path("a"), "name") == []
    assert box_problems(torch.zeros(0, 4), (24, 32), Path("a"), "name") == []
    message = (
        "name: 2 of 4 boxes are empty or extend beyond the image of 32 x 24 pixels; the first is "
        f"box 1, {box}."
    )
    boxes = torch.tensor([good[0], box, box, good[1]])
    assert box_problems(boxes, (24, 32), Path("a"), "name") == [Problem(Path("a"), message)]


def test_an_index_out_of_range_is_refused():
    check_index(0, 1)
    for index, length in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(IndexError) as error:
            check_index(index, length)
        assert str(error.value) == (
            f"There is no sample {index}: the dataset has {length}, numbered from 0."
        )
