"""What tells an input from others, without its name: a hash of its content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam.io import Video, VideoFile

REPORT = "report.json"
_BLOCK = 2**20  # bytes


def identify(content: Any) -> str:
    """The hash of a tensor, an array, a scan or a video: of its values, or of the video's file.

    >>> identify(np.zeros(3)) == identify(torch.zeros(3).double())
    True
    """
    if isinstance(content, VideoFile):
        memory: Video | None = getattr(content.source, "video", None)
        if memory is None:
            return fingerprint([content.path])
        content = memory
    values = getattr(content, "frames", getattr(content, "data", content))
    if isinstance(content, Tensor):
        values = content.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    values = np.ascontiguousarray(values)
    result = hashlib.sha256(f"{values.shape} {values.dtype} ".encode())
    result.update(values.data)
    return result.hexdigest()[:16]


def fingerprint(paths: Sequence[Path]) -> str:
    """The hash of all bytes of files, and of those in folders."""
    files = [file for path in paths for file in files_in(path)]
    result = hashlib.sha256(f"{len(files)}".encode())
    for file in files:
        result.update(f"{file.stat().st_size} ".encode())
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                result.update(block)
    return result.hexdigest()[:16]


def files_in(path: Path) -> list[Path]:
    """The file, or those of a folder but for hidden ones and results inside of it."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []  # whoever reads it says that there is nothing
    visible = (each for each in sorted(path.iterdir()) if not each.name.startswith("."))
    inner = (each for each in visible if not (each / REPORT).exists())
    return [file for each in inner for file in files_in(each)]
