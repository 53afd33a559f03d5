"""The folder of a result: complete or as it was, one input's, without names of the input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from explain_command import fails, run
from PIL import Image

import captum_3dcam
from captum_3dcam.cli import _result_folder, main
from captum_3dcam.cli._errors import UsageError
from captum_3dcam.cli._result_folder import fingerprint, result_folder


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_result(names, identity="one", requested=None, default="out"):
    with result_folder(requested, default, identity) as folders:
        for name in names:
            (folders.staging / name).write_text(f"{name} of {identity}")
        report = {"input": {"fingerprint": identity}, "files": {name: name for name in names}}
        (folders.staging / "report.json").write_text(json.dumps(report))
    return folders.result


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


# -------------------------------------------------------------------------- complete, or as it was


def test_the_files_are_moved_at_the_end():
    with result_folder(None, "out", "one") as folders:
        (folders.staging / "map.npz").touch()
        assert not (folders.result / "map.npz").exists()
    assert names_in("out") == {"map.npz"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_no_new_folder_and_no_new_file(error):
    def interrupted(requested):
        with result_folder(requested, "out", "one") as folders:
            (folders.staging / "map.npz").touch()
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
        with result_folder(None, "out", "one") as folders:
            (folders.staging / "map.npz").write_text("half")
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
    message = "--output out: the folder holds the result of another input. Pass another one."
    with pytest.raises(UsageError) as error:
        write_result(["map.npz"], "two", requested=Path("out"))
    assert str(error.value) == message
    assert Path("out/map.npz").read_text() == "map.npz of one"


@pytest.mark.parametrize("name", ["figure.png", "overlay.mp4", "map_3.nii.gz", "map.npz"])
def test_a_users_own_file_of_a_results_name_is_kept(name):
    for folder in ("out", "mine"):
        Path(folder).mkdir()
        (Path(folder) / name).write_text("mine")
    with pytest.raises(UsageError) as error:
        write_result(["map.npz", "figure.png"], requested=Path("mine"))
    assert str(error.value) == (
        f"--output mine: the folder holds {name}, which is not of a result and could be "
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


def test_long_files_are_not_read_to_their_end(monkeypatch):
    monkeypatch.setattr(_result_folder, "_HEAD", 4)
    Path("a").write_bytes(b"12345")
    Path("b").write_bytes(b"12346")
    assert fingerprint([Path("a")]) == fingerprint([Path("b")])


# ----------------------------------------------------------------------------------- the command


def test_two_images_of_one_stem(folder, figures_not_drawn, capsys):
    for number, name in enumerate(("a.png", "a.bmp", "a.png")):
        Image.new("RGB", (16, 16), (90 * (number % 2), 0, 0)).save(name)
        assert main(["explain", name, "--model", "model.py:image", "--layers", "first"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith("into a_explained" if name == "a.png" else "into a_explained_2")


def test_no_output_names_the_input(folder, capsys):
    Path("doe_jane").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("doe_jane/19700101.png")
    report = run(capsys, "doe_jane/19700101.png", "image", "--layers", "first")
    assert not {"path", "name"} & set(report["input"])
    assert not {"input", "output", "series"} & set(report["settings"])
    assert not any(part in text for part in (b"doe_jane", b"19700101") for text in _contents())
    report = run(capsys, "doe_jane/19700101.png", "image", "--layers", "first", "--keep-names")
    assert report["input"]["path"] == report["settings"]["input"] == "doe_jane/19700101.png"
    assert sum(b"doe_jane" in text for text in _contents()) == 2  # report.json and map.npz


def test_the_folder_of_a_dicom_image_has_no_name_of_it(folder, figures_not_drawn, capsys):
    pydicom = pytest.importorskip("pydicom")
    shutil.copy(pydicom.data.get_testdata_file("SC_rgb_small_odd.dcm"), "DOE_JANE.dcm")
    words = ["explain", "DOE_JANE.dcm", "--model", "model.py:image", "--layers", "first"]
    assert main([*words, "--target", "1", "--size", "8", "8"]) == 0
    capsys.readouterr()
    assert names_in("scan_explained") >= {"figure.png", "map.npz", "report.json"}
    assert not Path("DOE_JANE_explained").exists()


def _contents():
    for path in Path("out").iterdir():
        yield path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:  # UTF-32 of NumPy
                yield archive.read("metadata.npy").replace(b"\0", b"")


def test_a_folder_of_another_image_is_refused(image_file, figures_not_drawn, capsys):
    path, _ = image_file
    run(capsys, path, "image", "--layers", "first")
    Image.new("RGB", (16, 16)).save("other.png")
    more = ["--layers", "first", "--output", "out"]
    message, code = fails(capsys, "other.png", "image", *more)
    assert message.startswith("--output out: the folder holds the result of another input")
    assert code == 2


def test_the_input_is_no_folder_to_write_to(folder, capsys):
    Path("frames").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (90 * number, 0, 0)).save(f"frames/{number}.png")
    message, code = fails(capsys, "frames", "clip", "--output", "frames/../frames", "--fps", "5")
    assert (message, code) == ("--output is INPUT itself. Pass another folder.", 2)


def test_without_a_standard_output(image_file, figures_not_drawn, monkeypatch):
    """As ``captum-3dcam explain ... >&-`` starts Python."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["explain", image_file[0], "--model", "model.py:image", "--layers", "first"]) == 0


def test_nobody_reads_the_output(image_file):
    """As in ``captum-3dcam explain ... --json | head -c 1``."""
    words = ["explain", image_file[0], "--model", "model.py:image", "--layers", "first", "--json"]
    env = os.environ | {"PYTHONPATH": str(Path(captum_3dcam.__file__).parent.parent)}
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "captum_3dcam.cli", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    assert names_in("image_explained") == {"map.npz", "figure.png", "report.json"}
