"""Finds the student who handed in each file of an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from autograder.course import Course, CourseError
from autograder.lms.archive import Archive, Member, shown
from autograder.lms.places import LMS, Place, place
from autograder.lms.roster import Person, Roster, known_students, match, name_keys
from autograder.prepare.files import odd_name

__all__ = ["Hand", "Owners", "few", "hands_of", "owners_of"]

LINES = 10
"""The most lines about one student, or about files that belong to nobody."""


@dataclass
class Hand:
    """What one person has handed in."""

    number: str
    who: str
    members: list[tuple[Member, Place]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{shown(self.who, 60)} ({self.number})"


@dataclass
class Owners:
    """Which student handed in what.

    Attributes:
        students: by their ids: what they handed in, and who they are in the LMS.
        new: students whom the gradebook does not know.
        nobody: hands of people who are not students of the course.
        told: a line for each of these.
    """

    students: dict[str, tuple[Hand, Person]] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    nobody: list[Hand] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def few(head: str, lines: list[str]) -> list[str]:
    """The lines, each with a head; only the first of many."""
    more = [f"and {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return [head + line for line in [*lines[:LINES], *more]]


def hands_of(archive: Archive) -> tuple[LMS, list[Hand], list[str]]:
    """The archive's LMS, what each person has handed in, and a line for what is nobody's.

    Raises:
        CourseError: no file is named as one of the LMS would.
    """
    placed = [(member, place(member.name)) for member in archive.members]
    kinds = Counter(where.lms for _, where in placed if where)
    if not kinds:
        raise CourseError(
            f"{archive.path} is not an archive of submissions: no file in it is named as by Moodle "
            "or Canvas"
        )
    lms = kinds.most_common(1)[0][0]
    hands: dict[str, Hand] = {}
    strange = []
    for member, where in placed:
        if where is None or where.lms != lms:
            strange.append(f"{shown(member.name)}: not named as {lms} does; not taken")
        else:
            hand = hands.setdefault(where.number, Hand(where.number, where.who))
            hand.members.append((member, where))
    return lms, list(hands.values()), few("", strange)


def owners_of(
    course: Course,
    lms: LMS,
    hands: list[Hand],
    roster: Roster | None,
    before: Mapping[str, str],
) -> Owners:
    """The student of each hand, by the roster, by an earlier archive or by the gradebook.

    Args:
        course: the course.
        lms: that packed the archive.
        hands: what each person has handed in.
        roster: a CSV file of the LMS.
        before: the students of the LMS's numbers when the assignment was collected before.
    """
    with course.gradebook() as gradebook:
        known = known_students(gradebook)
    if roster:
        people = roster.people
        found: list[Person | str] = [roster.of(hand.number, hand.who) for hand in hands]
    else:
        people = [_person(lms, hand) for hand in hands]
        found = [*people]
    matched = match(people, known, lms)
    owners = Owners()
    students: dict[str, list[tuple[Hand, Person]]] = {}
    for hand, person in zip(hands, found, strict=True):
        if isinstance(person, str):
            problem: str | None = person
        else:
            position = next(i for i, other in enumerate(people) if other is person)
            student, problem = matched.students.get(position, ""), matched.problems.get(position)
            if roster is None and hand.number in before:
                student, problem = before[hand.number], None
            problem = problem or _odd_id(student)
            if problem is None:
                students.setdefault(student, []).append((hand, person))
        if problem:
            hint = "" if roster else "; --roster FILE can say who it is"
            owners.told.append(f"{hand}: {problem}{hint}; not taken")
            owners.nobody.append(hand)
    for student, several in students.items():
        if len(several) > 1:
            who = " and ".join(str(hand) for hand, _ in several)
            owners.told.append(f"{student}: {who} would both be this student; not taken")
            owners.nobody += [hand for hand, _ in several]
            continue
        owners.students[student] = several[0]
    owners.new = owners.students.keys() - {student.id for student in known}
    return owners


def _person(lms: LMS, hand: Hand) -> Person:
    """Who handed in, as far as an archive says it."""
    # Moodle's number is another in each assignment.
    lasting = lms == "Canvas" and hand.number.isdecimal()
    return Person(hand.number, {"id": hand.number} if lasting else {}, name_keys([hand.who]))


def _odd_id(student: str) -> str | None:
    """What is wrong with an id as the name of a folder."""
    if odd := odd_name(student):
        return f"has an id that {odd}"
    if "/" in student or "\\" in student or student.startswith("."):
        return f"has an id that cannot name a folder: {shown(student)}"
    return None
