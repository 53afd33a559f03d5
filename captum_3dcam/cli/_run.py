"""From the words to a command, and from what happens in it to an exit code and a line."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from captum_3dcam.cli._errors import WrongUseError, in_a_line
from captum_3dcam.cli._parser import PROGRAM, build_parser

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of ``sys.argv``; its exit code.

    0 is done, 1 failed, 2 wrong use, 130 interrupted by Ctrl-C. Errors are told in a line or two.

    >>> main(["layers", "--model", "nowhere:net", "--input-size", "3", "8", "8"])
    2
    """
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or DONE)
    try:
        with _warnings_in_a_line(), _importable(os.getcwd()):
            import_module(f"captum_3dcam.cli._{options.command}").run(options)
    except KeyboardInterrupt:
        _say(options.command, "interrupted")
        return INTERRUPTED
    except Exception as error:  # whatever it is, it becomes a line
        if options.debug:
            traceback.print_exc()
        else:
            _say(options.command, f"error: {in_a_line(error)}")
        return WRONG_USE if isinstance(error, (WrongUseError, FileNotFoundError)) else FAILED
    return DONE


def _say(command: str, text: str) -> None:
    print(f"{PROGRAM} {command}: {text}", file=sys.stderr)


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """The modules of a folder, as ``python -m`` has it for the current one."""
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.showwarning = _show
        yield


def _show(message: Warning | str, *where: Any, **more: Any) -> None:
    print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)
