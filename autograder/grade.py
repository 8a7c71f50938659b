"""Grades a class: prepares, has executed in parallel, records one after another.

A submission's graded folder is made beside and exchanged for the old one, so it is whole or as it
was; and it is skipped the next time only if its jobs, its timestamp and the gradebook all agree
with it. So a run that was killed, at whatever moment, is finished by the next.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import nbgrader.api
from filelock import FileLock, Timeout
from nbformat import NotebookNode
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import (
    CheckCellMetadata,
    DeduplicateIds,
    OverwriteCells,
    OverwriteKernelspec,
)
from nbgrader.utils import determine_grade, is_grade, parse_utc
from sqlalchemy.exc import SAWarning
from tqdm import tqdm
from traitlets.utils.importstring import import_item

from autograder.course import Course, CourseError, messages, quiet, scratch
from autograder.pool import Execute, Pool, run
from autograder.prepare import (
    ABOUT_SUBMISSION,
    Files,
    Refused,
    SourceNotebook,
    blank,
    read_bytes,
)
from autograder.record import Isolated, Reader, submission_files
from autograder.sandbox import SandboxError
from autograder.store import Store

__all__ = ["Busy", "Summary", "grade"]


class Busy(CourseError):
    """Another run is grading this course."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        graded: students whose result was recorded.
        unchanged: students with nothing new.
        failed: students whose result could not be recorded, and why.
        executed: jobs that ran, the others' results were known.
        changes: in a dry run, what grading would change: (student, before, after) in points.
    """

    graded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    executed: int = 0
    changes: list[tuple[str, float | None, float]] = field(default_factory=list)


@dataclass
class _Prepared:
    """A submission after stage 1."""

    student: str
    notebooks: dict[str, NotebookNode]
    keys: dict[str, str]
    jobs: dict[str, bytes]
    files: dict[str, bytes]
    about: dict[str, bytes]


def grade(
    course: Course,
    assignment: str,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    isolated: bool = True,
    force: bool = False,
    dry_run: bool = False,
    execute: Execute = run,
    progress: bool = True,
) -> Summary:
    """Grades every submission of an assignment that is new or changed.

    Args:
        course: the course.
        assignment: its name in the gradebook.
        executor: runs stage 2; by default threads, each of which waits for a sandbox.
        workers: how many run at once, where there is no `executor`; one for each core.
        isolated: whether there has to be a sandbox.
        force: runs again also what did not change.
        dry_run: grades into a copy of the gradebook, and tells what would change.
        execute: stage 2, a function that the executor's workers can import.
        progress: shows a bar.

    Raises:
        Busy: another run is grading this course.
        CourseError: nothing can be graded, or the run had to end; what was recorded stays.
    """
    sources = course.sources(assignment)
    submissions = course.submissions(assignment)
    with _locked(course), _one_engine():
        staging = scratch(course.work / "staging")
        recorder = _Recorder(course, assignment, staging, isolated, sources)
        if dry_run:
            recorder.rehearse()
        before = course.auto_scores(assignment)
        pool = Pool(executor, workers, isolated, execute)
        summary = Summary()
        try:
            with tqdm(
                total=len(submissions), unit="submission", disable=not progress, desc=assignment
            ) as bar:
                for prepared in _executed(recorder, pool, submissions, before, force, summary, bar):
                    try:
                        recorder.record(prepared)
                        summary.graded.append(prepared.student)
                    except _NotRecorded as error:
                        summary.failed[prepared.student] = str(error)
                    bar.update()
        except SandboxError as error:
            raise CourseError(f"nothing can be run: {error} (Here: --no-sandbox.)") from error
        except BrokenExecutor as error:
            raise CourseError(f"the executor runs nothing any more: {error}") from error
        except OSError as error:
            raise CourseError(f"the results cannot be written: {error}") from error
        finally:
            pool.close()
            summary.executed = pool.executed
        if dry_run:
            summary.changes = _changes(before, course.auto_scores(assignment, recorder.db_url))
        shutil.rmtree(staging, ignore_errors=True)
    return summary


@contextlib.contextmanager
def _locked(course: Course) -> Iterator[None]:
    """Keeps other runs away; a run that was killed holds no lock."""
    course.work.mkdir(exist_ok=True)
    lock = FileLock(course.work / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"another run is grading in {course.root}; wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _one_engine() -> Iterator[None]:
    """Has nbgrader use one engine for a database.

    It opens the gradebook nine times a submission, each time by an engine of its own, for which
    SQLAlchemy compiles every statement anew: a third of the time that recording takes.
    """
    create = nbgrader.api.create_engine
    nbgrader.api.create_engine = functools.cache(create)
    try:
        yield
    finally:
        nbgrader.api.create_engine = create


def _executed(
    recorder: _Recorder,
    pool: Pool,
    submissions: dict[str, Path],
    before: dict[str, dict[tuple[str, str], float | None]],
    force: bool,
    summary: Summary,
    bar: Any,
) -> Iterator[_Prepared]:
    """The submissions that are to be recorded, each as soon as its results are in the store.

    Few are held at a time, so that memory does not grow with the class.
    """
    waiting: list[_Prepared] = []
    fresh: set[str] = set()

    def finished(block: bool) -> Iterator[_Prepared]:
        for key, result in pool.completed(block):
            recorder.store.put(key, result)
            fresh.add(key)
        for prepared in list(waiting):
            if not any(key in pool.running for key in prepared.keys.values()):
                waiting.remove(prepared)
                yield prepared

    for student, folder in submissions.items():
        prepared = recorder.prepare(student, folder)
        if not force and recorder.is_recorded(prepared, before.get(student, {})):
            summary.unchanged.append(student)
            bar.update()
            continue
        for name, key in prepared.keys.items():
            again = force and key not in fresh
            if key not in pool.running and (again or recorder.store.get(key) is None):
                pool.submit(key, prepared.jobs[name])
        prepared.jobs = {}
        waiting.append(prepared)
        yield from finished(block=len(pool.running) >= pool.room)
    while waiting:
        yield from finished(block=True)


# Stages 1 and 3

_DONE_BY_RESTORE = (DeduplicateIds, OverwriteKernelspec, OverwriteCells, CheckCellMetadata)


class _Autograde(Autograde):  # type: ignore[misc]
    """nbgrader's, for one folder whose name may be anything, where its own takes a pattern.

    The notebooks there are restored: what nbgrader's own preprocessors would restore of them, or
    check, is left out. Others that the course's configuration names stay.
    """

    folder = Path()

    def _init_preprocessors(self) -> None:
        for name in ("sanitize_preprocessors", "autograde_preprocessors"):
            steps = [import_item(s) if isinstance(s, str) else s for s in getattr(self, name)]
            setattr(self, name, [step for step in steps if step not in _DONE_BY_RESTORE])
        super()._init_preprocessors()

    def init_notebooks(self) -> None:
        self.assignments = {str(self.folder): sorted(map(str, self.folder.glob("*.ipynb")))}


class _NotRecorded(Exception):
    """Why one submission's result could not be recorded."""


