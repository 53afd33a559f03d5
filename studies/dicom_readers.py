"""Which library reads which DICOM files right?

A table: kinds of files (``_dicom_cases.py``) in rows, libraries in columns. "right": values and
positions of all voxels are those of the standard's formula. "warned": not right, or nothing that
can be right, with a warning. Where several volumes are in a case, a library that returns one of
them unmentioned is wrong.

    python studies/dicom_readers.py
    python studies/dicom_readers.py --damaged 200    # do damaged files end the process?

Needs the extra ``medical``; SimpleITK, dcm2niix and highdicom have a column where they are
installed.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from _arguments import at_least, make_parser
from _dicom_cases import CASES, RAS, Expected
from _dicom_damage import damage_rows
from _report import print_table

Read = Callable[[Path], Any]


class SeveralError(Exception):
    """More than one volume was returned."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--damaged", type=at_least(1), metavar="N", help="files per compression")
    damaged = parser.parse_args(arguments).damaged
    if damaged:
        decoders = {"this package": ("SimpleITK", _read_captum_3dcam), **_DECODERS}
        readers = {name: read for name, (module, read) in decoders.items() if _is_installed(module)}
        print_table(["", *readers], damage_rows(readers, damaged))
        return
    readers = {name: read for name, (module, read) in READERS.items() if _is_installed(module)}
    print_table(["", *readers], _rows(readers))


