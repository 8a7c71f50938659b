"""A course folder: its nbgrader configuration, gradebook, submissions and graded notebooks."""

from __future__ import annotations

import contextlib
import copy
import glob
import io
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat.v4
from filelock import FileLock, Timeout
from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Gradebook,
    MissingEntry,
    Notebook,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.apps.baseapp import NbGrader
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError
from traitlets.config import Config

import autograder
from autograder.prepare.source import SourceNotebook, source_notebooks
from autograder.prepare.submission import Rules
from autograder.steps import rules_of, work_folder

__all__ = [
    "Busy",
    "Course",
    "CourseError",
    "database_said",
    "messages",
    "quiet",
    "said_of_cells",
    "total",
]


class CourseError(Exception):
    """Why nothing can be graded here, and what to do about it."""


class Busy(CourseError):
    """Another run is at work in this course."""


@dataclass
class Course:
    """A course, read from its folder.

    Attributes:
        root: the folder with `nbgrader_config.py`.
        config: the course's configuration with the grader installed.
        installs: whether the configuration itself installs the grader.
    """

    root: Path
    config: Config
    installs: bool = True

    @classmethod
    def at(cls, folder: Path) -> Course:
        """The course in a folder, as its `nbgrader_config.py` describes it.

        Raises:
            CourseError: there is no such folder, or its configuration fails.
        """
        if not folder.is_dir():
            raise CourseError(f"{folder} is not a folder; name the course's with --course")
        app = NbGrader(log=quiet())
        config_file = folder / "nbgrader_config.py"
        if config_file.exists() and str(folder.resolve()) not in sys.path:
            sys.path.insert(0, str(folder.resolve()))  # as nbgrader does for the folder it is in
        try:
            with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
                app.raise_config_file_errors = True
                app.initialize([], root=str(folder.resolve()))
        except Exception as error:
            raise CourseError(f"{config_file} fails: {error!r}") from error
        config = copy.deepcopy(app.config)
        if "root" not in config.CourseDirectory:
            config.CourseDirectory.root = str(folder.resolve())
        given = repr(config)  # traitlets' lazy values are equal to no others
        autograder.install(config)  # a second time changes nothing
        return cls(Path(config.CourseDirectory.root), config, installs=repr(config) == given)

    def directory(self, **changes: Any) -> CourseDirectory:
        """nbgrader's view of the folder, with settings of its own."""
        return CourseDirectory(config=self.config, log=quiet(), **changes)

    @property
    def work(self) -> Path:
        """The grader's own folder in the course: results, staging, lock."""
        return work_folder(self.root)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs away; a run that was killed holds no lock.

        Raises:
            Busy: another run is at work here.
        """
        self.work.mkdir(exist_ok=True)
        try:
            lock = FileLock(self.work / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise Busy(f"another run is grading in {self.root}; wait for it, or end it") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def database(self) -> Path | None:
        """The gradebook's file, where it is one (SQLite)."""
        url = make_url(self.directory().db_url)
        if url.get_backend_name() != "sqlite":
            return None
        return Path((url.database or "").removeprefix("file:"))

    @property
    def address(self) -> str:
        """Where the gradebook is, in words: its file, or the database's URL without a password."""
        return str(self.database or make_url(self.directory().db_url).render_as_string())

    def has_gradebook(self) -> bool:
        """Whether there is one; opening it would make it.

        Raises:
            SQLAlchemyError, ModuleNotFoundError: its server cannot be asked.
        """
        if self.database is not None:
            return self.database.exists()
        engine = create_engine(self.directory().db_url)
        try:
            return inspect(engine).has_table(Assignment.__tablename__)
        finally:
            engine.dispose()

    def gradebook(self) -> Gradebook:
        """The course's gradebook."""
        directory = self.directory()
        return Gradebook(directory.db_url, directory.course_id)

    def sources(self, assignment: str) -> dict[str, SourceNotebook]:
        """The assignment's notebooks as the gradebook has them.

        Raises:
            CourseError: there is no such assignment, or it is not in Python.
        """
        if not self.has_gradebook():
            missing = f"there is no gradebook ({self.address}): nbgrader generate_assignment"
            if not (self.root / "nbgrader_config.py").exists():
                missing += "; or name the course's folder with --course"
            raise CourseError(missing)
        try:
            with self.gradebook() as gradebook:
                sources = source_notebooks(gradebook, assignment)
                known = [a.name for a in gradebook.assignments]
        except MissingEntry:
            with self.gradebook() as gradebook:
                known = [a.name for a in gradebook.assignments]
            raise CourseError(
                f"the gradebook has no assignment {assignment!r}, only: {', '.join(known) or '-'}"
            ) from None
        if not sources:
            raise CourseError(
                f"the assignment {assignment!r} has no notebooks in the gradebook: "
                f"nbgrader generate_assignment {assignment}"
            )
        for source in sources.values():
            if not source.is_python:
                language = source.kernelspec.get("language")
                raise CourseError(f"{source.name} is in {language}; only Python can be graded")
        return sources

    def _matches(self, step: str, assignment: str) -> dict[str, Path]:
        directory = self.directory()
        pattern = self.directory(root=glob.escape(directory.root)).format_path(
            glob.escape(step), "*", glob.escape(assignment)
        )
        expression = directory.format_path(
            re.escape(step), "(?P<student_id>.*)", re.escape(assignment), escape=True
        )
        found = {}
        for path in sorted(glob.glob(pattern)):  # noqa: PTH207, the pattern is absolute
            if match := re.fullmatch(expression, path):
                found[match["student_id"]] = Path(path)
        return found

    def submissions(self, assignment: str) -> dict[str, Path]:
        """The submitted folders, by student, without those whom the course excludes."""
        directory = self.directory()
        excluded = directory.student_id_exclude.split(",")
        found = self._matches(directory.submitted_directory, assignment)
        return {student: path for student, path in found.items() if student not in excluded}

    def rules(self, assignment: str) -> Rules:
        """What the configuration says of an assignment's submissions."""
        converter = Autograde(coursedir=self.directory(), config=self.config, log=quiet())
        return rules_of(converter, assignment)

    def source(self, assignment: str) -> Path:
        """Where the solved notebooks are."""
        return self._folder("source", ".", assignment)

    def submitted(self, assignment: str, student: str) -> Path:
        """Where a student's submission is, or will be."""
        return self._folder("submitted", student, assignment)

    def graded(self, assignment: str, student: str) -> Path:
        """Where a student's graded notebooks are, or will be."""
        return self._folder("autograded", student, assignment)

    def feedback(self, assignment: str, student: str) -> Path:
        """Where a student's feedback is, or will be."""
        return self._folder("feedback", student, assignment)

    def _folder(self, step: str, student: str, assignment: str) -> Path:
        directory = self.directory()
        return Path(
            directory.format_path(getattr(directory, f"{step}_directory"), student, assignment)
        )

    def graded_notebooks(self, assignment: str, student: str) -> dict[str, NotebookNode]:
        """A student's graded notebooks, by name; those that cannot be read are left out."""
        notebooks = {}
        for path in sorted(self.graded(assignment, student).glob("*.ipynb")):
            with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
                notebooks[path.stem] = nbformat.v4.reads(path.read_text())
        return notebooks

    def points(self, assignment: str) -> dict[str, float]:
        """What each student has: with manual points, less the penalty for lateness."""
        with self.gradebook() as gradebook:
            found = gradebook.assignment_submissions(assignment)
            return {submission.student_id: total(submission) for submission in found}

    def auto_scores(self, assignment: str) -> dict[str, dict[tuple[str, str], float | None]]:
        """What the autograder gave: by student, then by notebook and cell."""
        scores: dict[str, dict[tuple[str, str], float | None]] = {}
        with self.gradebook() as gradebook:
            for student, notebook, cell, score in said_of_cells(
                gradebook, assignment, Grade, Grade.auto_score
            ):
                scores.setdefault(student, {})[notebook, cell] = score
        return scores


