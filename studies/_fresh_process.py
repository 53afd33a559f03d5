"""A function in a process of its own, which may hang or crash.

This module imports little, so that such a process starts fast.
"""

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def in_fresh_process(function: Callable[..., Any], *arguments: Any, max_seconds: float) -> Any:
    """What the function returns, in a process of its own, which is ended after ``max_seconds``.

    Raises RuntimeError where it raises or crashes, and TimeoutError.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, *arguments), daemon=True)
    process.start()
    sender.close()  # the process has its own: the end of that one is the end of the pipe
    try:
        if not receiver.poll(max_seconds):
            raise TimeoutError(f"no result after {max_seconds:.0f} s")
        succeeded, result = receiver.recv()
    except EOFError:
        raise RuntimeError("the process ended without a result") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not succeeded:
        raise RuntimeError(result)
    return result


def _send(sender: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        result = True, function(*arguments)
    except Exception as error:
        result = False, reason_of(error)
    sender.send(result)


def reason_of(error: BaseException) -> str:
    """The first line of the error that began it: others follow as a capture is given up."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
