"""Fills in the grades in an LMS's own CSV file, and packs the feedback for it."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autograder.atomic import write
from autograder.course import Course, CourseError, total
from autograder.lms.archive import shown
from autograder.lms.notebooks import key
from autograder.lms.remembered import Remembered, recall
from autograder.lms.roster import Roster, known_students, match
from autograder.lms.table import Table

__all__ = ["Exported", "export_grades"]

_ASSIGNMENT = re.compile(r"(?P<title>.*) \((?P<number>[0-9]+)\)", re.DOTALL)
_COMMA = re.compile(r"[0-9]+,[0-9]+")


@dataclass
class Exported:
    """What was written.

    Attributes:
        csv: the new CSV file.
        filled: students whose grade is in it.
        without: students with a grade that is not in it, or with feedback that is not packed.
        told: a line for all that is worth a look.
    """

    csv: Path
    filled: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Grade:
    """A student's points, the penalty subtracted, and whether a cell waits for a human."""

    points: float
    waits: bool


def export_grades(
    course: Course,
    assignment: str,
    path: Path,
    *,
    column: str | None = None,
    feedback: Path | None = None,
) -> Exported:
    """Writes a copy of an LMS's CSV file with the grades of an assignment in it.

    The copy has `-graded` at the end of its name. Only the grades differ in it.

    Args:
        course: the course.
        assignment: its name in the gradebook.
        path: Canvas's gradebook, or Moodle's grading worksheet.
        column: the grades' column, where Canvas calls the assignment by another name.
        feedback: a zip file to make for the LMS, of the pages that nbgrader has made.

    Raises:
        CourseError: nothing can be exported, and why.
    """
    course.sources(assignment)
    table = Table(path)
    roster = Roster(table)
    if roster.lms == "Moodle" and not roster.is_worksheet:
        raise CourseError(
            f"{path} is not a grading worksheet: in Moodle's assignment, Download grading worksheet"
        )
    place = _column(roster, assignment, column)
    remembered = recall(course, assignment)
    grades, points = _grades(course, assignment)
    exported = Exported(path.with_name(f"{path.stem}-graded{path.suffix}"))
    rows = _rows(course, roster, remembered, set(grades), exported)
    values = _values(roster, rows, grades, place, exported)
    _compare_points(roster, place, points, exported)
    for student in sorted(set(grades) - set(rows)):
        exported.told.append(f"{student}: has a grade, but no row in {path.name}")
        exported.without.append(student)
    if absent := sorted(set(course.submissions(assignment)) - set(grades)):
        exported.told.append(f"handed in, but not graded yet: {', '.join(absent)}")
    data = table.replaced(values)
    packed = _feedback(course, assignment, remembered, grades, exported) if feedback else {}
    try:
        if feedback:
            _pack(feedback, packed)
        write(exported.csv, data)
    except OSError as error:
        raise CourseError(f"the result cannot be written: {error}") from error
    return exported


def _grades(course: Course, assignment: str) -> tuple[dict[str, _Grade], float]:
    """The grades as nbgrader exports them, and the points that could be had."""
    with course.gradebook() as gradebook:
        grades = {
            str(submission.student_id): _Grade(
                total(submission), bool(submission.needs_manual_grade)
            )
            for submission in gradebook.assignment_submissions(assignment)
        }
        points = float(gradebook.find_assignment(assignment).max_score)
    if not grades:
        raise CourseError(f"nothing of {assignment} is graded yet: python -m autograder grade")
    return grades, points


def _column(roster: Roster, assignment: str, wanted: str | None) -> int:
    """The place of the grades' column."""
    if roster.lms == "Moodle":
        if wanted:
            raise CourseError("--column is for Canvas; Moodle's worksheet has one assignment")
        return roster.columns["grade"]
    heads = [field.value for field in roster.table.rows[0]]
    titles = {i: match for i, head in enumerate(heads) if (match := _ASSIGNMENT.fullmatch(head))}
    name = wanted or assignment
    found = [i for i, match in titles.items() if name in (heads[i], match["number"])]
    found = found or [i for i, match in titles.items() if key(match["title"]) == key(name)]
    if len(found) == 1:
        return found[0]
    several = "more than one column" if found else "no column"
    known = ", ".join(shown(heads[i]) for i in titles) or "-"
    raise CourseError(
        f"{roster.table.path} has {several} {name!r}; name it with --column, one of: {known}"
    )


