"""Progress bars: tqdm, which is an extra."""

from importlib import import_module
from typing import Any


def load_tqdm() -> Any:
    """The class tqdm. Raises ImportError that names the extra where it is not installed."""
    try:
        return import_module("tqdm").tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'captum_3dcam[progress]'."
        ) from error
