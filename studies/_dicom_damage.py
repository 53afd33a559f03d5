"""Do damaged compressed DICOM files end the process that reads them?"""

import faulthandler
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pydicom
from pydicom.encaps import encapsulate, get_frame

from _dicom_cases import file_of

FILES = {
    "JPEG": "SC_rgb_jpeg_dcmtk.dcm",
    "lossless JPEG": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG 2000": "MR_small_jp2klossless.dcm",
}
SECONDS = 20  # after which a file counts as one that hangs
Read = Callable[[Path], Any]


def damage_rows(readers: dict[str, Read], count: int) -> Iterator[list[str]]:
    """A row per compression: what ``count`` damaged files led each reader to."""
    for name, file in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "damaged.dcm"
            cells = []
            for read in readers.values():
                outcomes: Counter[str] = Counter()
                for seed in range(count):
                    _write_damaged(pydicom.dcmread(file_of(file)), seed, path)
                    outcomes[_outcome(partial(read, path))] += 1
                cells.append(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())))
            yield [name, *cells]


def _write_damaged(dataset: Any, seed: int, path: Path) -> None:
    """Change some bytes of the compressed stream, most of them in its header."""
    choose = random.Random(seed)  # noqa: S311
    stream = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    for _ in range(choose.randint(1, 4)):
        end = len(stream) if choose.random() < 0.5 else min(len(stream), 120)
        stream[choose.randrange(2, end)] = choose.randrange(256)
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset.save_as(path)


def _outcome(read: Callable[[], Any]) -> str:
    process = get_context("fork").Process(target=_quietly, args=(read,))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return "hung"
    code = process.exitcode or 0
    return "**ended the process**" if code < 0 else ("refused" if code else "read")


def _quietly(read: Callable[[], Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    faulthandler.disable()  # it may write elsewhere
    try:
        read()
    except Exception:
        os._exit(1)
    os._exit(0)
