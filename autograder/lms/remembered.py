"""What an archive called a student's files: kept for the way back to the LMS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.atomic import write
from autograder.course import Course
from autograder.lms.places import LMS, Place, place

__all__ = ["Remembered", "recall", "remember"]


@dataclass(frozen=True)
class Remembered:
    """The LMS that an assignment's submissions came from, and the notebooks' names there.

    Attributes:
        lms: the LMS; `None` where nothing was collected.
        names: by student, then by notebook.
    """

    lms: LMS | None
    names: Mapping[str, Mapping[str, str]]

    def place(self, student: str, notebook: str | None = None) -> Place | None:
        """Where a student's notebook, or whichever, was in the archive."""
        names = self.names.get(student, {})
        name = names.get(notebook) if notebook else next(iter(names.values()), None)
        return place(name) if name else None

    def numbers(self, lms: LMS) -> dict[str, str]:
        """The student of each number in this LMS."""
        if self.lms != lms:
            return {}
        places = ((student, self.place(student)) for student in self.names)
        return {where.number: student for student, where in places if where}


def _path(course: Course, assignment: str) -> Path:
    return course.work / "lms" / f"{assignment}.json"


def recall(course: Course, assignment: str) -> Remembered:
    """What was remembered of an assignment."""
    try:
        record = json.loads(_path(course, assignment).read_bytes())
        names = {str(student): dict(own) for student, own in record["students"].items()}
        return Remembered(record["lms"], names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Remembered(None, {})


def remember(
    course: Course, assignment: str, lms: LMS, names: Mapping[str, Mapping[str, str]]
) -> None:
    """Remembers what an archive called the notebooks, and keeps what earlier archives did."""
    before = recall(course, assignment)
    new = Remembered(lms, names).numbers(lms)
    kept = {s: before.names[s] for n, s in before.numbers(lms).items() if n not in new}
    record = {"lms": lms, "students": {**kept, **names}}
    write(_path(course, assignment), json.dumps(record, ensure_ascii=False, indent=1).encode())
