"""The assignments, graded as a class is: isolated, with the hidden checks of a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.course import Course
from autograder.report import Row, collect
from book.exercises import released, solved, sources
from scripts.release import course_apart

ROOT = Path(__file__).parents[2]
SOURCES = {path.stem: path for path in sources(ROOT)}
# vaelib's own version of what is asked, by each way that leads to it
BORROWED = {
    "by-name": "from vaelib import kl_to_standard_normal",
    "by-module": "import vaelib.kl\nkl_to_standard_normal = vaelib.kl.kl_to_standard_normal",
    "by-task": "kl_to_standard_normal = exercise.kl_to_standard_normal._reference",
    "by-assignment": (
        "from vae_exercises.assignment import Assignment\n"
        "kl_to_standard_normal = exercise._assignment.tasks['kl_to_standard_normal']._reference"
    ),
    "by-exercise's-file": (
        "import runpy, vae_exercises\n"
        "found = runpy.run_path(vae_exercises.__path__[0] + '/kl.py')\n"
        "kl_to_standard_normal = found['kl_to_standard_normal']._reference"
    ),
    "by-file": (
        "import runpy, vaelib\n"
        "found = runpy.run_path(vaelib.__path__[0] + '/kl.py')\n"
        "kl_to_standard_normal = found['kl_to_standard_normal']"
    ),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore::ResourceWarning"),
]


def answered(name: str) -> NotebookNode:
    """The notebook of an assignment with its solutions, and answers in the cells marked by hand."""
    notebook = solved(SOURCES[name])
    for cell in notebook.cells:
        cell.source = cell.source.replace("YOUR ANSWER HERE", "An answer, to be marked by hand.")
    return notebook


def submit(course: Path, student: str, name: str, notebook: NotebookNode) -> None:
    folder = course / "submitted" / student / name
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """The rows of every assignment's report."""
    course = tmp_path_factory.mktemp("course")
    course_apart(course)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("scripts.release", course)
    for name in SOURCES:
        submit(course, "perfect", name, answered(name))
        submit(course, "untouched", name, released(SOURCES[name]))
    for student, code in BORROWED.items():
        notebook = answered("3-kl")
        (cell,) = [cell for cell in notebook.cells if cell.id == "kl-to-standard-normal"]
        cell.source = code
        submit(course, student, "3-kl", notebook)
    for name in SOURCES:
        run("autograder", "grade", name, "--course", course)
    read = Course.at(course)
    return {name: collect(read, name).rows for name in SOURCES}


def row(rows: list[Row], student: str) -> Row:
    (found,) = [row for row in rows if row.student == student]
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_solutions_earn_all_points_and_blanks_none(graded: dict[str, list[Row]], name: str) -> None:
    perfect, untouched = row(graded[name], "perfect"), row(graded[name], "untouched")
    by_hand = sum(check.points for check in perfect.checks if check.manual)
    assert perfect.points - by_hand >= 18
    assert perfect.score == perfect.points - by_hand, json.dumps(
        [(check.cell, check.message) for check in perfect.checks if check.score != check.points]
    )
    assert untouched.score == 0
    for check in untouched.checks:
        if check.line:  # of a test that failed; a text is marked by hand
            assert re.search("not written yet|is not defined", check.message), check
    for found in (perfect, untouched):
        assert found.isolated
        assert not found.reasons
        assert not found.tampering


@pytest.mark.parametrize("student", BORROWED)
def test_the_answer_is_not_to_be_had_by_calling_it(
    graded: dict[str, list[Row]], student: str
) -> None:
    checks = [
        check
        for check in row(graded["3-kl"], student).checks
        if check.cell.startswith("kl-to-standard-normal")
    ]
    assert len(checks) == 4
    for check in checks:
        assert check.score == 0
    said = " ".join(check.message for check in checks)
    assert "cannot be used in a graded run" in said or "is not defined" in said
