"""Puts the submissions of an LMS's archive into the course's `submitted/STUDENT/ASSIGNMENT/`."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autograder.atomic import exchange
from autograder.course import Course, CourseError
from autograder.lms.archive import Archive, shown
from autograder.lms.hands import Hand, few, hands_of, owners_of
from autograder.lms.places import LMS
from autograder.lms.remembered import recall, remember
from autograder.lms.roster import Person, Roster
from autograder.lms.table import Table
from autograder.lms.work import Work, work_of

__all__ = ["Collected", "collect_archive"]


@dataclass
class Collected:
    """What was done with an archive.

    Attributes:
        placed: students whose folder was written, or would be.
        unchanged: students whose folder already was as the archive has it.
        kept: students whose folder holds something else, which was kept.
        left_out: who is not a student, or has handed in no notebook of the assignment.
        told: a line for all that is worth a look.
    """

    placed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def collect_archive(
    course: Course,
    assignment: str,
    path: Path,
    *,
    roster: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Sorts an archive of submissions into the course.

    Args:
        course: the course.
        assignment: its name in the gradebook.
        path: of the zip file, as it came from Moodle or Canvas.
        roster: a CSV file of the LMS that says who is who.
        force: replaces what a student's folder holds, where that differs. Without it the folder is
            kept, as `nbgrader zip_collect` keeps it.
        dry_run: writes nothing.

    Raises:
        CourseError: nothing can be collected, and why.
    """
    sources = course.sources(assignment)
    people = Roster(Table(roster)) if roster else None
    collected = Collected()
    with Archive(path) as archive, course.locked():
        lms, hands, collected.told = hands_of(archive)
        if people and people.lms != lms:
            raise CourseError(f"{path} is {lms}'s, but {roster} is {people.lms}'s")
        before = recall(course, assignment)
        owners = owners_of(course, lms, hands, people, before.numbers(lms))
        collected.told += owners.told
        collected.left_out += map(str, owners.nobody)
        timed = not archive.times_are_of_packing
        origins = {}
        known = set()  # whose time was told by a roster before
        for student, (hand, person) in sorted(owners.students.items()):
            work = work_of(archive, hand, sources, timed)
            if work.origin:
                folder = course.submitted(assignment, student)
                if times := [person.submitted] if person.submitted else work.times:
                    work.files["timestamp.txt"] = f"{max(times):%Y-%m-%d %H:%M:%S} UTC\n".encode()
                elif (time := _time(folder)) and _holds(folder, work.files | time):
                    work.files |= time
                    known.add(student)
                origins[student] = work.origin
                _put(folder, student, work, collected, force, dry_run)
            else:
                work.told.append(f"no notebook of {assignment}; nothing is taken")
                collected.left_out.append(str(hand))
            collected.told += few(f"{student}: ", work.told)
        if owners.students and not origins:
            raise CourseError(f"no file in {path} is a notebook of {assignment}")
        taken = {student: owners.students[student] for student in origins}
        if new := [f"{s} ({taken[s][0].who})" for s in sorted(owners.new & taken.keys())]:
            collected.told.append(f"new to the gradebook: {shown(', '.join(new), 100_000)}")
        if not timed:
            collected.told += _without_times(lms, taken, known)
        if not dry_run:
            remember(course, assignment, lms, origins)
    return collected


def _without_times(
    lms: LMS, taken: Mapping[str, tuple[Hand, Person]], known: Collection[str]
) -> list[str]:
    """Names the students whose time of submission is not known."""
    untimed = [s for s, (_, person) in sorted(taken.items()) if not person.submitted]
    untimed = [student for student in untimed if student not in known]
    if not untimed:
        return []
    who = "everybody" if len(untimed) == len(taken) else ", ".join(untimed)
    told = f"{who}: the archive does not say when it was handed in, so it never counts as late"
    if lms == "Moodle":
        return [f"{told}; Moodle's grading worksheet does, in English (--roster)"]
    late = [s for s, (hand, _) in sorted(taken.items()) if any(p.late for _, p in hand.members)]
    return [f"{told}; Canvas marks as late: {', '.join(late) or 'nobody'}"]


def _put(
    folder: Path, student: str, work: Work, collected: Collected, force: bool, dry_run: bool
) -> None:
    """Makes a student's folder beside and exchanges it, unless there is one that differs."""
    beside = folder.with_name(f".{folder.name}.new")
    try:
        if not dry_run:
            _remove(beside)  # of a run that was killed
        is_there = folder.is_symlink() or (folder.exists() and any(folder.iterdir()))
        if is_there and _holds(folder, work.files):
            collected.unchanged.append(student)
            return
        if is_there and not force:
            work.told.append(f"{folder} holds something else, and is kept; --force replaces it")
            collected.kept.append(student)
            return
        if is_there:
            work.told.append(f"{folder} held something else, and is replaced")
        collected.placed.append(student)
        if dry_run:
            return
        for name, data in work.files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(data)
        exchange(beside, folder)
        _remove(beside)
    except OSError as error:
        raise CourseError(f"{folder} cannot be written: {error}") from error


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _time(folder: Path) -> dict[str, bytes]:
    """The time of submission that a folder holds already."""
    path = folder / "timestamp.txt"
    return {path.name: path.read_bytes()} if path.is_file() and not path.is_symlink() else {}


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder holds these files, and nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    there = {path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    return there == {folder / name for name in files} and all(
        path.is_file() and not path.is_symlink() and path.read_bytes() == files[name]
        for name, path in ((name, folder / name) for name in files)
    )
