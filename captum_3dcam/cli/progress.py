"""Progress bars on the error output, where someone can see them."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from captum_3dcam.progress import load_tqdm

Advance = Callable[[int], object]


def wanted(options: Namespace) -> bool:
    """Whether there is a terminal, tqdm (extra ``progress``), and no ``--quiet``."""
    return not options.quiet and sys.stderr.isatty() and find_spec("tqdm") is not None


@contextmanager
def bar(options: Namespace, what: str, total: int | None, unit: str) -> Iterator[Advance]:
    """What to call with the number of things done; it may do nothing."""
    if not wanted(options):
        yield lambda count: None
        return
    with load_tqdm()(desc=what, total=total, unit=unit, file=sys.stderr) as shown:
        yield shown.update
