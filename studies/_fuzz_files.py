"""Mutated and malicious files: each is read or is an error of this package, in bounded memory.

The files are read in another process, whose memory and time are limited, so that one that crashes
or hangs is a failure and not the end.
"""

import gzip
import io
import os
import pickle
import random
import re
import resource
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat
from torch import nn

from _fuzz_cases import MAX_CASES, problem_of
from _memory import peak_resident_mib
from captum_3dcam.datasets import ILSVRCLocalization, load_pyannot
from captum_3dcam.datasets._matfile import read_mat
from captum_3dcam.io import (
    Volume,
    load_map,
    open_video,
    read_cine,
    read_dicom,
    read_dicom_image,
    read_image,
    read_nifti,
    read_video,
    save_map,
    write_nifti,
    write_video,
)
from captum_3dcam.models import load_checkpoint

EXPECTED = (ValueError, FileNotFoundError, ImportError)
CONTENT_LIMIT = 2**26  # CAPTUM_3DCAM_MAX_BYTES
# A reader may reserve what a header claims, up to 4 GiB, if it never fills it.
RESERVED_LIMIT = 6 * 2**30
RESIDENT_LIMIT_MIB = 300
START_SECONDS, CASE_SECONDS = 120, 30
SYNSET = "n01440764"
Reader = Callable[[Path], Any]


def run(seed: int, seconds: float) -> tuple[int, list[str]]:
    """Files tried, and what reading them led to."""
    return run_apart(check, seed, seconds)


# -------------------------------------------------------------------------------- the process


def run_apart(
    check: Callable[[int], None], seed: int, seconds: float, case_seconds: float = CASE_SECONDS
) -> tuple[int, list[str]]:
    """As ``run_cases``, in another process, which is replaced if a case crashes or hangs."""
    failures, tried, left = [], 0, seconds
    while left > 0:
        with _Worker(check, seed * MAX_CASES + tried) as worker:
            end = monotonic() + left
            while monotonic() < end:
                problem = worker.next_problem(case_seconds)
                if problem:
                    failures.append(f"case {seed * MAX_CASES + tried}: {problem}")
                tried += 1
                if not worker.is_alive:
                    break
            left = end - monotonic()
    return tried, failures


class _Worker:
    """A process that checks one case after the other, and sends what each led to."""

    def __init__(self, check: Callable[[int], None], first: int) -> None:
        context = get_context("spawn")  # a fork would inherit threads' locks
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(sender, check, first), daemon=True)
        self._process.start()
        sender.close()
        self.is_alive = True

    def __enter__(self) -> "_Worker":
        if not self._receiver.poll(START_SECONDS) or self._receiver.recv() != "ready":
            raise RuntimeError("the process that reads the files did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._receiver.close()

    def next_problem(self, seconds: float) -> str | None:
        """Of the next case; None if it held."""
        if not self._receiver.poll(seconds):
            self.is_alive = False
            return f"hangs for more than {seconds:g} s"
        try:
            problem: str | None = self._receiver.recv()
        except EOFError:
            self.is_alive = False
            self._process.join()
            return f"ends the process, exit code {self._process.exitcode}"
        return problem


def _work(sender: Any, check: Callable[[int], None], first: int) -> None:
    torch.set_num_threads(1)
    os.environ["CAPTUM_3DCAM_MAX_BYTES"] = str(CONTENT_LIMIT)
    # Decoders complain of damaged files on the error output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    originals()  # what is allocated once is not counted
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + RESERVED_LIMIT,) * 2)
    sender.send("ready")
    for case in range(first, first + MAX_CASES):
        sender.send(problem_of(check, case))


# ------------------------------------------------------------------------------- the originals


class Original(NamedTuple):
    """A valid file, and what reads it."""

    kind: str
    suffix: str
    content: bytes
    read: Reader


_originals: list[Original] = []


def originals() -> list[Original]:
    """One file of each format whose package is installed, made when they are first needed."""
    if not _originals:
        with tempfile.TemporaryDirectory() as folder:
            _originals.extend(_make_originals(Path(folder)))
    return _originals


def _make_originals(folder: Path) -> list[Original]:
    made = [*_images(), *_pickles(), *_mat_files(), *_checkpoints(), _annotation()]
    save_map(torch.rand(1, 1, 4, 5, 6), folder / "map.npz", {"class": "golf", "fps": 25})
    made.append(Original("map", ".npz", (folder / "map.npz").read_bytes(), load_map))
    if find_spec("av"):
        made += _videos(folder)
    if find_spec("nibabel"):
        made += _scans(folder)
    if find_spec("pydicom"):
        made += _slices()
    return made


def _images() -> list[Original]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    formats = {"png": {}, "jpeg": {}, "tiff": {}, "bmp": {}, "gif": {}, "webp": {}, "ppm": {}}
    made = []
    for name, options in {**formats, "tiff ": {"compression": "tiff_lzw"}}.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, name.strip(), **options)
        made.append(Original(name, f".{name.strip()}", buffer.getvalue(), _read_image))
    return made


