"""What a graded class looks like: a table for the terminal, a page to read offline."""

from __future__ import annotations

import base64
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

from autograder.atomic import write
from autograder.course import Course
from autograder.prepare.plan import Judged, Plan, read_plans
from autograder.steps import plans_file

__all__ = ["Check", "ClassReport", "Row", "collect", "explain", "page", "table", "write_page"]

SLOW = 30.0
"""Seconds from which on a submission is named among the slow ones."""


@dataclass(frozen=True)
class Check:
    """How a graded cell ended for one student: its points, and what it said where it failed.

    Attributes:
        inside: whether it was judged in a fork of the student's process.
        why: it could not be judged outside.
    """

    notebook: str
    cell: str
    score: float
    points: float
    message: str = ""
    manual: bool = False
    inside: bool = False
    why: str = ""


@dataclass
class Row:
    """One student's submission.

    Attributes:
        student: who.
        score: points after manual grading, before the penalty.
        points: that could be had.
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

    @property
    def waits(self) -> bool:
        """Whether a cell waits for a human's grade."""
        return any(check.manual for check in self.checks)


_OF_ONE_ASPECT = re.compile(r"^(\w+), \w+: ")


@dataclass
class ClassReport:
    """An assignment's rows, and the students of the gradebook who submitted nothing."""

    assignment: str
    rows: list[Row]
    absent: list[str]

    @property
    def mistakes(self) -> Counter[str]:
        """How many students made each mistake: the first lines of what failed checks say.

        A mistake that `mean, value: …` and `mean, shape: …` both name is one: `mean: …`.
        """
        found: Counter[str] = Counter()
        for row in self.rows:
            lines = [check.message.split("\n")[0] for check in row.checks if check.message]
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
        penalty = f"-{row.penalty:g}" if row.penalty else "yes" if row.late else ""
        lines.append(
            f"{row.student:{width}}  {row.score:6.2f} /{row.points:5.5g}  {penalty:>6}  "
            f"{row.seconds:7.2f}  {_remarks(row)}".rstrip()
        )
    if report.absent:
        lines.append(f"nothing submitted: {', '.join(report.absent)}")
    return "\n".join(_printable(line) for line in lines)


def _remarks(row: Row) -> str:
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
        lines.append(f"  {row.late:.0f} s late, penalty {row.penalty:g}")
    lines += [f"  {reason}" for reason in row.reasons]
    for check in row.checks:
        waits = "  waits for a human" if check.manual else ""
        lines.append(f"  {check.score:6.2f} /{check.points:5.5g}  {check.cell}{waits}")
        if check.inside or check.why:
            where = "judged inside the student's process" if check.inside else "not judged soundly"
            lines.append(f"                   {where}: {check.why or 'the course wants it'}")
        lines += [f"                   {line}" for line in check.message.splitlines()]
    if row.tampering:
        lines.append("  Tampering (for which no points were taken):")
        lines += [f"    {line}" for line in row.tampering]
    if not row.isolated:
        lines.append("  It ran without a sandbox.")
    return "\n".join(_printable(line) for line in lines)


def _printable(text: str) -> str:
    """Without what would drive the terminal: some of it was written by students."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# The page

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --paper: #fff; --line: #d5dae1; --soft: #f3f5f8;
  --bad: #a3241d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --paper: #14181e; --line: #39424f; --soft: #1d232c; --bad: #ff9d94; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0.5rem 0; } h2 { margin: 2rem 0 0.5rem; }
img { display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.3rem 0.6rem; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; min-width: 7rem; overflow-wrap: anywhere; }
th { background: var(--soft); }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0;
  overflow-wrap: normal; }
.bad { color: var(--bad); }
"""