def _is_installed(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        print(f"{module} is not installed: no column.", file=sys.stderr)
        return False
    return True


def _rows(readers: dict[str, Read]) -> Iterator[list[str]]:
    for name, make in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    expected = make(Path(folder))
            except FileNotFoundError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            yield [name, *(judge(read, Path(folder), expected) for read in readers.values())]


def judge(read: Read, folder: Path, expected: Expected) -> str:
    """Right, wrong or refused."""
    with warnings.catch_warnings(record=True) as messages, _stderr() as printed:
        warnings.simplefilter("always")
        try:
            received = read(folder)
        except SeveralError as error:
            return "right" if expected.data is None else f"{error}"
        except Exception as error:
            kind = type(error).__name__
            right = expected.data is None and isinstance(error, (ValueError, RuntimeError))
            return "right" if right else f"refused ({kind})"
    told = bool(printed[0].strip()) or any(
        issubclass(message.category, UserWarning) for message in messages
    )
    problem = "read unmentioned" if expected.data is None else difference(received, expected)
    return "right" if not problem else f"warned ({problem})" if told else f"**wrong** ({problem})"


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """What C++ code prints to the standard error."""
    text = [""]
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            text[0] = file.read().decode(errors="replace")


def difference(received: Expected, expected: Expected) -> str:
    """The difference between two volumes whose axes may be in another order or direction."""
    assert received.data is not None
    assert received.affine is not None
    assert expected.data is not None
    assert expected.affine is not None
    if sorted(received.data.shape) != sorted(expected.data.shape):
        return "shape " + " x ".join(map(str, received.data.shape))
    change = np.linalg.inv(expected.affine) @ received.affine
    axes = np.round(change[:3, :3]).astype(int)
    size = max(expected.data.shape)
    if np.abs(change[:3, :3] - axes).max() * size > 0.1 or (np.abs(axes).sum(0) != 1).any():
        return "geometry"
    source = np.abs(axes).argmax(0)
    data = received.data.transpose(np.argsort(source))
    flips = [axis for axis in range(3) if axes[axis].sum() < 0]
    data = np.flip(data, flips)
    origin = [expected.data.shape[axis] - 1 if axis in flips else 0 for axis in range(3)]
    if np.abs(change[:3, 3] - origin).max() > 0.05:
        return "origin"
    scale = max(np.abs(expected.data).max(), 1)
    if data.shape != expected.data.shape or np.abs(data - expected.data).max() > 1e-5 * scale:
        return "values"
    return ""


def read_captum_3dcam(folder: Path) -> Expected:
    from captum_3dcam.io import read_dicom

    volume = read_dicom(folder)
    return Expected(volume.data, volume.affine)


def read_simpleitk(folder: Path) -> Expected:
    import SimpleITK

    find = SimpleITK.ImageSeriesReader
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    series = {uid for path in folders for uid in find.GetGDCMSeriesIDs(str(path))}
    if not series:
        raise ValueError("no series")
    groups = [find.GetGDCMSeriesFileNames(str(folder), uid, False, True) for uid in series]
    reader = SimpleITK.ImageSeriesReader()
    sizes = []
    images = []
    for files in groups:
        reader.SetFileNames(files)
        try:
            images.append(reader.Execute() if len(files) > 1 else SimpleITK.ReadImage(files[0]))
            sizes.append(len(files))
        except RuntimeError:
            if len(groups) == 1:
                raise
    if len(images) != 1:
        raise SeveralError(f"{len(images)} volumes")
    (image,) = images
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    data = SimpleITK.GetArrayFromImage(image)
    return Expected(data.astype(float), RAS @ affine[:, [2, 1, 0, 3]])


def read_dcm2niix(folder: Path) -> Expected:
    import dcm2niix
    import nibabel

    with tempfile.TemporaryDirectory() as output:
        # No shell, all series, nothing merged, no BIDS file.
        options = ["-z", "n", "-b", "n", "-m", "n", "-f", "%s_%p", "-o", output]
        done = dcm2niix.main([*options, str(folder)], capture_output=True, text=True, timeout=60)
        images = [nibabel.load(path) for path in Path(output).glob("*.nii")]
        warned = "Warning" in done.stdout + done.stderr or "Error" in done.stdout + done.stderr
        if warned:
            warnings.warn("dcm2niix warned", UserWarning, stacklevel=2)
        if not images:
            raise ValueError("no output")
        if len(images) > 1:
            raise SeveralError(f"{len(images)} volumes")
        data = np.asarray(images[0].dataobj, float)
        if data.ndim != 3:
            raise SeveralError(f"shape {data.shape}")
        return Expected(data, images[0].affine)


def read_highdicom(folder: Path) -> Expected:
    import highdicom
    import pydicom

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    items = [pydicom.dcmread(path) for path in files if pydicom.misc.is_dicom(path)]
    if len(items) == 1 and items[0].get("NumberOfFrames"):
        volume = highdicom.imread(files[0]).get_volume()
    else:
        volume = highdicom.get_volume_from_series(items)
    return Expected(np.asarray(volume.array, float), RAS @ volume.affine)


def read_nibabel(folder: Path) -> Expected:
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if len(files) > 1:
        raise NotImplementedError("NiBabel reads one file")
    wrapper = wrapper_from_file(str(files[0]))
    data = np.asarray(wrapper.get_data(), float)
    data = data[..., None] if data.ndim == 2 else data
    return Expected(data, RAS @ wrapper.affine)


def _read_captum_3dcam(path: Path) -> None:
    from captum_3dcam.io import dicom_kind, read_dicom, read_dicom_image

    (read_dicom if dicom_kind(path) == "volume" else read_dicom_image)(path)


def _read_simpleitk(path: Path) -> None:
    import SimpleITK

    SimpleITK.ReadImage(str(path))


def _decode_by(plugin: str) -> Read:
    def decode(path: Path) -> None:
        import pydicom

        pydicom.pixels.pixel_array(path, decoding_plugin=plugin)

    return decode


_DECODERS: dict[str, tuple[str, Read]] = {
    "SimpleITK": ("SimpleITK", _read_simpleitk),
    "python-gdcm in pydicom": ("gdcm", _decode_by("gdcm")),
}
READERS: dict[str, tuple[str, Read]] = {
    "this package": ("pydicom", read_captum_3dcam),
    "SimpleITK": ("SimpleITK", read_simpleitk),
    "dcm2niix": ("dcm2niix", read_dcm2niix),
    "highdicom": ("highdicom", read_highdicom),
    "NiBabel": ("nibabel", read_nibabel),
}


if __name__ == "__main__":
    main()
