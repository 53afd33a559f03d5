"""Which process works at what: files in a folder that all of them see."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread

_BEAT = 10.0  # seconds between the signs of life of a claim
_EXPIRED = 60.0  # seconds without one


class Claims:
    """Claims to work, of which one process has each; those of processes that ended are free.

    A claim is a file that only one process can create. Its modification time is kept up to date,
    and it names its host and process, so that the claim of a killed one is free at once on the same
    host, and after a minute on others. Who takes it over creates the next file of its name.

    >>> folder = getfixture("tmp_path")
    >>> with Claims(folder) as one, Claims(folder) as other:
    ...     one.take("a"), other.take("a"), other.take("b")
    (True, False, True)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner = f"{socket.gethostname()} {os.getpid()}"
        self._probe = folder / f".{token_hex(8)}"
        self._held: dict[str, Path] = {}
        self._stop = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Claims":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._held):
            self.release(key)
        self._probe.unlink(missing_ok=True)

    def take(self, key: str) -> bool:
        """Whether this process may do what the key stands for, until it releases it."""
        last = self._last(key)
        if last >= 0 and not self._is_free(self.folder / f"{key}.{last}"):
            return False
        path = self.folder / f"{key}.{last + 1}"
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(self._owner)
        self._held[key] = path
        return True

    def begin(self, key: str) -> None:
        """Note that what the key stands for begins, and is not only prepared."""
        path = self._held[key]
        path.with_name(f"{path.name}.begun").touch()

    def attempts(self, key: str) -> tuple[int, int]:
        """How many processes ended with this claim: after it began, and in all."""
        begun = list(self.folder.glob(f"{key}.*.begun"))
        return len(begun), int(self._held[key].suffix[1:])

    def release(self, key: str) -> None:
        """Let others take it: what it stands for is done, or given up."""
        own = self._held.pop(key)
        for path in sorted(self.folder.glob(f"{key}.*"), reverse=True):
            if path != own:
                path.unlink(missing_ok=True)
        own.unlink(missing_ok=True)

    def _last(self, key: str) -> int:
        number = -1
        while (self.folder / f"{key}.{number + 1}").exists():
            number += 1
        return number

    def _is_free(self, path: Path) -> bool:
        try:
            host, _, process = path.read_text(encoding="utf-8").rpartition(" ")
            touched = path.stat().st_mtime
        except FileNotFoundError:  # released meanwhile: to be asked again
            return False
        if host == socket.gethostname() and process.isdecimal() and not _is_alive(int(process)):
            return True
        return self._now() - touched > _EXPIRED

    def _now(self) -> float:
        """By the clock of the folder's own file system."""
        self._probe.touch()
        return self._probe.stat().st_mtime

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT):
            for path in list(self._held.values()):
                with suppress(FileNotFoundError):  # released meanwhile
                    os.utime(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
