"""Parse the arguments, run the command, and turn errors into a line and an exit code."""

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

from captum_3dcam._errors import ArgumentError
from captum_3dcam.cli._errors import one_line
from captum_3dcam.cli._parser import PROGRAM, build_parser

DONE, FAILED, WRONG_USE, INTERRUPTED, CLOSED_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143


class _Terminated(SystemExit):
    """SIGTERM, as an exception: a ``finally`` block deletes its temporary file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default with the arguments in ``sys.argv``, and return its exit code.

    0 is success, 1 failure, 2 wrong use, 130 interruption by Ctrl-C, 143 by SIGTERM, and 141 if
    nobody reads the standard output to its end. Errors are printed in a line.

    >>> main(["layers", "--model", "nowhere:net", "--input-size", "3", "8", "8"])
    2
    """
    try:
        options = build_parser().parse_args(arguments)
        options.arguments = sys.argv[1:] if arguments is None else list(arguments)
    except SystemExit as stop:  # argparse has printed the reason, the help or the version
        return int(stop.code or DONE)
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        with _warnings_in_one_line(), _without_current_folder(), _raising_at_sigterm():
            import_module(f"captum_3dcam.cli._{options.command}").run(options)
            if sys.stdout is not None:  # it may be closed: >&-
                sys.stdout.flush()
    except KeyboardInterrupt:
        _print_error(options.command, "interrupted")
        return INTERRUPTED
    except _Terminated:
        _print_error(options.command, "terminated")
        return TERMINATED
    except BrokenPipeError:
        # Whoever read the standard output has stopped; Python would raise again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:  # any error is printed in a line
        if options.debug:
            traceback.print_exc()
        else:
            _print_error(options.command, f"error: {one_line(error)}")
        return WRONG_USE if isinstance(error, (ArgumentError, FileNotFoundError)) else FAILED
    return DONE


def _print_error(command: str, text: str) -> None:
    print(f"{PROGRAM} {command}: {text}", file=sys.stderr)


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """Import nothing from the current folder but the user's model, which is appended to the path.

    An interactive Python and ``python -c`` have the current folder on the path as "".
    """
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if entry not in ("", ".")]
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _raising_at_sigterm() -> Iterator[None]:
    """Raise _Terminated at SIGTERM, unless the calling program handles or ignores the signal."""
    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # Python sets signal handlers in the main thread only.
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not stop the deletion of files
    raise _Terminated(TERMINATED)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *location: Any, **details: Any) -> None:
        print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        if not sys.warnoptions:  # what the calling program ignores is said all the same
            warnings.simplefilter("default", UserWarning)
        yield
