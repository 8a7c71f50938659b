"""Grade a class of synthetic students: `python -m scripts.sample_class`.

Each does exercise 3-kl in a way of their own: perfectly, with mistakes that `vae_exercises` knows,
or so that it is hard to grade. The course, its gradebook and the report are in
`build/sample-class`, apart from the instructor's own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook

import vae_exercises.kl as bank
from book.exercises import released, solved
from scripts.release import ROOT, course_apart, release
from vae_exercises.task import Task

ASSIGNMENT = "3-kl"
SOURCE = ROOT / "solutions" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
LIMITS = 'c.Isolated.limits = {"cell_seconds": 10, "memory": 3 * 2**30}\n'
Change = Callable[[dict[str, NotebookNode]], None]


def mistake(task: Task, name: str) -> Change:
    """A student who made a mistake of the bank."""
    (made,) = [mistake for mistake in task._mistakes if mistake.name == name]

    def change(cells: dict[str, NotebookNode]) -> None:
        cells[task.name.replace("_", "-")].source = made.source.rstrip()

    return change


def code(text: str, cell: str = "kl-monte-carlo") -> Change:
    """A student who writes this instead."""

    def change(cells: dict[str, NotebookNode]) -> None:
        cells[cell].source = text

    return change


def nothing(cells: dict[str, NotebookNode]) -> None:
    """A student who hands in what was released."""
    for cell in released(SOURCE).cells:
        cells[cell.id].source = cell.source


def tampered(cells: dict[str, NotebookNode]) -> None:
    """A student who replaces a check, and asks for its cell to be skipped."""
    check = cells["kl-to-standard-normal-value"]
    check.source, check.metadata["tags"] = "pass", ["skip-execution"]
    check.metadata.nbgrader["points"] = 100
    mistake(bank.kl_to_standard_normal, "the sign is wrong")(cells)


CLASS: dict[str, list[Change]] = {
    "perfect": [],
    "late": [],
    "missing-half": [mistake(bank.kl_to_standard_normal, "the ½ is missing")],
    "other-direction": [mistake(bank.kl_between_gaussians, "the other direction")],
    "no-gradient": [mistake(bank.kl_monte_carlo, "the samples are detached")],
    "several-mistakes": [
        mistake(bank.kl_to_standard_normal, "log-variance taken for log σ"),
        mistake(bank.kl_between_gaussians, "the −1 is missing"),
        mistake(bank.kl_monte_carlo, "one sample only"),
    ],
    "own-way-wrong": [
        code(
            "def kl_to_standard_normal(mu, logvar):\n    return mu.sum(-1)", "kl-to-standard-normal"
        )
    ],
    "half-done": [code("def kl_monte_carlo(q, p, n_samples):\n    raise NotImplementedError()")],
    "empty": [nothing],
    "crash": [code("import os\nos._exit(1)")],
    "endless-loop": [code("while True:\n    pass")],
    "memory-hog": [code('hoard = []\nwhile True:\n    hoard.append(b"x" * 2**24)')],
    "tampered": [tampered],
}


def hand_in(
    course: Path, student: str, notebook: str, when: str, assignment: str = ASSIGNMENT
) -> None:
    """Put a submission where nbgrader collects it."""
    folder = course / "submitted" / student / assignment
    folder.mkdir(parents=True)
    (folder / f"{assignment}.ipynb").write_text(notebook, "utf-8")
    (folder / "timestamp.txt").write_text(when, "utf-8")


def submissions(course: Path) -> None:
    """Write what the class hands in."""
    for student, changes in CLASS.items():
        notebook = solved(SOURCE)
        cells = {cell.id: cell for cell in notebook.cells}
        for change in changes:
            change(cells)
        when = f"2026-03-{'03' if student == 'late' else '01'} 18:00:00 UTC"
        hand_in(course, student, nbformat.writes(notebook), when)
    text = nbformat.writes(solved(SOURCE))
    hand_in(course, "malformed", text[: len(text) // 2], "2026-03-01 18:00:00 UTC")


def main() -> int:
    """Make the course anew, grade the class, and return the exit code."""
    course = ROOT / "build" / "sample-class"
    shutil.rmtree(course, ignore_errors=True)
    course_apart(course, ASSIGNMENT, more=LIMITS)
    release(course)
    with Gradebook(f"sqlite:///{course}/gradebook.db", "vae") as gradebook:
        gradebook.update_or_create_assignment(ASSIGNMENT, duedate="2026-03-02 00:00:00")
    submissions(course)
    grader = [sys.executable, "-m", "autograder"]
    options = [ASSIGNMENT, "--course", str(course)]
    code = subprocess.run([*grader, "grade", *options], cwd=ROOT).returncode
    if code == 0:  # the table is printed already; the report in HTML is to look at
        report = [*grader, "report", *options]
        code = subprocess.run(report, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
