"""Grades a class: prepares, has executed in parallel, records one after another.

A submission is skipped only if its jobs, its timestamp, its penalty and the gradebook all agree
with what was recorded. So a run that was killed, at whatever moment, is finished by the next.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from autograder.atomic import scratch
from autograder.course import Course, CourseError
from autograder.execute.parents import here
from autograder.execute.pool import Execute, Pool, run
from autograder.execute.sandbox import SandboxError
from autograder.execute.store import Store, job_key
from autograder.gradebook import NotRecorded, Recorder, Submission
from autograder.job import Job, Result
from autograder.log import Log, log_of
from autograder.modes import decide, described, told
from autograder.prepare.plan import Plan
from autograder.prepare.source import SourceNotebook
from autograder.prepare.submission import Prepared, prepare, set_aside
from autograder.suspects import Suspects, survives

__all__ = ["Summary", "grade", "judged", "warm"]

SET_ASIDE = "reading the submission has ended the grader twice"


@dataclass
class Summary:
    """What a run did.

    Attributes:
        graded: students whose result was recorded.
        unchanged: students with nothing new.
        failed: students whose result could not be recorded, and why.
        executed: how many jobs ran; the results of the others were known.
        changes: (student, before, after) for each student whose points change; manual points
            count, and the penalty for lateness is subtracted.
    """

    graded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    executed: int = 0
    changes: list[tuple[str, float | None, float]] = field(default_factory=list)


def grade(
    course: Course,
    assignment: str,
    *,
    students: Collection[str] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    isolated: bool = True,
    force: bool = False,
    dry_run: bool = False,
    execute: Execute = run,
    progress: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Grades every submission of an assignment that is new or changed.

    Args:
        course: the course.
        assignment: its name in the gradebook.
        students: whose submissions; everybody's by default.
        executor: runs stage 2; by default threads, each of which waits for a sandbox.
        workers: how many run at once, where there is no `executor`; one for each core.
        isolated: whether there has to be a sandbox.
        force: also runs what did not change.
        dry_run: records nothing, and tells what would change.
        execute: stage 2, a function that the executor's workers can import.
        progress: shows a bar.
        tell: is called, before anybody is graded, with each thing that the instructor should know.

    Raises:
        Busy: another run is grading this course.
        CourseError: nothing can be graded, or the run had to end; what was recorded stays.
    """
    sources = course.sources(assignment)
    submissions = _submissions(course, assignment, students)
    with course.locked(), log_of(course.work, assignment) as log:
        staging = scratch(course.work / "staging")
        plans = _decided(course, assignment, sources, Pool(executor, 1, isolated, execute))
        for line in told(plans):
            log.warning(line)
            tell(line)
        recorder = Recorder(course, assignment, staging, isolated, keep=not dry_run)
        store = Store(course.work / "results")
        before, had = course.auto_scores(assignment), course.points(assignment)
        for student in recorder.penalised_otherwise():  # nbgrader sets penalties as it records
            before.pop(student, None)
        pool = Pool(executor, workers, isolated, execute)
        summary = Summary()
        suspects = Suspects(course.work, assignment)
        order = suspects.last(
            submissions, lambda student: survives(course, assignment, student, isolated)
        )
        submissions = {student: submissions[student] for student in order}
        for student in sorted(suspects.aside):
            log.error("%s: set aside: %s", student, SET_ASIDE)
        try:
            with (
                _told(),
                tqdm(
                    total=len(submissions),
                    unit="submission",
                    disable=None if progress else True,  # None: where stderr is no terminal
                    desc=assignment,
                ) as bar,
            ):
                ready = _prepared(
                    recorder, sources, submissions, suspects, before, force, summary, bar
                )
                for submission in _executed(store, pool, ready, force):
                    with suspects.reading(submission.student, done=True):
                        _record(recorder, submission, had, summary, log)
                    bar.update()
        finally:
            pool.close()
            recorder.engine.dispose()
            summary.executed = pool.executed
        log.info(
            "%s%s, %d notebooks run",
            "nothing was recorded: " if dry_run else "",
            f"{len(summary.graded)} graded, {len(summary.unchanged)} unchanged",
            summary.executed,
        )
        shutil.rmtree(staging, ignore_errors=True)
    return summary


