"""All readers and writers: optional imports, atomic writes, errors that name the file."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from captum_3dcam import _files, io
from captum_3dcam.io import Volume

FRAMES = np.zeros((3, 16, 16, 3), np.uint8)
VOLUME = Volume(np.ones((2, 3, 4)), np.eye(4))


def write_mp4(path):
    pytest.importorskip("av")
    io.write_video(FRAMES, path, 25)


def write_gif(path):
    io.write_video(FRAMES, path, 25)


def write_nifti(path):
    pytest.importorskip("nibabel")
    io.write_nifti(VOLUME, path)


def save_map(path):
    io.save_map(FRAMES, path, {"fps": 25})


WRITERS = [
    ("out.mp4", write_mp4),
    ("out.gif", write_gif),
    ("out.nii", write_nifti),
    ("out.nii.gz", write_nifti),
    ("OUT.NPZ", save_map),
]
EXTRAS = [
    ("av", "video", lambda: io.read_video("clip.mp4")),
    ("av", "video", lambda: io.open_video("clip.mp4")),
    ("av", "video", lambda: io.write_video(FRAMES, "clip.mp4", 25)),
    ("nibabel", "medical", lambda: io.read_nifti("scan.nii")),
    ("nibabel", "medical", lambda: io.write_nifti(VOLUME, "scan.nii")),
    ("pydicom", "medical", lambda: io.read_dicom("scan")),
]


def test_importing_io_imports_no_optional_package():
    code = (
        "import sys, captum_3dcam; before = set(sys.modules); import captum_3dcam.io\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'av', 'nibabel', 'pydicom', 'PIL', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("module", "extra", "call"), EXTRAS)
def test_without_an_optional_package_its_extra_is_named(monkeypatch, tmp_path, module, extra, call):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"need.*: pip install 'captum_3dcam\[{extra}\]'\.$"):
        call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_a_file_has_default_permissions_and_replaces_an_existing_one(tmp_path, name, write):
    path = tmp_path / name
    path.write_bytes(b"old")
    other = tmp_path / "other"
    other.touch()
    write(path)
    assert path.stat().st_size > 3
    assert path.stat().st_mode == other.stat().st_mode
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "other"}


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_an_interrupted_write_keeps_the_existing_file(tmp_path, monkeypatch, name, write):
    (tmp_path / name).write_bytes(b"old")
    written = []

    def interrupted(self, target):
        written.append(self.stat().st_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name)
    assert written[0] > 3
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"old")]


@pytest.mark.parametrize(("name", "write"), WRITERS[:-1])  # NumPy stores the time in an .npz
def test_equal_content_gives_equal_files(tmp_path, monkeypatch, name, write):
    contents = []
    for day in (1, 2):
        monkeypatch.setattr(time, "time", lambda day=day: 86400.0 * day)
        write(tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_a_symbolic_link_is_replaced_and_its_target_kept(tmp_path, monkeypatch, name, write):
    outside = tmp_path / "outside"
    outside.write_bytes(b"of another program")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / name).symlink_to(outside)
    (tmp_path / "folder").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    write(Path("folder") / name)  # links of folders are followed
    assert outside.read_bytes() == b"of another program"
    written = tmp_path / "real" / name
    assert written.is_file()
    assert not written.is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == [name]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_an_invalid_suffix_or_folder_is_named(tmp_path, name, write):
    with pytest.raises(ValueError, match=r"'.*out\.txt' should end on \."):
        write(tmp_path / "out.txt")
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nowhere' to write to"):
        write(tmp_path / "nowhere" / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [io.read_video, io.read_image, io.read_nifti, io.load_map])
def test_a_folder_is_not_read_as_a_file(tmp_path, read):
    pytest.importorskip("av")
    pytest.importorskip("nibabel")
    with pytest.raises(FileNotFoundError, match=r"There is no .* '.*folder'"):
        read(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    # Of a video, a folder has the frames.
    error = ValueError if read is io.read_video else FileNotFoundError
    with pytest.raises(error, match=r"There is no .* '.*folder'|'.*folder' has no images"):
        read(tmp_path / "folder")


def test_a_memory_error_is_not_reported_as_a_damaged_file():
    with pytest.raises(MemoryError), _files.wrap_read_errors("a.nii", "NIfTI"):
        raise MemoryError
    # PyAV raises a subclass for a damaged file that requests too much memory.
    claimed = type("Claimed", (OSError, MemoryError), {})
    with (
        pytest.raises(ValueError, match="cannot be read as a video"),
        _files.wrap_read_errors("a", "a video"),
    ):
        raise claimed
