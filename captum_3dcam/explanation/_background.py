"""Work beside the model's: reading ahead, and writing behind."""

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds


def read_ahead(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The items, each made in another thread while those before it are used.

    At most ``depth`` are kept, and one more is being made. An error is raised where the item would
    be. When the iterator is closed, or no longer referred to, the thread ends after its item.

    >>> list(read_ahead(map(str, range(3))))
    ['0', '1', '2']
    """
    queue: Queue[tuple[bool, Any]] = Queue(depth)
    stop = Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                queue.put(entry, timeout=_POLL)
            except Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
        except BaseException as error:  # raised by whoever takes the items
            put((False, error))
        else:
            put((False, None))

    # In the caller's context, so that warnings are noted where its own are.
    thread = Thread(target=copy_context().run, args=(make,), daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join()


class Writer:
    """Calls functions one after the other in another thread; at most two wait.

    An error is raised by the next call of :meth:`submit`, or at the end.
    """

    def __init__(self) -> None:
        self._queue: Queue[Callable[[], object] | None] = Queue(2)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        """Finish what waits; after an error of the caller only what has begun."""
        if kind is not None:
            self._clear()
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def submit(self, function: Callable[[], object]) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(function)

    def _clear(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            return

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            if self._error is not None:
                continue  # what follows is not written, and nobody waits for space
            try:
                function()
            except BaseException as error:
                self._error = error