def _record(
    recorder: Recorder,
    submission: Submission,
    had: Mapping[str, float],
    summary: Summary,
    log: Log,
) -> None:
    """Records one submission, and notes what came of it."""
    student = submission.student
    try:
        points = recorder.record(submission)
    except NotRecorded as error:
        log.error("%s: not recorded: %s", student, error)
        summary.failed[student] = str(error)
        return
    log.info("%s %s %g points", student, "has" if recorder.keep else "would have", points)
    summary.graded.append(student)
    if points != had.get(student):
        summary.changes.append((student, had.get(student), points))


def warm(course: Course, assignment: str) -> None:
    """Imports what notebooks import where submissions run, so that the first need not wait for it.

    Nothing is said where it cannot be done; `grade` says why.
    """
    rules = course.rules(assignment)
    with contextlib.suppress(SandboxError):
        here().pair(rules.imports, rules.withheld, isolated=True)


def _submissions(
    course: Course, assignment: str, students: Collection[str] | None
) -> dict[str, Path]:
    """The submissions of these students, or of all."""
    found = course.submissions(assignment)
    if not found:
        where = course.submitted(assignment, "STUDENT")
        raise CourseError(f"there are no submissions; they belong in {where}")
    if students is None:
        return found
    if unknown := sorted(set(students) - found.keys()):
        raise CourseError(f"there is no submission of {assignment} by {', '.join(unknown)}")
    return {student: folder for student, folder in found.items() if student in students}


def judged(course: Course, assignment: str) -> Iterator[tuple[str, bool]]:
    """Where each graded cell is judged, a line each, and whether its solution earns its points.

    Raises:
        Busy: a run is grading this course.
        CourseError: the solution cannot be run.
    """
    sources = course.sources(assignment)
    with course.locked():
        plans = _decided(course, assignment, sources, Pool(workers=1))
    yield from described(sources, plans)


def _decided(
    course: Course, assignment: str, sources: Mapping[str, SourceNotebook], pool: Pool
) -> dict[str, Plan]:
    """What the solutions show, run as a class is."""

    def run_one(job: Job) -> Result:
        pool.submit("solution", job.to_bytes())
        while True:  # one that runs out of time beside others is run twice
            for _, result in pool.completed():
                return result

    with contextlib.closing(pool), _told():
        return decide(course, assignment, sources, run_one, isolated=pool.isolated)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tells in words why a run had to end."""
    try:
        yield
    except SandboxError as error:
        raise CourseError(f"nothing can be run: {error} (Here: --no-sandbox.)") from error
    except BrokenExecutor as error:
        raise CourseError(f"the executor runs nothing any more: {error}") from error
    except OSError as error:
        raise CourseError(f"the results cannot be written: {error}") from error


def _prepared(
    recorder: Recorder,
    sources: Mapping[str, SourceNotebook],
    submissions: Mapping[str, Path],
    suspects: Suspects,
    before: Mapping[str, dict[tuple[str, str], float | None]],
    force: bool,
    summary: Summary,
    bar: Any,
) -> Iterator[tuple[Submission, Prepared]]:
    """The submissions in which there is something new."""
    for student, folder in submissions.items():
        if student in suspects.aside:
            made = set_aside(sources, SET_ASIDE)
        else:
            with suspects.reading(student):
                made = prepare(folder, sources, recorder.rules)
        keys = {name: job_key(job, isolated=recorder.isolated) for name, job in made.jobs.items()}
        submission = Submission(student, made.notebooks, keys, made.files, made.about)
        if force or not recorder.is_recorded(submission, before.get(student, {})):
            yield submission, made
        else:
            summary.unchanged.append(student)
            bar.update()


def _executed(
    store: Store, pool: Pool, ready: Iterator[tuple[Submission, Prepared]], force: bool
) -> Iterator[Submission]:
    """The submissions, each as soon as its results are in the store.

    Few are held at a time, so that memory does not grow with the class.
    """
    waiting: list[Submission] = []
    fresh: set[str] = set()

    def finished(block: bool) -> Iterator[Submission]:
        for key, result in pool.completed(block):
            store.put(key, result)
            fresh.add(key)
        for submission in list(waiting):
            if not any(key in pool.running for key in submission.keys.values()):
                waiting.remove(submission)
                yield submission

    for submission, made in ready:
        for name, key in submission.keys.items():
            again = force and key not in fresh
            if key not in pool.running and (again or store.get(key) is None):
                pool.submit(key, made.jobs[name].to_bytes())
        waiting.append(submission)
        yield from finished(block=False)
        while pool.full:
            yield from finished(block=True)
    while waiting:
        yield from finished(block=True)
