"""explain_many(): explain a data set, on one process or many, and resume after a stop."""

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from captum_3dcam._errors import ArgumentError, ModelError, argument_errors, message_of
from captum_3dcam._files import StrPath
from captum_3dcam._validation import check_choice, check_flag
from captum_3dcam.explanation._background import Writer, read_ahead
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._identity import REPORT
from captum_3dcam.explanation._reading import find_kind
from captum_3dcam.explanation._recipe import Opened, Options, Recipe
from captum_3dcam.explanation._result_folder import clear, may_name_a_patient, read_report
from captum_3dcam.explanation._saving import OVERLAYS, save
from captum_3dcam.explanation._target import parse_target
from captum_3dcam.explanation.many._claims import Claims
from captum_3dcam.explanation.many._inputs import STATE, Item, list_items
from captum_3dcam.explanation.many._journal import DONE, FAILED, Journal, Outcome, Record
from captum_3dcam.explanation.many._run_file import RunFile
from captum_3dcam.explanation.many._summary import SUMMARY_FILES, Outcomes, write_summary
from captum_3dcam.io.kinds import kind_of_suffix

# After these nothing else can be written either.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_POLL = 0.5  # seconds, until other processes may have finished something
MAX_ATTEMPTS = 3  # at what ends the process each time
MAX_PREPARED = 10  # times that it was read when the process ended, perhaps by the unit before it
Unit = Sequence[Item]
"""What one process explains at once: images in one batch, or one video or scan."""


@dataclass(frozen=True)
class Results:
    """Where and how results are written."""

    folder: Path
    overlay: str = "mp4"
    keep_names: bool = False
    page: bool = True
    command: str = ""
    finish: Callable[[Explanation], Explanation] = lambda explanation: explanation
    """What the command line adds."""


def explain_many(
    model: nn.Module,
    inputs: Any,
    folder: StrPath,
    target: Any = None,
    *,
    resume: bool = True,
    overlay: str = "mp4",
    keep_names: bool = False,
    page: bool = True,
    progress: bool = False,
    **options: Any,
) -> Outcomes:
    """Explain each of many inputs into a folder of its own, and write a summary and a gallery.

    An input that fails is recorded and passed over. Started again, it resumes: what is done is
    kept, however the run ended, and what failed is tried again. Several processes that are started
    with the same arguments, on one or several machines with a common file system, share the
    inputs: each takes the next free one, the largest first. Images of one size are explained in
    batches of ``windows.batch_size``. While the model runs, the next input is read, and the last
    result written.

    Args:
        model: a classifier in eval mode, on any device.
        inputs: a folder, with those below; a pattern such as ``clips/*.mp4``; a list of paths, or
            of dicts with "path", "target" and "group"; or a CSV or TSV with these columns.
        folder: where the results are written, each below the name of its input. Those of scans,
            whose names may be a patient's, have codes instead.
        target: as of :func:`captum_3dcam.explain`, for inputs without one of their own.
        resume: keep what is done; otherwise it is explained again.
        overlay: the format of the video with the map over it, "mp4", "gif" or "none".
        keep_names: name the results of scans after their files, and write the paths into reports.
        page: write ``report.html`` and a small image too; a result is several times larger then.
        progress: show a progress bar.
        options: of :func:`captum_3dcam.explain`: ``layers``, ``preprocessing`` and so on, all
            but ``original``. ``preprocessing`` may be a dict by "image", "video" and "volume".

    Returns :class:`Outcomes`: one for each input, in their order. Beside the results there are
    ``summary.csv``, ``summary.json`` and ``index.html``.

    Raises ArgumentError for arguments that do not fit, and for a folder with the results of another
    model or other options; FileNotFoundError.

    >>> from PIL import Image
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2640, 2))
    >>> folder = getfixture("tmp_path")
    >>> for name in ("a.png", "b.png"):
    ...     Image.effect_noise((32, 24), 50).save(folder / name)
    >>> outcomes = explain_many(model.eval(), folder, folder / "out", layers=["1"])
    >>> [(outcome.name, outcome.status) for outcome in outcomes]
    [('a.png', 'done'), ('b.png', 'done')]
    """
    with argument_errors():
        check_choice("overlay", overlay, OVERLAYS)
        for name, value in (("resume", resume), ("keep_names", keep_names), ("page", page)):
            check_flag(name, value)
    known = [item.name for item in fields(Options) if item.name != "progress"]
    for name in options:
        with argument_errors():
            check_choice("option", name, known)
    recipe = Recipe(model, Options(**options))
    results = Results(Path(folder), overlay, keep_names, page)
    return Run(recipe, list_items(inputs, results.folder), target, results).run(resume, progress)


