"""What several exporters need."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captum_3dcam._errors import ArgumentError
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._overlay import write_overlay
from captum_3dcam.explanation._video import resized


def import_library(name: str, purpose: str) -> Any:
    """Import a module of another library; ImportError says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        library = name.split(".")[0]
        raise ImportError(f"{purpose} needs {library}: pip install {library}.") from error


def get_original(explanation: Explanation) -> Any:
    """What was explained, of one sample; ArgumentError if it was not loaded."""
    (original,) = explanation.originals
    if original is None:
        raise ArgumentError(
            f"The explanation was loaded without the {explanation.kind} that was explained, which "
            "is shown with the map. Pass it: Explanation.load(folder, original=...)."
        )
    return original


def encode_overlay(explanation: Explanation, rank: int, suffix: str, height: int) -> bytes:
    """A video with the map of one class over it, as the content of a file."""
    small = resized(get_original(explanation), height)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"overlay{suffix}"
        write_overlay(replace(explanation, originals=[small]), rank, path, progress=False)
        return path.read_bytes()
