"""Progress bars on the error output, where someone can see them."""

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec

from captum_3dcam._progress import advancing

Advance = Callable[[int], object]


def wanted(options: Namespace) -> bool:
    """Whether there is a terminal, tqdm (extra ``progress``), and no ``--quiet``."""
    return not options.quiet and sys.stderr.isatty() and find_spec("tqdm") is not None


def bar(
    options: Namespace, what: str, total: int | None, unit: str
) -> AbstractContextManager[Advance]:
    """What to call with the number of things done; it may do nothing."""
    return advancing(wanted(options), desc=what, total=total, unit=unit, file=sys.stderr)
