"""The folder of a result: complete or as it was, one input's, without names of the input."""

import json
import os
import signal
from pathlib import Path

import pytest

from captum_3dcam.explanation import ArgumentError
from captum_3dcam.explanation._identity import fingerprint
from captum_3dcam.explanation._result_folder import resolve_folder, writing


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_result(names, identity="one", requested=None, default="out"):
    folder = resolve_folder(requested, default, identity)
    with writing(folder) as staging:
        for name in names:
            (staging / name).write_text(f"{name} of {identity}")
        report = {"input": {"fingerprint": identity}, "files": {name: name for name in names}}
        (staging / "report.json").write_text(json.dumps(report))
    return folder


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


# -------------------------------------------------------------------------- complete, or as it was


def test_the_files_are_moved_at_the_end():
    with writing(Path("out")) as staging:
        (staging / "map.npz").touch()
        assert not Path("out/map.npz").exists()
    assert names_in("out") == {"map.npz"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_no_new_folder_and_no_new_file(error):
    def interrupted(folder):
        with writing(folder) as staging:
            (staging / "map.npz").touch()
            raise error

    with pytest.raises(error):
        interrupted(Path("a/new/one"))
    assert names_in(".") == set()
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    with pytest.raises(error):
        interrupted(Path("mine"))
    assert names_in("mine") == {"notes.txt"}


def test_an_error_keeps_the_earlier_result():
    def interrupted():
        with writing(Path("out")) as staging:
            (staging / "map.npz").write_text("half")
            raise KeyboardInterrupt

    write_result(["map.npz", "overlay_1.mp4"])
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names_in("out") == {"map.npz", "overlay_1.mp4", "report.json"}
    assert Path("out/map.npz").read_text() == "map.npz of one"


def test_ctrl_c_while_the_files_are_moved_waits_until_all_are(monkeypatch):
    replace = Path.replace

    def interrupted(path, target):
        signal.raise_signal(signal.SIGINT)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_result(["map.npz", "figure.png"])
    assert names_in("out") == {"map.npz", "figure.png", "report.json"}


# ------------------------------------------------------------------------ one input, no stale files


def test_what_a_new_result_does_not_have_is_deleted_and_nothing_else():
    write_result(["map.npz", "overlay_0.mp4", "overlay_1.mp4", "map_3.nii.gz"])
    Path("out/notes.txt").write_text("mine")
    write_result(["map.npz", "overlay.mp4"])
    assert names_in("out") == {"map.npz", "overlay.mp4", "report.json", "notes.txt"}


@pytest.mark.parametrize("name", ["../kept.png", "notes.txt", "figure/../notes.txt", 7])
def test_a_report_cannot_have_other_files_deleted(name):
    write_result(["map.npz"])
    for kept in ("kept.png", "out/notes.txt"):
        Path(kept).write_text("mine")
    report = {"input": {"fingerprint": "one"}, "files": {"map": name}}
    Path("out/report.json").write_text(json.dumps(report))
    write_result(["map.npz"])
    assert Path("kept.png").exists()
    assert Path("out/notes.txt").exists()


def test_each_input_has_its_own_default_folder():
    assert [str(write_result([], identity)) for identity in ("a", "b", "c", "b", "a")] == [
        "out", "out_2", "out_3", "out_2", "out",
    ]  # fmt: skip


@pytest.mark.parametrize("report", [None, "{", "[]", '{"input": 3}', '{"input": {}}'])
def test_a_requested_folder_of_another_input_is_refused(report):
    write_result(["map.npz"])
    if report is not None:
        Path("out/report.json").write_text(report)
    message = "output 'out': the folder holds the result of another input. Pass another one."
    with pytest.raises(ArgumentError) as error:
        write_result(["map.npz"], "two", requested=Path("out"))
    assert str(error.value) == message
    assert Path("out/map.npz").read_text() == "map.npz of one"


@pytest.mark.parametrize(
    "name",
    [
        "figure.png",
        "overlay.mp4",
        "map_3.nii.gz",
        "map.npz",
        "report.html",
        "maps.npz",
        "layers.png",
    ],
)
def test_a_users_own_file_of_a_results_name_is_kept(name):
    for folder in ("out", "mine"):
        Path(folder).mkdir()
        (Path(folder) / name).write_text("mine")
    with pytest.raises(ArgumentError) as error:
        write_result(["map.npz", "figure.png"], requested=Path("mine"))
    assert str(error.value) == (
        f"output 'mine': the folder holds {name}, which is not of a result and could be "
        "overwritten. Pass another one."
    )
    assert str(write_result(["map.npz", "figure.png"])) == "out_2"  # the default is out
    assert Path("mine", name).read_text() == Path("out", name).read_text() == "mine"


def test_a_result_inside_of_its_input_is_no_part_of_it():
    Path("frames/sub").mkdir(parents=True)
    Path("frames/1.png").write_text("1")
    Path("frames/sub/2.png").write_text("2")
    before = fingerprint([Path("frames")])
    assert write_result(["map.npz"], before, Path("frames/out")) == Path("frames/out")
    Path("frames/.hidden").write_text("3")
    assert fingerprint([Path("frames")]) == before
    Path("frames/sub/2.png").write_text("4")
    assert fingerprint([Path("frames")]) != before


def test_inputs_are_told_apart_by_their_bytes():
    Path("a").write_bytes(b"1" * 100)
    Path("b").write_bytes(b"1" * 100)
    assert fingerprint([Path("a")]) == fingerprint([Path("b")])
    Path("b").write_bytes(b"1" * 99 + b"2")
    assert fingerprint([Path("a")]) != fingerprint([Path("b")])
    Path("b").write_bytes(b"1" * 101)
    assert fingerprint([Path("a")]) != fingerprint([Path("b")])
    for name, parts in (("c", ["x", "y"]), ("d", ["x", "z"]), ("e", ["x"])):
        Path(name).mkdir()
        for number, part in enumerate(parts):
            (Path(name) / f"{number}").write_text(part)
    assert len({fingerprint([Path(name)]) for name in "cde"}) == 3
    assert fingerprint([Path("a"), Path("b")]) != fingerprint([Path("a")])


def test_files_are_told_apart_by_their_last_byte_and_their_last_file():
    for name, last in (("a", b"2"), ("b", b"3")):
        Path(name).mkdir()
        for number in range(70):
            (Path(name) / f"{number:02}").write_bytes(
                bytes(2**16) + (last if number == 69 else b"1")
            )
    assert fingerprint([Path("a")]) != fingerprint([Path("b")])
    for name, last in (("c", b"2"), ("d", b"3")):
        Path(name).write_bytes(bytes(2**21) + last)
    assert fingerprint([Path("c")]) != fingerprint([Path("d")])


def test_a_file_where_the_folder_should_be():
    Path("file").touch()
    for folder in ("file", "file/out"):
        with pytest.raises(ArgumentError, match=r"output '\S+': a file of that name exists\."):
            resolve_folder(Path(folder), "", "one")


def test_a_folder_that_nothing_can_be_written_to(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != Path.cwd() / "locked")
    Path("locked").mkdir()
    requested = Path.cwd() / "locked/new/out"
    with pytest.raises(ArgumentError) as error:
        resolve_folder(requested, "", "one")
    parent = str(Path.cwd() / "locked")
    assert str(error.value) == (
        f"output {str(requested)!r}: the folder {parent!r} cannot be written to."
    )
    assert names_in("locked") == set()
