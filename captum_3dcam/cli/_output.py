"""Progress bars."""

import sys
from argparse import Namespace


def shows_progress(options: Namespace) -> bool:
    """Whether the standard error is a terminal, and ``--quiet`` is not given."""
    return not options.quiet and sys.stderr.isatty()
