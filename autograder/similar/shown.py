"""How similar answers are told: a table in the terminal, and a page with both side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autograder.atomic import write
from autograder.course import Course
from autograder.page import document, escaped
from autograder.report import printable
from autograder.similar.compare import LEAST, SHARE, Pair, Place, Similar
from autograder.similar.own import Code

__all__ = ["listed", "similar_page", "write_similar"]

_STYLE = """
.both { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem; }
.both > div { min-width: 0; contain: paint; }
pre { overflow-x: auto; padding: 0.5rem; background: var(--soft); font-size: 0.85rem; }
mark { color: inherit; background: color-mix(in srgb, #d98e04 35%, transparent); }
h3, h4 { margin: 0.5rem 0 0; overflow-wrap: anywhere; }
"""

LOOK = "Similar answers can have good reasons: look yourself."


def listed(report: Similar) -> str:
    """The pairs, a line each, and of whom nothing can be said."""
    width = max([7, *(len(who) for pair in report.pairs for who in pair.students)])
    lines = []
    if report.pairs:
        lines.append(f"{'student':{width}}  {'student':{width}}  {'alike':>5}  tokens  score")
    for pair in report.pairs:
        one, other = pair.students
        lines.append(
            f"{one:{width}}  {other:{width}}  {pair.share:5.0%}  {pair.tokens:6}  {pair.score:5.1f}"
        )
    lines += [found(report), *notes(report)]
    return "\n".join(printable(line) for line in lines)


def found(report: Similar) -> str:
    """How many pairs there are, in a sentence."""
    compared = len(report.codes) - len(report.short) - len(report.left_out.keys() & report.codes)
    if compared < 2:
        return "Fewer than two submissions are long enough to be compared."
    what = (
        "1 pair is similar" if len(report.pairs) == 1 else f"{len(report.pairs)} pairs are similar"
    )
    return f"{what} among {compared} submissions.{f' {LOOK}' if report.pairs else ''}"


def notes(report: Similar) -> Iterator[str]:
    """What the report cannot say, and of whom."""
    if report.short:
        yield (
            f"Too short to tell, fewer than {LEAST} tokens beyond what was given: "
            f"{', '.join(report.short)}"
        )
    for student, why in report.left_out.items():
        yield f"{student} is not compared: {why}"
    if not report.solved:
        yield (
            "The source folder has no solution of the assignment. "
            "So code that everybody writes may count as similar."
        )


def similar_page(report: Similar) -> str:
    """The pairs as one HTML file that needs nothing else."""
    parts = [
        f"<h1>{escaped(report.assignment)}: similar answers</h1>",
        f"<p>{escaped(found(report))}</p>",
        *(f"<p>{escaped(note)}</p>" for note in notes(report)),
        "<p>Only what students wrote into the cells of their answers is compared. The released "
        "code and the course's solution count for nothing, and neither do names, numbers, texts, "
        f"comments and blanks. A pair is named if it has at least {LEAST} tokens in common, and "
        f"these are at least {SHARE:.0%} of the shorter answer. Common passages are marked.</p>",
        *(_pair(pair, report.codes) for pair in report.pairs),
    ]
    return document(f"{report.assignment}: similar answers", "".join(parts), _STYLE)


def write_similar(course: Course, report: Similar) -> Path:
    """Writes the page into the grader's folder, and says where."""
    path = course.work / f"{report.assignment}-similar.html"
    write(path, similar_page(report).encode())
    return path


def _pair(pair: Pair, codes: dict[str, Code]) -> str:
    one, other = pair.students
    sides = "".join(
        f"<div><h3>{escaped(who)}</h3>{_side(codes[who], dict(where))}</div>"
        for who, where in zip(pair.students, pair.places, strict=True)
    )
    return (
        f"<details><summary>{escaped(one)} and {escaped(other)}: {pair.share:.0%} alike, "
        f"{pair.tokens} tokens, score {pair.score:.1f}</summary>"
        f'<div class="both">{sides}</div></details>'
    )


def _side(code: Code, places: dict[str, list[Place]]) -> str:
    """One student's cells; those without a common passage, too."""
    return "".join(
        f'<h4>{escaped(cell)}</h4><pre tabindex="0">{_marked(text, places.get(cell, []))}</pre>'
        for cell, text in code.items()
    )


def _marked(text: str, places: list[Place]) -> str:
    """The text with its common passages marked, each line by itself."""
    common = [False] * len(text)
    for begin, end in places:
        common[begin:end] = [True] * (min(end, len(text)) - begin)
    runs: list[tuple[bool, str]] = []
    for character, inside in zip(text, common, strict=True):
        inside = inside and character != "\n"
        if runs and runs[-1][0] == inside:
            runs[-1] = inside, runs[-1][1] + character
        else:
            runs.append((inside, character))
    return "".join(
        f"<mark>{escaped(run)}</mark>" if inside else escaped(run) for inside, run in runs
    )
