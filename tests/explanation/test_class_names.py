"""The names of classes: lists, dicts and files in their published forms."""

import json

import pytest

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation._class_names import read_names


def test_names_in_any_form(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffrun\n  golf \n\nsit\n\n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ["run", "golf", "", "sit"]
    assert read_names(str(tmp_path / "names.txt")) == ["run", "golf", "", "sit"]
    assert read_names(None) == read_names([]) == read_names({}) == []
    assert read_names(("run", "golf")) == ["run", "golf"]
    assert read_names({2: "sit", "0": "run"}) == ["run", "class 1", "sit"]
    for content in ('["run", "golf"]', '{"0": "run", "1": "golf"}'):
        (tmp_path / "names.json").write_text(content)
        assert read_names(tmp_path / "names.json") == ["run", "golf"]
    (tmp_path / "names.json").write_text("[")
    with pytest.raises(ArgumentError, match=r"class_names: '.*names\.json': Expecting value"):
        read_names(tmp_path / "names.json")


def test_names_that_cannot_be_read(tmp_path):
    with pytest.raises(ArgumentError, match=r"class_names: there is no file '.*names\.txt'\."):
        read_names(tmp_path / "names.txt")
    (tmp_path / "names.txt").write_bytes(b"run\xff")
    with pytest.raises(ValueError, match=r"class_names: '.*names\.txt' is not UTF-8 text"):
        read_names(tmp_path / "names.txt")
    with pytest.raises(ArgumentError, match="class_names=4: expected names, a dict from indices"):
        read_names(4)
    for key in ("golf", -1, None):
        with pytest.raises(ArgumentError, match=f"class_names: {key!r} is no class index"):
            read_names({key: "golf"})


# ---------------------------------------------------------------------------- lists of Kinetics

KINETICS = ["abseiling", "playing squash or racquetball", "zumba"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_map.txt", "\n".join(KINETICS) + "\n"),
        (
            "kinetics_400_labels.csv",
            "id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(KINETICS)),
        ),
        ("no_header.csv", "".join(f'{i},"{n}"\r\n' for i, n in enumerate(KINETICS))),
        ("list.json", json.dumps(KINETICS)),
        ("by_index.json", json.dumps(dict(enumerate(KINETICS)))),
        ("by_name.json", json.dumps({n: i for i, n in reversed(list(enumerate(KINETICS)))})),
        # As published by pytorchvideo: names of several words are in quotes of their own.
        (
            "kinetics_classnames.json",
            json.dumps({f'"{n}"' if " " in n else n: i for i, n in enumerate(KINETICS)}),
        ),
    ],
)
def test_published_forms(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_names(tmp_path / name) == KINETICS


def test_a_csv_of_some_classes(tmp_path):
    (tmp_path / "some.CSV").write_text('id,name\n\n3,"golf, indoors"\n1,run\n')
    assert read_names(tmp_path / "some.CSV") == ["class 0", "run", "class 2", "golf, indoors"]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("id,name\n0,run\n0,golf\n", "row 3 is '0,golf'"),
        ("0,run,fast\n", "row 1 is '0,run,fast'"),
        ("0,run\ngolf,1\n", "row 2 is 'golf,1'"),
        ("run\ngolf\n", "row 1 is 'run'"),
    ],
)
def test_a_csv_that_cannot_be_read(tmp_path, text, row):
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(ArgumentError) as error:
        read_names(tmp_path / "names.csv")
    assert str(error.value) == (
        f"class_names: {str(tmp_path / 'names.csv')!r}: expected rows of a new index and a name, "
        f"as in '0,abseiling', after a header or not; {row}."
    )


def test_two_names_of_one_index():
    with pytest.raises(ArgumentError, match="class_names: 'run' and 'golf' have the same index, 1"):
        read_names({"run": 1, "golf": 1})
