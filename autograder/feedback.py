"""Makes a student's feedback and releases it, where that has not been done since the last change.

Once feedback is released, a digest of all that it was made from is kept. So what a run that was
killed has left undone is found by the next, and so is a mark that is given later.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbgrader.api import Comment, Grade, SubmittedNotebook
from nbgrader.converters import GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.exchange import ExchangeError
from sqlalchemy.exc import SAWarning

from autograder.atomic import write
from autograder.course import Course, messages, quiet, said_of_cells
from autograder.exchange import release
from autograder.gradebook import NotRecorded, last_line

__all__ = ["give", "given", "ready", "remember"]


class _Feedback(GenerateFeedback):  # type: ignore[misc]
    """nbgrader's, of one folder whose name may be anything, where its own takes a pattern."""

    folder = Path()

    def init_notebooks(self) -> None:
        self.assignments = {str(self.folder): sorted(map(str, self.folder.glob("*.ipynb")))}


def ready(course: Course, assignment: str) -> tuple[dict[str, str], list[str]]:
    """Whose feedback can be given, with a digest of what it says; and who waits for manual marks.

    Feedback is made from the graded folder and from what the gradebook says of it.
    """
    said: dict[str, list[Any]] = {}
    waiting = set()
    with course.gradebook() as gradebook:
        for student, *row, waits in said_of_cells(
            gradebook,
            assignment,
            Grade,
            *(Grade.auto_score, Grade.manual_score, Grade.extra_credit),
            *(SubmittedNotebook.late_submission_penalty, Grade.needs_manual_grade),
        ):
            said.setdefault(student, []).append(row)
            if waits:
                waiting.add(student)
        for student, *row in said_of_cells(
            gradebook, assignment, Comment, Comment.auto_comment, Comment.manual_comment
        ):
            said.setdefault(student, []).append(row)
    digests = {}
    for student in said.keys() & course.submissions(assignment).keys() - waiting:
        folder = course.graded(assignment, student)
        if folder.is_dir():
            files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir()]
            about = json.dumps([sorted(files), sorted(map(repr, said[student]))])
            digests[student] = hashlib.sha256(about.encode()).hexdigest()
    return digests, sorted(waiting)


def _kept(course: Course, assignment: str) -> Path:
    return course.work / "feedback" / f"{assignment}.json"


def given(course: Course, assignment: str) -> dict[str, str]:
    """The digests of the feedback that was given last, by student."""
    try:
        found = json.loads(_kept(course, assignment).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(course: Course, assignment: str, digests: Mapping[str, str]) -> None:
    """Keeps the digests of the feedback that was given."""
    write(_kept(course, assignment), json.dumps(digests, indent=0, sort_keys=True).encode())


def give(course: Course, assignment: str, student: str) -> None:
    """Makes a student's feedback anew, and puts it into the exchange.

    Raises:
        NotRecorded: nbgrader could not make it, or the exchange does not take it.
        CourseError, OSError: it cannot be written.
    """
    directory = course.directory(assignment_id=assignment)
    converter = _Feedback(coursedir=directory, config=course.config, log=quiet())
    converter.force = True
    converter.folder = course.graded(assignment, student)
    with messages() as errors, warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # nbgrader's, of a newer SQLAlchemy
        try:
            converter.start()
        except NbGraderException:
            raise NotRecorded(last_line(errors)) from None
    folder = course.feedback(assignment, student)
    with messages() as errors:
        try:
            release(course.config, directory, folder, quiet())
        except ExchangeError as error:
            raise NotRecorded((errors or [str(error)])[0]) from None
