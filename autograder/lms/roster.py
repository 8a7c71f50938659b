"""Who is who: the people in an LMS's CSV file, and the course's own students.

A Canvas gradebook (`lib/gradebook_exporter.rb`) has the columns Student, ID, SIS User ID, SIS Login
ID, Section, then `Title (number)` for each assignment. Moodle's grading worksheet
(`mod/assign/gradingtable.php`) has Identifier, Full name, Grade and more; its grade export
(`grade/export/txt`) First name, Last name, ID number, Email address and more. Moodle writes these
names in the teacher's language; they are read in English.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nbgrader.api import Gradebook

from autograder.course import CourseError
from autograder.lms.notebooks import key
from autograder.lms.places import LMS
from autograder.lms.table import Table

__all__ = ["Known", "Match", "Person", "Roster", "known_students", "match", "name_keys"]

#: The columns that can hold the course's student ids, the likeliest first.
_IDS: dict[LMS, tuple[str, ...]] = {
    "Canvas": ("sis login id", "sis user id", "integration id", "id"),
    "Moodle": ("username", "id number", "email address"),
}
_TIMES = ("%A, %d %B %Y, %I:%M %p", "%A, %B %d, %Y, %I:%M %p")


@dataclass(frozen=True)
class Person:
    """Somebody in the LMS.

    Attributes:
        number: in the LMS: Canvas's of the user, Moodle's of the participant in one assignment.
        ids: what may be the student's id in the course, by the name of its column.
        names: the full name as a `key`, in whatever order its parts come.
        row: of the CSV file.
        submitted: when, as far as the LMS says.
    """

    number: str
    ids: Mapping[str, str]
    names: frozenset[str]
    row: int = 0
    submitted: datetime | None = None


@dataclass(frozen=True)
class Known:
    """A student of the gradebook."""

    id: str
    names: frozenset[str]
    email: str
    lms_user_id: str


@dataclass
class Match:
    """Which person is which student, by the person's place in the list; and who is not, and why."""

    students: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


class Roster:
    """The people in a CSV file that an LMS wrote.

    Attributes:
        lms: that wrote it.
        people: one for each row that names somebody.
        is_worksheet: whether it is one of Moodle's, for one assignment.

    Raises:
        CourseError: the file has no columns that are known.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.columns = columns = table.columns()
        names: tuple[str, ...]
        self.is_worksheet = {"identifier", "full name", "grade"} <= columns.keys()
        if {"id", "section"} <= columns.keys() and {"student", "lastname"} & columns.keys():
            self.lms: LMS = "Canvas"
            names, number = ("student", "lastname", "firstname"), "id"
        elif self.is_worksheet or {"first name", "email address"} <= columns.keys():
            self.lms = "Moodle"
            names, number = ("full name", "first name", "last name", "surname"), "identifier"
        else:
            raise CourseError(
                f"{table.path} has no columns that are known: it should be the gradebook that "
                "Canvas exports, or Moodle's grading worksheet or grade export, in English"
            )
        self.people = []
        for row in range(1, len(table.rows)):
            given = [text for name in names if (text := self._value(row, name))]
            is_points = self.lms == "Canvas" and "points possible" in " ".join(given).casefold()
            if given and not is_points:
                ids = {name: text for name in _IDS[self.lms] if (text := self._value(row, name))}
                digits = re.search(r"[0-9]+$", self._value(row, number))
                when = _time(self._value(row, "last modified (submission)"))
                self.people.append(
                    Person(digits[0] if digits else "", ids, name_keys(given), row, when)
                )

    def _value(self, row: int, column: str) -> str:
        return self.table.value(row, self.columns.get(column))

    def of(self, number: str, who: str) -> Person | str:
        """The person whom an archive gives this number and name; or why there is none."""
        if any(person.number for person in self.people):
            found = [person for person in self.people if person.number == number]
        else:
            found = [person for person in self.people if key(who) in person.names]
        if len(found) == 1:
            return found[0]
        name = self.table.path.name
        return f"is in {name} more than once" if found else f"is not in {name}"


def name_keys(given: Sequence[str]) -> frozenset[str]:
    """The keys of a name, whichever of its parts comes first."""
    parts = [part for text in given for part in text.split(",", 1)]
    return frozenset({key("".join(parts)), key("".join(reversed(parts)))} - {""})


def _time(text: str) -> datetime | None:
    """A time as Moodle writes it: of the teacher's own zone, which is taken for this machine's."""
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).astimezone(UTC)
        except ValueError:
            continue
    return None


def known_students(gradebook: Gradebook) -> list[Known]:
    """The gradebook's students."""
    return [
        Known(
            str(student.id),
            name_keys([student.first_name, student.last_name])
            if student.first_name and student.last_name
            else frozenset(),
            (student.email or "").casefold(),
            str(student.lms_user_id or ""),
        )
        for student in gradebook.students
    ]


def match(people: Sequence[Person], known: Sequence[Known], lms: LMS) -> Match:
    """Matches people with students.

    The ids of a course stand in one column: it is looked for first, once for all. Where there is
    none, a student is found by the LMS's number (Canvas's only: Moodle's holds for one assignment),
    by e-mail address, or by a name that nobody else has. Who is not found is new, with the id of
    the likeliest column.
    """
    found = Match()
    ids = {student.id for student in known}
    column = _column(people, ids, lms)
    for position, person in enumerate(people):
        own = person.ids.get(column or "", "")
        if not own:
            candidates = _candidates(person, known, lms)
            own = next((person.ids[name] for name in _IDS[lms] if name in person.ids), "")
            if len(candidates) > 1:
                found.problems[position] = f"may be {' or '.join(sorted(candidates))}"
                continue
            own = candidates.pop() if candidates else own
        if own:
            found.students[position] = own
        else:
            found.problems[position] = "is nobody whom the gradebook has by this name"
    for student, times in Counter(found.students.values()).items():
        if times > 1:
            for position in [p for p, own in found.students.items() if own == student]:
                found.problems[position] = f"is not the only one who would be {student}"
                del found.students[position]
    return found


def _column(people: Sequence[Person], ids: Iterable[str], lms: LMS) -> str | None:
    """The column with the course's ids: at least half of those who could be found in it are."""
    ids = set(ids)
    hits = {name: sum(p.ids.get(name) in ids for p in people) for name in _IDS[lms]}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] and 2 * hits[best] >= min(len(people), len(ids)) else None


def _candidates(person: Person, known: Iterable[Known], lms: LMS) -> set[str]:
    known = list(known)
    email = person.ids.get("email address", "").casefold()
    tests = (
        lambda student: lms == "Canvas" and student.lms_user_id == person.number != "",
        lambda student: email != "" and student.email == email,
        lambda student: bool(student.names & person.names),
    )
    for test in tests:
        if found := {student.id for student in known if test(student)}:
            return found
    return set()
