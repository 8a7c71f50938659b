"""What came of a graded class, and how it is told in a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

from autograder.course import Course
from autograder.prepare.plan import Judged, Plan, read_plans
from autograder.prepare.source import SourceNotebook
from autograder.steps import plans_file

__all__ = [
    "SLOW",
    "Check",
    "ClassReport",
    "Row",
    "collect",
    "explain",
    "how_late",
    "lateness",
    "points_by_check",
    "printable",
    "remarks",
    "table",
]

SLOW = 30.0
"""Seconds from which on a submission is named among the slow ones."""


#: How the grader's own words begin where nothing was judged.
_STOPPED = tuple(
    f"{name}:"
    for name in (
        *("CellTimeoutError", "Crashed", "DeadKernelError", "Malformed", "Missing", "OutOfMemory"),
        *("Output", "OutputError", "Stopped", "Tampered", "Timeout"),
    )
)


@dataclass(frozen=True)
class Check:
    """How a graded cell ended for one student: its points, and what it said where it failed.

    Attributes:
        inside: whether it was judged in a fork of the student's process.
        why: it could not be judged outside.
        line: of the cell that failed, hidden or not; for the instructor.
    """

    notebook: str
    cell: str
    score: float
    points: float
    message: str = ""
    manual: bool = False
    inside: bool = False
    why: str = ""
    line: str = ""

    @property
    def headline(self) -> str:
        """The first line of what it said."""
        return self.message.split("\n")[0]

    @property
    def stopped(self) -> bool:
        """Whether it failed because a process had ended or was stopped, not for its answer."""
        return self.message.startswith(_STOPPED)


@dataclass
class Row:
    """One student's submission.

    Attributes:
        student: who.
        score: points after manual grading, before the penalty.
        points: the most that could be earned.
        penalty: for lateness.
        late: seconds after the due date.
        checks: the graded cells, in order.
        reasons: why notebooks have no ordinary end.
        tampering: what was put back, left out or seen, for which no points are taken.
        seconds: that the notebooks ran.
        isolated: whether every notebook ran in a sandbox.
    """

    student: str
    score: float = 0.0
    points: float = 0.0
    penalty: float = 0.0
    late: float = 0.0
    checks: list[Check] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    tampering: list[str] = field(default_factory=list)
    seconds: float = 0.0
    isolated: bool = True

    def ended_early(self, notebook: str) -> bool:
        """Whether a notebook has no ordinary end."""
        return any(reason.startswith(f"{notebook}: ") for reason in self.reasons)

    @property
    def waits(self) -> bool:
        """Whether a cell waits for a human's grade."""
        return any(check.manual for check in self.checks)


_OF_ONE_ASPECT = re.compile(r"^(?:✗ )?(\w+), [\w-]+(?: \([^)]*\))?: ")


@dataclass
class ClassReport:
    """An assignment's rows, and the students of the gradebook who submitted nothing."""

    assignment: str
    rows: list[Row]
    absent: list[str]

    @property
    def mistakes(self) -> Counter[str]:
        """How many students made each mistake: the first lines of what failed checks say.

        A mistake that `✗ mean, value (2 points): …` and `mean, shape: …` name is one: `mean: …`. In
        a notebook that was stopped, a missing name is none: nobody got to the cell that defines it.
        """
        found: Counter[str] = Counter()
        for row in self.rows:
            lines = [
                check.headline
                for check in row.checks
                if check.message
                and not check.stopped
                and not (check.message.startswith("NameError:") and row.ended_early(check.notebook))
            ]
            found.update([*dict.fromkeys(_OF_ONE_ASPECT.sub(r"\1: ", line) for line in lines)])
        return found


def collect(course: Course, assignment: str) -> ClassReport:
    """Reads gradebook and graded notebooks.

    Raises:
        CourseError: there is no such assignment.
    """
    sources = course.sources(assignment)
    _, plans = read_plans(plans_file(course.root, assignment))
    order = {(s.name, cell.name): i for s in sources.values() for i, cell in enumerate(s.cells)}
    rows = []
    with course.gradebook() as gradebook:
        everybody = [student.id for student in gradebook.students]
        for submission in gradebook.assignment_submissions(assignment):
            row = Row(
                submission.student_id,
                submission.score,
                submission.max_score,
                submission.late_submission_penalty or 0.0,
                submission.total_seconds_late,
            )
            notebooks = course.graded_notebooks(assignment, row.student)
            said = {
                (name, cell): message
                for name, notebook in notebooks.items()
                for cell, message in _messages(notebook).items()
            }
            for notebook in sorted(submission.notebooks, key=lambda n: str(n.name)):
                grades = sorted(
                    notebook.grades, key=lambda g: order.get((notebook.name, g.name), 0)
                )
                for grade in grades:
                    inside, why = _where(notebooks, plans, notebook.name, grade.name)
                    row.checks.append(
                        Check(
                            notebook.name,
                            grade.name,
                            grade.score,
                            grade.max_score,
                            said.get((notebook.name, grade.name), ""),
                            bool(grade.needs_manual_grade),
                            inside,
                            why,
                            _failing_line(notebooks, sources, notebook.name, grade.name),
                        )
                    )
                if notebook.name not in notebooks:
                    row.reasons.append(f"{notebook.name}: missing")
            for name, graded in notebooks.items():
                about = graded.metadata.get("autograder", {})
                if about.get("reason"):
                    row.reasons.append(f"{name}: {about['reason']}")
                row.tampering += about.get("tampering", [])
                row.seconds += about.get("seconds", 0.0)
                row.isolated &= about.get("isolated", True)
            rows.append(row)
    rows.sort(key=lambda row: row.student)
    return ClassReport(assignment, rows, sorted(set(everybody) - {row.student for row in rows}))