def _read_image(path: Path) -> None:
    for apply_orientation in (True, False):
        pixels = read_image(path, apply_orientation)
        assert pixels.shape[2:] == (3,), f"an image of shape {pixels.shape}"


def _videos(folder: Path) -> list[Original]:
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)
    made = []
    for suffix in (".mp4", ".gif"):
        write_video(frames, folder / f"clip{suffix}", fps=10)
        made.append((suffix, (folder / f"clip{suffix}").read_bytes()))
    made += [(suffix, _encoded(frames, codec, suffix)) for suffix, codec in _CONTAINERS.items()]
    return [Original("video", suffix, content, _read_video) for suffix, content in made]


_CONTAINERS = {".avi": "mpeg4", ".mkv": "mpeg4", ".ts": "mpeg2video", ".flv": "flv1"}


def _encoded(frames: np.ndarray, codec: str, suffix: str) -> bytes:
    import av

    buffer = io.BytesIO()
    names = {".mkv": "matroska", ".ts": "mpegts"}
    with av.open(buffer, "w", format=names.get(suffix, suffix[1:])) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _read_video(path: Path) -> None:
    for frames in open_video(path, size=(16, None)).chunks(4):
        assert frames.shape[1] == 16, f"frames of shape {frames.shape}"
    assert read_video(path).frames.shape[3:] == (3,)


def _scans(folder: Path) -> list[Original]:
    scan = Volume(np.random.default_rng(0).normal(size=(5, 6, 7)), np.diag([3.0, 2.0, 2.0, 1.0]))
    made = []
    for suffix in (".nii", ".nii.gz"):
        write_nifti(scan, folder / f"scan{suffix}")
        content = (folder / f"scan{suffix}").read_bytes()
        made.append(Original("scan", suffix, content, read_nifti))
    return made


def _slices() -> list[Original]:
    made = [Original("slice", ".dcm", _slice(syntax), read_dicom) for syntax in _SYNTAXES]
    xray, cine = {"Modality": "DX"}, {"Modality": "US", "NumberOfFrames": 2, "CineRate": 10}
    made.append(Original("X-ray", ".dcm", _slice(_SYNTAXES[0], **xray), read_dicom_image))
    return [*made, Original("cine", ".dcm", _slice(_SYNTAXES[0], **cine), read_cine)]


_SYNTAXES = ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "RLELossless", "Deflated")


def _slice(syntax: str, **changed: Any) -> bytes:
    import pydicom

    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.1", "1.2", "CT"
    if changed:
        dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    pixels = np.random.default_rng(0).integers(0, 4000, (5, 6)).astype(np.uint16)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.6], 4.0
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-10, -20, 30]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 1, -1024
    for name, value in changed.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes() * changed.get("NumberOfFrames", 1)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if syntax == "RLELossless":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.compress(pydicom.uid.RLELossless)
    else:
        name = {"Deflated": "DeflatedExplicitVRLittleEndian"}.get(syntax, syntax)
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, name)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _checkpoints() -> list[Original]:
    return [
        Original(
            "checkpoint", ".pth", _saved({"state_dict": _network().state_dict()}, zipped), _load
        )
        for zipped in (True, False)
    ]


def _saved(content: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _load(path: Path) -> None:
    load_checkpoint(path, _network())


def _records(tube: Any) -> Mapping[str, Any]:
    return {"Biking/v_Biking_g01_c01": {"numf": 9, "label": 2, "annotations": [tube]}}


def _pickles() -> list[Original]:
    boxes = np.array([[200, 1, 100, 20]] * 3, np.uint8)
    records = _records({"label": 2, "sf": np.int64(3), "ef": 6, "boxes": boxes})
    return [
        Original("pickle", ".pkl", pickle.dumps(records, protocol), load_pyannot)
        for protocol in range(6)
    ]


def _mat_files() -> list[Original]:
    made = []
    for do_compression in (True, False):
        buffer = io.BytesIO()
        savemat(buffer, {"pos_img": np.ones((2, 15, 4))}, do_compression=do_compression)
        made.append(
            Original("MAT", ".mat", buffer.getvalue(), partial(read_mat, variable="pos_img"))
        )
    return made


def _annotation() -> Original:
    corners = "".join(f"<{side}>3</{side}>" for side in ("xmin", "ymin", "xmax", "ymax"))
    item = f"<object><name>{SYNSET}</name><bndbox>{corners}</bndbox></object>"
    size = "<size><width>16</width><height>12</height></size>"
    content = f"<annotation>{size}{item}{item}</annotation>"
    return Original("annotation", ".xml", content.encode(), _read_annotation)


def _read_annotation(path: Path) -> None:
    """The file, where the dataset has its annotations."""
    folder = path.parent / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True)
    (path.parent / "LOC_synset_mapping.txt").write_text(f"{SYNSET} tench")
    (folder / "image.xml").write_bytes(path.read_bytes())
    ILSVRCLocalization(path.parent).annotation(0)


# ------------------------------------------------------------------------------- the mutations