class Run:
    """The inputs of :func:`explain_many`, and what explains and writes them."""

    def __init__(
        self, recipe: Recipe, items: Sequence[Item], target: Any, results: Results
    ) -> None:
        parse_target(target, recipe.names)
        self._named: dict[str, bool] = {}
        self.recipe, self.items, self.target, self.results = recipe, items, target, results
        self.folder = results.folder
        for item in items:
            if item.path.is_relative_to((self.folder / item.name).absolute()):
                raise ArgumentError(
                    f"folder {str(self.folder)!r}: the result of an input would lie in the input "
                    "itself. Pass another folder."
                )
        if self.folder.exists() and not self.folder.is_dir():
            raise ArgumentError(f"folder {str(self.folder)!r}: a file of that name exists.")

    def run(self, resume: bool = True, progress: bool = False) -> Outcomes:
        """Explain what is not done, wait for what other processes do, and write the summary."""
        self._prepare(resume)
        units = _make_units(self.items, self.target, self.recipe.options.windows.batch_size)
        bar = tqdm(total=len(self.items), desc="explaining", unit="input", disable=not progress)
        try:
            with bar, Claims(self.folder / STATE / "claims") as self.claims, Writer() as writer:
                for unit, opened in read_ahead(self._open_units(units, bar)):
                    writer.submit(partial(self._finish, unit, self._explain(unit, opened), bar))
        finally:  # also of what there is after Ctrl-C
            outcomes = write_summary(self.folder, self._outcomes())
        return outcomes

    def run_alone(self) -> list[Outcome]:
        """As :meth:`run`, for inputs that no other process has; the summary is the caller's."""
        self._prepare()
        with Claims(self.folder / STATE / "claims") as self.claims:
            units = _make_units(self.items, self.target, self.recipe.options.windows.batch_size)
            for unit, opened in self._open_units(units, bar := tqdm(disable=True)):
                self._finish(unit, self._explain(unit, opened), bar)
        return self._outcomes()

    def _prepare(self, resume: bool = True) -> None:
        state = self.folder / STATE
        if not state.exists():
            self._check_foreign()
        state.mkdir(parents=True, exist_ok=True)
        own = {name: getattr(self.results, name) for name in ("overlay", "keep_names", "page")}
        self.run_file = RunFile(state, self.recipe, self.target, own)
        self.items = [item._replace(salt=self.run_file.salt) for item in self.items]
        # Before anything is read: what changes later is explained again by a later run.
        self._states = {item.name: item.state() for item in self.items}
        self.journal = Journal(state)
        self.started = time()
        self.since = 0.0 if resume else self.started
        self._choose_layers()

    def _check_foreign(self) -> None:
        """ArgumentError if files of something else could be overwritten."""
        names = {*SUMMARY_FILES, *(item.name.split("/")[0] for item in self.items)}
        existing = [name for name in sorted(names) if (self.folder / name).exists()]
        if existing and not any(item.path == self.folder / existing[0] for item in self.items):
            raise ArgumentError(
                f"folder {str(self.folder)!r}: it holds {existing[0]!r}, which is not of "
                "explain_many(). Pass another folder."
            )

    # ------------------------------------------------------------------------------ resuming

    def _record(self, item: Item) -> Record | None:
        """That of a result that is there and of what the input is now, or of a new failure."""
        record = self.journal.records.get(item.key)
        if record is None:
            return self._record_of_report(item)
        if record.outcome.status == FAILED:
            return record if record.time >= self.started else None
        folder = self.folder / record.outcome.folder
        is_there = all((folder / name).exists() for name in (REPORT, "map.npz"))
        is_current = record.time >= self.since and record.state == self._states[item.name]
        return record if is_there and is_current else None

    def _record_of_report(self, item: Item) -> Record | None:
        """Of a process that was killed when its result was written, and before that was noted."""
        folder = self._result_folder(item)
        report = read_report(folder) if self.since == 0 and folder.is_dir() else None
        if not report or report.get("item") != [item.key, self._states[item.name]]:
            return None
        outcome = self._outcome_of(report, item)
        self.journal.append(record := Record(item.key, self._states[item.name], time(), outcome))
        return record

    def _outcomes(self) -> list[Outcome]:
        records = self.journal.read()
        known = [(item, records[item.key].outcome) for item in self.items if item.key in records]
        return [outcome._replace(group=item.group) for item, outcome in known]

    # ------------------------------------------------------------------- the three threads

    def _open_units(self, units: list[Unit], bar: Any) -> Iterator[tuple[Unit, list[Any]]]:
        """In the reading thread: claim the next unit that is free, and open its inputs."""
        while units:
            left: list[Unit] = []
            self.journal.read()
            for unit in units:
                todo = [item for item in unit if self._record(item) is None]
                if not todo:
                    bar.update(len(unit))
                    continue
                if not self.claims.take(_key(unit)):
                    left.append(unit)
                    continue
                self.journal.read()  # it may have been finished, and released, meanwhile
                if all(self._record(item) for item in unit):
                    self.claims.release(_key(unit))
                    left.append(unit)
                    continue
                begun, prepared = self.claims.attempts(_key(unit))
                if begun >= MAX_ATTEMPTS or prepared >= MAX_PREPARED:
                    yield unit, [_killed() if item in todo else None for item in unit]
                else:
                    yield unit, self._open_unit(unit, todo)
            if len(left) == len(units):
                bar.set_description("waiting for other processes")
                sleep(_POLL)
            units = left

    def _open_unit(self, unit: Unit, todo: Sequence[Item]) -> list[Any]:
        """What is to be done, with the others of its batch: a result depends on all of them."""
        opened = [self._open(item) if item in todo else None for item in unit]
        if any(isinstance(each, Opened) for each in opened):
            pairs = zip(opened, unit, strict=True)
            return [self._open(item) if each is None else each for each, item in pairs]
        return opened

    def _open(self, item: Item) -> Opened | Exception:
        try:
            return self.recipe.open(item.path, self.target if item.target is None else item.target)
        except Exception as error:  # any error of a reader is the input's own
            if self._is_named(item):
                return error
            return ArgumentError(
                f"It cannot be read or preprocessed ({type(error).__name__}). The message may name "
                "the patient: explain() shows it, or keep_names=True (--keep-names)."
            )

    def _explain(self, unit: Unit, opened: list[Any]) -> list[Any]:
        """In the main thread: its explanation and seconds, or its error; None if it is done."""
        self.claims.begin(_key(unit))
        outcomes: dict[int, Any] = {
            index: each for index, each in enumerate(opened) if isinstance(each, Exception)
        }
        numbered = [(n, each) for n, each in enumerate(opened) if isinstance(each, Opened)]
        for _, group in groupby(numbered, lambda pair: pair[1].batch or pair[0]):
            numbers, batch = zip(*group, strict=True)
            outcomes |= zip(numbers, self._explain_batch(batch), strict=True)
        return [outcomes.get(index) for index in range(len(unit))]

    def _explain_batch(self, batch: Sequence[Opened]) -> list[Any]:
        start = perf_counter()
        try:
            explanations = self.recipe.explain_batch(batch)
        except Exception as error:  # of the model, for one of them
            if len(batch) == 1:
                return [error]
            return [each for one in batch for each in self._explain_batch([one])]
        seconds = (perf_counter() - start) / len(batch)
        return [(explanation, seconds) for explanation in explanations]

    def _finish(self, unit: Unit, outcomes: Sequence[Any], bar: Any) -> None:
        """In the writing thread: write the results that are not there yet, and release the unit."""
        for item, outcome in zip(unit, outcomes, strict=True):
            if outcome is not None and self._record(item) is None:
                self._write(item, outcome)
        self.claims.release(_key(unit))
        bar.update(len(unit))

    def _write(self, item: Item, outcome: Any) -> None:
        state = self._states[item.name]
        if not isinstance(outcome, Exception):
            try:
                outcome = self._save(item, state, *outcome)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _FATAL:
                    raise
                outcome = error
        if isinstance(outcome, Exception):
            outcome = Outcome(self._name(item), FAILED, item.group, error=message_of(outcome))
        self.journal.append(Record(item.key, state, time(), outcome))

    def _save(self, item: Item, state: str, explanation: Explanation, seconds: float) -> Outcome:
        folder = self._result_folder(item)
        earlier = read_report(folder)
        if earlier is None or (earlier.get("item") or [None])[0] == item.key:
            clear(folder)  # what a killed process left, or the result of what the input was
        explanation = self.results.finish(explanation)
        if self.results.keep_names:
            explanation = replace(explanation, facts={"path": str(item.path), **explanation.facts})
        files = save(
            explanation,
            folder,
            self.results.overlay,
            self.results.command,
            figures=False,
            page=self.results.page,
            record={"item": [item.key, state], "seconds": round(seconds, 6)},
        )
        report = json.loads(files["json"].read_text(encoding="utf-8"))
        return self._outcome_of(report, item)

    def _outcome_of(self, report: dict[str, Any], item: Item) -> Outcome:
        """By a report, whose numbers are rounded: also of a run that has ended."""
        first = report["results"][0]
        return Outcome(
            name=self._name(item),
            status=DONE,
            group=item.group,
            kind=report["input"]["kind"],
            folder=self._result_folder(item).relative_to(self.folder).as_posix(),
            target=first["class"],
            class_name=first["name"],
            score=first["score"],
            probability=first["probability"],
            warnings=len(report["warnings"]),
            seconds=report["seconds"],
        )

    # --------------------------------------------------------------------------------- names

    def _name(self, item: Item) -> str:
        """The input's name; of a scan, whose name may be a patient's, another one."""
        return item.name if self._is_named(item) else f"scan_{item.key}"

    def _result_folder(self, item: Item) -> Path:
        first, _, rest = self._name(item).partition("/")
        return self.folder / (f"{first}~" if first in SUMMARY_FILES else first) / rest

    def _is_named(self, item: Item) -> bool:
        if item.name not in self._named:
            kind = self.recipe.options.kind
            self._named[item.name] = self.results.keep_names or not _may_be_a_scan(item.path, kind)
        return self._named[item.name]

    def _choose_layers(self) -> None:
        """Let "auto" choose by the first input that can be explained, in each process alike."""
        if self.recipe.cam.layers:
            return
        for item in self.items:
            opened = self._open(item)
            if isinstance(opened, Opened):
                with suppress(RuntimeError, ValueError, TypeError, IndexError):  # the model's own
                    self.recipe.choose_layers(opened)
                    break
        if self.recipe.cam.layers:
            self.run_file.check_layers([layer.name for layer in self.recipe.cam.layers])