def page(report: ClassReport) -> str:
    """The class report as one HTML file that needs nothing else."""
    rows = report.rows
    mean = sum(row.score for row in rows) / len(rows) if rows else 0.0
    top = max((row.points for row in rows), default=0.0)
    parts = [
        f"<h1>{_e(report.assignment)}</h1>",
        f"<p>{len(rows)} submissions, on average {mean:.2f} of {top:g} points.</p>",
    ]
    if any(not row.isolated for row in rows):
        parts.append('<p class="bad"><strong>Some submissions ran without a sandbox.</strong></p>')
    if rows:
        parts += ["<h2>Distribution</h2>", _distribution(rows, top)]
        parts += ["<h2>Points for each check</h2>", _checks(rows)]
    if report.mistakes:
        common = report.mistakes.most_common(12)
        labels, counts = [m for m, _ in common], [n for _, n in common]
        parts += [
            "<h2>Most common mistakes</h2>",
            _bars(labels, counts, "students", "How many students made each mistake"),
            _table(["mistake", "#students"], [[m, str(n)] for m, n in common]),
        ]
    parts += _section(
        "Without an ordinary end",
        ["student", "reason"],
        [[row.student, ", ".join(row.reasons)] for row in rows if row.reasons],
    )
    parts += _section(
        "Tampering",
        ["student", "what was seen"],
        [[row.student, line] for row in rows for line in row.tampering],
        "Reported apart: no points were taken for it, and much of it happens by accident.",
    )
    inside = Counter((c.cell, c.why) for row in rows for c in row.checks if c.inside)
    parts += _section(
        "Judged inside the student's process",
        ["check", "why not outside", "#students"],
        [[cell, why, str(n)] for (cell, why), n in sorted(inside.items())],
        "These checks see all that a notebook has, and are less well defended against cheating.",
    )
    slow = sorted((r for r in rows if r.seconds >= SLOW), key=lambda r: -r.seconds)
    parts += _section(
        "Slow", ["student", "#seconds"], [[r.student, f"{r.seconds:.1f}"] for r in slow]
    )
    parts += _section(
        "Everybody",
        ["student", "#points", "#penalty", "#seconds", "remarks"],
        [
            [
                row.student,
                f"{row.score:.2f} / {row.points:g}",
                f"{row.penalty:g}",
                f"{row.seconds:.2f}",
                _remarks(row),
            ]
            for row in rows
        ],
    )
    if report.absent:
        parts.append(f"<h2>Nothing submitted</h2><p>{_e(', '.join(report.absent))}</p>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{_e(report.assignment)}: class report</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def write_page(course: Course, report: ClassReport) -> Path:
    """Writes the page into the grader's folder, and says where."""
    path = course.work / f"{report.assignment}.html"
    write(path, page(report).encode())
    return path


def _e(text: str) -> str:
    return html.escape(_printable(text))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns whose heads begin with `#` hold numbers."""
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(
        f'<th scope="col"{k}>{_e(h.lstrip("#"))}</th>' for k, h in zip(kinds, heads, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{_e(c)}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _wide(table, "table")


def _wide(content: str, what: str) -> str:
    """Content that may be wider than a phone: it is moved in its place, also by keyboard."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{what}">{content}</div>'


def _section(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = ""
) -> list[str]:
    if not rows:
        return []
    return [f"<h2>{title}</h2>", f"<p>{note}</p>" if note else "", _table(heads, rows)]


def _picture(draw: Callable[[Any], None], size: tuple[float, float], alt: str) -> str:
    """A picture drawn twice: for light pages and for dark ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.style import context

    shown = []
    for ink, bar in (("#1d2530", "#3b6ea8"), ("#e4e8ee", "#7fb0e8")):
        colours = {f"{k}.color": ink for k in ("text", "xtick", "ytick")}
        # Student's text in labels is text: no TeX of matplotlib's own in it.
        settings = {"axes.labelcolor": ink, "axes.edgecolor": ink, "text.parse_math": False}
        with context([{**colours, **settings, "svg.hashsalt": "report", "font.size": 9}]):
            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_prop_cycle(color=[bar])
            draw(axes)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=144, transparent=True)
        shown.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    light, dark = shown
    return _wide(
        f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="{_e(alt)}" width="{size[0] * 96:.0f}"></picture>',
        "picture",
    )


def _distribution(rows: Sequence[Row], top: float) -> str:
    scores = [row.score for row in rows]

    def draw(axes: Any) -> None:
        axes.hist(scores, bins=min(20, max(5, int(top))), range=(0, max(top, *scores, 1)))
        axes.set_xlabel("points")
        axes.set_ylabel("submissions")
        axes.yaxis.get_major_locator().set_params(integer=True)

    alt = (
        f"Histogram of the points of {len(scores)} submissions, from {min(scores):g} to "
        f"{max(scores):g}, median {median(scores):g}"
    )
    return _picture(draw, (7, 2.6), alt)


def _checks(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys((c.notebook, c.cell) for row in rows for c in row.checks))
    several = len({notebook for notebook, _ in names}) > 1
    got: dict[tuple[str, str], float] = dict.fromkeys(names, 0.0)
    could: dict[tuple[str, str], float] = dict.fromkeys(names, 0.0)
    for check in (check for row in rows for check in row.checks):
        got[check.notebook, check.cell] += check.score
        could[check.notebook, check.cell] += check.points
    labels = [f"{notebook}: {cell}" if several else cell for notebook, cell in names]
    shares = [100 * got[name] / could[name] if could[name] else 0.0 for name in names]
    return _bars(labels, shares, "% of the points", "Share of the points earned in each check", 100)


def _bars(
    labels: Sequence[str], values: Sequence[float], unit: str, alt: str, top: float | None = None
) -> str:
    short = [_printable(label if len(label) < 60 else label[:59] + "…") for label in labels]

    def draw(axes: Any) -> None:
        axes.barh(range(len(values)), values)
        axes.set_yticks(range(len(values)), short)
        axes.invert_yaxis()
        axes.set_xlim(0, top or max(values) * 1.05)
        axes.set_xlabel(unit)
        axes.locator_params("x", integer=True)

    told = "; ".join(f"{label} {value:.0f}" for label, value in zip(labels, values, strict=True))
    return _picture(draw, (7, 0.8 + 0.26 * len(values)), f"{alt} ({unit}): {told}")
