"""Which inputs a folder, a pattern, a list or a manifest names."""

import os
from pathlib import Path

import pytest
from many_inputs import write_image, write_images

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation.many._inputs import list_items


def names(inputs, output="out"):
    return [item.name for item in list_items(inputs, Path(output))]


def test_a_folder_with_those_below(folder):
    write_images("in", 3)
    Path("in/.hidden").mkdir()
    write_image(Path("in/.hidden/x.png"))
    write_image(Path("in/out/b/0.png/overlay.png"))
    Path("in/out/b/0.png/report.json").write_text("{}")
    Path("in/notes.txt").write_text("none")
    with pytest.warns(UserWarning, match=r"1 file\(s\) or .* passed over: 'notes.txt'"):
        assert names("in") == ["a/1.png", "b/0.png", "b/2.png", "damaged.png", "wide.png"]
    Path("in/notes.txt").unlink()
    assert names(Path("in").absolute()) == names("in")
    write_image(Path("in/other/x.png"))
    assert "other/x.png" in names("in")
    assert "other/x.png" not in names("in", "in/other")


def test_a_folder_of_dicom_files_is_one_input(folder):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    slices = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    Path("in/patient/series").mkdir(parents=True)
    for number in range(2):
        slices.save_as(f"in/patient/series/{number}")
    write_image(Path("in/x.png"))
    assert names("in") == ["patient/series", "x.png"]


def test_a_pattern(folder):
    write_images("in", 3)
    assert names("in/*/*.png") == ["a/1.png", "b/0.png", "b/2.png"]
    assert names("in/**/*.png") == ["a/1.png", "b/0.png", "b/2.png", "damaged.png", "wide.png"]


def test_one_file(folder):
    write_image(Path("in/x.png"))
    assert names("in/x.png") == ["x.png"]


def test_a_list_keeps_its_order(folder):
    write_images("in", 3)
    given = ["in/b/2.png", Path("in/a/1.png"), "in/b/2.png"]
    assert names(given) == ["b/2.png", "a/1.png"]


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_a_manifest(suffix, mark, folder):
    write_images("data/in", 3)
    path = Path(f"data/list{suffix}")
    rows = [("path", "target", "group"), ("in/b/2.png", "2", "test"), ("in/a/1.png", "", "")]
    path.write_text("\ufeff" + "\n".join(mark.join(row) for row in rows), encoding="utf-8")
    items = list_items(path, Path("out"))
    assert [item[1:4] for item in items] == [("b/2.png", "2", "test"), ("a/1.png", None, "")]
    assert items[0].path == Path("data/in/b/2.png").absolute()


def test_columns_in_any_case_and_others_are_said_to_be_unused(folder):
    write_images("in", 3)
    Path("list.csv").write_text("Path, Target ,label\nin/a/1.png, 2 ,9\n")
    with pytest.warns(UserWarning, match=r"only path, target, group are used, not \['label'\]"):
        (item,) = list_items("list.csv", Path("out"))
    assert (item.name, item.target) == ("1.png", "2")


def test_a_pattern_does_not_name_results(folder):
    write_images("in", 3)
    write_image(Path("in/out/a/1.png/x.png"))
    assert not any("out" in name for name in names("in/**/*.png", "in/out"))


def test_a_name_that_is_no_text(folder):
    write_image(Path("in/x.png"))
    os.rename(b"in/x.png", b"in/\xff.png")
    (item,) = list_items("in", Path("out"))
    assert item.name == "\\xff.png"
    assert item.path.exists()


def test_a_folder_that_cannot_be_opened_is_passed_over(folder, monkeypatch):
    write_images("in", 3)
    own = Path.iterdir

    def iterdir(path):
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return own(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.warns(UserWarning, match="cannot be opened, .* passed over: 'a'"):
        assert names("in") == ["b/0.png", "b/2.png", "damaged.png", "wide.png"]


def test_one_path_with_several_targets(folder):
    write_image(Path("in/x.png"))
    rows = [{"path": "in/x.png", "target": target} for target in (0, 1, 1)]
    items = list_items(rows, Path("out"))
    assert [(item.name, item.target) for item in items] == [("x.png~0", 0), ("x.png~1", 1)]


def test_keys_are_of_names_and_do_not_have_them(folder):
    write_images("in", 3)
    items = list_items("in", Path("out"))
    os.rename("in", "moved")
    assert [item.key for item in items] == [item.key for item in list_items("moved", Path("out"))]
    assert len({item.key for item in items}) == len(items)


def test_the_state_of_files_changes_with_them(folder):
    write_images("in", 3)
    (item, *_) = list_items("in", Path("out"))
    size, state = item.stat()
    assert size == item.path.stat().st_size
    assert item.stat() == (size, state)
    os.utime(item.path, (1, 1))
    assert item.stat()[1] != state
    item.path.unlink()
    assert item.stat() == (0, "")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "There is no file or folder 'nowhere'"),
        ("*.mp4", ArgumentError, r"inputs='\*\.mp4': there is nothing to explain"),
        ([], ArgumentError, r"inputs=\[\]: there is nothing to explain"),
        (3, ArgumentError, "inputs=3: expected a folder, a pattern, a list of paths, or a CSV"),
        ([3], ArgumentError, '3 is neither a path nor a dict with "path", "target" and "group"'),
        ("empty.csv", ArgumentError, "expected the columns path, target, group, of which path is "
         "needed, in UTF-8, separated by ','; received an empty file"),
        ("other.csv", ArgumentError, "of which path is needed, .* received file, target"),
        ("twice.csv", ArgumentError, "two columns have one name"),
        ([{"path": "a.png", "tgt": 1}], ArgumentError, 'is neither a path nor a dict with "path"'),
        ([{"path": "a.png", "group": 1}, {"path": "a.png", "group": 2}], ArgumentError,
         "'a.png' is named twice, with different groups or targets"),
        ("gap.csv", ArgumentError, "'gap.csv', line 3: the path is missing"),
        ("binary.csv", ArgumentError, "'binary.csv': 'utf-8' codec can't decode"),
    ],
)  # fmt: skip
def test_what_names_no_inputs(inputs, error, message, folder):
    Path("empty.csv").touch()
    Path("twice.csv").write_text("path,target,Target\na,1,2\n")
    Path("other.csv").write_text("file,target\na,1\n")
    Path("gap.csv").write_text("path,target\na,1\n,2\n")
    Path("binary.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(error, match=message):
        list_items(inputs, Path("out"))


def test_all_inputs_are_in_the_root(folder):
    write_images("in", 3)
    with pytest.raises(ArgumentError, match=r"wide\.png' is not in .*in/a', as all inputs"):
        list_items(["in/wide.png"], Path("out"), Path("in/a"))