def _where(
    notebooks: Mapping[str, NotebookNode], plans: Mapping[str, Plan], notebook: str, cell: str
) -> tuple[bool, str]:
    """Whether a cell was judged inside the student's process, and why not outside."""
    about = notebooks.get(notebook, NotebookNode(metadata={})).metadata.get("autograder", {})
    judged = about.get("cells", {}).get(cell, {})
    planned = plans.get(notebook, Plan()).cells.get(cell, Judged())
    inside = judged.get("mode") == "inside"
    return inside, judged.get("unjudged", "") or (planned.reason if inside else "")


def _failing_line(
    notebooks: Mapping[str, NotebookNode],
    sources: Mapping[str, SourceNotebook],
    notebook: str,
    cell: str,
) -> str:
    """The line of the gradebook's cell at which a test failed; empty where there is none."""
    about = notebooks.get(notebook, NotebookNode(metadata={})).metadata.get("autograder", {})
    number = about.get("cells", {}).get(cell, {}).get("line", 0)
    texts = [c.source for c in sources[notebook].cells if c.name == cell]
    lines = "\n".join(texts).splitlines()
    return f"line {number}: {lines[number - 1].strip()}" if 0 < number <= len(lines) else ""


def _messages(notebook: NotebookNode) -> dict[str, str]:
    """What the failed tests said."""
    said = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_grade(cell) and not is_solution(cell):
            for output in cell.outputs:
                if output.output_type == "error":
                    said[cell.metadata.nbgrader.grade_id] = _told(output)
    return said


def _told(error: NotebookNode) -> str:
    """An error in words: a check's own, else its type with its message, or with its line."""
    if error.evalue:
        own = error.ename in ("AssertionError", "CheckFailed")
        return str(error.evalue if own else f"{error.ename}: {error.evalue}")
    line = next((line for line in error.traceback if line.startswith("--->")), "")
    return f"{error.ename}{line.replace('--->', ':')}"


# In the terminal


def table(report: ClassReport) -> str:
    """The class, a line each."""
    width = max([7, *(len(row.student) for row in report.rows)])
    lines = [f"{'student':{width}}  {'points':>13}  {'late':>6}  {'seconds':>7}  remarks"]
    for row in report.rows:
        lines.append(
            f"{row.student:{width}}  {row.score:6.2f} /{row.points:5.5g}  {lateness(row):>6}  "
            f"{row.seconds:7.2f}  {remarks(row)}".rstrip()
        )
    if report.absent:
        lines.append(f"nothing submitted: {', '.join(report.absent)}")
    return "\n".join(printable(line) for line in lines)


def lateness(row: Row) -> str:
    """What a table says of lateness: the penalty, or that there is none."""
    return f"-{row.penalty:g}" if row.penalty else "yes" if row.late else ""


def how_late(row: Row) -> str:
    """Lateness in words, to the two largest units: `2 d 3 h late, penalty 1.5`."""
    minutes, seconds = divmod(max(round(row.late), 1), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next(i for i, (number, _) in enumerate(units) if number)
    told = [f"{number} {unit}" for number, unit in units[first : first + 2] if number]
    return f"{' '.join(told)} late, penalty {row.penalty:g}"


def remarks(row: Row) -> str:
    """What a table says beside the points."""
    remarks = list(row.reasons)
    if row.tampering:
        remarks.append(f"tampering ({len(row.tampering)})")
    if row.waits:
        remarks.append("waits for manual grading")
    if not row.isolated:
        remarks.append("NO SANDBOX")
    return ", ".join(remarks)


def explain(report: ClassReport, student: str) -> str:
    """One student's grade, cell by cell, with the reasons.

    Raises:
        KeyError: the student has no graded submission.
    """
    row = next((row for row in report.rows if row.student == student), None)
    if row is None:
        raise KeyError(student)
    lines = [f"{student}, {report.assignment}: {row.score:g} of {row.points:g} points"]
    if row.late:
        lines.append(f"  {how_late(row)}")
    lines += [f"  {reason}" for reason in row.reasons]
    for check in row.checks:
        waits = "  waits for a human" if check.manual else ""
        lines.append(f"  {check.score:6.2f} /{check.points:5.5g}  {check.cell}{waits}")
        if check.inside or check.why:
            where = "judged inside the student's process" if check.inside else "not judged soundly"
            lines.append(f"                   {where}: {check.why or 'the course wants it'}")
        lines += [f"                   {line}" for line in check.message.splitlines()]
        if check.line:
            lines.append(f"                   {check.line}")
    if row.tampering:
        lines.append("  Tampering (for which no points were taken):")
        lines += [f"    {line}" for line in row.tampering]
    if not row.isolated:
        lines.append("  It ran without a sandbox.")
    return "\n".join(printable(line) for line in lines)


def points_by_check(report: ClassReport) -> str:
    """A table in CSV: a student per line, and the points of each check in a column of its own.

    Who has submitted nothing has a line of empty fields, and a check that waits for a human's grade
    an empty field.
    """
    most = {(c.notebook, c.cell): c.points for row in report.rows for c in row.checks}
    written = io.StringIO()
    table = csv.writer(written)
    named = [f"{notebook}/{cell} (of {points:g})" for (notebook, cell), points in most.items()]
    table.writerow(["student", "points", "penalty", *named])
    for row in report.rows:
        points = {(c.notebook, c.cell): "" if c.manual else f"{c.score:g}" for c in row.checks}
        fields = [points.get(check, "") for check in most]
        table.writerow([row.student, f"{row.score:g}", f"{row.penalty:g}", *fields])
    for student in report.absent:
        table.writerow([student, *[""] * (2 + len(most))])
    return written.getvalue()


def printable(text: str) -> str:
    """A text without control characters, since some of it was written by students."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
