"""The folder that ``captum-3dcam explain`` writes: one input's, without names of the input."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from explain_command import fails, run
from PIL import Image

import captum_3dcam
from captum_3dcam.cli import main


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


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
    assert not any(part in text for part in (b"doe_jane", b"19700101") for _, text in _contents())
    assert report["command"] == (
        "captum-3dcam explain INPUT --model model.py:image --output DIR --json "
        "--method GlobalLocal --layers first"
    )
    report = run(capsys, "doe_jane/19700101.png", "image", "--layers", "first", "--keep-names")
    assert report["input"]["path"] == report["settings"]["input"] == "doe_jane/19700101.png"
    assert "explain doe_jane/19700101.png --model" in report["command"]
    contents = {name for name, text in _contents() if b"doe_jane" in text}
    assert contents == {"report.json", "report.html", "map.npz"}


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
        yield path.name, path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:  # UTF-32 of NumPy
                yield path.name, archive.read("metadata.npy").replace(b"\0", b"")


def test_a_folder_of_another_image_is_refused(image_file, figures_not_drawn, capsys):
    path, _ = image_file
    run(capsys, path, "image", "--layers", "first")
    Image.new("RGB", (16, 16)).save("other.png")
    more = ["--layers", "first", "--output", "out"]
    message, code = fails(capsys, "other.png", "image", *more)
    assert message.startswith("output 'out': the folder holds the result of another input")
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
    assert names_in("image_explained") == {"report.html", "map.npz", "figure.png", "report.json"}
