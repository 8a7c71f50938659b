"""Cells tagged `skip-grading` in the source: not run, unless something asks for what they bind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_course import cell, graded_cell, named, source_notebook, write_course

from autograder.course import Course
from autograder.execute.run import execute
from autograder.execute.sandbox import problem
from autograder.grade import grade, judged
from autograder.job import Cell, Job, Result
from autograder.modes import told
from autograder.prepare.plan import Plan, read_plans
from autograder.prepare.submission import Rules, prepare
from autograder.steps import plans_file

pytestmark = pytest.mark.skipif(problem() is not None, reason=str(problem()))

PICTURE = "seen = open('seen.txt', 'w').write('run')\nshown = 3\nprint('a picture of', shown)"
OUTPUT = {"output_type": "stream", "name": "stdout", "text": "my own picture\n"}


def source() -> Any:
    notebook = source_notebook()
    demo = cell(PICTURE)
    demo.metadata["tags"] = ["skip-grading"]
    notebook.cells[3:3] = [demo]
    notebook.cells.append(
        graded_cell("import os\nassert not os.path.exists('seen.txt')", "fast", 1)
    )
    return notebook


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course")
    write_course(root, {"means": source()})
    return root


def submitted(root: Path, student: str, **changes: str) -> Path:
    """A right submission, with the outputs of the student's own run in the demonstration."""
    notebook = json.loads((root / "release/ps1/means.ipynb").read_text())
    named(notebook, "mean")["source"] = "def mean(values):\n    return sum(values) / len(values)"
    (demo,) = [c for c in notebook["cells"] if "shown = 3" in "".join(c["source"])]
    demo["outputs"] = [OUTPUT, {"output_type": "display_data", "metadata": {}, "data": {
        "text/html": "<script>steal()</script><b>table</b>", "application/javascript": "steal()"
    }}]  # fmt: skip
    for name, text in changes.items():
        (demo if name == "demo" else named(notebook, name))["source"] = text
    folder = root / "submitted" / student / "ps1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "means.ipynb").write_text(json.dumps(notebook))
    return folder


def shown(course: Course, student: str) -> str:
    """The outputs of the demonstration in the graded notebook."""
    notebook = course.graded_notebooks("ps1", student)["means"]
    (demo,) = [c for c in notebook.cells if "shown" in c.source and "mean(" not in c.source]
    assert "shown" not in demo.metadata
    return json.dumps(demo.outputs)


def test_what_is_tagged_is_not_run_and_shows_the_students_own_outputs_made_safe(
    root: Path,
) -> None:
    submitted(root, "anna")
    course = Course.at(root)
    grade(course, "ps1", progress=False)
    assert sum(s or 0 for s in course.auto_scores("ps1")["anna"].values()) == 2 + 3 + 2 + 1
    assert "my own picture" in shown(course, "anna")
    assert "<iframe sandbox=" in shown(course, "anna")
    assert "<script" not in shown(course, "anna")
    assert "javascript" not in shown(course, "anna")


def test_a_cell_that_the_student_has_changed_is_run(root: Path) -> None:
    submitted(root, "bert", demo="shown = 'no file'\nprint('changed')")
    course = Course.at(root)
    grade(course, "ps1", progress=False)
    assert "changed" in shown(course, "bert")
    assert "my own picture" not in shown(course, "bert")


def test_an_answer_that_needs_a_tagged_cell_is_graded_with_it(root: Path) -> None:
    body = "def mean(values):\n    return sum(values) / len(values) * shown / 3"
    submitted(root, "cleo", mean=body)
    course = Course.at(root)
    grade(course, "ps1", progress=False)
    scores = {name: score for (_, name), score in course.auto_scores("ps1")["cleo"].items()}
    assert (scores["test_mean"], scores["test_hidden"], scores["test_partial"]) == (2, 3, 2)
    assert "a picture of 3" in shown(course, "cleo")


def test_a_course_may_have_everything_run(root: Path) -> None:
    folder = submitted(root, "dora")
    course = Course.at(root)
    course.config.Isolated.run_all = True
    grade(course, "ps1", progress=False, force=True)
    assert folder.exists()
    assert "a picture of 3" in shown(course, "dora")


def test_a_tag_in_a_submission_counts_for_nothing(root: Path) -> None:
    notebook = json.loads((root / "release/ps1/means.ipynb").read_text())
    for some in notebook["cells"]:
        some["metadata"]["tags"] = ["skip-grading"]
    folder = root / "elsewhere"
    folder.mkdir()
    (folder / "means.ipynb").write_text(json.dumps(notebook))
    course = Course.at(root)
    made = prepare(folder, course.sources("ps1"), Rules())
    assert all(one.needed for one in made.jobs["means"].cells)


@pytest.mark.parametrize(
    "demo",
    ["import math as shown", "def shown(): pass", "class shown: pass", "for shown in [1]: pass"],
)
def test_whatever_binds_a_name_counts(demo: str) -> None:
    job = Job((Cell("demo", "student", demo, needed=False), Cell("a", "student", "print(shown)")))
    result = Result.from_bytes(execute(job.to_bytes()))
    assert [done.id for done in result.cells] == ["demo", "a"]
    assert result.cells[1].outputs[0]["output_type"] == "stream"


def test_another_name_that_is_missing_runs_nothing_more() -> None:
    job = Job((Cell("demo", "student", "shown = 1", False), Cell("a", "student", "print(other)")))
    result = Result.from_bytes(execute(job.to_bytes()))
    assert [done.id for done in result.cells] == ["a"]


def test_a_solution_that_needs_a_tagged_cell_is_told(tmp_path: Path) -> None:
    notebook = source()
    notebook.cells.append(graded_cell("assert shown == 3", "shown", 1))
    course = write_course(tmp_path, {"means": notebook})
    lines = [line for line, _ in judged(course, "ps1")]
    assert any(line.startswith("outside") and "shown" in line for line in lines)
    plans = read_plans(plans_file(tmp_path, "ps1"))[1]
    (line,) = told({"means": Plan(needs_all=plans["means"].needs_all)})
    assert "skip-grading" in line
