"""Records results in the gradebook: nbgrader's own autograding, of notebooks that are restored.

A submission's graded folder is made beside the old one and exchanged for it, so that it is always
whole.
"""

from __future__ import annotations

import copy
import math
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.api import SubmittedAssignment, SubmittedNotebook
from nbgrader.converters import Autograde
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    OverwriteCells,
    OverwriteKernelspec,
)
from nbgrader.utils import determine_grade, is_grade, setenv
from sqlalchemy import create_engine
from sqlalchemy.exc import SAWarning
from traitlets.utils.importstring import import_item

from autograder.atomic import exchange, scratch
from autograder.course import Course, CourseError, messages, quiet, total
from autograder.prepare.files import ABOUT_SUBMISSION
from autograder.transaction import one_transaction

__all__ = ["NotRecorded", "Recorder", "Submission", "last_line"]


@dataclass
class Submission:
    """A submission whose jobs wait for their results.

    Attributes:
        student: whose it is.
        notebooks: restored.
        keys: of the jobs, by notebook.
        files: those beside the notebooks.
        about: nbgrader's own files beside them.
    """

    student: str
    notebooks: dict[str, NotebookNode]
    keys: dict[str, str]
    files: dict[str, bytes]
    about: dict[str, bytes]


_DONE_BY_RESTORE = (
    ClearOutput,
    DeduplicateIds,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
)


class _Autograde(Autograde):  # type: ignore[misc]
    """nbgrader's, for one folder whose name may be anything, where its own takes a pattern.

    The notebooks there are already restored, so nbgrader's own preprocessors that restore or check
    them are left out. Others that the course's configuration names stay.
    """

    folder = Path()

    def _init_preprocessors(self) -> None:
        for name in ("sanitize_preprocessors", "autograde_preprocessors"):
            steps = [import_item(s) if isinstance(s, str) else s for s in getattr(self, name)]
            setattr(self, name, [step for step in steps if step not in _DONE_BY_RESTORE])
        super()._init_preprocessors()

    def convert_single_notebook(self, notebook_filename: str) -> None:
        self._sanitizing = True
        self._init_preprocessors()
        if self.sanitize_preprocessors:
            super().convert_single_notebook(notebook_filename)
            return
        # There is nothing to sanitise, so what would only write the notebook anew is left out.
        about = self.init_single_notebook_resources(notebook_filename)["nbgrader"]
        folder = Path(self._format_dest(about["assignment"], about["student"]))
        folder.mkdir(parents=True, exist_ok=True)
        made = shutil.copy(notebook_filename, folder)
        self._sanitizing = False
        self._init_preprocessors()
        try:
            with setenv(NBGRADER_EXECUTION="autograde"):
                BaseConverter.convert_single_notebook(self, made)
        finally:
            self._sanitizing = True

    def init_notebooks(self) -> None:
        self.assignments = {str(self.folder): sorted(map(str, self.folder.glob("*.ipynb")))}


class NotRecorded(Exception):
    """Why one submission's result could not be recorded."""


