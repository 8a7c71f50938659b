"""The class report as one HTML file that is read offline."""

from __future__ import annotations

import html
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median

from autograder.atomic import write
from autograder.course import Course
from autograder.report import SLOW, ClassReport, Row, how_late, lateness, printable, remarks

__all__ = ["document", "escaped", "page", "write_page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --paper: #fff; --line: #d5dae1; --soft: #f3f5f8;
  --bar: #3b6ea8; --bad: #a3241d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --paper: #14181e; --line: #39424f; --soft: #1d232c; --bar: #7fb0e8;
  --bad: #ff9d94; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0.5rem 0; } h2 { margin: 2rem 0 0.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.3rem 0.6rem; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; min-width: 7rem; overflow-wrap: anywhere; contain: paint; }
th { background: var(--soft); }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0;
  overflow-wrap: normal; }
td { white-space: pre-wrap; }
td.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat 0 100%;
  background-size: var(--length) 0.4rem; padding-bottom: 0.8rem; print-color-adjust: exact; }
details { border-bottom: 1px solid var(--line); padding: 0.3rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; contain: paint; }
a { color: inherit; }
.bad { color: var(--bad); }
"""


def page(report: ClassReport) -> str:
    """The class report as one HTML file that needs nothing else."""
    rows = report.rows
    scores = [row.score for row in rows] or [0.0]
    top = max((row.points for row in rows), default=0.0)
    link = {
        row.student: f'<a href="#student-{number}">{escaped(row.student)}</a>'
        for number, row in enumerate(rows)
    }
    parts = [
        f"<h1>{escaped(report.assignment)}</h1>",
        f"<p>{len(rows)} submissions, on average {mean(scores):.2f} of {top:g} points, median "
        f"{median(scores):g}{_waiting(rows)}.</p>",
    ]
    if any(not row.isolated for row in rows):
        parts.append('<p class="bad"><strong>Some submissions ran without a sandbox.</strong></p>')
    if rows:
        parts += ["<h2>Distribution</h2>", _distribution(rows, top)]
        parts += ["<h2>Points for each check</h2>", _checks(rows), *_who_failed(rows)]
    if report.mistakes:
        common = report.mistakes.most_common(12)
        told = [[mistake, str(number)] for mistake, number in common]
        bars = [100 * number / common[0][1] for _, number in common]
        parts += ["<h2>Most common mistakes</h2>"]
        parts += [_table(["mistake", "#students"], told, bars=bars)]
    parts += _section(
        "Stopped early",
        ["student", "reason"],
        [[link[row.student], ", ".join(row.reasons)] for row in rows if row.reasons],
        links=True,
    )
    parts += _section(
        "Tampering",
        ["student", "what was seen"],
        [[link[row.student], line] for row in rows for line in row.tampering],
        "Reported apart: no points were taken for it, and much of it happens by accident.",
        links=True,
    )
    inside = Counter((c.cell, c.why) for row in rows for c in row.checks if c.inside)
    parts += _section(
        "Judged inside the student's process",
        ["check", "why not outside", "#students"],
        [[cell, why, str(n)] for (cell, why), n in sorted(inside.items())],
        "These checks see all that a notebook has, and are less well defended against cheating.",
    )
    slow = sorted((r for r in rows if r.seconds >= SLOW), key=lambda r: -r.seconds)[:10]
    parts += _section(
        "Slowest",
        ["student", "#seconds"],
        [[link[r.student], f"{r.seconds:.1f}"] for r in slow],
        links=True,
    )
    parts += _section(
        "All students",
        ["student", "#points", "#late", "#seconds", "remarks"],
        [
            [
                link[row.student],
                f"{row.score:.2f} / {row.points:g}",
                lateness(row),
                f"{row.seconds:.2f}",
                remarks(row),
            ]
            for row in rows
        ],
        links=True,
    )
    if report.absent:
        parts.append(f"<h2>Nothing submitted</h2><p>{escaped(', '.join(report.absent))}</p>")
    if rows:
        parts.append("<h2>Student by student</h2>")
        parts += [_student(number, row) for number, row in enumerate(rows)]
    return document(f"{report.assignment}: class report", "".join(parts))


def document(title: str, content: str, style: str = "") -> str:
    """A page that loads nothing, and runs no script."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body><main>{content}</main></body></html>\n"
    )


def write_page(course: Course, report: ClassReport) -> Path:
    """Writes the page into the grader's folder, and says where."""
    path = course.work / f"{report.assignment}.html"
    write(path, page(report).encode())
    return path


def escaped(text: str) -> str:
    """Text as HTML, without what would drive the terminal or break the page."""
    return "\n".join(html.escape(printable(line)) for line in text.split("\n"))


def _fold(summary: str, content: str, name: str = "") -> str:
    """A part that is unfolded by hand, or by a link to the name inside it."""
    place = f' id="{name}"' if name else ""
    return f"<details><summary>{escaped(summary)}</summary><div{place}>{content}</div></details>"