class _Recorder:
    """Prepares submissions, and records their results through nbgrader's own autograding."""

    def __init__(
        self,
        course: Course,
        assignment: str,
        staging: Path,
        isolated: bool,
        sources: dict[str, SourceNotebook],
    ) -> None:
        self.course = course
        self.assignment = assignment
        self.sources = sources
        self.store = Store(course.work / "results")
        self.staging = staging
        self.rehearsal = False
        config = copy.deepcopy(course.config)
        config.Reader.trusted = True
        config.NotebookExporter.optimistic_validation = True
        config.Isolated.sandbox = isolated
        relative = staging.relative_to(course.root)
        self.directory = course.directory(
            assignment_id=assignment,
            submitted_directory=str(relative / "submitted"),
            autograded_directory=str(relative / "autograded"),
        )
        self.db_url = self.directory.db_url
        self.config = config
        self.converter = _Autograde(coursedir=self.directory, config=config, log=quiet())
        # An exporter has the configuration that it is given, and none of its parent.
        self.reader = Reader(config=config, parent=self.converter)  # type: ignore[no-untyped-call]
        self.isolated = Isolated(parent=self.reader)

    def rehearse(self) -> None:
        """From now on grades go into a copy of the gradebook, and the folders stay as they are."""
        path = self.course.database
        if path is None:
            raise CourseError("--dry-run needs a gradebook in SQLite, of which it makes a copy")
        rehearsed = self.staging / "gradebook.db"
        with (
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(rehearsed)) as target,
        ):
            source.backup(target)
        self.db_url = self.directory.db_url = f"sqlite:///{rehearsed}"
        self.rehearsal = True

    # Stage 1

    def prepare(self, student: str, folder: Path) -> _Prepared:
        """Reads one submission; whatever is wrong with it ends in a named reason."""
        notebooks: dict[str, NotebookNode] = {}
        files = Files()
        about: dict[str, bytes] = {}
        if folder.is_symlink() or not folder.is_dir():
            refused = Refused("malformed", "the submission is no folder, but a link or a file")
            notebooks = {name: blank(s, refused) for name, s in self.sources.items()}
        else:
            try:
                files = submission_files(self.converter, folder, self.assignment)
            except OSError as error:
                files.refused["."] = f"the files cannot be read: {error.strerror}"
            for name, source in self.sources.items():
                path = folder / f"{name}.ipynb"
                if path.is_symlink() or path.exists():
                    notebooks[name] = self._read(path, source)
            if not notebooks:
                name, source = next(iter(self.sources.items()))
                refused = Refused("missing", f"{name}.ipynb was not submitted")
                notebooks[name] = blank(source, refused)
            about, odd = self._about(folder)
            for notebook in notebooks.values():
                told = [*notebook.metadata.autograder.get("tampering", []), *odd]
                notebook.metadata.autograder.tampering = [*told, *files.refused.values()]
        keys, jobs = {}, {}
        for name, notebook in notebooks.items():
            if "refused" not in notebook.metadata.autograder:
                job = self.isolated.job(notebook, files.taken)
                keys[name] = self.isolated.key(job)
                jobs[name] = job.to_bytes()
        return _Prepared(student, notebooks, keys, jobs, files.taken, about)

    def _read(self, path: Path, source: SourceNotebook) -> NotebookNode:
        try:
            return self.reader.read(path, source)
        except Exception as error:  # what nobody thought of must not stop the class either
            return blank(source, Refused("malformed", f"the notebook cannot be read: {error!r}"))

    def _about(self, folder: Path) -> tuple[dict[str, bytes], list[str]]:
        """nbgrader's own files beside the notebooks, and what is wrong with them."""
        about: dict[str, bytes] = {}
        odd: list[str] = []
        for name in ABOUT_SUBMISSION:
            try:
                data = read_bytes(folder / name, 1000)
                if name == "timestamp.txt":
                    parse_utc(data.decode().strip())
                about[name] = data
            except FileNotFoundError:
                continue
            except Refused as refused:
                odd.append(str(refused))
            except Exception:  # dateutil raises many things
                odd.append("timestamp.txt holds no time; the submission counts as one without")
        return about, odd

    # Stage 3

    def is_recorded(self, prepared: _Prepared, scores: dict[tuple[str, str], float | None]) -> bool:
        """Whether graded folder and gradebook hold just what grading would make again."""
        graded = self.course.graded(self.assignment, prepared.student)
        notebooks = self.course.graded_notebooks(self.assignment, prepared.student)
        if notebooks.keys() != prepared.notebooks.keys() or not scores:
            return False
        for name, notebook in notebooks.items():
            about = notebook.metadata.get("autograder", {})
            wanted = prepared.notebooks[name].metadata.autograder
            if about.get("key") != prepared.keys.get(name):
                return False
            if about.get("refused") != wanted.get("refused") or "reason" not in about:
                return False
            if _written(notebook) != _written(prepared.notebooks[name]):  # Markdown has no job
                return False
            for cell in filter(is_grade, notebook.cells):
                score, _ = determine_grade(cell)
                if scores.get((name, cell.metadata.nbgrader.grade_id), -1) != score:
                    return False
        for name in ABOUT_SUBMISSION:
            kept = graded / name
            if (kept.read_bytes() if kept.exists() else None) != prepared.about.get(name):
                return False
        return True

    def _stage(self, prepared: _Prepared) -> Path:
        """Writes the clean submission to where nbgrader is to find it."""
        folder = Path(
            self.directory.format_path(
                self.directory.submitted_directory, prepared.student, self.assignment
            )
        )
        scratch(folder)
        for name, data in {**prepared.files, **prepared.about}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name, notebook in prepared.notebooks.items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        return folder

    def record(self, prepared: _Prepared) -> None:
        """Has nbgrader autograde the clean submission, then exchanges the graded folder.

        Raises:
            _NotRecorded: nbgrader could not; the old result is still there.
            CourseError, OSError: it could not for a reason that ends the run.
        """
        submitted = self._stage(prepared)
        made = Path(
            self.directory.format_path(
                self.directory.autograded_directory, prepared.student, self.assignment
            )
        )
        self.converter.folder = submitted
        with messages() as errors, warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's, of a newer SQLAlchemy
            try:
                self.converter.start()
            except NbGraderException:
                raise _NotRecorded(_last_line(errors)) from None
        if not self.rehearsal:
            exchange(made, self.course.graded(self.assignment, prepared.student))
        scratch(made)
        shutil.rmtree(submitted)


