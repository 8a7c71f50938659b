"""Compares the answers of a class by compare50, in a process of its own with limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.course import Course, CourseError
from autograder.similar import winnow
from autograder.similar.own import Code, given_code, own_code, solved_code

__all__ = ["LEAST", "SHARE", "Pair", "Similar", "compared", "similar"]

LEAST = 140
"""Tokens that two answers have in common before they are named; whoever has fewer is too short.

The smallest limit, in steps of 20, at which no pair of a simulated honest class is named:
`benchmarks/similar.py`.
"""

SHARE = 0.5
"""The share of the shorter answer's own tokens that two have in common before they are named."""

CHARACTERS = 20_000
SECONDS = 300

Place = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two students whose answers resemble each other.

    Attributes:
        students: who.
        score: compare50's, which counts most what few others have.
        tokens: that they have in common.
        share: of the shorter answer's tokens.
        places: for each of the two, by cell, where the common passages begin and end.
    """

    students: tuple[str, str]
    score: float
    tokens: int
    share: float
    places: tuple[Mapping[str, list[Place]], Mapping[str, list[Place]]]


@dataclass
class Similar:
    """What was found in a class.

    Attributes:
        assignment: its name.
        pairs: the most similar first.
        codes: what each student wrote, by cell.
        short: students who wrote too little to tell.
        left_out: students who were not compared, and why.
        solved: whether the course's own solution was counted as given.
    """

    assignment: str
    pairs: list[Pair] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    short: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    solved: bool = True


def similar(course: Course, assignment: str) -> Similar:
    """Compares the answers that were submitted; nothing of them is run.

    What was given counts for nothing: the released cells and, where the source folder has it, the
    course's solution, since right answers resemble it by nature.

    Raises:
        CourseError: there is no such assignment, nothing submitted, or compare50 is missing or
            fails.
    """
    _library()  # before anything is read
    sources = course.sources(assignment)
    solved = solved_code(course.source(assignment), sources)
    given = {
        **given_code(sources, course.rules(assignment)),
        **{f"{k} (solved)": v for k, v in solved.items()},
    }
    submissions = course.submissions(assignment)
    if not submissions:
        raise CourseError(f"there are no submissions of {assignment!r} to compare")
    report = Similar(assignment, solved=bool(solved))
    for student, path in submissions.items():
        code, why = own_code(path, sources)
        if why:
            report.left_out[student] = why
        elif sum(map(len, code.values())) > CHARACTERS:
            report.left_out[student] = f"the answers have more than {CHARACTERS} characters"
        else:
            report.codes[student] = code
    if report.codes:
        _sort_in(report, compared([*report.codes.values()], given))
    return report


def _sort_in(report: Similar, found: dict[str, Any]) -> None:
    """Puts what `winnow` found into the report."""
    students = list(report.codes)
    cells = {student: list(code) for student, code in report.codes.items()}

    def places(student: str, spans: list[tuple[str, int, int]]) -> dict[str, list[Place]]:
        where: dict[str, list[Place]] = {}
        for file, begin, end in spans:
            where.setdefault(cells[student][int(Path(file).stem)], []).append((begin, end))
        return where

    for number in found["repeated"]:
        report.left_out[students[number]] = "the code repeats itself too often to be compared"
    report.short = [
        student
        for student, tokens in zip(students, found["tokens"], strict=True)
        if tokens < LEAST and student not in report.left_out
    ]
    for one, other, score, tokens, share, *spans in found["pairs"]:
        who = students[one], students[other]
        where = places(who[0], spans[0]), places(who[1], spans[1])
        report.pairs.append(Pair(who, score, tokens, share, where))
    report.pairs.sort(key=lambda pair: (-pair.score, pair.students))


def _library() -> Path:
    """Where compare50 is, beside the packages that it could not share."""
    path = Path(sys.prefix) / "compare50"
    if not (path / "compare50").is_dir():
        wanted = Path(__file__).with_name("requirements.txt")
        raise CourseError(
            "similar needs compare50, in a folder of its own: "
            f"{sys.executable} -m pip install --no-deps --target {path} -r {wanted}"
        )
    return path


def compared(
    codes: Sequence[Code], given: Code, *, least: int = LEAST, share: float = SHARE
) -> dict[str, Any]:
    """Runs `winnow` on the codes, which are files of a temporary folder meanwhile."""
    environment = {
        "PYTHONPATH": str(_library()),
        "PYTHONHASHSEED": "50",  # as compare50's own program, so that scores are the same each time
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",  # a thread takes of the memory that it may have
    }
    with tempfile.TemporaryDirectory(prefix="similar-") as name:
        folder = Path(name)
        _write(folder / "given", given)
        for number, code in enumerate(codes):
            _write(folder / "own" / f"{number:06}", code)
        command = [sys.executable, winnow.__file__, name, str(least), str(share)]
        try:
            done = subprocess.run(
                command, env={**_kept(), **environment}, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise CourseError(f"compare50 had not ended after {SECONDS} s") from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise CourseError(f"compare50 failed: {told[-1] if told else f'exit {done.returncode}'}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _kept() -> dict[str, str]:
    """What a Python needs of the environment to start."""
    return {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "HOME")}


def _write(folder: Path, code: Code) -> None:
    folder.mkdir(parents=True)
    for number, text in enumerate(code.values()):
        (folder / f"{number:06}.py").write_text(f"{text}\n", "utf-8", newline="\n")