def _may_be_a_scan(path: Path, kind: str | None) -> bool:
    by_suffix = kind_of_suffix(path)
    if "volume" in (kind, by_suffix):
        return True
    try:
        return may_name_a_patient(path, by_suffix or find_kind(path, None))
    except (ValueError, OSError):  # a damaged file, of which nothing is known
        return by_suffix is None


def _make_units(items: Sequence[Item], target: Any, batch_size: int) -> list[Unit]:
    """Images with one target in batches, all others alone; the largest first.

    What is in a batch depends on the inputs alone, so that a result does not depend on the number
    of processes, or on when a run was stopped.
    """
    units: list[Unit] = []
    images = [item for item in items if kind_of_suffix(item.path) == "image"]
    for _, group in groupby(images, lambda item: repr(item.target)):
        of_target = list(group)
        starts = range(0, len(of_target), batch_size)
        units += [of_target[start : start + batch_size] for start in starts]
    units += [[item] for item in items if kind_of_suffix(item.path) != "image"]
    return sorted(units, key=lambda unit: -sum(item.stat()[0] for item in unit))


def _key(unit: Unit) -> str:
    return unit[0].key


def _killed() -> Exception:
    return ModelError(
        f"The process ended {MAX_ATTEMPTS} times or more while it explained this input, or another "
        "one of its batch: out of memory, or a crash. Explain it by itself; a later run tries "
        "again."
    )
