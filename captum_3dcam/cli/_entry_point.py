"""Parse the arguments, run the command, and turn errors into a line and an exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from captum_3dcam.cli._errors import UsageError, one_line
from captum_3dcam.cli._parser import PROGRAM, build_parser

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default with the arguments in ``sys.argv``, and return its exit code.

    0 is success, 1 failure, 2 wrong use, 130 interruption by Ctrl-C. Errors are printed in a line.

    >>> main(["layers", "--model", "nowhere:net", "--input-size", "3", "8", "8"])
    2
    """
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed the reason, the help or the version
        return int(stop.code or DONE)
    try:
        with _warnings_in_one_line(), _importable(os.getcwd()):
            import_module(f"captum_3dcam.cli._{options.command}").run(options)
    except KeyboardInterrupt:
        _print_error(options.command, "interrupted")
        return INTERRUPTED
    except Exception as error:  # any error is printed in a line
        if options.debug:
            traceback.print_exc()
        else:
            _print_error(options.command, f"error: {one_line(error)}")
        return WRONG_USE if isinstance(error, (UsageError, FileNotFoundError)) else FAILED
    return DONE


def _print_error(command: str, text: str) -> None:
    print(f"{PROGRAM} {command}: {text}", file=sys.stderr)


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Make a folder's modules importable, as ``python -m`` does for the current folder."""
    path_before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = path_before


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *location: Any, **details: Any) -> None:
        print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