def said_of_cells(gradebook: Gradebook, assignment: str, table: Any, *columns: Any) -> Any:
    """Student, notebook, cell, and columns of a table about cells, such as grades or comments."""
    return (
        gradebook.db.query(SubmittedAssignment.student_id, Notebook.name, BaseCell.name, *columns)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Notebook, SubmittedNotebook.notebook_id == Notebook.id)
        .join(table, table.notebook_id == SubmittedNotebook.id)
        .join(BaseCell, table.cell_id == BaseCell.id)
        .join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
        .filter(Assignment.name == assignment)
    )


def total(submission: SubmittedAssignment) -> float:
    """A submission's points: with manual ones, less the penalty for lateness.

    A server adds up a submission's cells in any order, and 0.1 + 0.2 + 0.7 is not 0.7 + 0.2 + 0.1.
    """
    points: float = submission.score - (submission.late_submission_penalty or 0.0)
    return max(0.0, round(points, 9))


def database_said(error: SQLAlchemyError) -> str:
    """A database's error in one line."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def quiet() -> logging.Logger:
    """nbgrader's logger; none of its messages reaches the terminal."""
    logger = logging.getLogger("autograder.nbgrader")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


@contextlib.contextmanager
def messages(level: int = logging.ERROR) -> Iterator[list[str]]:
    """Collects what nbgrader logs."""
    caught: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            caught.append(record.getMessage())

    handler = Handler(level)
    quiet().addHandler(handler)
    try:
        yield caught
    finally:
        quiet().removeHandler(handler)