def _rows(
    course: Course,
    roster: Roster,
    remembered: Remembered,
    graded: set[str],
    exported: Exported,
) -> dict[str, int]:
    """The row of each student: as it was when the submissions were collected, else as matched."""
    numbers = remembered.numbers(roster.lms)
    with course.gradebook() as gradebook:
        matched = match(roster.people, known_students(gradebook), roster.lms)
    rows: dict[str, list[int]] = {}
    for position, person in enumerate(roster.people):
        student = numbers.get(person.number) or matched.students.get(position)
        if student:
            rows.setdefault(student, []).append(person.row)
        else:
            problem = matched.problems.get(position, "is nobody of the gradebook")
            exported.told.append(f"row {person.row + 1} {problem}; left as it is")
    for student in [s for s, own in rows.items() if len(own) > 1]:
        if student in graded:
            exported.told.append(f"{student}: has more than one row")
        del rows[student]
    return {student: own[0] for student, own in rows.items()}


def _values(
    roster: Roster,
    rows: Mapping[str, int],
    grades: Mapping[str, _Grade],
    place: int,
    exported: Exported,
) -> dict[tuple[int, int], str]:
    """The new fields. What is not filled is told, and left as it is."""
    table, changeable = roster.table, roster.columns.get("grade can be changed")
    comma = any(_COMMA.fullmatch(text) for text in _maxima(roster, place))
    values = {}
    absent = []
    for student, row in sorted(rows.items(), key=lambda item: item[1]):
        old = table.value(row, place)
        if student not in grades:
            absent.append(student)
        elif grades[student].waits:
            exported.told.append(f"{student}: waits for manual grading; left as it is")
        elif old.upper() in ("EX", "N/A"):
            exported.told.append(f"{student}: is {old} in Canvas; left as it is")
        elif roster.lms == "Moodle" and table.value(row, changeable).casefold() == "no":
            exported.told.append(f"{student}: Moodle lets nobody change the grade; left as it is")
        elif place >= len(table.rows[row]):
            exported.told.append(f"{student}: row {row + 1} is too short; left as it is")
        else:
            text = f"{grades[student].points:.2f}"
            values[row, place] = text.replace(".", ",") if comma else text
            exported.filled.append(student)
    if absent:
        exported.told.append(f"nothing graded, left as they are: {', '.join(absent)}")
    return values


def _maxima(roster: Roster, place: int) -> list[str]:
    """What the LMS says of the points that can be had."""
    table = roster.table
    if roster.lms == "Moodle":
        column = roster.columns.get("maximum grade")
        return [text for p in roster.people if (text := table.value(p.row, column))]
    rows = range(1, min(len(table.rows), 4))
    firsts = [row for row in rows if "points possible" in table.value(row, 0).casefold()]
    return [table.value(row, place) for row in firsts]


def _compare_points(roster: Roster, place: int, points: float, exported: Exported) -> None:
    """Tells if the LMS has another maximum than the gradebook; points are not converted."""
    for text in _maxima(roster, place)[:1]:
        try:
            most = float(text.replace(",", "."))
        except ValueError:
            continue
        if most != points:
            exported.told.append(
                f"{roster.lms} counts to {most:g} points, the gradebook to {points:g}: "
                "points are written as the gradebook has them"
            )


# Feedback


def _feedback(
    course: Course,
    assignment: str,
    remembered: Remembered,
    grades: Mapping[str, _Grade],
    exported: Exported,
) -> dict[str, bytes]:
    """The pages by their names in the zip file: those of the archive, with another ending."""
    if remembered.lms is None:
        raise CourseError(
            f"no archive of {assignment} was collected, so nobody knows the LMS's names for "
            "feedback: python -m autograder collect"
        )
    packed = {}
    for student, grade in sorted(grades.items()):
        folder = course.feedback(assignment, student)
        if grade.waits:
            continue
        found = 0
        for notebook in remembered.names.get(student, {}):
            page, where = folder / f"{notebook}.html", remembered.place(student, notebook)
            if where and page.is_file():
                own = notebook if where.lms == "Moodle" else where.name.rpartition(".")[0]
                packed[f"{where.prefix}{own or notebook}.html"] = page.read_bytes()
                found += 1
        if not found:
            exported.told.append(f"{student}: has no feedback that could be packed")
            exported.without.append(student)
    if not packed and grades and all(grade.waits for grade in grades.values()):
        raise CourseError(
            "there is no feedback to pack yet: everybody waits for manual grading, in formgrader"
        )
    if not packed:
        raise CourseError(f"there is no feedback: nbgrader generate_feedback {assignment}")
    return packed


def _pack(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a zip file, never over another."""
    if path.exists():
        raise CourseError(f"{path} is there already; name another file for the feedback")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    write(path, packed.getvalue())
