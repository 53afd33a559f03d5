"""Progress bars: tqdm, which is an extra."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def advancing(wanted: bool, **options: Any) -> Iterator[Callable[[int], object]]:
    """What to call with the number of things done; a bar with tqdm's ``options`` if wanted.

    >>> with advancing(False, total=3) as advance:
    ...     advance(1)
    """
    if not wanted:
        yield lambda count: None
        return
    with load_tqdm()(**options) as bar:
        yield bar.update