def mutated(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damaged in one to three ways; archives in their members too, with the right checksums."""
    if generator.random() < 0.5:
        if zipfile.is_zipfile(io.BytesIO(content)):
            return _mutated_member(generator, content, others)
        if content[:2] == b"\x1f\x8b":
            return gzip.compress(mutated(generator, gzip.decompress(content), others))
    for _ in range(generator.randint(1, 3)):
        content = generator.choice(_MUTATIONS)(generator, content, others)
    return content


def _mutated_member(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = generator.choice(list(members))
    members[name] = mutated(generator, members[name], others)
    return _zipped(members, generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _flip(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 3, 20))):
        if data:
            data[_position(generator, data)] = generator.randrange(256)
    return bytes(data)


def _truncate(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: _position(generator, content)]


def _splice(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other, at = generator.choice(others), _position(generator, content)
    return content[:at] + other[_position(generator, other) :]


def _repeat(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    at, length = _position(generator, content), generator.choice((1, 8, 100))
    return content[: at + length] + content[at:]


def _lie(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A number in the header becomes large, or negative."""
    at, size = _position(generator, content), generator.choice((2, 4, 8))
    order = generator.choice(("little", "big"))
    number = generator.choice((2 ** (8 * size - 1) - 1, 2 ** (8 * size) - 1, 2 ** (6 * size), 0))
    return content[:at] + number.to_bytes(size, order) + content[at + size :]


def _digits(generator: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A number in text becomes large, or negative."""
    numbers = list(re.finditer(rb"[0-9]+", content))
    if not numbers:
        return content
    first, last = generator.choice(numbers).span()
    number = generator.choice((b"9999999999", b"-1", b"65535", b"1e308", b"0", b"nan"))
    return content[:first] + number + content[last:]


_MUTATIONS = (_flip, _flip, _truncate, _splice, _repeat, _lie, _lie, _digits)


def _position(generator: random.Random, content: Sequence[int]) -> int:
    """Half of the time in the first bytes, which are the header."""
    end = max(len(content), 1)
    return generator.randrange(min(end, 400) if generator.random() < 0.5 else end)


# ----------------------------------------------------------------------------- malicious files


class _Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def malicious(generator: random.Random, sentinel: Path) -> Original:
    """A file that makes the sentinel, if its pickle runs."""
    code = f"open({str(sentinel)!r}, 'w').close()"
    call = generator.choice(
        (
            _Call(os.system, f"touch {sentinel}"),
            _Call(exec, code),
            _Call(eval, code),
            _Call(open, str(sentinel), "w"),
            _Call(Path.touch, sentinel),
            _Call(os.mkdir, str(sentinel)),
        )
    )
    protocol = generator.randrange(6)
    bare = pickle.dumps(generator.choice((call, {"state_dict": call}, _records(call))), protocol)
    object_array = io.BytesIO()
    np.save(object_array, np.array([call], dtype=object), allow_pickle=True)
    state = {"state_dict": {"0.weight": call}}
    makers: list[Callable[[], Original]] = [
        lambda: Original("malicious pickle", ".pkl", bare, load_pyannot),
        lambda: Original("malicious checkpoint", ".pth", _saved(state, True), _load),
        lambda: Original("malicious checkpoint", ".pth", _saved(state, False), _load),
        lambda: Original("malicious checkpoint", ".pth", bare, _load),
        lambda: Original("malicious map", ".npz", bare, load_map),
        lambda: Original("malicious map", ".npz", object_array.getvalue(), load_map),
        lambda: Original(
            "malicious map", ".npz", _zipped({"map.npy": object_array.getvalue()}), load_map
        ),
    ]
    return generator.choice(makers)()


# ---------------------------------------------------------------------------------- the check


def check(case: int) -> None:
    """One file; AssertionError unless it is read or refused, and no code of it runs."""
    generator = random.Random(case)  # noqa: S311
    valid = originals()
    with tempfile.TemporaryDirectory() as folder:
        sentinel = Path(folder) / "sentinel"
        if generator.random() < 0.1:
            original = malicious(generator, sentinel)
            is_damaged = generator.random() < 0.3
        else:
            original, is_damaged = generator.choice(valid), True
        content = original.content
        if is_damaged:
            content = mutated(generator, content, [each.content for each in valid])
        path = Path(folder) / f"file{original.suffix}"
        path.write_bytes(content)
        before = peak_resident_mib()
        problem = _problem_of_reading(original.read, path)
        growth = peak_resident_mib() - before
        name = f"{original.kind}, {original.suffix}"
        assert not sentinel.exists(), f"{name}: its code has run"
        assert problem is None, f"{name}: {problem}"
        assert growth <= RESIDENT_LIMIT_MIB, f"{name}: {len(content)} bytes took {growth:.0f} MiB"


def _problem_of_reading(read: Reader, path: Path) -> str | None:
    """Any error but one of this package, which names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except EXPECTED as error:
        is_ours = str(path.parent) in str(error)
        return None if is_ours else f"an error that names no file, {error!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return None
