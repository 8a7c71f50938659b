"""Watches the exchange: grades what arrives, and puts the feedback back.

Each look does what is undone: it compares what is handed in with what is collected, that with what
is graded, and that with the feedback that was given. So a watch that was killed, at whatever
moment, is finished by the next. What is kept in memory only spares it looking twice.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep

from nbgrader.exchange import ExchangeError
from sqlalchemy.exc import SQLAlchemyError

from autograder.course import Busy, Course, CourseError, database_said, messages, quiet
from autograder.exchange import arrivals
from autograder.feedback import give, given, ready, remember
from autograder.grade import grade, warm
from autograder.gradebook import NotRecorded
from autograder.prepare.files import walk

__all__ = ["Look", "Watch"]

PAUSE = 5.0
"""Seconds from one look to the next."""
RETRY = 60.0
"""Seconds after which what failed for one student is tried again."""


@dataclass
class Look:
    """What one look did.

    Attributes:
        collected: students whose work was taken from the exchange.
        graded: students whose grade was recorded.
        given: students whose feedback was released.
        waiting: students who wait for manual grading, and so for their feedback.
        seconds: that it took.
        error: what ended it before all was done.
    """

    collected: list[str] = field(default_factory=list)
    graded: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: CourseError | None = None

    def __bool__(self) -> bool:
        return bool(self.collected or self.graded or self.given)

    def __str__(self) -> str:
        students = sorted({*self.collected, *self.graded, *self.given})
        named = ", ".join(students[:5]) + (", …" if len(students) > 5 else "")
        return (
            f"{len(self.collected)} collected, {len(self.graded)} graded, "
            f"{len(self.given)} given feedback, {len(self.waiting)} waiting for manual grading; "
            f"{self.seconds:.1f} s{f': {named}' if named else ''}"
        )


class Watch:
    """An assignment that is watched.

    Args:
        course: the course.
        assignment: its name in the gradebook.
        tell: is called with a line for each thing that is wrong, once as long as it stays so.

    Raises:
        CourseError: there is no such assignment.
    """

    def __init__(self, course: Course, assignment: str, tell: Callable[[str], None]) -> None:
        self.course, self.assignment, self._tell = course, assignment, tell
        course.sources(assignment)
        self._told: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        """Has the next look try everything."""
        self._retry, self.failing = math.inf, False
        self._known: set[str] = set()
        self._seen: object = None
        self._tried: dict[str, str] = {}

    def run(self) -> Iterator[Look]:
        """Looks again and again, and yields each look that did something."""
        warm(self.course, self.assignment)
        trouble = ""
        while True:
            look = self.look()
            if look:
                yield look
            said, trouble = trouble, str(look.error or "")
            if isinstance(look.error, Busy):
                trouble = "waiting for another run that is at work in this course"
            if trouble not in ("", said):
                self._tell(trouble)
            sleep(PAUSE)

    def look(self) -> Look:
        """Does what is undone; what it does stays, whatever ends it."""
        started = monotonic()
        if started > self._retry:
            self._forget()
        look = Look()
        try:
            with _told():
                self.course.sources(self.assignment)  # else nbgrader would make a new gradebook
                self._collect(look)
                self._grade(look)
                self._give(look)
        except CourseError as error:
            look.error = error
        look.seconds = monotonic() - started
        if not self.failing and look.error is None:
            self._told.clear()
        elif self.failing and self._retry == math.inf:
            self._retry = monotonic() + RETRY
        return look

    def _say(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

    def _fail(self, line: str) -> None:
        self.failing = True
        self._say(line)

    def _collect(self, look: Look) -> None:
        directory = self.course.directory(assignment_id=self.assignment)
        there = arrivals(self.course.config, directory, quiet())
        new = there.arrived(self._known)
        if not new:
            return
        before = self._collected()
        with self.course.locked(), messages() as errors, messages(logging.WARNING) as warned:
            there.start()
        for line in warned:
            self._say(line)
        self.failing |= bool(errors)
        self._known |= new
        after = self._collected()
        look.collected = [student for student in after if after[student] != before.get(student)]

    def _collected(self) -> dict[str, int]:
        """When each student's folder was made."""
        found = self.course.submissions(self.assignment)
        return {student: folder.stat().st_ctime_ns for student, folder in found.items()}

    def _grade(self, look: Look) -> None:
        submitted = {
            student: [
                (name, entry.stat(follow_symlinks=False).st_ctime_ns, entry.inode())
                for name, entry in walk(folder)
            ]
            for student, folder in self.course.submissions(self.assignment).items()
        }
        if not submitted or submitted == self._seen:
            return
        summary = grade(self.course, self.assignment, progress=False, tell=self._say)
        for student, why in summary.failed.items():
            self._fail(f"{student}: not recorded: {why}")
        self._seen = submitted
        look.graded = summary.graded

    def _give(self, look: Look) -> None:
        digests, look.waiting = ready(self.course, self.assignment)
        done = given(self.course, self.assignment)
        due = {
            s: d for s, d in sorted(digests.items()) if d not in (done.get(s), self._tried.get(s))
        }
        if not due:
            return
        with self.course.locked():
            for student, digest in due.items():
                try:
                    give(self.course, self.assignment, student)
                except (NotRecorded, OSError, ValueError) as error:
                    self._tried[student] = digest
                    self._fail(f"{student}: no feedback: {error}")
                    continue
                done[student] = digest
                remember(self.course, self.assignment, done)
                look.given.append(student)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tells in words why a look had to end."""
    try:
        yield
    except SQLAlchemyError as error:
        raise CourseError(f"the gradebook cannot be used: {database_said(error)}") from error
    except ExchangeError as error:
        raise CourseError(f"the exchange cannot be used: {error}") from error
    except OSError as error:
        raise CourseError(f"the course cannot be used: {error}") from error