def _student(number: int, row: Row) -> str:
    """What happened to one student's submission, check by check."""
    late = f"<p>{how_late(row)}.</p>" if row.late else ""
    checks = [
        [
            c.cell,
            f"{c.score:g} / {c.points:g}",
            "waits for manual grading" if c.manual else c.message,
        ]
        for c in row.checks
    ]
    seen = "".join(f"<li>{escaped(line)}</li>" for line in [*row.reasons, *row.tampering])
    return _fold(
        f"{row.student}: {row.score:g} of {row.points:g} points",
        f"{late}{f'<ul>{seen}</ul>' if seen else ''}"
        f"{_table(['check', '#points', 'what it said'], checks)}",
        f"student-{number}",
    )


def _who_failed(rows: Sequence[Row]) -> list[str]:
    """For each check that somebody failed, in order, what it said and to whom."""
    failed: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        for check in row.checks:
            said = failed.setdefault((check.notebook, check.cell), {})
            if check.score < check.points and not check.manual:
                said.setdefault(check.headline or "(no message)", []).append(row.student)
    parts = []
    for (_, cell), said in failed.items():
        if not said:
            continue
        groups = sorted(said.items(), key=lambda item: -len(item[1]))
        told = [[line, str(len(who)), ", ".join(who)] for line, who in groups]
        number = sum(len(who) for who in said.values())
        parts.append(
            _fold(
                f"{cell}: {number} of {len(rows)} students lost points",
                _table(["what it said", "#students", "who"], told),
            )
        )
    return parts


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    links: bool = False,
    bars: Sequence[float] = (),
) -> str:
    """A table, which on a phone is moved in its place, also by keyboard.

    Args:
        heads: of the columns; those that begin with `#` hold numbers.
        links: whether the first column is HTML.
        bars: for each row the percentage of the first column that a bar under its text takes.
    """
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(
        f'<th scope="col"{k}>{escaped(h.lstrip("#"))}</th>'
        for k, h in zip(kinds, heads, strict=True)
    )
    body = ""
    for number, row in enumerate(rows):
        cells = [escaped(text) for text in row]
        cells = [f"<td{kind}>{text}</td>" for kind, text in zip(kinds, cells, strict=True)]
        if links:
            cells[0] = f"<td>{row[0]}</td>"
        if bars:
            bar = f'<td class="bar" style="--length: {bars[number]:.1f}%">'
            cells[0] = cells[0].replace("<td>", bar, 1)
        body += f"<tr>{''.join(cells)}</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="group" aria-label="table">{table}</div>'


def _section(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str = "",
    links: bool = False,
) -> list[str]:
    if not rows:
        return []
    return [f"<h2>{title}</h2>", f"<p>{note}</p>" if note else "", _table(heads, rows, links)]


def _distribution(rows: Sequence[Row], top: float) -> str:
    """How many submissions have how many points, in at most ten steps."""
    most = max(top, *(row.score for row in rows), 1)
    sizes = (size * 10**power for power in itertools.count() for size in (1, 2, 5))
    step = next(size for size in sizes if most <= 10 * size)
    counts = [0] * math.ceil(most / step)
    for row in rows:
        counts[min(max(int(row.score // step), 0), len(counts) - 1)] += 1
    steps = [f"{step * n} to <{step * (n + 1)}" for n in range(len(counts) - 1)]
    steps.append(f"{step * (len(counts) - 1)} to {most:g}")
    told = [[label, str(count)] for label, count in zip(steps, counts, strict=True)]
    bars = [100 * count / max(counts) for count in counts]
    return _table(["points", "#submissions"], told, bars=bars)


def _waiting(rows: Sequence[Row]) -> str:
    """How many have points still to come."""
    number = sum(row.waits for row in rows)
    return f"; {number} wait{'s' if number == 1 else ''} for manual grading" if number else ""


def _checks(rows: Sequence[Row]) -> str:
    """The share of the points that the class has earned in each check, as far as it is marked."""
    names = list(dict.fromkeys((c.notebook, c.cell) for row in rows for c in row.checks))
    several = len({notebook for notebook, _ in names}) > 1
    got: dict[tuple[str, str], float] = dict.fromkeys(names, 0.0)
    could: dict[tuple[str, str], float] = dict.fromkeys(names, 0.0)
    for check in (check for row in rows for check in row.checks if not check.manual):
        got[check.notebook, check.cell] += check.score
        could[check.notebook, check.cell] += check.points
    labels = [f"{notebook}: {cell}" if several else cell for notebook, cell in names]
    shares = [100 * got[name] / (could[name] or 1) for name in names]
    known = {(c.notebook, c.cell) for row in rows for c in row.checks if not c.manual}
    told = [
        [label, f"{share:.0f} %" if name in known else "waits"]
        for name, label, share in zip(names, labels, shares, strict=True)
    ]
    return _table(["check", "#points earned"], told, bars=shares)
