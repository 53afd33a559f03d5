"""What a call changes in the process is put back: also after Ctrl-C, and in a forked child."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import currentframe
from threading import current_thread, get_ident, main_thread
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import overrides

P = ParamSpec("P")
T = TypeVar("T")

_active: set["Restoration"] = set()


class Restoration:
    """Steps that put back what was changed inside, run in reverse order on exit.

    The thread's gradient mode and its function modes are put back too. Inside, Ctrl-C waits for
    the exit, or for a section that is :func:`interruptible`: Python raises it between any two
    instructions of the main thread, those of a ``finally`` included. What a fork of another thread
    copies half-way is put back in the child.

    A step must do no harm when it runs twice.

    >>> with Restoration() as restoration:
    ...     restoration.add(lambda: print("restored"))
    ...     print("changed")
    changed
    restored
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []
        self._interrupts = _HeldInterrupts()
        self._thread = get_ident()

    def add(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def __enter__(self) -> "Restoration":
        self._interrupts.hold()
        self._gradients = torch.is_grad_enabled()
        self._modes = overrides._get_current_function_mode_stack()
        _active.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        try:
            self.run()
            _set_function_modes(self._modes)
            torch._C._set_grad_enabled(self._gradients)
        finally:
            _active.discard(self)
            self._interrupts.release(kind)

    def run(self) -> None:
        """All steps, each until it ends without an interrupt; an error of one is raised last."""
        error: BaseException | None = None
        while self._steps:
            try:
                self._steps[-1]()
            except KeyboardInterrupt as interrupt:  # sent to the thread by other means than signals
                error = interrupt
                continue
            except Exception as failure:
                error = failure
            self._steps.pop()
        if error is not None:
            raise error

    def run_in_child(self) -> None:
        """In a forked child, which has only the thread that forked."""
        if self._thread != get_ident():
            self.run()


class _HeldInterrupts:
    """The handler of Ctrl-C that waits. Where Python calls no handler, it does nothing."""

    def __init__(self) -> None:
        self.waiting, self._held = False, False
        self._previous: Callable[[int, FrameType | None], Any] | None = None

    def hold(self) -> None:
        handler: Any = signal.getsignal(signal.SIGINT)
        if callable(handler) and current_thread() is main_thread():
            self._previous, self._held = handler, True
            signal.signal(signal.SIGINT, self.receive)

    def release(self, kind: type[BaseException] | None) -> None:
        """Set the handler before, and tell it of what waits, unless that is being raised."""
        if self._previous is None:
            return
        if signal.getsignal(signal.SIGINT) == self.receive:
            signal.signal(signal.SIGINT, self._previous)
        if self.waiting and not (kind and issubclass(kind, KeyboardInterrupt)):
            self._previous(signal.SIGINT, currentframe())

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self.waiting = True
            return
        self._held = True  # what this one unwinds is not interrupted again
        if self._previous is not None:
            self._previous(number, frame)
        self._held = False  # a handler of the user's that does not raise

    @contextmanager
    def let_through(self) -> Iterator[None]:
        self._held = False
        try:
            if self.waiting:
                self.waiting = False
                self.receive(signal.SIGINT, currentframe())
            yield
        except SystemError as error:  # of PyTorch, which called Python where no error may arise
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from None
            raise
        finally:
            self._held = True


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C through inside of a :class:`Restoration`, once: to run what belongs to others."""
    owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(owner, _HeldInterrupts) and current_thread() is main_thread():
        with owner.let_through():
            yield
    else:
        yield


def restored(function: Callable[P, T]) -> Callable[P, T]:
    """The function in a :class:`Restoration` of its own: the thread's modes are as before it."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with Restoration(), interruptible():
            return function(*args, **kwargs)

    return wrapper


def _set_function_modes(modes: list[Any]) -> None:
    """An interrupt between two instructions of PyTorch's may have lost one of them."""
    current = overrides._get_current_function_mode_stack()
    if len(current) == len(modes) and all(a is b for a, b in zip(current, modes, strict=True)):
        return
    for _ in current:
        overrides._pop_mode()
    for mode in modes:
        overrides._push_mode(mode)


def _restore_in_child() -> None:
    for restoration in list(_active):
        restoration.run_in_child()
        _active.discard(restoration)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)
