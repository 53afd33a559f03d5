"""What has been done of a run: a line of JSON for each input, in a file of each process."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

DONE, FAILED = "done", "failed"


class Outcome(NamedTuple):
    """What became of one input."""

    name: str
    """Its path below the folder of all inputs; of a scan, whose name may be a patient's, that of
    its result."""
    status: str
    """"done" or "failed"."""
    group: str = ""
    kind: str = ""
    folder: str = ""
    """Of its result, below the output."""
    target: Any = None
    """Of the first class that was explained, as the others are."""
    class_name: str = ""
    score: float | None = None
    probability: float | None = None
    warnings: int = 0
    error: str = ""
    """The message, if it failed."""
    seconds: float = 0.0
    """The model's time: not that of reading and writing."""


class Record(NamedTuple):
    """An outcome, with what it is of."""

    key: str
    state: str
    """Of the input's files."""
    time: float
    outcome: Outcome


class Journal:
    """The records of all processes of a run, of which this one appends its own.

    A line is written at once, and one that was cut off when its process was killed is not read.

    >>> journal = Journal(getfixture("tmp_path"))
    >>> journal.append(Record("a", "1", 0.0, Outcome("a.png", "done")))
    >>> Journal(getfixture("tmp_path")).read()["a"].outcome.name
    'a.png'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        self._own = folder / f"journal-{name}.jsonl"
        self._read: dict[Path, int] = {}
        """Bytes of each file that have been read."""
        self.records: dict[str, Record] = {}
        """The latest of each key, as of the last :meth:`read` and :meth:`append`."""

    def append(self, record: Record) -> None:
        line = json.dumps([*record[:3], record.outcome._asdict()], allow_nan=False) + "\n"
        self.records[record.key] = record
        with self._own.open("ab") as file:
            file.write(line.encode())

    def read(self) -> Mapping[str, Record]:
        """The latest record of each key."""
        for path in sorted(self.folder.glob("journal-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._add(line, path)
        return self.records

    def _add(self, line: bytes, path: Path) -> None:
        try:
            key, state, when, fields = json.loads(line)
            record = Record(str(key), str(state), float(when), Outcome(**fields))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} is damaged: {error}. Delete it, and resume."
            ) from error
        earlier = self.records.get(record.key)
        if earlier is None or earlier.time <= record.time:
            self.records[record.key] = record