def _written(notebook: NotebookNode) -> list[tuple[str, str, dict[str, Any]]]:
    """What the student wrote and attached, cell by cell."""
    return [(c.cell_type, c.source, c.get("attachments", {})) for c in notebook.cells]


def _last_line(errors: list[str]) -> str:
    """What nbgrader's log says was the matter."""
    told = "\n".join(errors)
    for name in ("OperationalError", "OSError"):
        if found := [line for line in told.splitlines() if name in line]:
            raise CourseError(f"the results cannot be written: {found[-1]}")
    lines = [e.strip().splitlines()[-1] for e in errors if "Traceback" in e]
    return (lines or errors or ["nbgrader gave no reason"])[-1]


def exchange(new: Path, old: Path) -> None:
    """Puts the folder `new` in the place of `old`, at once where the system can (Linux).

    What was `old` is then at `new`. Elsewhere `old` is away for an instant; a run that is killed
    just then finds it missing, and the next records it again.
    """
    old.parent.mkdir(parents=True, exist_ok=True)
    if not old.exists():
        new.rename(old)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if hasattr(libc, "renameat2") and (
        libc.renameat2(here, os.fsencode(new), here, os.fsencode(old), swap) == 0
    ):
        return
    away = new.with_name(new.name + ".old")
    old.rename(away)
    new.rename(old)
    away.rename(new)


def _changes(
    before: dict[str, dict[tuple[str, str], float | None]],
    after: dict[str, dict[tuple[str, str], float | None]],
) -> list[tuple[str, float | None, float]]:
    changes = []
    for student, scores in sorted(after.items()):
        new = sum(score or 0 for score in scores.values())
        old = sum(s or 0 for s in before[student].values()) if student in before else None
        if scores != before.get(student):
            changes.append((student, old, new))
    return changes