class Recorder:
    """Records the results of submissions through nbgrader's own autograding.

    Args:
        course: the course.
        assignment: its name.
        staging: a folder for what is under way.
        isolated: whether submissions run in a sandbox.
        keep: whether to keep what is recorded; otherwise only the points are returned.
    """

    def __init__(
        self,
        course: Course,
        assignment: str,
        staging: Path,
        isolated: bool,
        keep: bool = True,
    ) -> None:
        self.course = course
        self.assignment = assignment
        self.staging = staging
        self.isolated = isolated
        self.keep = keep
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
        # Asked before each use, since the database's server may have restarted.
        self.engine = create_engine(self.db_url, pool_pre_ping=True)
        self.config = config
        self.converter = _Autograde(coursedir=self.directory, config=config, log=quiet())
        self.rules = course.rules(assignment)

    def is_recorded(
        self, submission: Submission, scores: dict[tuple[str, str], float | None]
    ) -> bool:
        """Whether graded folder and gradebook hold just what grading would make again."""
        graded = self.course.graded(self.assignment, submission.student)
        notebooks = self.course.graded_notebooks(self.assignment, submission.student)
        if notebooks.keys() != submission.notebooks.keys() or not scores:
            return False
        for name, notebook in notebooks.items():
            about = notebook.metadata.get("autograder", {})
            wanted = submission.notebooks[name].metadata.autograder
            if about.get("key") != submission.keys.get(name):
                return False
            if about.get("refused") != wanted.get("refused") or "reason" not in about:
                return False
            if _written(notebook) != _written(submission.notebooks[name]):  # Markdown has no job
                return False
            for cell in filter(is_grade, notebook.cells):
                score, _ = determine_grade(cell)
                if scores.get((name, cell.metadata.nbgrader.grade_id), -1) != score:
                    return False
        for name in ABOUT_SUBMISSION:
            kept = graded / name
            if (kept.read_bytes() if kept.exists() else None) != submission.about.get(name):
                return False
        return True

    def penalised_otherwise(self) -> set[str]:
        """Students whose penalty is not the one that due date, extension and rule give now."""
        named = self.converter.autograde_preprocessors
        steps = [import_item(step) if isinstance(step, str) else step for step in named]
        wanted = next((step for step in steps if issubclass(step, AssignLatePenalties)), None)
        if wanted is None:
            return set()
        step = wanted(config=self.config, log=quiet())
        with self.course.gradebook() as gradebook:
            return {
                submission.student_id
                for submission in gradebook.assignment_submissions(self.assignment)
                if submission.total_seconds_late or submission.late_submission_penalty
                for notebook in submission.notebooks
                if not _as_penalised(step, submission, notebook)
            }

    def _stage(self, submission: Submission) -> Path:
        """Writes the clean submission to where nbgrader is to find it."""
        folder = Path(
            self.directory.format_path(
                self.directory.submitted_directory, submission.student, self.assignment
            )
        )
        scratch(folder)
        for name, data in {**submission.files, **submission.about}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name, notebook in submission.notebooks.items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        return folder

    def record(self, submission: Submission) -> float:
        """Has nbgrader autograde the clean submission, then exchanges the graded folder.

        Returns:
            The points that the student has then, with manual ones and without the penalty.

        Raises:
            NotRecorded: nbgrader could not; the old result is still there.
            CourseError, OSError: it could not for a reason that ends the run.
        """
        submitted = self._stage(submission)
        made = Path(
            self.directory.format_path(
                self.directory.autograded_directory, submission.student, self.assignment
            )
        )
        self.converter.folder = submitted
        with messages() as errors, warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's, of a newer SQLAlchemy
            try:
                with one_transaction(self.db_url, self.engine, keep=self.keep):
                    self.converter.start()
                    with self.course.gradebook() as gradebook:
                        points = total(
                            gradebook.find_submission(self.assignment, submission.student)
                        )
            except NbGraderException:
                raise NotRecorded(last_line(errors)) from None
        if self.keep:
            exchange(made, self.course.graded(self.assignment, submission.student))
        scratch(made)
        shutil.rmtree(submitted)
        return points


def _as_penalised(
    step: AssignLatePenalties, submission: SubmittedAssignment, notebook: SubmittedNotebook
) -> bool:
    """Whether nbgrader would take from a notebook what was taken from it."""
    late, penalty = submission.total_seconds_late, None
    try:
        if late > 0:
            step.init_plugin()
            penalty = step.plugin_inst.late_submission_penalty(
                submission.student_id, notebook.score, late
            )
        wanted = 0.0 if penalty is None else step._check_late_penalty(notebook, penalty)
    except Exception:  # the course's own rule fails: recording says how
        return False
    return math.isclose(wanted, notebook.late_submission_penalty or 0.0, abs_tol=1e-9)


def _written(notebook: NotebookNode) -> list[tuple[str, str, dict[str, Any]]]:
    """What the student wrote and attached, cell by cell."""
    return [(c.cell_type, c.source, c.get("attachments", {})) for c in notebook.cells]


def last_line(errors: list[str]) -> str:
    """What nbgrader's log says was the matter.

    Raises:
        CourseError: nothing can be written, so the run has to end.
    """
    told = "\n".join(errors)
    for name in ("OperationalError", "OSError"):
        if found := [line for line in told.splitlines() if name in line]:
            raise CourseError(f"the results cannot be written: {found[-1]}")
    lines = [e.strip().splitlines()[-1] for e in errors if "Traceback" in e]
    return (lines or errors or ["nbgrader gave no reason"])[-1]
